"""The parts that families share, one role a file, and what a part of one's own is made with.

Importing this package makes every shared kind known. Family files call it `c`.
"""

from ..spec import Around, Bias, Halving, Head, Mixer, Norm, Pool, Position, Strided, Transition, Widening
from ..spec import fewer, module_of
from ..tokens import join_prefix, map_to_tokens, split_prefix, tokens_to_map
from .activations import linear
from .attention import Attention, ClassAttention, CosineAttention, ReducedAttention, RotaryAttention
from .attention import ChannelProduct, ScaledDotProduct, TalkingHeads, head_width, join_heads, split_heads, unit
from .biases import ContinuousPositionBias, DistanceBias, RelativePositionBias, RelativePositionMlp
from .biases import by_pair, resize_offset_table
from .blocks import Block, Branch, residual_block, transformer_block
from .convblocks import ConvNeXt, Excite, MBConv, conv_stem, doubling_stem, inverted_residual
from .convblocks import conv_mlp, excite_part, excited_merge, pooled_shortcut, summaries
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
from .tables import GridTable
from .transitions import Activate, Add, AtLeast, InFront, Join, Normalize, Patchify, PatchMerging, StarRelu, Steps
from .transitions import Subtract
from .windows import Layout, WindowAttention, crop_map, from_windows, pad_map, resize_map, to_windows, whole_windows
