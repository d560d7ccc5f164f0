"""Linear layers in int8, by torchao."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from torch import Tensor, nn


def is_quantized(model: nn.Module) -> bool:
    """Whether a weight is something else than a tensor of numbers."""
    return any(type(parameter.detach()) is not Tensor for parameter in model.parameters())


def to_int8(model: nn.Module) -> str:
    """Gives linear layers int8 weights, with a scale an output channel; inputs become int8 too, with a scale a token.

    Returns a line that says how many. Raises ImportError without torchao.
    """
    try:
        from torchao.quantization import (  # pyright: ignore[reportMissingImports]
            Int8DynamicActivationInt8WeightConfig,
            quantize_,
        )
    except ImportError as error:
        raise ImportError(f'quantize="int8" needs torchao: pip install "hybridvit[quantize]" ({error})') from error

    def taken(module: nn.Module, name: str) -> Any:
        return isinstance(module, nn.Linear)

    # Settings of the compiler are those of the whole process.
    quantize_(model, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False), filter_fn=taken)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    done = sum(type(module.weight.detach()) is not Tensor for module in linear)
    return f"{done} of {len(linear)} linear layers in int8, by torchao {importlib.metadata.version('torchao')}"
