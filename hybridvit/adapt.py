"""Change a built model's classes, channels or image size, and keep its weights.

Each function gives a new model on the same device, in the same precision and mode and with the same layers frozen, and
leaves the old one as it was. Drop path and gradient checkpointing are settings of a training, to be set on the new one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor, nn

from .encoder import Encoder, Model
from .meta import without_memory
from .preprocess import Preprocess


@runtime_checkable
class GridDependent(Protocol):
    """A module with a parameter that was made for one grid, such as a position table, and that can resize it."""

    def load_resized(self, source: Any) -> None: ...


def with_num_classes(model: Encoder, num_classes: int) -> Encoder:
    """A fresh classifier for so many classes; 0 gives the embedding. Labels and figures are of the old one and go."""
    if num_classes < 0:
        raise ValueError(f"num_classes must be 0 or more, got {num_classes}")
    adapted = _rebuilt(model, model.spec.replace(num_classes=num_classes), fresh=("head.",))
    adapted.head = adapted.spec.build_head(model.num_features).to(**_where(model))
    adapted.labels, adapted.multi_label, adapted.origin = None, False, without_results(model.origin)
    _record(adapted, f"classifier replaced: {model.spec.num_classes} -> {num_classes} classes")
    adapted.freeze(model.frozen_layers)
    return adapted.train(model.training)


# What an origin says of a model as its classifier makes it.
_RESULTS = ("metrics", "datasets", "description", "val_accuracy", "epoch")


def without_results(origin: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What remains true of where a model comes from once its classifier is another."""
    return None if origin is None else {name: value for name, value in origin.items() if name not in _RESULTS}


def with_in_chans(model: Encoder, in_chans: int) -> Encoder:
    """Another number of input channels: the first kernels are summed or repeated, as timm does it."""
    if in_chans < 1:
        raise ValueError(f"in_chans must be 1 or more, got {in_chans}")
    spec = model.spec.replace(in_chans=in_chans)
    with without_memory():
        expected = spec.build().state_dict()
    changed = {
        key: repeat_channels(tensor, in_chans)
        for key, tensor in model.state_dict().items()
        if tensor.shape != expected[key].shape
    }
    adapted = _rebuilt(model, spec, changed)
    if model.preprocess is not None:
        adapted.preprocess = in_channels(model.preprocess, in_chans)
    _record(adapted, f"first kernel: {model.spec.in_chans} -> {in_chans} channels")
    return adapted


def in_channels(preprocess: Preprocess, channels: int) -> Preprocess:
    """The same with statistics for so many channels: one gets the mean of all, more get the old ones in turn."""
    if preprocess.channels == channels:
        return preprocess
    statistics = {name: _per_channel(getattr(preprocess, name), channels) for name in ("mean", "std")}
    return dataclasses.replace(preprocess, **statistics)


def repeat_channels(kernel: Tensor, in_chans: int) -> Tensor:
    """A kernel (out, in, h, w) for another number of input channels.

    One channel gets the sum, so that grey images are answered as before, but for the scale of kernels that a model
    standardises (BiT's). More are the old ones in turn, scaled to keep the size of the response.
    """
    old = kernel.shape[1]
    if in_chans == 1:
        return kernel.sum(dim=1, keepdim=True)
    return kernel[:, [index % old for index in range(in_chans)]] * (old / in_chans)


def with_img_size(model: Encoder, img_size: int | tuple[int, int]) -> Encoder:
    """Position and bias tables resized once, for images of (height, width) pixels.

    Every model takes any size without this; it saves the resize in each forward pass, and fine-tuning at a new size
    trains the tables of that size.
    """
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    if min(height, width) < 1:
        raise ValueError(f"img_size must be positive, got {(height, width)}")
    spec = model.spec.replace(img_size=(height, width))
    with without_memory():
        target = spec.build()
    changed: dict[str, Tensor] = {}
    for name, module in target.named_modules():
        if isinstance(module, GridDependent):
            resized = cast(nn.Module, module).to_empty(device=_where(model)["device"]).to(_where(model)["dtype"])
            cast(GridDependent, resized).load_resized(model.get_submodule(name))
            changed |= {f"{name}.{key}": tensor for key, tensor in resized.state_dict().items()}
    adapted = _rebuilt(model, spec, changed)
    if model.preprocess is not None:
        adapted.preprocess = dataclasses.replace(model.preprocess, input_size=(height, width))
    if changed:
        before, after = ("x".join(map(str, size)) for size in (model.spec.img_size, (height, width)))
        _record(adapted, f"tables resized: {before} -> {after} pixels")
    return adapted


def _rebuilt(
    model: Encoder, spec: Model, changed: dict[str, Tensor] | None = None, fresh: tuple[str, ...] = ()
) -> Encoder:
    """A model of another spec with copies of the old weights, except for `changed` ones and keys that start `fresh`."""
    with without_memory():
        adapted = spec.build()
    state = {key: tensor.detach().clone() for key, tensor in model.state_dict().items() if key not in (changed or {})}
    kept = {key: tensor for key, tensor in (state | (changed or {})).items() if not (fresh and key.startswith(fresh))}
    missing = adapted.load_state_dict(kept, assign=True, strict=not fresh).missing_keys
    assert all(key.startswith(fresh) for key in missing), missing
    adapted.preprocess, adapted.labels, adapted.origin = model.preprocess, model.labels, model.origin
    adapted.multi_label = model.multi_label
    adapted.resolved = model.resolved
    adapted.freeze(model.frozen_layers)
    return adapted.train(model.training)


def _record(model: Encoder, what: str) -> None:
    """Notes a change of loaded weights."""
    if model.resolved is not None:
        model.resolved = model.resolved.changed(what)


def _where(model: Encoder) -> dict[str, Any]:
    parameter = next(model.parameters())
    return {"device": parameter.device, "dtype": parameter.dtype}


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if channels == 1:
        return (sum(values) / len(values),)
    return tuple(values[index % len(values)] for index in range(channels))
