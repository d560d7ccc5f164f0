"""LeViT: a convolutional stem, then attention that shrinks the map twice (arXiv 2104.01136).

Every linear layer has a batch norm behind it, and there are no other norms.
"""

from collections.abc import Callable
from typing import Any

from ..components import BatchNorm, Block, Branch, DistanceBias, Linear, MeanPool, NormedHead, doubling_stem
from ..components.narrow import NarrowAttention, ShrinkingAttention
from ..components.transitions import Add, Steps
from ..layouts import normed_head_rules, normed_rules
from . import Family, KeyRules, Model, PerStage, Rename, Rule, Sizes, Stage, Transition, renames

NORM, AT_0 = BatchNorm(), BatchNorm(zero_init=True)


def levit(
    *,
    dims: PerStage,
    heads: PerStage,
    depths: PerStage = (4, 4, 4),
    key_dim: int = 32,
    act: str = "silu",
    stride: int = 16,
    distilled: bool = False,
) -> Model:
    """A LeViT of given widths, heads and depths behind a stem of a given stride."""

    def mlp(dim: int) -> Steps:
        first = Linear(dim=2 * dim, bias=False, norm=NORM, act=act)
        return Steps(steps=(first, Linear(dim=dim, bias=False, norm=AT_0)))

    def stage(index: int, dim: int) -> Stage:
        attention = NarrowAttention(
            heads=heads[index], key_dim=key_dim, value_dim=2 * key_dim, bias=DistanceBias(), norm=NORM, act=act
        )
        enter: Transition = doubling_stem(dim, stride, NORM, act)
        if index:
            count = dims[index - 1] // key_dim
            shrink = ShrinkingAttention(
                dim=dim, heads=count, key_dim=key_dim, value_dim=4 * key_dim, act=act, norm=NORM
            )
            enter = Steps(steps=(shrink, Add(body=mlp(dim))))
        block = Block(branches=(Branch(mixer=attention), Branch(mixer=mlp(dim))))
        return Stage(enter=enter, blocks=(block,) * depths[index])

    stages = tuple(stage(index, dim) for index, dim in enumerate(dims))
    return Model(stages=stages, pool=MeanPool(), head=NormedHead(norm=NORM, count=1 + distilled))


def model_sizes(kind: str = "levit") -> Sizes:
    """The size table, under names that start with `kind`."""
    released = {"act": "hard_swish", "distilled": True}
    small: dict[str, Any] = {"dims": (128, 256, 384), "key_dim": 16} | released
    large: dict[str, Any] = {"dims": (384, 512, 768), "heads": (6, 9, 12)}
    numbers: Sizes = {
        "128s": small | {"heads": (4, 6, 8), "depths": (2, 3, 4)},
        "128": small | {"heads": (4, 8, 12)},
        "192": {"dims": (192, 288, 384), "heads": (3, 5, 6)} | released,
        "256": {"dims": (256, 384, 512), "heads": (4, 6, 8)} | released,
        "384": large | released,
        "384_s8": large | {"stride": 8, "distilled": True},
        "512_s8": {"dims": (512, 640, 896), "heads": (8, 10, 14), "key_dim": 64, "stride": 8},
        "512": {"dims": (512, 768, 1024), "heads": (8, 12, 16), "key_dim": 64},
        "256d": {"dims": (256, 384, 512), "heads": (4, 6, 8), "depths": (4, 8, 6)},
        "512d": {"dims": (512, 640, 768), "heads": (8, 10, 12), "key_dim": 64, "depths": (4, 8, 6)},
    }
    return {f"{kind}_{name}": of for name, of in numbers.items()}


def timm_rules(model: Model, make: Callable[[str, str], Rename] = Rename) -> KeyRules:
    """timm's layout; `make` makes the rule of a linear layer."""
    down, block = "stages.{s}.downsample", "stages.{s}.blocks.{b}"
    shrink, widen, ours = "stages.{s}.enter.steps.0", "stages.{s}.enter.steps.1.body.steps", f"{block}.branches"
    rules: list[Rule] = [
        Rename(f"{down}.attn_downsample.attention_biases", f"{shrink}.bias.table"),
        Rename(f"{block}.attn.attention_biases", f"{ours}.0.mixer.bias.table"),
        *normed_rules({f"stem.conv{step + 1}": f"stages.0.enter.steps.{step}" for step in range(4)}, "linear"),
    ]
    parts = {
        (f"{down}.attn_downsample", shrink): "q.ln=query kv=key_value proj.ln=proj",
        (f"{down}.mlp", widen): "ln1=0 ln2=1",
        (f"{block}.attn", f"{ours}.0.mixer"): "qkv proj.ln=proj",
        (f"{block}.mlp", f"{ours}.1.mixer.steps"): "ln1=0 ln2=1",
    }
    for (theirs, place), layers in parts.items():
        rules += renames(theirs, place, layers, lambda their, our: make(f"{their}.linear", f"{our}.linear"))
        rules += renames(theirs, place, layers, lambda their, our: Rename(f"{their}.bn", f"{our}.norm"))
    return KeyRules(rules, normed_head_rules("head", "head_dist"))


FAMILY = Family("levit", "arXiv 2104.01136", levit, model_sizes(), {"timm": timm_rules})
