"""Layouts of image towers in files of larger models, whose other tensors an entry's `prefix` leaves.

open_clip's is that of ViTamin's authors: timm's model, and behind it a projection of open_clip's own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..encoder import Model
from ..families.vitamin import timm_rules
from ..keys import KeyMismatchError, KeyRules, Place, renames, respelled


class _PlainProjection:
    """A projection without a bias, of which ours is 0; one that training has made another cannot be told there."""

    def __init__(self, theirs: str, ours: str) -> None:
        self.name = theirs
        self.theirs, self.ours = (Place(f"{theirs}.weight"),), (Place(f"{ours}.weight"), Place(f"{ours}.bias"))

    def convert(self, tensors: list[Tensor], to_ours: bool) -> list[Tensor]:
        if to_ours:
            return [tensors[0], torch.zeros_like(tensors[0][:, 0])]
        weight, bias = tensors
        if not bias.is_meta and bias.any():
            raise KeyMismatchError(f"{self.name} has no bias there, and that of the model is not 0: it would be lost")
        return [weight]


def vitamin_rules(model: Model) -> KeyRules:
    """A ViTamin in open_clip's layout, below `visual.`."""
    return KeyRules([_PlainProjection("head.proj", "head")], respelled(timm_rules(model), "trunk.{}".format).rules)


def florence_rules(model: Model) -> KeyRules:
    """A DaViT in Florence-2's layout, below `vision_tower.`; it has no norm behind its last stage."""
    names = renames("convs.0", "stages.0.enter", "proj=conv norm")
    names += renames("convs.{s}", "stages.{s}.enter.steps", "norm=0.norm proj=1.conv")
    for first, block, attention in ((0, "window", "mixer.attention"), (4, "channel", "mixer")):
        theirs = f"blocks.{{s}}.{{b}}.{'spatial' if block == 'window' else block}_block"
        parts = f"conv1.fn.dw={first}.mixer.conv {block}_attn.norm={first + 1}.norm "
        parts += f"{block}_attn.fn={first + 1}.{attention} conv2.fn.dw={first + 2}.mixer.conv "
        parts += f"ffn.norm={first + 3}.norm ffn.fn.net={first + 3}.mixer"
        names += renames(theirs, "stages.{s}.blocks.{b}.branches", parts)
    return KeyRules(names)


# The layouts of each family's models, by name.
LAYOUTS: dict[str, dict[str, Callable[[Model], KeyRules]]] = {
    "vitamin": {"open_clip": vitamin_rules},
    "davit": {"florence2": florence_rules},
}


def tower_layouts(family: str) -> dict[str, Callable[[Model], KeyRules]]:
    """The layouts of the models of a family in files of larger models, by name."""
    return LAYOUTS.get(family, {})
