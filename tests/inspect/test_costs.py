from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hybridvit.inspect.costs import cost, flops, layer_costs, params
from hybridvit.meta import without_memory
from hybridvit.registry import model_spec
from tests.representatives import one_of_each_family, small_spec


def test_params_of_a_known_model() -> None:
    assert params(model_spec("vit_tiny_patch16_224")) == 5_717_416


def test_flops_are_the_sum_over_matrix_products() -> None:
    """ViT-Ti/16 by hand: patches, then 12 blocks of qkv, attention, projection and MLP, then the classifier."""
    tokens, dim = 14 * 14 + 1, 192
    block = tokens * dim * (3 + 1 + 4 + 4) * dim + 2 * tokens * tokens * dim
    multiply_adds = 14 * 14 * 3 * 16 * 16 * dim + 12 * block + 1000 * dim
    assert flops(model_spec("vit_tiny_patch16_224")) == 2 * multiply_adds


def test_flops_follow_the_image_size() -> None:
    """A convolutional model's convolutions cost four times as much on twice the height and width."""
    spec = model_spec("tf_efficientnet_lite0")
    classifier = 2 * 1280 * 1000
    small, large = flops(spec, (64, 96)), flops(spec, (128, 192))
    assert large - classifier == 4 * (small - classifier)


@pytest.mark.parametrize("name", one_of_each_family())
def test_layers_cost_what_they_cost_in_the_model(name: str) -> None:
    """Each layer by itself has the parameters of its place, and all together run the operations of the whole."""
    with without_memory():
        model = small_spec(name).build().eval().requires_grad_(False)
    costs = layer_costs(model.spec, (97, 66))
    groups = {layer: sum(p.numel() for p in parameters.values()) for layer, parameters in model.layer_parameters()}
    assert {layer: cost.params for layer, cost in costs.items()} == groups
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, 97, 66, device="meta"))
    assert cost(model.spec, (97, 66)).flops == counter.get_total_flops()


def test_a_pool_with_a_query_of_its_own_by_hand() -> None:
    """SigLIP's base: keys and values of all tokens, one query, one token through projection and MLP; no classes."""
    tokens, dim = 14 * 14, 768
    multiply_adds = tokens * dim * 2 * dim + 2 * tokens * dim + dim * (1 + 1 + 4 + 4) * dim
    assert layer_costs(model_spec("vit_base_patch16_siglip_224"))["head"].flops == 2 * multiply_adds
