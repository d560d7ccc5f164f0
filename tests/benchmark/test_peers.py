"""Other packages' models: those that we name exist, have our shapes, and compute the same with our weights."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from hybridvit.benchmark import peers
from hybridvit.benchmark.cases import Case
from hybridvit.benchmark.peers import TRANSFORMERS, Output, difference, fresh, packages_with, peer, perturb, rules_of
from hybridvit.benchmark.records import BenchmarkError, Settings
from hybridvit.benchmark.run import TARGETS
from hybridvit.benchmark.sides import contest
from hybridvit.keys import KeyMismatchError, KeyRules, check_keys
from hybridvit.meta import without_memory
from hybridvit.registry import model_spec


def case(model: str, img_size: tuple[int, int] | None = None) -> Case:
    return Case(model=model, batch=1, img_size=img_size or model_spec(model).img_size, settings=Settings())


@pytest.mark.parametrize(
    ("package", "model"),
    [
        *(("transformers", model) for model in TRANSFORMERS),
        *(("torchvision", model) for model in peers.torchvision_names()),
    ],
)
def test_the_key_rules_fit_the_models_that_are_named(package: str, model: str) -> None:
    at = case(model)
    with without_memory():
        theirs, ours = fresh(at, package), at.spec().build()
    inner = theirs.model if isinstance(theirs, Output) else theirs
    check_keys(rules_of(at, package).to_ours(inner.state_dict()), ours.state_dict())


@pytest.mark.parametrize("model", [model for model in TARGETS if "timm" in packages_with(model)])
def test_the_targets_are_timm_s_models_of_as_many_classes(model: str) -> None:
    at = case(model)
    with without_memory():
        theirs, ours = fresh(at, "timm"), at.spec().build()
    check_keys(rules_of(at, "timm").to_ours(theirs.state_dict()), ours.state_dict())


@pytest.mark.parametrize(
    ("package", "model", "img_size"),
    [
        ("timm", "vit_tiny_patch16_224", (48, 32)),
        ("timm", "tf_efficientnet_lite0", (32, 48)),
        ("transformers", "vit_tiny_patch16_224", (32, 32)),
        ("transformers", "vit_tiny_patch16_224", (32, 48)),
        ("transformers", "levit_128s", (224, 224)),
        ("transformers", "mobilevit_xxs", (64, 64)),
        ("torchvision", "swin_tiny_patch4_window7_224", (64, 64)),
    ],
)
def test_equal_weights_give_equal_outputs(package: str, model: str, img_size: tuple[int, int]) -> None:
    at = case(model, img_size)
    found = contest(at, [package])
    assert not found.failed
    assert set(found.models) == {"hybridvit", package}
    assert found.difference is not None
    assert found.difference < 1e-3


def test_what_starts_at_almost_nothing_is_moved() -> None:
    """A layer scale of 1e-6 would hide its branch, and an empty table of positions that it is there."""
    model = nn.Module()
    model.scale, model.table = nn.Parameter(torch.full((8,), 1e-6)), nn.Parameter(torch.zeros(1, 4, 8))
    model.norm, model.linear = nn.BatchNorm1d(8), nn.Linear(8, 8)
    before = model.linear.weight.detach().clone()
    perturb(model)
    assert model.scale.abs().median() > 0.01
    assert model.table.abs().median() > 0.01
    assert torch.equal(model.linear.weight, before)
    assert model.norm.running_mean is not None
    assert model.norm.running_var is not None
    assert model.norm.running_mean.abs().median() > 0.01
    assert 0.5 < model.norm.running_var.min() < model.norm.running_var.max()


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    to_theirs = KeyRules.to_theirs
    monkeypatch.setattr(KeyRules, "to_theirs", lambda *args: {key: 1.1 * t for key, t in to_theirs(*args).items()})
    monkeypatch.setattr(peers, "check_keys", lambda *args, **kwargs: None)
    found = contest(case("tf_efficientnet_lite0", (32, 32)), ["timm"])
    assert found.models.keys() == {"hybridvit"}
    assert found.failed["timm"].startswith("refused: its outputs differ from ours by")


def test_a_weight_that_is_not_passed_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    at = case("vit_tiny_patch16_224", (32, 32))
    monkeypatch.setattr(peers, "rules_of", lambda *args: KeyRules())
    with pytest.raises(KeyMismatchError):
        peer(at, "timm", fresh(at, "hybridvit"))


def test_outputs_of_another_shape_are_refused() -> None:
    at = case("cct_2_3x2_32")
    ours = fresh(at, "hybridvit")
    with pytest.raises(BenchmarkError, match=r"outputs are \(2, 3072\), ours \(2, 10\)"):
        difference(ours, nn.Flatten(), at)


def test_a_package_that_is_not_installed_fails_its_side_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    found = contest(case("vit_tiny_patch16_224", (32, 32)), ["timm", "transformers"])
    assert found.models.keys() == {"hybridvit", "timm"}
    assert found.failed["transformers"].startswith("transformers is not installed")


def test_torchvision_takes_squares_alone() -> None:
    with pytest.raises(BenchmarkError, match="square"):
        peers.torchvision_model(case("vit_base_patch16_224", (224, 160)))


def test_packages_are_known_without_being_installed() -> None:
    assert packages_with("vit_base_patch16_224") == ["timm", "transformers", "torchvision"]
    assert packages_with("cct_2_3x2_32") == []
    assert packages_with("cvt_13") == ["transformers"]
