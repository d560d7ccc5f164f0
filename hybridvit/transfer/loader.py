"""Batches of an image set on the model's device, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .balance import sampling_probabilities
from .errors import TrainingError
from .transforms import DRAWS, Augment, Erase, EvalGeometry, Normalise, as_tensor, random_geometry, train_geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..preprocess import Preprocess
    from .data import ImageSet
    from .recipe import Recipe

EVAL_BATCH = 256  # images that are evaluated at a time
MEMORY_LIMIT = 1 << 30  # bytes of decoded pixels that an image set may keep
_MANY = 256  # images below which worker processes cost more than they save


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed that differs for different parts."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def default_workers(count: int) -> int:
    """Loader processes for that many images."""
    return min(8, os.cpu_count() or 1) if count > _MANY else 0


class TrainBatches:
    """The augmented batches of one epoch after another.

    Each global batch is dealt out to `world` processes; augmentation is drawn for an image, not for a process, so
    that a run on several processes sees the same images as a run on one.
    """

    def __init__(
        self,
        images: ImageSet,
        preprocess: Preprocess,
        recipe: Recipe,
        device: torch.device,
        *,
        workers: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.batch_size = min(recipe.batch_size, len(images))
        if self.batch_size % world:
            raise TrainingError(f"batch_size {self.batch_size} must be a multiple of the {world} processes")
        self.steps = len(images) // self.batch_size
        self.count, self.seed, self.rank, self.world, self.device = len(images), recipe.seed, rank, world, device
        self.labels = torch.from_numpy(images.labels)
        self.chances = sampling_probabilities(images.labels) if recipe.balance == "sampling" else None
        self.augment, self.normalise, self.erase = Augment.of(recipe), Normalise(preprocess), Erase(recipe)
        geometry = train_geometry(preprocess, recipe)
        keep = not random_geometry(recipe) and _fits_memory(images, preprocess)
        self.source = _source(images, preprocess, geometry, recipe.seed, keep, workers, device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """(images (B, C, H, W) float, labels (B,)) from batch number `start` on."""
        order = self._order(epoch)
        batches = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(start, self.steps)]
        mine = [batch[self.rank :: self.world] for batch in batches]
        for number, (indices, pixels) in enumerate(zip(mine, self.source(mine, epoch), strict=True), start=start):
            generator = torch.Generator().manual_seed(seed_of(self.seed, "augment", epoch, number))
            draws = torch.rand(self.batch_size, DRAWS, generator=generator)[self.rank :: self.world]
            labels = self.labels[torch.from_numpy(indices)]
            images = self.erase(self.normalise(self.augment(pixels, draws)), draws)
            yield images, labels.to(self.device, non_blocking=True)

    def _order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng(seed_of(self.seed, "order", epoch))
        if self.chances is None:
            return rng.permutation(self.count)
        return rng.choice(self.count, size=self.count, p=self.chances)


class EvalBatches:
    """All images once, in their order, as `predict` would see them. This process gets every `world`-th."""

    def __init__(
        self,
        images: ImageSet,
        preprocess: Preprocess,
        batch_size: int,
        device: torch.device,
        *,
        workers: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        per_process = -(-len(images) // world)
        mine = np.arange(rank, per_process * world, world) % len(images)  # padded, so that all have equally many
        self.batches = [mine[i : i + batch_size] for i in range(0, per_process, batch_size)]
        self.normalise = Normalise(preprocess)
        keep = _fits_memory(images, preprocess)
        self.source = _source(images, preprocess, EvalGeometry(preprocess), 0, keep, workers, device)

    def __iter__(self) -> Iterator[Tensor]:
        for pixels in self.source(self.batches, 0):
            yield self.normalise(pixels)


def _fits_memory(images: ImageSet, preprocess: Preprocess) -> bool:
    height, width = preprocess.input_size
    size = 1 if preprocess.channels in (1, 3) else 4  # bytes of a pixel: several bands are floats
    return len(images) * height * width * preprocess.channels * size <= MEMORY_LIMIT


def _source(
    images: ImageSet,
    preprocess: Preprocess,
    geometry: nn.Module,
    seed: int,
    keep: bool,
    workers: int | None,
    device: torch.device,
) -> Callable[[list[np.ndarray], int], Iterator[Tensor]]:
    """A function from batches of indices and an epoch to their pixels (B, C, H, W) on the device."""
    files = _Pixels(images, geometry, preprocess.channels, _side_needed(preprocess), seed)
    if keep:
        return _InMemory(files.all().to(device))
    return _FromFiles(files, default_workers(len(images)) if workers is None else workers, device)


def _side_needed(preprocess: Preprocess) -> int:
    return max(preprocess.resize_to)


class _Pixels(Dataset[Tensor]):
    """(epoch, index) -> pixels (C, H, W), of several bands as floats.

    What is random depends on the seed, the epoch and the index.
    """

    def __init__(self, images: ImageSet, geometry: nn.Module, channels: int, covers: int, seed: int) -> None:
        self.images, self.geometry, self.channels, self.covers, self.seed = images, geometry, channels, covers, seed

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        epoch, index = key
        image = self.images.image(index, self.channels, self.covers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(self.seed, "image", epoch, index))
            return as_tensor(self.geometry(image))

    def all(self) -> Tensor:
        """Every image, (N, C, H, W) in channels_last memory. Only for a geometry without chance."""

        def decode(index: int) -> Tensor:
            return as_tensor(self.geometry(self.images.image(index, self.channels, self.covers)))

        first = decode(0)
        pixels = torch.empty((len(self.images), *first.shape), dtype=first.dtype, memory_format=torch.channels_last)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for index, image in enumerate(pool.map(decode, range(len(self.images)))):
                pixels[index] = image
        return pixels


class _InMemory:
    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __call__(self, batches: list[np.ndarray], epoch: int) -> Iterator[Tensor]:
        for indices in batches:
            yield self.pixels[torch.from_numpy(indices).to(self.pixels.device)]


class _FromFiles:
    """Worker processes live as long as the run; the epoch reaches them with each index."""

    def __init__(self, files: _Pixels, workers: int, device: torch.device) -> None:
        self.device = device
        self.keys: list[list[tuple[int, int]]] = []
        self.loader = DataLoader(
            files,
            batch_sampler=self.keys,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # its own: the loader would draw from the global one
        )

    def __call__(self, batches: list[np.ndarray], epoch: int) -> Iterator[Tensor]:
        self.keys[:] = [[(epoch, index) for index in indices.tolist()] for indices in batches]
        loaded = iter(self.loader)
        for _ in batches:
            try:
                pixels = next(loaded)
            except (RuntimeError, OSError) as error:
                # A worker's error comes with its traceback; what happened is in the last line.
                raise TrainingError(f"reading the images failed: {str(error).strip().splitlines()[-1]}") from error
            yield pixels.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
