"""What a model can do, as checks that ask ours and anybody's alike.

A check gets a `Subject`, the few ways in which libraries differ, and raises if the model cannot do what its title says.
`tests/test_contract.py` asks every model of the zoo, `benchmarks/capabilities.py` those of timm besides.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hybridvit import create_model, save_pretrained
from hybridvit.components.attention import ChannelProduct, ScaledDotProduct, TalkingHeads
from hybridvit.components.linear_attention import LinearProduct
from hybridvit.encoder import Encoder
from tests import exports
from tests.parity import error, images
from tests.representatives import (
    freshly_built,
    perturbed_model,
    small_model,
    small_spec,
    traced_model,
    unchanged_model,
)

Size = tuple[int, int]
Answer = Callable[[Tensor], Tensor]
CLASSES = 7
TOLERANCE, LOOSEST, NOISE = 1e-3, 0.02, 2e-5
# Sizes that no stride divides, larger and smaller than what models are built for, upright and wide.
ANY: tuple[Size, ...] = ((97, 66), (75, 131))
MULTIPLES: tuple[Size, ...] = ((96, 64), (160, 288))
TINY: tuple[Size, ...] = ((1, 1), (2, 3), (33, 2), (5, 9), (16, 17), (32, 32))
SMALLEST_PATCH = 16


class NotApplicable(Exception):
    """The architecture has nothing of what the check is about."""


class Precision(NamedTuple):
    """How far what is exact may be off."""

    atol: float
    rtol: float


ROUNDING = Precision(1e-4, 1e-4)


class Attentions(NamedTuple):
    """How many softmax attentions a model has: those that a fused kernel computes, and the others.

    The others are between channels, or mix the scores of heads.
    """

    fusable: int
    other: int


class FeatureMap(NamedTuple):
    """A map (B, C, h, w), and the channels and the stride that were announced."""

    map: Tensor
    channels: int
    stride: int


class Subject(Protocol):
    """A model of a library. `size` is the one it is built for, `other_size` a larger one.

    What is `exact` repeats its answers and gradients to rounding; others to a share of how far they lie apart.
    """

    @property
    def exact(self) -> bool: ...
    @property
    def size(self) -> Size: ...
    @property
    def other_size(self) -> Size: ...

    def build(self, anew: bool = False) -> nn.Module:
        """A fresh one of `CLASSES` classes, in eval mode; not `anew`, it may be a copy."""
        ...

    def perturbed(self, traced: bool = False) -> nn.Module:
        """With weights that all matter; to be `traced`, blocks of a kind may be fewer."""
        ...

    def save(self, model: nn.Module, directory: Path) -> None: ...

    def load(self, directory: Path, **changes: Any) -> nn.Module:
        """The saved weights in a model of another `img_size`, `in_chans` or `num_classes`, in eval mode."""
        ...

    def embed(self, model: nn.Module, batch: Tensor) -> Tensor: ...
    def width(self, model: nn.Module) -> int: ...
    def features(self, batch: Tensor) -> list[FeatureMap]: ...
    def attention_maps(self, batch: Tensor) -> list[Tensor]: ...
    def attentions(self) -> Attentions: ...

    def layers(self, model: nn.Module) -> list[list[nn.Parameter]]:
        """The groups of a layer-wise learning rate."""
        ...

    def blocks(self) -> int: ...
    def set_checkpointing(self, model: nn.Module) -> None: ...

    def freeze(self, model: nn.Module) -> tuple[str, ...]:
        """Freezes all but the classifier; how the names start of what was left out."""
        ...


@dataclass(frozen=True)
class Ours:
    """A model of the zoo, cut down to a few blocks."""

    name: str
    size: Size = (64, 64)
    other_size: Size = (96, 128)
    exact: bool = False

    def build(self, anew: bool = False) -> Encoder:
        return freshly_built(self.name) if anew else small_model(self.name)

    def perturbed(self, traced: bool = False) -> Encoder:
        return traced_model(self.name) if traced else perturbed_model(self.name)

    def save(self, model: Any, directory: Path) -> None:
        save_pretrained(model, directory)

    def load(self, directory: Path, **changes: Any) -> Encoder:
        return create_model(f"local-dir:{directory}", pretrained=True, **changes).eval()

    def embed(self, model: Any, batch: Tensor) -> Tensor:
        return model.embed(batch)

    def width(self, model: Any) -> int:
        return model.num_features

    def features(self, batch: Tensor) -> list[FeatureMap]:
        model = self.build()
        maps = zip(model.features(batch), model.feature_info, strict=True)
        return [FeatureMap(map_, info.channels, info.stride) for map_, info in maps]

    def attention_maps(self, batch: Tensor) -> list[Tensor]:
        return list(self.build().attention_maps(batch).values())

    def attentions(self) -> Attentions:
        return attentions_of(unchanged_model(self.name))

    def layers(self, model: Any) -> list[list[nn.Parameter]]:
        return [list(parameters.values()) for _, parameters in model.layer_parameters()]

    def blocks(self) -> int:
        return sum(len(stage.blocks) for stage in small_spec(self.name).stages)

    def set_checkpointing(self, model: Any) -> None:
        model.set_grad_checkpointing()

    def freeze(self, model: Any) -> tuple[str, ...]:
        model.freeze(len(model.layers()) - 1)
        return ("head.", "pool.")


def attentions_of(model: Encoder) -> Attentions:
    """Of a model of the zoo, by the modules that it is made of."""
    found = [module for module in model.modules() if isinstance(module, ScaledDotProduct)]
    softmax = [module for module in found if not isinstance(module, LinearProduct)]
    others = sum(isinstance(module, ChannelProduct | TalkingHeads) for module in softmax)
    return Attentions(len(softmax) - others, others)


# Helpers of the checks


def answers(model: Answer, batch: Tensor) -> Tensor:
    with torch.no_grad():
        return model(batch)


def assert_same(
    actual: Tensor, model: Answer, batch: Tensor, what: str = "the outputs", precision: Precision | None = None
) -> None:
    """What a model answers, to a share of how far its outputs of a batch lie apart, or to a given precision.

    A deep network can amplify rounding more than that share; then as close as it answers pixels that differ by 2e-5.
    """
    expected = answers(model, batch)
    if precision is ROUNDING:  # of what was traced, which has torch's own operations, as a model with gradients has
        with torch.enable_grad():
            expected = model(batch).detach()
    if precision:
        torch.testing.assert_close(actual, expected, atol=precision.atol, rtol=precision.rtol)
        return
    off, tolerance = error(actual, expected), TOLERANCE
    if off > tolerance:
        noise = torch.randn(batch.shape, generator=torch.Generator().manual_seed(0))
        tolerance = max(tolerance, min(error(answers(model, batch * (1 + NOISE * noise)), expected), LOOSEST))
    assert off <= tolerance, f"{what} are off by {off:.1e} of their spread"


@contextlib.contextmanager
def saved(subject: Subject) -> Iterator[tuple[nn.Module, Path]]:
    """A perturbed model, and the directory that it is saved in."""
    with tempfile.TemporaryDirectory() as directory:
        model = subject.perturbed()
        subject.save(model, Path(directory) / "model")
        yield model, Path(directory) / "model"


def warmed_up(model: nn.Module, batch: Tensor) -> nn.Module:
    """With batch norm statistics of the batch; with others, what it tells apart grows or fades from layer to layer."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        answers(model.train(), batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


# Checks, in the order of the page


def any_size(subject: Subject) -> str | None:
    model = subject.perturbed()
    try:
        answer_all(model, ANY)
    except Exception as problem:
        try:
            answer_all(model, MULTIPLES)
        except Exception:
            raise problem from None
        return "multiples of 32"


def answer_all(model: nn.Module, sizes: tuple[Size, ...]) -> None:
    for size in sizes:
        logits = answers(model, images(*size))
        assert logits.shape == (3, CLASSES), f"{tuple(logits.shape)} at {size}"
        assert logits.isfinite().all(), f"not finite at {size}"


def tiny_images(subject: Subject) -> None:
    model = subject.build()
    for size in TINY:
        try:
            logits = answers(model, images(*size))
        except Exception as problem:
            told = any(re.search(rf"(?<!\d){side}(?!\d)", str(problem)) for side in size)
            if min(size) < SMALLEST_PATCH and told:
                continue
            raise AssertionError(f"{size[0]} x {size[1]}: {problem}") from problem
        assert logits.isfinite().all(), f"not finite at {size}"


def weights_at_another_size(subject: Subject) -> None:
    with saved(subject) as (model, directory):
        height, width = subject.other_size
        other, batch = subject.load(directory, img_size=(height, width)), images(height, width)
        logits = answers(other, batch)
        assert logits.shape == (3, CLASSES)
        assert logits.isfinite().all()
        before = model.state_dict()
        for key, tensor in other.state_dict().items():
            assert key not in before or before[key].shape != tensor.shape or close(before[key], tensor), f"{key} moved"
        try:
            answers(model, batch)
        except Exception:
            return  # it runs at its own size only: nothing to compare with
        assert_same(logits, model, batch)


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.float(), other.float(), atol=1e-5, rtol=1e-4)


def channels(subject: Subject) -> None:
    with saved(subject) as (model, directory):
        # Standardised kernels lose the scale of what is summed up.
        standardised = any("StdConv" in type(module).__name__ for module in model.modules())
        for count in (1, 2, 5):
            batch = images(*subject.size, channels=count)
            logits = answers(subject.load(directory, in_chans=count), batch)
            assert logits.shape == (3, CLASSES)
            assert logits.isfinite().all()
            if not standardised:
                assert_same(logits, model, as_three(batch), f"answers to {count} channels")


def as_three(batch: Tensor) -> Tensor:
    """Images of three channels that kernels answer as those adapted to the batch's channels should answer these.

    A channel alone is grey. More take the kernels of red, green and blue in turn, scaled to keep the response's size.
    """
    count = batch.shape[1]
    if count == 1:
        return batch.expand(-1, 3, -1, -1)
    shares = [batch[:, first::3].sum(dim=1) for first in range(3)]
    return torch.stack(shares, dim=1) * 3 / count


def classes(subject: Subject) -> None:
    with saved(subject) as (model, directory):
        batch = images(*subject.size)
        four, none = subject.load(directory, num_classes=4), subject.load(directory, num_classes=0)
        assert answers(four, batch).shape == (3, 4)
        before, after = (functools.partial(subject.embed, each) for each in (model, four))
        assert_same(answers(after, batch), before, batch, "embeddings of a model with another classifier")
        assert_same(answers(none, batch), before, batch, "outputs without a classifier")


def features(subject: Subject) -> None:
    height, width = subject.size
    with torch.no_grad():
        maps = subject.features(images(height, width))
    assert maps, "no maps"
    for map_, count, stride in maps:
        assert map_.ndim == 4, f"a map of {map_.ndim} dimensions"
        assert map_.shape[1] == count, f"a map of {map_.shape[1]} channels is announced with {count}"
        off = max(abs(height / stride - map_.shape[2]), abs(width / stride - map_.shape[3]))
        assert off <= 1, f"a map {tuple(map_.shape[2:])} is announced with stride {stride}"
    strides = [stride for _, _, stride in maps]
    assert strides == sorted(strides)


def embedding(subject: Subject) -> None:
    model = subject.perturbed()
    with torch.no_grad():
        found = subject.embed(model, images(*subject.size))
    assert tuple(found.shape) == (3, subject.width(model)), f"{tuple(found.shape)} is not of {subject.width(model)}"
    assert found.isfinite().all()


def attention_maps(subject: Subject) -> None:
    expected = sum(subject.attentions())
    batch = images(*subject.size)
    maps = subject.attention_maps(batch) if expected else []
    if not expected:
        raise NotApplicable("no softmax attention")
    sums = [map_.sum(dim=-1) for map_ in maps]
    distributions = sum(torch.allclose(each, torch.ones_like(each), atol=1e-3) for each in sums)
    assert distributions >= expected, f"{distributions} maps of {expected} attentions"


def fused_attention(subject: Subject) -> None:
    fusable, other = subject.attentions()
    fused, _ = attention_calls(subject)
    if not fusable:
        if other:
            raise NotApplicable("attention between channels only")
        raise NotApplicable("no softmax attention")
    assert fused >= fusable, f"{fused} fused of {fusable} attentions"


def attention_calls(subject: Subject) -> tuple[int, int]:
    """How often a forward pass calls the fused kernel, and how often a softmax of scores outside of it."""
    model = subject.build()
    with torch.no_grad(), AttentionCalls() as calls:
        model(images(*subject.size))
    return calls.fused, calls.plain


class AttentionCalls(TorchFunctionMode):
    """Counts calls of the fused kernel, and softmaxes of scores (batch, heads, queries, keys) outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.fused = self.plain = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        self.fused += name == "scaled_dot_product_attention"
        self.plain += name == "softmax" and args[0].ndim >= 4
        return func(*args, **(kwargs or {}))


class Gradients(NamedTuple):
    """Of each parameter that has one; the statistics after the forward pass; how often any module ran."""

    of: dict[str, Tensor]
    buffers: dict[str, Tensor]
    runs: int
    names: list[str]


@functools.lru_cache(maxsize=2)
def gradients(subject: Subject, checkpointing: bool = False) -> Gradients:
    model = subject.perturbed().train()
    if checkpointing:
        subject.set_checkpointing(model)
    runs: list[nn.Module] = []
    for module in model.modules():
        module.register_forward_pre_hook(lambda module, inputs: runs.append(module))
    torch.manual_seed(0)
    model(images(*subject.size)).square().sum().backward()
    found = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.grad is not None}
    return Gradients(found, dict(model.named_buffers()), len(runs), [key for key, _ in model.named_parameters()])


def every_parameter_learns(subject: Subject) -> None:
    found = gradients(subject)
    without = [key for key in found.names if key not in found.of]
    assert not without, f"{len(without)} parameters without a gradient, {without[0]} for one"
    wrong = [key for key, gradient in found.of.items() if not gradient.isfinite().all()]
    assert not wrong, f"{wrong[0]} has a gradient that is not finite"


def checkpointing(subject: Subject) -> None:
    plain, recomputed = gradients(subject), gradients(subject, True)
    assert recomputed.runs > plain.runs, "nothing is computed again"
    for key, gradient in plain.of.items():
        if subject.exact:
            torch.testing.assert_close(recomputed.of[key], gradient, msg=key)
        off = (recomputed.of[key] - gradient).abs().max() / gradient.abs().max().clamp(min=1e-12)
        assert off <= TOLERANCE, f"the gradient of {key} is off by {off:.1e}"


def checkpointing_statistics(subject: Subject) -> None:
    plain, recomputed = gradients(subject), gradients(subject, True)
    assert recomputed.runs > plain.runs, "nothing is computed again"
    statistics = [key for key in plain.buffers if key.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    if not statistics:
        raise NotApplicable("no batch norm")
    for key in statistics:
        if subject.exact:
            torch.testing.assert_close(recomputed.buffers[key], plain.buffers[key], msg=key)
        assert close(recomputed.buffers[key], plain.buffers[key]), f"{key} is updated twice"


def layer_groups(subject: Subject) -> None:
    model = subject.build()
    groups = [set(map(id, group)) for group in subject.layers(model)]
    assert sum(map(len, groups)) == len(set().union(*groups)) == len(list(model.parameters())), "not each once"
    filled, blocks = sum(map(bool, groups)), subject.blocks()
    assert filled >= blocks, f"{filled} groups for {blocks} blocks"


def freezing(subject: Subject) -> None:
    model = subject.perturbed()
    free = subject.freeze(model)
    model.train()
    trainable = [key for key, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable, "all is frozen"
    assert all(key.startswith(free) for key in trainable), f"{trainable[0]} is not frozen"
    before = {key: value.clone() for key, value in model.state_dict().items() if not key.startswith(free)}
    model(images(*subject.size)).sum().backward()
    after = model.state_dict()
    moved = [key for key, value in before.items() if not torch.equal(after[key], value)]
    assert not moved, f"{len(moved)} frozen statistics move, {moved[0]} for one"


def static_export(subject: Subject) -> None:
    model = subject.perturbed(traced=True)
    program = torch.export.export(model, (images(*subject.size),))
    other = images(*subject.size, seed=1)
    assert_same(answers(program.module(), other), model, other, precision=ROUNDING if subject.exact else None)


def dynamic_batch(subject: Subject) -> None:
    model = subject.perturbed(traced=True)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (images(*subject.size),), dynamic_shapes=({0: batch},))
    other = images(*subject.size, seed=1)[:2]
    assert_same(answers(program.module(), other), model, other, precision=ROUNDING if subject.exact else None)


def dynamic_size(subject: Subject) -> str | None:
    model = subject.perturbed(traced=True)
    with contextlib.suppress(RuntimeError):  # in double precision, if it runs in it, rounding is no matter
        answers(copy.deepcopy(model).double(), images(*subject.size).double())
        model = model.double()
    sizes = exports.dynamic_size(model)
    assert sizes != "fixed", "its own size only"
    return None if sizes == "any" else sizes


def compiling(subject: Subject) -> None:
    model = subject.perturbed(traced=True)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=False)
    batch = images(*subject.size)
    assert_same(answers(compiled, batch), model, batch, precision=ROUNDING if subject.exact else None)


def onnx(subject: Subject) -> None:
    import onnxruntime

    model = warmed_up(subject.perturbed(traced=True), images(*subject.size))
    with warnings.catch_warnings():
        for message in ONNX_WARNINGS:
            warnings.filterwarnings("ignore", message)
        # With gradients, decomposing attention gives another memory layout than tracing it (pytorch/pytorch#136543).
        with torch.no_grad():
            program = torch.onnx.export(model, (images(*subject.size),), dynamo=True, verbose=False)
    assert program is not None
    with tempfile.TemporaryDirectory() as directory:
        program.save(f"{directory}/model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(f"{directory}/model.onnx", options)
        other = images(*subject.size, seed=1)
        (found,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    assert_same(torch.from_numpy(found), model, other)


ONNX_WARNINGS: tuple[str, ...] = ()


def half_precision(subject: Subject, dtype: torch.dtype) -> None:
    batch = images(*subject.size)
    model = warmed_up(subject.build(), batch).to(dtype)
    logits = answers(model, batch.to(dtype))
    assert logits.dtype == dtype, f"gives {logits.dtype}"
    assert logits.isfinite().all(), "not finite"


def bfloat16(subject: Subject) -> None:
    half_precision(subject, torch.bfloat16)


def float16(subject: Subject) -> None:
    half_precision(subject, torch.float16)


def seeded(subject: Subject) -> None:
    states: list[dict[str, Tensor]] = []
    for _ in range(2):
        torch.manual_seed(0)
        states.append(subject.build(anew=True).state_dict())
    first, second = states
    different = [key for key in first if not torch.equal(first[key], second[key])]
    assert not different, f"{different[0]} differs"


def saving(subject: Subject) -> None:
    with saved(subject) as (model, directory):
        loaded, batch = subject.load(directory), images(*subject.size)
        before, after = model.state_dict(), loaded.state_dict()
        assert before.keys() == after.keys()
        different = [key for key in before if not torch.equal(before[key], after[key])]
        assert not different, f"{different[0]} differs"
        # kernels round differently with where in memory a tensor starts
        assert_same(answers(loaded, batch), model, batch, precision=Precision(1e-6, 1e-5) if subject.exact else None)


def batch_independence(subject: Subject) -> None:
    model, batch = subject.perturbed(), images(*subject.size)
    alone = torch.cat([answers(model, image[None]) for image in batch])
    assert_same(alone, model, batch, "answers to images one by one")


@dataclass(frozen=True)
class Capability:
    """A column of the page: what can be done, how that is found out, and by which check.

    A check of what can be done in part gives the words for how far. `slow` ones take seconds for a small model.
    """

    name: str
    title: str
    how: str
    check: Callable[[Subject], str | None]
    slow: bool = False


CAPABILITIES: tuple[Capability, ...] = (
    Capability(
        "any_size",
        "Any height and width",
        "One model answers images of 97 x 66 and of 75 x 131 pixels.",
        any_size,
    ),
    Capability(
        "tiny_images",
        "Tiny images",
        "It answers 32 x 32 and 16 x 17 pixels, and 33 x 2, 5 x 9, 2 x 3 and 1 x 1 too or with an error that tells "
        "their size.",
        tiny_images,
    ),
    Capability(
        "weights_at_another_size",
        "Weights at another size",
        "Saved and loaded with another `img_size`, it answers; as the original does, if that one takes the size.",
        weights_at_another_size,
    ),
    Capability(
        "channels",
        "Weights for 1, 2, 5 channels",
        "Loaded with another `in_chans`, it answers what the original answers to the channels it has, of grey images "
        "for one; with standardised kernels, it answers.",
        channels,
    ),
    Capability(
        "classes",
        "Weights for other classes",
        "Loaded with 4 classes the embedding stays, and with 0 it is the output.",
        classes,
    ),
    Capability(
        "features",
        "Feature maps",
        "Maps (B, C, h, w) have the channels and strides that are announced.",
        features,
    ),
    Capability("embedding", "Embeddings", "What the classifier reads has the width that is announced.", embedding),
    Capability(
        "attention_maps",
        "Attention maps",
        "As many maps whose rows sum to 1 as the architecture has softmax attentions.",
        attention_maps,
    ),
    Capability(
        "fused_attention",
        "Fused attention",
        "As many calls of `scaled_dot_product_attention` as the architecture has softmax attentions, without those "
        "between channels and those that mix the scores of heads. (On a CPU torch has no fused kernel for values wider "
        "than keys; unless somebody looks on, ours then takes two plain products.)",
        fused_attention,
    ),
    Capability(
        "every_parameter_learns",
        "Every parameter learns",
        "A backward pass leaves a finite gradient at each.",
        every_parameter_learns,
    ),
    Capability(
        "checkpointing",
        "Gradient checkpointing",
        "Modules run again, and gradients are equal.",
        checkpointing,
    ),
    Capability(
        "checkpointing_statistics",
        "Checkpointing beside batch norm",
        "With checkpointing, the running statistics after a step are those without it.",
        checkpointing_statistics,
    ),
    Capability(
        "layer_groups",
        "Learning rates by block",
        "Groups for layer-wise decay have each parameter once, and are at least as many as the architecture's blocks.",
        layer_groups,
    ),
    Capability(
        "freezing",
        "Freezing",
        "All but the classifier is frozen: in training mode nothing of it gets a gradient, and no statistic moves.",
        freezing,
    ),
    Capability("seeded", "A seed decides", "Built twice under a seed, the weights are equal.", seeded),
    Capability("saving", "Save and load", "Saved and loaded, weights are equal and so are answers.", saving),
    Capability(
        "batch_independence",
        "Images do not mix",
        "A batch is answered as its images one by one are.",
        batch_independence,
    ),
    Capability("bfloat16", "bfloat16", "On the CPU, answers in this precision are finite.", bfloat16),
    Capability("float16", "float16", "The same.", float16),
    Capability(
        "static_export",
        "`torch.export`",
        "The program answers another batch as the model does.",
        static_export,
        slow=True,
    ),
    Capability(
        "dynamic_batch",
        "`torch.export`, any batch",
        "A program traced with 3 images answers 2.",
        dynamic_batch,
        slow=True,
    ),
    Capability(
        "dynamic_size",
        "`torch.export`, any size",
        "One program answers other heights and widths as the model does.",
        dynamic_size,
        slow=True,
    ),
    Capability(
        "compiling",
        "`torch.compile` as one graph",
        "`fullgraph=True` (backend `aot_eager`) gives the same answers.",
        compiling,
        slow=True,
    ),
    Capability(
        "onnx",
        "ONNX",
        "What `torch.onnx.export(dynamo=True)` writes answers in onnxruntime as the model does.",
        onnx,
        slow=True,
    ),
)
