"""`create_model`: from a name to a model, from scratch or with weights from wherever they are."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import adapt
from ..keys import KeyMismatchError, KeyRules, StateDict, check_keys
from ..meta import without_memory
from ..registry import family_of, index, model_spec
from ..spec import SpecError
from .entries import WeightEntry, find_entry, is_non_commercial
from .foreign import Foreign, from_timm
from .layouts import layouts_of
from .shards import read_shards
from .sources import (
    DIRECTORY,
    HUB,
    Files,
    HubFiles,
    LocalFiles,
    PartialWeightsWarning,
    WeightsNotFoundError,
    WeightsWarning,
    downloaded_file,
    hub_files,
    local_files,
    shipped_file,
)
from .store import (
    CONFIG,
    PICKLE,
    WEIGHTS,
    WeightsError,
    attach,
    read_json,
    read_tensors,
    refused_pickle,
    saved_rules,
    saved_spec,
)
from .transformers_format.repository import from_transformers

if TYPE_CHECKING:
    from ..encoder import Encoder, Model

CLASSIFIER = ("head.",)
# Names, with their licences, that `_warn_of_licence` has warned of in this process.
_warned: set[tuple[str, str]] = set()


def full_name(model: str | Path) -> str:
    """`local-dir:PATH` for the path of a directory, any other name of a model as it is."""
    if isinstance(model, Path):
        return f"{DIRECTORY}{model}"
    if model.startswith((HUB, DIRECTORY)) or model.partition(".")[0] in index():
        return model
    return f"{DIRECTORY}{model}" if os.sep in model or Path(model).is_dir() else model


def load_model(model: str | Path | Encoder) -> Encoder:
    """A model itself, one from a saved directory, or a pretrained one by name. Raises as `create_model` does."""
    return create_model(full_name(model), pretrained=True) if isinstance(model, str | Path) else model


def create_model(
    name: str,
    pretrained: bool = False,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    file: str | Path | None = None,
    allow_pickle: bool = False,
) -> Encoder:
    """A model by name, in eval mode if it has weights.

    Args:
        name: `arch` or `arch.tag` of the zoo; `hf-hub:ORG/NAME[@REVISION]`; `local-dir:PATH`. The last two always load
            weights, whether ours, timm's or transformers'.
        pretrained: load the released weights of that tag, or of the first if none is named.
        num_classes: another number gets a fresh classifier; the same keeps it with its labels; 0 gives embeddings.
        in_chans: channels of the images; kernels are summed or shared out.
        img_size: pixels or (height, width) that position and bias tables are resized to, once. Not needed to run at
            another size.
        revision: branch, tag or commit on the Hub.
        cache_dir: of huggingface_hub; by default the one that its variables name.
        endpoint: address of the Hub; by default HF_ENDPOINT or huggingface.co.
        token: for private repositories; by default the one that is logged in.
        file: load this weight file of the architecture `name` instead, in our, timm's or any known layout.
        allow_pickle: read pickled files too, tensors only. Weights that were released as nothing else need it.

    Raises:
        UnknownNameError: for a model, tag or family that does not exist; the nearest are offered.
        WeightsNotFoundError: for a repository, revision, directory or file that is not there or cannot be reached.
        WeightsError: for a file that cannot be read, or a pickle that is not allowed.
        KeyMismatchError: for weights that do not fit, listing every key.
        SpecError: for a config that describes no model.
    """
    _check_request(num_classes, in_chans, img_size)
    hub = {"revision": revision, "cache_dir": cache_dir, "endpoint": endpoint, "token": token}
    if name.startswith((HUB, DIRECTORY)):
        if file is not None:
            raise ValueError(f"file= goes with the name of an architecture, not with {name!r}")
        kind, _, place = name.partition(":")
        files = hub_files(place, **hub) if f"{kind}:" == HUB else local_files(place)
        model = _from_files(files, num_classes, allow_pickle)
    elif file is not None:
        model = load_weights(
            name,
            file,
            num_classes=num_classes,
            in_chans=in_chans,
            img_size=None if img_size is None else _pair(img_size),
            allow_pickle=allow_pickle,
        )
    elif pretrained:
        model = _from_entry(find_entry(name), num_classes, allow_pickle, hub)
    else:
        return _from_scratch(name, num_classes, in_chans, img_size)
    return _adapted(model, in_chans, img_size).eval()


def _check_request(num_classes: int | None, in_chans: int | None, img_size: int | tuple[int, int] | None) -> None:
    size = (1,) if img_size is None else _pair(img_size)
    for name, value, low in (("num_classes", num_classes, 0), ("in_chans", in_chans, 1), ("img_size", min(size), 1)):
        if value is not None and value < low:
            raise ValueError(f"{name} must be at least {low}, got {value}")


def _pair(img_size: int | tuple[int, int]) -> tuple[int, int]:
    return (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])


def _architecture(name: str) -> str:
    """The `arch` of `arch` or `arch.tag`; a tag has to exist."""
    return find_entry(name).architecture if "." in name else name


def _from_scratch(
    name: str, num_classes: int | None, in_chans: int | None, img_size: int | tuple[int, int] | None
) -> Encoder:
    spec = model_spec(_architecture(name))
    model = spec.replace(
        num_classes=spec.num_classes if num_classes is None else num_classes,
        in_chans=spec.in_chans if in_chans is None else in_chans,
        img_size=spec.img_size if img_size is None else _pair(img_size),
    ).build()
    model.origin = {"architecture": _architecture(name)}
    return model


def _adapted(model: Encoder, in_chans: int | None, img_size: int | tuple[int, int] | None) -> Encoder:
    """Whatever was asked for beyond what the weights are."""
    if in_chans is not None and in_chans != model.spec.in_chans:
        model = adapt.with_in_chans(model, in_chans)
    if img_size is not None and _pair(img_size) != model.spec.img_size:
        model = adapt.with_img_size(model, img_size)
    return model


def expected_tensors(spec: Model) -> StateDict:
    """The state dict that a model of `spec` has, without memory behind it."""
    with without_memory():
        return spec.build().state_dict()


def fill(
    spec: Model,
    tensors: StateDict,
    num_classes: int | None,
    source: str,
    covers: tuple[str, ...] = (),
    untaken: Sequence[str] = (),
) -> Encoder:
    """A model of `spec` around the tensors, which are assigned, not copied; only what they do not hold is initialised.

    The classifier may be another's if `num_classes` is, and everything outside `covers`, if any, may be missing. Any
    other key that is missing, surplus, of another shape or `untaken` by the rules of its layout is an error.
    """
    wanted = spec if num_classes is None else spec.replace(num_classes=num_classes)
    excused = CLASSIFIER if wanted.num_classes != spec.num_classes else ()
    with without_memory():
        model = wanted.build()
    expected = model.state_dict()
    if covers:
        expected = {key: tensor for key, tensor in expected.items() if key.startswith(covers)}
        tensors = {key: tensor for key, tensor in tensors.items() if key.startswith(covers)}
    check_keys(tensors, expected, excused=excused, source=source, untaken=untaken)
    kept = {key: tensor for key, tensor in tensors.items() if not (excused and key.startswith(excused))}
    model.load_state_dict(kept, assign=True, strict=False)
    _initialise_missing(model, wanted)
    return model


def _initialise_missing(model: Encoder, spec: Model) -> None:
    """Replaces what is still on the meta device: a new classifier alone, or, of a partial checkpoint, what it lacks."""
    missing = {key for key, tensor in model.state_dict().items() if tensor.is_meta}
    if missing and all(key.startswith(CLASSIFIER) for key in missing):
        model.head = spec.build_head(model.num_features)
    elif missing:
        fresh = spec.build().state_dict()
        model.load_state_dict({key: fresh[key] for key in missing}, assign=True, strict=False)


Layout = tuple[KeyRules | None, "Model"]


def closest_layout(names: Collection[str], layouts: Sequence[Layout]) -> Layout:
    """The layout, None being our own, in whose names for its model the fewest are missing or surplus."""

    if len(layouts) == 1:
        return layouts[0]
    expected = {spec: expected_tensors(spec) for _, spec in layouts}

    def differences(layout: Layout) -> float:
        rules, spec = layout
        try:
            return len(set(names) ^ set(rules.to_theirs(expected[spec]) if rules else expected[spec]))
        except KeyMismatchError:
            return math.inf  # another package's layout, which has no names for what this model has

    return min(layouts, key=differences)


def load_weights(
    name: str,
    file: str | Path,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: tuple[int, int] | None = None,
    allow_pickle: bool = False,
) -> Encoder:
    """A model of the zoo with the weights of a file, whose names may be ours or those of any layout of the family.

    The file says how many classes there are. Its channels and size are those of the architecture, or else the given.
    Raises KeyMismatchError listing every key and shape that does not fit the layout that is closest.
    """
    architecture, path = _architecture(name), Path(file).expanduser()
    named = model_spec(architecture)
    if not path.is_file():
        raise WeightsNotFoundError(f"no weight file {path}")
    tensors = read_tensors(path, allow_pickle)
    classified = named if named.num_classes else named.replace(num_classes=1000)
    variants = (classified, named.replace(num_classes=0))
    layouts: list[Layout] = [(None, variant) for variant in variants]
    for make in layouts_of(family_of(architecture)).values():
        layouts += [(make(variant), variant) for variant in variants]
    rules, spec = closest_layout(tensors, layouts)
    ours, untaken = _converted(tensors, rules, str(path))
    spec = spec.replace(num_classes=_classes_in(ours, spec))
    asked = spec.replace(in_chans=in_chans or spec.in_chans, img_size=img_size or spec.img_size)
    as_asked = {key: tensor.shape for key, tensor in expected_tensors(asked).items()}
    fits_as_asked = as_asked == {key: tensor.shape for key, tensor in ours.items()}
    model = fill(asked if fits_as_asked else spec, ours, num_classes, str(path), untaken=untaken)
    model.origin = {"architecture": architecture, "source": path.name}
    return model


def _classes_in(tensors: StateDict, spec: Model) -> int:
    """The number of classes of a checkpoint, read from its classifier."""
    for key, tensor in expected_tensors(spec).items():
        if key.startswith(CLASSIFIER) and tensor.shape[0] == spec.num_classes and key in tensors:
            return tensors[key].shape[0]
    return spec.num_classes


def _converted(tensors: StateDict, rules: KeyRules | None, source: str) -> tuple[StateDict, Sequence[str]]:
    """The tensors under our names, and the keys that no rule takes."""
    if rules is None:
        return tensors, ()
    try:
        return rules.to_ours(tensors), ()
    except KeyMismatchError as error:
        if not error.untaken:
            raise KeyMismatchError(f"{source} does not fit the model: {error}") from None
        known = {key: tensor for key, tensor in tensors.items() if key not in error.untaken}
        return rules.to_ours(known), error.untaken


def _read_weights(files: Files, allow_pickle: bool, name: str = WEIGHTS, prefix: str = "") -> StateDict:
    """The state dict in `name` or else in a pickle, either in one file, under a `prefix` there, or in several."""
    for each in (name, PICKLE):
        path = files.get(each)
        tensors = read_shards(files, each, allow_pickle) if path is None else read_tensors(path, allow_pickle, prefix)
        if tensors is not None:
            return tensors
    raise WeightsNotFoundError(f"{files.where} has neither {name} nor {PICKLE}")


def _from_files(files: Files, num_classes: int | None, allow_pickle: bool) -> Encoder:
    """A model directory or repository, recognised by what its config says."""
    path = files.get(CONFIG)
    if path is None:
        raise WeightsNotFoundError(f"{files.where} has no {CONFIG}, so it holds no model")
    config = read_json(path)
    try:
        model = _from_config(config, files, num_classes, allow_pickle)
    except SpecError as error:
        raise SpecError(f"{files.where}: its {CONFIG} describes no model: {error}") from error
    except (TypeError, AttributeError, KeyError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise WeightsError(f"{files.where}: its {CONFIG} describes no model ({reason}); get it again") from error
    if model.spec.num_classes != len(model.labels or ()):
        model.labels = None
    _warn_of_licence(files.where, model.origin)
    return model


def _from_config(config: dict[str, Any], files: Files, num_classes: int | None, allow_pickle: bool) -> Encoder:
    """The model that a config and the weights beside it describe, in our format or another's."""
    if "format_version" in config:
        spec = saved_spec(config, files.where)
        rules = saved_rules(config, spec, files.where)
        tensors = _read_weights(files, allow_pickle)
        ours, untaken = _converted(tensors, rules, files.where)
        model = fill(spec, ours, num_classes, files.where, untaken=untaken)
        attach(model, config, spec.num_classes, files.where)
        return model
    return _from_foreign(config, files, num_classes, allow_pickle)


def _from_foreign(config: dict[str, Any], files: Files, num_classes: int | None, allow_pickle: bool) -> Encoder:
    foreign: Foreign
    if "architecture" in config:
        foreign = from_timm(config, files.where)
        tensors = _read_weights(files, allow_pickle)
    elif "model_type" in config:
        tensors = _read_weights(files, allow_pickle)
        foreign = from_transformers(config, files, {key: tuple(tensor.shape) for key, tensor in tensors.items()})
    else:
        raise WeightsError(
            f"{files.where}: its {CONFIG} is neither hybridvit's (format_version), timm's (architecture) nor "
            "transformers' (model_type)"
        )
    rules, spec = closest_layout(tensors, [(rules, foreign.spec) for rules in foreign.rules])
    ours, untaken = _converted(tensors, rules, files.where)
    model = fill(spec, ours, num_classes, files.where, untaken=untaken)
    model.preprocess, model.labels = foreign.preprocess, foreign.labels
    origin = {"architecture": foreign.architecture, "licence": foreign.licence, **_place(files)}
    model.origin = {key: value for key, value in origin.items() if value}
    return model


def _place(files: Files) -> dict[str, str | None]:
    """What is to be remembered of where foreign weights came from; a directory's path means nothing elsewhere."""
    if isinstance(files, HubFiles):
        return {"base_model": files.repository, "commit": files.commit}
    return {"source": files.directory.name if isinstance(files, LocalFiles) else files.where}


def _from_entry(entry: WeightEntry, num_classes: int | None, allow_pickle: bool, hub: Mapping[str, Any]) -> Encoder:
    """A released checkpoint of the zoo."""
    kind, _, place = entry.source.partition(":")
    origin: dict[str, Any] = {"architecture": entry.architecture, "source": entry.name, "licence": entry.licence}
    if kind in ("hf", "url") and entry.pickled and not allow_pickle:
        raise refused_pickle(f"{entry.name} ({place})")  # before anything is downloaded
    if kind == "hf":
        files = hub_files(place, **hub)
        tensors = _read_weights(files, allow_pickle, entry.file, entry.prefix)
        origin |= _place(files)
    elif kind == "url":
        tensors = read_tensors(downloaded_file(place, entry.sha256, hub["cache_dir"]), allow_pickle, entry.prefix)
    else:
        # What an installed package carries was trusted when it was installed; even so only tensors are read.
        tensors = read_tensors(shipped_file(entry.source), allow_pickle=True)
    holder = entry.donor or entry.architecture
    spec = model_spec(holder).replace(num_classes=entry.num_classes, in_chans=entry.in_chans)
    spec = spec.replace(img_size=entry.preprocess.input_size)
    rules = None if entry.layout == "hybridvit" else layouts_of(family_of(holder))[entry.layout](spec)
    tensors, untaken = _converted(tensors, rules, entry.name)
    if entry.donor:
        own = model_spec(entry.architecture)
        spec = own.replace(num_classes=own.num_classes if num_classes is None else num_classes, in_chans=entry.in_chans)
    model = fill(spec, tensors, num_classes, entry.name, entry.covers, untaken)
    model.preprocess, model.origin = entry.preprocess, origin
    labels = entry.label_names()
    model.labels = labels if len(labels) == model.spec.num_classes and not entry.covers else None
    if entry.covers:
        parts = ", ".join(part.rstrip(".") for part in entry.covers)
        warnings.warn(
            f"{entry.name} has weights for {parts} only; the rest of the model is freshly initialised, to be trained",
            PartialWeightsWarning,
            stacklevel=3,
        )
    _warn_of_licence(entry.name, origin)
    return model


def _warn_of_licence(name: str, origin: Mapping[str, Any] | None) -> None:
    """Says so once a process and name where a licence forbids commercial use."""
    licence = (origin or {}).get("licence")
    if licence and is_non_commercial(licence) and (name, licence) not in _warned:
        _warned.add((name, licence))
        warnings.warn(f"{name} is licensed {licence}: not for commercial use", WeightsWarning, stacklevel=4)
