"""Train on labelled images, score and predict."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..limits import printable
from .application import app, settings, tell, tell_json
from .options import (
    DataOption,
    DeviceOption,
    ImageRootOption,
    JsonOption,
    ModelOption,
    OnBadOption,
    TtaOption,
    WorkersOption,
)

if TYPE_CHECKING:
    from ..transfer.images import BadImage
    from ..transfer.predict import Prediction

DEFAULT_MODEL = "tiny_vit_5m_224.dist_in22k_ft_in1k"


@app.command()
def finetune(
    data: DataOption,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model name, arch.tag, hf-hub:ORG/NAME or local-dir:PATH.",
            show_default=f"{DEFAULT_MODEL}: 5 million parameters, 80.9 % on ImageNet as timm reports, Apache-2.0",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory of the run: weights, labels, logs, pictures.", show_default="runs/DATA-MODEL"),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Name of a shipped recipe or a TOML file; by default one that suits the data.")
    ] = None,
    method: Annotated[
        Literal["full", "probe", "lora", "ssf", "knn"] | None,
        typer.Option(help="What is trained: all, the classifier, small updates (lora, ssf), or nothing (knn)."),
    ] = None,
    pretrained: Annotated[bool, typer.Option(help="Start from released weights, or from scratch.")] = True,
    epochs: Annotated[int | None, typer.Option(help="Overrides the recipe.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Overrides the recipe.")] = None,
    lr: Annotated[
        list[float] | None,
        typer.Option(help="Overrides the recipe; given several times, a run for each in OUT/lr-RATE."),
    ] = None,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Choose the rate by a short trial of rising ones.")
    ] = False,
    patience: Annotated[int | None, typer.Option(help="End after so many epochs without a new best.")] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Cross-validation: a run for each fold in OUT/fold-NUMBER.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Trained model with the same classes to learn from too.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other field of the recipe; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in OUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in OUT.")] = False,
    val_fraction: Annotated[float, typer.Option(help="Share held out where the data has no val/.")] = 0.2,
    split: Annotated[Path | None, typer.Option(help="The split.csv of an earlier run, to be used again.")] = None,
    on_bad: OnBadOption = "error",
    image_root: ImageRootOption = None,
    device: DeviceOption = None,
    workers: WorkersOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard too, into OUT.")] = False,
) -> None:
    """Train a model on your images; the best epoch is saved in OUT with its labels and preprocessing."""
    from ..transfer.directory import default_directory
    from ..transfer.search import finetune_as_asked

    model = model or (DEFAULT_MODEL if pretrained else DEFAULT_MODEL.partition(".")[0])
    given = {"method": method, "epochs": epochs, "batch_size": batch_size, "patience": patience}
    overrides = settings(set_ or []) | {name: value for name, value in given.items() if value is not None}
    result = finetune_as_asked(
        model,
        data,
        out or default_directory(data, model, resume),
        rates=lr or [],
        folds=folds,
        recipe=recipe,
        overrides=overrides,
        find_lr=find_lr,
        teacher=teacher,
        pretrained=pretrained,
        resume=resume,
        overwrite=overwrite,
        val_fraction=val_fraction,
        split=split,
        image_root=image_root,
        on_bad=on_bad,
        device=device,
        workers=workers,
        tensorboard=tensorboard,
    )
    if as_json:
        typer.echo(json.dumps(result.to_dict()))


@app.command()
def evaluate(
    model: ModelOption,
    data: DataOption,
    out: Annotated[Path | None, typer.Option(help="Directory for figures and pictures.")] = None,
    split: Annotated[
        Literal["train", "val", "test", "all"] | None, typer.Option(help="By default test, else val, else every image.")
    ] = None,
    on_bad: OnBadOption = "error",
    image_root: ImageRootOption = None,
    tta: TtaOption = "none",
    device: DeviceOption = None,
    workers: WorkersOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Accuracy, calibration and confusion matrix of a model on labelled images."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ..transfer.evaluation import evaluate as run

    given = {"split": split, "on_bad": on_bad, "image_root": image_root, "tta": tta}
    result = run(model, data, out, **given, device=device, workers=workers)
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
        return
    table = Table("class", "images", result.class_figure)
    for name, total, share in zip(result.classes, result.class_counts, result.per_class, strict=True):
        if total:
            table.add_row(escape(printable(name)), str(total), f"{share:.1%}")
    console = Console()
    console.print(table)
    console.print(f"{result.summary}  ({result.count:,} images)", highlight=False)
    if out is not None:
        console.print(f"pictures and figures in {out}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def predict(
    images: Annotated[
        list[str],
        typer.Argument(help="Files, folders, quoted patterns such as 'a/**/*.jpg', or - for names on standard input."),
    ],
    model: ModelOption,
    topk: Annotated[int, typer.Option(min=1, help="Labels an image, at most.")] = 5,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Least probability of a label; by default 0.5 for a multi-label model, else 0."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the predictions to this .csv or .jsonl file instead.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="PNG with a thumbnail and the best label of each image.")] = None,
    tta: TtaOption = "none",
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """The most likely labels of images. A file that cannot be read is named at the end and makes the exit code 1."""
    from ..transfer.images import BadImage, describe_bad_images
    from ..transfer.outputs import writer_for
    from ..transfer.predict import predict_files

    write = writer_for(out) if out else None
    bad: list[BadImage] = []
    labelled = 0
    best: list[tuple[Path, Prediction]] = []

    def shown() -> Iterator[tuple[Path, list[Prediction] | BadImage]]:
        nonlocal labelled
        given = predict_files(
            model, images, topk, threshold=threshold, tta=tta, device=device, standard_input=sys.stdin.buffer
        )
        for path, result in given:
            if isinstance(result, BadImage):
                bad.append(result)
            else:
                labelled += 1
                best.extend((path, each) for each in result[:1] if sheet)
                if write is None:
                    _tell_prediction(path, result, as_json)
            yield path, result

    (write or _used_up)(shown())
    if out is not None:
        said = {"written": str(out), "images": labelled, "unreadable": len(bad)}
        if as_json:
            tell_json(said)
        else:
            typer.echo(f"{labelled:,} images labelled, written: {out}")
    if sheet is not None and best:
        from ..transfer.report import SheetItem, prediction_sheet, thumbnail

        items = [SheetItem(thumbnail(path), each.label, each.probability) for path, each in best]
        prediction_sheet(items, sheet)
    if bad:
        typer.echo(f"{len(bad)} files could not be read:\n{describe_bad_images(bad)}", err=True)
        raise typer.Exit(1)


def _used_up(results: Iterable[object]) -> None:
    for _ in results:
        pass


def _tell_prediction(path: Path, result: list[Prediction], as_json: bool) -> None:
    from ..transfer.outputs import as_json as facts

    if as_json:
        tell_json(facts(path, result))
        return
    labels = ", ".join(f"{printable(each.label)} {each.probability:.1%}" for each in result)
    tell(f"{path}: {labels or 'none of the labels'}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Directory for everything that the demo makes.")] = Path("demo"),
    recipe: Annotated[str, typer.Option(help="Training recipe, a name or a TOML file.")] = "demo",
    as_json: JsonOption = False,
) -> None:
    """The main job end to end on shipped data: fine-tune, compare, push, pull, verify, predict."""
    from rich.console import Console

    from ..demo import demo as run

    result = run(out, recipe, console=Console(highlight=False, soft_wrap=True, stderr=as_json))
    if as_json:
        tell_json(result.to_dict())
