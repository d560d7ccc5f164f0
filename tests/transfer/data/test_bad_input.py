"""Folders as people have them: what is taken, what is told and what is refused, in which words."""

import os
import shutil
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from hybridvit.transfer.data import Data, load_data
from hybridvit.transfer.errors import DataError
from tests.transfer.samples import draw, folder_of


def bomb(path: Path, side: int = 20_000) -> Path:
    """A PNG of a few bytes that claims to be enormous."""
    file = BytesIO()
    Image.new("1", (8, 8)).save(file, "PNG")
    content = bytearray(file.getvalue())
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    path.write_bytes(content)
    return path


def names_of(data: Data) -> set[str]:
    return {name for part in data.parts.values() for name in part.names}


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_data(root)
    return str(caught.value)


def test_a_folder_with_the_troubles_of_clip_art(tmp_path: Path) -> None:
    """Copies, links, tiny and enormous images, five colour modes."""
    root = folder_of(tmp_path / "art", {"animals": 4, "food": 4})
    for mode in ("P", "LA", "RGBA", "L", "1"):
        with Image.open(root / "food" / "0.png") as image:
            image.convert(mode).save(root / "animals" / f"mode-{mode}.png")
    shutil.copy(root / "food" / "1.png", root / "food" / "again.png")
    draw(root / "food" / "tiny.png", seed=70, side=3)
    bomb(root / "animals" / "bomb.png")
    (root / "animals" / "link.png").symlink_to(root / "animals" / "1.png")
    (root / "animals" / "broken.png").symlink_to(root / "gone.png")
    (root / "animals" / "loop.png").symlink_to(root / "animals" / "loop.png")
    (root / "animals" / "outside.png").symlink_to(draw(tmp_path / "elsewhere.png", seed=71))
    (root / "animals" / "all").symlink_to(root)

    message = refusal(root)
    assert "3 of 20 files below" in message
    assert "bomb.png: 20000x20000 is 400 million pixels" in message or "bomb.png: more than twice" in message
    assert "broken.png: cannot be read: No such file or directory" in message
    assert "loop.png: cannot be read: Too many levels of symbolic links" in message
    data = load_data(root, on_bad="skip")
    assert len(names_of(data)) == 17
    assert f"1 images are links to files outside {root} (first: animals/outside.png)" in data.notes
    assert "1 links to folders inside classes are not followed (first: animals/all)" in data.notes
    assert "2 of 17 images are exact copies of others" in data.notes
    assert data.report is not None
    assert data.report.to_dict()["modes"] == {"RGB": 12, "1": 1, "L": 1, "LA": 1, "P": 1, "RGBA": 1}
    for part in data.parts.values():
        for index in range(len(part)):
            image = part.image(index, channels=3)
            assert isinstance(image, Image.Image)
            assert image.mode == "RGB"


def test_renamed_documents(tmp_path: Path) -> None:
    for name in ("contracts", "invoices"):
        (tmp_path / name).mkdir()
        for i in range(3):
            (tmp_path / name / f"{i}.jpg").write_bytes(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3")
    assert "6 of 6 files below" in refusal(tmp_path)
    assert "0.jpg: not an image that Pillow can read (it starts with b'%PDF-1.7')" in refusal(tmp_path)
    with pytest.raises(DataError, match=r"class 'contracts', 'invoices' of .* has no image that can be used"):
        load_data(tmp_path, on_bad="skip")


def test_a_thousand_classes_of_one_image(tmp_path: Path) -> None:
    template = draw(tmp_path / "template.png", seed=0, side=2).read_bytes()
    for i in range(1000):
        folder = tmp_path / "images" / f"{i:04d}"
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(template + bytes([i % 256, i // 256]))
    assert "class '0000' has 1 distinct image: too few to hold one out for validation" in refusal(tmp_path / "images")


def test_an_empty_class(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 2, "dog": 2})
    for name in ("bird", "fish"):
        (tmp_path / name).mkdir()
    assert "no images in class 'bird', 'fish'" in refusal(tmp_path)


@pytest.mark.parametrize("twin", ["cafe\u0301", "CAFÉ", "café ", "ｃａｆé"])
def test_names_that_look_alike(tmp_path: Path, twin: str) -> None:
    assert f"classes 'café' and {twin!r}" in refusal(folder_of(tmp_path, {"café": 2, twin: 2})) or (
        f"classes {twin!r} and 'café'" in refusal(tmp_path)
    )


def test_a_name_of_only_spaces(tmp_path: Path) -> None:
    assert "class '  ' of" in refusal(folder_of(tmp_path, {"  ": 2, "cat": 2}))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "cat" / "1.png").chmod(0)
    assert "1.png: cannot be read: Permission denied" in refusal(tmp_path)


def test_a_file_that_may_not_be_read_is_named_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, {"cat": 3, "dog": 3})
    read = Path.read_bytes

    def denied(path: Path) -> bytes:
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "cat/1.png: cannot be read: Permission denied" in refusal(tmp_path)


def test_splits_without_train(tmp_path: Path) -> None:
    for split in ("val", "test"):
        folder_of(tmp_path / split, {"cat": 2, "dog": 2})
    assert "has val/ and test/ but no train/" in refusal(tmp_path)
