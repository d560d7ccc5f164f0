"""How a run ends: the saved model is scored, and its figures, pictures and page are written."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .baselines import verdict
from .calibration import calibrate
from .checkpoint import write_text
from .data.pictures import pictures
from .directory import CONFUSION_FILE, METRICS_FILE, PREDICTIONS_FILE, REPORT_FILE
from .metrics import Evaluation
from .records import Epoch
from .report_page import Run, write_report

if TYPE_CHECKING:
    from .data import Data
    from .progress import Progress
    from .trainer import Trainer


@dataclass(frozen=True)
class FinetuneResult:
    """accuracy: top-1 on the test images if the data has any, else on the validation images; both in 0..1.

    For data with several labels an image both are the mean average precision. baselines: what needs no training.
    """

    accuracy: float
    val_accuracy: float
    best_epoch: int
    seconds: float
    directory: Path
    history: tuple[Epoch, ...]
    baselines: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return asdict(self) | {"directory": str(self.directory)}


def finish_run(trainer: Trainer, data: Data, out: Path, shown: Progress, title: str, command: str) -> FinetuneResult:
    """Score the saved model once on the test images, or on the validation images, and write the figures."""
    import hybridvit

    from .report import confusion_picture, evaluation_sheet

    trainer.accelerator.wait_for_everyone()  # the first process may still be saving
    calibration = None
    if trainer.method.saves_model:
        trainer.use(hybridvit.create_model(f"local-dir:{out}"))
        calibration = calibrate(trainer, out) if trainer.recipe.calibrate else None
    images = data.test or data.val
    evaluation = trainer.evaluate(images)
    position = trainer.position
    result = FinetuneResult(
        accuracy=evaluation.figure,
        val_accuracy=position.best_accuracy,
        best_epoch=position.best_epoch,
        seconds=position.seconds,
        directory=out,
        history=tuple(trainer.history),
        baselines=position.baselines,
    )
    if trainer.accelerator.is_main_process:
        if isinstance(evaluation, Evaluation):
            confusion_picture(evaluation, out / CONFUSION_FILE)
            evaluation_sheet(evaluation, images, trainer.preprocess.channels, out / PREDICTIONS_FILE)
        metrics = {
            "split": "test" if data.test else "val",
            **evaluation.to_dict(),
            "accuracy": result.accuracy,
            "val_accuracy": result.val_accuracy,
            "baselines": result.baselines,
            "calibration": calibration,
            "best_epoch": result.best_epoch,
            "epochs": position.epoch,
            "seconds": round(result.seconds, 1),
            "train_images": len(data.train),
            "probe_accuracy": position.probe_accuracy,
            "environment": environment(trainer.device),
            "history": [asdict(line) for line in trainer.history],
        }
        if trainer.method.saves_model:
            run = Run(
                title=title,
                command=command,
                model=trainer.model,
                data=data,
                evaluation=evaluation,
                metrics=metrics,
                pictures=pictures(data),
            )
            write_report(run, out / REPORT_FILE)
        write_text(out / METRICS_FILE, json.dumps(metrics, indent=1) + "\n")
    name, which = evaluation.figure_name, "saved model" if trainer.method.saves_model else "vote"
    best = f"best epoch {result.best_epoch}: " if result.history else ""
    shown.note(
        f"{best}val {name} {result.val_accuracy:.4f}; "
        f"{'test' if data.test else 'val'} {name} of the {which} {result.accuracy:.4f} on "
        f"{evaluation.count} images. Saved in {out}"
    )
    if trainer.method.saves_model and (not_better := verdict(result.val_accuracy, result.baselines or {})):
        shown.note(not_better)
    return result


def read_result(out: Path) -> FinetuneResult:
    metrics = json.loads((out / METRICS_FILE).read_text(encoding="utf-8"))
    return FinetuneResult(
        accuracy=metrics["accuracy"],
        val_accuracy=metrics["val_accuracy"],
        best_epoch=metrics["best_epoch"],
        seconds=metrics["seconds"],
        directory=out,
        history=tuple(Epoch(**line) for line in metrics["history"]),
        baselines=metrics["baselines"],
    )


def environment(device: torch.device) -> dict[str, Any]:
    """Hardware and versions, without names of users, hosts or paths."""
    import hybridvit

    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "hybridvit": hybridvit.__version__,
        "python": platform.python_version(),
    }
