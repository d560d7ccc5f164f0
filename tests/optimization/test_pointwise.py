"""Convolutions of single positions as linear layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import hybridvit as hv
from hybridvit import components as c
from hybridvit import optimization
from hybridvit.optimization.pointwise import with_linear_layers
from hybridvit.spec import Spec, Transition
from tests.optimization.test_fold import BN, POINTWISE, TwiceConv, assert_same, model_of, steps
from tests.parity import images

LINEAR = c.Linear(dim=8, bias=False)
BECOMES: dict[str, tuple[Transition, Transition]] = {
    "plain": (POINTWISE, LINEAR),
    "biased and activated": (POINTWISE.replace(bias=True, act="gelu"), LINEAR.replace(bias=True, act="gelu")),
    "normed": (POINTWISE.replace(norm=BN, act="relu"), LINEAR.replace(norm=BN, act="relu")),
    "padded as TensorFlow does": (POINTWISE.replace(padding="same"), LINEAR),
    "without a border": (POINTWISE.replace(padding=0), LINEAR),
    "among steps": (steps(POINTWISE, c.MaxPool(stride=2), POINTWISE), steps(LINEAR, c.MaxPool(stride=2), LINEAR)),
    "of another width": (POINTWISE.replace(dim=12), LINEAR.replace(dim=12)),
}
STAYS: dict[str, Transition] = {
    "strided": POINTWISE.replace(stride=2),
    "grouped": POINTWISE.replace(groups=2),
    "with a border": POINTWISE.replace(padding=1),
    "of a kernel": POINTWISE.replace(kernel=3),
    "of another layer": TwiceConv(dim=8, kernel=1),
}


@pytest.mark.parametrize("name", BECOMES)
def test_what_it_becomes(name: str):
    part, expected = BECOMES[name]
    model = model_of(part)
    linear = with_linear_layers(model)
    assert linear.spec.stages[1].enter == expected
    assert_same(linear, model, images(9, 23).double())
    assert Spec.from_dict(linear.spec.to_dict()) == linear.spec


@pytest.mark.parametrize("name", STAYS)
def test_what_stays(name: str):
    model = model_of(STAYS[name])
    same = with_linear_layers(model)
    assert same.spec == model.spec
    assert_same(same, model, images(9, 23).double())


def test_an_optimized_model_has_none_of_its_specs_own():
    model = hv.create_model("mobilevit_xxs", img_size=(32, 48))
    fast = hv.optimize(model)
    before, after = (_pointwise(of) for of in (model, fast))
    assert before > 20
    assert after == 0
    x = images(32, 48)
    with torch.inference_mode():
        expected, given = model.eval()(x), fast(x)
    assert (given - expected).abs().max() < 1e-4 * expected.abs().max()


def test_int8_leaves_convolutions_of_single_positions_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(optimization, "to_int8", lambda model: "in int8")
    model = hv.create_model("mobilevit_xxs", img_size=(32, 48))
    assert _pointwise(hv.optimize(model, quantize="int8")) == _pointwise(model)


def _pointwise(model: nn.Module) -> int:
    convs = (part for part in model.modules() if isinstance(part, nn.Conv2d))
    return sum(conv.kernel_size == (1, 1) and conv.groups == 1 and conv.stride == (1, 1) for conv in convs)
