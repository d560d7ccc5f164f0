"""Exported programs: they compute what the model does, for any batch, without this package, or are not written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.preprocess import Preprocess
from hybridvit.transfer import export as module
from hybridvit.transfer.errors import DataError, ExportError
from hybridvit.transfer.export import FORMS, Exported, Format, export
from hybridvit.zoo_path import zoo_path
from tests.cli.runner import message, output
from tests.parity import perturb
from tests.transfer.samples import tiny
from tests.weights.examples import described

SAMPLES = sorted((zoo_path() / "samples" / "emoji" / "val").rglob("*.png"))[::12]


def colour_model(**changes: Any) -> Encoder:
    """Five labels, and preprocessing that resizes, crops and normalises."""
    return described("cct_2_3x2_32", num_classes=5, img_size=(24, 32), **changes)


def prepared(path: Path, facts: dict[str, Any]) -> np.ndarray:
    """An image as (1, 3, height, width), by what is written beside a program and with Pillow and NumPy alone."""
    how = facts["preprocess"]
    assert how["crop_mode"] == "center"
    (to_height, to_width), (height, width) = how["resize_to"], how["input_size"]
    picture = Image.open(path).convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    scale = max(to_height / picture.height, to_width / picture.width)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    picture = picture.resize(size, Image.Resampling[how["interpolation"].upper()])
    left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
    pixels = np.asarray(picture.crop((left, top, left + width, top + height)), dtype=np.float32) / 255
    normal = (pixels - np.float32(how["mean"])) / np.float32(how["std"])
    return normal.transpose(2, 0, 1)[None]


def test_onnx_runs_without_this_package(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = colour_model()
    written = export(model, tmp_path / "out")
    assert written.difference < 1e-4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.onnx", "preprocess.json"}
    facts = json.loads(written.facts.read_text())
    session = onnxruntime.InferenceSession(written.path)
    images = np.concatenate([prepared(path, facts) for path in SAMPLES])
    assert len(images) > 3
    (logits,) = session.run([facts["output"]["name"]], {facts["input"]["name"]: images})
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    for row, expected in zip(chances, hv.predict(model, SAMPLES, topk=5), strict=True):
        order = np.argsort(-row)
        assert facts["labels"][order[0]] == expected[0].label
        assert [float(row[i]) for i in order] == pytest.approx([each.probability for each in expected], abs=2e-4)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["labels"]) == list(model.labels or ())
    assert json.loads(told["preprocess"]) == facts["preprocess"]


def test_what_is_written_beside_a_program(tmp_path: Path) -> None:
    model = colour_model()
    model.multi_label = True
    written = export(model, tmp_path / "net.pt2", format="torch")
    assert written.facts == tmp_path / "net.preprocess.json"
    facts = json.loads(written.facts.read_text())
    assert facts["input"] == {
        "name": "images", "shape": ["batch", 3, 24, 32], "dtype": "float32", "colours": "RGB",
    }  # fmt: skip
    assert facts["output"] == {"name": "logits", "shape": ["batch", 5], "probabilities": "sigmoid"}
    assert facts["model"] == {"architecture": "cct_2_3x2_32", "finetuned_from": "nothing", "licence": "mit"}
    assert facts["largest_difference"] == written.difference
    assert model.preprocess is not None
    assert Preprocess.from_dict({k: v for k, v in facts["preprocess"].items() if k != "resize_to"}) == model.preprocess
    told = {"labels": ""}
    torch.export.load(written.path, extra_files=told)
    assert json.loads(told["labels"]) == facts["labels"]


@pytest.mark.parametrize(
    ("format", "dynamic"),
    [
        ("torch", True),
        pytest.param("onnx", True, marks=pytest.mark.slow),
        pytest.param("aoti", False, marks=pytest.mark.slow),
        pytest.param("aoti", True, marks=pytest.mark.slow),
    ],
)
def test_any_batch_and_with_dynamic_any_size(format: Format, dynamic: bool, tmp_path: Path) -> None:
    model = tiny().eval()
    perturb(model)
    written = export(model, tmp_path, format=format, dynamic=dynamic, device="cpu")
    run = FORMS[format].load(written.path)
    for batch, size in ((1, (16, 16)), (7, (16, 16)), *([(2, (31, 22))] if dynamic else [])):
        images = torch.randn(batch, 1, *size)
        with torch.no_grad():
            assert torch.allclose(run(images), model(images), atol=1e-3)
    assert (json.loads(written.facts.read_text())["input"]["shape"][2:] == ["height", "width"]) == dynamic


def test_another_size_is_what_the_program_takes_and_the_model_stays_as_it_was(tmp_path: Path) -> None:
    model = tiny().train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    written = export(model, tmp_path, format="torch", img_size=(32, 24))
    facts = json.loads(written.facts.read_text())
    assert facts["input"]["shape"] == ["batch", 1, 32, 24]
    assert facts["preprocess"]["input_size"] == [32, 24]
    assert FORMS["torch"].load(written.path)(torch.randn(3, 1, 32, 24)).shape == (3, 3)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_wrong_program_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(model: Encoder, images: torch.Tensor, path: Path, *_: Any) -> None:
        path.write_text("wrong")

    wrong = FORMS["torch"]._replace(save=save, load=lambda path: lambda images: torch.randn(len(images), 3))
    monkeypatch.setitem(module.FORMS, "torch", wrong)
    (tmp_path / "model.pt2").write_text("earlier")
    with pytest.raises(ExportError, match=r"is not the model: on noise its outputs are off by .* Nothing was written"):
        export(tiny().eval(), tmp_path, format="torch")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    assert (tmp_path / "model.pt2").read_text() == "earlier"


def test_an_exporter_that_fails_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> None:
        raise RuntimeError("no C++ compiler\nand a long trace")

    monkeypatch.setitem(module.FORMS, "aoti", FORMS["aoti"]._replace(save=failing))
    with pytest.raises(ExportError, match=r"exported to aoti: no C\+\+ compiler. Try --format onnx or torch"):
        export(tiny().eval(), tmp_path / "out", format="aoti", device="cpu")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_program_that_does_not_run_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"a batch of {len(images)} and not of 2")

    broken = FORMS["torch"]._replace(save=lambda model, images, path, *_: path.touch(), load=lambda path: run)
    monkeypatch.setitem(module.FORMS, "torch", broken)
    with pytest.raises(ExportError, match=r"exported to torch: a batch of 3 and not of 2. Try --format onnx or aoti"):
        export(tiny().eval(), tmp_path, format="torch")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    model = tiny()
    with pytest.raises(ValueError, match="format is one of onnx, torch, aoti, not 'tflite'"):
        export(model, tmp_path, format="tflite")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"net.onnx does not end in .pt2"):
        export(model, tmp_path / "net.onnx", format="torch")
    with pytest.raises(DataError, match="no classifier"):
        export(model.spec.replace(num_classes=0).build(), tmp_path, format="torch")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file does not end in"):
        export(model, tmp_path / "file", format="torch")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = hv.save_pretrained(tiny().eval(), tmp_path / "saved")
    shown = output("export", saved, "--out", tmp_path / "net.pt2", "--format", "torch", "--img-size", "24")
    assert "largest difference from the model:" in shown
    assert "no directory" in message("export", f"{saved}/none", "--out", tmp_path / "out")
    monkeypatch.setattr(module, "export", lambda *_, **given: Exported(tmp_path / "a", tmp_path / "b", 1e-6))
    assert json.loads(output("export", saved, "--out", tmp_path, "--json")) == {
        "written": str(tmp_path / "a"), "facts": str(tmp_path / "b"), "difference": 1e-6,
    }  # fmt: skip
