"""Temperature scaling (arXiv 1706.04599): logits divided by one number, so that probabilities mean what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .metrics import score

if TYPE_CHECKING:
    from pathlib import Path

    from ..encoder import Encoder
    from .trainer import Trainer

_LOW, _HIGH = 0.05, 20.0  # temperatures searched
_ROUNDS = 60
_GOLDEN = (5**0.5 - 1) / 2


def calibrate(trainer: Trainer, out: Path) -> dict[str, float] | None:
    """Calibrate the trainer's model, which is the one saved in `out`, on the validation images, and save it again.

    Returns the temperature and the calibration error on those images before and after. None if the model stays as it
    is: the labels are several an image; all answers are right, for which the best temperature would be 0; or the
    temperature that is best for the cross-entropy does not lower the calibration error.
    """
    import hybridvit

    model, val = trainer.model, trainer.data.val
    origin = model.origin or {}
    if "calibration" in origin:  # a resumed run that had come so far
        return origin["calibration"]
    labels = torch.from_numpy(val.labels)
    if labels.ndim == 2:
        return None
    logits = trainer.logits(val).float().cpu()
    before = score(logits, labels, trainer.data.classes)
    if before.top1 == 1.0:
        return None
    temperature = fitted_temperature(logits, labels)
    after = score(logits / temperature, labels, trainer.data.classes)
    if after.ece >= before.ece:
        trainer.progress.note(f"not calibrated: no temperature lowers the ECE of {before.ece:.4f}")
        return None
    divide_logits(model, temperature)
    figures = {"temperature": temperature, "val_ece_before": before.ece, "val_ece": after.ece}
    model.origin = origin | {"calibration": figures}
    if trainer.accelerator.is_main_process:
        hybridvit.save_pretrained(model, out)
    trainer.progress.note(f"calibrated: temperature {temperature:.3f}, ECE {before.ece:.4f} -> {after.ece:.4f}")
    return figures


def fitted_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the smallest cross-entropy, logits (N, classes) against labels (N,).

    By golden section search in its logarithm, of which the cross-entropy has one minimum.
    """
    logits = logits.double()

    def loss(logarithm: Tensor) -> float:
        return F.cross_entropy(logits / logarithm.exp(), labels).item()

    low, high = torch.tensor([_LOW, _HIGH], dtype=torch.float64).log()
    for _ in range(_ROUNDS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return ((low + high) / 2).exp().item()


@torch.no_grad()
def divide_logits(model: Encoder, temperature: float) -> None:
    """Change the classifier's last layers in place so that the model's logits are divided by the temperature."""
    embedding = torch.randn(2, model.num_features, generator=torch.Generator().manual_seed(0))
    embedding = embedding.to(next(model.parameters()))
    training = model.training
    model.eval()
    before = model.forward_head(embedding)
    for layer in model.head.modules():
        if isinstance(layer, nn.Linear) and layer.out_features == model.spec.num_classes:
            for parameter in layer.parameters():
                parameter /= temperature
    after = model.forward_head(embedding)
    model.train(training)
    assert torch.allclose(after * temperature, before, rtol=1e-2, atol=1e-4), "the classifier does not end linearly"
