"""timm, and transformers through timm, against a Hub: run in a process of their own that has the Hub's environment.

    python -m tests.hub.timm_client push|pull FOLDER NAME...

`push` publishes models of timm with drawn weights, `pull` loads those that are there, by both libraries. What models
give is left in the folder, for a test to compare.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

from tests.parity import images, perturb

LABELS = ("ant", "bee", "cow", "doe")
DESCRIPTIONS = {"bee": "honey bee"}


@dataclass(frozen=True)
class Case:
    """How a small model of a family is made: the size of its images, and timm's arguments; `later` is another size."""

    size: tuple[int, int] = (64, 64)
    later: tuple[int, int] = (96, 96)
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        return self.arguments.get("in_chans", 3)


def sized(height: int, width: int, later: tuple[int, int] = (96, 96), channels: int = 3) -> Case:
    """A model that is told the size of its images."""
    return Case((height, width), later, {"img_size": (height, width), "in_chans": channels})


GREY: dict[str, Any] = {"in_chans": 1}
# A small one of a family each. Those whose windows follow from the size keep theirs.
SMALL = {
    "vit_tiny_patch16_224": sized(32, 48, later=(64, 48)),
    "deit_tiny_distilled_patch16_224": sized(32, 32, channels=1),
    "levit_128s": sized(64, 64),
    "test_coatnet": sized(64, 64, channels=1),
    "test_maxvit": sized(64, 64, later=(64, 64)),
    "mobilevit_xxs": Case((64, 96), (96, 64), GREY),
    "efficientformerv2_s0": sized(64, 64),
    "fastvit_t8": Case(arguments=GREY),
    "tiny_vit_5m_224": Case((64, 96), (96, 64)),
    "xcit_nano_12_p8_224": Case((48, 64)),
}
# The rest takes longer, some of it because there is no small one.
LARGE = {
    "convit_tiny": sized(64, 64, channels=1),
    "pit_ti_distilled_224": sized(64, 64, channels=1),
    "eva02_tiny_patch14_224": sized(56, 56, later=(56, 84)),
    "mobilenetv4_conv_small_035": Case(arguments=GREY),
    "swin_tiny_patch4_window7_224": sized(224, 224, later=(224, 224), channels=1),
    "swinv2_tiny_window8_256": sized(64, 64, later=(64, 64)),
    "swinv2_cr_tiny_224": sized(64, 64, later=(64, 64), channels=1),
    "maxxvit_rmlp_nano_rw_256": sized(64, 64, later=(64, 64)),
    "vit_small_patch16_rope_224": sized(64, 64, channels=1),
    "vit_tiny_patch16_dinov3_qkvb": sized(64, 64),
    "beit_base_patch16_224": sized(64, 64, channels=1),
    "caformer_s18": Case(),
    "nextvit_small": Case(arguments=GREY),
    "edgenext_xx_small": Case(),
    "repvit_m0_9": Case(arguments=GREY),
    "efficientvit_b0": Case(),
    "efficientvit_m0": Case(arguments=GREY),
    "mobilevitv2_050": Case(),
    "pvt_v2_b0": Case((64, 96), (96, 64), GREY),
    "swiftformer_xs": Case(),
    "test_vit3": sized(64, 64),
    "hiera_tiny_224": sized(64, 64, channels=1),
    "gcvit_xxtiny": sized(64, 64),
    "visformer_tiny": sized(64, 64, channels=1),
    "tf_efficientnet_lite0": Case(),
    "resnet18": Case(arguments=GREY),
}
CASES = SMALL | LARGE


def photo(channels: int = 3) -> Image.Image:
    """A picture of no model's size and aspect."""
    pixels = images(211, 307, channels)[0].mul(40).add(128).clamp(0, 255).byte().permute(1, 2, 0)
    return Image.fromarray(pixels.squeeze(2).numpy())


def logits_and_pixels(
    model: Callable[[Tensor], Tensor], batch: Tensor, transform: Callable[[Image.Image], Tensor]
) -> dict[str, Any]:
    """Logits in double precision, so that no rounding shows, and what a photo becomes."""
    with torch.no_grad():
        return {"logits": model(batch.double()), "pixels": transform(photo(batch.shape[1]))}


def transform_for(config: dict[str, Any]) -> Callable[[Image.Image], Tensor]:
    """timm's, of what a pretrained_cfg says."""
    transform: Any = create_transform(**resolve_data_config(pretrained_cfg=config))
    return transform


def push(folder: Path, name: str) -> None:
    case = CASES[name]
    model = timm.create_model(name, num_classes=len(LABELS), **case.arguments).eval()
    perturb(model, batch_norm_gain=1.5)
    config = {"label_names": LABELS, "label_descriptions": DESCRIPTIONS}
    timm.models.push_to_hf_hub(model, f"me/{name}", model_config=config, safe_serialization=True)
    pretrained, _, _ = timm.models.load_model_config_from_hf(f"me/{name}")
    batch = images(*case.size, case.channels)
    torch.save(
        {"batch": batch, **logits_and_pixels(model.double(), batch, transform_for(pretrained))}, folder / f"{name}.pt"
    )


def pull(folder: Path, name: str) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline
    from transformers.utils import logging

    logging.disable_progress_bar()
    batch = torch.load(folder / f"{name}.batch.pt")
    model: Any = timm.create_model(f"hf-hub:me/{name}", pretrained=True).eval()
    found = {"timm": logits_and_pixels(model.double(), batch, transform_for(model.pretrained_cfg))}
    found["timm"]["labels"] = model.pretrained_cfg["label_names"]

    wrapped: Any = AutoModelForImageClassification.from_pretrained(f"me/{name}").eval()
    processor: Any = AutoImageProcessor.from_pretrained(f"me/{name}")
    double: nn.Module = wrapped.double()
    # The pipeline makes every image RGB.
    process = processor.val_transforms if batch.shape[1] == 1 else lambda image: processor(image)["pixel_values"][0]
    found["transformers"] = logits_and_pixels(lambda images: double(images).logits, batch, process)
    found["transformers"]["labels"] = list(wrapped.config.id2label.values())
    if batch.shape[1] == 3:
        classify = pipeline("image-classification", model=wrapped.float(), image_processor=processor)
        found["transformers"]["scores"] = [(each["label"], each["score"]) for each in classify(photo(), top_k=6)]
    torch.save(found, folder / f"{name}.pulled.pt")


if __name__ == "__main__":
    _, action, folder, *names = sys.argv
    for each in names:
        {"push": push, "pull": pull}[action](Path(folder), each)
