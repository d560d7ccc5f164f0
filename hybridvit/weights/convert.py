"""Weights from any layout that is read into any other that the model's family has."""

from __future__ import annotations

from pathlib import Path

from ..resolved import Resolved
from .exclusive import alone, replaced
from .load import load_recorded
from .resolve import SUFFIXES, weight_path
from .store import OWN_LAYOUT, save_pretrained, tensors_in, write_tensors


def convert(
    source: str | Path,
    target: str | Path,
    *,
    model: str | None = None,
    to: str | None = None,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    allow_pickle: bool = False,
    lock: str | Path | None = None,
) -> Resolved:
    """Write the weights of a source in another layout. Returns what the source was, with the hash of every file.

    Files are mapped and written straight from there: only what a layout splits or puts together is copied in memory.

    Args:
        source: a weight file, a directory, or a name that `create_model` takes, in any layout that it reads.
        target: a `.safetensors` file, for the tensors alone; any other path is a directory for a saved model, with
            preprocessing and labels. An earlier file is replaced once the new one is written.
        model: the architecture of a source file, where it is not recognised by itself.
        to: a layout of the model's family, or "hybridvit". By default a file gets our own names, and a directory timm's
            where timm has the architecture, as `save_pretrained` does it.
        cache_dir: of huggingface_hub; by default the one that its variables name.
        endpoint: address of the Hub; by default HF_ENDPOINT or huggingface.co.
        token: for private repositories; by default the one that is logged in.
        allow_pickle: read pickled files too, tensors only.
        lock: a lock file that has the source.

    Raises:
        ValueError: for a layout that the family has not, listing those that it has, or an unfit target.
        OSError: if the target cannot be written; what was there before is intact.
            Otherwise as `create_model`.
    """
    target = Path(target).expanduser()
    to_file = weight_path(str(target)) is not None
    if to_file and target.suffix != ".safetensors":
        raise ValueError(f"{target} would be a pickle, of {', '.join(SUFFIXES[1:])}; name a .safetensors file")
    if to_file and target.is_dir():
        raise IsADirectoryError(f"{target} is a directory; name a file, or a directory that is not called like one")
    made = load_recorded(
        source, model, cache_dir=cache_dir, endpoint=endpoint, token=token, allow_pickle=allow_pickle, lock=lock
    )
    assert made.resolved is not None
    if not to_file:
        save_pretrained(made, target, layout=to)
        return made.resolved
    tensors = tensors_in(made, to or OWN_LAYOUT)
    target.parent.mkdir(parents=True, exist_ok=True)
    with alone(target), replaced(target) as new:
        write_tensors(tensors, new, target)
    return made.resolved
