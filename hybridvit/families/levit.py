"""LeViT: a convolutional stem, then attention that shrinks the map twice (arXiv 2104.01136).

Every linear layer has a batch norm behind it, and there are no other norms.
"""

from functools import partial

from .. import components as c
from ..layouts import MakeRule, normed_head_rules, normed_renames
from . import Family, KeyRules, Model, Numbers, PerStage, Rename, Sizes, Stage, classifier, renames

NORM, AT_0 = c.BatchNorm(), c.BatchNorm(zero_init=True)


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
    like: Numbers = {"key_dim": key_dim, "act": act, "norm": NORM}

    def mlp(dim: int) -> c.Steps:
        first = c.Linear(dim=2 * dim, bias=False, norm=NORM, act=act)
        return c.Steps(steps=(first, c.Linear(dim=dim, bias=False, norm=AT_0)))

    def stage(index: int, dim: int) -> Stage:
        enter: c.Transition = c.doubling_stem(dim, stride, NORM, act)
        if index:
            count = dims[index - 1] // key_dim
            shrink = c.ShrinkingAttention(dim=dim, heads=count, value_dim=4 * key_dim, **like)
            enter = c.Steps(steps=(shrink, c.Add(body=mlp(dim))))
        attention = c.NarrowAttention(heads=heads[index], value_dim=2 * key_dim, bias=c.DistanceBias(), **like)
        return Stage(enter=enter, blocks=(c.residual_block(attention, mlp(dim)),) * depths[index])

    stages = (stage(index, dim) for index, dim in enumerate(dims))
    return classifier(stages, c.MeanPool(), head=c.NormedHead(norm=NORM, count=1 + distilled))


def model_sizes(kind: str = "levit") -> Sizes:
    """The size table, under names that start with `kind`."""
    released = {"act": "hard_swish", "distilled": True}
    small: Numbers = {"dims": (128, 256, 384), "key_dim": 16} | released
    large: Numbers = {"dims": (384, 512, 768), "heads": (6, 9, 12)}
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


def timm_rules(model: Model, make: MakeRule = Rename) -> KeyRules:
    """timm's layout; `make` makes the rule of a linear layer."""
    down, block = "stages.{s}.downsample", "stages.{s}.blocks.{b}"
    shrink, widen, ours = "stages.{s}.enter.steps.0", "stages.{s}.enter.steps.1.body.steps", f"{block}.branches"
    rules = renames(f"{down}.attn_downsample", shrink, "attention_biases=bias.table")
    rules += renames(f"{block}.attn", f"{ours}.0.mixer", "attention_biases=bias.table")
    rules += normed_renames("stem", "stages.0.enter.steps", "conv1=0 conv2=1 conv3=2 conv4=3", "linear")
    linears = partial(normed_renames, conv="linear", linear=make)
    rules += linears(f"{down}.attn_downsample", shrink, "q.ln=query kv=key_value proj.ln=proj")
    rules += linears(f"{down}.mlp", widen, "ln1=0 ln2=1")
    rules += linears(f"{block}.attn", f"{ours}.0.mixer", "qkv proj.ln=proj")
    rules += linears(f"{block}.mlp", f"{ours}.1.mixer.steps", "ln1=0 ln2=1")
    return KeyRules(rules, normed_head_rules("head", "head_dist"))


FAMILY = Family("levit", "arXiv 2104.01136", levit, model_sizes(), {"timm": timm_rules})
