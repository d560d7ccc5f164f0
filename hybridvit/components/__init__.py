"""The parts that families share, one role a file. Importing this package makes every shared kind known."""

from .activations import linear
from .attention import Attention, ClassAttention, CosineAttention, ReducedAttention, RotaryAttention, ScaledDotProduct
from .biases import ContinuousPositionBias, DistanceBias, RelativePositionBias, RelativePositionMlp, by_pair
from .blocks import Block, Branch, residual_block, transformer_block
from .convblocks import ConvNeXt, MBConv, conv_stem, doubling_stem, inverted_residual, pooled_shortcut, summaries
from .convs import AvgPool, Conv, MaxPool, NeighbourMean, StdConv
from .functions import DropPrefix, Function, Identity, NoPosition
from .heads import DistilledHead, LinearHead, NormedHead
from .linear_attention import CrossCovarianceAttention, ScaledLinearAttention
from .mixers import BehindPrefix, EfficientChannelAttention, GatedMlp, LayerScale, Linear, Mlp, OnPrefix, SqueezeExcite
from .narrow import NarrowAttention, ShrinkingAttention, WideningAttention
from .norms import BatchNorm, GroupNorm, LayerNorm, RmsNorm
from .pools import AttentionPool, MeanPool, SequencePool, TokenPool
from .positions import FourierPosition, LearnedPosition, SinePosition, WindowedPosition
from .relative import BottleneckAttention, HaloAttention
from .residual import Residual
from .rotary import CentredRotary, IndexRotary, LearnedRotary, Rotary
from .transitions import Activate, Add, AtLeast, InFront, Join, Normalize, Patchify, PatchMerging, Steps
from .windows import Layout, WindowAttention, crop_map, from_windows, pad_map, resize_map, to_windows, whole_windows
