"""Fine-tuning: an optional linear probe, then training with a layer-wise rate, checkpoints and an exact resume.

Everything random is a function of the recipe's seed and of the position in the run (epoch, step, process), never of
what was drawn before. A checkpoint therefore needs no generator state, and a resumed run computes what an uninterrupted
one would.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from .batch_norm import hold_batch_norm
from .endings import interrupted, not_finite, unreadable
from .epoch_sums import EpochSums
from .errors import DataError, TrainingError
from .features import embeddings
from .interrupt import signals_call
from .loader import EVAL_BATCH, EvalBatches, TrainBatches, seed_of
from .logs import Logs
from .losses import Criterion, hits, label_loss
from .methods import METHODS, Method
from .mixing import mixer_of
from .multilabel import evaluation_of
from .optimizers import average_of, load_optimizer_tensors, parameter_groups, rate_at
from .parallel import agreed, kernel_layout, plain_copy, prepared, whole, whole_model
from .probe import fit_head
from .progress import Progress, Waiting
from .records import Epoch, Position
from .resume import LAST_CHECKPOINT, SavedRun
from .scoring import all_logits
from .step import Step, autocast, check_parts, check_precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from accelerate import Accelerator

    from ..encoder import Encoder
    from ..preprocess import Preprocess
    from .data import Data, ImageSet
    from .distillation import Teacher
    from .metrics import Evaluation
    from .multilabel import MultiLabelEvaluation
    from .recipe import Recipe

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
        tensorboard: bool = False,
    ) -> None:
        self.recipe, self.preprocess, self.data, self.out = recipe, preprocess, data, out
        self.accelerator, self.device = accelerator, accelerator.device
        self.keep, self.identity, self.progress = keep, identity, progress
        self.checkpoint_seconds, self.workers = checkpoint_seconds, workers
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        check_precision(recipe.precision, self.device)
        # torch's annotations lack the keyword.
        self.model = model.to(self.device).to(memory_format=kernel_layout(accelerator))  # pyright: ignore[reportCallIssue]
        self.history: list[Epoch] = []
        self.position = Position()
        self.stop_requested = False
        self.logs = Logs(out, tensorboard)

        share = {"workers": workers, "rank": self.rank, "world": self.world}
        self.batches = TrainBatches(data.train, preprocess, recipe, self.device, **share)
        self.val_batches = EvalBatches(data.val, preprocess, EVAL_BATCH, self.device, **share)
        self.steps = recipe.epochs * self.batches.steps
        self.warmup_steps = round(min(recipe.warmup_epochs * self.batches.steps, self.steps / 2))
        check_parts(recipe, self.batches.batch_size // self.world)

        self.method = method or METHODS[recipe.method]
        self.method.prepare(self.model, recipe)
        hold_batch_norm(self.model, recipe, pretrained)
        model.set_drop_path(recipe.drop_path)
        model.set_grad_checkpointing(recipe.checkpointing)
        self.optimizer = torch.optim.AdamW(parameter_groups(model, recipe), lr=recipe.lr, fused=True)
        self.average = average_of(model, recipe.ema_decay) if recipe.ema_decay else None
        self.mix = mixer_of(recipe, len(data.classes))
        labels = torch.from_numpy(data.train.labels)
        self.multi_label = labels.ndim == 2
        self.criterion = Criterion(label_loss(recipe, labels, len(data.classes), self.device), teacher)
        self.step = Step(self.model, accelerator, recipe, self.criterion, progress.note)
        self.saved = SavedRun(
            out / LAST_CHECKPOINT, self.model, self.optimizer, self.average, self.step.scaler, identity
        )

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
        optimizer = self._load() if resume and self.saved.path.is_file() else None
        if optimizer is None and self.recipe.probe_epochs:
            self._probe()
        # After the probe, whose weights the first process sends to all others.
        self.plain = plain_copy(self.accelerator, self.model)
        self.wrapped = prepared(self.accelerator, self.model, self.optimizer, self.average)
        if optimizer is not None:
            load_optimizer_tensors(self.optimizer, optimizer)
        if self.recipe.compile:
            self.wrapped = cast("nn.Module", torch.compile(self.wrapped))
        self.last_saved = time.monotonic()
        self.progress.start(self.steps, done=self.position.epoch * self.batches.steps + self.position.batch)
        with signals_call(self._request_stop):
            while self.position.epoch < self.recipe.epochs and not self._out_of_patience():
                self._train_epoch()
                self._finish_epoch()

    def _train_epoch(self) -> None:
        position, recipe = self.position, self.recipe
        self.wrapped.train()
        self.sums = sums = EpochSums(self.accelerator, position.loss_sum, position.correct)
        batches = Waiting(self.batches.epoch(position.epoch, position.batch), position.wait_seconds)
        started, seconds_before = time.monotonic(), position.train_seconds
        for images, labels in self._arriving(batches):
            step = position.epoch * self.batches.steps + position.batch
            rate = self._rate(step)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            targets = labels
            if self.mix is not None:
                torch.manual_seed(seed_of(recipe.seed, "mix", step, self.rank))
                images, targets = self.mix(images, labels)
            self.optimizer.zero_grad()
            loss, logits = self.step(self.wrapped, images, targets, seed_of(recipe.seed, "step", step, self.rank))
            self.step.scaler.unscale_(self.optimizer)
            norm = whole(nn.utils.clip_grad_norm_(self.model.parameters(), recipe.grad_clip or math.inf))
            sums.watch(loss)
            if not self.step.scaler.is_enabled():  # which skips a step whose gradients are not finite
                sums.watch(norm)
            if self.device.type == "cpu" or step % _NAN_CHECK_EVERY == 0:
                self._require_finite(step, rate)
            self.step.scaler.step(self.optimizer)
            self.step.scaler.update()
            if self.average is not None:
                self.average.update_parameters(self.model)

            sums.add(loss, hits(logits, targets, self.multi_label).sum(), len(labels))
            position.seen += len(labels)
            position.batch += 1
            position.parts = self.step.parts
            now = time.monotonic()
            position.train_seconds, position.wait_seconds = seconds_before + now - started, batches.seconds
            self.progress.step(sums.loss, sums.correct, position, len(labels))
            due = now - self.last_saved >= self.checkpoint_seconds and position.batch < self.batches.steps
            due, stop = agreed(self.accelerator, step, due, self.stop_requested)
            if due or stop:
                self._require_finite(step, rate)
                self._save()
                if stop:
                    raise interrupted(position, recipe, self.saved.path)
        self._require_finite(self.steps, 0.0)
        position.loss_sum, position.correct = sums.loss.item(), sums.correct.item()

    def _rate(self, step: int) -> float:
        return self.recipe.lr * rate_at(step, self.steps, self.warmup_steps)

    def _arriving(self, batches: Waiting[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        with self._saved_if_unreadable():
            yield from batches

    @contextmanager
    def _saved_if_unreadable(self) -> Iterator[None]:
        """Where images cannot be read, what was learned before is saved first."""
        try:
            yield
        except (TrainingError, DataError) as error:
            if self.world == 1 and self.sums.finite.item():  # several would have to be at the same step
                self._save()
                if self.stop_requested:  # and the processes that read images were asked too
                    raise interrupted(self.position, self.recipe, self.saved.path) from None
            raise unreadable(error, self.saved.path) from error

    def _finish_epoch(self) -> None:
        position = self.position
        with self._saved_if_unreadable():
            evaluation = self.evaluate(self.data.val, self.val_batches)
        loss_sum, correct, seen = self.sums.over_all_processes(position.seen)
        position.epoch += 1
        step = position.epoch * self.batches.steps
        position.seconds += position.train_seconds
        memory = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
        line = Epoch.of(position, step, self._rate(step - 1), loss_sum, correct, seen, evaluation, memory)
        self.history.append(line)
        self.position = position = position.at_next_epoch()
        self.sums = EpochSums(self.accelerator)
        if evaluation.figure > position.best_accuracy:
            position.best_accuracy, position.best_epoch = evaluation.figure, position.epoch
            best = whole_model(self.evaluated_model, self.plain)
            if self.accelerator.is_main_process:
                self.keep(self.method.merged(best), position)
        if self.accelerator.is_main_process:
            self.logs.write(self.history)
        self._save()
        self.progress.epoch(line, best=position.best_epoch == position.epoch)
        (stop,) = agreed(self.accelerator, 0, self.stop_requested)
        if stop and position.epoch < self.recipe.epochs:
            raise interrupted(position, self.recipe, self.saved.path)

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
        return all_logits(self.evaluated_model, batches, len(images), self.accelerator, self.recipe.precision)

    def features(self, images: ImageSet, what: str) -> Tensor:
        """(N, D) embeddings by the model as it is, without augmentation."""
        batches = EvalBatches(images, self.preprocess, EVAL_BATCH, self.device, workers=self.workers)
        with autocast(self.device, self.recipe.precision):
            return embeddings(self.model, self.progress.track(batches, f"features of {what}"))

    def _probe(self) -> None:
        """Train the head alone on embeddings that are computed once."""
        data = self.data
        train, val = self.features(data.train, "train"), self.features(data.val, "val")
        labels = torch.from_numpy(data.train.labels).to(self.device)
        fit_head(self.model, train, labels, self.recipe, self.criterion.labels)
        with torch.inference_mode():
            logits = self.model.forward_head(val)
        figure = evaluation_of(logits, torch.from_numpy(data.val.labels), data.classes).figure
        self.position.probe_accuracy = figure
        self.progress.note(f"linear probe: val accuracy {figure:.4f}")

    def _require_finite(self, step: int, rate: float) -> None:
        if not self.sums.finite.item():
            raise not_finite(self.position, self.recipe, step, rate, self.saved.path)

    def _save(self) -> None:
        self.last_saved = time.monotonic()
        loss_sum, correct, seen = self.sums.over_all_processes(self.position.seen)
        position = replace(self.position, loss_sum=loss_sum, correct=correct, seen=round(seen))
        self.saved.write(position, self.history, self.accelerator.is_main_process)

    def _load(self) -> dict[str, Tensor]:
        """Takes over the checkpoint. Gives the state of the optimizer, which is for later: `prepared` may divide it."""
        self.position, self.history, optimizer = self.saved.read()
        if self.rank:  # the sums so far are of all processes
            self.position.loss_sum, self.position.correct, self.position.seen = 0.0, 0.0, 0
        self.step.parts = self.position.parts or self.step.parts
        self.progress.note(f"resumed at epoch {self.position.epoch + 1}, batch {self.position.batch + 1}")
        return optimizer

    def _request_stop(self, signal: str) -> None:
        self.stop_requested = True
        self.progress.note(f"{signal}: stopping after this step (again to stop at once)")
