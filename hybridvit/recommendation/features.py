"""Features of a sample's images by a model, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import __version__
from ..transfer.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ..transfer.features import embeddings
from ..transfer.loader import EvalBatches
from ..transfer.transforms import preprocess_of

if TYPE_CHECKING:
    from ..encoder import Encoder
    from ..transfer.data import ImageSet
    from ..transfer.progress import Progress

FORMAT = 1
FOLDER = "features"
_BATCH = 64
_FEATURES = "features"


def features_of(
    model: Encoder,
    images: ImageSet,
    device: torch.device,
    folder: Path | None,
    workers: int | None,
    progress: Progress,
    what: str,
) -> tuple[Tensor, bool]:
    """((N, D) float32 features on the CPU, whether they were in `folder`), where they are kept if there is one.

    What lies there is taken only if it is whole and of just these weights, this preprocessing and these images. Raises
    ValueError for features that are not finite, and what reading the weights or the images raises.
    """
    identity = _identity(model, images)
    path = None if folder is None else folder / f"{_digest(json.dumps(identity).encode())}.safetensors"
    kept = None if path is None else _read(path, identity, len(images))
    if kept is not None:
        return kept, True
    batches = EvalBatches(images, preprocess_of(model), _BATCH, device, workers=workers)
    dtype = next(model.parameters()).dtype
    pixels = (each.to(dtype) for each in progress.track(batches, f"features of {what}"))
    features = embeddings(model.to(device), pixels).cpu()
    if not features.isfinite().all():
        raise ValueError("its features are not finite: the weights are damaged, or are not this model's")
    if path is not None:
        save_checkpoint(path, {_FEATURES: features}, identity | {"content": _content(features)})
    return features, False


def _identity(model: Encoder, images: ImageSet) -> dict[str, Any]:
    """What features depend on, as JSON data: no path and no name, so that a model that is moved keeps them."""
    assert model.resolved is not None
    return {
        "format": FORMAT,
        "hybridvit": __version__,
        "spec": _digest(json.dumps(model.spec.to_dict()).encode()),
        "weights": sorted(file.sha256 for file in model.resolved.files),
        "preprocess": preprocess_of(model).to_dict(),
        "images": _digest(b"".join(images.digests)),
    }


def _read(path: Path, identity: dict[str, Any], count: int) -> Tensor | None:
    """The features of a file; None unless it is whole and of this identity."""
    try:
        tensors, state = load_checkpoint(path)
    except CheckpointError:  # not there, torn, or of something else
        return None
    features = tensors.get(_FEATURES)
    if features is None or features.ndim != 2 or len(features) != count or not isinstance(state, dict):
        return None
    return features if state == identity | {"content": _content(features)} else None


def _content(features: Tensor) -> str:
    return _digest(features.contiguous().numpy().tobytes())


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
