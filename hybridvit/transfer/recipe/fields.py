"""The fields of a recipe."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .limits import check, reject_unknown


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run. Rates are peaks, reached after the warm-up and then decayed to zero by a cosine, step by step.

    Attributes:
        method: "full" fine-tunes all weights; "lora" updates of low rank to the linear layers, and the classifier;
            "ssf" norms, biases and a scale of each layer's channels, and the classifier; "probe" the classifier alone;
            "knn" trains nothing and scores the nearest neighbours among frozen features.
        epochs: passes over the training images.
        batch_size: images a step, over all processes.
        lr: peak rate of AdamW.
        weight_decay: of AdamW. One-dimensional parameters, prefix tokens and position tables are never decayed.
        layer_decay: each block's rate is this factor of the next deeper block's (1 is off; arXiv 2111.06377).
        warmup_epochs: linear warm-up, fractions allowed.
        probe_epochs: steps, at most, of a linear probe on frozen features before fine-tuning (arXiv 2202.10054); needs
            pretrained weights to make sense. The features are computed once, and a step of L-BFGS takes all of them.
        probe_decay: half the squares of that probe's weights, times this, are added to the sum of its losses.
        lora_rank: rank of the updates (arXiv 2106.09685).
        lora_alpha: updates are scaled by lora_alpha / lora_rank.
        batch_norm: "train"; "statistics" keeps the running statistics as they are; "freeze" weights and biases of batch
            norms too; "auto" is "statistics" for pretrained weights and batches of up to 32 images (arXiv 1912.11370),
            else "train".
        patience: epochs without a new best after which a run ends early (0 is off).
        finish_size: side in pixels of a last phase, at a larger size than the rest (arXiv 1906.06423). It trains the
            classifier and the norms alone, and the saved model expects that size.
        finish_epochs: epochs of that phase, after the others.
        loss: "ce" is cross-entropy; for several labels an image "bce" or "asymmetric" (arXiv 2009.14119); "auto" is
            "ce" or "bce" as the data has one label an image or several.
        balance: for classes of unequal size: "weights" in the loss, or "sampling" rare classes more often.
        distill: of a teacher, learn its probabilities ("soft", arXiv 1503.02531) or its most likely label ("hard",
            arXiv 2012.12877).
        distill_weight: share of the teacher's part in the loss.
        distill_temperature: by which both models' logits are divided for the soft part.
        calibrate: divide the saved model's logits by a temperature that fits the validation images (arXiv 1706.04599).
        drop_path: stochastic depth of the deepest block.
        label_smoothing: share of the target spread over all classes.
        mixup: alpha of the Beta distribution (0 is off).
        cutmix: alpha of the Beta distribution (0 is off); with both on, each step takes one of the two.
        augment: "none"; "flip" only; "gentle": shift by up to an eighth and flip, for small images; "standard": random
            resized crop and flip; "trivial", "rand": standard plus TrivialAugment or RandAugment.
        crop_scale: smallest share of the area that a random resized crop may keep.
        flip: probability of a horizontal flip, with all but "none" (0 for digits or text).
        erasing: probability that a random rectangle is erased.
        channels: 1 trains on grey images, 3 on colour, others on so many bands; 0 keeps the model's, but a model that
            is named gets as many as there are bands where no image is grey or in colour.
        image_size: side in pixels of the square input; 0 keeps the model's.
        ema_decay: exponential moving average of the weights (0 is off). It is the average that is evaluated and saved.
            Early in a run the decay is lowered, so that a short run has an average too.
        freeze: number of layer groups that stay frozen, counted from the input.
        grad_clip: largest norm of the gradient (0 is off).
        precision: fp32; bf16 or fp16 autocast, fp16 with a scaled loss and on CUDA only.
        accumulate: parts into which a process divides its share of a batch, for less memory: their gradients are summed
            before the optimizer steps, which learns the same, but for batch norm, which sees a part at a time.
        checkpointing: keep no activations inside of a block; the backward pass computes them anew.
        compile: run the training steps through torch.compile.
        seed: order, augmentation, initial head: everything random is a function of it.
    """

    method: str = "full"
    epochs: int = 20
    batch_size: int = 64
    lr: float = 5e-4
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    warmup_epochs: float = 1.0
    probe_epochs: int = 0
    probe_decay: float = 100.0
    lora_rank: int = 16
    lora_alpha: float = 16.0
    batch_norm: str = "auto"
    patience: int = 0
    finish_size: int = 0
    finish_epochs: int = 0
    loss: str = "auto"
    balance: str = "none"
    distill: str = "soft"
    distill_weight: float = 0.5
    distill_temperature: float = 1.0
    calibrate: bool = False
    drop_path: float = 0.0
    label_smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    augment: str = "standard"
    crop_scale: float = 0.35
    flip: float = 0.5
    erasing: float = 0.0
    channels: int = 0
    image_size: int = 0
    ema_decay: float = 0.0
    freeze: int = 0
    grad_clip: float = 1.0
    precision: str = "fp32"
    accumulate: int = 1
    checkpointing: bool = False
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check(self)

    def replace(self, **changes: Any) -> Recipe:
        reject_unknown(changes, [field.name for field in fields(self)])
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_toml(self) -> str:
        return "".join(f"{name} = {_toml_value(value)}\n" for name, value in self.to_dict().items())

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        reject_unknown(values, [field.name for field in fields(cls)])
        return cls(**values)


def _toml_value(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
