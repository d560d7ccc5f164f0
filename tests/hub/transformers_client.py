"""transformers against a Hub: run in a process of its own that has the Hub's environment.

    python -m tests.hub.transformers_client FOLDER

Publishes a small model with drawn weights and an image processor of each type, and leaves what they give in the folder.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import HfApi

from tests.hub.timm_client import photo
from tests.parity import images, perturb

LABELS = ("ant", "bee", "cow", "doe")
SIDE = 64
VIT: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": SIDE}
MLP = VIT | {"patch_size": 16, "intermediate_size": 96}
PYRAMID = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 24, 32, 40]}
WHOLE = {"size": {"height": SIDE, "width": SIDE}}
CENTRE = {"size": {"height": 72, "width": 72}, "do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}}
EDGE = CENTRE | {"size": {"shortest_edge": 72}}
# Type: class of the model without "ForImageClassification", its numbers, class of the processor, and its numbers.
CASES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "vit": ("ViT", MLP, "ViT", WHOLE),
    "deit": ("DeiT", MLP, "DeiT", CENTRE),
    "dinov2": ("Dinov2", VIT | {"patch_size": 16, "mlp_ratio": 2}, "Bit", EDGE),
    "swin": ("Swin", {"embed_dim": 16, "depths": [2, 1], "num_heads": [1, 2], "window_size": 4}, "ViT", WHOLE),
    "cvt": (
        "Cvt",
        {"embed_dim": [16, 24, 32], "depth": [1, 2, 3], "num_heads": [1, 2, 4]},
        "ConvNext",
        {"size": {"shortest_edge": SIDE}, "crop_pct": 0.875},
    ),
    "levit": (
        "Levit",
        {"hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1], "image_size": SIDE},
        "Levit",
        {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}},
    ),
    "mobilevit": (
        "MobileViT",
        {"neck_hidden_sizes": [16, 16, 24, 32, 40, 48, 64], "hidden_sizes": [16, 24, 32], "expand_ratio": 2.0},
        "MobileViT",
        EDGE,
    ),
    "beit": ("Beit", MLP | {"use_relative_position_bias": True}, "Beit", CENTRE),
    "pvt_v2": ("PvtV2", PYRAMID | {"num_attention_heads": [1, 2, 4, 5], "mlp_ratios": [2, 2, 2, 2]}, "ViT", WHOLE),
    # An even number is cropped from either side: of an odd one theirs takes less from the left, torchvision more.
    "poolformer": ("PoolFormer", PYRAMID, "PoolFormer", EDGE),
    "swiftformer": ("SwiftFormer", {"depths": [1, 1, 1, 1], "embed_dims": [16, 24, 32, 40]}, "ViT", WHOLE),
    "hiera": (
        "Hiera",
        {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8], "image_size": [SIDE, SIDE]},
        "Bit",
        EDGE,
    ),
}


def model_of(kind: str) -> Any:
    name, numbers, _, _ = CASES[kind]
    config = getattr(transformers, f"{name}Config")(**numbers, id2label=dict(enumerate(LABELS)))
    model = getattr(transformers, f"{name}ForImageClassification")(config).eval()
    perturb(model, batch_norm_gain=1.5)
    return model


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.double()(images(SIDE, SIDE).double()).logits


def push(folder: Path, kind: str) -> None:
    model = model_of(kind)
    model.push_to_hub(f"me/{kind}")
    _, _, name, numbers = CASES[kind]
    processor = getattr(transformers, f"{name}ImageProcessor")(**numbers)
    processor.push_to_hub(f"me/{kind}")
    pixels = processor(photo(), return_tensors="pt")["pixel_values"][0]
    torch.save({"logits": logits_of(model), "pixels": pixels}, folder / f"{kind}.pt")


def push_other_files(folder: Path) -> None:
    """The same model in half precision, in several files, and as a pickle in one and in several."""
    api, model = HfApi(), model_of("vit")
    model.push_to_hub("me/sharded", max_shard_size="50KB")
    tensors = io.BytesIO()
    torch.save(model.state_dict(), tensors)
    api.create_repo("me/pickle")
    model.config.save_pretrained(folder / "pickle")
    api.upload_file(path_or_fileobj=folder / "pickle" / "config.json", path_in_repo="config.json", repo_id="me/pickle")
    api.upload_file(path_or_fileobj=tensors.getvalue(), path_in_repo="pytorch_model.bin", repo_id="me/pickle")
    half = model.half()
    half.push_to_hub("me/half")
    torch.save({"logits": logits_of(half)}, folder / "half.pt")


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    for each in CASES:
        push(Path(sys.argv[1]), each)
    push_other_files(Path(sys.argv[1]))
