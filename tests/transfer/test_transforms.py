"""Transforms as a whole, preprocessing as data, and the warning where the two differ."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.preprocess import Preprocess
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.transforms import PreprocessWarning, default_preprocess, transforms
from tests.transfer.samples import photo


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
