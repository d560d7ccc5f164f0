"""Hybrid CNN-Transformer image models on one shared encoder.

Names are imported when they are first used: `import hybridvit` itself loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "create_model": "weights.load",
    "list_models": "weights.info",
    "model_info": "weights.info",
    "save_pretrained": "weights.store",
    "push_to_hub": "weights.push",
    "pull_from_hub": "weights.push",
    "convert": "weights.convert",
    "lock": "weights.lock",
    "optimize": "optimization",
    "transforms": "transfer.transforms",
    "predict": "transfer.predict",
    "finetune": "transfer.run",
    "evaluate": "transfer.evaluation",
    "export": "transfer.export",
    "recommend": "recommendation",
}

__all__ = [
    "__version__",
    "convert",
    "create_model",
    "evaluate",
    "export",
    "finetune",
    "list_models",
    "lock",
    "model_info",
    "optimize",
    "predict",
    "pull_from_hub",
    "push_to_hub",
    "recommend",
    "save_pretrained",
    "transforms",
]

if TYPE_CHECKING:
    from .optimization import optimize
    from .recommendation import recommend
    from .transfer.evaluation import evaluate
    from .transfer.export import export
    from .transfer.predict import predict
    from .transfer.run import finetune
    from .transfer.transforms import transforms
    from .weights.convert import convert
    from .weights.info import list_models, model_info
    from .weights.load import create_model
    from .weights.lock import lock
    from .weights.push import pull_from_hub, push_to_hub
    from .weights.store import save_pretrained


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
