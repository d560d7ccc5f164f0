from __future__ import annotations

from hybridvit.inspect.costs import flops, params
from hybridvit.registry import model_spec


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
