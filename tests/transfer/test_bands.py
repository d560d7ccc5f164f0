"""Images of several bands: arrays and TIFF files, and the same geometry as for pictures."""

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.preprocess import Preprocess
from hybridvit.registry import model_spec
from hybridvit.transfer.bands import decode_bands
from hybridvit.transfer.data import load_data
from hybridvit.transfer.data.statistics import band_statistics, measured_preprocess
from hybridvit.transfer.errors import BadImage, DataError, RecipeError
from hybridvit.transfer.images import MAX_PIXELS, load_image, load_pixels
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.run import finetune
from hybridvit.transfer.transforms import transforms


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def decoded(array: np.ndarray, channels: int = 5) -> torch.Tensor:
    return decode_bands(npy(array), "image.npy", channels, MAX_PIXELS)


def refused(data: bytes, channels: int = 5) -> str:
    with pytest.raises(BadImage) as caught:
        decode_bands(data, "image.npy", channels, MAX_PIXELS)
    return caught.value.reason


def five_bands(folder: Path, counts: dict[str, int], scale: float = 1.0) -> Path:
    """Two classes that differ in the fourth band alone, whose values are of another size than the others'."""
    rng = np.random.default_rng(0)
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.uniform(0, 0.2, (20, 24, 5)) * scale
            pixels[..., 3] = 10 + 3 * number + rng.uniform(0, 1, (20, 24))
            np.save(folder / name / f"{i}.npy", pixels.astype(np.float32))
    return folder


def five_channel_model() -> Encoder:
    torch.manual_seed(0)
    return model_spec("cct_2_3x2_32").replace(img_size=(16, 16), in_chans=5, num_classes=2).build()


@pytest.mark.parametrize(
    ("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535), (np.uint32, 2**32 - 1), (np.int16, 32767)]
)
def test_integers_become_a_share_of_their_type_s_range(dtype: Any, largest: int) -> None:
    array = np.zeros((2, 3, 5), dtype)
    array[0, 1] = largest
    array[1, 2] = largest // 4
    pixels = decoded(array)
    assert pixels.shape == (5, 2, 3)
    assert pixels.dtype == torch.float32
    assert torch.all(pixels[:, 0, 1] == 1)
    torch.testing.assert_close(pixels[:, 1, 2], torch.full((5,), 0.25), atol=0.01, rtol=0)


def test_floats_are_taken_as_they_are() -> None:
    array = np.linspace(-3, 400, 30).reshape(2, 3, 5)
    torch.testing.assert_close(decoded(array), torch.from_numpy(array).permute(2, 0, 1).float())
    assert decoded(np.ones((2, 3, 5), bool)).unique().tolist() == [1.0]


def test_bands_may_come_first_or_last() -> None:
    array = np.random.default_rng(0).random((5, 6, 7), np.float32)
    assert torch.equal(decoded(array), torch.from_numpy(array))
    assert torch.equal(decoded(array.transpose(1, 2, 0)), torch.from_numpy(array))
    cube = np.random.default_rng(0).random((5, 6, 5), np.float32)
    assert torch.equal(decoded(cube), torch.from_numpy(cube).permute(2, 0, 1))  # last, where both fit


def test_what_is_not_finite_becomes_the_mean_of_its_band() -> None:
    array = np.ones((2, 2, 5), np.float32)
    array[0, 0] = [np.nan, np.inf, -np.inf, 5, 7]
    array[:, :, 4] = np.nan
    pixels = decoded(array)
    assert pixels[:, 0, 0].tolist() == [1, 1, 1, 5, 0]
    assert torch.isfinite(pixels).all()


def test_refused_arrays() -> None:
    assert "an array of shape (4, 4, 3), the model takes 5 channels" in refused(npy(np.zeros((4, 4, 3))))
    assert "an array of shape (4, 4) and type float64; it must be (H, W, C) or (C, H, W)" in refused(
        npy(np.zeros((4, 4)))
    )
    assert "type complex64" in refused(npy(np.zeros((4, 4, 5), np.complex64)))
    assert "damaged" in refused(npy(np.zeros((4, 4, 5)))[:-8])
    assert "damaged" in refused(b"\x93NUMPY\x01\x00")
    assert "damaged" in refused(npy(np.array([[[{}]]], dtype=object), allow_pickle=True))
    enormous = npy(np.zeros((1, 1, 5))).replace(b"(1, 1, 5)", b"(1000000, 1000000, 5)".ljust(9))
    assert "damaged: its header says shape (1000000, 1000000, 5) of float64, which is not what follows" in refused(
        enormous
    )
    with pytest.raises(BadImage, match="8x9 is 0 million pixels, above the limit"):
        decode_bands(npy(np.zeros((9, 8, 5))), "a", 5, max_pixels=71)


def test_a_model_of_colours_refuses_bands_and_says_why(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((8, 8, 5)))
    with pytest.raises(BadImage, match=r"a NumPy array, which only a model of as many channels takes .*in_chans=N"):
        load_image(tmp_path / "a.npy")


def test_tiff_files(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the extra bands")
    pixels = np.random.default_rng(0).integers(0, 65536, (6, 7, 5), dtype=np.uint16)
    expected = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 65535)
    tifffile.imwrite(tmp_path / "last.tif", pixels, planarconfig="contig", photometric="minisblack")
    tifffile.imwrite(
        tmp_path / "first.tif", pixels.transpose(2, 0, 1), planarconfig="separate", photometric="minisblack"
    )
    tifffile.imwrite(tmp_path / "pages.tif", pixels.transpose(2, 0, 1), photometric="minisblack")
    for name in ("last", "first", "pages"):
        found = load_pixels(tmp_path / f"{name}.tif", 5)
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)
    cut = tmp_path / "cut.tif"
    cut.write_bytes((tmp_path / "last.tif").read_bytes()[:-100])
    with pytest.raises(BadImage, match="damaged"):
        load_pixels(cut, 5)
    with pytest.raises(BadImage, match="above the limit"):
        load_pixels(tmp_path / "last.tif", 5, max_pixels=41)
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            noise = np.random.default_rng(i + 10 * len(name + name[0])).integers(0, 65536, (6, 7, 5), dtype=np.uint16)
            noise[0, 0] = ord(name[0])
            tifffile.imwrite(
                tmp_path / "data" / name / f"{i}.tif", noise, planarconfig="contig", photometric="minisblack"
            )
    report = load_data(tmp_path / "data").report
    assert report is not None
    assert report.to_dict()["modes"] == {"5 bands of uint16": 6}
    report.require_channels(5)


def test_what_a_tiff_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the extra bands")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((6, 7, 5), np.uint16), planarconfig="contig", photometric="minisblack")

    def refuse(series: object) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", refuse)
    with pytest.raises(BadImage, match="its compression needs imagecodecs: pip install imagecodecs"):
        load_pixels(path, 5)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(BadImage, match=r"needs tifffile: pip install 'hybridvit\[bands\]'"):
        load_pixels(path, 5)


def test_pictures_with_as_many_bands_are_taken_apart(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 7, 4), dtype=np.uint8))
    image.save(tmp_path / "a.png")
    pixels = load_pixels(tmp_path / "a.png", 4)
    assert isinstance(pixels, torch.Tensor)
    torch.testing.assert_close(pixels, torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255)
    with pytest.raises(BadImage, match="it has 4 bands, the model takes 5"):
        load_pixels(tmp_path / "a.png", 5)


# Geometry


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(100, 80), (31, 77), (20, 30)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_tensors_and_pictures_are_cut_alike(size: tuple[int, int], crop_mode: str, interpolation: str) -> None:
    preprocess = Preprocess(
        input_size=(48, 64), mean=(0.5,) * 4, std=(1.0,) * 4, crop_mode=crop_mode, interpolation=interpolation
    )
    # Of middle levels: where it overshoots, Pillow cuts off between its two passes.
    smooth = np.random.default_rng(0).integers(70, 186, (5, 5, 4), dtype=np.uint8)
    image = Image.fromarray(smooth).resize(size, Image.Resampling.BICUBIC)
    bands = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
    found = transforms(preprocess)(bands)
    assert found.shape == (4, 48, 64)
    for start in (0, 1):
        channels = [start, start + 1, start + 2]
        three = Preprocess(
            input_size=(48, 64), mean=(0.5,) * 3, std=(1.0,) * 3, crop_mode=crop_mode, interpolation=interpolation
        )
        picture = Image.merge("RGB", [image.getchannel(channel) for channel in channels])
        torch.testing.assert_close(found[channels], transforms(three)(picture), atol=2 / 255, rtol=0)


def test_resizing_invents_no_values() -> None:
    preprocess = Preprocess(input_size=(32, 32), mean=(0.0,) * 5, std=(1.0,) * 5)
    checkers = (torch.arange(64).reshape(8, 8) // 2 % 2).float().expand(5, 8, 8)
    for scale in (1.0, 7.0):
        resized = transforms(preprocess)(checkers * scale)
        assert resized.min() == 0
        assert resized.max() == scale


def test_the_caller_s_tensor_is_not_changed() -> None:
    preprocess = Preprocess(input_size=(8, 8), crop_pct=1.0, mean=(0.5,) * 5, std=(0.5,) * 5)
    bands = torch.rand(5, 8, 8)
    before = bands.clone()
    assert not torch.equal(transforms(preprocess)(bands), before)
    assert torch.equal(bands, before)


def test_augmentation_of_bands() -> None:
    preprocess = Preprocess(input_size=(8, 8), mean=(0.5,) * 5, std=(0.5,) * 5)
    for augment in ("flip", "gentle", "standard"):
        assert transforms(preprocess, train=True, recipe=Recipe(augment=augment))(torch.rand(5, 20, 24)).shape == (
            5,
            8,
            8,
        )
    for augment in ("trivial", "rand"):
        with pytest.raises(RecipeError, match=rf'augment "{augment}" is for grey and colour images'):
            transforms(preprocess, train=True, recipe=Recipe(augment=augment))


# Statistics, and a run from files to predictions


def test_statistics_are_those_of_the_pixels(tmp_path: Path) -> None:
    images = load_data(five_bands(tmp_path, {"a": 5, "b": 5})).train
    pixels = torch.stack([load_pixels(tmp_path / name, 5) for name in images.names]).double()  # pyright: ignore[reportArgumentType, reportCallIssue]
    mean, std = band_statistics(images, 5)
    torch.testing.assert_close(torch.tensor(mean).double(), pixels.mean(dim=(0, 2, 3)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        torch.tensor(std).double(), pixels.std(dim=(0, 2, 3), correction=0), atol=1e-5, rtol=1e-4
    )


def test_statistics_are_measured_where_nobody_has(tmp_path: Path) -> None:
    data = load_data(five_bands(tmp_path, {"a": 5, "b": 5}))
    model = five_channel_model()
    measured = measured_preprocess(model, data)
    assert measured.mean[3] > 5
    model.preprocess = measured
    assert measured_preprocess(model, data) is measured
    coloured = hv.create_model("cct_2_3x2_32", in_chans=5)
    coloured.preprocess = Preprocess(mean=(0.1, 0.2, 0.3, 0.1, 0.2), std=(0.1, 0.2, 0.3, 0.1, 0.2))
    assert measured_preprocess(coloured, data).mean == measured.mean
    with pytest.raises(DataError, match="do not have the 3 channels"):
        measured_preprocess(hv.create_model("cct_2_3x2_32"), data)


def test_five_bands_from_files_to_predictions(tmp_path: Path) -> None:
    folder = five_bands(tmp_path / "bands", {"low": 12, "high": 12})
    recipe = Recipe(epochs=6, batch_size=8, lr=2e-3, augment="standard", crop_scale=0.8)
    result = finetune(five_channel_model(), folder, tmp_path / "run", recipe=recipe, progress=False)
    assert result.accuracy == 1.0
    saved = hv.create_model(f"local-dir:{tmp_path / 'run'}")
    assert saved.preprocess is not None
    assert saved.preprocess.mean[3] > 5
    for name in ("low", "high"):
        assert hv.predict(tmp_path / "run", folder / name / "0.npy")[0][0].label == name
    assert hv.evaluate(tmp_path / "run", folder).figure == 1.0


def test_a_named_model_gets_as_many_channels_as_there_are_bands(tmp_path: Path) -> None:
    data = five_bands(tmp_path / "bands", {"low": 8, "high": 8})
    options: dict[str, Any] = {
        "overrides": {"epochs": 1, "batch_size": 8, "image_size": 16, "probe_epochs": 0},
        "pretrained": False,
        "progress": False,
        "workers": 0,
    }
    finetune("cct_2_3x2_32", data, tmp_path / "run", **options)
    model = hv.create_model(f"local-dir:{tmp_path / 'run'}")
    assert model.spec.in_chans == 5
    assert model.preprocess is not None
    assert len(model.preprocess.mean) == 5
    again = finetune("cct_2_3x2_32", data, tmp_path / "run", **options, resume=True)  # the same run, and a finished one
    assert len(again.history) == 1
    options["overrides"] |= {"channels": 4}
    with pytest.raises(DataError, match="do not have the 4 channels"):
        finetune("cct_2_3x2_32", data, tmp_path / "other", **options)


def test_bands_are_counted_only_where_no_image_is_a_picture(tmp_path: Path) -> None:
    folder = five_bands(tmp_path, {"a": 3, "b": 3})
    report = load_data(folder).report
    assert report is not None
    assert report.bands == 5
    Image.new("RGB", (8, 8), "red").save(folder / "a" / "picture.png")
    report = load_data(folder).report
    assert report is not None
    assert report.bands == 0
