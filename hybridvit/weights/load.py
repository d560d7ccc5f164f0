"""`create_model`: from a name to a model, from scratch or with weights from wherever they are."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .. import adapt
from ..keys import KeyMismatchError, StateDict, check_keys
from ..limits import LARGEST_NUMBER, LONGEST_SHOWN, printable, shown
from ..meta import without_memory
from ..registry import UnknownNameError, family_of, index, model_spec
from ..resolved import ChangedError
from ..spec import SpecError
from .entries import WeightEntry, find_entry, is_non_commercial
from .errors import WeightsError
from .foreign import Foreign, from_timm
from .layouts import (
    CLASSIFIER,
    Layout,
    classes_in,
    closest_layout,
    converted,
    expected_tensors,
    layouts_of,
    left_out,
    possible_layouts,
)
from .recognise import channels_in, recognise
from .resolve import ATTEMPTS, OneFile, Recorded, find_place, is_place, read_at_once, weight_path
from .sources import DIRECTORY, HUB, HubFiles, PartialWeightsWarning, WeightsNotFoundError, WeightsWarning
from .store import CONFIG, OWN_LAYOUT, PICKLE, WEIGHTS, attach, read_json, refused_pickle, saved_rules, saved_spec

if TYPE_CHECKING:
    from ..encoder import Encoder, Model

log = logging.getLogger("hybridvit")

# What a config has that can be read, and what is said of one that has none of them.
KNOWN_BY = ("format_version", "architecture", "model_type")
NOT_KNOWN = "neither hybridvit's (format_version), timm's (architecture) nor transformers' (model_type)"
# Names, with their licences, that `_warn_of_licence` has warned of in this process.
_warned: set[tuple[str, str]] = set()


def full_name(model: str | Path) -> str:
    """`local-dir:PATH` for the path of a directory, any other name of a model, or path of a weight file, as it is."""
    is_file = weight_path(str(model)) is not None
    if is_file and not Path(model).expanduser().is_dir():
        return str(model)
    if isinstance(model, Path) or is_file:
        return f"{DIRECTORY}{model}"
    if model.startswith((HUB, DIRECTORY)) or (os.sep not in model and model.partition(".")[0] in index()):
        return model
    return f"{DIRECTORY}{model}" if os.sep in model or Path(model).is_dir() else model


def load_model(model: str | Path | Encoder) -> Encoder:
    """A model itself, one from a directory or file, or a pretrained one by name. Raises as `create_model` does."""
    return create_model(full_name(model), pretrained=True) if isinstance(model, str | Path) else model


def load_recorded(
    source: str | Path,
    architecture: str | None = None,
    *,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    allow_pickle: bool = False,
    lock: str | Path | None = None,
) -> Encoder:
    """The model of a file, directory or name, with the hash of every file that it was read from in its `resolved`.

    The `architecture` is that of a file that is not recognised by itself. Raises as `create_model` does, and
    ChangedError for a file that changes after it was read, at each of several loads.
    """
    options: dict[str, Any] = {"cache_dir": cache_dir, "endpoint": endpoint, "token": token}
    options |= {"allow_pickle": allow_pickle, "lock": lock}

    def load() -> Encoder:
        if architecture is None:
            model = create_model(full_name(source), pretrained=True, **options)
        else:
            model = create_model(architecture, file=source, **options)
        assert model.resolved is not None
        for file in model.resolved.files:
            _ = file.sha256  # is kept
        return model

    for _ in range(ATTEMPTS - 1):
        with suppress(ChangedError):
            return load()
    return load()


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
    lock: str | Path | None = None,
) -> Encoder:
    """A model by name, in eval mode if it has weights. What was loaded is in its `resolved`.

    Args:
        name: `arch` or `arch.tag` of the zoo; `hf-hub:ORG/NAME[@REVISION]`; `local-dir:PATH`; the path of a weight
            file. All but the first always load weights, in our, timm's, transformers' or any known layout. Without a
            config.json that says what they are, they are recognised by their names and shapes.
        pretrained: load the released weights of that tag, or of the first if none is named.
        num_classes: another number gets a fresh classifier; the same keeps it with its labels; 0 gives embeddings.
        in_chans: channels of the images; kernels are summed or shared out.
        img_size: pixels or (height, width) that position and bias tables are resized to, once. Not needed to run at
            another size.
        revision: branch, tag or commit on the Hub, for weights that come from there.
        cache_dir: of huggingface_hub; by default the one that its variables name.
        endpoint: address of the Hub; by default HF_ENDPOINT or huggingface.co.
        token: for private repositories; by default the one that is logged in.
        file: load this weight file of the architecture `name` instead, in our, timm's or any known layout.
        allow_pickle: read pickled files too, tensors only. Weights that were released as nothing else need it.
        lock: a lock file, as `hybridvit lock` writes it; anything but what it has for `name` is refused.

    Raises:
        UnknownNameError: for a model, tag or family that does not exist; the nearest are offered.
        WeightsNotFoundError: for a repository, revision, directory or file that is not there or cannot be reached.
        WeightsError: for a file that cannot be read or is damaged, a pickle that is not allowed, weights of no
            architecture, or of several, and a directory that is saved into again and again meanwhile.
        LockError: for weights that are not those of the lock file.
        KeyMismatchError: for weights that do not fit, listing every key.
        SpecError: for a config that describes no model.
    """
    if isinstance(name, Path):
        raise ValueError(f"name must be text; for a directory {DIRECTORY}{name}, for a weight file str(PATH)")
    _check_request(num_classes, in_chans, img_size)
    hub = {"revision": revision, "cache_dir": cache_dir, "endpoint": endpoint, "token": token}
    says_where = is_place(name)
    if file is not None and says_where:
        raise ValueError(f"file= goes with the name of an architecture, not with {name!r}")
    if not says_where and os.sep in name and Path(name).expanduser().is_dir():
        raise WeightsNotFoundError(f"{name} is a directory, not a name of the zoo; to load it: {DIRECTORY}{name}")
    if not (says_where or pretrained or file is not None):
        if lock is not None:
            raise ValueError(f"lock= goes with weights, and {name!r} is made from scratch; pass pretrained=True")
        return _from_scratch(name, num_classes, in_chans, img_size)
    architecture = None if says_where else _architecture(name)
    place, size = find_place(name, file, hub), None if img_size is None else _pair(img_size)
    if revision is not None and not isinstance(place.files, HubFiles):
        raise ValueError(f"revision= goes with a repository on the Hub, not with {place.source}; leave it out")

    def load(files: Recorded) -> Encoder:
        if architecture is None:
            return _from_files(files, num_classes, size, allow_pickle)
        if file is not None:
            return _from_named_file(architecture, files, num_classes, size, allow_pickle)
        return _from_entry(find_entry(name), files, num_classes, allow_pickle)

    model = _adapted(read_at_once(place, load, lock, revision), in_chans, size)
    log.info("%s", model.resolved)
    return model.eval()


def _check_request(num_classes: int | None, in_chans: int | None, img_size: int | tuple[int, int] | None) -> None:
    size = (1,) if img_size is None else _pair(img_size)
    for name, value, low in (("num_classes", num_classes, 0), ("in_chans", in_chans, 1), ("img_size", min(size), 1)):
        if value is not None and value < low:
            raise ValueError(f"{name} must be at least {low}, got {value}")
    if num_classes is not None and (num_classes > LARGEST_NUMBER or num_classes != int(num_classes)):
        raise ValueError(f"num_classes must be a whole number of at most {LARGEST_NUMBER:,}, got {shown(num_classes)}")


def _pair(img_size: int | tuple[int, int]) -> tuple[int, int]:
    sides: Any = (img_size, img_size) if isinstance(img_size, int) else img_size
    if not isinstance(sides, tuple | list) or [type(side) for side in sides] != [int, int]:
        raise ValueError(f"img_size must be a number of pixels or (height, width), got {shown(img_size)}")
    return sides[0], sides[1]


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


def _adapted(model: Encoder, in_chans: int | None, img_size: tuple[int, int] | None) -> Encoder:
    """Whatever was asked for beyond what the weights are."""
    if in_chans is not None and in_chans != model.spec.in_chans:
        model = adapt.with_in_chans(model, in_chans)
    if img_size is not None and img_size != model.spec.img_size:
        model = adapt.with_img_size(model, img_size)
    if img_size is not None and model.preprocess is not None:
        model.preprocess = replace(model.preprocess, input_size=img_size)  # weights may be fed at a size of its own
    return model


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
    own = expected = model.state_dict()
    if covers:
        expected = {key: tensor for key, tensor in expected.items() if key.startswith(covers)}
        tensors = {key: tensor for key, tensor in tensors.items() if key.startswith(covers)}
    check_keys(tensors, expected, excused=excused, source=source, untaken=untaken)
    kept = {key: tensor for key, tensor in tensors.items() if not (excused and key.startswith(excused))}
    _warn_of_no_numbers(kept, source)
    _assign(model, kept)
    _initialise_missing(model, wanted, own.keys() - kept.keys())
    return model


def _assign(model: Encoder, tensors: StateDict) -> None:
    """As `load_state_dict(tensors, assign=True)`, which takes twice as long: it looks for the share of each module."""
    modules = dict(model.named_modules())
    for key, tensor in tensors.items():
        path, _, name = key.rpartition(".")
        held = getattr(modules[path], name)
        is_parameter = isinstance(held, nn.Parameter)
        setattr(modules[path], name, nn.Parameter(tensor, held.requires_grad) if is_parameter else tensor)


def _warn_of_no_numbers(tensors: StateDict, source: str) -> None:
    """One pass over the weights: a sum tells whether a NaN is among them, unless it overflows by itself."""
    checked = {key: tensor for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.is_meta}
    sums = torch.stack([tensor.sum(dtype=torch.float32) for tensor in checked.values()] or [torch.zeros(())])
    finite = zip(checked.items(), sums.isfinite().tolist(), strict=False)
    bad = [key for (key, tensor), is_finite in finite if not is_finite and not tensor.isfinite().all()]
    if bad:
        shown = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        warnings.warn(
            f"{source}: NaN or infinite weights in {shown}; what the model answers means nothing",
            WeightsWarning,
            stacklevel=4,
        )


def _initialise_missing(model: Encoder, spec: Model, missing: Set[str]) -> None:
    """Replaces what is `missing`, and so on `meta`: a new classifier alone, or what a partial checkpoint lacks.

    It gets the precision of the rest.
    """
    held = (each.dtype for each in model.parameters() if not each.is_meta and each.is_floating_point())
    dtype = next(held, None)
    if missing and all(key.startswith(CLASSIFIER) for key in missing):
        model.head = spec.build_head(model.num_features).to(dtype=dtype)
    elif missing:
        fresh = spec.build().to(dtype=dtype).state_dict()
        _assign(model, {key: fresh[key] for key in missing})


def _weights(files: Recorded, allow_pickle: bool, name: str = WEIGHTS, prefix: str = "") -> StateDict:
    tensors = files.tensors(allow_pickle, name, prefix)
    if tensors is None:
        raise WeightsNotFoundError(f"{files.where} has neither {name} nor {PICKLE}")
    return tensors


def _filled(
    layout: Layout,
    tensors: StateDict,
    files: Recorded,
    num_classes: int | None,
) -> Encoder:
    """A model of a layout's spec around tensors in that layout, with a record of it."""
    ours, untaken = converted(tensors, layout.rules, files.where)
    model = fill(layout.spec, ours, num_classes, files.where, untaken=untaken)
    model.resolved = files.resolved(layout.name, layout.spec, model.spec, left_out(tensors, layout.rules))
    return model


def _from_named_file(
    architecture: str,
    files: Recorded,
    num_classes: int | None,
    img_size: tuple[int, int] | None,
    allow_pickle: bool,
) -> Encoder:
    """A model of the zoo with the weights of a file, whose names may be ours or those of any layout of the family.

    The file says how many classes and channels there are. Its size is that of the architecture, or else the given.
    Raises KeyMismatchError listing every key and shape that does not fit the layout that is closest.
    """
    tensors = _weights(files, allow_pickle)
    layout = closest_layout(tensors, list(possible_layouts(family_of(architecture), model_spec(architecture))))
    ours, untaken = converted(tensors, layout.rules, files.where)
    spec = layout.spec.replace(num_classes=classes_in(ours, layout.spec), in_chans=channels_in(ours, layout))
    asked = spec.replace(img_size=img_size or spec.img_size)
    as_asked = {key: tensor.shape for key, tensor in expected_tensors(asked).items()}
    fits_as_asked = as_asked == {key: tensor.shape for key, tensor in ours.items()}
    spec = asked if fits_as_asked else spec
    model = fill(spec, ours, num_classes, files.where, untaken=untaken)
    model.resolved = files.resolved(layout.name, spec, model.spec, left_out(tensors, layout.rules))
    model.origin = {"architecture": architecture, **files.origin()}
    return model


def _from_files(
    files: Recorded, num_classes: int | None, img_size: tuple[int, int] | None, allow_pickle: bool
) -> Encoder:
    """A model in a directory, repository or file, by what the config says, or else by the weights themselves."""
    path = files.get(CONFIG)
    another = isinstance(files.files, OneFile) and files.files.path.name not in (WEIGHTS, PICKLE)
    try:
        config = None if path is None else read_json(path)
    except WeightsError:
        if not another:
            raise
        config = None  # of something else that lies there
    if config is None or not any(field in config for field in KNOWN_BY):
        return _recognised(files, config is not None, num_classes, img_size, allow_pickle)
    try:
        model = _from_config(config, files, num_classes, allow_pickle)
    except SpecError as error:
        raise SpecError(f"{files.where}: its {CONFIG} describes no model: {error}") from error
    except KeyMismatchError:
        if another:  # the config beside it is of other weights
            with suppress(WeightsError):
                return _recognised(files, False, num_classes, img_size, allow_pickle)
        raise
    except (WeightsError, UnknownNameError, OSError, Warning):
        raise
    except Exception as error:  # whatever a spec of nonsense makes of torch's layers
        reason = printable(f"{type(error).__name__}: {error}", 3 * LONGEST_SHOWN)
        raise WeightsError(f"{files.where}: its {CONFIG} describes no model ({reason}); get it again") from error
    if model.spec.num_classes != len(model.labels or ()):
        model.labels = None
    _warn_of_licence(files.where, model.origin)
    return model


def _recognised(
    files: Recorded, has_config: bool, num_classes: int | None, img_size: tuple[int, int] | None, allow_pickle: bool
) -> Encoder:
    """A model of the zoo that weights are of, although no config says so."""
    tensors = files.tensors(allow_pickle)
    unknown = f"{files.where}: its {CONFIG} is {NOT_KNOWN}"
    if tensors is None and has_config:
        raise WeightsError(unknown)
    if tensors is None:
        raise WeightsNotFoundError(
            f"{files.where} has no {CONFIG}, so it holds no model; nor weights to tell one by, {WEIGHTS} or {PICKLE}"
        )
    try:
        fit = recognise(tensors, files.where, img_size)
    except WeightsError as error:
        if has_config:
            raise WeightsError(f"{unknown}; {error}") from error
        raise
    model = _filled(fit.layout, tensors, files, num_classes)
    model.origin = {"architecture": fit.architecture, **files.origin()}
    return model


def _from_config(config: dict[str, Any], files: Recorded, num_classes: int | None, allow_pickle: bool) -> Encoder:
    """The model that a config and the weights beside it describe, in our format or another's."""
    if "format_version" not in config:
        return _from_foreign(config, files, num_classes, allow_pickle)
    spec = saved_spec(config, files.where)
    layout = Layout(config.get("layout", OWN_LAYOUT), saved_rules(config, spec, files.where), spec)
    model = _filled(layout, _weights(files, allow_pickle), files, num_classes)
    attach(model, config, spec.num_classes, files.where)
    if model.spec.num_classes != spec.num_classes:
        model.origin, model.multi_label = adapt.without_results(model.origin), False
    return model


def _from_foreign(config: dict[str, Any], files: Recorded, num_classes: int | None, allow_pickle: bool) -> Encoder:
    foreign: Foreign
    if "architecture" in config:
        foreign = from_timm(config, files.where)
        tensors = _weights(files, allow_pickle)
    else:
        from .transformers_format.repository import from_transformers

        tensors = _weights(files, allow_pickle)
        foreign = from_transformers(config, files, {key: tuple(tensor.shape) for key, tensor in tensors.items()})
    layouts = [Layout(name, rules, foreign.spec) for name, rules in foreign.rules.items()]
    model = _filled(closest_layout(tensors, layouts), tensors, files, num_classes)
    model.preprocess, model.labels = foreign.preprocess, foreign.labels
    origin = {"architecture": foreign.architecture, "licence": foreign.licence, **files.origin()}
    model.origin = {key: value for key, value in origin.items() if value}
    return model


def _from_entry(entry: WeightEntry, files: Recorded, num_classes: int | None, allow_pickle: bool) -> Encoder:
    """A released checkpoint of the zoo."""
    on_hub = entry.source.startswith("hf:")
    installed = not entry.source.startswith(("hf:", "url:"))
    if entry.pickled and not (allow_pickle or installed):
        place = entry.source.partition(":")[2]
        raise refused_pickle(f"{entry.name} ({place})")  # before anything is downloaded
    # What an installed package carries was trusted when it was installed; even so only tensors are read.
    tensors = _weights(files, allow_pickle or installed, entry.file, entry.prefix)
    origin: dict[str, Any] = {"architecture": entry.architecture, "source": entry.name, "licence": entry.licence}
    if on_hub:
        origin |= files.origin()
    holder = entry.donor or entry.architecture
    held = model_spec(holder).replace(num_classes=entry.num_classes, in_chans=entry.in_chans)
    held = held.replace(img_size=entry.preprocess.input_size)
    rules = None if entry.layout == OWN_LAYOUT else layouts_of(family_of(holder))[entry.layout](held)
    lost = left_out(tensors, rules)
    tensors, untaken = converted(tensors, rules, entry.name)
    spec = held
    if entry.donor:
        check_keys(tensors, expected_tensors(held), source=f"{entry.name}, {holder} in {files.where},", untaken=untaken)
        own = model_spec(entry.architecture)
        spec = own.replace(num_classes=own.num_classes if num_classes is None else num_classes, in_chans=entry.in_chans)
    model = fill(spec, tensors, num_classes, entry.name, entry.covers, untaken)
    model.resolved = files.resolved(entry.layout, held, model.spec, lost)
    model.preprocess, model.origin = entry.preprocess, origin
    labels = entry.label_names()
    model.labels = labels if len(labels) == model.spec.num_classes and not entry.covers else None
    if entry.covers:
        parts = ", ".join(part.rstrip(".") for part in entry.covers)
        model.resolved = model.resolved.changed(f"taken: {parts} only, the rest is new")
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
    if licence and is_non_commercial(licence) and (name, str(licence)) not in _warned:
        _warned.add((name, str(licence)))
        warnings.warn(
            f"{name} is licensed {printable(str(licence))}: not for commercial use", WeightsWarning, stacklevel=4
        )
