"""The most confident mistakes of a model, with where it looked when it made them."""

from __future__ import annotations

import io
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .explain import looked_at
from .metrics import Evaluation
from .transforms import preprocess_of

if TYPE_CHECKING:
    from PIL import Image

    from ..encoder import Encoder
    from .data import ImageSet
    from .multilabel import MultiLabelEvaluation

_SHOWN = 12
_SIDE = 224  # pixels of the pictures


class Mistake(NamedTuple):
    """image and looked are data URIs: the image as the model gets it, and where it saw what it names."""

    image: str
    looked: str
    name: str
    said: str
    truth: str
    probability: float


class _Wrong(NamedTuple):
    place: int
    said: int
    probability: float


def mistakes(model: Encoder, evaluation: Evaluation | MultiLabelEvaluation, images: ImageSet) -> list[Mistake]:
    """Twelve at most, the most confident first; none of images of other than one or three channels."""
    if preprocess_of(model).channels not in (1, 3):
        return []
    wrong = _wrong(evaluation) if isinstance(evaluation, Evaluation) else _wrongly_added(evaluation)
    return [_shown(model, evaluation, images, each) for each in wrong]


def _wrong(evaluation: Evaluation) -> list[_Wrong]:
    confidence, predictions = evaluation.confidence.numpy(), evaluation.predictions.numpy()
    wrong = np.flatnonzero(predictions != evaluation.labels.numpy())
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:_SHOWN]
    return [_Wrong(int(index), int(predictions[index]), float(confidence[index])) for index in order]


def _wrongly_added(evaluation: MultiLabelEvaluation) -> list[_Wrong]:
    """Labels above one half that an image has not."""
    chances = np.where(evaluation.labels.numpy() > 0.5, 0, evaluation.probabilities.numpy())
    order = np.argsort(-chances, axis=None, kind="stable")[:_SHOWN]
    places = zip(*np.unravel_index(order, chances.shape), strict=True)
    return [_Wrong(int(i), int(c), float(chances[i, c])) for i, c in places if chances[i, c] > 0.5]


def _shown(model: Encoder, evaluation: Evaluation | MultiLabelEvaluation, images: ImageSet, wrong: _Wrong) -> Mistake:
    preprocess = preprocess_of(model)
    image = images.image(wrong.place, preprocess.channels, covers=max(preprocess.resize_to))
    seen, looked = looked_at(model, image, wrong.said)
    return Mistake(
        image=_data_uri(seen),
        looked=_data_uri(looked),
        name=images.names[wrong.place],
        said=evaluation.classes[wrong.said],
        truth=_truth(evaluation, wrong.place),
        probability=wrong.probability,
    )


def _truth(evaluation: Evaluation | MultiLabelEvaluation, index: int) -> str:
    labels = evaluation.labels[index]
    if labels.ndim == 0:
        return evaluation.classes[int(labels)]
    return ", ".join(evaluation.classes[each] for each in labels.nonzero().flatten().tolist()) or "none of them"


def _data_uri(image: Image.Image) -> str:
    """A JPEG, of a small image one whose pixels can be seen."""
    from PIL.Image import Resampling

    scale = _SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    file = io.BytesIO()
    image.resize(size, Resampling.NEAREST if scale > 2 else Resampling.BICUBIC).save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
