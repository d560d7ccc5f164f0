"""The comparison of whole fine-tuning runs: its images, and every side on a job of a few steps."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.finetune_images import make_images
from benchmarks.finetune_loop import UNITS, measure, run, weights_of
from benchmarks.finetune_sides import SIDES, Job
from hybridvit.benchmark import Settings, append_result, read_results


def test_images_are_the_same_each_time_and_of_the_size_of_photographs(tmp_path: Path) -> None:
    def made(name: str) -> dict[str, str]:
        make_images(tmp_path / name, train=6, val=6)
        files = sorted((tmp_path / name).rglob("*.jpg"))
        return {str(path.relative_to(tmp_path / name)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    first = made("first")
    assert first == made("second")
    assert len(set(first.values())) == len(first) == 12
    with Image.open(next((tmp_path / "first").rglob("*.jpg"))) as image:
        assert 460 <= image.width < 540
        assert 345 <= image.height < 405


def job(folder: Path) -> Job:
    make_images(folder / "images", train=12, val=6)
    return Job(
        model="levit_128s",
        folder=folder / "images",
        weights=weights_of("levit_128s", folder / "weights"),
        out=folder / "out",
        images=12,
        epochs=1,
        batch=6,
        workers=0,
        threads=1,
    )


def test_a_job_reaches_another_process_as_it_is(tmp_path: Path) -> None:
    sent = Job(
        model="m", folder=tmp_path, weights=tmp_path, out=tmp_path, images=4, epochs=1, batch=2, workers=0, threads=1
    )
    assert Job.read(sent.text()) == sent


@pytest.mark.slow
def test_every_side_gives_its_figures(tmp_path: Path) -> None:
    result = measure("levit_128s", job(tmp_path), list(SIDES), Settings(threads=1, rounds=1))
    append_result(tmp_path / "results.jsonl", result)
    (read,) = read_results(tmp_path / "results.jsonl")
    assert [side.name for side in read.sides] == list(SIDES)
    for side in read.sides:
        assert set(side.figures) >= set(UNITS) - {"data wait"}
    assert read.sides[1].figures["training"].ratio is not None


@pytest.mark.slow
def test_a_side_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"timm \+ PyTorch: FileNotFoundError"):
        run("timm + PyTorch", replace(job(tmp_path), folder=tmp_path / "nowhere"))
