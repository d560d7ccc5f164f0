"""Images whose classes differ by a bright row, models that see it or not, and a clock that is told the time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import hybridvit as hv
from hybridvit.benchmark.timing import Run
from hybridvit.recommendation import Recommendation, Row, recommend
from hybridvit.recommendation.latency import TimedRun
from hybridvit.recommendation.proxy import Proxy, Score
from hybridvit.recommendation.ranking import ranked
from tests.transfer.samples import tiny

SIDE = 16
CLASSES = ("bottom", "middle", "top")


def striped(root: Path, count: int = 12, split: str = "") -> Path:
    """Class folders of grey noise, `count` images each, with one bright row that says the class."""
    rng = np.random.default_rng(len(split))
    for label, name in enumerate(CLASSES):
        (root / split / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = rng.integers(0, 60, (SIDE, SIDE), dtype=np.uint8)
            pixels[5 * label + 2] = 255
            Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


def seeing(path: Path, **changes: Any) -> str:
    """A saved model whose features tell the classes apart, as `local-dir:PATH`."""
    return f"local-dir:{hv.save_pretrained(tiny(**changes), path)}"


def blind(path: Path, **changes: Any) -> str:
    """The same with a stem of zeros: the same features for every image."""
    model = tiny(**changes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("stages.0.enter."):
                parameter.zero_()
    return f"local-dir:{hv.save_pretrained(model, path)}"


class ToldClock:
    """A call takes as many milliseconds as `of` says for the number of parameters; it is made, and nothing is timed."""

    def __init__(self, of: Callable[[int], float] = lambda params: params / 1000) -> None:
        self.of, self.calls = of, 0

    def seconds(self, run: Run, calls: int) -> float:
        assert isinstance(run, TimedRun)
        run()
        self.calls += calls
        return calls * self.of(run.entrant.params) / 1000


def recommended(data: Path, models: list[str], out: Path | None = None, **options: Any) -> Recommendation:
    """`recommend` on the CPU, silently, by a told clock."""
    given = {"device": "cpu", "workers": 0, "progress": False, "clock": ToldClock()}
    return recommend(data, out, models=models, **given | options)


def row(name: str, figure: float, latency: float, params: int = 1_000_000, error: float = 0.02) -> Row:
    """A row that was judged."""
    scores = Proxy(linear=Score(figure, error), knn=Score(figure - 0.1, error))
    return Row(name=name, status="judged", params=params, img_size=(224, 224), latency=latency, proxy=scores)


def example(*rows: Row, **facts: Any) -> Recommendation:
    """A recommendation of these rows, or of four."""
    four = (
        row("slow", 0.92, 0.2, params=9_000_000),
        row("tied", 0.91, 0.02, params=5_000_000),
        row("fast", 0.70, 0.004),
        Row(name="late", status="too slow", reason="too slow: 410 ms", params=7, latency=0.41),
    )
    given = {
        "data": "folder/photos",
        "classes": CLASSES,
        "figure": "accuracy",
        "majority": 0.4,
        "images": 300,
        "total": 3_000,
        "held_out": "5 folds, each held out once",
        "limit": None,
        "where": "a CPU, 2 threads",
        "how": "4 models as named",
        "ranking": ranked(rows or four),
        "notes": (),
        "command": "hybridvit finetune --model tied --data folder/photos",
        "directory": None,
    }
    return Recommendation(**given | facts)
