"""SwiftFormer against timm and transformers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import SwiftFormerConfig, SwiftFormerForImageClassification

from hybridvit.families.swiftformer import FAMILY
from tests.parity import assert_parity, images, load_from, perturb
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

OURS: dict[str, Any] = {"dims": (16, 24, 32, 48), "depths": (2, 1, 2, 1)}


def test_matches_timm() -> None:
    reference, ours = pair(FAMILY, "swiftformer_xs", {"embed_dims": OURS["dims"], "layers": OURS["depths"]}, OURS)
    assert_matches(ours, reference, [(96, 96), (128, 128), (64, 160), (75, 131)])
    assert_every_parameter_matters(ours, (96, 128))


def test_matches_transformers() -> None:
    config = SwiftFormerConfig(
        depths=list(OURS["depths"]), embed_dims=list(OURS["dims"]), id2label={label: str(label) for label in range(11)}
    )
    reference: Any = SwiftFormerForImageClassification(config)
    perturb(reference.eval())
    with torch.no_grad():
        for key, parameter in reference.named_parameters():
            if "layer_scale_1" in key:  # what is behind attention, which is another function there
                parameter.zero_()
    model = FAMILY.build(**OURS).replace(num_classes=11)
    ours = load_from(reference, model, FAMILY.layouts["transformers"](model))
    assert_parity(ours, lambda batch: reference(batch).logits, [(96, 96), (64, 160), (75, 131)])


def test_additive_attention_has_no_map() -> None:
    assert FAMILY.build(**OURS).build().attention_maps(images(64, 64)) == {}
