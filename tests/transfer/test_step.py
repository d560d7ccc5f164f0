"""The gradients of a batch: in parts, in other precisions, and where memory runs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybridvit.transfer import trainer as trainer_module
from hybridvit.transfer.checkpoint import load_checkpoint
from hybridvit.transfer.data import Data, load_data
from hybridvit.transfer.errors import RecipeError, TrainingError
from hybridvit.transfer.losses import Criterion, label_loss
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.resume import LAST_CHECKPOINT
from hybridvit.transfer.step import Step, answers, is_out_of_memory
from tests.transfer.samples import tiny, write_idx
from tests.transfer.test_trainer import FAST, trainer

RECIPE = FAST.replace(drop_path=0.0, ema_decay=0.9)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return load_data(f"idx:{write_idx(tmp_path / 'idx', {'train': 120, 't10k': 30})}")


def no_room_beyond(images: int, message: str = "CUDA out of memory. Tried to allocate 2 GiB") -> Any:
    """A hook that stands for a device on which a training step has room for that many images."""

    def refuse(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training and len(inputs[0]) > images:
            raise torch.OutOfMemoryError(message)

    return refuse


def losses(run: Any) -> list[float]:
    return [value for line in run.history for value in (line.train_loss, line.val_loss)]


@pytest.mark.parametrize("accumulate", [2, 3, 16])
def test_a_batch_in_parts_learns_the_same(data: Data, tmp_path: Path, accumulate: int) -> None:
    sizes: set[int] = set()
    whole = trainer(data, tmp_path / "whole", RECIPE)
    whole.fit()
    run = trainer(data, tmp_path / "parts", RECIPE.replace(accumulate=accumulate))
    run.model.register_forward_pre_hook(lambda module, inputs: sizes.add(len(inputs[0])) if module.training else None)
    run.fit()
    assert max(sizes) == -(-16 // accumulate)
    assert losses(run) == pytest.approx(losses(whole), rel=1e-4)


def test_more_parts_than_images_are_refused(data: Data, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="accumulate 17 is more than the 16 images"):
        trainer(data, tmp_path, RECIPE.replace(accumulate=17))


@pytest.mark.parametrize("moment", ["from the start", "later"])
def test_out_of_memory_halves_the_parts_and_learns_the_same(data: Data, tmp_path: Path, moment: str) -> None:
    whole = trainer(data, tmp_path / "whole", RECIPE)
    whole.fit()
    run = trainer(data, tmp_path / "run", RECIPE)
    said: list[str] = []
    run.step.tell = said.append
    refuse = no_room_beyond(5)
    run.model.register_forward_pre_hook(
        lambda *inputs: refuse(*inputs) if moment == "from the start" or run.position.batch > 2 else None
    )
    run.fit()
    assert [line.split(" parts")[0].split()[-1] for line in said] == ["2", "4"]
    assert losses(run) == pytest.approx(losses(whole), rel=1e-4)


def test_a_resumed_run_knows_how_much_fits(data: Data, tmp_path: Path) -> None:
    run = trainer(data, tmp_path, RECIPE.replace(epochs=1))
    run.model.register_forward_pre_hook(no_room_beyond(5))
    run.fit()
    resumed = trainer(data, tmp_path, RECIPE)
    resumed.model.register_forward_pre_hook(no_room_beyond(5))
    resumed.step.tell = lambda text: pytest.fail(text)
    resumed.fit(resume=True)


def test_out_of_memory_with_one_image_says_what_helps(data: Data, tmp_path: Path) -> None:
    run = trainer(data, tmp_path, RECIPE)
    run.model.register_forward_pre_hook(no_room_beyond(0))
    with pytest.raises(TrainingError, match=r"one image at a time: take checkpointing=true, a smaller image_size"):
        run.fit()


def test_a_step_that_failed_leaves_no_trace(data: Data) -> None:
    """Batch norm has seen the first part of the batch before memory ran out in the second."""
    from accelerate import Accelerator

    images, targets = torch.randn(8, 1, 16, 16), torch.arange(8) % 3

    def stepped(recipe: Recipe, fails_at: int) -> nn.Sequential:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(784, 3))
        criterion = Criterion(label_loss(recipe, targets, 3, torch.device("cpu")))
        step = Step(model, Accelerator(cpu=True), recipe, criterion, lambda text: None)
        calls = 0

        def refuse(*_: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == fails_at:
                raise torch.OutOfMemoryError

        model[4].register_forward_pre_hook(refuse)
        step(model, images, targets, seed=3)
        return model

    failed, straight = stepped(Recipe(accumulate=2), fails_at=2), stepped(Recipe(accumulate=4), fails_at=0)
    assert torch.equal(failed[1].running_mean, straight[1].running_mean)  # pyright: ignore[reportArgumentType]
    for one, other in zip(failed.parameters(), straight.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_what_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 58)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("CUDA out of memory."))


def test_an_evaluation_is_halved_until_it_fits() -> None:
    model = tiny().eval()
    images = torch.randn(7, 1, 16, 16)
    expected = model(images)
    sizes: list[int] = []

    def refuse(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError

    model.register_forward_pre_hook(refuse)
    assert torch.allclose(answers(model, images), expected, atol=1e-5)
    assert sizes == [7, 4, 2, 2, 3, 2, 1]


def test_checkpointing_computes_blocks_again_and_learns_the_same(data: Data, tmp_path: Path) -> None:
    def calls(recipe: Recipe) -> tuple[int, list[float]]:
        run = trainer(data, tmp_path / str(recipe.checkpointing), recipe)
        count = 0

        def noted(*_: Any) -> None:
            nonlocal count
            count += 1

        run.model.stages[-1].blocks[0].register_forward_pre_hook(noted)  # pyright: ignore
        run.fit()
        return count, losses(run)

    recipe = FAST.replace(epochs=1, drop_path=0.3)
    (kept, expected), (again, found) = calls(recipe), calls(recipe.replace(checkpointing=True))
    assert again > kept
    assert found == pytest.approx(expected, rel=1e-5)


def test_compile_runs_training_through_the_compiler_and_keeps_the_keys(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []

    def compiler(model: nn.Module) -> nn.Module:
        compiled.append(model)
        return model

    monkeypatch.setattr(torch, "compile", compiler)
    recipe = FAST.replace(epochs=1)
    plain, run = (
        trainer(data, tmp_path / "plain", recipe),
        trainer(data, tmp_path / "run", recipe.replace(compile=True)),
    )
    plain.fit()
    assert not compiled
    run.fit()
    assert compiled == [run.model]
    keys = [set(load_checkpoint(tmp_path / name / LAST_CHECKPOINT)[0]) for name in ("plain", "run")]
    assert keys[0] == keys[1]


@pytest.mark.slow
def test_a_compiled_run_learns_the_same(data: Data, tmp_path: Path) -> None:
    plain, run = (
        trainer(data, tmp_path / "plain", RECIPE),
        trainer(data, tmp_path / "run", RECIPE.replace(compile=True)),
    )
    plain.fit()
    run.fit()
    assert losses(run) == pytest.approx(losses(plain), rel=1e-3)
    assert run.model.state_dict().keys() == plain.model.state_dict().keys()
    resumed = trainer(data, tmp_path / "run", RECIPE.replace(compile=True, epochs=3))
    resumed.fit(resume=True)


def test_fp16_needs_a_gpu(data: Data, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"fp16 needs a CUDA GPU, and this run is on cpu; take bf16 or fp32"):
        trainer(data, tmp_path, FAST.replace(precision="fp16"))


def test_fp16_scales_its_loss_and_remembers_the_scale(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "check_precision", lambda *_: None)  # a CPU can, slowly
    recipe = FAST.replace(epochs=4, precision="fp16", accumulate=2)

    def made(out: Path) -> Any:
        run = trainer(data, out, recipe)
        run.step.scaler.load_state_dict(run.step.scaler.state_dict() | {"scale": 2.0**24, "growth_interval": 3})
        return run

    run = made(tmp_path / "run")
    run.fit()
    state = load_checkpoint(tmp_path / "run" / LAST_CHECKPOINT)[1]["scaler"]
    assert 2.0 <= state["scale"] < 2.0**24  # gradients were infinite at first, and those steps were left out
    assert run.history[-1].train_loss < run.history[0].train_loss
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}
    resumed = trainer(data, tmp_path / "run", recipe)
    resumed.fit(resume=True)
    assert resumed.step.scaler.state_dict() == state
