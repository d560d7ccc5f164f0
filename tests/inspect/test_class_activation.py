"""Class activation maps: of every family, at any size, in the right place, and the model stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from hybridvit.inspect import class_maps, overlay
from hybridvit.optimization import optimize
from hybridvit.registry import model_spec
from tests.parity import images
from tests.representatives import one_of_each_family, perturbed_model, small_spec, traced_by_default, traced_model


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in traced_by_default() else pytest.mark.slow)
        for name in one_of_each_family()
    ],
)
def test_every_family_has_maps(name: str) -> None:
    model, batch = traced_model(name), images(64, 96)[:2]
    maps = class_maps(model, batch, torch.arange(len(batch)))
    assert maps.shape == (len(batch), 64, 96)
    assert not maps.requires_grad
    assert maps.isfinite().all()
    assert maps.min() >= 0
    assert ((maps.amax(dim=(1, 2)) - 1).abs() < 1e-5).logical_or(maps.amax(dim=(1, 2)) == 0).all()
    assert torch.allclose(class_maps(model, batch[1:2], 1), maps[1:2], atol=1e-3), "whatever else is in the batch"


def with_stripes(labels: torch.Tensor, quarter: int | None = None) -> torch.Tensor:
    """Noise, where the label is 1 with stripes in a quarter, by default in any."""
    batch = 0.3 * torch.randn(len(labels), 3, 64, 64)
    for image, label in zip(batch, labels.tolist(), strict=True):
        if label:
            row, column = divmod(int(torch.randint(4, ())) if quarter is None else quarter, 2)
            image[:, 32 * row + 4 : 32 * row + 28, 32 * column + 4 : 32 * column + 28 : 4] += 3
    return batch


def test_a_model_that_looks_for_stripes_is_seen_to() -> None:
    """A transformer with a class token, whose place a mean of the gradient would not show."""
    model = small_spec("vit_tiny_patch16_224").replace(num_classes=2).build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(100):
        labels = torch.randint(2, (16,))
        optimizer.zero_grad()
        F.cross_entropy(model(with_stripes(labels)), labels).backward()
        optimizer.step()
    for quarter in range(4):
        maps = class_maps(model, with_stripes(torch.ones(8), quarter), classes=1)
        row, column = divmod(quarter, 2)
        inside = maps[:, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32].sum(dim=(1, 2))
        assert (inside / maps.sum(dim=(1, 2))).mean() > 0.5


def test_where_the_mean_is_read_it_is_the_first_class_activation_map() -> None:
    """The last map, each channel by its weight for the class (arXiv 1512.04150)."""
    model, batch = perturbed_model("resnet18"), images(64, 96)
    (layer,) = (module for module in model.head.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        places = torch.einsum("bchw,c->bhw", model.features(batch)[-1], layer.weight[3]).relu()
    wanted = F.interpolate(places[:, None], size=(64, 96), mode="bilinear")[:, 0]
    wanted /= wanted.amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)
    assert torch.allclose(class_maps(model, batch, 3), wanted, atol=1e-4)


def test_the_map_of_a_class_token_comes_from_before_the_last_block() -> None:
    """Behind it nothing reads the other tokens, so a map from there would be empty."""
    model = perturbed_model("vit_tiny_patch16_224")
    assert class_maps(model, images(64, 64)).amax(dim=(1, 2)).max() == 1


def test_a_model_stays_as_it_was() -> None:
    model = perturbed_model("levit_128s").train()
    model.freeze(2)
    modes = [module.training for module in model.modules()]
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    with torch.inference_mode():
        maps = class_maps(model, images(64, 64))
    assert maps.max() > 0
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_model_that_wants_no_gradients_has_maps_too() -> None:
    model, batch = perturbed_model("levit_128s"), images(64, 64)
    expected = class_maps(model, batch)
    assert torch.allclose(class_maps(model.requires_grad_(False), batch), expected, atol=1e-4)


def test_an_optimized_model_saw_the_same() -> None:
    model, batch = perturbed_model("levit_128s"), images(64, 64)
    assert torch.allclose(class_maps(optimize(model), batch, 1), class_maps(model, batch, 1), atol=1e-2)


def test_half_precision_gives_float32() -> None:
    model = perturbed_model("cct_2_3x2_32").bfloat16()
    assert class_maps(model, images(32, 32).bfloat16()).dtype == torch.float32


def test_what_cannot_be_looked_for_is_refused() -> None:
    model = perturbed_model("cct_2_3x2_32")
    for classes in (7, -1, torch.tensor(0.5)):
        with pytest.raises(ValueError, match="whole numbers from 0 to 6"):
            class_maps(model, images(32, 32), classes)
    without = model_spec("cct_2_3x2_32").replace(num_classes=0).build()
    with pytest.raises(ValueError, match="no classifier"):
        class_maps(without, images(32, 32))


def test_an_overlay_colours_what_is_high_and_leaves_the_rest() -> None:
    image = Image.new("L", (40, 20), 100)
    places = torch.zeros(10, 20)
    places[:, 12:] = 1
    drawn = np.asarray(overlay(image, places))
    assert drawn.shape == (20, 40, 3)
    assert (drawn[:, :20] == 100).all()
    assert (drawn[:, 30:, 0] > drawn[:, 30:, 2] + 30).all()
    assert (np.asarray(overlay(image, places, strength=0)) == 100).all()
