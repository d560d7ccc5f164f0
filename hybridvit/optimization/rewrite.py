"""A model made anew with some of its parts replaced by others that compute the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from ..encoder import Encoder, Model
from ..meta import without_memory
from ..spec import Spec

Part = tuple[Spec, nn.Module]
Rule = Callable[[Spec, nn.Module], Part]


def rewritten(model: Encoder, rule: Rule) -> Encoder:
    """A copy in eval mode without gradients, every part of which is what the rule makes of it, from the inside out.

    The original stays as it is. The rule may change the module that it is given.

    Raises:
        ValueError: for a model whose layers are not those that its spec describes.
    """
    with torch.no_grad():
        spec, changed = _parts(model.spec, _copied(model), rule)
    with without_memory():
        fresh = cast("Model", spec).build().eval()
    # Strictly: a spec that its weights do not fit was rewritten wrongly.
    fresh.load_state_dict(changed.state_dict(), assign=True)
    for about in ("preprocess", "labels", "multi_label", "origin", "resolved"):
        setattr(fresh, about, getattr(model, about))
    return fresh.requires_grad_(False).to(next(model.parameters()).device)


def _copied(model: Encoder) -> Encoder:
    """The model anew from its spec, on the CPU, which has double precision."""
    weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
    with without_memory():
        copied = model.spec.build().eval()
    expected = copied.state_dict()
    found, described = ({(name, tensor.shape) for name, tensor in of.items()} for of in (weights, expected))
    if found != described:
        name = min(name for name, _ in found ^ described)
        raise ValueError(
            f"the model's layers are not those of its spec, from {name} on: merge adapters, make pruning and "
            "parametrizations permanent, and change a classifier with create_model or hybridvit.adapt first"
        )
    copied.load_state_dict(weights, assign=True)
    return copied


def _parts(spec: Spec, module: nn.Module, rule: Rule) -> Part:
    """Rewrites the parts of a part, then itself. A part is the module's attribute of the name of the spec's field."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(cast("Any", spec)):
        value, part = getattr(spec, field.name), getattr(module, field.name, None)
        if isinstance(value, Spec) and isinstance(part, nn.Module):
            changes[field.name], changed = _parts(value, part, rule)
            setattr(module, field.name, changed)
        elif isinstance(value, tuple) and isinstance(part, nn.ModuleList) and all(isinstance(v, Spec) for v in value):
            specs: list[Spec] = []
            for index, item in enumerate(value):
                step, part[index] = _parts(item, part[index], rule)
                specs.append(step)
            changes[field.name] = tuple(specs)
    return rule(spec.replace(**changes) if changes else spec, module)
