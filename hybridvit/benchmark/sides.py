"""The implementations that are compared: ours, and timm's as its user finds it and in channels_last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..keys import check_keys
from ..meta import without_memory
from ..registry import family_of, model_spec
from .records import BenchmarkError, Settings

if TYPE_CHECKING:
    from ..encoder import Model

OURS, PEER, PEER_CHANNELS_LAST = "hybridvit", "timm", "timm channels_last"
LARGEST_DIFFERENCE = 1e-3

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model at one batch size, and how it is run. `img_size` is (height, width) in pixels."""

    model: str
    batch: int
    img_size: tuple[int, int]
    settings: Settings

    def spec(self) -> Model:
        return model_spec(self.model).replace(img_size=self.img_size)

    def images(self) -> Tensor:
        """The same images for every side: (batch, channels, height, width)."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.batch, self.spec().in_chans, *self.img_size, generator=generator)


def has_peer(model: str) -> bool:
    """Whether timm has this model and we know its keys. Raises ModuleNotFoundError if timm is not installed."""
    import timm

    return "timm" in family_of(model).layouts and timm.is_model(model)


def build(case: Case, side: str) -> nn.Module:
    """A side's model, freshly initialised."""
    if side == OURS:
        return case.spec().build().eval()
    import timm

    if case.img_size == model_spec(case.model).img_size:
        return timm.create_model(case.model).eval()
    try:
        return timm.create_model(case.model, img_size=case.img_size).eval()
    except TypeError:  # a convolutional model takes images of any size and refuses the argument
        return timm.create_model(case.model).eval()


def equal_pair(case: Case) -> tuple[nn.Module, nn.Module, float]:
    """Ours and timm's model with the same weights, and the largest difference of their outputs over these' spread.

    Raises BenchmarkError if that shows that they are not the same network.
    """
    peer, spec = build(case, PEER), case.spec()
    weights = family_of(case.model).layouts["timm"](spec).to_ours(peer.state_dict())
    with without_memory():
        ours = spec.build().eval()
    check_keys(weights, ours.state_dict(), source=f"timm's {case.model}")
    ours.load_state_dict({key: tensor.clone() for key, tensor in weights.items()}, assign=True)
    images = torch.stack([0.5 * (i + 1) * case.images()[0].roll(i, dims=1) for i in range(2)])
    with torch.inference_mode():
        expected, actual = peer(images), ours(images)
    spread = (expected - expected.mean(dim=0)).abs().max()
    difference = ((actual - expected).abs().max() / spread).item()
    if not difference <= LARGEST_DIFFERENCE:
        raise BenchmarkError(
            f"{case.model} at {case.img_size}: outputs differ from timm's by {difference:.1e} of their spread, so a "
            "comparison of their speed would mean nothing; leave the peer out with --no-peer"
        )
    return ours, peer, difference


def runner(model: nn.Module, case: Case, side: str) -> Callable[[], Tensor]:
    """A function that runs one batch, with model and images moved to where and how the settings say."""
    settings = case.settings
    autocasts, name = settings.precision.startswith("amp-"), settings.precision.removeprefix("amp-")
    dtype = _DTYPES.get(name, torch.float32)
    weights = torch.float32 if autocasts else dtype
    memory_format = torch.channels_last if side == PEER_CHANNELS_LAST else torch.preserve_format
    model = model.to(settings.device, weights).to(memory_format=memory_format)
    images = case.images().to(settings.device, weights).to(memory_format=memory_format)
    autocast = torch.autocast(torch.device(settings.device).type, dtype=dtype, enabled=autocasts)
    compiled = torch.compile(model, dynamic=False, mode=settings.compile) if settings.compile else model

    def run() -> Tensor:
        with torch.inference_mode(), autocast:
            return compiled(images)

    return run
