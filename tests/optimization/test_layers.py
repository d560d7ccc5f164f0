"""What single layers take in: one affine map a channel, in front of them or behind them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from hybridvit import components as c
from hybridvit.components.norms import BatchNormModule
from hybridvit.optimization.layers import Affine, affine_of, scale_columns, scale_rows, scales_input, scales_output
from hybridvit.spec import Grid, Transition
from tests.parity import perturb

LAYERS: dict[str, Callable[[bool], nn.Module]] = {
    "linear": lambda bias: nn.Linear(6, 4, bias),
    "convolution": lambda bias: nn.Conv2d(6, 4, 3, bias=bias),
}


def affine(width: int, shifts: bool) -> Affine:
    return Affine(torch.randn(width).double(), torch.randn(width).double() if shifts else None)


@pytest.mark.parametrize("shifts", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_and_an_affine_map_are_a_layer(kind: str, bias: bool, shifts: bool):
    around = (1, 1) if kind == "convolution" else ()
    input = torch.randn(2, 6, *([5, 7] if around else [])).double()
    for scales, width in ((scale_rows, 4), (scale_columns, 6)):
        layer, (scale, shift) = LAYERS[kind](bias).double(), affine(width, shifts)
        factor, term = (0.0 if part is None else part.view(-1, *around) for part in (scale, shift))
        expected = layer(input) * factor + term if scales is scale_rows else layer(input * factor + term)
        scales(layer, Affine(scale, shift))
        assert torch.allclose(layer(input), expected)
        assert (layer.bias is not None) == (bias or shifts)


def test_weights_stay_in_their_precision():
    layer = nn.Linear(6, 4).bfloat16()
    scale_rows(layer, affine(4, True))
    scale_columns(layer, affine(6, True))
    assert layer.weight.dtype == layer.bias.dtype == torch.bfloat16


def test_a_batch_norm_in_eval_mode_is_an_affine_map():
    norm = BatchNormModule(6).eval().double()
    perturb(norm)
    found, tokens = affine_of(norm), torch.randn(2, 5, 6).double()
    assert found is not None
    assert found.shift is not None
    assert torch.allclose(tokens * found.scale + found.shift, norm(tokens))
    assert affine_of(nn.LayerNorm(6)) is None


REFUSED_INPUT: dict[str, Transition] = {
    "border": c.Conv(dim=8, kernel=3),
    "groups": c.Conv(dim=8, groups=2),
    "standardised": c.StdConv(dim=8),
    "no bias": c.GatedMlp(hidden=8, bias=False),
    "pool": c.AvgPool(),
    "steps": c.Steps(steps=(c.Identity(), c.Activate(act="relu"), c.Conv(dim=8))),
}
REFUSED_OUTPUT: dict[str, Transition] = {
    "activation": c.Conv(dim=8, act="relu"),
    "norm": c.Linear(dim=8, norm=c.LayerNorm()),
    "standardised": c.StdConv(dim=8),
    "no bias": c.GatedMlp(hidden=8, bias=False),
    "scale": c.LayerScale(initial=0.5),
    "steps": c.Steps(steps=(c.Conv(dim=8), c.Activate(act="relu"), c.Identity())),
}


@pytest.mark.parametrize(
    ("takes", "spec"),
    [(scales_input, spec) for spec in REFUSED_INPUT.values()]
    + [(scales_output, spec) for spec in REFUSED_OUTPUT.values()],
    ids=[*(f"{name} behind" for name in REFUSED_INPUT), *(f"{name} in front" for name in REFUSED_OUTPUT)],
)
def test_what_a_layer_refuses_leaves_it_as_it_was(takes: Callable[..., object], spec: Transition):
    module = spec.build(8, Grid(4, 4))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert takes(spec, module, affine(8, True)) is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
