"""LoRA (arXiv 2106.09685): updates of low rank beside frozen layers, added to their weights when the model is saved."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import RecipeError
from ..loader import seed_of
from .base import Method

if TYPE_CHECKING:
    from ...encoder import Encoder
    from ..recipe import Recipe


class Lora(Method):
    """Adapts the linear layers of all blocks, 1 x 1 convolutions included, by peft; the classifier is trained whole."""

    def require(self) -> None:
        import peft  # noqa: F401

    def prepare(self, model: Encoder, recipe: Recipe) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        model.freeze(recipe.freeze)
        names = linear_layers(model, recipe.lora_rank)
        if not names:
            raise RecipeError(
                f"method lora finds no linear layer for which lora_rank {recipe.lora_rank} saves anything, in blocks "
                "that are not frozen; lower lora_rank or freeze, or use method full, ssf or probe"
            )
        torch.manual_seed(seed_of(recipe.seed, "lora"))
        config = LoraConfig(r=recipe.lora_rank, lora_alpha=recipe.lora_alpha, target_modules=names)  # pyright: ignore[reportArgumentType]
        inject_adapter_in_model(config, model)
        model.head.requires_grad_(True)

    def merged(self, model: Encoder) -> Encoder:
        from peft.tuners.tuners_utils import BaseTunerLayer

        plain = copy.deepcopy(model)
        for name, module in list(plain.named_modules()):
            if isinstance(module, BaseTunerLayer):
                module.merge()
                plain.set_submodule(name, module.get_base_layer())
        return plain


def linear_layers(model: Encoder, rank: int) -> list[str]:
    """Names of the linear layers of blocks whose weights are trainable and larger than an update of that rank."""
    blocks = [name for name, _ in model.layers() if ".blocks." in name]
    found = []
    for block in blocks:
        for name, module in model.get_submodule(block).named_modules():
            weight = _matrix(module)
            if weight is None or not weight.requires_grad:
                continue
            if rank * sum(weight.shape[:2]) < weight.numel():
                found.append(f"{block}.{name}")
    return found


def _matrix(module: nn.Module) -> Tensor | None:
    """The weight of a linear layer, or of a convolution that is one."""
    if isinstance(module, nn.Conv2d):
        return module.weight if module.kernel_size == (1, 1) and module.groups == 1 else None
    return module.weight if isinstance(module, nn.Linear) else None
