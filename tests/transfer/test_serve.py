"""The page that serves a model, used as people use it: in a browser."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.registry import model_spec
from hybridvit.transfer.errors import DataError
from hybridvit.transfer.images import BadImage
from hybridvit.transfer.serve import answer, serve
from tests.browser import page_in_browser
from tests.transfer.samples import tiny

PROJECT = Path(__file__).resolve().parents[2]


def brightness_model() -> Encoder:
    """Says "bright eel" of what is bright and "dark cat" of what is dark, and sees it where it is."""
    model = tiny().eval()
    model.labels = ("dark cat", "bright eel", "neither")
    batch = torch.stack([torch.full((1, 16, 16), value) for value in (-1.0, 1.0)] * 8)
    batch += 0.1 * torch.randn(batch.shape)
    labels = torch.tensor([0, 1] * 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch), labels).backward()
        optimizer.step()
    return model


@contextmanager
def served(model: Path, temporary: Path) -> Iterator[str]:
    """The address of the page of a saved model."""
    temporary.mkdir()
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "hybridvit.cli", "serve", str(model), "--json", "--topk", "2"]
    with subprocess.Popen(words, cwd=temporary, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["address"]
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=30)
            finally:
                process.kill()  # a process whose parent ignores interrupts does so too, and would be waited for


@pytest.mark.slow
def test_a_dropped_image_gets_its_label(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    saved = hv.save_pretrained(brightness_model(), tmp_path / "saved")
    Image.new("L", (40, 30), 250).save(tmp_path / "bright.png")
    with served(saved, tmp_path / "temporary") as address:
        assert address.startswith("http://127.0.0.1:")
        with page_in_browser() as page:
            page.goto(address)
            page.set_input_files("input[type=file]", tmp_path / "bright.png")
            page.wait_for_selector("text=bright eel", timeout=30_000)
            page.wait_for_function("document.querySelectorAll('img').length >= 2", timeout=30_000)
            assert "neither" in page.inner_text("body"), "the second of two labels"
            assert "dark cat" not in page.inner_text("body")
    time.sleep(0.1)
    assert not [path for path in (tmp_path / "temporary").rglob("*") if path.suffix == ".png"]


def test_an_answer_is_labels_and_a_picture(tmp_path: Path) -> None:
    model = brightness_model()
    Image.new("L", (40, 30), 250).save(tmp_path / "bright.png")
    labels, looked = answer(model, tmp_path / "bright.png", topk=2)
    assert next(iter(labels)) == "bright eel"
    assert len(labels) == 2
    assert looked.mode == "RGB"
    assert max(looked.size) == 448
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(BadImage, match="not an image"):
        answer(model, tmp_path / "broken.png", topk=2)


def test_a_model_without_a_classifier_is_refused() -> None:
    with pytest.raises(DataError, match="no classifier"):
        serve(tiny().spec.replace(num_classes=0).build())


def test_a_model_of_bands_has_no_page() -> None:
    with pytest.raises(DataError, match="takes images of 5 bands, and pictures dropped on a page have colours"):
        serve(model_spec("cct_2_3x2_32").replace(img_size=(16, 16), in_chans=5, num_classes=2).build())
