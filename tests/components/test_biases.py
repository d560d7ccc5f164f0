"""Relative position biases: their definition, and timm's modules at the same and at other grids."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers.pos_embed_rel import RelPosBias, RelPosMlp

from hybridvit import kernels, tokens
from hybridvit.components.biases import (
    ContinuousPositionBias,
    DistanceBias,
    RelativePositionBias,
    RelativePositionMlp,
    RelativePositionTable,
    by_pair,
)
from hybridvit.kernels import Keeping, keep
from hybridvit.spec import Bias, Grid, SpecError
from hybridvit.tokens import at_pairs, every

# timm's interpolation warns about how it calls torch.
pytestmark = pytest.mark.filterwarnings("ignore:.*searchsorted", "ignore:Using a non-tuple sequence")

HEADS = 3
GRIDS = [((4, 4), (7, 7)), ((7, 7), (4, 4)), ((7, 7), (6, 8)), ((2, 3), (14, 9)), ((1, 1), (3, 2)), ((5, 5), (1, 1))]


def table_and_timms(size: tuple[int, int]) -> tuple[RelativePositionTable, RelPosBias]:
    """Ours and timm's bias for a grid, with the same random table."""
    ours, timms = RelativePositionBias().build(HEADS, Grid(*size)), RelPosBias(size, HEADS)
    torch.nn.init.normal_(ours.table)
    timms.load_state_dict({"relative_position_bias_table": ours.table})
    return ours, timms


def test_entry_is_the_value_at_the_offset_of_query_and_key() -> None:
    grid = Grid(3, 4)
    by_offset = torch.randn(5, 7, HEADS)
    bias = by_pair(by_offset, grid).unflatten(1, grid.size).unflatten(3, grid.size)
    assert torch.equal(bias[:, 0, 1, 2, 3], by_offset[0 - 2 + 2, 1 - 3 + 3])
    assert torch.equal(bias[:, 2, 0, 1, 0], by_offset[2 - 1 + 2, 0 - 0 + 3])


@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_table_is_timms_at_its_own_and_at_another_grid(old: tuple[int, int], new: tuple[int, int]) -> None:
    ours, timms = table_and_timms(old)
    assert torch.equal(ours(Grid(*old)), timms.get_bias()[0])
    timms.set_window_size(new)
    torch.testing.assert_close(ours(Grid(*new)), timms.get_bias()[0])
    resized = RelativePositionBias().build(HEADS, Grid(*new))
    resized.load_resized(ours)
    torch.testing.assert_close(resized(Grid(*new)), timms.get_bias()[0])


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 1)])
def test_mlp_is_timms_on_any_grid(size: tuple[int, int]) -> None:
    ours, timms = RelativePositionMlp(hidden=8).build(HEADS, Grid(7, 7)), RelPosMlp(size, HEADS, hidden_dim=8).eval()
    for parameter in timms.parameters():
        torch.nn.init.normal_(parameter)
    ours.load_state_dict({name.removeprefix("mlp."): tensor for name, tensor in timms.state_dict().items()})
    torch.testing.assert_close(ours(Grid(*size)), timms.get_bias()[0])


@pytest.mark.parametrize("bias", [RelativePositionBias(), RelativePositionMlp()])
def test_prefix_tokens_are_refused(bias: RelativePositionBias | RelativePositionMlp) -> None:
    with pytest.raises(SpecError, match="1 prefix tokens"):
        bias.build(HEADS, Grid(4, 4, prefix=1))


def test_distance_bias_is_the_value_at_the_distance() -> None:
    module: Any = DistanceBias().build(HEADS, Grid(3, 4))
    torch.nn.init.normal_(module.table)
    bias = module(Grid(3, 4)).unflatten(1, (3, 4)).unflatten(3, (3, 4))
    table = module.table.unflatten(1, (3, 4))
    for query, key in (((0, 1), (2, 3)), ((2, 3), (0, 1)), ((2, 0), (1, 3)), ((1, 1), (1, 1))):
        expected = table[:, abs(query[0] - key[0]), abs(query[1] - key[1])]
        assert torch.equal(bias[:, query[0], query[1], key[0], key[1]], expected)


@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_distances_are_resized_like_offsets(old: tuple[int, int], new: tuple[int, int]) -> None:
    module: Any = DistanceBias().build(HEADS, Grid(*old))
    torch.nn.init.normal_(module.table)
    resized: Any = DistanceBias().build(HEADS, Grid(*new))
    resized.load_resized(module)
    bias = module(Grid(*new))
    assert torch.equal(resized(Grid(*new)), bias)
    torch.testing.assert_close(bias, bias.transpose(1, 2))
    torch.testing.assert_close(bias.diagonal(dim1=1, dim2=2), module.table[:, :1].expand(-1, bias.shape[1]))


@pytest.mark.parametrize("distances", [False, True])
@pytest.mark.parametrize("size", [(4, 6), (5, 3)], ids=["even", "odd"])
def test_fewer_queries_have_the_rows_of_all(size: tuple[int, int], distances: bool) -> None:
    grid = Grid(*size)
    count = grid.tokens if distances else (2 * grid.height - 1) * (2 * grid.width - 1)
    values = torch.randn(2, count)
    asking = every(torch.arange(grid.tokens)[None, :, None], grid, 2).flatten()
    assert torch.equal(at_pairs(values, grid, distances, step=2), at_pairs(values, grid, distances)[:, asking])


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("distances", [False, True])
def test_kept_places_give_what_others_give_and_its_gradient(
    monkeypatch: pytest.MonkeyPatch, distances: bool, step: int, autocast: bool
) -> None:
    grid = Grid(4, 5)
    values = torch.randn(2, 20 if distances else 63, requires_grad=True)
    kept: list[object] = []
    places = tokens._kept_places
    monkeypatch.setattr(tokens, "_kept_places", lambda *given: kept.append(given) or places(*given))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        pairs = at_pairs(values, grid, distances, step)
    assert kept == [((4, 5), distances, step)]
    monkeypatch.setattr(kernels, "MOST_KEPT", grid.tokens - 1)
    others = at_pairs(values, grid, distances, step)
    assert len(kept) == 1
    assert torch.equal(pairs, others)
    weight = torch.randn(pairs.shape)
    gradients = (torch.autograd.grad((weight * of).sum(), values)[0] for of in (pairs, others))
    torch.testing.assert_close(*gradients)


EVERY_BIAS = pytest.mark.parametrize(
    "bias",
    [RelativePositionBias(), RelativePositionMlp(hidden=4), ContinuousPositionBias(trained=(4, 4)), DistanceBias()],
    ids=lambda bias: bias.kind,
)


@EVERY_BIAS
def test_a_model_that_was_not_asked_keeps_few_and_notices_any_change(bias: Bias) -> None:
    module = bias.build(2, Grid(4, 4)).eval()
    with torch.no_grad():
        first = module(Grid(8, 8))
        assert module(Grid(8, 8)) is first
        assert module(Grid(8, 7)).shape == (2, 56, 56)
        many = module(Grid(16, 17))
        assert module(Grid(16, 17)) is not many
        before = module(Grid(8, 8))
        for weight in module.parameters():
            weight.data.add_(torch.randn_like(weight))  # which no counter of changes sees
        changed = module(Grid(8, 8))
        assert not torch.allclose(changed, before)
        assert module.bfloat16()(Grid(8, 8)).dtype == torch.bfloat16
        module.float()
    assert module(Grid(8, 8)).requires_grad


@EVERY_BIAS
def test_of_many_tokens_nothing_is_kept(bias: Bias) -> None:
    """A model that keeps its biases has one in every block, and at 1056 tokens each takes 8 MiB for two heads."""
    module = bias.build(2, Grid(4, 4)).eval()
    keep(module)
    with torch.no_grad():
        few = module(Grid(8, 8))
        assert module(Grid(8, 8)) is few
        many = module(Grid(32, 33))
        assert module(Grid(32, 33)) is not many
        assert many.shape == (2, 1056, 1056)
    assert isinstance(module, Keeping)
    assert module._kept is not None
    assert module._kept[1].nbytes < many.nbytes / 100
