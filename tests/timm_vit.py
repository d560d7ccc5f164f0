"""How a family of ViTs is compared with timm: a few blocks deep, perturbed, at sizes that its patches divide or not."""

from __future__ import annotations

from typing import Any

import timm
import torch

from hybridvit.components.transitions import Normalize
from hybridvit.encoder import Encoder
from hybridvit.families import Family
from tests.parity import TOLERANCE, assert_power, error, features_and_embedding, images, load_from, perturb

# Any size in the forward pass; a border that fills no patch is padded.
ANY_SIZE: dict[str, Any] = {"dynamic_img_size": True, "dynamic_img_pad": True}
CLASSES = 11


def built_size(family: Family, name: str) -> int:
    """A small square that the model's patches divide."""
    patch = family.sizes[name].get("patch", 16)
    return max(4 * patch, 96 // patch * patch)


def sizes(built: int, patch: int) -> list[tuple[int, int]]:
    """The built size, a larger square, one that is not square, and one that patches do not divide."""
    return [(built, built), (built + 2 * patch, built + 2 * patch), (built - patch, built + 3 * patch), (75, 131)]


def pair(
    family: Family, name: str, depth: int = 2, temper: tuple[str, ...] = (), **changes: Any
) -> tuple[Any, Encoder]:
    """timm's model and ours with the same perturbed weights, `depth` blocks deep; `changes` are timm's arguments.

    `temper` are parts of the names of parameters that a perturbation must not make as large as it makes others.
    """
    size = built_size(family, name)
    changes = {"img_size": (size, size)} | ANY_SIZE | changes
    reference: Any = timm.create_model(name, depth=depth, num_classes=CLASSES, **changes)
    perturb(reference.eval())
    with torch.no_grad():
        for key, parameter in reference.named_parameters():
            if any(part in key for part in temper):
                parameter.mul_(0.15)
    model = family.model(name)
    stage = model.stages[0]
    before = int(stage.blocks[0].branches[0].mixer.kind == Normalize.kind)
    stage = stage.replace(blocks=stage.blocks[: before + depth])
    model = model.replace(stages=(stage,), img_size=changes["img_size"], num_classes=CLASSES)
    return reference, load_from(reference, model, family.layouts["timm"](model))


def assert_matches(ours: Encoder, reference: Any, at: list[tuple[int, int]]) -> None:
    """Logits, embedding and the last feature map are timm's at every (height, width)."""
    with torch.no_grad():
        for size in at:
            batch = images(*size)
            last, maps = reference.forward_intermediates(batch, indices=1)
            features, embedding = features_and_embedding(ours, batch)
            assert error(features[0], maps[0]) <= TOLERANCE, size
            assert error(embedding, reference.forward_head(last, pre_logits=True)) <= TOLERANCE, size
            assert error(ours.forward_head(embedding), reference.forward_head(last)) <= TOLERANCE, size
        assert error(ours(images(*at[0])), reference(images(*at[0]))) <= TOLERANCE


def assert_parity_and_power(
    family: Family, name: str, depth: int = 2, temper: tuple[str, ...] = (), **changes: Any
) -> None:
    """A model matches timm's at all `sizes`, and a nudge of any parameter would have been seen."""
    reference, ours = pair(family, name, depth, temper, **changes)
    size = built_size(family, name)
    assert_matches(ours, reference, sizes(size, family.sizes[name].get("patch", 16)))
    assert_power(ours, (size, size))
