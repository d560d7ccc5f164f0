"""Every kind of image file is decoded right, or refused with its reason."""

import pickle
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybridvit.transfer.images import BadImage, describe_bad_images, load_image, to_mode


def saved(tmp_path: Path, image: Image.Image, name: str, **options: Any) -> Path:
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_16_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    path = saved(tmp_path, Image.fromarray(ramp), "deep.png")
    pixels = np.asarray(load_image(path, channels=1))
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert np.abs(pixels.astype(int) - np.arange(256).reshape(16, 16)).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 127, 255]),
        (np.array([[0.0, 100.0, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[-5.0, 0.0, 5.0]], np.float32), [0, 127, 255]),
        (np.array([[0, 32896, 65535]], np.int32), [0, 128, 255]),
        (np.array([[0, 500_000, 1_000_000]], np.int32), [0, 127, 255]),
    ],
)
def test_float_and_32_bit_tiff(tmp_path: Path, values: np.ndarray, expected: list[int]) -> None:
    path = saved(tmp_path, Image.fromarray(values), "deep.tiff")
    assert np.asarray(load_image(path, channels=1)).ravel().tolist() == expected


def test_a_constant_float_image_is_not_divided_by_zero() -> None:
    constant = Image.fromarray(np.full((2, 2), 1e6, np.float32))
    assert np.asarray(to_mode(constant, 1)).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_shows_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 0, 255))
    pixels = np.asarray(to_mode(image.convert(mode), 3))
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[3, 3].tolist() == [255, 255, 255]


def test_palette_with_a_transparent_entry(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    path = saved(tmp_path, image, "palette.png", transparency=0)
    assert np.asarray(load_image(path)).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_cmyk_is_converted(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "print.jpg")
    red, green, blue = np.asarray(load_image(path))[4, 4].tolist()
    assert red > 200
    assert max(green, blue) < 60


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 10), "white")
    exif = image.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees to show it upright
    path = saved(tmp_path, image, "phone.jpg", exif=exif)
    assert load_image(path).size == (10, 20)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "moving.gif", save_all=True, append_images=frames[1:])
    assert np.asarray(load_image(path))[0, 0].tolist() == [255, 0, 0]


def test_large_jpeg_is_decoded_at_a_smaller_scale(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("RGB", (640, 480), "green"), "photo.jpg")
    assert load_image(path).size == (640, 480)
    assert load_image(path, covers=56).size == (160, 120)


def test_the_limit_does_not_depend_on_the_scale_of_decoding(tmp_path: Path) -> None:
    """The check of a folder must refuse what training would refuse."""
    path = saved(tmp_path, Image.new("RGB", (640, 480), "green"), "photo.jpg")
    for covers in (0, 1, 200):
        with pytest.raises(BadImage, match="640x480 is 0 million pixels, above the limit"):
            load_image(path, covers=covers, max_pixels=300_000)


def test_a_bad_image_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(BadImage("a/b.png", "the file is empty")))
    assert (error.path, error.reason) == (Path("a/b.png"), "the file is empty")


def test_enormous_image_is_refused_and_the_limit_can_be_raised(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("L", (400, 300)), "poster.png")
    with pytest.raises(BadImage, match=r"400x300 is 0 million pixels, above the limit of 0 million; shrink it"):
        load_image(path, max_pixels=100_000)
    assert load_image(path, max_pixels=120_000).size == (400, 300)


def test_decompression_bomb_is_refused_without_being_decoded(tmp_path: Path) -> None:
    header = BytesIO()
    Image.new("1", (8, 8)).save(header, "PNG")
    side = (20_000).to_bytes(4, "big")
    content = bytearray(header.getvalue())
    content[16:24] = side + side
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    path = tmp_path / "bomb.png"
    path.write_bytes(content)
    with pytest.raises(BadImage, match="million pixels"):
        load_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"%PDF-1.7 and so on", "not an image"),
        (b"\x00\x00\x00\x18ftypheic", "HEIC"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(BadImage, match=reason) as caught:
        load_image(path)
    assert caught.value.path == path


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff", "webp"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), f"whole.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadImage, match=r"damaged|not an image"):
        load_image(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="cannot be read: No such file"):
        load_image(tmp_path / "gone.png")


def test_list_of_bad_images_is_cut_short() -> None:
    report = describe_bad_images([BadImage(f"{i}.png", "damaged") for i in range(30)], shown=3)
    assert report.splitlines() == [*(f"  {i}.png: damaged" for i in range(3)), "  ... and 27 more"]


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bit_grey_of_each_mode(tmp_path: Path, mode: str) -> None:
    values = [0, 257, 25_700, 65_535]
    image = Image.new(mode, (4, 1))
    image.putdata(values)
    suffix = "png" if mode == "I;16" else "tiff"
    path = saved(tmp_path, image, f"deep.{suffix}")
    assert np.asarray(load_image(path, channels=1)).tolist() == [[0, 1, 100, 255]]
    assert np.asarray(load_image(path))[0, 2].tolist() == [100, 100, 100]


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert np.asarray(load_image(saved(tmp_path, image, "a.png"), channels=1)).tolist() == [[0, 255]]


def test_grey_with_transparency_keeps_its_levels(tmp_path: Path) -> None:
    image = Image.new("LA", (3, 1))
    image.putdata([(100, 255), (100, 0), (0, 51)])
    assert np.asarray(load_image(saved(tmp_path, image, "a.png"), channels=1)).tolist() == [[100, 255, 204]]


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (2, 1)), (6, (1, 0)), (8, (0, 2))])
def test_each_turn_of_exif(tmp_path: Path, orientation: int, corner: tuple[int, int]) -> None:
    """Where the first pixel of the file is to be seen, (x, y)."""
    image = Image.new("L", (3, 2))
    image.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = load_image(saved(tmp_path, image, "a.png", exif=exif), channels=1)
    assert shown.size == ((3, 2) if orientation in (1, 3) else (2, 3))
    assert shown.getpixel(corner) == 255
