"""Features are computed once, and nothing else is taken for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.recommendation.features import features_of
from hybridvit.transfer.checkpoint import load_checkpoint, save_checkpoint
from hybridvit.transfer.data import ImageSet, load_data
from hybridvit.transfer.progress import Progress
from tests.recommendation.examples import seeing, striped


class Counted:
    """Features of a model, and how many images went through it for them."""

    def __init__(self, name: str, images: ImageSet, folder: Path | None) -> None:
        model = hv.create_model(name, pretrained=True)
        self.seen = 0
        embed = model.embed

        def counting(pixels: torch.Tensor) -> torch.Tensor:
            self.seen += len(pixels)
            return embed(pixels)

        model.embed = counting  # pyright: ignore[reportAttributeAccessIssue]
        shown = Progress(shown=False)
        self.features, self.kept = features_of(model, images, torch.device("cpu"), folder, 0, shown, name)


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return load_data(striped(tmp_path / "data", 4)).train


def test_a_second_time_nothing_goes_through_the_model(images: ImageSet, tmp_path: Path) -> None:
    name, folder = seeing(tmp_path / "model"), tmp_path / "features"
    first = Counted(name, images, folder)
    assert (first.seen, first.kept) == (len(images), False)
    model: Encoder = hv.create_model(name)
    transform = hv.transforms(model)
    with torch.no_grad():
        expected = model.embed(transform(images.image(0, 1))[None])  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(first.features[:1], expected, atol=1e-5, rtol=1e-4)
    (tmp_path / "model").rename(tmp_path / "moved")
    again = Counted(f"local-dir:{tmp_path / 'moved'}", images, folder)
    assert (again.seen, again.kept) == (0, True)
    assert torch.equal(again.features, first.features)
    assert Counted(f"local-dir:{tmp_path / 'moved'}", images, None).seen == len(images)
    assert len(list(folder.iterdir())) == 1


def test_other_weights_images_or_sizes_have_features_of_their_own(images: ImageSet, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    name = seeing(tmp_path / "model")
    Counted(name, images, folder)
    assert Counted(name, images.subset(range(3)), folder).seen == 3
    assert Counted(name, images, folder).seen == 0
    other = hv.create_model(name)
    with torch.no_grad():
        next(other.parameters()).mul_(1.5)
    hv.save_pretrained(other, tmp_path / "model")
    assert Counted(name, images, folder).seen == len(images)
    larger = hv.create_model(name, img_size=24)
    hv.save_pretrained(larger, tmp_path / "larger")
    assert Counted(f"local-dir:{tmp_path / 'larger'}", images, folder).seen == len(images)


def test_what_is_torn_or_foreign_is_computed_again(images: ImageSet, tmp_path: Path) -> None:
    name, folder = seeing(tmp_path / "model"), tmp_path / "features"
    first = Counted(name, images, folder)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    tensors, state = load_checkpoint(path)

    def foreign(features: torch.Tensor, **facts: object) -> bytes:
        save_checkpoint(path, {"features": features}, state | facts)
        return path.read_bytes()

    for content in (
        whole[: len(whole) // 2],
        whole[:-1],
        b"",
        b"something else",
        whole[:-4] + bytes(4),
        foreign(tensors["features"], images="others"),
        foreign(tensors["features"][:-1]),
        foreign(tensors["features"] + 1),
    ):
        path.write_bytes(content)
        again = Counted(name, images, folder)
        assert again.seen == len(images)
        assert torch.equal(again.features, first.features)
        assert path.read_bytes() == whole


def test_features_that_are_no_numbers_are_an_error(images: ImageSet, tmp_path: Path) -> None:
    broken = hv.create_model(seeing(tmp_path / "model"))
    with torch.no_grad():
        for parameter in broken.parameters():
            parameter.fill_(float("nan"))
    hv.save_pretrained(broken, tmp_path / "model")
    with (
        pytest.warns(UserWarning, match="NaN or infinite weights"),
        pytest.raises(ValueError, match="features are not finite"),
    ):
        Counted(f"local-dir:{tmp_path / 'model'}", images, tmp_path / "features")
    assert not (tmp_path / "features").exists()
