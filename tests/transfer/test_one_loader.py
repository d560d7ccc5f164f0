"""One way from a file to a model's input: train, evaluate, predict and `hv.transforms` give equal tensors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.registry import model_spec
from hybridvit.transfer import pixel_sources, predict
from hybridvit.transfer.data import load_data
from hybridvit.transfer.images import load_image, load_pixels
from hybridvit.transfer.loader import EvalBatches, TrainBatches
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.transforms import preprocess_of

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 30), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (40, 30, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (40, 30), dtype=np.uint16)
Save = Callable[[Path], None]


def saved(image: Image.Image, name: str, **options: Any) -> tuple[str, Save]:
    return name, lambda folder: image.save(folder / name, **options)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def palette(**options: Any) -> tuple[str, Save]:
    return saved(Image.fromarray(COLOUR).quantize(8), f"palette-{len(options)}.png", **options)


KINDS: dict[str, tuple[str, Save]] = {
    "RGB": saved(Image.fromarray(COLOUR), "a.png"),
    "JPEG": saved(Image.fromarray(COLOUR).resize((300, 400)), "a.jpg"),
    "grey": saved(Image.fromarray(GREY), "a.png"),
    "1 bit": saved(Image.fromarray(GREY).convert("1"), "a.png"),
    "16 bits": saved(Image.fromarray(DEEP), "a.png"),
    "16 bits, TIFF": saved(Image.fromarray(DEEP), "a.tiff"),
    "32 bits": saved(Image.fromarray(DEEP.astype(np.int32)), "a.tiff"),
    "float": saved(Image.fromarray((GREY / 255).astype(np.float32)), "a.tiff"),
    "RGBA": saved(Image.fromarray(np.dstack([COLOUR, GREY])), "a.png"),
    "LA": saved(Image.fromarray(np.dstack([COLOUR, GREY])).convert("LA"), "a.png"),
    "palette": palette(),
    "palette, transparent": palette(transparency=0),
    "CMYK": saved(Image.fromarray(COLOUR).convert("CMYK"), "a.jpg"),
    "turned": saved(Image.fromarray(COLOUR), "a.jpg", exif=turned()),
    "animated": saved(
        Image.fromarray(GREY), "a.gif", save_all=True, append_images=[Image.fromarray(np.ascontiguousarray(GREY.T).T)]
    ),
    "bands": ("a.npy", lambda folder: np.save(folder / "a.npy", np.dstack([COLOUR, COLOUR]) / 300)),
}


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_all_see_the_same(kind: str, in_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channels = 6 if kind == "bands" else 3
    torch.manual_seed(0)
    model = model_spec("cct_2_3x2_32").replace(img_size=(24, 24), in_chans=channels, num_classes=2).build()
    if not in_memory:
        monkeypatch.setattr(pixel_sources, "MEMORY_LIMIT", 0)
    name, save = KINDS[kind]
    for number in range(2):
        for label in ("one", "two"):
            (tmp_path / label).mkdir(exist_ok=True)
            save(tmp_path / label)
            file = tmp_path / label / name
            target = file.with_stem(f"{label}-{number}")
            target.write_bytes(file.read_bytes() + f"{label}-{number}".encode() * (channels == 3))
            if channels == 6:
                np.save(target, np.dstack([COLOUR, COLOUR]) / 300 + 1e-9 * (number + 2 * (label == "two")))
            file.unlink()
    data = load_data(tmp_path)
    preprocess, path = preprocess_of(model), tmp_path / data.val.names[0]
    expected = hv.transforms(model)(load_pixels(path, channels, covers=max(preprocess.resize_to)))
    assert expected.std() > 0.05

    cpu = torch.device("cpu")
    assert torch.equal(next(iter(EvalBatches(data.val, preprocess, 4, cpu)))[0], expected)
    recipe = Recipe(augment="none", batch_size=1)
    trained = next(TrainBatches(data.val.subset([0]), preprocess, recipe, cpu, workers=0).epoch(0))[0][0]
    assert torch.equal(trained, expected)
    assert torch.equal(predicted(model, path, monkeypatch), expected)
    if channels == 3:
        upright = load_image(path)
        assert torch.equal(predicted(model, upright, monkeypatch), hv.transforms(model)(upright))
        with Image.open(path) as image:
            image.load()
        if kind not in ("JPEG", "turned"):  # what is decoded at a smaller scale, or turned on decoding
            assert torch.equal(predicted(model, image, monkeypatch), expected)


def predicted(model: Encoder, image: Path | Image.Image, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the model is given for an image."""
    given = []
    monkeypatch.setattr(model, "forward", lambda batch: given.append(batch) or torch.zeros(len(batch), 2))
    predict.predict(model, image)
    monkeypatch.undo()
    return given[0][0]
