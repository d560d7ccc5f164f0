"""WebDataset shards: tar files whose headers are read once, so that any image can be read at any time."""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ...errors import BadImage, DataError
from ...images import IMAGE_SUFFIXES
from ..listing import Listing, encode, in_order, label_texts, quoted, split_named
from ..table_labels import LABEL_COLUMNS

_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_LABEL_SUFFIXES = (".cls", ".json", ".txt")  # the first that a sample has counts
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")
_LARGEST_LABEL_FILE = 1 << 20


class WebDataset:
    """`wds:PATTERN` with `*`, `{000..012}` and `{a,b}`, or a folder of tar files.

    A sample is the members whose paths are equal up to the first dot of the name. Its label is in `.cls`, `.json` (a
    label, a list of them, or an object with one under an obvious name) or `.txt`.
    """

    prefix: ClassVar[str] = "wds"
    folder = None  # only tar files that fit the pattern are data

    def __init__(self, address: str, image_root: Path | None) -> None:
        self.pattern = address

    def splits(self) -> tuple[str, ...]:
        splits = {_split_of(shard) for shard in self._shards()}
        named = tuple(split for split in splits if split)
        # One word that all share says where they lie, not what they are for.
        return in_order(named) if None not in splits and len(named) > 1 else ()

    def listing(self, split: str | None = None) -> Listing:
        shards = self._shards()
        has_splits = bool(self.splits())
        wanted = [shard for shard in shards if split is None or _split_of(shard) == split]
        home = os.path.commonpath([shard.absolute().parent for shard in shards])
        name_of = [Path(os.path.relpath(shard.absolute(), home)).as_posix() for shard in wanted]
        found = [(number, sample) for number, shard in enumerate(wanted) for sample in _samples(shard)]
        labels = [sample.labels for _, sample in found]
        classes, encoded = encode([each or () for each in labels], multi_label=any(len(each) != 1 for each in labels))
        return Listing(
            where=f"wds:{self.pattern}",
            classes=classes,
            labels=encoded,
            names=tuple(f"{name_of[number]}/{sample.name}" for number, sample in found),
            storage=Members(
                tuple(wanted),
                np.array([number for number, _ in found], dtype=np.int32),
                np.array([(sample.offset, sample.size) for _, sample in found], dtype=np.int64),
            ),
            splits=tuple(_split_of(wanted[number]) or "" for number, _ in found) if has_splits else None,
            notes=(f"wds:{self.pattern}: {len(wanted)} shards, {len(found)} images",),
        )

    def _shards(self) -> list[Path]:
        found = []
        for pattern in expanded(self.pattern):
            path = Path(pattern).expanduser()
            matches = sorted(path.glob("*.tar")) if path.is_dir() else sorted(map(Path, glob.glob(str(path))))
            if not matches:
                what = "holds no .tar files" if path.is_dir() else "not found"
                raise DataError(f"{path} {what}; the pattern wds:{self.pattern} names it")
            found += matches
        return list(dict.fromkeys(found))


class Members:
    """Parts of tar files. places: (N, 2) offset and size in bytes; shard_of: (N,)."""

    root = None

    def __init__(self, shards: tuple[Path, ...], shard_of: np.ndarray, places: np.ndarray) -> None:
        self.shards, self.shard_of, self.places = shards, shard_of, places

    def read(self, place: int) -> bytes:
        shard = self.shards[self.shard_of[place]]
        offset, size = self.places[place].tolist()
        try:
            with shard.open("rb", buffering=0) as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise BadImage(shard, f"cannot be read: {error.strerror or error}") from None
        if len(content) != size:
            raise BadImage(shard, "became shorter since it was indexed")
        return content


class Sample(NamedTuple):
    name: str
    offset: int
    size: int
    labels: tuple[str, ...]


def expanded(pattern: str) -> list[str]:
    """The patterns that braces stand for: `{000..012}` counts, `{a,b}` lists."""
    if found := _RANGE.search(pattern):
        first, last = found.groups()
        parts = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    elif found := _CHOICE.search(pattern):
        parts = found[1].split(",")
    else:
        return [pattern]
    whole = [pattern[: found.start()] + part + pattern[found.end() :] for part in parts]
    return list(itertools.chain.from_iterable(map(expanded, whole)))


def _split_of(shard: Path) -> str | None:
    """From the name of the shard or of its folder: imagenet-train-000123.tar, val/000.tar."""
    words = [*re.split(r"[-_.]", shard.stem), shard.parent.name]
    return next((split for split in map(split_named, words) if split), None)


def _samples(shard: Path) -> list[Sample]:
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, dict[str, bytes]] = defaultdict(dict)
    try:
        _require_plain(shard)
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                _collect(tar, member, shard, images, labels)
            _require_end(tar, shard)
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{shard} cannot be read: {error}; if it is cut short, copy it again") from None
    unlabelled = [member.name for key, member in images.items() if key not in labels]
    if unlabelled:
        raise DataError(
            f"{len(unlabelled)} images of {shard} have no label, a member with the same name and the suffix "
            f"{' or '.join(_LABEL_SUFFIXES)}: {quoted(unlabelled, 3)}"
        )
    return [
        Sample(member.name, member.offset_data, member.size, _labels(labels[key], f"{shard}, {key}"))
        for key, member in images.items()
    ]


def _collect(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    shard: Path,
    images: dict[str, tarfile.TarInfo],
    labels: dict[str, dict[str, bytes]],
) -> None:
    folder, _, name = member.name.rpartition("/")
    if not member.isreg() or name.startswith("."):
        return
    stem, _, kind = name.partition(".")
    key, suffix = f"{folder}/{stem}", f".{kind.rpartition('.')[2].lower()}"
    if suffix in IMAGE_SUFFIXES:
        if key in images:
            both = f"{images[key].name} and {member.name}"
            raise DataError(f"{shard}: the sample {key.strip('/')} has several images, {both}; keep one of them")
        images[key] = member
    elif suffix in _LABEL_SUFFIXES and member.size <= _LARGEST_LABEL_FILE:
        file = tar.extractfile(member)
        assert file is not None  # it is a regular member
        labels[key][suffix] = file.read()


def _require_plain(shard: Path) -> None:
    with shard.open("rb") as file:
        start = file.read(6)
    for magic, name in _COMPRESSIONS.items():
        if start.startswith(magic):
            raise DataError(
                f"{shard} is compressed ({name}), which allows no random access; unpack it to a plain .tar: images are "
                "compressed already"
            )


def _require_end(tar: tarfile.TarFile, shard: Path) -> None:
    """tarfile takes a header that is cut off for the end of the archive."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{shard} is cut short: the blocks that end an archive are missing; copy it again")


def _labels(files: dict[str, bytes], where: str) -> tuple[str, ...]:
    suffix = next(each for each in _LABEL_SUFFIXES if each in files)
    try:
        text = files[suffix].decode()
        value: Any = json.loads(text) if suffix == ".json" else text.strip("\r\n")
    except ValueError as error:
        raise DataError(f"{where}{suffix} cannot be read: {error}") from None
    if isinstance(value, dict):
        names = [name for name in value if name.strip().lower() in LABEL_COLUMNS]
        if len(names) != 1:
            raise DataError(
                f"{where}{suffix} needs just one of the keys {', '.join(LABEL_COLUMNS)}; it has {quoted(list(value))}"
            )
        value = value[names[0]]
    return label_texts(value, f"{where}{suffix}")
