"""Arithmetic of batches: shift, flip, normalisation, erasing."""

import pytest
import torch

from hybridvit.preprocess import Preprocess
from hybridvit.transfer.arithmetic import DRAWS, Augment, Erase, Normalise
from hybridvit.transfer.recipe import Recipe

SMALL = Preprocess(input_size=(32, 32))


def test_shift_and_flip_move_pixels_and_repeat_the_edge() -> None:
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    still = torch.full((1, DRAWS), 0.5)
    assert torch.equal(Augment(shift=True, flip=0.5)(images, still), images)
    flipped = still.clone()
    flipped[:, 2] = 0.0
    assert torch.equal(Augment(shift=True, flip=0.5)(images, flipped), images.flip(3))
    down = still.clone()
    down[:, 0] = 0.0
    moved = Augment(shift=True, flip=0.0)(images, down)
    assert torch.equal(moved[:, :, 1:], images[:, :, :-1])
    assert torch.equal(moved[:, :, 0], images[:, :, 0])


def test_shift_reaches_all_offsets_equally() -> None:
    images = torch.arange(8, dtype=torch.uint8).reshape(1, 1, 8, 1).expand(3000, 1, 8, 8)
    first_row = Augment(shift=True, flip=0.0)(images, torch.rand(3000, DRAWS))[:, 0, 4, 4]
    counts = torch.bincount(first_row.long(), minlength=8)
    assert counts.nonzero().flatten().tolist() == [3, 4, 5]
    assert counts[3:6].min() > 850


def test_augmented_batches_stay_channels_last() -> None:
    images = torch.zeros(4, 3, 16, 16, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    result = Normalise(SMALL)(Augment(shift=True, flip=0.5)(images, torch.rand(4, DRAWS)))
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_normalised_as_single_images_are(channels: int) -> None:
    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    normalise = Normalise(Preprocess(input_size=(5, 7), mean=mean, std=std))
    images = torch.randint(0, 256, (4, channels, 5, 7), dtype=torch.uint8)
    expected = torch.stack([normalise(image) for image in images])
    assert torch.equal(normalise(images), expected)
    assert torch.equal(normalise(images.contiguous(memory_format=torch.channels_last)), expected)


def test_erasing_happens_as_often_and_as_large_as_it_should() -> None:
    images = torch.ones(2000, 3, 32, 32)
    erased = Erase(Recipe(erasing=0.25))(images, torch.rand(2000, DRAWS)) == 0
    share = erased.float().mean(dim=(1, 2, 3))
    assert 0.21 < (share > 0).float().mean() < 0.29
    assert 0.1 < share[share > 0].mean() < 0.2
    assert share.max() < 0.4
    assert torch.equal(erased[:, 0], erased[:, 2])
