"""LeViT: a convolutional stem, then attention that shrinks the map twice (arXiv 2104.01136).

Every linear layer has a batch norm behind it, and there are no other norms.
"""

from collections.abc import Callable
from typing import Any

from ..components import BatchNorm, Block, Branch, DistanceBias, Linear, MeanPool, NormedHead, doubling_stem
from ..components.narrow import NarrowAttention, ShrinkingAttention
from ..components.transitions import Add, Identity, Steps
from ..encoder import Model, Stage
from ..keys import KeyRules, Rename, Rule
from ..layouts import normed_head_rules, transformers_prefix
from ..spec import Transition
from . import Family, Sizes

PerStage = tuple[int, ...]

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
            enter = Steps(steps=(shrink, Add(shortcut=Identity(), body=mlp(dim))))
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


SHRINK, MLP = "stages.{s}.enter.steps.0", "stages.{s}.enter.steps.1.body.steps"
BLOCK = "stages.{s}.blocks.{b}.branches"


def timm_rules(model: Model, make: Callable[[str, str], Rename] = Rename) -> KeyRules:
    """timm's layout; `make` makes the rule of a linear layer."""
    down, block = "stages.{s}.downsample", "stages.{s}.blocks.{b}"
    layers = {
        f"{down}.attn_downsample.q.ln": f"{SHRINK}.query",
        f"{down}.attn_downsample.kv": f"{SHRINK}.key_value",
        f"{down}.attn_downsample.proj.ln": f"{SHRINK}.proj",
        f"{down}.mlp.ln1": f"{MLP}.0",
        f"{down}.mlp.ln2": f"{MLP}.1",
        f"{block}.attn.qkv": f"{BLOCK}.0.mixer.qkv",
        f"{block}.attn.proj.ln": f"{BLOCK}.0.mixer.proj",
        f"{block}.mlp.ln1": f"{BLOCK}.1.mixer.steps.0",
        f"{block}.mlp.ln2": f"{BLOCK}.1.mixer.steps.1",
    }
    rules: list[Rule] = [
        Rename(f"{down}.attn_downsample.attention_biases", f"{SHRINK}.bias.table"),
        Rename(f"{block}.attn.attention_biases", f"{BLOCK}.0.mixer.bias.table"),
    ]
    for theirs, ours in layers.items():
        rules += [make(f"{theirs}.linear", f"{ours}.linear"), Rename(f"{theirs}.bn", f"{ours}.norm")]
    for step in range(4):
        rules += [
            Rename(f"stem.conv{step + 1}.linear", f"stages.0.enter.steps.{step}.conv"),
            Rename(f"stem.conv{step + 1}.bn", f"stages.0.enter.steps.{step}.norm"),
        ]
    return KeyRules([*rules, *normed_head_rules("head", "head_dist")])


def transformers_rules(model: Model) -> KeyRules:
    """The layout of LevitForImageClassificationWithTeacher, in which MLPs and shrinking attention count as layers."""
    base = transformers_prefix(model, "levit")
    rules: list[Rule] = []

    def add(theirs: str, ours: str) -> None:
        rules.extend([Rename(f"{theirs}.linear", f"{ours}.linear"), Rename(f"{theirs}.batch_norm", f"{ours}.norm")])

    for step in range(4):
        theirs, ours = f"{base}patch_embeddings.embedding_layer_{step + 1}", f"stages.0.enter.steps.{step}"
        rules += [Rename(f"{theirs}.convolution", f"{ours}.conv"), Rename(f"{theirs}.batch_norm", f"{ours}.norm")]
    for s, stage in enumerate(model.stages):
        places = [
            f"stages.{s}.blocks.{b}.branches.{branch}.mixer" for b in range(len(stage.blocks)) for branch in (0, 1)
        ]
        layers = [(f"{layer}.module", place) for layer, place in enumerate(places)]
        if s + 1 < len(model.stages):
            enter = f"stages.{s + 1}.enter.steps"
            layers += [(f"{len(places)}", f"{enter}.0"), (f"{len(places) + 1}.module", f"{enter}.1.body")]
        for layer, ours in layers:
            theirs = f"{base}encoder.stages.{s}.layers.{layer}"
            rules.append(Rename(f"{theirs}.attention_biases", f"{ours}.bias.table"))
            add(f"{theirs}.queries_keys_values", f"{ours}.qkv")
            add(f"{theirs}.keys_values", f"{ours}.key_value")
            add(f"{theirs}.queries", f"{ours}.query")
            add(f"{theirs}.projection", f"{ours}.proj")
            add(f"{theirs}.linear_up", f"{ours}.steps.0")
            add(f"{theirs}.linear_down", f"{ours}.steps.1")
    return KeyRules([*rules, *normed_head_rules("classifier", "classifier_distill", norm="batch_norm")])


LAYOUTS = {"timm": timm_rules, "transformers": transformers_rules}
FAMILY = Family(name="levit", paper="arXiv 2104.01136", build=levit, sizes=model_sizes(), layouts=LAYOUTS)
