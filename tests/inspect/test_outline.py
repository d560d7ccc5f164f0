from __future__ import annotations

import pytest

from hybridvit.components import Add, BatchNorm, Conv, Identity, Normalize, Steps
from hybridvit.inspect.costs import params
from hybridvit.inspect.outline import describe, outline
from hybridvit.meta import without_memory
from hybridvit.registry import model_spec
from tests.representatives import one_of_each_family


def test_a_staged_hybrid() -> None:
    first, second, third = outline(model_spec("cvt_13"))
    assert (first.enter, first.blocks) == ("Conv 7x7 64 /4", "1 x (ConvAttention 3x3 1 head; Mlp 256)")
    assert (second.width, second.stride, second.grid, second.prefix) == (192, 8, (28, 28), 0)
    assert third.enter == "Conv 3x3 384 /2 + 1 prefix token"
    assert (third.stride, third.grid, third.prefix) == (16, (14, 14), 1)


def test_blocks_in_turns() -> None:
    block = "WindowAttention 7x7{} (Attention 12 heads); Mlp 1536"
    assert outline(model_spec("swin_tiny_patch4_window7_224"))[2].blocks == (
        f"3 x ({block.format('')}; then {block.format(' shifted')})"
    )


def test_parts_in_words() -> None:
    conv = Conv(dim=8, kernel=3, groups=8)
    assert describe(conv) == "Conv 3x3 8 depthwise"
    assert describe(conv.replace(kernel=1, groups=2, stride=2)) == "Conv 1x1 8 /2 in 2 groups"
    assert describe(Steps(steps=(conv, conv))) == "2 x Conv 3x3 8 depthwise"
    assert describe(Add(shortcut=Identity(), body=conv)) == "[x + Conv 3x3 8 depthwise]"
    assert describe(Steps(steps=(Normalize(norm=BatchNorm()),))) == "BatchNorm"


@pytest.mark.parametrize("name", one_of_each_family())
def test_every_family_has_an_outline(name: str) -> None:
    spec = model_spec(name)
    rows = outline(spec)
    with without_memory():
        model = spec.build()
    head = sum(parameter.numel() for part in (model.pool, model.head) for parameter in part.parameters())
    assert sum(row.params for row in rows) + head == params(spec)
    assert {info: (row.width, row.stride) for info, row in enumerate(rows)}.items() >= {
        (info.stage, (info.channels, info.stride)) for info in model.feature_info
    }
    assert all(row.enter and (row.blocks or not stage.blocks) for row, stage in zip(rows, spec.stages, strict=True))
