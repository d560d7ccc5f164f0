"""Models for the tests of saving and loading: small, with weights that tell images apart, and with all their facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.hub import LoopbackHub
from hybridvit.preprocess import Preprocess
from tests.parity import perturb

TINY = "cct_2_3x2_32"
LABELS = ("bear", "cat", "dog", "eel", "fox")


def tiny(seed: int = 0) -> Encoder:
    """A model in our own layout with everything that travels with weights."""
    return described(TINY, seed, num_classes=5, img_size=(24, 32))


def described(name: str, seed: int = 0, **changes: Any) -> Encoder:
    """A model of the zoo with drawn weights, labels if it has five classes, preprocessing and an origin."""
    model = hv.create_model(name, **changes).eval()
    perturb(model, seed, batch_norm_gain=1.5)
    channels = model.spec.in_chans
    model.labels = LABELS if model.spec.num_classes == len(LABELS) else None
    model.preprocess = Preprocess(
        input_size=model.spec.img_size,
        interpolation="bilinear",
        crop_pct=0.75,
        mean=(0.3, 0.4, 0.5)[:channels],
        std=(0.1, 0.2, 0.3)[:channels],
    )
    model.origin = {"architecture": name, "licence": "mit", "finetuned_from": "nothing"}
    return model


def facts(model: Encoder) -> tuple[Any, ...]:
    return model.spec, model.labels, model.preprocess, model.origin


def logits(model: torch.nn.Module, batch: Tensor) -> Tensor:
    with torch.no_grad():
        return model(batch)


def client(hub: LoopbackHub, cache: Path) -> dict[str, Any]:
    """How create_model reaches a test's Hub, with a cache of the test's own."""
    return {"endpoint": hub.endpoint, "token": hub.token, "cache_dir": cache}
