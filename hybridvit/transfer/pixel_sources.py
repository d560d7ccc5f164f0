"""Pixels of an image set, batch by batch: from memory, or from files by worker processes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .errors import TrainingError
from .interrupt import find_deaths_at_the_next_batch
from .seeds import seed_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import Image

    from .data import ImageSet

MEMORY_LIMIT = 1 << 30  # bytes of decoded pixels that an image set may keep
_MANY = 256  # images below which worker processes cost more than they save
_AT_A_TIME = 32  # images that are decoded before anybody looks how much memory they take

Key = tuple[int, int]  # (epoch, index)


def default_workers(count: int) -> int:
    """Loader processes for that many images."""
    return min(8, os.cpu_count() or 1) if count > _MANY else 0


class Pixels(Dataset[Tensor]):
    """(epoch, index) -> pixels. What is random depends on the seed, the epoch and the index alone."""

    def __init__(self, images: ImageSet, geometry: nn.Module, channels: int, covers: int, seed: int) -> None:
        self.images, self.geometry, self.channels, self.covers, self.seed = images, geometry, channels, covers, seed
        self.decoded: list[Image.Image | Tensor] = []

    def __getitems__(self, keys: Sequence[Key]) -> Tensor:
        """(B, H, W, C)."""
        with torch.random.fork_rng(devices=[]):
            return torch.from_numpy(np.stack([self.augmented(*key) for key in keys]))

    def augmented(self, epoch: int, index: int) -> np.ndarray:
        """(H, W, C)."""
        # `torch.manual_seed` would see to every device, which takes longer than to augment.
        torch.default_generator.manual_seed(seed_of(self.seed, "image", epoch, index))
        return self._array(self.decoded[index] if index < len(self.decoded) else self._decode(index))

    def decode(self) -> None:
        """Keep the first images decoded, as many as memory is meant for: decoding is most of the work."""
        room = MEMORY_LIMIT
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(self.images), _AT_A_TIME):  # `map` begins with all that it is given
                for image in pool.map(self._decode, range(start, min(start + _AT_A_TIME, len(self.images)))):
                    room -= _bytes_of(image)
                    if room < 0:
                        return
                    self.decoded.append(image)

    def all(self) -> Tensor:
        """Every image, (N, C, H, W) in channels_last memory. Only for a geometry without chance."""

        def made(index: int) -> np.ndarray:
            return self._array(self._decode(index))

        first = made(0)
        pixels = np.empty((len(self.images), *first.shape), dtype=first.dtype)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for index, image in enumerate(pool.map(made, range(len(self.images)))):
                pixels[index] = image
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def _decode(self, index: int) -> Image.Image | Tensor:
        return self.images.image(index, self.channels, self.covers)

    def _array(self, image: Image.Image | Tensor) -> np.ndarray:
        seen = self.geometry(image)
        pixels = seen.permute(1, 2, 0).numpy() if isinstance(seen, Tensor) else np.asarray(seen)
        return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _bytes_of(image: Image.Image | Tensor) -> int:
    if isinstance(image, Tensor):
        return image.nbytes
    return image.width * image.height * (4 if image.mode == "RGB" else 1)  # as Pillow holds them


class InMemory:
    """Batches of indices, and the epoch -> pixels (B, C, H, W), from a tensor of all of them."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __call__(self, batches: list[np.ndarray], epoch: int) -> Iterator[Tensor]:
        for indices in batches:
            yield self.pixels[torch.from_numpy(indices).to(self.pixels.device)]


class FromFiles:
    """The same from files. Worker processes live as long as the run; the epoch reaches them with each index."""

    def __init__(self, files: Pixels, workers: int, device: torch.device, keep: bool) -> None:
        self.files, self.device = files, device
        # Only processes that are forked have what is in memory without a copy.
        self.keep = keep and (not workers or torch.multiprocessing.get_start_method() == "fork")
        self.keys: list[list[Key]] = []
        self.loader = DataLoader(
            files,
            batch_sampler=self.keys,
            num_workers=workers,
            collate_fn=_as_it_is,  # pyright: ignore[reportArgumentType]
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # its own: the loader would draw from the global one
        )

    def __call__(self, batches: list[np.ndarray], epoch: int) -> Iterator[Tensor]:
        if self.keep:
            self.files.decode()
            self.keep = False
        self.keys[:] = [[(epoch, index) for index in indices.tolist()] for indices in batches]
        loaded = iter(self.loader)
        find_deaths_at_the_next_batch()
        for _ in batches:
            try:
                pixels = next(loaded)
            except (RuntimeError, OSError, EOFError) as error:
                raise TrainingError(f"reading the images failed: {_reason(error)}") from error
            # (B, H, W, C) is the channels_last memory of the map.
            yield pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)


def _as_it_is(batch: Tensor) -> Tensor:
    return batch


def _reason(error: Exception) -> str:
    """What happened in a loader's process: the last line, behind its traceback."""
    last = (str(error).strip() or type(error).__name__).splitlines()[-1]
    if "DataLoader worker" not in last and not isinstance(error, ConnectionError | EOFError):
        return last
    return (
        f"{last.rstrip(' .')}. A process that reads images crashed or was killed, often for lack of memory; take fewer "
        "(workers=N, --workers N)"
    )
