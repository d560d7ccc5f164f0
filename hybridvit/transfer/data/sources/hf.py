"""Datasets of the Hugging Face library `datasets`: from its Hub, or saved in a local folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...errors import BadImage, DataError
from ..listing import Listing, encode, in_order, label_text, label_texts, quoted, split_named
from ..table_labels import LABEL_COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset

_SAVED = ("dataset_dict.json", "state.json")


class HuggingFace:
    """`hf:PATH_OR_NAME[:CONFIG]`. Images are read as they are stored, and decoded like all others."""

    prefix: ClassVar[str] = "hf"

    def __init__(self, address: str, image_root: Path | None) -> None:
        self.name, _, self.config = address.partition(":")
        self._loaded: dict[str, Dataset] | None = None

    @property
    def folder(self) -> Path | None:
        path = Path(self.name).expanduser()
        return path if path.is_dir() else None

    def splits(self) -> tuple[str, ...]:
        parts = self._parts()
        return in_order(tuple(parts)) if "" not in parts else ()

    def listing(self, split: str | None = None) -> Listing:
        parts = self._parts() if split is None else {split: self._parts()[split]}
        first = next(iter(parts.values()))
        where = f"hf:{self.name}"
        image_column = _image_column(first, where)
        label_column = _label_column(first, image_column, where)
        found = {name: _labels(part, label_column, where) for name, part in parts.items()}
        notes = [f"{where}: images from column {image_column!r}, labels from column {label_column!r}"]
        for name in [name for name, labels in found.items() if None in labels]:
            notes.append(
                f"split {name!r} of {where} is left out: {found.pop(name).count(None)} of its images have no label"
            )
        if not found:
            raise DataError(f"no split of {where} has a label for each image")
        multi_label = any(isinstance(each, list) for labels in found.values() for each in labels)
        every = [label_texts(each, where) for labels in found.values() for each in labels]
        classes, encoded = encode(every, multi_label)
        classes, encoded = _in_order_of_feature(first, label_column, classes, encoded)
        return Listing(
            where=where,
            classes=classes,
            labels=encoded,
            names=tuple(f"{name or 'image'}/{index}" for name, labels in found.items() for index in range(len(labels))),
            storage=Rows(tuple(_undecoded(parts[name], image_column) for name in found), image_column),
            splits=None if "" in found else tuple(name for name, labels in found.items() for _ in labels),
            notes=tuple(notes),
        )

    def _parts(self) -> dict[str, Dataset]:
        """By train, val and test; or everything under "" where there is one split only."""
        if self._loaded is None:
            self._loaded = _split_parts(_load(self.name, self.config), f"hf:{self.name}")
        return self._loaded


class Rows:
    """The image column of datasets, which travel between processes as the paths of their memory-mapped files."""

    root = None

    def __init__(self, parts: tuple[Dataset, ...], column: str) -> None:
        self.parts, self.column = parts, column
        self.ends = np.cumsum([len(part) for part in parts])

    def read(self, place: int) -> bytes:
        part = int(np.searchsorted(self.ends, place, side="right"))
        row = place - (int(self.ends[part - 1]) if part else 0)
        image = self.parts[part][row][self.column]
        if image is None:
            raise BadImage(f"row {row}", "has no image")
        if image["bytes"] is not None:
            return image["bytes"]
        try:
            return Path(image["path"]).read_bytes()
        except OSError as error:
            raise BadImage(image["path"], f"cannot be read: {error.strerror or error}") from None


def _load(name: str, config: str) -> Any:
    try:
        import datasets
    except ModuleNotFoundError:
        raise DataError("hf: needs the library datasets: pip install 'hybridvit[hf]'") from None
    path = Path(name).expanduser()
    if not path.exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise DataError(f"hf:{name}: no such folder or file")  # rather than to ask the Hub for it
    try:
        if any((path / file).is_file() for file in _SAVED):
            return datasets.load_from_disk(str(path))
        if path.suffix in (".parquet", ".arrow") and path.is_file():
            return datasets.load_dataset(path.suffix[1:], data_files=str(path))
        return datasets.load_dataset(str(path) if path.exists() else name, config or None)
    except Exception as error:  # the library raises whatever its formats and its Hub do
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        what = "a local folder or file that it reads, nor a dataset of its Hub" if not path.exists() else "readable"
        raise DataError(f"hf:{name} is not {what}: {reason}") from error


def _split_parts(loaded: Any, where: str) -> dict[str, Dataset]:
    import datasets

    if isinstance(loaded, datasets.Dataset):
        return {"": loaded}
    if len(loaded) == 1:
        return {"": next(iter(loaded.values()))}
    parts: dict[str, Dataset] = {}
    for name, part in loaded.items():
        split = split_named(str(name))
        if split is None or split in parts:
            raise DataError(
                f"{where} has the splits {quoted(list(map(str, loaded)))}; they must be train, validation and test"
            )
        parts[split] = part
    return {split: parts[split] for split in in_order(tuple(parts))}


def _image_column(part: Dataset, where: str) -> str:
    import datasets

    found = [name for name, feature in part.features.items() if isinstance(feature, datasets.Image)]
    if len(found) != 1:
        have = f"several image columns ({quoted(found)})" if found else "no image column"
        raise DataError(f"{where} has {have}; its columns are {quoted(list(part.features))}")
    return found[0]


def _label_column(part: Dataset, image_column: str, where: str) -> str:
    others = [name for name in part.features if name != image_column]
    typed = [name for name in others if _class_names(part, name)]
    named = [name for name in others if name.strip().lower() in LABEL_COLUMNS]
    found = next((each for each in ([name for name in typed if name in named], typed, named) if len(each) == 1), None)
    if found is None:
        raise DataError(
            f"{where} has no column that is clearly the label; its columns are {quoted(list(part.features))}. Keep one "
            f"ClassLabel column, or call one {', '.join(LABEL_COLUMNS)}"
        )
    return found[0]


def _class_names(part: Dataset, column: str) -> list[str] | None:
    """Of a ClassLabel column, or of one of lists of them."""
    feature = part.features[column]
    return getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)


def _labels(part: Dataset, column: str, where: str) -> list[Any]:
    """A name, a list of names, or None for each image."""
    values = part.select_columns([column])[:][column]
    names = _class_names(part, column)

    def named(value: Any) -> Any:
        if value is None or value == -1:  # how the library marks an image of unknown class
            return None
        if isinstance(value, (list, tuple)):
            return [named(each) for each in value]
        return names[value] if names else label_text(value, f"{where}, column {column!r}")

    return [named(value) for value in values]


def _in_order_of_feature(
    part: Dataset, column: str, classes: tuple[str, ...], labels: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
    """All classes of the feature, in its order."""
    names = _class_names(part, column)
    if not names:
        return classes, labels
    if labels.ndim == 1:
        return tuple(names), np.array([names.index(name) for name in classes], dtype=np.int64)[labels]
    ordered = np.zeros((len(labels), len(names)), dtype=np.float32)
    ordered[:, [names.index(name) for name in classes]] = labels
    return tuple(names), ordered


def _undecoded(part: Dataset, column: str) -> Dataset:
    import datasets

    return part.select_columns([column]).cast_column(column, datasets.Image(decode=False)).with_format(None)
