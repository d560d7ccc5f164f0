"""The same images in the same order, whatever the number of processes, workers and interruptions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hybridvit.preprocess import Preprocess
from hybridvit.transfer import pixel_sources
from hybridvit.transfer.data import ImageSet, load_data
from hybridvit.transfer.errors import TrainingError
from hybridvit.transfer.images import load_image
from hybridvit.transfer.loader import EvalBatches, TrainBatches
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.transforms import transforms

CPU = torch.device("cpu")
SMALL = Preprocess(input_size=(16, 16))


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(13):
            pixels = rng.integers(0, 256, (rng.integers(15, 40), rng.integers(15, 40), 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.{'jpg' if i % 2 else 'png'}")
    return load_data(tmp_path).train


def train_batches(images: ImageSet, recipe: Recipe, **options: int) -> TrainBatches:
    return TrainBatches(images, SMALL, recipe, CPU, **options)


def collected(batches: TrainBatches, epoch: int, start: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(batches.epoch(epoch, start))


@pytest.mark.parametrize("augment", ["none", "gentle", "standard", "trivial"])
def test_an_epoch_is_a_function_of_seed_and_number(images: ImageSet, augment: str) -> None:
    recipe = Recipe(batch_size=4, augment=augment, erasing=0.3, seed=3)
    first = collected(train_batches(images, recipe), epoch=2)
    torch.manual_seed(99)
    again = train_batches(images, recipe)
    collected(again, epoch=1)
    rest = collected(again, epoch=2, start=3)
    for (pixels, labels), (expected, expected_labels) in zip(rest, first[3:], strict=True):
        assert torch.equal(pixels, expected)
        assert torch.equal(labels, expected_labels)
    other_seed = collected(train_batches(images, recipe.replace(seed=4)), epoch=2)
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, other_seed, strict=True))


@pytest.mark.parametrize("augment", ["gentle", "standard"])
def test_two_processes_share_the_batches_of_one(images: ImageSet, augment: str) -> None:
    recipe = Recipe(batch_size=4, augment=augment, erasing=0.3)
    whole = collected(train_batches(images, recipe), epoch=0)
    halves = [collected(train_batches(images, recipe, rank=rank, world=2), epoch=0) for rank in range(2)]
    for (pixels, labels), *shares in zip(whole, *halves, strict=True):
        for rank, (part, part_labels) in enumerate(shares):
            assert torch.equal(part, pixels[rank::2])
            assert torch.equal(part_labels, labels[rank::2])
    with pytest.raises(TrainingError, match="multiple of the 3 processes"):
        train_batches(images, recipe, world=3)


def test_worker_processes_change_nothing(images: ImageSet) -> None:
    recipe = Recipe(batch_size=4, augment="trivial")
    alone = train_batches(images, recipe, workers=0)
    helped = train_batches(images, recipe, workers=2)
    for epoch in range(2):
        for (pixels, _), (expected, _) in zip(collected(helped, epoch), collected(alone, epoch), strict=True):
            assert torch.equal(pixels, expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_files_are_decoded_once_as_far_as_memory_goes(
    images: ImageSet, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same pixels as without memory for any."""
    read: list[int] = []
    real = ImageSet.image

    def noted(self: ImageSet, index: int, *arguments: int) -> Image.Image | torch.Tensor:
        read.append(index)
        return real(self, index, *arguments)

    monkeypatch.setattr(ImageSet, "image", noted)
    monkeypatch.setattr(pixel_sources, "_AT_A_TIME", 4)
    recipe = Recipe(batch_size=4, augment="standard")

    def epochs(limit: int, workers: int) -> tuple[list[torch.Tensor], list[int]]:
        monkeypatch.setattr(pixel_sources, "MEMORY_LIMIT", limit)
        read.clear()
        batches = train_batches(images, recipe, workers=workers)
        return [pixels for epoch in range(3) for pixels, _ in collected(batches, epoch)], list(read)

    expected, each_time = epochs(0, 0)
    assert len(each_time) > 2 * len(images)
    pixels, once = epochs(1 << 30, workers)
    assert sorted(once) == list(range(len(images)))
    some_pixels, often = epochs(20_000, 0)
    assert len(once) < len(often) < len(each_time)
    for one, other, some in zip(expected, pixels, some_pixels, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, some)


def test_every_image_is_seen_once_an_epoch(images: ImageSet) -> None:
    seen = torch.cat(
        [labels for _, labels in collected(train_batches(images, Recipe(batch_size=5, augment="none")), 0)]
    )
    assert len(seen) == len(images) // 5 * 5
    assert np.bincount(seen.numpy()).min() >= 8


@pytest.mark.parametrize("in_memory", [True, False])
def test_evaluation_sees_what_predict_sees(images: ImageSet, in_memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not in_memory:
        monkeypatch.setattr(pixel_sources, "MEMORY_LIMIT", 0)
    pixels = torch.cat(list(EvalBatches(images, SMALL, 6, CPU)))
    assert images.root is not None
    covers = max(SMALL.resize_to)
    for number, name in enumerate(images.names):
        assert torch.equal(pixels[number], transforms(SMALL)(load_image(images.root / name, 3, covers=covers)))


def test_processes_get_equally_many_images_to_evaluate(images: ImageSet) -> None:
    odd = images.subset(range(7))
    whole = torch.cat(list(EvalBatches(odd, SMALL, 3, CPU)))
    shares = [torch.cat(list(EvalBatches(odd, SMALL, 3, CPU, rank=rank, world=2))) for rank in range(2)]
    assert [len(share) for share in shares] == [4, 4]
    assert torch.equal(torch.stack(shares, dim=1).flatten(0, 1)[:7], whole)


def test_a_file_that_vanishes_is_named(images: ImageSet) -> None:
    assert images.root is not None
    batches = train_batches(images, Recipe(batch_size=4, augment="standard"), workers=0)
    (images.root / images.names[0]).unlink()
    with pytest.raises((TrainingError, ValueError), match=images.names[0]):
        collected(batches, epoch=0)
