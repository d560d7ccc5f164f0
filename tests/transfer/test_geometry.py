"""Geometry of the preprocessing, against timm's where it has the same."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as v1

from hybridvit.preprocess import Preprocess
from hybridvit.transfer.geometry import RandomResizedCrop
from hybridvit.transfer.transforms import transforms
from tests.transfer.samples import photo


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
