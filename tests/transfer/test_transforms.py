"""Geometry and arithmetic of the preprocessing, against timm's where it has the same."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.preprocess import Preprocess
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.transforms import (
    DRAWS,
    Augment,
    Erase,
    Normalise,
    PreprocessWarning,
    RandomResizedCrop,
    default_preprocess,
    transforms,
)

SMALL = Preprocess(input_size=(32, 32))


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR)


@pytest.mark.parametrize("size", [(100, 80), (31, 77), (224, 224), (20, 30)])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0])
@pytest.mark.parametrize("input_size", [(64, 64), (96, 64), (48, 64)])
def test_evaluation_equals_timm(
    input_size: tuple[int, int], size: tuple[int, int], crop_mode: str, crop_pct: float
) -> None:
    from timm.data.transforms_factory import create_transform

    mine = transforms(Preprocess(input_size=input_size, crop_mode=crop_mode, crop_pct=crop_pct))
    theirs = create_transform((3, *input_size), interpolation="bicubic", crop_pct=crop_pct, crop_mode=crop_mode)
    image = photo(*size)
    torch.testing.assert_close(mine(image), theirs(image), rtol=0, atol=1e-6)  # pyright: ignore[reportCallIssue]


def test_border_keeps_the_whole_image_and_pads_with_the_mean() -> None:
    preprocess = Preprocess(input_size=(32, 32), crop_mode="border", crop_pct=1.0, mean=(0.5,) * 3, std=(0.5,) * 3)
    result = transforms(preprocess)(Image.new("RGB", (64, 32), "white"))
    assert torch.all(result[:, 8:24] == 1)
    assert result[:, :8].abs().max() < 0.01
    assert result[:, 24:].abs().max() < 0.01


@pytest.mark.parametrize("size", [(90, 40), (40, 90), (7, 500)])
def test_inputs_that_are_not_square(size: tuple[int, int]) -> None:
    assert transforms(Preprocess(input_size=(32, 48)))(photo(*size)).shape == (3, 32, 48)


def test_grey_weights_get_grey_images() -> None:
    grey = transforms(default_preprocess((28, 28), channels=1))
    assert grey(Image.new("RGBA", (28, 28), (0, 0, 0, 0))).unique().tolist() == [1.0]
    assert grey(Image.new("L", (28, 28), 0)).unique().tolist() == [-1.0]


@pytest.mark.parametrize("augment", ["flip", "gentle", "standard", "trivial", "rand"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_training_gives_the_same_shape_and_depends_on_the_seed(augment: str, mode: str) -> None:
    mean = (0.5,) if mode == "L" else (0.5,) * 3
    preprocess = Preprocess(input_size=(32, 32), mean=mean, std=mean)
    transform = transforms(preprocess, train=True, recipe=Recipe(augment=augment, erasing=0.5))
    image = photo(60, 50)

    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return transform(image)

    assert drawn(0).shape == (len(mean), 32, 32)
    assert torch.equal(drawn(0), drawn(0))
    assert any(not torch.equal(drawn(0), drawn(seed)) for seed in range(1, 10))


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


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_random_part_is_resized_as_pillow_does(mode: str, interpolation: str) -> None:
    image = photo(90, 70).convert(mode)
    torch.manual_seed(3)
    top, left, height, width = v1.RandomResizedCrop.get_params(image, [0.3, 1.0], [3 / 4, 4 / 3])  # pyright: ignore[reportArgumentType]
    torch.manual_seed(3)
    found = RandomResizedCrop((32, 48), 0.3, interpolation)(image)
    part = image.crop((left, top, left + width, top + height))
    expected = part.resize((48, 32), Image.Resampling[interpolation.upper()])
    assert (found.size, found.mode) == (expected.size, mode)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(expected).astype(int)).max() <= 1


def test_erasing_happens_as_often_and_as_large_as_it_should() -> None:
    images = torch.ones(2000, 3, 32, 32)
    erased = Erase(Recipe(erasing=0.25))(images, torch.rand(2000, DRAWS)) == 0
    share = erased.float().mean(dim=(1, 2, 3))
    assert 0.21 < (share > 0).float().mean() < 0.29
    assert 0.1 < share[share > 0].mean() < 0.2
    assert share.max() < 0.4
    assert torch.equal(erased[:, 0], erased[:, 2])


def test_preprocess_survives_json_and_names_mistakes() -> None:
    import json

    given = Preprocess(input_size=(28, 28), mean=(0.1,), std=(0.2,), crop_mode="squash")
    assert Preprocess.from_dict(json.loads(json.dumps(given.to_dict()))) == given
    with pytest.raises(ValueError, match=r"no field 'crop_pc'. Did you mean 'crop_pct'"):
        Preprocess.from_dict({"crop_pc": 1.0})
    for wrong in (
        {"crop_pct": 0},
        {"interpolation": "cubic"},
        {"crop_mode": "middle"},
        {"std": (0.1,)},
        {"input_size": (0, 4)},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Preprocess.from_dict(wrong)


# A transform that belongs to other weights


def other(**changes: Any) -> Preprocess:
    return Preprocess(**{"input_size": (32, 32), "mean": (0.5,) * 3, "std": (0.25,) * 3} | changes)


def fed(model: Encoder, transform: Any) -> list[str]:
    """The warnings of a prediction with a transform."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hv.predict(model, Image.new("RGB", (40, 40)), transform=transform)
    assert all(each.category is PreprocessWarning for each in caught)
    return [str(each.message) for each in caught]


def test_a_transform_of_other_weights_is_warned_of_with_both_values() -> None:
    model = hv.create_model("cct_2_3x2_32")
    model.preprocess = other()
    assert fed(model, hv.transforms(model)) == []
    assert fed(model, hv.transforms(other())) == []
    (message,) = fed(model, hv.transforms(other(mean=(0.1, 0.2, 0.3), input_size=(48, 32), interpolation="nearest")))
    assert message == (
        "the transform prepares images otherwise than the weights expect: mean (0.1, 0.2, 0.3), "
        "std (0.25, 0.25, 0.25), size 48x32, interpolation nearest; "
        "the weights: mean (0.5, 0.5, 0.5), std (0.25, 0.25, 0.25), size 32x32, "
        "interpolation bicubic. hv.transforms(model) makes one that fits"
    )
    for changes in ({"std": (0.5,) * 3}, {"interpolation": "bilinear"}, {"input_size": (64, 64)}):
        assert len(fed(model, hv.transforms(other(**changes)))) == 1
    model.preprocess = None
    assert fed(model, hv.transforms(other())) == []


def test_transforms_of_torchvision_and_timm_are_looked_into() -> None:
    from timm.data.transforms_factory import create_transform

    model = hv.create_model("cct_2_3x2_32")
    model.preprocess = other()
    std = (0.25,) * 3
    assert fed(model, create_transform(32, interpolation="bicubic", mean=(0.5,) * 3, std=std)) == []
    (message,) = fed(model, create_transform(32, interpolation="bicubic", mean=(0.4,) * 3, std=std))
    assert "expect: mean (0.4, 0.4, 0.4), std (0.25, 0.25, 0.25), size 32x32, interpolation bicubic; the" in message
    steps = [v2.Resize(36), v2.CenterCrop(32), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    (message,) = fed(model, v2.Compose([*steps, v2.Normalize([0.5] * 3, [0.5] * 3)]))
    assert "std (0.5, 0.5, 0.5), size 32x32, interpolation bilinear; the weights" in message
    assert fed(model, lambda image: torch.zeros(3, 32, 32)) == []


def test_evaluation_takes_a_transform_of_ours_and_warns(tmp_path: Path) -> None:
    for name, level in (("dark", 0), ("light", 255)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32), (level,) * 3).save(tmp_path / name / "1.png")
    model = hv.create_model("cct_2_3x2_32", num_classes=2)
    model.preprocess = other()
    plain = hv.evaluate(model, tmp_path, workers=0)
    with pytest.warns(PreprocessWarning, match=r"mean \(0\.1, 0\.1, 0\.1\)"):
        changed = hv.evaluate(model, tmp_path, transform=hv.transforms(other(mean=(0.1,) * 3)), workers=0)
    assert changed.loss != plain.loss
    for unfit in (lambda image: image, hv.transforms(other(), train=True)):
        with pytest.raises(ValueError, match=r"transform must be what hv\.transforms"):
            hv.evaluate(model, tmp_path, transform=unfit)  # pyright: ignore[reportArgumentType]
