"""Folding: what a model computes in eval mode, with fewer layers.

Batch norms and layer scales go into the layers next to them, standardised kernels become plain ones, activations join
the layer in front of them, and convolutions whose results are only added become one (arXiv 2101.03697). The result is
a model like any other: a spec with fewer parts, and weights that fit it.
"""

from __future__ import annotations

import dataclasses
from functools import singledispatch
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..components.attention import ReducedAttention
from ..components.blocks import Branch
from ..components.convs import Conv, ConvModule, StdConv
from ..components.functions import Identity
from ..components.heads import LinearHead, NormedHead
from ..components.mixers import LayerScale, Linear, LinearModule
from ..components.norms import BatchNorm, BatchNormModule
from ..components.transitions import Activate, Add, Normalize, Patchify, StarRelu, Steps, Subtract
from ..encoder import Encoder
from ..spec import Grid, Spec
from .layers import Affine, affine_of, is_plain, layer_of, scale_columns, scale_rows, scales_input, scales_output
from .rewrite import Part, rewritten


def folded(model: Encoder) -> Encoder:
    """A copy in eval mode with the same outputs, to rounding, and fewer layers. The original stays as it is.

    Raises:
        ValueError: for a model whose layers are not those that its spec describes.
    """
    return rewritten(model, fold)


@singledispatch
def fold(spec: Spec, module: Any) -> Part:
    """What computes the same as this part, whose own parts are folded. Other files join with `@fold.register`."""
    of_its_own = any(isinstance(part, BatchNormModule) for part in module.children())
    if isinstance(getattr(spec, "norm", None), BatchNorm) and not of_its_own:
        # The norm of layers that the module is made of, which have no specs of their own.
        for layer in module.modules():
            if isinstance(layer, ConvModule | LinearModule):
                _fold_norm(layer)
        return spec.replace(norm=None), module
    return spec, module


def _fold_norm(module: Any) -> bool:
    """Folds the norm of a convolution or linear layer into it, if that norm is one that folds."""
    affine = affine_of(module.norm)
    if affine is None:
        return False
    scale_rows(layer_of(module), affine)
    module.norm = nn.Identity()
    return True


@fold.register
def _(spec: StdConv, module: Any) -> Part:
    plain = Conv(**{field.name: getattr(spec, field.name) for field in dataclasses.fields(cast("Any", Conv))})
    module.conv.weight = nn.Parameter(module.conv.standardized(), False)
    return fold(plain, module)


@fold.register(Conv)
@fold.register(Patchify)
@fold.register(Linear)
def _(spec: Conv | Patchify | Linear, module: Any) -> Part:
    if not is_plain(spec) or not _fold_norm(module):
        return spec, module
    return spec.replace(norm=None, bias=True), module


@fold.register
def _(spec: ReducedAttention, module: Any) -> Part:
    """What becomes keys and values may end in a norm, which is in front of their linear layer."""
    *first, last = spec.reduce.steps if isinstance(spec.reduce, Steps) else (spec.reduce,)
    parts = list(module.reduce.steps) if isinstance(spec.reduce, Steps) else [module.reduce]
    act, affine = _as_affine(last, parts[-1])
    if affine is None or act is not None:
        return spec, module
    scale_columns(module.key_value, affine)
    if affine.shift is not None and module.query.bias is None:
        module.query.bias = nn.Parameter(module.query.weight.new_zeros(module.query.out_features), False)
    rest, module.reduce = fold(Steps(steps=tuple(first)), _Steps(parts[:-1]))
    return spec.replace(reduce=rest, qkv_bias=module.query.bias is not None), module


@fold.register
def _(spec: NormedHead, module: Any) -> Part:
    """Several linear layers of the same vector, averaged, are one."""
    if not isinstance(spec.norm, BatchNorm | None) or isinstance(module, nn.Identity):  # which is what no classes give
        return spec, module
    for norm, layer in zip(module.norms, module.linears, strict=True):
        affine = affine_of(norm)
        if affine is not None:
            scale_columns(layer, affine)
    head, layers = module.linears[0], list(module.linears)
    for name in ("weight", "bias"):
        mean = torch.stack([getattr(layer, name).double() for layer in layers]).mean(dim=0)
        setattr(head, name, nn.Parameter(mean.to(head.weight.dtype), False))
    return LinearHead(), head


@fold.register
def _(spec: Branch, module: Any) -> Part:
    before, behind = affine_of(module.norm), affine_of(module.post_norm)
    if before is not None and (mixer := scales_input(spec.mixer, module.mixer, before)):
        module.norm, spec = nn.Identity(), spec.replace(norm=None, mixer=mixer)
    if behind is not None and (mixer := scales_output(spec.mixer, module.mixer, behind)):
        module.post_norm, spec = nn.Identity(), spec.replace(post_norm=None, mixer=mixer)
    if module.layer_scale is not None and not spec.post_norm:
        affine = Affine(module.layer_scale.double(), None)
        if mixer := scales_output(spec.mixer, module.mixer, affine):
            module.layer_scale, spec = None, spec.replace(layer_scale=None, mixer=mixer)
    if spec.residual and not (spec.norm or spec.post_norm or spec.layer_scale is not None or spec.shortcut_scale):
        both = fold(Add(body=spec.mixer), _Sides(nn.Identity(), module.mixer))
        if isinstance(both[0], Conv):
            spec, module.mixer = spec.replace(mixer=both[0], residual=False), both[1]
    return spec, module


class _Steps(nn.Module):
    """Modules one after another."""

    def __init__(self, steps: list[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)


class _Sides(nn.Module):
    """The two sides of a sum."""

    def __init__(self, shortcut: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.shortcut, self.body = shortcut, body


@fold.register
def _(spec: Steps, module: Any) -> Part:
    """Step by step, the last one kept being what the next may join."""
    specs: list[Spec] = []
    modules: list[Any] = []
    waiting: list[tuple[Spec, Any, Affine]] = []  # a norm that nothing in front of it took in
    for step, part in _with_fixed_activations(spec, module):
        if waiting and (joined := scales_input(step, part, waiting[0][2])):
            waiting.clear()
            step = joined
        for norm, its_module, _ in waiting:
            specs.append(norm)
            modules.append(its_module)
        waiting.clear()
        act, affine = _as_affine(step, part)
        if affine is not None and specs and (joined := scales_output(specs[-1], modules[-1], affine)):
            specs[-1] = joined
            if act is None:
                continue
            step, part = _activation(act)
        elif affine is not None and act is None:
            waiting.append((step, part, affine))
            continue
        if isinstance(step, Activate) and specs and _takes_activation(specs[-1]):
            specs[-1] = specs[-1].replace(act=step.act)
            continue
        specs.append(step)
        modules.append(part)
    for norm, its_module, _ in waiting:
        specs.append(norm)
        modules.append(its_module)
    if len(specs) == 1:
        return specs[0], modules[0]
    if not specs:
        return Identity(), Identity().build(1, Grid(1, 1))
    module.steps = nn.ModuleList(modules)
    return spec.replace(steps=tuple(specs)), module


def _with_fixed_activations(spec: Steps, module: Any) -> list[tuple[Any, Any]]:
    """The steps that do anything. What an activation learned, the layer behind it takes in if it can."""
    steps: list[tuple[Any, Any]] = list(zip(spec.steps, module.steps, strict=True))
    steps = [(step, part) for step, part in steps if step != Identity()]
    for index, (step, part) in enumerate(steps[:-1]):
        if isinstance(step, StarRelu):
            behind, its_module = steps[index + 1]
            if joined := scales_input(behind, its_module, Affine(part.scale.double(), part.bias.double())):
                steps[index : index + 2] = [_activation("squared_relu"), (joined, its_module)]
    return steps


def _as_affine(step: Spec, part: Any) -> tuple[str | None, Affine | None]:
    """The activation and the affine map of a step that is nothing else."""
    if isinstance(step, Normalize):
        return step.act, affine_of(part.norm)
    if isinstance(step, LayerScale):
        return None, Affine(part.gamma.double(), None)
    return None, None


def _activation(act: str) -> Part:
    spec = Activate(act=act)
    return spec, spec.build(1, Grid(1, 1))


def _takes_activation(spec: Spec) -> bool:
    return isinstance(spec, Conv | Linear) and spec.norm is None and spec.act is None


@fold.register
def _(spec: Add, module: Any) -> Part:
    """A sum of convolutions, norms and identities at one stride is one convolution, if one of them filters."""
    parts = [(spec.shortcut, module.shortcut), (spec.body, module.body)]
    convs = [(part, its_module) for part, its_module in parts if isinstance(part, Conv) and is_plain(part)]
    if not convs:
        return spec, module
    largest, its_module = max(convs, key=lambda item: item[0].kernel)
    kernels = [_kernel(part, of_part, largest, its_module.conv) for part, of_part in parts]
    if kernels[0] is None or kernels[1] is None:
        return spec, module
    sign = -1 if isinstance(spec, Subtract) else 1
    weight, bias = (body + sign * shortcut for shortcut, body in zip(*kernels, strict=True))
    dtype = its_module.conv.weight.dtype
    its_module.conv.weight = nn.Parameter(weight.to(dtype), False)
    its_module.conv.bias = nn.Parameter(bias.to(dtype), False)
    return largest.replace(bias=True), its_module


def _kernel(spec: Spec, module: Any, like: Conv, conv: nn.Conv2d) -> tuple[Tensor, Tensor] | None:
    """Weight and bias of a part as a convolution of another's shape, in double precision; None if it is none."""
    shape, width = conv.weight.shape, conv.out_channels
    centre = (like.kernel - 1) // 2
    if isinstance(spec, Conv) and is_plain(spec):
        fits = (spec.stride, spec.groups, spec.dim) == (like.stride, like.groups, like.dim)
        symmetric = spec.padding is None and like.padding is None and spec.kernel % 2 and like.kernel % 2
        if not fits or not symmetric or spec.norm or spec.act:
            return None
        border = (like.kernel - spec.kernel) // 2
        bias = torch.zeros(width) if module.conv.bias is None else module.conv.bias
        return F.pad(module.conv.weight.double(), [border] * 4), bias.double()
    affine = Affine(torch.ones(width).double(), None) if spec == Identity() else _as_affine(spec, module)[1]
    same = like.stride == 1 and like.padding is None and like.kernel % 2 and conv.in_channels == width
    if affine is None or not same or (isinstance(spec, Normalize) and spec.act):
        return None
    weight = torch.zeros(shape, dtype=torch.float64)
    channel = torch.arange(width)
    weight[channel, channel % shape[1], centre, centre] = affine.scale
    return weight, torch.zeros(width).double() if affine.shift is None else affine.shift
