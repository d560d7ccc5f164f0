"""Entries from torchvision's registry: all weights, its preprocessing, its figures, its licences."""

from __future__ import annotations

import json

import pytest
import torch
from torchvision.models import get_model_weights, list_models
from torchvision.transforms.functional import to_pil_image

from hybridvit.registry import index
from hybridvit.transfer.transforms import transforms
from hybridvit.weights.entries import entries, find_entry
from hybridvit.weights.from_torchvision import MODELS, torchvision_entries
from hybridvit.weights.writing import read
from hybridvit.zoo_path import zoo_path

AGAIN = "run `python -m hybridvit.weights.from_torchvision`"


def test_entries_are_what_torchvision_says_now() -> None:
    expected = torchvision_entries()
    files = {index()[name.partition(".")[0]].family for name in expected}
    written = {name: entry for file in files for name, entry in read(zoo_path() / f"{file}.toml").items()}
    for name, entry in expected.items():
        plain = {key: value for key, value in entry.items() if value != {}}
        assert written[name] == json.loads(json.dumps(plain)), AGAIN
    assert {entry.name for entry in entries().values() if entry.layout == "torchvision"} == expected.keys()


def test_all_its_transformers_are_there() -> None:
    module = [name for name in list_models() if name.startswith(("vit_", "swin", "maxvit"))]
    assert set(module) - {"swin3d_t", "swin3d_s", "swin3d_b"} == MODELS.keys()
    assert len(torchvision_entries()) == sum(len(get_model_weights(name)) for name in MODELS)


@pytest.mark.parametrize(
    ("name", "resized", "interpolation", "licence", "top1"),
    [
        ("vit_base_patch16_224.tv_in1k", 256, "bilinear", "bsd-3-clause", 81.072),
        ("vit_large_patch16_224.tv_in1k", 242, "bilinear", "bsd-3-clause", 79.662),
        ("vit_huge_patch14_224.tv_swag_e2e_in1k", 518, "bicubic", "cc-by-nc-4.0", 88.552),
        ("swin_base_patch4_window7_224.tv_in1k", 238, "bicubic", "bsd-3-clause", 83.582),
    ],
)
def test_what_an_entry_says(name: str, resized: int, interpolation: str, licence: str, top1: float) -> None:
    entry = find_entry(name)
    assert entry.preprocess.resize_to == (resized, resized)
    assert (entry.preprocess.interpolation, entry.licence) == (interpolation, licence)
    assert entry.reported is not None
    assert (entry.reported["top1"], entry.reported["source"]) == (top1, "torchvision-weights")
    assert len(entry.sha256) == 8
    assert entry.sha256 in entry.source


@pytest.mark.parametrize("name", ["vit_l_16", "swin_b", "maxvit_t"])
def test_an_image_is_prepared_as_torchvision_does(name: str) -> None:
    theirs = next(iter(get_model_weights(name)))
    (entry,) = [entry for entry in entries().values() if entry.source == f"url:{theirs.url}"]
    image = to_pil_image(torch.rand(3, 300, 420))
    ours = transforms(entry.preprocess)(image)
    assert torch.allclose(ours, theirs.transforms()(image), atol=0.02)
