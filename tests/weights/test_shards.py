"""Checkpoints in several files: read as one is, and nothing but what their index may name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import hybridvit as hv
from hybridvit.weights.resolve import Place, Recorded
from hybridvit.weights.sources import LocalFiles, WeightsNotFoundError
from hybridvit.weights.store import WeightsError
from tests.parity import images
from tests.weights.examples import facts, logits, tiny

NAME, INDEX = "model.safetensors", "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model of ours in two files."""
    hv.save_pretrained(tiny(), tmp_path)
    (tmp_path / NAME).unlink()
    tensors = {key: tensor.contiguous() for key, tensor in tiny().state_dict().items()}
    keys = sorted(tensors)
    files = {FIRST: keys[: len(keys) // 2], SECOND: keys[len(keys) // 2 :]}
    for file, held in files.items():
        save_file({key: tensors[key] for key in held}, tmp_path / file, metadata={"format": "pt"})
    write_index(tmp_path, {key: file for file, held in files.items() for key in held})
    return tmp_path


def write_index(directory: Path, weight_map: Any) -> None:
    (directory / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def read_index(directory: Path) -> dict[str, str]:
    return json.loads((directory / INDEX).read_text())["weight_map"]


def test_several_files_are_one_checkpoint(directory: Path) -> None:
    model = hv.create_model(f"local-dir:{directory}")
    assert facts(model) == facts(tiny())
    assert torch.equal(logits(model, images(24, 32)), logits(tiny(), images(24, 32)))


def test_one_file_comes_first(directory: Path) -> None:
    hv.save_pretrained(tiny(seed=1), directory)
    model = hv.create_model(f"local-dir:{directory}")
    assert torch.equal(logits(model, images(24, 32)), logits(tiny(seed=1), images(24, 32)))


def test_no_index_no_shards(directory: Path) -> None:
    (directory / INDEX).unlink()
    with pytest.raises(WeightsNotFoundError, match=r"has neither model\.safetensors nor pytorch_model\.bin"):
        hv.create_model(f"local-dir:{directory}")


def test_pickles_in_several_files_need_to_be_allowed(directory: Path) -> None:
    tensors = tiny().state_dict()
    (directory / INDEX).unlink()
    torch.save(tensors, directory / "pytorch_model-1.bin")
    index = {"weight_map": dict.fromkeys(tensors, "pytorch_model-1.bin")}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=r"pytorch_model-1\.bin is a pickle"):
        hv.create_model(f"local-dir:{directory}")
    model = hv.create_model(f"local-dir:{directory}", allow_pickle=True)
    assert torch.equal(logits(model, images(24, 32)), logits(tiny(), images(24, 32)))


def test_a_file_is_missing(directory: Path) -> None:
    (directory / SECOND).unlink()
    with pytest.raises(WeightsNotFoundError, match=f"has no {SECOND}, which its {INDEX} lists; get it again"):
        hv.create_model(f"local-dir:{directory}")


@pytest.mark.parametrize("change", ["one is not listed", "one is listed elsewhere"])
def test_files_that_do_not_hold_what_is_listed(change: str, directory: Path) -> None:
    listed = read_index(directory)
    key = min(listed)
    if change == "one is not listed":
        del listed[key]
    else:
        listed[key] = SECOND
    write_index(directory, listed)
    with pytest.raises(WeightsError, match=f"{FIRST} does not hold what its {INDEX} lists.* 1 tensors, such as {key}"):
        hv.create_model(f"local-dir:{directory}")


@pytest.mark.parametrize(
    "file",
    ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", ".x.safetensors", "a\\b", 7, None, "x.bin"],
)
def test_an_index_names_files_beside_it(file: Any, directory: Path) -> None:
    write_index(directory, read_index(directory) | {"x": file})
    with pytest.raises(WeightsError, match="for x, expected a"):
        hv.create_model(f"local-dir:{directory}")


@pytest.mark.parametrize("weight_map", [None, {}, ["a"], "a"])
def test_an_index_without_a_map(weight_map: Any, directory: Path) -> None:
    write_index(directory, weight_map)
    with pytest.raises(WeightsError, match=f"its {INDEX} has no 'weight_map'"):
        hv.create_model(f"local-dir:{directory}")


def test_a_prefix_is_of_the_names_in_all_files(tmp_path: Path) -> None:
    held = {"a.safetensors": {"tower.x": torch.ones(1)}, "b.safetensors": {"text.y": torch.ones(2)}}
    for name, tensors in held.items():
        save_file(tensors, tmp_path / name)
    listed = {key: name for name, tensors in held.items() for key in tensors}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    files = Recorded(Place("it", "local-dir:it", LocalFiles(tmp_path)))
    assert (files.tensors(False, prefix="tower.") or {}).keys() == {"x"}
    assert (files.tensors(False) or {}).keys() == {"tower.x", "text.y"}
    with pytest.raises(WeightsError, match=r"has no tensor whose name begins with 'image.'"):
        files.tensors(False, prefix="image.")
