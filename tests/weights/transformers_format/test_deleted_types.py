"""Model types that transformers has deleted, against logits that its last release with them gave.

`deleted_types.json` holds these logits, in double precision. Weights and images follow from formulas, so that neither
needs to be stored.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridvit.registry import model_spec
from hybridvit.weights.transformers_format import MODEL_TYPES, UnsupportedConfigError
from tests.parity import error

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("deleted_types.json").read_text())["models"]


def drawn(key: str, shape: torch.Size) -> Tensor:
    """What the tensor of this name holds: waves whose phase follows from the name, and whose size fits its use."""
    place = torch.arange(math.prod(shape), dtype=torch.float64)
    waves = torch.sin(place * 0.7 + zlib.crc32(key.encode()) % 1000).reshape(shape)
    if key.endswith("running_var"):
        return 1 + 0.5 * waves
    if len(shape) == 1:
        return 1 + 0.3 * waves if key.endswith("weight") else 0.3 * waves
    if "embeddings" in key and len(shape) == 3:
        return 0.3 * waves
    return waves * (16 / math.prod(shape[1:])) ** 0.5


def pictures(height: int, width: int) -> Tensor:
    """Three images of waves across, of different width and height."""
    rows, columns = torch.arange(height, dtype=torch.float64)[:, None], torch.arange(width, dtype=torch.float64)
    across = torch.stack([rows + (2 + channel) * columns for channel in range(3)])
    return torch.stack([(1 + index) * torch.sin(across * 0.05 * (1 + index) ** 2) for index in range(3)])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["class"])
def test_logits_are_those_of_the_last_release(case: dict[str, Any]):
    reader = MODEL_TYPES[case["config"]["model_type"]]
    taught = {"distillation_classifier.weight": torch.Size((5, 48))} if "Teacher" in case["class"] else {}
    spec = reader.spec(case["config"], taught).replace(num_classes=5, img_size=tuple(case["image_size"]))
    model, rules = spec.build().double().eval(), reader.rules(spec)
    names = rules.to_theirs(model.state_dict())
    theirs = {key: drawn(key, tensor.shape) if tensor.is_floating_point() else tensor for key, tensor in names.items()}
    model.load_state_dict(rules.to_ours(theirs))
    with torch.no_grad():
        logits = model(pictures(*case["image_size"]))
    assert error(logits, torch.tensor(case["logits"], dtype=torch.float64)) <= 1e-8


@pytest.mark.parametrize("backbone", [{}, {"global_padding": "SAME"}, {"hidden_sizes": [256, 512, 1024, 2048]}])
def test_vit_hybrid_configs_of_all_versions_are_read(backbone: dict[str, Any]):
    """Newer versions write down what differs from the defaults, older ones everything."""
    written = {"model_type": "bit", "depths": [3, 4, 9], "out_features": ["stage3"]} | backbone
    spec = MODEL_TYPES["vit-hybrid"].spec({"backbone_config": written}, {})
    assert spec.stages[:-1] == model_spec("vit_base_r50_s16_384").stages[:-1]


def test_vit_hybrid_with_another_padding_is_refused():
    with pytest.raises(UnsupportedConfigError, match="global_padding is 'valid'"):
        MODEL_TYPES["vit-hybrid"].spec({"backbone_config": {"global_padding": "VALID"}}, {})
