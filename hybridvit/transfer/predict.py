"""Labels and probabilities for images, files or tensors."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from .classifiers import load_classifier
from .device import torch_device
from .images import BadImage, load_pixels
from .inputs import listed_images
from .transforms import Transform, preprocess_of, transforms, warn_of_mismatch
from .tta import Views, averaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from ..encoder import Encoder

ImageLike = str | Path | Image.Image | Tensor


@dataclass(frozen=True)
class Prediction:
    """A label and its probability: by softmax, or by sigmoid for a model whose images have any number of labels."""

    label: str
    probability: float


def predict(
    model: str | Path | Encoder,
    images: ImageLike | Sequence[ImageLike],
    topk: int = 5,
    *,
    threshold: float | None = None,
    transform: Callable[..., Tensor] | None = None,
    tta: Views = "none",
    batch_size: int = 32,
    device: str | None = None,
) -> list[list[Prediction]]:
    """The `topk` most likely labels of each image, most likely first.

    Args:
        model: a model, a saved directory, or a name with pretrained weights.
        images: one or several files, Pillow images, or tensors that are already preprocessed: (C, H, W), or a batch.
        topk: labels an image, fewer if there are fewer classes.
        threshold: probability below which a label is left out; by default 0.5 for a model whose images have any number
            of labels, and 0 for others.
        transform: Pillow image -> tensor (C, H, W), instead of `hv.transforms(model)`. A PreprocessWarning tells where
            it is known to differ from what the weights expect.
        tta: average over views of each image: "flip", its mirror image too, or "crops", both and five crops of each.
        batch_size: images that go through the model at a time.
        device: where to run; by default where the model is.

    Returns:
        A list an image, which may be empty where there is a threshold. A class without a name is called by its number.

    Raises:
        BadImage: for a file that cannot be decoded.
        DataError: for a model without a classifier.
    """
    loaded = load_classifier(model)
    parameter = next(loaded.parameters())
    target = torch_device(device) if device else parameter.device
    listed = [images] if isinstance(images, (str, Path, Image.Image)) else list(images)
    if isinstance(images, Tensor):
        listed = list(images if images.ndim == 4 else images[None])
    if threshold is None:
        threshold = 0.5 if loaded.multi_label else 0.0
    prepare, preprocess = transform or transforms(loaded), preprocess_of(loaded)
    if transform is not None:
        warn_of_mismatch(loaded, transform)

    def ready(image: ImageLike) -> Tensor:
        if isinstance(image, Tensor):
            return image
        if isinstance(image, (str, Path)):
            covers = 0 if transform else max(preprocess.resize_to)
            image = load_pixels(image, preprocess.channels, covers=covers)
        return prepare(image)

    results: list[list[Prediction]] = []
    answer, was_training = averaged(loaded, tta, loaded.multi_label), loaded.training
    loaded.to(target).eval()
    with torch.inference_mode():
        for start in range(0, len(listed), batch_size):
            batch = torch.stack([ready(image) for image in listed[start : start + batch_size]])
            logits = answer(batch.to(target, parameter.dtype)).float()
            probabilities = (logits.sigmoid() if loaded.multi_label else logits.softmax(dim=1)).cpu()
            results += [_best(row, loaded.labels, topk, threshold) for row in probabilities]
    loaded.train(was_training)
    return results


def _best(probabilities: Tensor, labels: tuple[str, ...] | None, topk: int, threshold: float) -> list[Prediction]:
    values, indices = probabilities.topk(min(topk, len(probabilities)))
    return [
        Prediction(labels[index] if labels else str(index), value)
        for value, index in zip(values.tolist(), indices.tolist(), strict=True)
        if value >= threshold
    ]


def predict_files(
    model: str | Path | Encoder,
    given: Iterable[str | Path],
    topk: int = 5,
    *,
    threshold: float | None = None,
    tta: Views = "none",
    batch_size: int = 32,
    device: str | None = None,
    standard_input: BinaryIO | None = None,
) -> Iterator[tuple[Path, list[Prediction] | BadImage]]:
    """`predict` for what `listed_images` takes, one result a file; a file that cannot be decoded stops nothing."""
    loaded = load_classifier(model)
    transform = transforms(loaded)
    files = listed_images(given, standard_input)
    while batch := list(islice(files, batch_size)):
        prepared = [file if isinstance(file, BadImage) else _prepared(file, transform) for file in batch]
        images = [image for image in prepared if not isinstance(image, BadImage)]
        results = iter(predict(loaded, images, topk, threshold=threshold, tta=tta, device=device))
        for file, image in zip(batch, prepared, strict=True):
            path = file.path if isinstance(file, BadImage) else file
            yield path, image if isinstance(image, BadImage) else next(results)


def _prepared(path: Path, transform: Transform) -> Tensor | BadImage:
    preprocess = transform.preprocess
    try:
        return transform(load_pixels(path, preprocess.channels, covers=max(preprocess.resize_to)))
    except BadImage as error:
        return error
