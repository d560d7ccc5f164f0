"""Modules without memory are those with memory, less their values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hybridvit.meta import without_memory
from tests.representatives import one_of_each_family, small_spec


@pytest.mark.parametrize("name", one_of_each_family())
def test_names_shapes_and_types_are_those_of_a_model_with_values(name: str) -> None:
    with without_memory():
        shapes = small_spec(name).build()
    values = small_spec(name).build()
    assert all(tensor.is_meta for tensor in shapes.state_dict().values())
    for part in ("named_parameters", "named_buffers"):
        ours, theirs = ({k: (t.shape, t.dtype) for k, t in getattr(m, part)()} for m in (shapes, values))
        assert ours == theirs


def test_a_tensor_with_memory_is_filled_all_the_same() -> None:
    with without_memory():
        tensor = torch.full((64,), torch.nan, device="cpu")
        nn.init.trunc_normal_(tensor, std=0.02)
        assert tensor.isfinite().all()
        assert nn.init.constant_(tensor, 3.0).eq(3).all()
        assert nn.init.kaiming_uniform_(torch.empty(4, 4), a=1.0).is_meta
