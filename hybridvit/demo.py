"""The main job from end to end, on data and weights that ship with the package, against a Hub on the loopback address.

Fine-tune a hybrid on a folder of images, compare it with the same model from scratch under the same budget, push it to
a Hub, pull it back in a fresh process, prove that the logits are equal, and label images it has never seen.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from .hub import LoopbackHub
from .zoo_path import zoo_path

MODEL = "vit_tiny_lite0_s16_224"
PRETRAINED = f"{MODEL}.stem_in1k"
REPOSITORY = "demo/emoji-hybrid"


@dataclass(frozen=True)
class DemoResult:
    """Accuracies are top-1 on the held-out images, 0..1, in the epoch that is best on them; seconds are of both
    trainings; the rest are files."""

    pretrained_accuracy: float
    scratch_accuracy: float
    seconds: float
    logit_difference: float
    confusion: Path
    predictions: Path
    model: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    @property
    def margin(self) -> float:
        """What starting from real weights is worth, in accuracy."""
        return self.pretrained_accuracy - self.scratch_accuracy


def demo(out: Path, recipe: str = "demo", data: Path | None = None, console: Console | None = None) -> DemoResult:
    """Runs the demo and writes everything under `out`, whose earlier demo it replaces.

    `data` is a folder with train/ and val/, by default the sample images that ship with the package. What happens is
    told on the `console`, by default on standard output.

    Raises ValueError if `out` holds something else than a demo, ChildProcessError if a step of it fails.
    """
    from .transfer.run import finetune

    console = console or Console(highlight=False, soft_wrap=True)
    data = data or zoo_path() / "samples" / "emoji"
    _prepare(out)
    console.rule("1. Fine-tune a hybrid whose stem has ImageNet weights")
    tuned = finetune(PRETRAINED, data, out / "model", recipe=recipe)
    console.rule("2. The same model and budget, from scratch")
    scratch = finetune(MODEL, data, out / "scratch", recipe=recipe, pretrained=False)

    with LoopbackHub(out / "hub") as hub:
        console.rule(f"3. Push to and pull from a Hub at {hub.endpoint}")
        cache = {"HF_HOME": str(out / "cache"), "HF_HUB_CACHE": str(out / "cache" / "hub")}
        environment = os.environ | hub.environment() | cache
        _run(environment, "-m", "hybridvit.cli", "push", str(tuned.directory), REPOSITORY)
        difference = _pulled_difference(environment, tuned.directory, data, out)
        console.print(f"pulled in a fresh process: largest difference of the logits {difference:g}")
        console.rule("4. Label held-out images with the pulled model")
        sheet = out / "predictions.png"
        held_out = [str(path) for path in _a_few_of_each_class(data / "val")]
        labels = _run(
            environment,
            *("-m", "hybridvit.cli", "predict", *held_out),
            *("--model", f"hf-hub:{REPOSITORY}", "--topk", "2", "--sheet", str(sheet)),
        )
    console.print(labels.replace(f"{data}{os.sep}", ""))
    result = DemoResult(
        pretrained_accuracy=tuned.accuracy,
        scratch_accuracy=scratch.accuracy,
        seconds=tuned.seconds + scratch.seconds,
        logit_difference=difference,
        confusion=tuned.directory / "confusion.png",
        predictions=sheet,
        model=tuned.directory,
    )
    (out / "demo.json").write_text(json.dumps(result.to_dict(), indent=1) + "\n")
    _report(console, result)
    return result


def _prepare(out: Path) -> None:
    """Empties the directory of an earlier demo; anything else in it is the user's and stays."""
    if out.is_dir() and any(out.iterdir()) and not (out / ".demo").exists():
        raise ValueError(f"{out} is not empty and holds no demo; name another directory with --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / ".demo").touch()


def _run(environment: dict[str, str], *arguments: str) -> str:
    """Output of a fresh Python process. Raises ChildProcessError with what it printed if it fails."""
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ChildProcessError(f"hybridvit {' '.join(arguments[2:4])} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _pulled_difference(environment: dict[str, str], directory: Path, data: Path, out: Path) -> float:
    """Largest difference between the logits of the saved model here and of the pulled one in a fresh process."""
    logits = out / "pulled_logits.pt"
    _run(environment, "-m", "hybridvit.demo", f"hf-hub:{REPOSITORY}", str(data / "val"), str(logits))
    here = held_out_logits(f"local-dir:{directory}", data / "val")
    return (torch.load(logits, weights_only=True) - here).abs().max().item()


def held_out_logits(model: str, folder: Path) -> torch.Tensor:
    """Logits (images, classes) of a saved or pulled model for a few images of each class."""
    import hybridvit as hv

    from .transfer.images import load_image

    loaded = hv.create_model(model, pretrained=True).eval()
    transform = hv.transforms(loaded)
    batch = torch.stack([transform(load_image(path, loaded.spec.in_chans)) for path in _a_few_of_each_class(folder)])
    with torch.no_grad():
        return loaded(batch)


def _a_few_of_each_class(folder: Path, count: int = 3) -> list[Path]:
    return [path for each in sorted(folder.iterdir()) if each.is_dir() for path in sorted(each.iterdir())[:count]]


def _report(console: Console, result: DemoResult) -> None:
    console.rule("Result: accuracy on the held-out images, in the best epoch")
    rows = {
        "stem from ImageNet weights": f"{result.pretrained_accuracy:.1%}",
        "the same model and budget from scratch": f"{result.scratch_accuracy:.1%}",
        "margin": f"{100 * result.margin:+.1f} points",
        "training, both": f"{result.seconds:.0f} s",
        "confusion matrix": result.confusion,
        "sheet of predictions": result.predictions,
        "model directory": result.model,
    }
    for name, value in rows.items():
        console.print(f"{name:40}{value!s}")


if __name__ == "__main__":
    name, images, target = sys.argv[1:]
    torch.save(held_out_logits(name, Path(images)), target)
