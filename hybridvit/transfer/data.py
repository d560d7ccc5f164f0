"""Labelled images from class folders or IDX files: checked before training, split without leaks.

A data specification is a folder, `FOLDER/CLASS/image.png`, with or without `train/`, `val/` and `test/` above the
classes, or `idx:DIR` for the four IDX files of MNIST and its relatives. Nothing is written into the data folder.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import unicodedata
import warnings
import zlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from .errors import DataError
from .images import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    BadImage,
    decode_image,
    describe_bad_images,
    load_image,
    read_image,
    to_mode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

OnBad = Literal["error", "skip"]
Split = Literal["train", "val", "test", "all"]

IDX_PREFIX = "idx:"
MAX_HELD_OUT = 5_000
_SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_IGNORED_FOLDERS = ("__MACOSX",)

_FASHION_MNIST_TEST_LABELS = "36a6875013fe680369ab320bd2ad1fe9"
_FASHION_MNIST_CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images, decoded when asked for.

    Attributes:
        labels: (N,) int64 class indices.
        digests: content hash of each image, by which duplicates are known.
        names: how a report calls each image: its path below the data folder.
        root: folder of the files, or None where `pixels` (N, height, width) uint8 holds the images.
    """

    labels: np.ndarray
    digests: tuple[bytes, ...]
    names: tuple[str, ...]
    root: Path | None = None
    pixels: np.ndarray | None = None
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int, channels: int, covers: int = 0) -> Image.Image:
        """Image in mode "L" or "RGB"; covers as in `load_image`."""
        if self.pixels is not None:
            return to_mode(Image.fromarray(self.pixels[index]), channels)
        assert self.root is not None
        return load_image(self.root / self.names[index], channels, covers=covers, max_pixels=self.max_pixels)

    def subset(self, indices: Sequence[int] | np.ndarray) -> ImageSet:
        picked = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            labels=self.labels[picked],
            digests=tuple(self.digests[i] for i in picked),
            names=tuple(self.names[i] for i in picked),
            pixels=None if self.pixels is None else self.pixels[picked],
        )


@dataclass(frozen=True, eq=False)
class Data:
    """What a run learns from. notes: one line each of what the user should know before training starts."""

    classes: tuple[str, ...]
    train: ImageSet
    val: ImageSet
    test: ImageSet | None
    notes: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Changes when any image, label or class name does, or the split."""
        digest = hashlib.blake2b(digest_size=16)
        for text in self.classes:
            digest.update(text.encode() + b"\0")
        for part in (self.train, self.val):
            digest.update(part.labels.tobytes())
            for content in part.digests:
                digest.update(content)
        return digest.hexdigest()


def load_data(
    data: str | Path,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    on_bad: OnBad = "error",
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> Data:
    """Read, check and split the images of a data specification.

    Without a `val/` folder that share of each class is held out, at most 5,000 images in all; which ones depends on the
    images' content and the seed alone, and copies of an image stay on one side. on_bad: "error" refuses a folder with
    files that cannot be decoded and lists them, "skip" leaves them out and says so in the notes. progress is called
    with the number of files checked and their total.
    """
    if str(data).startswith(IDX_PREFIX):
        classes, train, test = _read_idx(Path(str(data).removeprefix(IDX_PREFIX)))
        train_part, val_part = split_stratified(train, classes, val_fraction, seed)
        return Data(classes, train_part, val_part, test)

    root = _existing_folder(data)
    folders = _split_folders(root)
    if "train" not in folders:
        classes, everything, notes = _read_folder(root, root, on_bad, max_pixels, progress)
        train, val = split_stratified(everything, classes, val_fraction, seed)
        return Data(classes, train, val, None, tuple(notes))

    classes, train, notes = _read_folder(folders["train"], root, on_bad, max_pixels, progress)
    parts: dict[str, ImageSet] = {}
    for split in ("val", "test"):
        if split in folders:
            found, part, more = _read_folder(folders[split], root, on_bad, max_pixels, progress)
            _require_same_classes(classes, found, folders["train"], folders[split])
            parts[split] = part
            notes += more + _shared_images(train, parts[split], folders[split].name)
    if "val" not in parts:
        train, parts["val"] = split_stratified(train, classes, val_fraction, seed)
    return Data(classes, train, parts["val"], parts.get("test"), tuple(notes))


def load_split(
    data: str | Path, split: Split | None = None, *, on_bad: OnBad = "error", max_pixels: int = MAX_PIXELS
) -> tuple[tuple[str, ...], ImageSet, tuple[str, ...]]:
    """Read images to evaluate on: (class names, images, notes).

    Without a split: `test/` if the folder has one, else `val/`, else every image below the folder.
    """
    if str(data).startswith(IDX_PREFIX):
        classes, train, test = _read_idx(Path(str(data).removeprefix(IDX_PREFIX)))
        if split not in (None, "train", "test"):
            raise DataError(f"{data} has the splits train and test, not {split!r}")
        return classes, train if split == "train" else test, ()
    root = _existing_folder(data)
    folders = _split_folders(root)
    chosen = split or next((name for name in ("test", "val") if name in folders), "all")
    if chosen != "all" and chosen not in folders:
        raise DataError(f"{root} has no folder {chosen}/; leave the split out to use every image")
    if chosen == "all" and folders:
        raise DataError(f"{root} is split into {', '.join(sorted(folders))}; name the split to evaluate on")
    classes, images, notes = _read_folder(folders.get(chosen, root), root, on_bad, max_pixels, None)
    return classes, images, tuple(notes)


def split_stratified(
    images: ImageSet, classes: Sequence[str], val_fraction: float, seed: int
) -> tuple[ImageSet, ImageSet]:
    """Hold out a share of each class: (train, val). Images of equal content go to one side together."""
    if not 0 < val_fraction < 1:
        raise DataError(f"val_fraction must be between 0 and 1, got {val_fraction}")
    fraction = min(val_fraction, MAX_HELD_OUT / len(images))
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, content in enumerate(images.digests):
        groups[content].append(index)
    groups_of_class: list[list[bytes]] = [[] for _ in classes]
    for content, members in groups.items():
        groups_of_class[images.labels[members[0]]].append(content)

    salt = str(seed).encode()
    held_out: list[int] = []
    for name, contents in zip(classes, groups_of_class, strict=True):
        if len(contents) < 2:
            raise DataError(
                f"class {name!r} has {len(contents)} distinct image{'s' * (len(contents) != 1)}: too few to hold one "
                "out for validation; add images, remove the class, or give train/ and val/ folders"
            )
        contents.sort(key=lambda content: hashlib.blake2b(content, key=salt).digest())
        wanted = max(1, round(fraction * sum(len(groups[content]) for content in contents)))
        taken = 0
        for content in contents[:-1]:
            if taken >= wanted:
                break
            held_out += groups[content]
            taken += len(groups[content])
    kept = np.setdiff1d(np.arange(len(images)), held_out)
    return images.subset(kept), images.subset(np.sort(held_out))


def _existing_folder(data: str | Path) -> Path:
    root = Path(data).expanduser()
    if not root.exists():
        raise DataError(f"data folder {root} not found")
    if not root.is_dir():
        raise DataError(f"{root} is a file; give the folder that holds one folder of images a class")
    return root


def _split_folders(root: Path) -> dict[str, Path]:
    found = {
        split: root / name
        for split, names in _SPLIT_FOLDERS.items()
        for name in reversed(names)
        if (root / name).is_dir() and _class_folders(root / name)
    }
    if "train" in found and len(found) == 1 and len(_class_folders(root)) > 1:
        return {}  # a class that happens to be called "train"
    return found


def _class_folders(folder: Path) -> list[Path]:
    return sorted(
        (
            entry
            for entry in folder.iterdir()
            if entry.is_dir() and not entry.name.startswith(".") and entry.name not in _IGNORED_FOLDERS
        ),
        key=lambda entry: entry.name,
    )


def image_files(folder: Path) -> list[Path]:
    """The files below a folder whose names look like images, hidden ones left out."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _IGNORED_FOLDERS)
        files += [
            Path(parent, name)
            for name in sorted(names)
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return files


def _read_folder(
    folder: Path, root: Path, on_bad: OnBad, max_pixels: int, progress: Callable[[int, int], None] | None
) -> tuple[tuple[str, ...], ImageSet, list[str]]:
    """(class names, images, notes) of a folder with one folder a class; image names are relative to root."""
    class_folders = _class_folders(folder)
    loose = [entry.name for entry in folder.iterdir() if entry.is_file() and entry.suffix.lower() in IMAGE_SUFFIXES]
    if not class_folders:
        what = f"{len(loose)} images but no class folders" if loose else "no class folders"
        raise DataError(f"{folder} holds {what}; put the images of each class into a folder named after the class")
    if loose:
        raise DataError(
            f"{len(loose)} images lie in {folder} beside the class folders and belong to no class "
            f"(first: {sorted(loose)[0]}); move them into a class folder or elsewhere"
        )
    files_of_class = [image_files(class_folder) for class_folder in class_folders]
    if len(class_folders) == 1:
        inner = [entry.name for entry in _class_folders(class_folders[0])]
        hint = f" It holds the folders {', '.join(inner[:5])}: did you mean {class_folders[0]}?" if inner else ""
        raise DataError(f"{folder} has one class, {class_folders[0].name!r}; a classifier needs at least two.{hint}")
    empty = [entry.name for entry, files in zip(class_folders, files_of_class, strict=True) if not files]
    if empty:
        raise DataError(f"no images in class {_quoted(empty)} of {folder}; add images or remove the folder")
    names = tuple(entry.name for entry in class_folders)
    _reject_lookalikes(names, folder)

    paths = [path for files in files_of_class for path in files]
    labels = np.repeat(np.arange(len(names)), [len(files) for files in files_of_class])
    digests, bad = _check_files(paths, max_pixels, progress)
    notes = []
    if bad:
        report = f"{len(bad)} of {len(paths)} files below {folder} cannot be used:\n{describe_bad_images(bad)}"
        if on_bad == "error":
            raise DataError(f'{report}\nRepair or remove them, or leave them out with on_bad="skip" (--on-bad skip).')
        notes.append(f"left out: {report}")
    good = np.array([index for index, digest in enumerate(digests) if digest is not None], dtype=np.int64)
    gone = sorted(set(range(len(names))) - set(labels[good].tolist()))
    if gone:
        raise DataError(f"class {_quoted([names[i] for i in gone])} of {folder} has no image that can be used")
    images = ImageSet(
        labels=labels[good].astype(np.int64),
        digests=tuple(digest for digest in digests if digest is not None),
        names=tuple(paths[index].relative_to(root).as_posix() for index in good),
        root=root,
        max_pixels=max_pixels,
    )
    return names, images, notes + _duplicates(images, names, folder)


def _check_files(
    paths: Sequence[Path], max_pixels: int, progress: Callable[[int, int], None] | None
) -> tuple[list[bytes | None], list[BadImage]]:
    """Decode every file once: (content hash or None, why not)."""

    def check(path: Path) -> bytes | BadImage:
        try:
            data = read_image(path)
            decode_image(data, path, covers=1, max_pixels=max_pixels)
        except BadImage as error:
            return error
        return hashlib.blake2b(data, digest_size=16).digest()

    digests: list[bytes | None] = []
    bad: list[BadImage] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")
        for done, result in enumerate(pool.map(check, paths), start=1):
            digests.append(None if isinstance(result, BadImage) else result)
            if isinstance(result, BadImage):
                bad.append(result)
            if progress:
                progress(done, len(paths))
    return digests, bad


def _reject_lookalikes(names: Iterable[str], folder: Path) -> None:
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFKC", name).casefold().strip()
        if key in seen:
            raise DataError(
                f"classes {seen[key]!r} and {name!r} of {folder} differ only in case, spaces or Unicode form; merge or "
                "rename them"
            )
        seen[key] = name


def _duplicates(images: ImageSet, classes: Sequence[str], folder: Path) -> list[str]:
    copies = len(images) - len(set(images.digests))
    if not copies:
        return []
    notes = [f"{copies} of {len(images)} images below {folder} are exact copies of others"]
    classes_of: dict[bytes, set[int]] = defaultdict(set)
    for content, label in zip(images.digests, images.labels.tolist(), strict=True):
        classes_of[content].add(label)
    torn = [content for content, labels in classes_of.items() if len(labels) > 1]
    if torn:
        first = images.names[images.digests.index(torn[0])]
        inside = _quoted([classes[i] for i in sorted(classes_of[torn[0]])])
        notes.append(f"{len(torn)} images lie in more than one class (first: {first}, in {inside})")
    return notes


def _shared_images(train: ImageSet, other: ImageSet, folder: str) -> list[str]:
    shared = set(train.digests).intersection(other.digests)
    if not shared:
        return []
    return [f"{len(shared)} images of {folder}/ are also in train/: its accuracy will look better than it is"]


def _require_same_classes(classes: tuple[str, ...], found: tuple[str, ...], train_folder: Path, folder: Path) -> None:
    for missing, where, other in (
        (sorted(set(classes) - set(found)), folder, train_folder),
        (sorted(set(found) - set(classes)), train_folder, folder),
    ):
        if missing:
            raise DataError(f"{where} has no class {_quoted(missing)}, which {other} has; both need the same classes")


def _quoted(names: Sequence[str], shown: int = 10) -> str:
    text = ", ".join(repr(name) for name in names[:shown])
    return text if len(names) <= shown else f"{text} and {len(names) - shown} more"


def _read_idx(folder: Path) -> tuple[tuple[str, ...], ImageSet, ImageSet]:
    """(class names, train, test) of the four files of an MNIST-like set."""
    if not folder.is_dir():
        raise DataError(
            f"folder {folder} not found; Fashion-MNIST comes with Debian's package dataset-fashion-mnist, in "
            "/usr/share/datasets/fashion-mnist"
        )
    parts = []
    for split in ("train", "t10k"):
        pixels = _read_idx_file(folder, f"{split}-images-idx3-ubyte", dimensions=3)
        labels = _read_idx_file(folder, f"{split}-labels-idx1-ubyte", dimensions=1)
        if len(pixels) != len(labels):
            raise DataError(f"{folder}: {len(pixels)} {split} images but {len(labels)} labels")
        parts.append(
            ImageSet(
                labels=labels.astype(np.int64),
                digests=tuple(hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in pixels),
                names=tuple(f"{split}/{index}" for index in range(len(labels))),
                pixels=pixels,
            )
        )
    train, test = parts
    is_fashion = hashlib.blake2b(test.labels.astype(np.uint8).tobytes(), digest_size=16).hexdigest()
    if is_fashion == _FASHION_MNIST_TEST_LABELS:
        return _FASHION_MNIST_CLASSES, train, test
    count = int(max(train.labels.max(), test.labels.max())) + 1
    return tuple(str(label) for label in range(count)), train, test


def _read_idx_file(folder: Path, name: str, dimensions: int) -> np.ndarray:
    path = next((folder / f for f in (name, f"{name}.gz") if (folder / f).is_file()), None)
    if path is None:
        raise DataError(f"{folder} has neither {name} nor {name}.gz")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    header = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(f"{path} is not an IDX file of bytes with {dimensions} dimensions")
    shape = tuple(np.frombuffer(content[4:header], dtype=">u4").astype(np.int64).tolist())
    if len(content) != header + int(np.prod(shape)):
        raise DataError(f"{path} is truncated: {len(content)} bytes for a shape of {shape}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
