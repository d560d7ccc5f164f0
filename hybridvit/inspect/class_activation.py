"""Where a model saw a class: class activation maps, and a picture of one over its image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import Grid
from ..tokens import split_prefix, tokens_to_map

if TYPE_CHECKING:
    from PIL import Image

    from ..encoder import Encoder, StageModule


class _Passed(NamedTuple):
    """Tokens (B, N, C) on their way through a model, and their grid."""

    tokens: Tensor
    grid: Grid


@torch.inference_mode(mode=False)  # under which nothing can be differentiated
def class_maps(model: Encoder, images: Tensor, classes: int | Tensor | None = None) -> Tensor:
    """Where a class was seen: the deepest map that the class depends on, times the gradient of the class's logit.

    Place by place (HiResCAM, arXiv 2011.08891): where the classifier reads the mean of the map this is Grad-CAM (arXiv
    1610.02391), and where it weighs places, by attention or a class token, it follows the weights, as the mean gradient
    of Grad-CAM does not. The deepest map is that of the last stage, or what the last block attends to where the
    classifier reads a class token alone. Maps of a single position tell nothing and are passed over for larger ones.

    Args:
        model: any model with a classifier. Its mode, gradients and weights stay as they are; the maps are of eval mode.
        images: (B, in_chans, H, W), as for the model itself.
        classes: one class for all images, or (B,) one for each; by default the most likely class of each.

    Returns:
        (B, H, W) float32 from 0 to 1, the strongest place of each image at 1; all 0 where nothing speaks for the class.

    Raises:
        ValueError: for a model without a classifier, and for classes that it has not.
    """
    if model.spec.num_classes == 0:
        raise ValueError("the model has no classifier, so there is no class to look for; create it with num_classes")
    watched = images.detach().clone().requires_grad_()
    with _in_eval_mode(model), torch.enable_grad():
        passed = list[_Passed]()
        with _recording(model, passed):
            logits = model(watched)
        chosen = _chosen(logits, classes)
        score = logits.gather(1, chosen[:, None]).sum()
        return _upsampled(_deepest_map(passed, score), images.shape[-2:])


def overlay(image: Image.Image, class_map: Tensor, strength: float = 0.5) -> Image.Image:
    """The image in mode "RGB", coloured where a map (H, W) of 0..1 is high; the map is stretched to the image's size.

    strength: share of the colour where the map is 1.
    """
    from matplotlib import colormaps
    from PIL import Image

    places = Image.fromarray(class_map.detach().float().cpu().numpy(), mode="F").resize(
        image.size, Image.Resampling.BILINEAR
    )
    heat = np.asarray(places).clip(0, 1)
    colours = 255 * colormaps["turbo"](heat)[..., :3]
    share = strength * heat[..., None]
    mixed = (1 - share) * np.asarray(image.convert("RGB")) + share * colours
    return Image.fromarray(mixed.round().astype(np.uint8))


def _chosen(logits: Tensor, classes: int | Tensor | None) -> Tensor:
    """(B,) the class to look for in each image."""
    if classes is None:
        return logits.argmax(dim=1)
    count = logits.shape[1]
    chosen = torch.as_tensor(classes, device=logits.device).expand(len(logits))
    if chosen.is_floating_point() or ((chosen < 0) | (chosen >= count)).any():
        raise ValueError(f"classes must be whole numbers from 0 to {count - 1}, got {classes}")
    return chosen.long()


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


# A layer norm takes the length of a token away, so that the gradient before it says nothing along the token.
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


@contextmanager
def _recording(model: Encoder, passed: list[_Passed]) -> Iterator[None]:
    """Notes the tokens that enter each block, that leave each stage, and that norms give of all places, in order."""

    def before_block(_: nn.Module, given: tuple[Tensor, Grid]) -> None:
        passed.append(_Passed(*given))

    def after_stage(_: nn.Module, __: tuple[Tensor, Grid], result: tuple[Tensor, Grid]) -> None:
        passed.append(_Passed(*result))

    def after_norm(_: nn.Module, __: tuple[Tensor], result: Tensor) -> None:
        if passed and result.ndim == 3 and result.shape[1] == passed[-1].grid.tokens:
            passed.append(_Passed(result, passed[-1].grid))

    with ExitStack() as hooks:
        for stage in cast("list[StageModule]", list(model.stages)):
            for block in stage.blocks:
                hooks.enter_context(block.register_forward_pre_hook(before_block))
            hooks.enter_context(stage.register_forward_hook(after_stage))
        for module in model.modules():
            if isinstance(module, _NORMS):
                hooks.enter_context(module.register_forward_hook(after_norm))
        yield


def _deepest_map(passed: list[_Passed], score: Tensor) -> Tensor:
    """(B, h, w) what the places of the deepest map that the score depends on speak for it."""
    large = [each for each in passed if each.grid.height * each.grid.width > 1]
    for tokens, grid in reversed(large or passed):
        (gradient,) = torch.autograd.grad(score, tokens, retain_graph=True, allow_unused=True)
        if gradient is None:
            continue
        slopes = _map(gradient, grid)
        if slopes.any():
            return (slopes * _map(tokens.detach(), grid)).sum(dim=1).relu()
    return score.new_zeros(len(passed[-1].tokens), 1, 1)


def _map(tokens: Tensor, grid: Grid) -> Tensor:
    """(B, C, h, w) float32, prefix tokens left out."""
    return tokens_to_map(split_prefix(tokens, grid)[1], grid._replace(prefix=0)).float()


def _upsampled(maps: Tensor, size: torch.Size) -> Tensor:
    """(B, h, w) of any scale -> (B, height, width) in 0..1."""
    stretched = F.interpolate(maps[:, None].detach(), size=(size[0], size[1]), mode="bilinear")[:, 0]
    largest = stretched.amax(dim=(1, 2), keepdim=True)
    return stretched / largest.clamp(min=torch.finfo(stretched.dtype).tiny)
