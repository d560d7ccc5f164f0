"""What a name's weights will make, as far as that can be told without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .entries import find_entry
from .foreign import from_timm
from .info import spec_of_weights
from .resolve import OneFile, find_place, is_place
from .store import CONFIG, read_json, saved_preprocess, saved_spec

if TYPE_CHECKING:
    from ..encoder import Model
    from ..preprocess import Preprocess


@dataclass(frozen=True)
class Outlook:
    """The spec of a model, the preprocessing of its weights (None if none is told) and their licence ("unknown")."""

    spec: Model
    preprocess: Preprocess | None
    licence: str


def outlook(name: str) -> Outlook | None:
    """What `create_model(name, pretrained=True)` gives, by the zoo's entry or the config: no weights are fetched.

    None where only the weights tell: for a weight file, and a repository of transformers. Raises as `create_model`.
    """
    if not is_place(name):
        entry = find_entry(name)
        return Outlook(spec_of_weights(entry), entry.preprocess, entry.licence)
    files = find_place(name, None, {}).files
    path = None if isinstance(files, OneFile) else files.get(CONFIG)
    config = {} if path is None else read_json(path)
    if "format_version" in config:
        spec, preprocess = saved_spec(config, files.where), saved_preprocess(config, files.where)
        return Outlook(spec, preprocess, _licence(config))
    if "architecture" in config:
        foreign = from_timm(config, files.where)
        return Outlook(foreign.spec, foreign.preprocess, foreign.licence or "unknown")
    return None


def _licence(config: dict[str, object]) -> str:
    origin = config.get("origin")
    return str(origin.get("licence") or "unknown") if isinstance(origin, dict) else "unknown"
