"""WebDataset shards: indexed once, read at random, refused when they cannot be."""

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridvit.transfer.data import ImageSet, load_data, load_split
from hybridvit.transfer.data.sources.wds import expanded
from hybridvit.transfer.errors import BadImage, DataError


def png(seed: int, side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def shard(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def samples(first: int, count: int, classes: int = 2) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    for i in range(first, first + count):
        members |= {f"{i:06d}.png": png(i), f"{i:06d}.cls": str(i % classes).encode()}
    return members


def two_shards(root: Path) -> str:
    for number in range(2):
        shard(root / f"images-{number:03d}.tar", samples(10 * number, 10))
    return f"wds:{root}/images-{{000..001}}.tar"


def refusal(pattern: str) -> str:
    with pytest.raises(DataError) as caught:
        load_data(pattern)
    return str(caught.value)


def test_shards_are_read_at_random_places(tmp_path: Path) -> None:
    data = load_data(two_shards(tmp_path))
    assert data.classes == ("0", "1")
    assert len(data.train) + len(data.val) == 20
    assert data.notes == (f"wds:{tmp_path}/images-{{000..001}}.tar: 2 shards, 20 images",)
    for part in data.parts.values():
        for index in reversed(range(len(part))):
            folder, name = part.names[index].split("/")
            number = int(name.removesuffix(".png"))
            assert folder == f"images-{number // 10:03d}.tar"
            assert part.read(index) == png(number)
            assert part.labels[index] == number % 2


@pytest.mark.parametrize("pattern", ["*.tar", "", "images-{000,001}.tar", "images-00?.tar"])
def test_patterns_name_the_same_shards(tmp_path: Path, pattern: str) -> None:
    expected = load_data(two_shards(tmp_path))
    assert load_data(f"wds:{tmp_path}/{pattern}").fingerprint() == expected.fingerprint()


def test_braces_count_and_list() -> None:
    assert expanded("a{08..10}") == ["a08", "a09", "a10"]
    assert expanded("{train,val}-{0..1}.tar") == ["train-0.tar", "val-0.tar", "train-1.tar", "val-1.tar"]


def test_splits_come_from_the_names_of_shards(tmp_path: Path) -> None:
    shard(tmp_path / "x-train-000.tar", samples(0, 8))
    shard(tmp_path / "x-val-000.tar", samples(20, 4))
    data = load_data(f"wds:{tmp_path}")
    assert [len(part) for part in data.parts.values()] == [8, 4]
    assert load_split(f"wds:{tmp_path}")[1].names[0] == "x-val-000.tar/000020.png"


def test_shards_of_equal_names_are_told_apart(tmp_path: Path) -> None:
    shard(tmp_path / "train" / "000.tar", samples(0, 8))
    shard(tmp_path / "test" / "000.tar", samples(20, 4))
    data = load_data(f"wds:{tmp_path}/*/000.tar")
    assert data.test is not None
    assert data.test.names[0] == "test/000.tar/000020.png"
    assert not any(str(tmp_path) in name for part in data.parts.values() for name in part.names)
    alone = load_data(f"wds:{tmp_path}/test")  # nothing else is there to be apart from
    assert len(alone.train) + len(alone.val) == 4
    assert alone.train.names[0].startswith("000.tar/")


def test_labels_from_json_and_text(tmp_path: Path) -> None:
    several = {f"{i}.{kind}": content for i in range(6) for kind, content in (
        ("png", png(i)), ("json", json.dumps({"tags": ["a", "b"] if i % 2 else ["a"], "width": 8}).encode()),
    )}  # fmt: skip
    data = load_data(f"wds:{shard(tmp_path / 'several.tar', several)}")
    assert data.multi_label
    assert data.classes == ("a", "b")
    text = {f"a/{i}.{kind}": content for i in range(6) for kind, content in (
        ("txt", f"{'cat' if i % 2 else 'dog'}\n".encode()), ("PNG", png(i)),
    )}  # fmt: skip
    assert load_data(f"wds:{shard(tmp_path / 'text.tar', text)}").classes == ("cat", "dog")


def test_refused_shards(tmp_path: Path) -> None:
    assert "not found" in refusal(f"wds:{tmp_path}/none-{{0..3}}.tar")
    assert "holds no .tar files" in refusal(f"wds:{tmp_path}")
    whole = shard(tmp_path / "whole.tar", samples(0, 6))
    (tmp_path / "packed.tar").write_bytes(gzip.compress(whole.read_bytes()))
    assert "packed.tar is compressed (gzip), which allows no random access; unpack it" in refusal(
        f"wds:{tmp_path}/packed.tar"
    )
    content = whole.read_bytes()
    last = content.rindex(b"000005.png")
    for cut in (last + 520, last + 100, last, 3 * 512 + 200):
        (tmp_path / "cut.tar").write_bytes(content[:cut])
        assert "copy it again" in refusal(f"wds:{tmp_path}/cut.tar")
    (tmp_path / "none.tar").write_bytes(b"x" * 2000)
    assert "none.tar cannot be read" in refusal(f"wds:{tmp_path}/none.tar")
    shard(tmp_path / "bare.tar", {"1.png": png(1)})
    assert "1 images of" in refusal(f"wds:{tmp_path}/bare.tar")
    shard(tmp_path / "twice.tar", {"1.left.png": png(1), "1.right.png": png(2)})
    assert "has several images, 1.left.png and 1.right.png; keep one" in refusal(f"wds:{tmp_path}/twice.tar")
    shard(tmp_path / "keys.tar", {"1.png": png(1), "1.json": b'{"kind": 1}'})
    assert "needs just one of the keys label, class" in refusal(f"wds:{tmp_path}/keys.tar")
    shard(tmp_path / "json.tar", {"1.png": png(1), "1.json": b"{"})
    assert "1.json cannot be read" in refusal(f"wds:{tmp_path}/json.tar")
    shard(tmp_path / "empty.tar", {"readme.md": b"x"})
    assert "holds no images" in refusal(f"wds:{tmp_path}/empty.tar")


def test_a_shard_that_shrinks_or_vanishes_is_named(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", samples(0, 8))
    images = load_data(f"wds:{path}").train
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(BadImage, match=r"a\.tar: became shorter"):
        images.read(len(images) - 1)
    path.unlink()
    with pytest.raises(BadImage, match=r"a\.tar: cannot be read"):
        images.read(0)


def test_what_travels_to_workers_is_small(tmp_path: Path) -> None:
    path = shard(
        tmp_path / "a.tar",
        {
            f"{i}.{kind}": content
            for i in range(20)
            for kind, content in (("png", png(i, 64)), ("cls", b"%d" % (i % 2)))
        },
    )
    images = load_data(f"wds:{path}").train
    packed = pickle.dumps(images)
    assert len(packed) < 5_000 < path.stat().st_size / 20
    again: ImageSet = pickle.loads(packed)
    assert again.read(3) == images.read(3)
