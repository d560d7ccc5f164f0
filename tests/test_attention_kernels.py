from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridvit import attention_kernels, kernels
from hybridvit.attention_kernels import attend
from tests.cpu_kernels import close, has_kernels


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("width", [8, 16])
def test_attention_gives_what_torchs_gives(width: int, biased: bool, dtype: torch.dtype):
    query, key = torch.randn(2, 3, 7, 8, dtype=dtype), torch.randn(2, 3, 5, 8, dtype=dtype)
    value = torch.randn(2, 3, 5, width, dtype=dtype)
    bias = torch.randn(1, 3, 7, 5, dtype=dtype) if biased else None
    kept = torch.empty(0) if bias is None else bias.clone()
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=0.3)
    with torch.no_grad():
        assert close(attend(query, key, value, bias, 0.3), expected, dtype)
    assert bias is None or torch.equal(bias, kept)


@has_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("keys", [attention_kernels.FEW_KEYS, attention_kernels.FEW_KEYS + 1])
def test_attention_is_torchs_own_where_keys_are_many(monkeypatch: pytest.MonkeyPatch, keys: int, dtype: torch.dtype):
    fused: list[bool] = []
    real = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: fused.append(True) or real(*a, **k))
    query, key = torch.randn(2, 3, 7, 8, dtype=dtype), torch.randn(2, 3, keys, 8, dtype=dtype)
    with torch.no_grad():
        result = attend(query, key, key, None, 0.3)
    assert bool(fused) == (keys > attention_kernels.FEW_KEYS or dtype == torch.bfloat16)
    assert close(result, real(query, key, key, scale=0.3), dtype)


@pytest.mark.parametrize("bias", [None, (1, 3, 7, 5), (9, 1, 7, 5)], ids=["no bias", "of heads", "of windows"])
def test_attention_of_many_windows_is_that_of_some_at_a_time(
    monkeypatch: pytest.MonkeyPatch, bias: tuple[int, ...] | None
):
    query, key, value = torch.randn(9, 3, 7, 8), torch.randn(9, 3, 5, 8), torch.randn(9, 3, 5, 8)
    added = None if bias is None else torch.randn(bias)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=added, scale=0.3)
    monkeypatch.setattr(attention_kernels, "SCORES_TOGETHER", 8 * 3 * 7 * 5)
    monkeypatch.setattr(attention_kernels, "SCORES_IN_CACHE", 4 * 3 * 7 * 5)
    counts: list[int] = []
    products = attention_kernels._products
    monkeypatch.setattr(attention_kernels, "_products", lambda *a: counts.append(a[0].shape[0]) or products(*a))
    with torch.no_grad():
        assert close(attend(query, key, value, added, 0.3), expected, torch.float32)
    if kernels._dtypes():
        assert counts == [4, 4, 1]


FEW, MANY_HALF = attention_kernels.FEW_KEYS, attention_kernels.MOST_KEYS_TRAINED


@has_kernels
@pytest.mark.parametrize("autocast", [False, True], ids=["", "autocast"])
@pytest.mark.parametrize(
    ("dtype", "keys", "width", "biased", "fused"),
    [
        (torch.float32, FEW, 8, False, False),
        (torch.float32, FEW + 1, 8, False, True),
        (torch.float32, FEW + 1, 16, False, False),
        (torch.float32, FEW + 1, 8, True, False),
        (torch.bfloat16, MANY_HALF, 8, False, False),
        (torch.bfloat16, MANY_HALF + 1, 8, False, True),
        (torch.bfloat16, MANY_HALF + 1, 16, False, False),
        (torch.bfloat16, MANY_HALF + 1, 8, True, False),
    ],
)
def test_training_multiplies_where_torchs_kernel_is_slow(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    keys: int,
    width: int,
    biased: bool,
    fused: bool,
    autocast: bool,
):
    called: list[bool] = []
    real = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: called.append(True) or real(*a, **k))
    shapes = (2, 3, 7, 8), (2, 3, keys, 8), (2, 3, keys, width), (1, 3, 7, keys)
    given = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes[: 3 + biased]]
    if biased and autocast:  # which leaves parameters as they are
        given[3] = torch.randn(shapes[3], requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast and dtype == torch.bfloat16):
        attend(given[0], given[1], given[2], given[3] if biased else None, 0.3).float().square().sum().backward()
    assert bool(called) == fused
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    real(*exact[:3], attn_mask=exact[3] if biased else None, scale=0.3).square().sum().backward()
    for tensor, reference in zip(given, exact, strict=True):
        assert tensor.grad is not None
        assert reference.grad is not None
        error = (tensor.grad - reference.grad).abs().max() / reference.grad.abs().max()
        assert error < (1e-5 if dtype == torch.float32 else 0.03)


def test_a_bias_alone_is_trained_by_products():
    query, bias = torch.randn(1, 2, 90, 8), torch.randn(1, 2, 90, 90, requires_grad=True)
    attend(query, query, query, bias, 0.3).sum().backward()
    assert bias.grad is not None
    assert bias.grad.abs().sum() > 0


class Attend(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, tokens: Tensor) -> Tensor:
        query, key = tokens.split([8, 8], dim=3)
        return attend(query, key, tokens[..., : self.width], None, 0.3)


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize(("built", "used"), [(FEW - 4, 3000), (3000, FEW - 4)])
def test_a_program_of_any_size_is_bound_to_no_count_of_keys(width: int, built: int, used: int):
    size = {0: torch.export.Dim("batch", min=2), 2: torch.export.Dim("tokens", min=2)}
    with torch.no_grad():
        program = torch.export.export(Attend(width), (torch.randn(5, 1, built, 16),), dynamic_shapes=(size,))
        tokens = torch.randn(2, 1, used, 16)
        assert close(program.module()(tokens), Attend(width)(tokens), torch.float32)
