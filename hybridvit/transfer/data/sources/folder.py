"""A folder of class folders, with or without `train/`, `val/` and `test/` above them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ...errors import DataError
from ...images import IMAGE_SUFFIXES
from ..files import IGNORED_FOLDERS, Files, image_files, linked_folders, links_outside
from ..listing import SPLITS, Listing, in_order, quoted

_SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


class Folder:
    """`FOLDER/CLASS/image.png` or `FOLDER/SPLIT/CLASS/image.png`; folders inside a class folder belong to the class."""

    prefix: ClassVar[str] = ""

    def __init__(self, address: str, image_root: Path | None) -> None:
        self.folder = Path(address).expanduser()
        self.image_root = image_root

    def splits(self) -> tuple[str, ...]:
        return in_order(tuple(self._split_folders()))

    def listing(self, split: str | None = None) -> Listing:
        folders = self._split_folders()
        if split is not None:
            return _listing(self.folder, {split: folders[split]}, str(folders[split]))
        if "train" not in folders:
            if not folders or len(_class_folders(self.folder)) > len(folders):
                return _listing(self.folder, {"": self.folder}, str(self.folder)).unsplit()
            have = " and ".join(f"{folder.name}/" for folder in folders.values())
            raise DataError(f"{self.folder} has {have} but no train/; add it, or name the folder to train on")
        found = {name: folders[name] for name in SPLITS if name in folders}
        for name in found:
            _require_same_classes(found["train"], found[name])
        return _listing(self.folder, found, str(self.folder))

    def _split_folders(self) -> dict[str, Path]:
        root = self.folder
        if not root.exists():
            raise DataError(f"data folder {root} not found")
        if not root.is_dir():
            raise DataError(
                f"{root} is a file; give the folder that holds one folder of images a class, or a table (.csv, .tsv, "
                ".jsonl)"
            )
        if self.image_root is not None:
            raise DataError(f"image_root is for a table, and {root} is a folder; leave it out")
        found = {
            split: root / name
            for split, names in _SPLIT_FOLDERS.items()
            for name in reversed(names)
            if (root / name).is_dir() and _class_folders(root / name)
        }
        if "train" in found and len(found) == 1 and len(_class_folders(root)) > 1:
            return {}  # a class that happens to be called "train"
        return found


def _listing(root: Path, folders: dict[str, Path], where: str) -> Listing:
    """All images of these folders, whose class folders have the same names."""
    names: list[str] = []
    labels: list[int] = []
    splits: list[str] = []
    classes: tuple[str, ...] = ()
    for split, folder in folders.items():
        classes = _checked_classes(folder)
        for number, name in enumerate(classes):
            files = [path.relative_to(root).as_posix() for path in image_files(folder / name)]
            if not files:
                empty = [each for each in classes if not image_files(folder / each)]
                raise DataError(f"no images in class {quoted(empty)} of {folder}; add images or remove the folder")
            names += files
            labels += [number] * len(files)
            splits += [split] * len(files)
    storage = Files(root, tuple(names))
    return Listing(
        where=where,
        classes=classes,
        labels=np.array(labels, dtype=np.int64),
        names=storage.names,
        storage=storage,
        splits=tuple(splits),
        notes=_notes_on_links(root, names, [folder / name for folder in folders.values() for name in classes]),
    )


def _notes_on_links(root: Path, names: list[str], class_folders: list[Path]) -> tuple[str, ...]:
    notes = []
    if outside := links_outside(root, names):
        notes.append(f"{len(outside)} images are links to files outside {root} (first: {outside[0]})")
    if linked := [link for folder in class_folders for link in linked_folders(folder)]:
        first = linked[0].relative_to(root).as_posix()
        notes.append(f"{len(linked)} links to folders inside classes are not followed (first: {first})")
    return tuple(notes)


def _class_folders(folder: Path) -> list[Path]:
    return sorted(
        (
            entry
            for entry in folder.iterdir()
            if entry.is_dir() and not entry.name.startswith(".") and entry.name not in IGNORED_FOLDERS
        ),
        key=lambda entry: entry.name,
    )


def _checked_classes(folder: Path) -> tuple[str, ...]:
    """Names of the class folders; a folder that is laid out otherwise is refused with what it looks like."""
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
    if len(class_folders) == 1:
        inner = [entry.name for entry in _class_folders(class_folders[0])]
        hint = f" It holds the folders {', '.join(inner[:5])}: did you mean {class_folders[0]}?" if inner else ""
        raise DataError(f"{folder} has one class, {class_folders[0].name!r}; a classifier needs at least two.{hint}")
    return tuple(entry.name for entry in class_folders)


def _require_same_classes(train: Path, other: Path) -> None:
    classes, found = _checked_classes(train), _checked_classes(other)
    for missing, where, has in (
        (sorted(set(classes) - set(found)), other, train),
        (sorted(set(found) - set(classes)), train, other),
    ):
        if missing:
            raise DataError(f"{where} has no class {quoted(missing)}, which {has} has; both need the same classes")
