"""Fine-tuning on the same folder by three programs: ours, a plain loop around timm, and the Trainer of transformers.

`python -m benchmarks.finetune_sides NAME JOB` runs one of them in this process and prints a line of JSON: the images a
second of training alone and of the whole run (reading the folder, training, evaluating after each epoch, saving), the
share of training that was spent waiting for data, the processor time of the whole run for each image of training,
which a busy machine changes least, and the accuracy at the end. What is imported before is not counted.
"""

from __future__ import annotations

import gc
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridvit.transfer.optimizers import rate_at
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.transforms import preprocess_of


@dataclass(frozen=True)
class Job:
    """What every side does. `weights` has `ours/`, a saved model, and `timm.safetensors` with the same weights."""

    model: str
    folder: Path
    weights: Path
    out: Path
    images: int
    epochs: int
    batch: int
    workers: int
    threads: int

    @classmethod
    def read(cls, text: str) -> Job:
        data = json.loads(text)
        return cls(**data | {name: Path(data[name]) for name in ("folder", "weights", "out")})

    def text(self) -> str:
        return json.dumps(asdict(self), default=str)

    def recipe(self) -> Recipe:
        return Recipe(epochs=self.epochs, batch_size=self.batch, lr=1e-3)


Report = Mapping[str, float]


def ours(job: Job) -> Report:
    from hybridvit.transfer.run import finetune

    started = time.perf_counter()
    result = finetune(
        f"local-dir:{job.weights / 'ours'}",
        job.folder,
        job.out,
        recipe=job.recipe(),
        workers=job.workers,
        progress=False,
        device="cpu",
    )
    whole = time.perf_counter() - started
    images = [line.step * job.batch for line in result.history][-1]
    seconds = sum(images / len(result.history) / line.images_per_second for line in result.history)
    wait = sum(line.data_wait for line in result.history) / len(result.history)
    return _report(images, seconds, whole, wait * seconds, result.val_accuracy)


def plain_loop(job: Job) -> Report:
    """What timm's and PyTorch's documentation lead to: a transform, an ImageFolder, a DataLoader and a loop."""
    from torch.utils.data import DataLoader

    recipe, started = job.recipe(), time.perf_counter()
    train, val = _folders(job)
    options: dict[str, Any] = {"batch_size": job.batch, "num_workers": job.workers}
    loader = DataLoader(train, shuffle=True, drop_last=True, persistent_workers=job.workers > 0, **options)
    val_loader = DataLoader(val, persistent_workers=job.workers > 0, **options)
    model = _timm_model(job)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    steps, number = job.epochs * len(loader), 0
    waited = seconds = best = 0.0
    for _ in range(job.epochs):
        model.train()
        epoch_started = before = time.perf_counter()
        for images, labels in loader:
            waited += time.perf_counter() - before
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * rate_at(number, steps, len(loader))
            loss = F.cross_entropy(model(images), labels, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.grad_clip)
            optimizer.step()
            number, before = number + 1, time.perf_counter()
        seconds += time.perf_counter() - epoch_started
        model.eval()
        with torch.inference_mode():
            right = sum((model(images).argmax(dim=1) == labels).sum().item() for images, labels in val_loader)
        if right / len(val) > best:
            best = right / len(val)
            torch.save(model.state_dict(), job.out / "best.pt")
    return _report(number * job.batch, seconds, time.perf_counter() - started, waited, best)


def transformers_trainer(job: Job) -> Report:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Stopwatch(TrainerCallback):
        """The seconds of training without those of evaluating."""

        def __init__(self) -> None:
            self.seconds = self.before = 0.0

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.before = time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            self.seconds += time.perf_counter() - self.before

    class Classifier(nn.Module):
        def __init__(self, model: nn.Module, smoothing: float) -> None:
            super().__init__()
            self.model, self.smoothing = model, smoothing

        def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.model(pixel_values)
            return {"loss": F.cross_entropy(logits, labels, label_smoothing=self.smoothing), "logits": logits}

    def collate(items: list[tuple[Tensor, int]]) -> dict[str, Tensor]:
        return {
            "pixel_values": torch.stack([image for image, _ in items]),
            "labels": torch.tensor([label for _, label in items]),
        }

    recipe, started = job.recipe(), time.perf_counter()
    train, val = _folders(job)
    watch = Stopwatch()
    arguments = TrainingArguments(
        output_dir=str(job.out),
        num_train_epochs=job.epochs,
        per_device_train_batch_size=job.batch,
        per_device_eval_batch_size=job.batch,
        learning_rate=recipe.lr,
        weight_decay=recipe.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=len(train) // job.batch,
        max_grad_norm=recipe.grad_clip,
        dataloader_num_workers=job.workers,
        dataloader_persistent_workers=job.workers > 0,
        dataloader_drop_last=True,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = Trainer(
        model=Classifier(_timm_model(job), recipe.label_smoothing),
        args=arguments,
        data_collator=collate,
        train_dataset=train,
        eval_dataset=val,
        compute_metrics=lambda found: {
            "accuracy": float((np.argmax(found.predictions, axis=-1) == found.label_ids).mean())  # pyright: ignore
        },
        callbacks=[watch],
    )
    trainer.train()
    whole = time.perf_counter() - started
    best = max(line["eval_accuracy"] for line in trainer.state.log_history if "eval_accuracy" in line)
    images = len(train) // job.batch * job.batch * job.epochs
    return _report(images, watch.seconds, whole, math.nan, best)


SIDES: Mapping[str, Callable[[Job], Report]] = {
    "hybridvit": ours,
    "timm + PyTorch": plain_loop,
    "transformers Trainer": transformers_trainer,
}


def _report(images: int, seconds: float, whole: float, waited: float, accuracy: float) -> Report:
    return {
        "training": images / seconds,
        "whole run": images / whole,
        "data wait": waited / seconds,
        "accuracy": accuracy,
    }


def _folders(job: Job) -> tuple[Any, Any]:
    """(train, val) with the augmentation that the recipe has by default, and the preprocessing of our model."""
    from torchvision import transforms as T
    from torchvision.datasets import ImageFolder

    import hybridvit as hv

    recipe = job.recipe()
    preprocess = preprocess_of(hv.create_model(f"local-dir:{job.weights / 'ours'}"))
    last = [T.ToTensor(), T.Normalize(preprocess.mean, preprocess.std)]
    resampling = T.InterpolationMode[preprocess.interpolation.upper()]
    crop = T.RandomResizedCrop(preprocess.input_size, scale=(recipe.crop_scale, 1.0), interpolation=resampling)
    resize = T.Resize(max(preprocess.resize_to), interpolation=resampling)
    train = T.Compose([crop, T.RandomHorizontalFlip(recipe.flip), *last])
    val = T.Compose([resize, T.CenterCrop(preprocess.input_size), *last])
    return ImageFolder(job.folder / "train", train), ImageFolder(job.folder / "val", val)


def _timm_model(job: Job) -> nn.Module:
    import timm
    from safetensors.torch import load_file

    weights = load_file(job.weights / "timm.safetensors")
    model = timm.create_model(job.model, num_classes=6)
    model.load_state_dict(weights)
    return model


def main() -> None:
    name, job = sys.argv[1], Job.read(sys.argv[2])
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    job.out.mkdir(parents=True)
    before = _processor_seconds()
    found = SIDES[name](job)
    gc.collect()  # ends the processes that read images, whose time is known only then
    seconds = _processor_seconds() - before
    print(json.dumps({**found, "processor time": seconds / job.images}))


def _processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main()
