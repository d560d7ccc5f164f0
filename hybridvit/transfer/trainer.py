"""Fine-tuning: an optional linear probe, then training with a layer-wise rate, checkpoints and an exact resume.

Everything random is a function of the recipe's seed and of the position in the run (epoch, step, process), never of
what was drawn before. A checkpoint therefore needs no generator state, and a resumed run computes what an uninterrupted
one would.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .batch_norm import hold_batch_norm
from .checkpoint import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
    write_text,
)
from .errors import TrainingError, TrainingInterrupted
from .features import embeddings
from .interrupt import ctrl_c_calls
from .loader import EVAL_BATCH, EvalBatches, TrainBatches, seed_of
from .losses import Criterion, hits, label_loss
from .methods import METHODS, Method
from .metrics import Evaluation
from .multilabel import MultiLabelEvaluation, evaluation_of
from .optimizers import average_of, load_optimizer_tensors, optimizer_tensors, parameter_groups, rate_at
from .probe import train_head
from .progress import Progress
from .records import Epoch, Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from accelerate import Accelerator

    from ..encoder import Encoder
    from ..preprocess import Preprocess
    from .data import Data, ImageSet
    from .distillation import Teacher
    from .recipe import Recipe

LAST_CHECKPOINT = Path("checkpoints", "last.safetensors")
_NAN_CHECK_EVERY = 20  # steps between two looks at the loss on a GPU, where each look waits for the device


class Trainer:
    """One run on prepared data. `fit` trains to the end, `keep` is called with the model of each new best epoch."""

    def __init__(
        self,
        model: Encoder,
        data: Data,
        recipe: Recipe,
        preprocess: Preprocess,
        out: Path,
        accelerator: Accelerator,
        *,
        keep: Callable[[Encoder, Position], None],
        identity: dict[str, Any],
        progress: Progress,
        method: Method | None = None,
        teacher: Teacher | None = None,
        pretrained: bool = False,
        workers: int | None = None,
        checkpoint_seconds: float = 120.0,
    ) -> None:
        self.recipe, self.preprocess, self.data, self.out = recipe, preprocess, data, out
        self.accelerator, self.device = accelerator, accelerator.device
        self.keep, self.identity, self.progress = keep, identity, progress
        self.checkpoint_seconds, self.workers = checkpoint_seconds, workers
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        # Kernels in the memory layout of the batches. torch's annotations lack the keyword.
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.history: list[Epoch] = []
        self.position = Position()
        self.stop_requested = False

        share = {"workers": workers, "rank": self.rank, "world": self.world}
        self.batches = TrainBatches(data.train, preprocess, recipe, self.device, **share)
        self.val_batches = EvalBatches(data.val, preprocess, EVAL_BATCH, self.device, **share)
        self.steps = recipe.epochs * self.batches.steps
        self.warmup_steps = round(min(recipe.warmup_epochs * self.batches.steps, self.steps / 2))

        self.method = method or METHODS[recipe.method]
        self.method.prepare(self.model, recipe)
        hold_batch_norm(self.model, recipe, pretrained)
        model.set_drop_path(recipe.drop_path)
        self.optimizer = torch.optim.AdamW(parameter_groups(model, recipe), lr=recipe.lr, fused=True)
        self.average = average_of(model, recipe.ema_decay) if recipe.ema_decay else None
        self.mix = _mixer(recipe, len(data.classes))
        labels = torch.from_numpy(data.train.labels)
        self.multi_label = labels.ndim == 2
        self.criterion = Criterion(label_loss(recipe, labels, len(data.classes), self.device), teacher)

    def use(self, model: Encoder) -> None:
        """Evaluate this model from now on: the best epoch, read back from where it was saved."""
        self.model, self.average = model.to(self.device), None

    @property
    def evaluated_model(self) -> Encoder:
        """The average of the weights if the recipe keeps one, else the model itself."""
        return self.model if self.average is None else self.average.module  # pyright: ignore[reportReturnType]

    def fit(self, resume: bool = False) -> None:
        """Train until the recipe's last epoch, going on from the last checkpoint if asked to.

        Raises TrainingError for a loss that is not finite and for a checkpoint that cannot be written,
        TrainingInterrupted after Ctrl-C. The last good checkpoint stays in each case.
        """
        resumed = resume and (self.out / LAST_CHECKPOINT).is_file()
        if resumed:
            self._load()
        elif self.recipe.probe_epochs:
            self._probe()
        # After the probe, whose weights the first process sends to all others.
        self.wrapped, self.prepared = self.accelerator.prepare(self.model, self.optimizer)
        self.last_saved = time.monotonic()
        self.progress.start(self.steps, done=self.position.epoch * self.batches.steps + self.position.batch)
        with ctrl_c_calls(self._request_stop):
            while self.position.epoch < self.recipe.epochs and not self._out_of_patience():
                self._train_epoch()
                self._finish_epoch()

    def _train_epoch(self) -> None:
        position, recipe = self.position, self.recipe
        self.wrapped.train()
        loss_sum = torch.tensor(position.loss_sum, dtype=torch.float64, device=self.device)
        correct = torch.tensor(position.correct, dtype=torch.float64, device=self.device)
        finite = torch.tensor(True, device=self.device)
        started, seconds_before = time.monotonic(), position.train_seconds
        for images, labels in self.batches.epoch(position.epoch, position.batch):
            step = position.epoch * self.batches.steps + position.batch
            torch.manual_seed(seed_of(recipe.seed, "step", step, self.rank))
            rate = recipe.lr * rate_at(step, self.steps, self.warmup_steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            targets = labels
            if self.mix is not None:
                images, targets = self.mix(images, labels)
            with self._autocast():
                logits = self.wrapped(images)
            loss = self.criterion(logits.float(), targets, images)
            self.prepared.zero_grad()
            self.accelerator.backward(loss)
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), recipe.grad_clip or math.inf)
            finite &= torch.isfinite(loss.detach()) & torch.isfinite(norm)
            if self.device.type == "cpu" or step % _NAN_CHECK_EVERY == 0:
                self._require_finite(finite, step, rate)
            self.prepared.step()
            if self.average is not None:
                self.average.update_parameters(self.model)

            loss_sum += loss.detach().double() * len(labels)
            correct += hits(logits.detach(), targets, self.multi_label).sum()
            position.seen += len(labels)
            position.batch += 1
            now = time.monotonic()
            position.train_seconds = seconds_before + now - started
            self.progress.step(loss_sum, correct, position.seen, len(labels))
            due = now - self.last_saved >= self.checkpoint_seconds and position.batch < self.batches.steps
            if due or self.stop_requested:
                self._require_finite(finite, step, rate)
                position.loss_sum, position.correct = loss_sum.item(), correct.item()
                self._save()
                if self.stop_requested:
                    self._interrupted()
        self._require_finite(finite, self.steps, 0.0)
        position.loss_sum, position.correct = loss_sum.item(), correct.item()

    def _finish_epoch(self) -> None:
        position = self.position
        evaluation = self.evaluate(self.data.val, self.val_batches)
        rate = self.optimizer.param_groups[-1]["lr"] / self.optimizer.param_groups[-1]["scale"]
        totals = torch.tensor([position.loss_sum, position.correct, position.seen], dtype=torch.float64)
        loss_sum, correct, seen = self.accelerator.reduce(totals.to(self.device), reduction="sum").tolist()  # pyright: ignore[reportAttributeAccessIssue]
        position.epoch += 1
        position.seconds += position.train_seconds
        line = Epoch(
            epoch=position.epoch,
            step=position.epoch * self.batches.steps,
            lr=rate,
            train_loss=loss_sum / seen,
            train_accuracy=correct / seen,
            val_loss=evaluation.loss,
            val_accuracy=evaluation.figure,
            images_per_second=seen / max(position.train_seconds, 1e-9),
            seconds=position.seconds,
        )
        self.history.append(line)
        position.batch, position.loss_sum, position.correct, position.seen, position.train_seconds = 0, 0.0, 0.0, 0, 0.0
        if evaluation.figure > position.best_accuracy:
            position.best_accuracy, position.best_epoch = evaluation.figure, position.epoch
            if self.accelerator.is_main_process:
                self.keep(self.method.merged(self.evaluated_model), position)
        self._write_logs()
        self._save()
        self.progress.epoch(line, best=position.best_epoch == position.epoch)
        if self.stop_requested and position.epoch < self.recipe.epochs:
            self._interrupted()

    def _out_of_patience(self) -> bool:
        position, patience = self.position, self.recipe.patience
        stops = bool(patience) and position.epoch - position.best_epoch >= patience
        if stops:
            self.progress.note(f"no new best for {patience} epochs, so training ends here (patience)")
        return stops

    def evaluate(self, images: ImageSet, batches: EvalBatches | None = None) -> Evaluation | MultiLabelEvaluation:
        """Score the evaluated model on an image set."""
        return evaluation_of(self.logits(images, batches), torch.from_numpy(images.labels), self.data.classes)

    def logits(self, images: ImageSet, batches: EvalBatches | None = None) -> Tensor:
        """(N, classes) logits of the evaluated model."""
        batches = batches or EvalBatches(
            images, self.preprocess, EVAL_BATCH, self.device, workers=self.workers, rank=self.rank, world=self.world
        )
        model = self.evaluated_model
        was_training = model.training
        model.eval()
        with torch.inference_mode(), self._autocast():
            logits = torch.cat([model(pixels).float() for pixels in batches])
        model.train(was_training)
        gathered = self.accelerator.gather(logits)
        assert isinstance(gathered, Tensor)
        # Rank r computed images r, r + world, ...; gathering puts the ranks one after another.
        return gathered.unflatten(0, (self.world, -1)).transpose(0, 1).flatten(0, 1)[: len(images)]

    def features(self, images: ImageSet, what: str) -> Tensor:
        """(N, D) embeddings by the model as it is, without augmentation."""
        batches = EvalBatches(images, self.preprocess, EVAL_BATCH, self.device, workers=self.workers)
        with self._autocast():
            return embeddings(self.model, self.progress.track(batches, f"features of {what}"))

    def _probe(self) -> None:
        """Train the head alone on embeddings that are computed once."""
        data = self.data
        train, val = self.features(data.train, "train"), self.features(data.val, "val")
        labels = torch.from_numpy(data.train.labels).to(self.device)
        train_head(self.model, train, labels, self.recipe, self.criterion.labels)
        with torch.inference_mode():
            logits = self.model.forward_head(val)
        figure = evaluation_of(logits, torch.from_numpy(data.val.labels), data.classes).figure
        self.position.probe_accuracy = figure
        self.progress.note(f"linear probe: val accuracy {figure:.4f}")

    def _autocast(self) -> Any:
        if self.recipe.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _require_finite(self, finite: Tensor, step: int, rate: float) -> None:
        if finite.item():
            return
        last = self.out / LAST_CHECKPOINT
        kept = f"The last good checkpoint is {last}." if last.is_file() else "No checkpoint had been written yet."
        bf16 = " or precision fp32," if self.recipe.precision == "bf16" else ""
        raise TrainingError(
            f"the loss or its gradient became NaN or infinite by step {step} (epoch {self.position.epoch + 1}, rate "
            f"{rate:.3g}). {kept} Try a lower lr,{bf16} a longer warm-up or grad_clip, in a new output directory."
        )

    def _save(self) -> None:
        self.last_saved = time.monotonic()
        if not self.accelerator.is_main_process:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(self.optimizer).items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        state = {
            "identity": self.identity,
            "recipe": self.recipe.to_dict(),
            "position": asdict(self.position),
            "history": [asdict(line) for line in self.history],
        }
        save_checkpoint(self.out / LAST_CHECKPOINT, tensors, state)

    def _load(self) -> None:
        path = self.out / LAST_CHECKPOINT
        tensors, state = load_checkpoint(path)
        for name, value in self.identity.items():
            if state["identity"].get(name) != value:
                raise CheckpointError(
                    f"{path} belongs to a run with another {name}; resume with the same model and data, or start in a "
                    "new output directory"
                )
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "average": {}}
        for key, value in tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = value
        self.model.load_state_dict(parts["model"])
        load_optimizer_tensors(self.optimizer, parts["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(parts["average"])
        self.position = Position(**state["position"])
        self.history = [Epoch(**line) for line in state["history"]]
        self.progress.note(f"resumed at epoch {self.position.epoch + 1}, batch {self.position.batch + 1}")

    def _write_logs(self) -> None:
        if not self.accelerator.is_main_process:
            return
        lines = [asdict(line) for line in self.history]
        table = io.StringIO()
        writer = csv.DictWriter(table, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        write_text(self.out / "log.csv", table.getvalue())
        write_text(self.out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def _request_stop(self) -> None:
        self.stop_requested = True
        self.progress.note("stopping after this step (Ctrl-C again to stop at once)")

    def _interrupted(self) -> None:
        position = self.position
        best = (
            f"best so far: {position.best_accuracy:.4f} in epoch {position.best_epoch}" if position.best_epoch else ""
        )
        raise TrainingInterrupted(
            f"stopped in epoch {position.epoch + 1} of {self.recipe.epochs} after {position.batch} batches; "
            f"{best or 'no epoch done'}. "
            f"Checkpoint: {self.out / LAST_CHECKPOINT}. Resume with resume=True (--resume)."
        )


def _mixer(recipe: Recipe, num_classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    from torchvision.transforms import v2

    mixers: list[Callable[..., Any]] = []
    if recipe.mixup:
        mixers.append(v2.MixUp(alpha=recipe.mixup, num_classes=num_classes))
    if recipe.cutmix:
        mixers.append(v2.CutMix(alpha=recipe.cutmix, num_classes=num_classes))
    return v2.RandomChoice(mixers) if mixers else None
