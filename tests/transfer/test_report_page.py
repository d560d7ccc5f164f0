"""The page of a run: everything on it, nothing fetched, names of classes harmless, readable in any light and width."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hybridvit.encoder import Encoder
from hybridvit.registry import model_spec
from hybridvit.transfer.data import Data, ImageSet
from hybridvit.transfer.metrics import Evaluation, score
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.report_page import Run, command_line, run_title, write_report
from tests.browser import page_in_browser
from tests.transfer.data.memory import image_set as in_memory
from tests.transfer.samples import tiny

NAMES = ("<script>document.title = 'broken'</script>", "a & b $x_1$ \x07", "\u732b")
DATA_REPORT = {
    "images": 2400,
    "counts": {"train": [4, 5, 6]},
    "broken": {"count": 0, "first": []},
    "near_constant": {"count": 2, "first": ["a.png", "<i>b.png"]},
    "suspicious_classes": [{"class": "eel", "why": "has 1 training images"}],
    "notes": ["told elsewhere"],
}
HISTORY = [
    {
        "epoch": epoch,
        "step": 10 * epoch,
        "lr": 1e-3 / epoch,
        "train_loss": 1 / epoch,
        "train_accuracy": 0.5 + 0.1 * epoch,
        "val_loss": 1.2 / epoch,
        "val_accuracy": 0.45 + 0.1 * epoch,
        "images_per_second": 100.0,
        "seconds": 3.0 * epoch,
    }
    for epoch in (1, 2, 3)
]


def image_set(count: int = 12, names: tuple[str, ...] | None = None) -> ImageSet:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 20, 20), dtype=np.uint8)
    return in_memory(pixels, np.arange(count) % 3, names or tuple(f"<b>{i}</b>.png" for i in range(count)))


def evaluation_of(images: ImageSet, classes: tuple[str, ...] = NAMES) -> Evaluation:
    labels = torch.from_numpy(images.labels)
    logits = 3 * torch.eye(len(classes))[labels]
    logits[:5] = logits[:5].roll(1, dims=1)  # five mistakes
    return score(logits + 0.1 * torch.arange(len(labels))[:, None] * logits, labels, classes)


def run_in(directory: Path, evaluation: Any = None, **metrics: Any) -> Run:
    """What a report is made of, with the files that it reads."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "recipe.toml").write_text(Recipe().to_toml())
    images = image_set()
    facts = {
        "history": HISTORY,
        "epochs": 3,
        "best_epoch": 3,
        "val_accuracy": 0.75,
        "seconds": 100.0,
        "environment": {"device": "x86_64", "torch": "2"},
    }
    return Run(
        title="tiny on things",
        command="hybridvit finetune --data things",
        model=tiny().eval(),
        data=Data(NAMES, images, images, None, notes=("2 images are alike",)),
        evaluation=evaluation or evaluation_of(images),
        metrics=facts | metrics,
    )


def page_of(run: Run, directory: Path) -> str:
    write_report(run, directory / "report.html")
    return (directory / "report.html").read_text(encoding="utf-8")


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page[page.index("<body>") :]).split())


def test_the_page_tells_all_of_a_run(tmp_path: Path) -> None:
    run = run_in(
        tmp_path / "run",
        baselines={"majority": 0.34, "knn": 0.5},
        calibration={"temperature": 1.7, "ece_before": 0.21, "ece_after": 0.04},
    )
    (tmp_path / "run" / "data.json").write_text(json.dumps(DATA_REPORT))
    page = page_of(run, tmp_path / "run")
    sections = ["Training", "Baselines", "Class by class", "Confusion matrix", "The most confident mistakes"]
    assert headings(page) == [*sections, "Calibration", "Data", "Cost", "How it was made", "Use it"]
    told = text_of(page)
    for figure in ("58.3% accuracy on 12 validation images", "75.0% validation, best of 3 epochs", "100 s of training"):
        assert figure in told or "2 min of training" in told
    for fact in ("majority 0.34", "k-NN 0.5", "temperature 1.7", "ECE before 0.21", "ECE after 0.04"):
        assert fact in told
    for fact in ("images 2,400", "train 4, 5, 6", "broken 0", "near constant 2: a.png, &lt;i&gt;b.png", "class eel"):
        assert fact in told
    assert "told elsewhere" not in told
    assert "2 images are alike" in told
    assert "hybridvit finetune --data things" in told
    assert "augment = &#34;standard&#34;" in page
    assert page.count('alt="where the model looked"') == 5
    assert "metrics.json" in told
    assert "create_model(&#34;local-dir:run&#34;)" in page or 'create_model("local-dir:run")' in page


def test_what_there_is_not_is_left_out(tmp_path: Path) -> None:
    page = page_of(run_in(tmp_path, evaluation_of_perfection()), tmp_path)
    assert not {"Baselines", "Data", "The most confident mistakes"} & set(headings(page))


def evaluation_of_perfection() -> Evaluation:
    labels = torch.from_numpy(image_set().labels)
    return score(9 * torch.eye(3)[labels], labels, NAMES)


def test_pictures_of_the_data_are_shown(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    with_pictures = Run(**{**run.__dict__, "pictures": {"class_counts": b"\x89PNG"}})
    assert "<figcaption>class counts</figcaption>" in page_of(with_pictures, tmp_path)


def test_classes_come_worst_first_with_their_precision(tmp_path: Path) -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    said = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 2, 0, 0, 0])
    page = page_of(run_in(tmp_path, score(5 * torch.eye(3)[said], labels, ("a", "b", "c"))), tmp_path)
    rows = re.findall(
        r"<tr><td>(\w)</td><td class=\"n\">(.*?)</td><td class=\"n\">(.*?)</td><td class=\"n\">4</td>", page
    )
    assert rows == [("c", "25.0%", "100.0%"), ("a", "75.0%", "50.0%"), ("b", "100.0%", "80.0%")]
    confused = re.search(r"Most often taken for another: (.*?)</p>", page)
    assert confused is not None
    assert text_of("<body>" + confused[1]).startswith("c as a (3), a as b (1)")


def test_several_labels_an_image(tmp_path: Path) -> None:
    """No confusion matrix, but the average precision of each class."""
    labels = torch.zeros(12, 3)
    labels[:6, 0], labels[3:, 1] = 1, 1
    evaluation = SimpleNamespace(
        classes=("a", "b", "c"),
        count=12,
        mean_average_precision=0.725,
        macro_f1=0.5,
        per_class=(0.9, 0.55, float("nan")),
        labels=labels,
        probabilities=0.2 + 0.6 * labels.roll(1, dims=1),
    )
    page = page_of(run_in(tmp_path, evaluation), tmp_path)
    assert "Confusion matrix" not in headings(page)
    assert "Calibration" not in headings(page)
    told = text_of(page)
    assert "<figcaption>Mean average precision</figcaption>" in page
    assert "<figcaption>Accuracy</figcaption>" not in page
    assert "0.725 mean average precision on 12 validation images" in told
    assert "class average precision images b 0.550 9 a 0.900 6 c - 0" in told
    assert "b 80%, is a" in told
    assert "c 80%, is a, b" in told


def test_nothing_is_fetched_and_no_name_is_markup(tmp_path: Path) -> None:
    page = page_of(run_in(tmp_path), tmp_path)
    assert "<script" not in page
    assert "<b>0</b>" not in page
    places = re.findall(r'(?:src|srcset|href|action)="([^"]*)"', page)
    assert places
    assert all(place.startswith("data:image/") for place in places)
    assert "url(" not in page
    assert "@import" not in page
    assert str(tmp_path.parent) not in page


def test_the_page_in_a_browser(tmp_path: Path) -> None:
    """Names are shown as they are, every picture loads, and nothing sticks out of a phone."""
    page_of(run_in(tmp_path, baselines={"majority": 0.34, "knn": 0.5}), tmp_path)
    for dark in (False, True):
        with page_in_browser(width=400, dark=dark) as page:
            page.goto((tmp_path / "report.html").as_uri())
            assert page.title() == "tiny on things"
            assert NAMES[0] in page.inner_text("body")
            assert page.evaluate("document.documentElement.scrollWidth") <= 400
            assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 20)")
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert ground == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
            shown = page.evaluate("document.querySelector('picture img').currentSrc")
            assert (shown == page.evaluate("document.querySelector('picture source').srcset")) == dark


@pytest.mark.parametrize(
    ("model", "data", "expected"),
    [
        ("levit_128s", "/home/me/pets", "--model levit_128s --data pets"),
        ("local-dir:/home/me/run", "idx:/home/me/digits", "--model local-dir:run --data idx:digits"),
        ("levit_128s.fb_dist_in1k", "/home/me/a:b", "--model levit_128s.fb_dist_in1k --data a:b"),
        ("hf-hub:org/name@main", "wds:/home/me/a b.tar", "--model hf-hub:org/name@main --data 'wds:a b.tar'"),
    ],
)
def test_the_command_names_no_path(model: str, data: str, expected: str) -> None:
    command = command_line(model, data, Path("/home/me/out"), pretrained=False, on_bad="skip", val_fraction=0.3)
    assert command == (
        f"hybridvit finetune {expected} --out out --recipe recipe.toml --no-pretrained --on-bad skip --val-fraction 0.3"
    )
    assert "/home/me" not in run_title(model, data)


def test_a_run_has_its_page(tmp_path: Path) -> None:
    from hybridvit.transfer.run import finetune
    from tests.transfer.samples import write_idx

    data = write_idx(tmp_path / "digits", {"train": 60, "t10k": 12})
    recipe = Recipe(epochs=1, batch_size=16, augment="none", channels=1, image_size=16)
    finetune("cct_2_3x2_32", f"idx:{data}", tmp_path / "run", recipe=recipe, pretrained=False, progress=False)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<title>cct_2_3x2_32 on digits</title>" in page
    assert "--data idx:digits --out run --recipe recipe.toml --no-pretrained" in page
    assert str(tmp_path) not in page


def test_the_command_of_a_fold_takes_the_same_images_again(tmp_path: Path) -> None:
    from hybridvit.transfer.run import finetune
    from tests.transfer.samples import folder_of

    data = folder_of(tmp_path / "pets", {"cat": 6, "dog": 6})
    recipe = Recipe(method="probe", epochs=1, batch_size=4, augment="none", image_size=16)
    options = {"recipe": recipe, "pretrained": False, "progress": False}
    finetune("cct_2_3x2_32", data, tmp_path / "run", fold=(2, 3), teacher=nameless_teacher(), **options)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "--recipe recipe.toml --no-pretrained --split split.csv --on-bad error --teacher TEACHER" in page
    again = tmp_path / "again"
    finetune("cct_2_3x2_32", data, again, split=tmp_path / "run" / "split.csv", **options)
    assert (again / "split.csv").read_text() == (tmp_path / "run" / "split.csv").read_text()


def nameless_teacher() -> Encoder:
    """A teacher of cats and dogs that has no name."""
    torch.manual_seed(0)
    model = model_spec("cct_2_3x2_32").replace(img_size=(16, 16), num_classes=2).build()
    model.labels = ("cat", "dog")
    return model
