"""Charts: valid SVG in two lights, whatever a class is called."""

from __future__ import annotations

from base64 import b64decode
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from hybridvit.transfer import charts
from hybridvit.transfer.metrics import score


def svg(uri: str) -> str:
    kind, _, content = uri.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return b64decode(content).decode()


def texts(uri: str) -> set[str]:
    return {
        (each.text or "").strip() for each in ElementTree.fromstring(svg(uri)).iter("{http://www.w3.org/2000/svg}text")
    }


def test_curves_of_what_was_logged() -> None:
    line = {"epoch": 1, "train_loss": 1.0, "val_loss": 2.0, "data_wait": None}
    (loss,) = charts.curves([line, line | {"epoch": 2}])
    assert loss.title == "Loss"
    assert {"training", "validation", "epoch", "1", "2"} <= texts(loss.light)
    titles = [chart.title for chart in charts.curves([line | {"data_wait": 0.1, "lr": 0.2, "images_per_second": 9.0}])]
    assert titles == ["Loss", "Learning rate", "Images a second", "Share of time waiting for data"]


def test_each_light_has_its_ink() -> None:
    chart = charts.reliability(np.array([0.2, 0.9, 0.95]), np.array([False, True, True]))
    light, dark = svg(chart.light), svg(chart.dark)
    assert light != dark
    assert not {"#010203", "#010204"} & {part[:7] for part in (light + dark).split("fill: ")}
    assert "#3d444d" in light
    assert "#b7bdc8" in dark


@pytest.mark.parametrize("name", ["$x^$", "<script>", "\u732b", "bell\x07", "x" * 300])
def test_any_name_of_a_class_is_drawn_as_it_is(name: str) -> None:
    labels = torch.tensor([0, 1, 1])
    chart = charts.confusion(score(torch.eye(2)[labels], labels, (name, "other")))
    assert charts.shortened(name).strip() in texts(chart.light)


def test_a_chart_is_the_same_each_time() -> None:
    lines = [{"epoch": 1, "lr": 0.1}]
    assert charts.curves(lines) == charts.curves(lines)
