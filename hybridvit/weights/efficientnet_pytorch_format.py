"""The layout of the efficientnet_pytorch package."""

from __future__ import annotations

from collections.abc import Callable

from ..encoder import Model
from ..keys import KeyRules, renames


def efficientnet_pytorch_rules(model: Model) -> KeyRules:
    """An EfficientNet; blocks of all stages are numbered through."""
    rules = renames("", "stages.0.enter.steps.0", "_conv_stem=conv _bn0=norm")
    rules += renames("", "", "_conv_head=pool.before.conv _bn1=pool.before.norm _fc=head")
    places: list[str] = []
    for s, stage in enumerate(model.stages):
        places += [f"stages.{s}.enter", *(f"stages.{s}.blocks.{b}.branches.0.mixer" for b in range(len(stage.blocks)))]
    steps = "_expand_conv=0.conv _bn0=0.norm _depthwise_conv=1.conv _bn1=1.norm _project_conv=2.conv _bn2=2.norm"
    for index, place in enumerate(places):
        rules += renames(f"_blocks.{index}", f"{place}.steps", steps)
    return KeyRules(rules)


def efficientnet_pytorch_layouts(family: str) -> dict[str, Callable[[Model], KeyRules]]:
    """The layout of the models of a family, by name, if the package has them."""
    return {"efficientnet_pytorch": efficientnet_pytorch_rules} if family == "efficientnet_lite" else {}
