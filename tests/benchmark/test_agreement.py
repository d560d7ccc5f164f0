"""Optimized models give the answers that the models gave: what was measured, and how."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.agreement import FILE, Row, Subject, compared, fit, read, table
from hybridvit.adapt import with_num_classes
from hybridvit.encoder import Encoder
from tests.representatives import freshly_built

# Of a CNN of depthwise convolutions, many of the crops are near-ties, which bfloat16 decides anew.
NEAR_TIES = "tf_efficientnet_lite0.pypi_in1k"


def pictures(count: int) -> list[tuple[Image.Image, int | None]]:
    draw = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, 256, (count, 4, 4, 3), generator=draw, dtype=torch.uint8).numpy()
    return [(Image.fromarray(pixels).resize((64, 64)), number % 3) for number, pixels in enumerate(drawn)]


@pytest.fixture(name="model", scope="module")
def model_of() -> Encoder:
    model = with_num_classes(freshly_built("vit_tiny_patch16_224"), 3)
    fit(model, pictures(30))
    return model


def test_what_is_committed_holds_the_floor():
    rows = read(FILE).rows
    assert all(row.count >= 500 for row in rows)
    assert {row.agreement for row in rows if row.side == "fp32"} == {1.0}
    half = {row.model: row.agreement for row in rows if row.side == "bf16"}
    assert len(half) == 3
    assert all(agreement >= 0.99 for model, agreement in half.items() if model != NEAR_TIES)
    near_ties = next(row for row in rows if row.model == NEAR_TIES and row.side == "bf16")
    assert near_ties.margin is not None
    assert near_ties.margin < 0.1


def test_a_field_too_many_is_an_error(tmp_path: Path):
    path = tmp_path / "agreement.json"
    path.write_text(FILE.read_text().replace('"side"', '"sides"'))
    with pytest.raises(TypeError, match="sides"):
        read(path)


def test_a_model_agrees_with_itself_and_knows_what_it_was_fitted_to(model: Encoder):
    subject = Subject(name="ours", weights="random", images="squares", model=model, pictures=pictures(30))
    (row,) = compared(subject, ["fp32"])
    assert row.agreement == 1.0
    assert row.margin is None
    assert row.accuracy == row.before
    assert row.accuracy is not None
    assert row.accuracy > 0.9


def test_where_answers_differ_it_is_seen(model: Encoder, monkeypatch: pytest.MonkeyPatch):
    other = with_num_classes(model, 3)
    torch.nn.init.normal_(other.head.weight)  # pyright: ignore
    monkeypatch.setattr("benchmarks.agreement.SIDES", {"other": lambda _: other})
    without_labels = [(picture, None) for picture, _ in pictures(30)]
    (row,) = compared(
        Subject(name="ours", weights="random", images="squares", model=model, pictures=without_labels), ["other"]
    )
    assert row.agreement < 0.9
    assert row.margin is not None
    assert row.accuracy is None
    assert row.count == 30


def test_the_table_says_it_in_percent():
    text = table(read(FILE))
    assert "| fp32 | 100.00% |  |" in text
    assert text.count("\n|") == len(read(FILE).rows) + 1
    assert isinstance(read(FILE).rows[0], Row)
