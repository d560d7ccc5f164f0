"""How a family of pyramids is compared with timm: perturbed, in double precision, at every feature map."""

from __future__ import annotations

import math
from typing import Any

import timm
import torch

from hybridvit.encoder import Encoder
from hybridvit.families import Family
from hybridvit.registry import spec_from_dict
from tests.parity import assert_power, error, features_and_embedding, images, load_from, perturb
from tests.representatives import divided

CLASSES = 11
# In double precision little is left to rounding, and deep in a pyramid single parameters move little.
TOLERANCE = 1e-6


def pair(
    family: Family,
    name: str,
    theirs: dict[str, Any],
    ours: dict[str, Any],
    img_size: tuple[int, int] | None = None,
    gain: float = 1.0,
    narrower: int = 1,
) -> tuple[Any, Encoder]:
    """timm's model and ours with the same perturbed weights; `theirs` and `ours` are what makes both smaller.

    `img_size` is what both are built for, if timm lets it be chosen; `gain` that of batch norms in `perturb`. By
    `narrower` the widths of ours are divided, with as many heads.
    """
    if img_size:
        theirs = theirs | {"img_size": img_size}
    reference: Any = timm.create_model(name, num_classes=CLASSES, **theirs)
    perturb(reference.eval(), batch_norm_gain=gain)
    model = family.model(name, **ours)
    if narrower > 1:
        model = spec_from_dict(divided(model.to_dict(), narrower, heads=False))
    model = model.replace(num_classes=CLASSES, img_size=img_size or model.img_size)
    return reference.double(), load_from(reference, model, family.layouts["timm"](model)).double()


def assert_matches(ours: Encoder, reference: Any, sizes: list[tuple[int, int]], tolerance: float = TOLERANCE) -> None:
    """Logits, embedding and the feature map of every stride are timm's at every (height, width)."""
    strides = [info["reduction"] for info in reference.feature_info]
    last = {stride: index for index, stride in enumerate(strides)}
    with torch.no_grad():
        for size in sizes:
            batch = images(*size).double()
            final, maps = reference.forward_intermediates(batch)
            features, embedding = features_and_embedding(ours, batch)
            for info, found in zip(ours.feature_info, features, strict=True):
                if info.stride in last:
                    assert (off := error(found, maps[last[info.stride]])) <= tolerance, (size, info, off)
            assert error(embedding, reference.forward_head(final, pre_logits=True)) <= tolerance, size
            assert error(ours.forward_head(embedding), reference.forward_head(final)) <= tolerance, size
        batch = images(*min(sizes, key=math.prod)).double()
        assert error(ours(batch), reference(batch)) <= tolerance


def assert_every_parameter_matters(
    ours: Encoder, size: tuple[int, int], samples: int = 24, tolerance: float = TOLERANCE
) -> None:
    """A nudge of any sampled parameter would have been seen by `assert_matches`."""
    assert_power(ours, size, samples=samples, tolerance=tolerance)
