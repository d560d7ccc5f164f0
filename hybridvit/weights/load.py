"""`create_model`: from a name to a model, from scratch or with weights from wherever they are."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import adapt
from ..keys import KeyMismatchError, KeyRules, check_keys
from ..preprocess import Preprocess
from ..registry import family_of, model_spec
from .entries import WeightEntry, find_entry
from .foreign import Foreign, from_timm, from_transformers
from .sources import DIRECTORY, HUB, Files, LocalFiles, WeightsNotFoundError, hub_files, local_files, shipped_file
from .store import CONFIG, PICKLE, WEIGHTS, WeightsError, attach, read_json, read_tensors, saved_rules, saved_spec

if TYPE_CHECKING:
    from ..encoder import Encoder, Model

CLASSIFIER = ("head.",)


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

    name:         `arch` or `arch.tag` of the zoo; `hf-hub:ORG/NAME[@REVISION]`; `local-dir:PATH`. The last two always
                  load weights, whether ours, timm's or transformers'.
    pretrained:   load the released weights of that tag, or of the first if none is named.
    num_classes:  another number gets a fresh classifier; the same keeps it with its labels; 0 gives embeddings.
    in_chans:     channels of the images; kernels are summed or shared out.
    img_size:     pixels or (height, width) that position and bias tables are resized to, once. Not needed to run at
                  another size.
    revision:     branch, tag or commit on the Hub. cache_dir, endpoint, token: as in huggingface_hub.
    file:         load this weight file of the architecture `name` instead, in our, timm's or any known layout.
    allow_pickle: read pickled files too, tensors only.

    Raises UnknownNameError for a name, WeightsNotFoundError for a place, WeightsError for a file, KeyMismatchError
    (listing every key) for weights that do not fit, SpecError for a config; all say what to do.
    """
    if name.startswith((HUB, DIRECTORY)):
        if file is not None:
            raise ValueError(f"file= goes with the name of an architecture, not with {name!r}")
        if name.startswith(HUB):
            files: Files = hub_files(
                name.removeprefix(HUB), revision=revision, cache_dir=cache_dir, endpoint=endpoint, token=token
            )
        else:
            files = local_files(name.removeprefix(DIRECTORY))
        model = _from_files(files, num_classes, allow_pickle)
    elif file is not None:
        model = load_weights(
            _named_spec(name), Path(file), family_of(name.partition(".")[0]).layouts, num_classes, allow_pickle
        )
        model.origin = {"architecture": name.partition(".")[0], "source": str(file)}
    elif pretrained:
        model = _from_entry(
            find_entry(name),
            num_classes,
            allow_pickle,
            revision=revision,
            cache_dir=cache_dir,
            endpoint=endpoint,
            token=token,
        )
    else:
        return _from_scratch(name, num_classes, in_chans, img_size)
    return _adapted(model, num_classes, in_chans, img_size).eval()


def _named_spec(name: str) -> Model:
    return model_spec(name.partition(".")[0])


def _pair(img_size: int | tuple[int, int]) -> tuple[int, int]:
    return (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])


def _from_scratch(
    name: str, num_classes: int | None, in_chans: int | None, img_size: int | tuple[int, int] | None
) -> Encoder:
    if "." in name:
        find_entry(name)
    changes: dict[str, Any] = {}
    if num_classes is not None:
        changes["num_classes"] = num_classes
    if in_chans is not None:
        changes["in_chans"] = in_chans
    if img_size is not None:
        changes["img_size"] = _pair(img_size)
    for field, value in changes.items():
        low = 0 if field == "num_classes" else 1
        if min(value if isinstance(value, tuple) else (value,)) < low:
            raise ValueError(f"{field} must be at least {low}, got {value}")
    model = _named_spec(name).replace(**changes).build()
    model.origin = {"architecture": name.partition(".")[0]}
    return model


def _adapted(
    model: Encoder, num_classes: int | None, in_chans: int | None, img_size: int | tuple[int, int] | None
) -> Encoder:
    """Whatever was asked for beyond what the weights are."""
    if in_chans is not None and in_chans != model.spec.in_chans:
        model = adapt.with_in_chans(model, in_chans)
    if img_size is not None and _pair(img_size) != model.spec.img_size:
        model = adapt.with_img_size(model, img_size)
    return model


def fill(
    spec: Model,
    tensors: dict[str, Tensor],
    num_classes: int | None,
    source: str,
    covers: tuple[str, ...] = (),
) -> Encoder:
    """A model of `spec` around the tensors, which are assigned, not copied; only what they do not hold is initialised.

    The classifier may be another's if `num_classes` is, and everything outside `covers`, if any, may be missing. Any
    other key that is missing, surplus or of another shape is an error.
    """
    wanted = spec if num_classes is None else spec.replace(num_classes=num_classes)
    new_classifier = wanted.num_classes != spec.num_classes
    with torch.device("meta"):
        model = wanted.build()
    expected = model.state_dict()
    excused = CLASSIFIER if new_classifier else ()
    if covers:
        expected = {key: tensor for key, tensor in expected.items() if key.startswith(covers)}
        tensors = {key: tensor for key, tensor in tensors.items() if key.startswith(covers)}
    check_keys(tensors, expected, excused=excused, source=source)
    kept = {key: tensor for key, tensor in tensors.items() if not (excused and key.startswith(excused))}
    model.load_state_dict(kept, assign=True, strict=False)
    _initialise_missing(model, wanted)
    return model


def _initialise_missing(model: Encoder, spec: Model) -> None:
    """Replaces what is still on the meta device: a new classifier alone, or, of a partial checkpoint, what it lacks."""
    missing = {key for key, tensor in model.state_dict().items() if tensor.is_meta}
    if missing and all(key.startswith(CLASSIFIER) for key in missing):
        model.head = spec.head.build(model.num_features, spec.num_classes)
    elif missing:
        fresh = spec.build().state_dict()
        model.load_state_dict({key: fresh[key] for key in missing}, assign=True, strict=False)


def converted(tensors: dict[str, Tensor], rules: tuple[KeyRules, ...], source: str) -> dict[str, Tensor]:
    """The tensors under our names, by the first rules that take all of them; the errors of all if none does."""
    errors: list[str] = []
    for each in rules:
        try:
            return each.to_ours(tensors)
        except KeyMismatchError as error:
            errors.append(str(error))
    raise KeyMismatchError(f"{source} does not fit the model. " + " Or: ".join(errors))


def load_weights(
    spec: Model, path: Path, layouts: Any, num_classes: int | None = None, allow_pickle: bool = False
) -> Encoder:
    """A model of `spec` with the weights of a file, whose names may be ours or those of any of `layouts`."""
    if not path.is_file():
        raise WeightsNotFoundError(f"no weight file {path}")
    tensors = read_tensors(path, allow_pickle)
    with torch.device("meta"):
        ours = set(spec.build().state_dict())
    if not ours & set(tensors):
        tensors = converted(tensors, tuple(rules(spec) for rules in layouts.values()), str(path))
    if num_classes is None and "head.weight" in tensors:
        spec = spec.replace(num_classes=tensors["head.weight"].shape[0])
    return fill(spec, tensors, num_classes, str(path))


def _weight_file(files: Files, name: str = WEIGHTS) -> Path:
    found = files.get(name) or files.get(PICKLE)
    if found is None:
        raise WeightsNotFoundError(f"{files.where} has neither {name} nor {PICKLE}")
    return found


def _from_files(files: Files, num_classes: int | None, allow_pickle: bool) -> Encoder:
    """A model directory or repository, recognised by what its config says."""
    path = files.get(CONFIG)
    if path is None:
        raise WeightsNotFoundError(f"{files.where} has no {CONFIG}, so it is no model directory")
    config = read_json(path)
    if "format_version" in config:
        spec = saved_spec(config, files.where)
        rules = saved_rules(config, spec)
        tensors = read_tensors(_weight_file(files), allow_pickle)
        model = fill(spec, rules.to_ours(tensors) if rules else tensors, num_classes, files.where)
        attach(model, config)
    else:
        foreign = _foreign(config, files)
        tensors = read_tensors(_weight_file(files), allow_pickle)
        model = fill(foreign.spec, converted(tensors, foreign.rules, files.where), num_classes, files.where)
        model.preprocess, model.labels = foreign.preprocess, foreign.labels
        model.origin = {"architecture": foreign.architecture}
        if foreign.licence:
            model.origin["licence"] = foreign.licence
    if model.labels and len(model.labels) != model.spec.num_classes:
        model.labels = None
    model.origin = {**(model.origin or {}), "source": _origin_name(files)}
    return model


def _origin_name(files: Files) -> str:
    return f"{DIRECTORY}{files.where}" if isinstance(files, LocalFiles) else f"{HUB}{files.where}"


def _foreign(config: dict[str, Any], files: Files) -> Foreign:
    if "architecture" in config:
        return from_timm(config, files.where)
    if "model_type" in config:
        return from_transformers(config, files)
    raise WeightsError(
        f"{files.where}: its {CONFIG} is neither hybridvit's (format_version), timm's (architecture) nor "
        "transformers' (model_type)"
    )


def _from_entry(entry: WeightEntry, num_classes: int | None, allow_pickle: bool, **hub: Any) -> Encoder:
    """A released checkpoint of the zoo."""
    _, _, place = entry.source.partition(":")
    if entry.source.startswith("hf:"):
        tensors = read_tensors(_weight_file(hub_files(place, **hub), entry.file), allow_pickle)
    else:
        # What an installed package carries was trusted when it was installed; even so only tensors are read.
        tensors = read_tensors(shipped_file(entry.source), allow_pickle=True)
    spec = model_spec(entry.architecture).replace(in_chans=entry.in_chans)
    if entry.donor:
        donor = model_spec(entry.donor)
        tensors = converted(tensors, (family_of(entry.donor).layouts[entry.layout](donor),), entry.name)
        spec = spec.replace(num_classes=spec.num_classes if num_classes is None else num_classes)
        num_classes = None
    else:
        spec = spec.replace(num_classes=entry.num_classes, img_size=_built_size(spec, entry.preprocess))
        if entry.layout != "hybridvit":
            tensors = converted(tensors, (family_of(entry.architecture).layouts[entry.layout](spec),), entry.name)
    model = fill(spec, tensors, num_classes, entry.name, entry.covers)
    model.preprocess = entry.preprocess
    model.labels = (entry.labels or None) if model.spec.num_classes == len(entry.labels) else None
    model.origin = {
        "architecture": entry.architecture,
        "base_model": place if entry.source.startswith("hf:") else None,
        "licence": entry.licence,
        "source": entry.name,
    }
    model.origin = {key: value for key, value in model.origin.items() if value}
    if entry.non_commercial:
        warnings.warn(f"{entry.name} is licensed {entry.licence}: not for commercial use", stacklevel=3)
    return model


def _built_size(spec: Model, preprocess: Preprocess) -> tuple[int, int]:
    """Released weights carry the tables of the size they are used at, where they have tables."""
    with torch.device("meta"):
        modules: list[nn.Module] = list(spec.build().modules())
    return preprocess.input_size if any(isinstance(each, adapt.GridDependent) for each in modules) else spec.img_size
