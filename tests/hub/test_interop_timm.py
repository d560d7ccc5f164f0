"""Models of timm here, and ours in timm and, through timm, in transformers: every family, over a Hub, both ways."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.hub import LoopbackHub
from hybridvit.preprocess import CROP_MODES, Preprocess
from hybridvit.weights.sources import WeightsWarning
from tests.hub.conftest import run_python
from tests.hub.timm_client import CASES, LARGE, SMALL, photo
from tests.parity import TOLERANCE, error, perturb
from tests.weights.examples import logits

LABELS = ("kea", "lynx", "moa", "newt", "owl", "pug")
# Of pixels that have been normalised: rounding, less than a hundredth of a step of 8 bits.
ROUNDING = 1e-5


@dataclass
class Exchange:
    """A Hub between timm and us: models that timm has pushed, by name, and later ours in their place."""

    hub: LoopbackHub
    folder: Path
    names: list[str]

    def timm(self, action: str) -> None:
        environment = self.hub.environment() | {"HF_HOME": str(self.folder / action)}
        run_python("-m", "tests.hub.timm_client", action, str(self.folder), *self.names, **environment)

    def create_model(self, name: str, **changes: Any) -> Encoder:
        access = {"endpoint": self.hub.endpoint, "token": self.hub.token, "cache_dir": self.folder / "cache"}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*not for commercial use", WeightsWarning)  # DINOv3's
            return hv.create_model(f"hf-hub:me/{name}", **access, **changes)


@pytest.fixture(
    scope="module", params=[pytest.param(SMALL, id="small"), pytest.param(LARGE, id="large", marks=pytest.mark.slow)]
)
def exchange(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    """With what timm has pushed."""
    folder = tmp_path_factory.mktemp("exchange")
    with LoopbackHub(folder / "hub") as hub:
        exchange = Exchange(hub, folder, list(request.param))
        exchange.timm("push")
        yield exchange


@pytest.fixture(scope="module")
def ours(exchange: Exchange) -> dict[str, Encoder]:
    """Our models: timm's with other weights, classes, sizes and channels, pushed, and pulled by timm."""
    models: dict[str, Encoder] = {}
    for index, name in enumerate(exchange.names):
        case = CASES[name]
        model = exchange.create_model(name, num_classes=6, in_chans=4 - case.channels, img_size=case.later)
        perturb(model, seed=1, batch_norm_gain=1.5)
        model.labels = LABELS
        model.preprocess = Preprocess(
            input_size=case.later,
            interpolation="bilinear",
            crop_pct=0.8,
            crop_mode=CROP_MODES[index % len(CROP_MODES)],
            mean=(0.3, 0.4, 0.5)[: model.spec.in_chans],
            std=(0.1, 0.2, 0.3)[: model.spec.in_chans],
        )
        hv.push_to_hub(model, f"me/{name}", endpoint=exchange.hub.endpoint, token=exchange.hub.token)
        torch.save(batch_of(model), exchange.folder / f"{name}.batch.pt")
        models[name] = model
    exchange.timm("pull")
    return models


def batch_of(model: Encoder) -> Tensor:
    from tests.parity import images

    return images(*model.spec.img_size, model.spec.in_chans)


def differences(model: Encoder, batch: Tensor, theirs: dict[str, Any]) -> list[str]:
    """What is not the same here: logits in double precision, and what a photo becomes."""
    found: list[str] = []
    distance = error(logits(model.double(), batch.double()), theirs["logits"])
    model.float()
    if not distance < TOLERANCE:
        found.append(f"logits differ by {distance:.1e} of their spread")
    pixels = hv.transforms(model)(photo(model.spec.in_chans))
    if pixels.shape != theirs["pixels"].shape:
        found.append(f"images become {tuple(pixels.shape)}, not {tuple(theirs['pixels'].shape)}")
    elif not (pixels - theirs["pixels"]).abs().max() < ROUNDING:
        found.append(f"pixels differ by {(pixels - theirs['pixels']).abs().max():.1e}")
    return found


def test_what_timm_pushes_is_the_same_here(exchange: Exchange) -> None:
    wrong: dict[str, Any] = {}
    for name in exchange.names:
        theirs, model = torch.load(exchange.folder / f"{name}.pt"), exchange.create_model(name)
        found = differences(model, theirs["batch"], theirs)
        if model.labels != ("ant", "honey bee", "cow", "doe"):
            found.append(f"labels are {model.labels}")
        if found:
            wrong[name] = found
    assert not wrong


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_what_we_push_is_the_same_there(library: str, exchange: Exchange, ours: dict[str, Encoder]) -> None:
    wrong: dict[str, Any] = {}
    for name, model in ours.items():
        theirs = torch.load(exchange.folder / f"{name}.pulled.pt")[library]
        found = differences(model, batch_of(model), theirs)
        if tuple(theirs["labels"]) != LABELS:
            found.append(f"labels are {theirs['labels']}")
        if "scores" in theirs:
            expected = {each.label: each.probability for each in hv.predict(model, photo(), topk=6)[0]}
            if any(abs(expected[label] - score) > 1e-4 for label, score in theirs["scores"]):
                found.append(f"scores are {theirs['scores']}, not {expected}")
        if found:
            wrong[name] = found
    assert not wrong
