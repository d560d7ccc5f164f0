"""JPEG files of the size that photographs have, made from the emoji in `zoo/samples`: the same on every machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

EMOJI = Path(__file__).parent.parent / "zoo" / "samples" / "emoji"
_QUALITY = 90


def scene(drawing: Path, rng: np.random.Generator) -> Image.Image:
    """About 500 x 375 pixels: a drawing somewhere on coarse and fine noise, whose detail a JPEG has to keep."""
    width, height = int(rng.integers(460, 540)), int(rng.integers(345, 405))
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height), 3)
    noise = rng.normal(0, 12, (height, width, 1))
    scene = Image.fromarray(np.clip(np.asarray(coarse) * 0.7 + 40 + noise, 0, 255).astype(np.uint8))
    side = int(rng.integers(180, 320))
    with Image.open(drawing) as file:
        emoji = file.convert("RGBA").resize((side, side), Image.Resampling.BICUBIC)
    scene.paste(emoji, (int(rng.integers(0, width - side)), int(rng.integers(0, height - side))), emoji)
    return scene


def make_images(folder: Path, train: int, val: int) -> None:
    """`train/` and `val/` with one folder a class, about that many images in each."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        classes = sorted(path for path in (EMOJI / split).iterdir() if path.is_dir())
        for each in classes:
            drawings = sorted(each.glob("*.png"))
            place = folder / split / each.name
            place.mkdir(parents=True)
            for number in range(count // len(classes)):
                scene(drawings[number % len(drawings)], rng).save(place / f"{number}.jpg", quality=_QUALITY)
