"""Temperature scaling: found, folded into the classifier, saved once."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import hybridvit as hv
from hybridvit.registry import model_spec
from hybridvit.transfer.calibration import calibrate, divide_logits, fitted_temperature
from hybridvit.transfer.data import Data
from hybridvit.transfer.metrics import score
from hybridvit.transfer.run import finetune
from tests.transfer.samples import FAST, tiny, trainer_of, write_idx


def test_logits_that_are_three_times_too_large() -> None:
    logits = torch.randn(4000, 5)
    labels = torch.distributions.Categorical(logits=logits).sample()
    temperature = fitted_temperature(3 * logits, labels)
    assert temperature == pytest.approx(3, rel=0.05)
    loss = F.cross_entropy(3 * logits / temperature, labels)
    for other in (0.98, 1.02):
        assert loss < F.cross_entropy(3 * logits / (temperature * other), labels)
    names = tuple("abcde")
    assert score(3 * logits / temperature, labels, names).ece < 0.2 * score(3 * logits, labels, names).ece


@pytest.mark.parametrize("name", ["cct_2_3x2_32", "levit_128s", "deit_tiny_distilled_patch16_224", "caformer_s18"])
def test_every_kind_of_classifier_can_be_divided(name: str) -> None:
    spec = model_spec(name)
    model = spec.replace(stages=spec.stages[:1], num_classes=6).build() if name.startswith("cct") else spec.build()
    model.eval()
    embedding = torch.randn(3, model.num_features)
    before = model.forward_head(embedding)
    divide_logits(model, 2.5)
    torch.testing.assert_close(model.forward_head(embedding), before / 2.5, atol=1e-5, rtol=1e-4)


def test_a_saved_model_is_calibrated_once(tmp_path: Path) -> None:
    data = f"idx:{write_idx(tmp_path / 'idx', {'train': 200, 't10k': 15}, classes=3)}"
    recipe = FAST.replace(channels=1, image_size=16, epochs=1, lr=5e-4, calibrate=True)
    options: dict[str, Any] = {"pretrained": False, "progress": False}
    finetune("cct_2_3x2_32", data, tmp_path / "plain", recipe=recipe.replace(calibrate=False), **options)
    finetune("cct_2_3x2_32", data, tmp_path / "run", recipe=recipe, **options)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    plain = json.loads((tmp_path / "plain" / "metrics.json").read_text())
    assert plain["calibration"] is None
    assert metrics["top1"] == plain["top1"]
    assert metrics["calibration"]["temperature"] != 1
    saved, before = (hv.create_model(f"local-dir:{tmp_path / name}") for name in ("run", "plain"))
    images = torch.randn(2, 1, 16, 16)
    expected = before.eval()(images) / metrics["calibration"]["temperature"]
    torch.testing.assert_close(saved.eval()(images), expected, atol=1e-5, rtol=1e-4)
    assert saved.origin["calibration"] == metrics["calibration"]  # pyright: ignore[reportOptionalSubscript]

    (tmp_path / "run" / "metrics.json").unlink()  # as if it had been killed just before its end
    finetune("cct_2_3x2_32", data, tmp_path / "run", resume=True, **options)
    again = hv.create_model(f"local-dir:{tmp_path / 'run'}")
    assert torch.equal(again.head.weight, saved.head.weight)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["calibration"] == metrics["calibration"]


def test_nothing_changes_that_does_not_lower_the_error(rows: Data, tmp_path: Path) -> None:
    """Of few images the cross-entropy may want what the calibration error does not."""
    generator = torch.Generator().manual_seed(16)
    logits = 0.3 * torch.randn(24, 3, generator=generator)
    labels = torch.randint(3, (24,), generator=generator)
    before, after = (
        score(logits / each, labels, rows.classes).ece for each in (1.0, fitted_temperature(logits, labels))
    )
    assert after > before
    val = dataclasses.replace(rows.val.subset(range(24)), labels=labels.numpy())
    run = trainer_of(dataclasses.replace(rows, val=val), tmp_path)
    weight = run.model.head.weight.clone()
    run.logits = lambda images, batches=None: logits  # pyright: ignore[reportAttributeAccessIssue]
    assert calibrate(run, tmp_path) is None
    run.logits = lambda images, batches=None: 10.0 * F.one_hot(labels, 3)  # pyright: ignore[reportAttributeAccessIssue]
    assert calibrate(run, tmp_path) is None  # all right
    assert torch.equal(run.model.head.weight, weight)
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_classifier_that_does_not_end_linearly_is_noticed() -> None:
    model = tiny()
    model.head = torch.nn.Sequential(model.head, torch.nn.Tanh())
    with pytest.raises(AssertionError, match="does not end linearly"):
        divide_logits(model, 2.0)
