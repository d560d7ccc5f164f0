"""The token stream is passed on without copies, except where `tests/copies.json` says what they are for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile

from hybridvit.components.mixers import MlpModule
from hybridvit.spec import Grid
from tests.copies import copies, counted, recorded
from tests.representatives import one_of_each_family, representatives, small_model

AGAIN = "if it has to be, `python -m tests.copies` notes it, and a reason is to be written"
DEFAULT = one_of_each_family()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in DEFAULT else pytest.mark.slow) for name in representatives()]
)
def test_a_forward_pass_makes_no_copies_but_those_with_a_reason(name: str):
    known = recorded()["models"].get(name, {})
    more = [
        f"{kind}, {count} times instead of {known.get(kind, 0)}"
        for kind, count in counted(name).items()
        if count > known.get(kind, 0)
    ]
    assert not more, f"{name} copies in {'; '.join(more)}: {AGAIN}"


def test_every_kind_of_copy_has_a_reason_and_every_reason_a_copy():
    reasons, models = recorded()["reasons"], recorded()["models"]
    assert sorted(models) == representatives()
    assert {kind for found in models.values() for kind in found} == set(reasons)
    assert [kind for kind, reason in reasons.items() if not reason] == []


class Copying(MlpModule):
    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return super().forward(tokens.transpose(1, 2).contiguous().transpose(1, 2), grid)


def test_a_new_copy_is_found_with_its_module():
    model = small_model("vit_tiny_patch16_224")
    before = copies(model, model.spec.img_size)
    mlps = [module for module in model.modules() if isinstance(module, MlpModule)]
    mlps[0].__class__ = Copying
    more = copies(model, model.spec.img_size) - before
    # The copy, and that of the kernel, whose input is no longer contiguous.
    assert more == {"Copying: contiguous": 1, "Copying: mkldnn::_linear_pointwise": 1}


def test_hooks_of_the_count_do_not_stay():
    layer = nn.Linear(2, 2)
    copies(small_model("vit_tiny_patch16_224"), (64, 64))
    watch = profile()
    with watch:
        layer(torch.ones(1, 2))
    assert not [event for event in watch.function_events or () if event.name.startswith("module ")]
