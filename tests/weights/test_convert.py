"""From any layout to any other and back, with equal bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import hybridvit as hv
from hybridvit.keys import KeyMismatchError
from hybridvit.registry import family_of, model_spec
from hybridvit.resolved import sha256_of
from hybridvit.weights.errors import WeightsError
from hybridvit.weights.layouts import layouts_of
from hybridvit.weights.sources import WeightsNotFoundError
from tests.parity import TOLERANCE, error, images, perturb
from tests.weights.examples import LABELS, TINY, described, facts, logits, tiny

FAMILIES = {
    "cct_2_3x2_32": ("original",),
    "vit_tiny_patch16_224": ("timm", "transformers", "transformers-v5", "torchvision"),
    "swinv2_tiny_window8_256": ("timm", "transformers", "torchvision"),
    "levit_128s": ("timm", "transformers"),
    "mobilevit_xxs": ("timm", "transformers"),
}
QUICK = ("cct_2_3x2_32", "vit_tiny_patch16_224")
CASES = [
    pytest.param(architecture, layout, marks=() if architecture in QUICK else pytest.mark.slow)
    for architecture, layouts in FAMILIES.items()
    for layout in layouts
]


@pytest.mark.parametrize(("architecture", "layout"), CASES)
def test_every_layout_to_ours_and_back(architecture: str, layout: str, tmp_path: Path) -> None:
    """From files of the layout; what torchvision sets to 0 whenever it runs is 0."""
    assert layout in layouts_of(family_of(architecture))
    spec = model_spec(architecture).replace(num_classes=3)
    model = described(architecture, num_classes=3)
    theirs = layouts_of(family_of(architecture))[layout](spec).to_theirs(model.state_dict())
    first, ours, back = (tmp_path / f"{name}.safetensors" for name in ("first", "ours", "back"))
    save_file({key: tensor.contiguous() for key, tensor in theirs.items()}, first)
    read = hv.convert(first, ours, model=architecture)
    assert read.layout == layout
    state = model.state_dict()
    converted = load_file(ours)
    assert converted.keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in converted.items())
    assert hv.convert(ours, back, model=architecture, to=layout).layout == "hybridvit"
    again = load_file(back)
    assert again.keys() == theirs.keys()
    for key, tensor in again.items():
        assert tensor.dtype == theirs[key].dtype
        assert torch.equal(tensor, theirs[key]), key
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in (back, first, ours)]


def test_every_layout_of_these_families_is_tested() -> None:
    for architecture, layouts in FAMILIES.items():
        assert set(layouts) == set(layouts_of(family_of(architecture))), architecture


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "levit_128s"])
def test_timms_weights_to_ours_and_back_answer_as_before_in_timm(name: str, tmp_path: Path) -> None:
    theirs, batch = timm.create_model(name, num_classes=4).eval(), images(224, 224)[:2]
    perturb(theirs)
    save_file(theirs.state_dict(), tmp_path / "timm.safetensors")
    hv.convert(tmp_path / "timm.safetensors", tmp_path / "ours.safetensors")
    hv.convert(tmp_path / "ours.safetensors", tmp_path / "back.safetensors", to="timm")
    again = timm.create_model(name, num_classes=4).eval()
    again.load_state_dict(load_file(tmp_path / "back.safetensors"))
    assert torch.equal(logits(again, batch), logits(theirs, batch))
    ours = hv.create_model(str(tmp_path / "ours.safetensors")).double()
    batch = batch.double()
    assert error(logits(ours, batch), logits(theirs.double(), batch)) < TOLERANCE


@pytest.mark.parametrize("layout", [None, "hybridvit", "timm", "transformers"])
def test_a_directory_keeps_all_facts_in_every_layout(layout: str | None, tmp_path: Path) -> None:
    model = described("vit_tiny_patch16_224", num_classes=5, img_size=32)
    source = hv.save_pretrained(model, tmp_path / "source")
    hv.convert(source, tmp_path / "target", to=layout)
    loaded = hv.create_model(f"local-dir:{tmp_path / 'target'}")
    assert facts(loaded) == facts(model)
    assert loaded.resolved is not None
    assert loaded.resolved.layout == (layout or "timm")
    assert torch.equal(logits(loaded, images(32, 32)), logits(model, images(32, 32)))
    hv.convert(tmp_path / "target", tmp_path / "back")
    for path in source.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()


def test_a_source_may_be_its_target(tmp_path: Path) -> None:
    model = tiny()
    file = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), file)
    with pytest.raises(ValueError, match="fits no architecture as it is"):  # tables of another size
        hv.convert(file, file, to="original")
    directory = hv.save_pretrained(model, tmp_path / "saved")
    for layout in ("original", "hybridvit"):
        before = sha256_of(directory / "model.safetensors")
        read = hv.convert(directory, directory, to=layout)
        assert read.to_dict()["files"]["model.safetensors"]["sha256"] == before
        assert hv.create_model(f"local-dir:{directory}").labels == LABELS
        assert torch.equal(
            logits(hv.create_model(f"local-dir:{directory}"), images(24, 32)), logits(model, images(24, 32))
        )


def test_a_layout_that_the_family_has_not(tmp_path: Path) -> None:
    source = hv.save_pretrained(tiny(), tmp_path / "saved")
    for target in ("target", "target.safetensors"):
        with pytest.raises(ValueError, match=f"{TINY} has no layout 'timm'.* It has: hybridvit, original"):
            hv.convert(source, tmp_path / target, to="timm")
        assert not (tmp_path / target).exists()


def test_a_model_that_a_layout_has_no_names_for(tmp_path: Path) -> None:
    """Layer scales in transformers' `vit`."""
    source = tmp_path / "source.safetensors"
    save_file(hv.create_model("vit_base_patch16_plus_240", num_classes=2).state_dict(), source)
    with pytest.raises(ValueError, match="the layout transformers has no names for what vit_base_patch16_plus_240 has"):
        hv.convert(source, tmp_path / "target.safetensors", to="transformers")


def test_pickles_are_read_if_they_are_allowed_and_never_written(tmp_path: Path) -> None:
    torch.save(tiny().state_dict(), tmp_path / "old.pth")
    with pytest.raises(ValueError, match=r"old\.pth is a pickle"):
        hv.convert(tmp_path / "old.pth", tmp_path / "new.safetensors", model=TINY)
    with pytest.raises(ValueError, match=r"new\.pth would be a pickle.*name a \.safetensors file"):
        hv.convert(tmp_path / "old.pth", tmp_path / "new.pth", model=TINY, allow_pickle=True)
    with pytest.raises(WeightsNotFoundError, match="no weight file"):
        hv.convert(tmp_path / "none.safetensors", tmp_path / "new.safetensors")
    torch.save(described(TINY).state_dict(), tmp_path / "old.pth")
    hv.convert(tmp_path / "old.pth", tmp_path / "new.safetensors", allow_pickle=True)
    assert load_file(tmp_path / "new.safetensors").keys() == tiny().state_dict().keys()


def test_a_full_disk_leaves_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = hv.save_pretrained(tiny(), tmp_path / "saved")
    target = tmp_path / "target.safetensors"
    target.write_bytes(b"before")

    def full(*_: object, **__: object) -> None:
        from safetensors import SafetensorError

        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("hybridvit.weights.store.save_file", full)
    with pytest.raises(OSError, match=rf"{target} could not be written .*No space left.*earlier files are intact"):
        hv.convert(source, target)
    assert target.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved", "target.safetensors"]


def test_a_directory_that_is_called_like_a_file_is_no_target(tmp_path: Path) -> None:
    target = tmp_path / "target.safetensors"
    target.mkdir()
    with pytest.raises(IsADirectoryError, match=rf"{target} is a directory; name a file"):
        hv.convert(tmp_path / "not read", target)
    assert list(target.iterdir()) == []


def test_what_a_killed_convert_left_is_gone_with_the_next(tmp_path: Path) -> None:
    source = hv.save_pretrained(tiny(), tmp_path / "saved")
    target = tmp_path / "target.safetensors"
    program = "import os, hybridvit as hv; from hybridvit.weights import convert;"
    program += "convert.write_tensors = lambda tensors, path, meant: [path.touch(), os.kill(os.getpid(), 9)];"
    program += f"hv.convert({str(source)!r}, {str(target)!r})"
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    assert not target.exists()
    hv.convert(source, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved", "target.safetensors"]


def test_what_has_no_place_in_the_model_is_told(tmp_path: Path) -> None:
    """Learned weights; not what follows from the architecture, such as Swin's indices and masks."""
    source, target = tmp_path / "source.safetensors", tmp_path / "target.safetensors"
    model = described("vit_tiny_patch16_224", num_classes=0)
    rules = layouts_of(family_of("vit_tiny_patch16_224"))["transformers"](model.spec)
    theirs = {key: tensor.contiguous() for key, tensor in rules.to_theirs(model.state_dict()).items()}
    save_file(theirs | {"pooler.dense.weight": torch.zeros(192, 192), "pooler.dense.bias": torch.zeros(192)}, source)
    read = hv.convert(source, target, to="transformers")
    (change,) = read.changes
    assert change in (
        "left out: pooler.dense.bias, pooler.dense.weight",
        "left out: pooler.dense.weight, pooler.dense.bias",
    )
    assert load_file(target).keys() == theirs.keys()
    assert hv.create_model("vit_tiny_patch16_224", file=source).resolved.changes == read.changes  # pyright: ignore
    assert hv.create_model(str(source), num_classes=3).resolved.changes[0] == change  # pyright: ignore


@pytest.mark.parametrize("architecture", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_constants_are_not_told(architecture: str) -> None:
    rules = layouts_of(family_of(architecture))["timm"](model_spec(architecture))
    names = ("attn_mask", "attn.relative_position_index", "attn.relative_coords_table")
    old = {f"layers.0.blocks.1.{name}": torch.zeros(1) for name in names[: 2 + ("v2" in architecture)]}
    assert rules.to_ours(old) == {}
    assert rules.learned_and_dropped(old) == []


def test_what_is_written_beside_a_saved_model_loads(tmp_path: Path) -> None:
    """The config there is of the other file, and in other names."""
    model = described("levit_128s", num_classes=5)
    directory, batch = hv.save_pretrained(model, tmp_path / "saved"), images(224, 224)
    own = directory / "own.safetensors"
    hv.convert(directory, own)
    lock = tmp_path / "weights.lock"
    for write in (None, "{", "[1]"):
        if write:
            (directory / "config.json").write_text(write)
        hv.lock(own, lock)
        loaded = hv.create_model(str(own), lock=lock)
        assert torch.equal(logits(loaded, batch), logits(model, batch))
        assert loaded.resolved is not None
        assert loaded.resolved.layout == "hybridvit"
    with pytest.raises(WeightsError, match=r"config.json"):  # which is that of this one
        hv.create_model(str(directory / "model.safetensors"))


def test_a_file_that_fits_neither_its_config_nor_a_model(tmp_path: Path) -> None:
    directory = hv.save_pretrained(described("levit_128s", num_classes=5), tmp_path / "saved")
    tensors = load_file(directory / "model.safetensors")
    save_file({f"x.{key}": tensor for key, tensor in tensors.items()}, directory / "other.safetensors")
    with pytest.raises(KeyMismatchError, match=r"other.safetensors does not fit the model"):
        hv.create_model(str(directory / "other.safetensors"))
