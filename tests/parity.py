"""How a model is compared with its reference: perturbed weights, structured images, error against the spread.

Logits of a freshly initialised model on noise hardly depend on the image, so that a relative error of 1e-4 on them is
nearly blind. Here every parameter and statistic is drawn anew, large enough to matter; the images differ in content
and scale; and the error is measured against how far the outputs of a batch lie apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hybridvit.encoder import Encoder, Model
from hybridvit.keys import KeyRules
from hybridvit.meta import without_memory
from hybridvit.tokens import image_to_tokens

TOLERANCE = 1e-4


def perturb(module: nn.Module, seed: int = 0, batch_norm_gain: float = 1.0) -> None:
    """Draws every parameter and batch norm statistic anew, at a scale that keeps activations near 1.

    In a deep convolutional model the differences between images shrink with every activation, until rounding shows:
    a `batch_norm_gain` of about 1.5 keeps them alive.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim >= 2 and not any(part in name for part in ("embed", "token", "table", "biases")):
                fan_in = parameter[0].numel()
                gain = 2.0 if any(part in name for part in ("qkv", "query", "key")) else 1.0
                parameter.copy_(normal(parameter).mul_(gain * fan_in**-0.5))
            elif parameter.ndim >= 2:
                parameter.copy_(normal(parameter) * (1.0 if parameter.ndim == 2 or parameter.shape[0] == 1 else 0.1))
            elif name.endswith("bias"):
                parameter.copy_(0.2 * normal(parameter))
            else:
                parameter.copy_(1 + 0.2 * normal(parameter))
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.weight.mul_(batch_norm_gain)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * normal(buffer))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))


def images(height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Three pictures of different scale: a coarse pattern, fine stripes, and a blob on a gradient."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.linspace(-1, 1, height)[:, None].expand(height, width)
    x = torch.linspace(-1, 1, width)[None, :].expand(height, width)
    coarse = nn.functional.interpolate(
        torch.randn(1, channels, 5, 7, generator=generator), size=(height, width), mode="bilinear"
    )[0]
    tint = torch.randn(channels, 1, 1, generator=generator)
    stripes = torch.sin(25 * x + 9 * y) * tint + 0.5
    blob = 3 * torch.exp(-8 * ((x - 0.3) ** 2 + (y + 0.4) ** 2)) * tint.flip(0) + x
    noise = 0.1 * torch.randn(3, channels, height, width, generator=generator)
    return torch.stack([2 * coarse, 0.7 * stripes, blob]) + noise


def error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the spread of the expected outputs over the batch."""
    assert actual.shape == expected.shape, f"{tuple(actual.shape)} is not {tuple(expected.shape)}"
    spread = (expected - expected.mean(dim=0, keepdim=True)).abs().max()
    return ((actual - expected).abs().max() / spread).item()


def features_and_embedding(encoder: Encoder, batch: Tensor) -> tuple[list[Tensor], Tensor]:
    """The maps of `features`, and what the pool makes of the last stage's tokens on the way: `embed` without a pass."""
    stages: list[Any] = []
    with encoder.stages[-1].register_forward_hook(lambda module, inputs, output: stages.append(output)):
        maps = encoder.features(batch)
    return maps, encoder.pool(*stages[-1])


def load_from(reference: nn.Module, model: Model, rules: KeyRules) -> Encoder:
    """Ours with the reference's weights, after proving that the rules lose nothing in either direction."""
    theirs = reference.state_dict()
    ours = rules.to_ours(theirs)
    back = rules.to_theirs(ours)
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[key], theirs[key]) for key in theirs)
    with without_memory():
        encoder = model.build()
    encoder.load_state_dict(ours, assign=True)
    return encoder.eval()


def assert_parity(
    ours: Callable[[Tensor], Tensor],
    reference: Callable[[Tensor], Tensor],
    sizes: list[tuple[int, int]],
    channels: int = 3,
) -> None:
    """Both give the same outputs, to TOLERANCE of the spread, at every (height, width)."""
    with torch.no_grad():
        for height, width in sizes:
            batch = images(height, width, channels)
            found = error(ours(batch), reference(batch))
            assert found <= TOLERANCE, f"at {height}x{width}: error {found:.2e} of the spread"


def assert_power(
    encoder: Encoder,
    size: tuple[int, int],
    samples: int = 12,
    seed: int = 1,
    immaterial: tuple[str, ...] = (),
    tolerance: float = TOLERANCE,
) -> None:
    """A nudge of any sampled parameter moves the outputs by more than the tolerance, so parity is not blind.

    `immaterial` are the endings of parameters that no output depends on, such as what a softmax cancels.
    `tolerance` is the one that parity was asserted to.
    """

    def outputs(first: int) -> Tensor:
        """The logits again, from the inputs of a stage on."""
        tokens, grid = inputs[first]
        for stage in encoder.stages[first:]:
            tokens, grid = stage(tokens, grid)
        return encoder.forward_head(encoder.pool(tokens, grid))

    generator = torch.Generator().manual_seed(seed)
    parameters = [item for item in encoder.named_parameters() if not item[0].endswith(immaterial)]
    batch = images(*size, encoder.spec.in_chans).to(parameters[0][1].dtype)
    with torch.no_grad():
        inputs = [image_to_tokens(batch)]
        for stage in encoder.stages:
            inputs.append(stage(*inputs[-1]))
        before = outputs(len(encoder.stages))
        for index in torch.randperm(len(parameters), generator=generator)[:samples].tolist():
            name, parameter = parameters[index]
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            nudge = 0.1 * parameter.abs().mean().clamp(min=0.1) * noise
            parameter.add_(nudge)
            first = int(name.split(".")[1]) if name.startswith("stages.") else len(encoder.stages)
            moved = error(outputs(first), before)
            parameter.sub_(nudge)
            assert moved > 2 * tolerance, f"nudging {name} moved the outputs by {moved:.2e} of the spread only"
