"""What is timed: a batch classified, and a training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn

from ..optimization.compiled import frozen, frozen_by_onednn
from .cases import Case, dtype_of
from .records import BenchmarkError, Settings
from .sides import Way, layout, stored

Work = Literal["inference", "training"]


def images_for(way: Way, case: Case) -> Tensor:
    """The images of a case as a side gets them."""
    images = case.images().to(case.settings.device, stored(way, case.settings))
    return images.to(memory_format=layout(way))


def autocast_for(way: Way, settings: Settings) -> AbstractContextManager[object]:
    """Autocast where the precision asks for it."""
    precision = way.precision or settings.precision
    kind = torch.device(settings.device).type
    return torch.autocast(kind, dtype=dtype_of(precision), enabled=precision.startswith("amp-"))


def compiled(model: nn.Module, way: Way, settings: Settings, training: bool = False) -> Callable[..., Tensor]:
    """The model compiled for one shape; for inference on a CPU, with its weights for constants."""
    from torch._inductor import list_mode_options

    # torch.compile takes a mode or options, so the mode is spelled out in options.
    options = list_mode_options(settings.compile or "default")
    if training or torch.device(settings.device).type != "cpu":
        return torch.compile(model, dynamic=False, options=options)
    backend = frozen_by_onednn if way.optimized else frozen
    return torch.compile(model, dynamic=False, backend=backend(model, options))


def classify(model: nn.Module, way: Way, case: Case) -> Callable[[], Tensor]:
    """A function that classifies one batch with the model of `Prepared`."""
    images, autocast, settings = images_for(way, case), autocast_for(way, case.settings), case.settings
    call = compiled(model, way, settings) if way.compiled else model

    def run() -> Tensor:
        with torch.inference_mode(), autocast:
            return call(images)

    return _graphed(run) if settings.cuda_graph and not way.compiled else run


def _graphed(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The same work, replayed from a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what a first call allocates may not be captured
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


def train_step(model: nn.Module, way: Way, case: Case) -> Callable[[], Tensor]:
    """A function that takes one step on random labels and gives the loss. Batch norms and dropouts train."""
    settings, images = case.settings, images_for(way, case)
    if torch.device(settings.device).type == "cpu" and (way.channels_last or way.compiled):
        _check_convolutions(model)
    model.train().requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    call = compiled(model, way, settings, training=True) if way.compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    scaler = torch.amp.GradScaler(torch.device(settings.device).type, enabled=settings.precision == "amp-fp16")
    labels: list[Tensor] = []

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with autocast_for(way, settings):
            outputs = call(images)
            if not labels:  # as many classes as the model has outputs, also without a classifier
                drawn = torch.randint(outputs.shape[1], (len(images),), generator=generator)
                labels.append(drawn.to(settings.device))
            loss = nn.functional.cross_entropy(outputs.float(), labels[0])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return step


def _check_convolutions(model: nn.Module) -> None:
    """Raises BenchmarkError where oneDNN's gradient would end the process, and the other sides with it."""
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Conv2d) or layer.groups > 1 or layer.in_channels >= 16:
            continue
        if layer.kernel_size == (1, 1) and max(layer.stride) > 1:
            raise BenchmarkError(
                "on a CPU in channels_last, the gradient of a strided 1 x 1 convolution of fewer than 16 channels "
                f"({name}) writes beyond its memory in oneDNN"
            )


WORKS: Mapping[Work, Callable[[nn.Module, Way, Case], Callable[[], Tensor]]] = {
    "inference": classify,
    "training": train_step,
}
