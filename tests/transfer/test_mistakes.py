"""Which mistakes are shown: the most confident, a dozen, and the image as the model gets it."""

from __future__ import annotations

import io
from base64 import b64decode
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from hybridvit.preprocess import Preprocess
from hybridvit.transfer.data import ImageSet
from hybridvit.transfer.explain import looked_at
from hybridvit.transfer.metrics import score
from hybridvit.transfer.mistakes import mistakes
from tests.transfer.data.memory import image_set
from tests.transfer.samples import tiny

CLASSES = ("a", "b", "c")


def images(count: int) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 20, 30), dtype=np.uint8)
    return image_set(pixels, np.zeros(count, dtype=np.int64))


def test_the_most_confident_come_first_and_the_right_ones_not_at_all() -> None:
    logits = torch.zeros(5, 3)
    logits[:, 0] = torch.tensor([9.0, 0.0, 0.0, 0.0, 9.0])
    logits[:, 2] = torch.tensor([0.0, 1.0, 3.0, 2.0, 0.0])
    found = mistakes(tiny().eval(), score(logits, torch.zeros(5, dtype=torch.long), CLASSES), images(5))
    assert [(each.name, each.said, each.truth) for each in found] == [
        *(("2.png", "c", "a"), ("3.png", "c", "a"), ("1.png", "c", "a")),
    ]
    assert [each.probability for each in found] == sorted((each.probability for each in found), reverse=True)


def test_there_are_twelve_at_most() -> None:
    logits = torch.randn(20, 3) + torch.tensor([0.0, 9.0, 0.0])
    assert len(mistakes(tiny().eval(), score(logits, torch.zeros(20, dtype=torch.long), CLASSES), images(20))) == 12


def test_of_several_labels_those_that_an_image_has_not() -> None:
    evaluation = SimpleNamespace(
        classes=CLASSES,
        labels=torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        probabilities=torch.tensor([[0.9, 0.7, 0.1], [0.6, 0.4, 0.8]]),
    )
    found = mistakes(tiny().eval(), evaluation, images(2))  # pyright: ignore[reportArgumentType]
    assert [(each.name, each.said, each.truth) for each in found] == [
        *(("1.png", "c", "none of them"), ("0.png", "b", "a"), ("1.png", "a", "none of them")),
    ]


def test_bands_are_not_shown() -> None:
    model = tiny().eval()
    model.preprocess = Preprocess(input_size=(16, 16), mean=(0.5,) * 4, std=(0.5,) * 4)
    assert mistakes(model, score(torch.eye(3), torch.tensor([1, 2, 0]), CLASSES), images(3)) == []


def test_an_image_is_shown_as_the_model_gets_it() -> None:
    seen, looked = looked_at(tiny().eval(), Image.new("RGB", (90, 30), "red"))
    assert (seen.mode, seen.size) == ("L", (16, 16))
    assert (looked.mode, looked.size) == ("RGB", (16, 16))
    (found,) = mistakes(tiny().eval(), score(torch.eye(3)[:1], torch.tensor([1]), CLASSES), images(1))
    for uri in (found.image, found.looked):
        picture = Image.open(io.BytesIO(b64decode(uri.partition(",")[2])))
        assert (picture.format, picture.size) == ("JPEG", (224, 224))
