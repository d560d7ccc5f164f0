"""FastViT: filters that train as several convolutions and run as one (arXiv 2303.14189), and attention at the end.

The `_mci` models are the image towers of MobileCLIP (2311.17049) and MobileCLIP 2 (2508.20691).
"""

from .. import components as c
from ..layouts import excite_rules, map_to_vector, normed_renames
from . import Family, KeyRules, Model, PerStage, Rename, Rule, Stage, classifier, conv_to_linear, renames

NORM, HEAD_WIDTH, LAYER_SCALE = c.BatchNorm(), 32, 1e-5


def parallel(conv: c.Conv, small: int = 0, skip: bool = False) -> c.Transition:
    """The sum of a convolution, one with a smaller kernel and a norm: together linear, so one can do (2206.04040)."""
    both = c.Add(shortcut=conv.replace(kernel=small), body=conv) if small else conv
    return c.Add(shortcut=c.Normalize(norm=NORM), body=both) if skip else both


def unit(conv: c.Conv, small: int = 0, skip: bool = False, act: str | None = "gelu", excite: float = 0) -> c.Steps:
    """Parallel convolutions, squeeze-and-excitation through `excite` times the width, and an activation."""
    gate = c.SqueezeExcite(hidden=int(excite * conv.dim)) if excite else c.Identity()
    return c.Steps(steps=(parallel(conv, small, skip), gate, c.Activate(act=act) if act else c.Identity()))


def fastvit(*, dims: PerStage, depths: PerStage, ratio: int = 4, attending: int = 0, clip: int = 0) -> Model:
    """A FastViT of given widths and depths, the last `attending` stages of which attend.

    `clip` is the version of MobileCLIP whose tower it is: then an activation is behind the patches between stages. In
    the first, those before the last two stages are excited. The second's towers, of five stages, have no convolutions
    of 1 x 1 beside those of 3 x 3 in the stem, and layer norms in front of attention.
    """
    conv = c.Conv(dim=dims[0], kernel=3, stride=2, norm=NORM)
    stages: list[Stage] = []
    for index, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
        attends, layer = index >= len(dims) - attending, unit(c.Conv(dim=dim, norm=NORM), skip=True)
        filters = c.Conv(dim=dim, kernel=7, groups=dim, norm=NORM)
        enter = (*(unit(conv.replace(groups=groups), int(clip < 2)) for groups in (1, dim)), layer)
        if index:
            patches = filters.replace(stride=2, groups=dims[index - 1])
            enter = (unit(patches, 3, act="gelu" if clip else None, excite=0.25 * (clip == 1 and index > 1)), layer)
        if attends:
            enter += (c.Add(body=filters.replace(bias=True, norm=None)),)  # tells of places
            norm = c.LayerNorm(eps=1e-5) if clip == 2 else NORM
            mixing = c.Branch(mixer=c.Attention(heads=dim // HEAD_WIDTH, qkv_bias=False), norm=norm)
        else:
            mixer = parallel(filters.replace(kernel=3), 1, skip=True)
            mixing = c.Branch(mixer=c.Subtract(shortcut=c.Normalize(norm=NORM), body=mixer))
        mlp = c.Branch(mixer=c.Steps(steps=(filters, c.Mlp(hidden=ratio * dim))))
        block = c.Block(branches=(mixing.replace(layer_scale=LAYER_SCALE), mlp.replace(layer_scale=LAYER_SCALE)))
        stages.append(Stage(enter=c.Steps(steps=enter), blocks=(block,) * depth))
    last = unit(conv.replace(dim=2 * dims[-1], stride=1, groups=dims[-1]), 1, excite=1 / 16)
    return classifier(stages, c.MeanPool(before=last), 256)


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    assert isinstance(model.pool, c.MeanPool)
    rules: list[Rule] = [Rename("head.fc", "head")]

    def add(theirs: str, ours: str, part: c.Transition, large: str = "conv_kxk.0", small: str = "conv_scale") -> None:
        if isinstance(part, c.Steps):
            rules.extend(excite_rules(f"{theirs}.se", f"{ours}.steps.1"))
            part, ours = part.steps[0], f"{ours}.steps.0"
        if isinstance(part, c.Add) and isinstance(part.shortcut, c.Normalize):
            rules.append(Rename(f"{theirs}.identity", f"{ours}.shortcut.norm"))
            part, ours = part.body, f"{ours}.body"
        parts = f"{small}=shortcut {large}=body" if isinstance(part, c.Add) else f"{large}="
        rules.extend(normed_renames(theirs, ours, parts, "conv"))

    for s, stage in enumerate(model.stages):
        enter, ours, theirs = stage.enter, f"stages.{s}.blocks.{{b}}.branches", f"stages.{s}.blocks.{{b}}"
        assert isinstance(enter, c.Steps)
        for step, part in enumerate(enter.steps[:2] if s else enter.steps):
            place = f"stages.{s}.downsample.proj.{step}" if s else f"stem.{step}"
            names = ("large_conv", "small_conv") if s and not step else ()
            add(place, f"stages.{s}.enter.steps.{step}", part, *names)
        rules.append(Rename(f"stages.{s}.pos_emb.pos_enc", f"stages.{s}.enter.steps.2.body.conv"))
        scales = "layer_scale_1.gamma=0.layer_scale layer_scale_2.gamma=1.layer_scale"
        if isinstance(mixer := stage.blocks[0].branches[0].mixer, c.Subtract):
            scales = "token_mixer.layer_scale.gamma=0.layer_scale layer_scale.gamma=1.layer_scale"
            add(f"{theirs}.token_mixer.mixer", f"{ours}.0.mixer.body", mixer.body)
            rules.append(Rename(f"{theirs}.token_mixer.norm.identity", f"{ours}.0.mixer.shortcut.norm"))
        rules += renames(theirs, ours, scales, map_to_vector)
        add(f"{theirs}.mlp", f"{ours}.1.mixer.steps.0", c.Identity(), "conv")
        rules.append(conv_to_linear(f"{theirs}.mlp", f"{ours}.1.mixer.steps.1"))
        rules += renames(theirs, f"{ours}.0", "norm token_mixer=mixer")
    add("final_conv", "pool.before", model.pool.before)
    return KeyRules(rules)


CLIP = {"clip": 1, "ratio": 3, "attending": 1, "num_classes": 512}
CLIP2 = {"clip": 2, "attending": 2, "num_classes": 768}
SIZES = {
    f"fastvit_{name}": {"dims": tuple(first << s for s in range(len(depths))), "depths": depths} | numbers
    for name, first, depths, numbers in (
        ("t8", 48, (2, 2, 4, 2), {"ratio": 3}),
        ("t12", 64, (2, 2, 6, 2), {"ratio": 3}),
        ("s12", 64, (2, 2, 6, 2), {}),
        ("sa12", 64, (2, 2, 6, 2), {"attending": 1}),
        ("sa24", 64, (4, 4, 12, 4), {"attending": 1}),
        ("sa36", 64, (6, 6, 18, 6), {"attending": 1}),
        ("ma36", 76, (6, 6, 18, 6), {"attending": 1}),
        ("mci0", 64, (2, 6, 10, 2), CLIP),
        ("mci1", 64, (4, 12, 20, 4), CLIP),
        ("mci2", 80, (4, 12, 24, 4), CLIP),
        ("mci3", 96, (2, 12, 24, 4, 2), CLIP2),
        ("mci4", 128, (2, 12, 24, 4, 4), CLIP2),
    )
}
FAMILY = Family("fastvit", "arXiv 2303.14189", fastvit, SIZES, {"timm": timm_rules})
