"""Batches of an image set on the model's device, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from . import pixel_sources
from .arithmetic import DRAWS, Augment, Erase, Normalise
from .balance import sampling_probabilities
from .errors import TrainingError
from .geometry import EvalGeometry, random_geometry, train_geometry
from .pixel_sources import FromFiles, InMemory, Pixels, default_workers
from .seeds import seed_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..preprocess import Preprocess
    from .data import ImageSet
    from .recipe import Recipe

EVAL_BATCH = 256  # images that are evaluated at a time


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
        self.source = _source(images, preprocess, geometry, recipe.seed, keep, workers, device, decoded=True)

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
    return len(images) * height * width * preprocess.channels * size <= pixel_sources.MEMORY_LIMIT


def _source(
    images: ImageSet,
    preprocess: Preprocess,
    geometry: nn.Module,
    seed: int,
    keep: bool,
    workers: int | None,
    device: torch.device,
    decoded: bool = False,
) -> Callable[[list[np.ndarray], int], Iterator[Tensor]]:
    """A function from batches of indices and an epoch to their pixels (B, C, H, W) on the device.

    keep: their pixels are the same in each epoch and fit into memory; decoded: those of the files may stay there.
    """
    files = Pixels(images, geometry, preprocess.channels, max(preprocess.resize_to), seed)
    if keep:
        return InMemory(files.all().to(device))
    workers = default_workers(len(images)) if workers is None else workers
    return FromFiles(files, workers, device, keep=decoded and images.root is not None)
