"""Groups of parameters, rates over the steps, and optimizer state in the layout of its parameter."""

import pytest
import torch
from torch import nn

from hybridvit.transfer.optimizers import (
    SMALLEST_LAYER_SCALE,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
    rate_at,
)
from hybridvit.transfer.recipe import Recipe
from tests.transfer.samples import tiny


def test_rate_warms_up_and_decays_to_zero() -> None:
    rates = [rate_at(step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3
    assert rate_at(0, 1, 0) == 1.0


def test_every_parameter_is_in_one_group_and_only_matrices_decay() -> None:
    model = tiny("vit_2_4_32")
    groups = parameter_groups(model, Recipe(layer_decay=0.5, weight_decay=0.1))
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(model.parameters()))
    names = {parameter: name for name, parameter in model.named_parameters()}
    decayed = {names[p] for group in groups if group["weight_decay"] for p in group["params"]}
    assert all(name.endswith("weight") for name in decayed)
    assert "head.weight" in decayed
    assert not {"stages.0.prefix.tokens", "stages.0.position.table", "head.bias", "pool.norm.weight"} & decayed


def test_rates_fall_block_by_block_towards_the_input() -> None:
    model = tiny()
    scale = {
        parameter: group["scale"]
        for group in parameter_groups(model, Recipe(layer_decay=0.5))
        for parameter in group["params"]
    }
    by_layer = [{scale[p] for p in parameters.values()} for _, parameters in model.layer_parameters()]
    assert by_layer == [{0.125}, {0.25}, {0.5}, {1.0}]
    smallest = min(group["scale"] for group in parameter_groups(model, Recipe(layer_decay=0.01)))
    assert smallest == SMALLEST_LAYER_SCALE


def test_optimizer_state_keeps_the_layout_of_its_parameter() -> None:
    def trained(steps: int, optimizer: torch.optim.AdamW, layer: nn.Conv2d) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            layer(torch.ones(1, 3, 5, 5)).square().sum().backward()
            optimizer.step()

    def made() -> tuple[nn.Conv2d, torch.optim.AdamW]:
        torch.manual_seed(0)
        layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)

    layer, optimizer = made()
    trained(2, optimizer, layer)
    weights = {name: value.clone() for name, value in layer.state_dict().items()}
    # What a file holds is contiguous.
    state = {
        name: value.clone(memory_format=torch.contiguous_format) for name, value in optimizer_tensors(optimizer).items()
    }
    trained(2, optimizer, layer)

    other, other_optimizer = made()
    other.load_state_dict(weights)
    load_optimizer_tensors(other_optimizer, state)
    trained(2, other_optimizer, other)
    assert torch.equal(other.weight, layer.weight)
    assert torch.equal(other.bias, layer.bias)  # pyright: ignore[reportArgumentType]
