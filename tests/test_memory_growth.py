"""Memory against tokens, counted and not timed: nothing that a forward pass makes grows faster than the pixels.

Sizes are followed on the `meta` device, where images can be as large as it takes for a square to show. There kernels
take the paths that they take on a CPU, and attention is one kernel exactly where torch's CPU kernel takes it.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hybridvit import attention_kernels, kernels
from hybridvit.attention_kernels import attend, by_queries
from hybridvit.encoder import Encoder
from hybridvit.meta import without_memory
from hybridvit.registry import index
from tests.representatives import one_of_each_family, small_spec

SIDES = (2048, 4096)  # pixels
# Larger than this share of an image's growth is not what borders and prefix tokens add.
ROUNDED = 1.1

POSITIONS = "positions of all pairs in the scores"
WINDOWS = "a fixed number of windows, which grow with the image, and positions of all pairs in each"
# Quadratic by nature: what is added to the scores of all pairs of positions is a table of all pairs.
QUADRATIC = {
    "beit": POSITIONS,
    "botnet": POSITIONS,
    "coatnet": POSITIONS,
    "coatnet_rw": POSITIONS,
    "convit": POSITIONS,
    "efficientformer": POSITIONS,
    "efficientformerv2": POSITIONS,
    "gcvit": WINDOWS,
    "levit": POSITIONS,
    "levit_conv": POSITIONS,
}


class Largest(TorchDispatchMode):
    """The most values that one operation gave."""

    values, operation = 0, ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(given):
            if isinstance(leaf, Tensor) and leaf.numel() > self.values:
                self.values, self.operation = leaf.numel(), f"{func} {tuple(leaf.shape)}"
        return given


def fused(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """Attention without values, in memory as torch's: its kernel for CPUs takes heads of one width."""
    if query.shape[3] == value.shape[3]:
        return value.new_empty(*query.shape[:3], value.shape[3])
    scores = query @ key.transpose(2, 3)
    return scores.softmax(dim=-1) @ value


def first_queries(attend: Any, query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """What `by_queries` takes in many steps, in one: all others make what the first does."""
    count = max(1, attention_kernels.MOST_SCORES // (query.shape[0] * query.shape[1] * key.shape[2]))
    mixed = attend(query[:, :, :count], None if bias is None else bias[:, :, :count])
    return mixed.new_empty(*query.shape[:3], mixed.shape[3])


def largest(model: Encoder, side: int) -> Largest:
    """Of a forward pass of one square image without gradients."""
    with (
        mock.patch.object(kernels, "plain", return_value=True),
        mock.patch.object(kernels, "_dtypes", return_value=()),  # of layers nothing but their shapes matters
        mock.patch.object(Tensor, "item", return_value=1.0),
        mock.patch.object(attention_kernels, "by_queries", first_queries),
        mock.patch.object(attention_kernels, "SCORES_TOGETHER", 2**62),
        mock.patch.object(kernels, "MOST_KEPT", 0),
        mock.patch.object(kernels, "MOST_KEPT_UNASKED", 0),  # what is kept is on the CPU
        mock.patch.object(F, "scaled_dot_product_attention", fused),
        torch.no_grad(),
        Largest() as found,
    ):
        model(torch.empty(1, model.spec.in_chans, side, side, device="meta"))
    return found


@pytest.mark.parametrize("name", one_of_each_family())
def test_what_a_forward_pass_makes_grows_like_the_pixels(name: str) -> None:
    with without_memory():
        model = small_spec(name).build().eval()
    small, large = (largest(model, side) for side in SIDES)
    like_pixels = large.values <= ROUNDED * small.values * (SIDES[1] / SIDES[0]) ** 2
    assert like_pixels != (index()[name].family in QUADRATIC), f"{small.operation} became {large.operation}"


@pytest.mark.parametrize("bias", [None, (1, 3, 70, 50), (2, 1, 70, 50)], ids=["no bias", "of heads", "of images"])
def test_scores_that_are_written_down_are_few_at_a_time(
    bias: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, key, value = torch.randn(2, 3, 70, 8), torch.randn(2, 3, 50, 8), torch.randn(2, 3, 50, 12)
    added = None if bias is None else torch.randn(bias)
    with torch.no_grad():
        expected = attend(query, key, value, added, 0.3)
        monkeypatch.setattr(attention_kernels, "MOST_SCORES", 2 * 3 * 50 * 16)
        counts: list[int] = []

        def seen(part: Tensor, bias: Tensor | None) -> Tensor:
            counts.append(part.shape[2])
            return part

        assert torch.equal(by_queries(seen, query, key, added), query)
        assert counts == [16, 16, 16, 16, 6]
        assert torch.allclose(attend(query, key, value, added, 0.3), expected, atol=1e-6)
