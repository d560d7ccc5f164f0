"""Saved models: a directory with `config.json`, `model.safetensors` and a model card.

Where timm has the architecture, the tensors carry timm's names and the config the fields that timm reads, so the same
directory loads in both. Loading never depends on a builder's name: the whole spec is in the config.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import __version__
from ..families import Family
from ..keys import KeyRules
from ..preprocess import Preprocess
from ..registry import family_of, index, spec_from_dict
from .card import model_card

if TYPE_CHECKING:
    from ..encoder import Encoder, Model

CONFIG, WEIGHTS, CARD, PICKLE = "config.json", "model.safetensors", "README.md", "pytorch_model.bin"
FORMAT_VERSION = 1


class WeightsError(ValueError):
    """A weight file or config cannot be read; the message says why and what to do."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises WeightsError if the file holds something else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is not JSON ({error}); save or download the model again") from error
    if not isinstance(data, dict):
        raise WeightsError(f"{path} holds {type(data).__name__}, expected an object; it is no model config")
    return data


def read_tensors(path: Path, allow_pickle: bool = False) -> dict[str, Tensor]:
    """A state dict. Safetensors are memory-mapped; a pickle is read only if allowed, and then tensors only.

    Raises WeightsError for a truncated or foreign file, and for a pickle that is not allowed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise WeightsError(
                f"{path} is no readable safetensors file ({error}): truncated or something else; download it again"
            ) from error
    if not allow_pickle:
        raise WeightsError(
            f"{path} is a pickle, which can run code when it is read. Convert it to safetensors, or pass "
            "allow_pickle=True if you trust it: then tensors are read from it and nothing else"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as tensors only ({error})") from error
    for wrapper in ("model", "state_dict", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise WeightsError(f"{path} holds no state dict")
    return dict(state)


def saved_spec(config: Mapping[str, Any], where: str) -> Model:
    """The spec in a config of ours. Raises WeightsError for a newer format, SpecError for an unreadable spec."""
    version = config["format_version"]
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{where} has format version {version}, this is hybridvit {__version__}, which reads {FORMAT_VERSION}; "
            "pip install --upgrade hybridvit"
        )
    return spec_from_dict(config["spec"])


def saved_rules(config: Mapping[str, Any], spec: Model) -> KeyRules | None:
    """The key rules of the tensors beside a config of ours; None if they carry our own names."""
    if config.get("layout", "hybridvit") == "hybridvit":
        return None
    return family_of(config["architecture"]).layouts[config["layout"]](spec)


def attach(model: Encoder, config: Mapping[str, Any]) -> None:
    """Gives a model the preprocessing, labels and origin that were saved with it."""
    preprocess, labels = config.get("preprocess"), config.get("labels")
    model.preprocess = Preprocess(**preprocess) if preprocess else None
    model.labels = tuple(labels) if labels else None
    model.origin = config.get("origin")


def save_pretrained(model: Encoder, directory: str | Path, **facts: Any) -> Path:
    """Save weights, spec, preprocessing, labels and a model card; `create_model("local-dir:...")` needs nothing else.

    directory: made if need be; other files in it stay. Each file replaces its predecessor only once it is whole, the
               config last, so that a crash or a full disk leaves an earlier model loadable.
    facts:     what the card should say besides: licence, datasets, metrics, description, base_model.

    Raises OSError if a file cannot be written.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    config = model_config(model)
    rules = saved_rules(config, model.spec)
    ours = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    tensors = rules.to_theirs(ours) if rules else ours
    staging = Path(tempfile.mkdtemp(prefix=".saving-", dir=directory))
    try:
        from safetensors.torch import save_file

        contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
        try:
            save_file(contiguous, staging / WEIGHTS, metadata={"format": "pt"})
        except Exception as error:  # safetensors reports a full disk as its own error type
            raise OSError(f"{directory / WEIGHTS} could not be written ({error}); earlier files are intact") from error
        (staging / CARD).write_text(model_card(model, config, facts), encoding="utf-8")
        (staging / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        for name in (WEIGHTS, CARD, CONFIG):
            with (staging / name).open("rb+") as file:
                os.fsync(file.fileno())
        for name in (WEIGHTS, CARD, CONFIG):
            os.chmod(staging / name, 0o644)
            os.replace(staging / name, directory / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return directory


def model_config(model: Encoder) -> dict[str, Any]:
    """What `config.json` holds: our format, and beside it timm's where timm has the architecture."""
    architecture = (model.origin or {}).get("architecture")
    family = _family_of_spec(architecture, model.spec)
    config: dict[str, Any] = {
        "library": "hybridvit",
        "format_version": FORMAT_VERSION,
        "layout": "timm" if family and "timm" in family.layouts else "hybridvit",
        "architecture": architecture if family else None,
        "preprocess": asdict(model.preprocess) if model.preprocess else None,
        "labels": list(model.labels) if model.labels else None,
        "origin": model.origin,
        "num_classes": model.spec.num_classes,
        "num_features": model.num_features,
    }
    if config["layout"] == "timm":
        config |= timm_fields(model)
    return config | {"spec": model.spec.to_dict()}


def _family_of_spec(architecture: str | None, spec: Model) -> Family | None:
    """The family, if the spec is that architecture's but for what `create_model` may change."""
    if architecture is None or architecture not in index():
        return None
    family = family_of(architecture)
    adapted = family.model(architecture).replace(
        img_size=spec.img_size, in_chans=spec.in_chans, num_classes=spec.num_classes
    )
    return family if adapted == spec else None


def timm_fields(model: Encoder) -> dict[str, Any]:
    """The fields by which timm builds and feeds the same model."""
    from ..adapt import GridDependent

    preprocess = model.preprocess or Preprocess(input_size=model.spec.img_size)
    has_tables = any(isinstance(module, GridDependent) for module in model.modules())
    arguments = {"img_size": list(model.spec.img_size)} if has_tables else {}
    return {
        "model_args": arguments,
        "label_names": list(model.labels) if model.labels else None,
        "pretrained_cfg": {
            "num_classes": model.spec.num_classes,
            "input_size": [model.spec.in_chans, *preprocess.input_size],
            "fixed_input_size": has_tables,
            "interpolation": preprocess.interpolation,
            "crop_pct": preprocess.crop_pct,
            "crop_mode": preprocess.crop_mode,
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
        },
    }
