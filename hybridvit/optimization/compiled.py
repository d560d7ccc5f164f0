"""`torch.compile` for inference on a CPU, with weights for constants, which inductor then orders once and for all.

Its own way to that, the option `freezing`, has to be on while the forward pass is traced. Options of a single model
count later, when code is made: there it then expects constants, finds inputs, and orders weights in every call.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..kernels import ACTIVATIONS, MOST_KEPT

MOST_FOLDED = 16 * MOST_KEPT**2  # numbers: biases of 16 heads
_VIEWS = (torch.ops.aten.reshape.default, torch.ops.aten.view.default)


def frozen(model: nn.Module, options: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """A backend of `torch.compile`: inductor, with its `options`, for a graph whose weights are no inputs.

    They stay what they are when a graph is made. It is for calls without gradients.
    """
    return functools.partial(_compile, model, {**(options or {}), "freezing": True}, [])


def frozen_by_onednn(model: nn.Module, options: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """The same, with linear layers by oneDNN as in eager mode, not by MKL, and without the checks of each result."""
    from torch._inductor import config

    # Of its shape, strides and address, in Python: of a small model, several hundredths of the time.
    checks = {name: False for name in ("size_asserts", "alignment_asserts") if hasattr(config, name)}
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return frozen(model, {**(options or {}), **checks, "post_grad_custom_pre_pass": _fold})
    chosen = {**(options or {}), **checks, "freezing": True, "post_grad_custom_pre_pass": _fold_and_multiply}
    return functools.partial(_compile, model, chosen, [_to_linear])


def apart() -> dict[str, Any]:
    """Options of `torch.compile` by which the graphs of a model are counted by themselves.

    Otherwise torch counts by code, which all models share, and runs whatever comes after eight graphs uncompiled.
    """
    return {"isolate_recompiles": True} if "isolate_recompiles" in inspect.signature(torch.compile).parameters else {}


def _compile(
    model: nn.Module,
    options: dict[str, Any],
    passes: Iterable[Callable[[fx.Graph], None]],
    traced: fx.GraphModule,
    inputs: list[Any],
) -> Callable[..., Any]:
    from torch._inductor import compile

    # The graph itself tells what the compiled one is called with, and the traced module where that comes from.
    module = fx.GraphModule(traced, copy.deepcopy(traced.graph))
    weights = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    images: list[int] = []
    nodes = [node for node in module.graph.nodes if node.op == "placeholder"]
    for place, (node, value) in enumerate(zip(nodes, inputs, strict=True)):
        if id(value) not in weights:
            images.append(place)
            continue
        module.register_buffer(node.name, value)
        with module.graph.inserting_before(node):
            constant = module.graph.get_attr(node.name)
        constant.meta = node.meta
        node.replace_all_uses_with(constant)
        module.graph.erase_node(node)
    for change in passes:
        change(module.graph)
    module.recompile()
    run: Any = compile(module, [inputs[place] for place in images], options=options)
    return lambda *values: run(*(values[place] for place in images))


def _to_linear(graph: fx.Graph) -> None:
    """Convolutions of single positions become linear layers of tokens, and an activation behind one stays behind it."""
    module: Any = graph.owning_module
    convs: list[Any] = [node for node in graph.nodes if node.target is torch.conv2d and len(node.args) == 7]
    for conv in convs:
        map_, weight, bias, stride, padding, _, groups = conv.args
        if weight.op != "get_attr" or (stride, padding, groups) != ((1, 1), (0, 0), 1):
            continue
        if getattr(module, weight.target).shape[2:] != (1, 1):
            continue
        user = next(iter(conv.users))
        act = user if len(conv.users) == 1 and user.target in ACTIVATIONS.values() else None
        with graph.inserting_before(act or conv):
            tokens = graph.call_method("contiguous", (graph.call_method("permute", (map_, 0, 2, 3, 1)),))
            kernels = graph.call_method("flatten", (weight, 1))
            mixed = graph.call_function(nn.functional.linear, (tokens, kernels, bias))
            if act is not None:
                mixed = graph.call_function(act.target, (mixed, *act.args[1:]), act.kwargs)
            (act or conv).replace_all_uses_with(graph.call_method("permute", (mixed, 0, 3, 1, 2)))
        for replaced in filter(None, (act, conv)):
            graph.erase_node(replaced)


def _fold_and_multiply(graph: fx.Graph) -> None:
    _fold(graph)
    _to_onednn(graph)


def _fold(graph: fx.Graph) -> None:
    """A pass of inductor: what depends on weights and the size alone is computed now, such as position biases.

    Inductor's own leaves out whatever starts at positions, since numbers that can be counted need not be read. It is
    right for these, not for the layers, exponentials and gathers behind them.
    """
    from torch._inductor.constant_folding import ConstantFolder, replace_node_with_constant
    from torch.utils._python_dispatch import _disable_current_modes

    class Folder(ConstantFolder):
        def insertable_tensor_check(self, tensor: Tensor) -> bool:
            return tensor.is_floating_point() and tensor.numel() <= MOST_FOLDED

    module: Any = graph.owning_module
    with _disable_current_modes():
        folder = Folder(module)
        folder.run()
    for node, value in folder.node_replacements.items():
        if node.all_input_nodes:  # neither one number for all nor positions themselves
            replace_node_with_constant(module, node, value)
    graph.eliminate_dead_code()


def _to_onednn(graph: fx.Graph) -> None:
    """A pass of inductor: oneDNN multiplies, in the shape of what follows, which later passes give it to do as well."""
    module: Any = graph.owning_module
    ops = torch.ops.mkldnn
    layers: list[Any] = [node for node in graph.nodes if node.target is torch.ops.mkl._mkl_linear]
    for layer in layers:
        rows, _, weight, bias, count = layer.args
        if weight.op != "get_attr":
            continue
        last = _last_view(layer)
        shape = [*last.meta["val"].shape[:-1], rows.meta["val"].shape[1]]
        name = f"{weight.target}_by_onednn"
        module.register_buffer(name, ops._reorder_linear_weight(getattr(module, weight.target), count))
        with graph.inserting_before(last):
            tokens = graph.call_function(torch.ops.aten.reshape.default, (rows, shape))
            ordered = graph.get_attr(name)
            linear = graph.call_function(ops._linear_pointwise.default, (tokens, ordered, bias, "none", [], ""))
        tokens.meta = {**rows.meta, "val": rows.meta["val"].reshape(shape)}
        ordered.meta, linear.meta = weight.meta, last.meta
        last.replace_all_uses_with(linear)
    graph.eliminate_dead_code()


def _last_view(layer: Any) -> Any:
    """The last of the views behind a layer that leave the rows whole that it gives."""
    last, width = layer, layer.meta["val"].shape[-1]
    while len(last.users) == 1:
        (user,) = last.users
        if user.target not in _VIEWS or user.meta["val"].shape[-1] != width:
            break
        last = user
    return last
