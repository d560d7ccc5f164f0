"""What is meant by the names that `predict` is given."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from hybridvit.transfer.images import BadImage
from hybridvit.transfer.inputs import listed_images
from tests.transfer.samples import draw


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, name in enumerate(("a/1.png", "a/2.png", "a/deep/3.png", "b/[4].png", "b/5.jpg")):
        draw(tmp_path / name, seed=number)
    (tmp_path / "a" / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*given: str, standard_input: bytes | None = None) -> list[str]:
    stream = None if standard_input is None else io.BytesIO(standard_input)
    return [str(each.path if isinstance(each, BadImage) else each) for each in listed_images(given, stream)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["b/5.jpg", "a/1.png", "b/5.jpg"], ["b/5.jpg", "a/1.png", "b/5.jpg"]),
        (["a"], ["a/1.png", "a/2.png", "a/deep/3.png"]),
        (["a/*.png"], ["a/1.png", "a/2.png"]),
        (["a/*"], ["a/1.png", "a/2.png", "a/deep/3.png", "a/notes.txt"]),
        (["**/*.png"], ["a/1.png", "a/2.png", "a/deep/3.png", "b/[4].png"]),
        (["b/[4].png"], ["b/[4].png"]),
        (["b/?.jpg"], ["b/5.jpg"]),
        (["-"], ["-"]),
    ],
)
def test_files_folders_and_patterns(pictures: Path, given: list[str], expected: list[str]) -> None:
    assert names(*given) == expected


@pytest.mark.parametrize("separated", [b"a/1.png\nb\n\n", b"a/1.png\r\nb\r\n", b"a/1.png\0b\0"])
def test_names_on_standard_input(pictures: Path, separated: bytes) -> None:
    assert names("-", "a/2.png", standard_input=separated) == ["a/1.png", "b/5.jpg", "b/[4].png", "a/2.png"]


def test_a_name_with_a_newline_comes_through_when_names_end_in_nul(pictures: Path) -> None:
    draw(pictures / "two\nlines.png", seed=9)
    assert names("-", standard_input=b"two\nlines.png\0") == ["two\nlines.png"]


def test_names_on_standard_input_need_not_be_utf8(pictures: Path) -> None:
    (name,) = names("-", standard_input=b"caf\xe9.png\n")
    assert os.fsencode(name) == b"caf\xe9.png"


@pytest.mark.parametrize(
    ("given", "reason"), [("empty", "no image in this folder"), ("c/*.png", "no file matches this pattern")]
)
def test_what_leads_to_no_image_is_named(pictures: Path, given: str, reason: str) -> None:
    (found,) = listed_images([given])
    assert isinstance(found, BadImage)
    assert (str(found.path), found.reason) == (given, reason)
