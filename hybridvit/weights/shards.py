"""Checkpoints in several files, as transformers writes large ones: `NAME.index.json` says which tensor is in which."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from .errors import WeightsError
from .sources import Files, WeightsNotFoundError
from .store import below, read_json

if TYPE_CHECKING:
    from torch import Tensor


class Reader(Files, Protocol):
    """A place whose files of tensors can be read."""

    @property
    def unreached(self) -> WeightsNotFoundError | None: ...

    def read(self, path: Path, allow_pickle: bool) -> dict[str, Tensor]: ...


def read_shards(files: Reader, path: Path, allow_pickle: bool, prefix: str = "") -> dict[str, Tensor]:
    """The state dict that is in several files, as the index at `path` says, or what of it is `below` a prefix.

    Raises WeightsError for an index that is not one or that the files do not agree with, and as reading a file does;
    WeightsNotFoundError for a file that is missing.
    """
    index = path.name
    listed = _files_of_tensors(path, files.where)
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(listed.values())):
        found = files.get(shard)
        if found is None:
            if files.unreached:
                raise files.unreached
            raise WeightsNotFoundError(f"{files.where} has no {shard}, which its {index} lists; get it again")
        held = files.read(found, allow_pickle)
        expected = {key for key, file in listed.items() if file == shard}
        if held.keys() != expected:
            wrong = sorted(held.keys() ^ expected)
            raise WeightsError(
                f"{files.where}: {shard} does not hold what its {index} lists, which differs in {len(wrong)} tensors, "
                f"such as {', '.join(wrong[:3])}; get both again"
            )
        tensors |= held
    return below(tensors, prefix, files.where)


def shards_of(path: Path, where: str) -> list[str]:
    """The files that the index at `path` lists. Raises WeightsError for an index that is not one."""
    return sorted(set(_files_of_tensors(path, where).values()))


def _files_of_tensors(path: Path, of: str) -> dict[str, str]:
    """Tensor -> file beside the index. Nothing else is opened, whatever the index says."""
    where, suffix = f"{of}: its {path.name}", PurePosixPath(path.name.removesuffix(".index.json")).suffix
    listed = read_json(path).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise WeightsError(f"{where} has no 'weight_map' of tensors and files; get it again")
    for key, file in listed.items():
        if not isinstance(file, str) or "\\" in file or PurePosixPath(file).parts != (file,) or file.startswith("."):
            raise WeightsError(f"{where} names {file!r} for {key}, expected a file beside it")
        if PurePosixPath(file).suffix != suffix:
            raise WeightsError(f"{where} names {file!r} for {key}, expected a {suffix} file")
    return listed
