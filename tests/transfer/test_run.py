"""`finetune`, `evaluate` and `predict`, from Python and from the command line."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

import hybridvit as hv
from hybridvit.cli import app
from hybridvit.transfer.errors import DataError, RecipeError, RunDirectoryError
from hybridvit.transfer.evaluation import evaluate
from hybridvit.transfer.metrics import Evaluation
from hybridvit.transfer.predict import Prediction, predict
from hybridvit.transfer.recipe import Recipe, load_recipe
from hybridvit.transfer.results import FinetuneResult
from hybridvit.transfer.run import finetune
from hybridvit.transfer.starting import accelerator_for, origin_of
from hybridvit.weights.load import load_model
from hybridvit.weights.store import save_pretrained
from tests.transfer.samples import draw, folder_of, tiny, write_idx

PROJECT = Path(__file__).resolve().parents[2]
MODEL = "cct_2_3x2_32"
FAST = Recipe(
    epochs=2,
    batch_size=16,
    lr=2e-3,
    warmup_epochs=0.5,
    augment="gentle",
    flip=0.0,
    channels=1,
    image_size=16,
    ema_decay=0.8,
)


@pytest.fixture(scope="module")
def idx(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"idx:{write_idx(tmp_path_factory.mktemp('idx'), {'train': 120, 't10k': 30})}"


def run(data: str | Path, out: Path, **options: Any) -> FinetuneResult:
    return finetune(MODEL, data, out, **({"recipe": FAST, "pretrained": False, "progress": False} | options))


@pytest.fixture(scope="module")
def finished(idx: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    run(idx, out, recipe=FAST.replace(epochs=6))
    return out


@pytest.fixture
def colour_folder(tmp_path: Path) -> Path:
    """Two classes that a glance tells apart: red and blue."""
    rng = np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        for i in range(12):
            pixels = rng.integers(0, 80, (20, 24, 3), dtype=np.uint8)
            pixels[..., channel] = 230
            (tmp_path / "colours" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "colours" / name / f"{i}.png")
    return tmp_path / "colours"


def command(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_run_leaves_everything_that_is_needed_and_nothing_else(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} >= {
        *("config.json", "model.safetensors", "recipe.toml", "metrics.json", "split.csv"),
        *("log.csv", "log.jsonl", "confusion.png", "predictions.png", "checkpoints"),
    }
    assert not [path for path in finished.rglob("*") if path.name.endswith((".tmp", ".pt", ".bin", ".pkl"))]
    assert load_recipe(finished / "recipe.toml") == FAST.replace(epochs=6)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert metrics["count"] == 30
    assert metrics["top1"] > 0.8
    text = "".join(path.read_text() for path in finished.glob("*.json*"))
    assert str(PROJECT) not in text
    assert "/tmp" not in text
    with Image.open(finished / "confusion.png") as picture:
        assert min(picture.size) > 300


def test_the_saved_model_gives_the_reported_accuracy_and_its_labels(finished: Path, idx: str) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    evaluation = evaluate(finished, idx)
    assert evaluation.figure == metrics["top1"]
    model = load_model(finished)
    assert model.labels == ("0", "1", "2")
    assert model.preprocess is not None
    assert model.preprocess.input_size == (16, 16)
    assert model.preprocess.channels == 1


def test_colour_folder_with_the_default_recipe_shortened(colour_folder: Path, tmp_path: Path) -> None:
    overrides = {"epochs": 4, "batch_size": 4, "image_size": 16, "lr": 1e-3}
    result = run(colour_folder, tmp_path / "run", recipe=None, overrides=overrides)
    assert result.accuracy == 1.0
    assert result.directory == tmp_path / "run"
    predictions = predict(tmp_path / "run", [colour_folder / "red" / "0.png", Image.new("RGB", (50, 30), "blue")])
    assert [best[0].label for best in predictions] == ["red", "blue"]
    assert sum(each.probability for each in predictions[0]) == pytest.approx(1)
    split = (tmp_path / "run" / "split.csv").read_text().splitlines()
    assert len(split) == 25
    assert "val,red,red/" in "\n".join(split)


def test_a_saved_run_can_be_trained_on_and_names_no_path(finished: Path, idx: str, tmp_path: Path) -> None:
    again = finetune(
        f"local-dir:{finished}", idx, tmp_path / "run", recipe=FAST.replace(epochs=1, lr=1e-6), progress=False
    )
    assert again.accuracy == evaluate(finished, idx).figure  # its head is kept, for the classes are the same
    config = (tmp_path / "run" / "config.json").read_text()
    assert str(finished.parent) not in config
    assert json.loads(config)["origin"]["finetuned_from"] == finished.name


def test_a_model_of_many_labels_is_saved_as_one_of_a_single_label(idx: str, tmp_path: Path) -> None:
    model = tiny()
    model.labels, model.multi_label = ("0", "1", "2"), True
    finetune(model, idx, tmp_path / "run", recipe=FAST.replace(epochs=1), progress=False)
    assert not load_model(tmp_path / "run").multi_label


def test_predict_takes_files_images_and_tensors(finished: Path, tmp_path: Path) -> None:
    model = load_model(finished)
    image = Image.open(draw(tmp_path / "noise.png", seed=1, side=28))
    from hybridvit.transfer.transforms import transforms

    tensor = transforms(model)(image)
    expected = predict(model, image, topk=2)
    assert [len(best) for best in expected] == [2]
    assert predict(model, tmp_path / "noise.png", topk=2) == expected
    assert predict(model, tensor, topk=2) == expected
    several = [
        *predict(model, torch.stack([tensor, tensor]), topk=2),
        *predict(model, [str(tmp_path / "noise.png"), image, tensor], topk=2, batch_size=2),
    ]
    assert [[best.label for best in each] for each in several] == [[best.label for best in expected[0]]] * 5
    for each in several:  # a batch of another size may round otherwise
        assert each[0].probability == pytest.approx(expected[0][0].probability, abs=1e-5)
    model.labels = None
    assert predict(model, image, topk=1)[0][0].label in {"0", "1", "2"}
    assert isinstance(expected[0][0], Prediction)


def test_a_saved_directory_is_named_by_its_path(finished: Path, idx: str, tmp_path: Path) -> None:
    """For training as for everything else."""
    result = finetune(str(finished), idx, tmp_path / "again", overrides={"epochs": 1}, progress=False)
    assert load_model(result.directory).origin["finetuned_from"] == finished.name  # pyright: ignore[reportOptionalSubscript]
    with pytest.raises(FileNotFoundError, match=r"no directory .*typo"):
        finetune(f"{finished}/typo", idx, tmp_path / "other", progress=False)


def test_half_precision_answers(finished: Path, idx: str, tmp_path: Path) -> None:
    model = load_model(finished)
    save_pretrained(model.to(torch.bfloat16), tmp_path / "half")
    picture = draw(tmp_path / "noise.png", seed=1, side=28)
    (found,), (expected,) = (predict(which, picture, topk=1) for which in (tmp_path / "half", finished))
    assert found[0].label == expected[0].label
    assert found[0].probability == pytest.approx(expected[0].probability, abs=0.05)
    assert evaluate(tmp_path / "half", idx).figure == pytest.approx(evaluate(finished, idx).figure, abs=0.1)


def test_the_output_directory_is_protected(finished: Path, idx: str, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"not empty .*--resume.*--overwrite"):
        run(idx, finished)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("all of it")
    with pytest.raises(RunDirectoryError, match="holds no training run"):
        run(idx, precious, overwrite=True)
    with pytest.raises(RunDirectoryError, match="is a file"):
        run(idx, precious / "thesis.txt")
    assert [path.name for path in precious.iterdir()] == ["thesis.txt"]
    with pytest.raises(RunDirectoryError, match="exclude each other"):
        run(idx, finished, resume=True, overwrite=True)


def test_overwrite_replaces_a_run(finished: Path, idx: str, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    (copy / "notes.txt").write_text("mine")
    result = run(idx, copy, recipe=FAST.replace(epochs=1), overwrite=True)
    assert [line.epoch for line in result.history] == [1]
    assert (copy / "notes.txt").read_text() == "mine"


def test_resuming_a_finished_run_gives_its_result_at_once(finished: Path, idx: str) -> None:
    before = (finished / "checkpoints" / "last.safetensors").stat().st_mtime_ns
    result = run(idx, finished, resume=True, recipe=None)
    assert len(result.history) == 6
    assert (finished / "checkpoints" / "last.safetensors").stat().st_mtime_ns == before
    with pytest.raises(RunDirectoryError, match=r"another recipe \(epochs 6 -> 50\)"):
        run(idx, finished, resume=True, recipe=None, overrides={"epochs": 50})
    shown = command("finetune", "--model", MODEL, "--no-pretrained", "--data", idx, "--out", finished, "--resume")
    assert "is finished: 6 epochs, accuracy" in shown.output


def test_resume_keeps_the_recipe_and_refuses_another(finished: Path, idx: str, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    (copy / "metrics.json").unlink()
    with pytest.raises(RunDirectoryError, match=r"another recipe \(epochs 6 -> 2\)"):
        run(idx, copy, resume=True)
    with pytest.raises(RunDirectoryError, match=r"another recipe \(lr 0.002 -> 1.0\)"):
        run(idx, copy, resume=True, recipe=None, overrides={"lr": 1.0})
    again = run(idx, copy, resume=True, recipe=None)
    assert json.loads((finished / "metrics.json").read_text())["top1"] == again.accuracy


def test_mistakes_are_found_before_anything_is_written(idx: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError, match="cct_2_3x2_32"):
        finetune("cct_2_3x2_23", idx, out, progress=False)
    with pytest.raises(RecipeError, match="no field 'epoch'"):
        run(idx, out, overrides={"epoch": 3})
    with pytest.raises(DataError, match="not found"):
        run(tmp_path / "nowhere", out)
    with pytest.raises(DataError, match=r"num_classes is 10, but .* has 3 classes: 0, 1, 2"):
        run(idx, out, num_classes=10)
    with pytest.raises(ValueError, match="device must be cpu or cuda"):
        run(idx, out, device="tpu")
    if not torch.backends.mps.is_available():
        with pytest.raises(ValueError, match="finds no device 'mps' here"):
            run(idx, out, device="mps")
    with pytest.raises(RecipeError, match="channels must be between 0 and 1024, got -1"):
        run(idx, out, overrides={"channels": -1})
    with pytest.raises(DataError, match=r"150 of 150 images do not have the 2 channels .* channels=N in the recipe"):
        run(idx, out, overrides={"channels": 2})
    with pytest.raises(ValueError, match="cannot freeze 1000 layers"):
        run(idx, out, overrides={"freeze": 1000})
    with pytest.raises(ValueError, match="workers must be 0 or more, got -1"):
        run(idx, out, workers=-1)
    assert not out.exists()


def test_mistakes_leave_an_earlier_run_as_it_is(finished: Path, idx: str, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    for mistake in ({"recipe": FAST.replace(freeze=1000)}, {"num_classes": 10}, {"recipe": "nope"}):
        with pytest.raises(ValueError):  # noqa: PT011  (which one is tested above)
            run(idx, copy, overwrite=True, **mistake)
    before, after = ({path.name for path in each.rglob("*")} for each in (finished, copy))
    assert after == before


def test_a_run_is_not_put_into_its_data(colour_folder: Path, finished: Path) -> None:
    for out in (colour_folder, colour_folder / "run"):
        with pytest.raises(RunDirectoryError, match=r"is in the data folder .* of which it would be a part"):
            run(colour_folder, out)
        with pytest.raises(RunDirectoryError, match="is in the data folder"):
            evaluate(finished, colour_folder, out)
    assert sorted(path.name for path in colour_folder.iterdir()) == ["blue", "red"]


def test_figures_of_a_run_are_not_replaced_by_others(finished: Path, idx: str) -> None:
    with pytest.raises(RunDirectoryError, match="holds a training run, whose figures are its own"):
        evaluate(finished, idx, finished)


def test_a_folder_with_other_classes_cannot_be_evaluated(finished: Path, colour_folder: Path) -> None:
    with pytest.raises(DataError, match=r"knows 3 classes \(0, 1, 2\), .*colours has 2, .* blue, red"):
        evaluate(finished, colour_folder)
    model = load_model(finished)
    model.labels = None
    with pytest.raises(DataError, match=r"has 3 classes and no label names, .*colours has 2 classes \(blue, red\)"):
        evaluate(model, colour_folder)
    model.labels = ("blue", "red", "red")
    with pytest.raises(DataError, match=r"the model calls several of its classes red: no folder tells which"):
        evaluate(model, colour_folder)


def test_classes_are_matched_by_name_and_some_may_be_absent(finished: Path, tmp_path: Path) -> None:
    folder_of(tmp_path / "some", {"2": 3, "1": 4})
    evaluation = evaluate(finished, tmp_path / "some", tmp_path / "figures")
    assert isinstance(evaluation, Evaluation)
    assert evaluation.confusion.sum(dim=1).tolist() == [0, 4, 3]
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        *("metrics.json", "confusion.png", "predictions.png"),
    }


SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.run import finetune
recipe = Recipe(epochs=4, batch_size=16, lr=2e-3, augment="gentle", channels=1, image_size=16, ema_decay=0.9,
                mixup=0.4, drop_path=0.2, erasing=0.2, probe_epochs=2)
finetune("cct_2_3x2_32", sys.argv[1], sys.argv[2], recipe=recipe, pretrained=False, resume=True, progress=False,
         checkpoint_seconds=0.0, workers=0)
"""


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}


def start(data: str, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, data, str(out)], cwd=PROJECT, env=environment())


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_ends_with_the_same_weights(idx: str, tmp_path: Path) -> None:
    assert start(idx, tmp_path / "straight").wait() == 0
    out = tmp_path / "killed"
    chance = random.Random(time.time())
    checkpoint = out / "checkpoints" / "last.safetensors"
    kills = 0
    for _ in range(3):
        process = start(idx, out)
        written = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and (checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0) == written:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills, "the run ended before it could be killed"
    assert start(idx, out).wait() == 0
    for name in ("model.safetensors", "checkpoints/last.safetensors"):
        killed, straight = load_file(out / name), load_file(tmp_path / "straight" / name)
        assert killed.keys() == straight.keys()
        for key, value in killed.items():
            assert torch.equal(value, straight[key]), (name, key)


def test_command_line_from_training_to_prediction(colour_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trained = command(
        *("finetune", "--model", MODEL, "--no-pretrained", "--data", colour_folder, "--out", out, "--epochs", "4"),
        *("--batch-size", "4", "--set", "image_size=16", "--set", "augment=gentle", "--lr", "1e-3"),
    )
    assert trained.exit_code == 0, trained.output
    assert "best epoch" in trained.output
    assert load_recipe(out / "recipe.toml").augment == "gentle"

    scored = command("evaluate", "--model", out, "--data", colour_folder, "--json")
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.output)["count"] == 24
    table = command("evaluate", "--model", out, "--data", colour_folder, "--out", tmp_path / "figures")
    assert "top-1" in table.output

    (colour_folder / "red" / "broken.jpg").write_bytes(b"no image")
    guessed = command("predict", colour_folder, "--model", out, "--json", "--sheet", tmp_path / "sheet.png")
    assert guessed.exit_code == 1
    assert "broken.jpg: not an image" in guessed.output
    lines = [json.loads(line) for line in guessed.output.splitlines() if line.startswith("{")]
    assert len(lines) == 24
    assert {line["image"].split("/")[-2] == line["predictions"][0]["label"] for line in lines} == {True}
    assert (tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "cct_2_3x2_23"], "cct_2_3x2_32"),
        (["--model", MODEL, "--recipe", "fmnist_cct"], "fmnist_cct_2"),
        (["--model", MODEL, "--set", "epochs"], "--set needs FIELD=VALUE"),
        (["--model", MODEL, "--set", "epochs=many"], "epochs must be a whole number"),
        (["--model", MODEL, "--no-pretrained"], "not found"),
        (
            ["--model", "cct_4_3x2_32"],
            "no released weights; train it from scratch",
        ),
    ],
)
def test_mistakes_are_one_message_and_exit_1(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = command("finetune", "--data", tmp_path / "nowhere", "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_tensorboard_is_a_flag(idx: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    options = ("--data", idx, "--no-pretrained", "--recipe", tmp_path / "recipe.toml")
    (tmp_path / "recipe.toml").write_text(FAST.replace(epochs=1).to_toml())
    for name, more in (("with", ("--tensorboard",)), ("without", ())):
        assert command("finetune", "--model", MODEL, "--out", tmp_path / name, *options, *more).exit_code == 0
    assert (tmp_path / "with" / "tensorboard" / "events.out.tfevents").stat().st_size > 100
    assert not (tmp_path / "without" / "tensorboard").exists()
    run(idx, tmp_path / "with", recipe=FAST.replace(epochs=1), overwrite=True)
    assert not (tmp_path / "with" / "tensorboard").exists()


def test_precision_and_accumulation_are_those_of_the_recipe_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also under `accelerate launch`, which sets these."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    accelerator = accelerator_for("cpu")
    assert (accelerator.mixed_precision, accelerator.gradient_accumulation_steps) == ("no", 1)


WORKER = """
import sys
import torch
torch.set_num_threads(1)
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.run import finetune
recipe = Recipe(epochs=2, batch_size=16, lr=2e-3, augment="gentle", channels=1, image_size=16, ema_decay=0.9)
finetune("cct_2_3x2_32", sys.argv[1], sys.argv[2], recipe=recipe, pretrained=False, progress=False, workers=0,
         device="cpu")
"""


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_global_batch(idx: str, tmp_path: Path) -> None:
    def launch(out: Path, world: int) -> list[dict[str, Any]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, idx, str(out)],
                cwd=PROJECT,
                env=environment() | (together | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {}),
            )
            for rank in range(world)
        ]
        assert [process.wait(timeout=300) for process in processes] == [0] * world
        return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]

    for one, two in zip(launch(tmp_path / "one", 1), launch(tmp_path / "two", 2), strict=True):
        for figure in ("train_loss", "val_loss", "train_accuracy", "val_accuracy"):
            assert two[figure] == pytest.approx(one[figure], rel=1e-3), figure


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/home/me/secret/best.safetensors", {"finetuned_from": "best.safetensors"}),
        ("local-dir:/home/me/secret/run", {"finetuned_from": "run"}),
        ("hf-hub:me/emoji@v1", {"finetuned_from": "hf-hub:me/emoji@v1", "base_model": "me/emoji"}),
        ("cct_2_3x2_32.fmnist", {"finetuned_from": "cct_2_3x2_32.fmnist"}),
    ],
)
def test_what_was_true_of_the_weights_before_is_not_passed_on(name: str, expected: dict[str, str]) -> None:
    """Nor is a path of this machine."""
    built, recipe = hv.create_model("cct_2_3x2_32"), Recipe()
    kept = {"architecture": "cct_2_3x2_32", "licence": "mit"}
    figures = {"metrics": {"top1": 0.9}, "datasets": ["old"], "description": "Old.", "val_accuracy": 0.9, "source": "x"}
    built.origin = kept | figures
    data = SimpleNamespace(train=range(7))
    origin = origin_of(name, True, built, recipe, data)  # pyright: ignore[reportArgumentType]
    assert origin == kept | expected | {"recipe": recipe.to_dict(), "images": 7}
