"""The arithmetic of a run: rates, groups, average, probe, and what stops it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridvit import training_kernels
from hybridvit.encoder import Encoder
from hybridvit.transfer.data import Data, load_data
from hybridvit.transfer.errors import TrainingError
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.trainer import Trainer
from tests.transfer.samples import tiny, trainer_of, write_idx

FAST = Recipe(epochs=2, batch_size=16, lr=2e-3, warmup_epochs=0.5, augment="gentle", flip=0.0)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return load_data(f"idx:{write_idx(tmp_path / 'idx', {'train': 120, 't10k': 30})}")


def trainer(data: Data, out: Path, recipe: Recipe, model: Encoder | None = None, **options: Any) -> Trainer:
    kept: list[float] = []
    made = trainer_of(data, out, recipe, model, keep=lambda _, position: kept.append(position.best_accuracy), **options)
    made.kept = kept  # pyright: ignore[reportAttributeAccessIssue]
    return made


def test_a_run_learns_and_keeps_the_best(data: Data, tmp_path: Path) -> None:
    run = trainer(data, tmp_path, FAST.replace(epochs=4))
    run.fit()
    assert run.history[-1].train_loss < run.history[0].train_loss
    assert run.position.best_accuracy == max(line.val_accuracy for line in run.history) > 0.8
    assert run.kept == sorted(set(run.kept))  # pyright: ignore[reportAttributeAccessIssue]
    assert [line.split(",")[0] for line in (tmp_path / "log.csv").read_text().splitlines()] == ["epoch", *"1234"]
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 4


def test_frozen_layers_do_not_move(data: Data, tmp_path: Path) -> None:
    model = tiny()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    trainer(data, tmp_path, FAST.replace(epochs=1, freeze=2), model).fit()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    frozen = {name for _, parameters in model.layer_parameters()[:2] for name in parameters}
    assert moved
    assert moved.isdisjoint(frozen)
    assert moved | frozen == set(before)


def test_the_average_follows_the_weights_and_is_what_is_evaluated(data: Data, tmp_path: Path) -> None:
    run = trainer(data, tmp_path, FAST.replace(ema_decay=0.9))
    run.fit()
    assert run.evaluated_model is not run.model
    gap = (run.evaluated_model.head.weight - run.model.head.weight).abs().max()
    assert 0 < gap < 0.05


def test_the_probe_trains_the_head_alone(data: Data, tmp_path: Path) -> None:
    model = tiny()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    run = trainer(data, tmp_path, FAST.replace(probe_epochs=20), model)
    run._probe()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {"head.weight", "head.bias"}
    assert (run.position.probe_accuracy or 0) > 0.6


@pytest.mark.parametrize("field", ["mixup", "cutmix"])
def test_mixed_images_train(data: Data, tmp_path: Path, field: str) -> None:
    run = trainer(data, tmp_path, FAST.replace(epochs=1, **{field: 1.0}))
    run.fit()
    assert math.isfinite(run.history[0].train_loss)


def test_bf16_computes_in_bf16_and_keeps_fp32_weights(data: Data, tmp_path: Path) -> None:
    run = trainer(data, tmp_path, FAST.replace(epochs=1, precision="bf16"))
    seen: set[torch.dtype] = set()
    run.model.head.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    run.fit()
    assert seen == {torch.bfloat16}
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}


def test_on_a_cpu_linear_layers_train_with_onednn(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels of `training_kernels` are reached through the trainer, and not only from a bare loop."""
    calls = 0
    real = training_kernels.product

    def counted(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return real(*arguments)

    monkeypatch.setattr(training_kernels, "product", counted)
    run = trainer(data, tmp_path, FAST.replace(epochs=1), tiny("vit_2_4_32"))
    run.fit()
    assert calls >= 2 * run.batches.steps  # a forward and a backward pass


def test_nan_stops_with_the_last_good_checkpoint_named(data: Data, tmp_path: Path) -> None:
    run = trainer(data, tmp_path, FAST, checkpoint_seconds=0.0)
    steps = 0

    def poison(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += module.training
        return output * math.nan if steps == 3 else output

    run.model.head.register_forward_hook(poison)
    with pytest.raises(
        TrainingError, match=r"NaN or infinite by step 2 .* The last good checkpoint is .*last\.safetensors"
    ):
        run.fit()
    resumed = trainer(data, tmp_path, FAST)
    resumed.fit(resume=True)
    assert resumed.position.epoch == 2
    assert all(parameter.isfinite().all() for parameter in resumed.model.parameters())


def test_a_full_disk_stops_the_run_and_an_earlier_checkpoint_resumes(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybridvit.transfer import checkpoint

    written = 0
    real = checkpoint.save_file

    def filling(*arguments: Any) -> None:
        nonlocal written
        written += 1
        if written == 4:
            Path(arguments[1]).write_bytes(b"half a checkpo")
            raise OSError(28, "No space left on device")
        real(*arguments)

    run = trainer(data, tmp_path / "run", FAST, checkpoint_seconds=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", filling)
        with pytest.raises(TrainingError, match="No space left on device; what was written before is unharmed"):
            run.fit()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["last.safetensors"]

    resumed = trainer(data, tmp_path / "run", FAST)
    resumed.fit(resume=True)
    straight = trainer(data, tmp_path / "straight", FAST)
    straight.fit()
    assert_equal_weights(resumed.model, straight.model)


def assert_equal_weights(model: Encoder, other: Encoder) -> None:
    for (name, value), expected in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, expected), name


def test_ctrl_c_leaves_a_checkpoint_that_resumes_to_the_same_weights(data: Data, tmp_path: Path) -> None:
    import signal

    from hybridvit.transfer.errors import TrainingInterrupted

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    recipe = FAST.replace(drop_path=0.3, mixup=0.5, ema_decay=0.9)
    run = trainer(data, tmp_path / "run", recipe)
    steps = 0

    def press(*_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 8:
            signal.raise_signal(signal.SIGINT)

    handle = run.model.register_forward_pre_hook(press)
    with pytest.raises(TrainingInterrupted, match=r"epoch 2 of 2 after \d+ batches; best so far: .*--resume"):
        run.fit()
    handle.remove()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    resumed = trainer(data, tmp_path / "run", recipe)
    resumed.fit(resume=True)
    straight = trainer(data, tmp_path / "straight", recipe)
    straight.fit()
    assert_equal_weights(resumed.model, straight.model)
    assert_equal_weights(resumed.evaluated_model, straight.evaluated_model)
    assert [line.train_loss for line in resumed.history] == [line.train_loss for line in straight.history]


def test_a_checkpoint_of_another_run_is_refused(data: Data, tmp_path: Path) -> None:
    trainer(data, tmp_path, FAST.replace(epochs=1)).fit()
    other = trainer(data, tmp_path, FAST.replace(epochs=1))
    other.identity["model"] = "another"
    with pytest.raises(TrainingError, match="another model; resume with the same model and data"):
        other.fit(resume=True)
