"""Saved models: a directory with `config.json`, `model.safetensors` and a model card.

Where timm has the architecture, the tensors carry timm's names and the config the fields that timm reads, so the same
directory loads in both. Loading never depends on a builder's name: the whole spec is in the config.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import __version__
from ..families import Family
from ..keys import KeyMismatchError, KeyRules
from ..limits import LARGEST_CONFIG, shown
from ..meta import without_memory
from ..preprocess import Preprocess
from ..registry import family_of, index, spec_from_dict
from ..spec import nearest
from .cache import has_digest, remedy
from .card import model_card, odd_facts, saved_facts
from .errors import UnreadableError, WeightsError
from .exclusive import held, settle
from .sources import NOTE, PENDING, WeightsWarning, read_note
from .timm_format import SIZED, built_for, differs

if TYPE_CHECKING:
    from ..encoder import Encoder, Model

CONFIG, WEIGHTS, CARD, PICKLE = "config.json", "model.safetensors", "README.md", "pytorch_model.bin"
PICKLES = (".bin", ".pth", ".pt")
# Where a save keeps its files in a directory until all of them are written, each save in one of its own: `.saving-*`.
STAGING = ".saving"
# After how many seconds what a killed save left is removed where locks do not tell that it was killed.
ABANDONED = 24 * 3600.0
FORMAT_VERSION = 1
OWN_LAYOUT = "hybridvit"
# The task of a config whose images have any number of labels; without one they have a single label.
MULTI_LABEL = "multi-label"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises WeightsError if the file holds something else, or too much of it."""
    size, again = path.stat().st_size, "save or download the model again"
    if size > LARGEST_CONFIG:
        raise WeightsError(f"{path} has {size:,} bytes, and no config has more than {LARGEST_CONFIG:,}: it is none")
    try:
        data = json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not JSON ({error}); {remedy(path, again)}") from error
    if not isinstance(data, dict):
        raise WeightsError(f"{path} holds {type(data).__name__}, expected an object; {remedy(path, again)}")
    return data


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, whose names must differ: two readers of the same file might take a different one of two equal."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counted = Counter(name for name, _ in pairs)
        raise ValueError(f"{shown(max(counted, key=counted.__getitem__))} is there twice")
    return found


def _no_number(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number in JSON")


def read_tensors(path: Path, allow_pickle: bool = False, prefix: str = "") -> dict[str, Tensor]:
    """A state dict. Safetensors are memory-mapped; a pickle is read only if allowed, and then tensors only.

    With a `prefix` those tensors whose names begin with it, without it; tables in a pickle are part of the names.

    Raises WeightsError for a truncated or foreign file, and for a pickle that is not allowed.
    """
    if path.suffix == ".safetensors":
        try:
            return below(load_file(path), prefix, path)
        except SafetensorError as error:
            raise UnreadableError(
                f"{path} is no readable safetensors file ({error}): truncated or something else; "
                f"{remedy(path, 'download it again')}"
            ) from error
    if path.suffix not in PICKLES and not _begins_as_pickle(path):
        listed = path.name.endswith(".index.json")
        raise WeightsError(
            f"{path} is no weight file, which is a .safetensors file or a pickle ({', '.join(PICKLES)}); "
            + ("it lists the files of weights: name their directory" if listed else "name the file with the tensors")
        )
    if not allow_pickle:
        raise refused_pickle(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UnreadableError(f"{path} cannot be read as tensors only ({error})") from error
    if prefix and isinstance(state, Mapping):
        return below(_flat(state), prefix, path)
    for wrapper in ("model", "state_dict", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise WeightsError(f"{path} holds no state dict")
    unnamed = [key for key in state if not isinstance(key, str)]
    if unnamed:
        raise WeightsError(f"{path} holds no state dict: {shown(unnamed[0])} is not the name of a tensor")
    return dict(state)


def _begins_as_pickle(path: Path) -> bool:
    """Whether a file of any name begins as what torch.save writes, now and before 1.6."""
    with path.open("rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80"))


def refused_pickle(name: str | Path) -> WeightsError:
    """The error for a pickle that is not allowed."""
    return WeightsError(
        f"{name} is a pickle, which can run code when it is read. Convert it to safetensors, or pass "
        "allow_pickle=True if you trust it: then tensors are read from it and nothing else"
    )


def _flat(table: Mapping[Any, Any], start: str = "") -> dict[str, Tensor]:
    """The tensors of a table of tables, whose names are joined by dots."""
    found: dict[str, Tensor] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{start}{name}.")
        elif isinstance(value, Tensor):
            found[f"{start}{name}"] = value
    return found


def below(tensors: Mapping[str, Tensor], prefix: str, where: str | Path) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it. Raises WeightsError if there are none."""
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if tensors and not found:
        raise WeightsError(
            f"{where} has no tensor whose name begins with {prefix!r}; it has: {', '.join([*tensors][:5])}"
        )
    return found


def saved_spec(config: Mapping[str, Any], where: str) -> Model:
    """The spec in a config of ours. Raises WeightsError for another format, SpecError for an unreadable spec."""
    version = config["format_version"]
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{where} has format version {shown(version)}, this is hybridvit {__version__}, which reads "
            f"{FORMAT_VERSION}; pip install --upgrade hybridvit"
        )
    if not isinstance(config.get("spec"), Mapping):
        raise WeightsError(f"{where}: its {CONFIG} has no 'spec'; save the model again")
    return spec_from_dict(config["spec"])


def saved_rules(config: Mapping[str, Any], spec: Model, where: str) -> KeyRules | None:
    """The key rules of the tensors beside a config of ours; None if they carry our own names."""
    layout, architecture = config.get("layout", OWN_LAYOUT), config.get("architecture")
    if layout == OWN_LAYOUT:
        return None
    from .layouts import layouts_of

    if not architecture or architecture not in index() or layout not in layouts_of(family_of(architecture)):
        raise WeightsError(f"{where}: no layout {shown(layout)} of an architecture {shown(architecture)} is known here")
    return layouts_of(family_of(architecture))[layout](spec)


def saved_preprocess(config: Mapping[str, Any], where: str) -> Preprocess | None:
    """The preprocessing in a config of ours; None if it has none. Raises WeightsError for one that cannot be read."""
    preprocess = config.get("preprocess")
    try:
        return Preprocess.from_dict(preprocess) if preprocess else None
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{where}: the 'preprocess' in its {CONFIG} cannot be read: {error}") from error


def attach(model: Encoder, config: Mapping[str, Any], num_classes: int, where: str) -> None:
    """Gives a model the preprocessing, origin, task and labels of its `num_classes` that were saved with it."""
    labels, origin = config.get("labels"), config.get("origin")
    model.preprocess = saved_preprocess(config, where)
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise WeightsError(f"{where}: the 'labels' in its {CONFIG} are no list of names")
    if labels and len(labels) != num_classes:
        raise WeightsError(f"{where}: its {CONFIG} has {len(labels)} labels for {num_classes} classes; correct it")
    if (task := config.get("task")) not in (None, MULTI_LABEL):
        raise WeightsError(
            f"{where}: its {CONFIG} has the task {shown(task)}, this is hybridvit {__version__}, which knows "
            f"{MULTI_LABEL!r} or none; pip install --upgrade hybridvit"
        )
    model.multi_label = task == MULTI_LABEL
    if origin is not None and not isinstance(origin, dict):
        raise WeightsError(f"{where}: the 'origin' in its {CONFIG} is no table")
    odd = odd_facts(origin or {})
    for what in odd.values():
        warnings.warn(f"{where}: in the 'origin' of its {CONFIG}, {what}; left out", WeightsWarning, stacklevel=4)
    origin = origin and {name: fact for name, fact in origin.items() if name not in odd and fact is not None}
    model.labels, model.origin = tuple(labels) if labels else None, origin


def save_pretrained(model: Encoder, directory: str | Path, *, layout: str | None = None, **facts: Any) -> Path:
    """Save weights, spec, preprocessing, labels and a model card; `create_model("local-dir:...")` needs nothing else.

    Args:
        model: any model, with whatever `preprocess`, `labels` and `origin` it has.
        directory: made if need be; other files in it stay. An earlier model there is replaced as a whole, once the new
            one is written: after a crash or on a full disk one of the two is there, and loads.
        layout: whose names the tensors get; by default timm's where timm has the architecture, else our own. Where timm
            computes something else at the model's size, its fields are left out of the config.
        facts: what the card should say besides: licence, datasets, metrics, description, base_model. They are saved
            with the model's origin, so that the card of a loaded model says the same. The description is Markdown
            here, and plain text in the card of a model that was loaded with it: that may come from anybody.

    Raises:
        OSError: if a file cannot be written.
        ValueError: for labels that are not as many as the classes, a layout that the model's family has not, a fact of
            another kind, a NaN among what is known of the model, and a model that was quantized.
    """
    directory = Path(directory).expanduser()
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"{directory} is a file; name a directory")
    config = model_config(model, layout, facts)
    tensors = tensors_in(model, config["layout"])
    card = model_card(model, config, facts.get("repository"), facts.get("description"))
    try:
        written = json.dumps(config, indent=1, allow_nan=False) + "\n"
    except ValueError as error:
        raise ValueError(f"model.origin or its preprocessing has a number that JSON has not: {error}") from error
    if len(written) > LARGEST_CONFIG:
        raise ValueError(
            f"{CONFIG} would have {len(written):,} bytes, of {LARGEST_CONFIG:,} at most: shorten the labels"
        )
    directory.mkdir(parents=True, exist_ok=True)
    with _own_staging(directory) as staging:
        write_tensors(tensors, staging / WEIGHTS, directory / WEIGHTS)
        (staging / CARD).write_text(card, encoding="utf-8")
        (staging / CONFIG).write_text(written, encoding="utf-8")
        for path in staging.iterdir():
            settle(path)
        publish(staging, directory)
    return directory


@contextmanager
def _own_staging(directory: Path) -> Iterator[Path]:
    """A directory inside `directory` for the files of one save; those of saves that were killed are removed."""
    with ExitStack() as until_saved:
        with held(directory):
            for left in [directory / STAGING, *directory.glob(f"{STAGING}-*")]:
                if left.is_dir():
                    with suppress(OSError), held(left, wait=False) as nobody_has_it:
                        if nobody_has_it or time.time() - left.stat().st_mtime > ABANDONED:
                            shutil.rmtree(left, ignore_errors=True)
            staging = directory / f"{STAGING}-{uuid.uuid4().hex}"
            staging.mkdir()
            until_saved.enter_context(held(staging))
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def write_tensors(tensors: Mapping[str, Tensor], path: Path, meant: Path) -> None:
    """Writes safetensors to `path`, straight from the tensors' memory. An error speaks of the file that is `meant`."""
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:  # which is also what it makes of a full disk
        raise OSError(f"{meant} could not be written ({error}); earlier files are intact") from error


def known_layouts(model: Encoder) -> dict[str, Callable[[Model], KeyRules] | None]:
    """The layouts that a model's tensors can be written in, our own first, for which there are no rules."""
    from .layouts import layouts_of

    family = _family_of_spec((model.origin or {}).get("architecture"), model.spec)
    return {OWN_LAYOUT: None, **(layouts_of(family) if family else {})}


def tensors_in(model: Encoder, layout: str) -> dict[str, Tensor]:
    """A model's tensors in a layout. Where that only renames them, they share the model's memory.

    Raises ValueError for a layout that its family has not, or that has no names for what the model has, and for
    quantized tensors.
    """
    name, known = (model.origin or {}).get("architecture") or "the model", known_layouts(model)
    if layout not in known:
        raise ValueError(f"{name} has no layout {layout!r}.{nearest(layout, known)} It has: {', '.join(known)}")
    ours = {key: tensor.detach().cpu() for key, tensor in model.state_dict().items()}
    for key, tensor in ours.items():
        if type(tensor) is not Tensor:
            raise ValueError(
                f"{key} of {name} is quantized ({type(tensor).__name__}), which safetensors do not hold: save the "
                "model that was optimized, and optimize what is loaded"
            )
    make = known[layout]
    try:
        theirs = make(model.spec).to_theirs(ours) if make else ours
    except KeyMismatchError as error:
        raise ValueError(f"the layout {layout} has no names for what {name} has: {error}") from error
    return {key: tensor.contiguous() for key, tensor in theirs.items()}


def publish(
    staging: Path,
    directory: Path,
    pulled: Mapping[str, str] | None = None,
    in_the_way: Collection[str] | None = None,
) -> None:
    """Lets the finished files in `staging`, a directory inside `directory`, take the place of those there, at once.

    With what was `pulled`, all files of a commit with their digests, those are removed that an earlier pull put there
    and the commit has not; not those that have been changed since. Where not all of the commit is known, only those
    that are `in_the_way`.

    Raises FileExistsError, before anything is changed, for a file where a folder has to be, or the reverse, that no
    pull put there.
    """
    with held(directory):
        _finish(directory)
        gone = list[str]()
        if pulled is not None:
            before, _ = read_note(directory)
            known = before.keys() if in_the_way is None else before.keys() & in_the_way
            gone = [each for each in known - pulled.keys() if is_intact(directory / each, before[each])]
            kept = {} if in_the_way is None else {each: before[each] for each in before if each not in gone}
            (staging / NOTE).parent.mkdir(parents=True, exist_ok=True)
            note = json.dumps({"files": {**kept, **pulled}, "gone": sorted(gone)}, indent=1)
            (staging / NOTE).write_text(note, encoding="utf-8")
        _check_places(staging, directory, gone)
        os.replace(staging, directory / PENDING)
        _finish(directory)


def finish_pending(directory: Path) -> None:
    """Puts the files of a save or pull in their places, also of one that was killed while it did.

    Renaming the finished files' directory is the moment at which the new model takes the place of the old: until they
    are all in their places, a reader finds them there (see `LocalFiles`).
    """
    if (directory / PENDING).is_dir():
        with held(directory):
            _finish(directory)


def _finish(directory: Path) -> None:
    pending = directory / PENDING
    if pending.is_dir():
        for name in read_note(pending)[1]:
            _remove(directory, name)
        inside = sorted(pending.rglob("*"), key=lambda path: (path == pending / NOTE, path))  # which holds until then
        for path in (path for path in inside if not path.is_dir()):
            place = directory / path.relative_to(pending)
            place.parent.mkdir(parents=True, exist_ok=True)
            if _is_folder(place):  # an empty one, see `_check_places`
                _remove_folders(place)
            os.replace(path, place)
        _remove_folders(pending)


def is_intact(path: Path, digest: str | None) -> bool:
    """Whether a file, and no link to one, is there and has a digest, if one is known."""
    return path.is_file() and not path.is_symlink() and (digest is None or has_digest(path, digest))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _check_places(staging: Path, directory: Path, gone: Sequence[str]) -> None:
    """Raises FileExistsError if a file in `staging` cannot have its place although the files that are `gone` are."""
    for path in (path for path in staging.rglob("*") if not path.is_dir()):
        place = directory / path.relative_to(staging)
        above = [each for each in place.parents if directory in each.parents and os.path.lexists(each)]
        in_the_way = [each for each in above if not each.is_dir()]
        if _is_folder(place):
            in_the_way = [each for each in place.rglob("*") if not _is_folder(each)]
        for each in in_the_way:
            if each.relative_to(directory).as_posix() not in gone:
                raise FileExistsError(
                    f"{each} is in the way of {place}, and no pull put it there; move it away, and save or pull again"
                )


def _remove(directory: Path, name: str) -> None:
    """Removes a file in a directory, and the folders that are empty then."""
    path = directory / name
    if not path.parent.resolve().is_relative_to(directory.resolve()) or not (path.is_file() or path.is_symlink()):
        return
    path.unlink()
    with suppress(OSError):  # not empty
        for folder in path.parents:
            if folder == directory:
                break
            folder.rmdir()


def _remove_folders(path: Path) -> None:
    """Removes a folder in which there are folders only."""
    for folder in sorted(path.rglob("*"), reverse=True):
        folder.rmdir()
    path.rmdir()


def model_config(model: Encoder, layout: str | None = None, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What `config.json` holds: our format, and beside it timm's where the tensors have timm's names.

    They do by default where timm has the architecture and computes the same; where it computes something else, timm's
    layout names the tensors alone. `facts` are added to the origin.
    """
    labels, spec, classes = model.labels, model.spec, model.spec.num_classes
    if labels is not None and len(labels) != classes:
        raise ValueError(f"model.labels has {len(labels)} names for {classes} classes; set one a class, or None")
    origin = {**(model.origin or {}), **saved_facts(facts or {})}
    if odd := odd_facts(origin):
        raise ValueError(f"in model.origin, {'; '.join(odd.values())}: correct it, or take it away")
    architecture = origin.get("architecture")
    family = _family_of_spec(architecture, spec)
    in_timm = family is not None and "timm" in family.layouts
    config: dict[str, Any] = {
        "library": "hybridvit",
        "format_version": FORMAT_VERSION,
        "layout": layout or ("timm" if family and in_timm and not differs(family, spec) else OWN_LAYOUT),
        "architecture": architecture if family else None,
        "preprocess": model.preprocess.to_dict() if model.preprocess else None,
        "labels": list(labels) if labels else None,
        "origin": origin or None,
        "num_classes": classes,
        "num_features": model.num_features,
    }
    if family and in_timm and config["layout"] == "timm" and not differs(family, spec):
        config |= timm_fields(model, family, config["architecture"], origin.get("licence"))
    if model.multi_label:
        config["task"] = MULTI_LABEL
    # As it is read again, so that what is written of a loaded model is the same.
    return json.loads(json.dumps(config | {"spec": spec.to_dict()}))


def _family_of_spec(architecture: str | None, spec: Model) -> Family | None:
    """The family, if the spec is that architecture's but for what `create_model` may change."""
    if architecture is None or architecture not in index():
        return None
    family = family_of(architecture)
    changes = {"in_chans": spec.in_chans, "num_classes": spec.num_classes}
    as_released = family.model(architecture).replace(img_size=spec.img_size, **changes)
    return family if spec in (as_released, built_for(family, architecture, spec.img_size).replace(**changes)) else None


def timm_fields(model: Encoder, family: Family, architecture: str, licence: str | None = None) -> dict[str, Any]:
    """The fields by which timm, and transformers through timm, build, feed and adapt the same model.

    `classifier` and `first_conv` name the layers that change with the classes and the channels; timm replaces the
    one and converts the other when a user asks for other numbers. It can convert from three channels only. timm is told
    a size only if layers depend on it: its other models do not take one.
    """
    spec, rules = model.spec, family.layouts["timm"]
    preprocess = model.preprocess or Preprocess(input_size=spec.img_size)
    size = _size_of_layers(spec, family, architecture)
    arguments: dict[str, Any] = {"img_size": list(size)} if size else {}
    if spec.in_chans != 3:
        arguments["in_chans"] = spec.in_chans
    pretrained: dict[str, Any] = {
        "num_classes": spec.num_classes,
        "input_size": [spec.in_chans, *preprocess.input_size],
        "fixed_input_size": size == spec.img_size,
        "interpolation": preprocess.interpolation,
        "crop_pct": preprocess.crop_pct,
        "crop_mode": preprocess.crop_mode,
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "license": licence,
    }
    if spec.num_classes:
        pretrained["classifier"] = _layers_that_change(rules, spec, num_classes=spec.num_classes + 1)
    if spec.in_chans == 3:
        pretrained["first_conv"] = _layers_that_change(rules, spec, in_chans=4)
    return {
        "model_args": arguments,
        "label_names": list(model.labels) if model.labels else None,
        "pretrained_cfg": pretrained,
    }


def _size_of_layers(spec: Model, family: Family, architecture: str) -> tuple[int, int] | None:
    """The size for which timm has to build the layers of the spec; None if they are the same for all."""
    released, (height, width) = family.model(architecture), spec.img_size
    changes = {"in_chans": spec.in_chans, "num_classes": spec.num_classes}
    has_tables = _shapes(spec) != _shapes(spec.replace(img_size=(2 * height, 2 * width)))
    has_windows = built_for(family, architecture, (32, 32)) != released.replace(img_size=(32, 32))
    if has_windows and spec != built_for(family, architecture, spec.img_size).replace(**changes):
        return released.img_size
    return spec.img_size if has_tables or has_windows or family.name in SIZED else None


def _shapes(spec: Model) -> dict[str, torch.Size]:
    with without_memory():
        return {key: tensor.shape for key, tensor in spec.build().state_dict().items()}


def _layers_that_change(rules: Callable[[Model], KeyRules], spec: Model, **changes: int) -> str | list[str]:
    """timm's names of the layers whose shapes change with the spec: one, or a list of several."""
    with without_memory():
        before, after = (rules(each).to_theirs(each.build().state_dict()) for each in (spec, spec.replace(**changes)))
    changed = {key.rpartition(".")[0]: None for key in before if before[key].shape != after[key].shape}
    return next(iter(changed)) if len(changed) == 1 else list(changed)
