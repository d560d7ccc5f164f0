"""`serve`: a page on this machine where images are dropped and labels come out. Nothing leaves the machine."""

from __future__ import annotations

import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .classifiers import load_classifier
from .device import torch_device
from .errors import DataError
from .explain import looked_at
from .images import BadImage, load_image
from .predict import predict
from .transforms import preprocess_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from ..encoder import Encoder

HOST = "127.0.0.1"
_KEPT_SECONDS = 60  # for which an image that was dropped stays in the temporary directory
_SIDE = 448  # pixels of the picture that shows where the model looked


def serve(
    model: str | Path | Encoder,
    *,
    port: int | None = None,
    topk: int = 5,
    device: str | None = None,
    started: Callable[[str], None] = print,
) -> None:
    """Serve a model on the loopback address until Ctrl-C.

    Args:
        model: a model, a saved directory, or a name with pretrained weights.
        port: where to listen; by default the first free one from 7860 on.
        topk: labels an image.
        device: where to run; by default the best there is.
        started: called with the address, once it answers.

    Raises:
        DataError: for a model without a classifier, or of other than grey or colour images.
        ModuleNotFoundError: without the packages of the extra `serve`.
    """
    loaded = load_classifier(model)
    channels = preprocess_of(loaded).channels
    if channels not in (1, 3):
        raise DataError(
            f"the model takes images of {channels} bands, and pictures dropped on a page have colours; use predict"
        )
    loaded.to(torch_device(device)).eval()
    with tempfile.TemporaryDirectory(prefix="hybridvit-serve-") as uploads:
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=uploads)
        page, looks = _page(loaded, topk)
        where = {"server_name": HOST, "server_port": port, "share": False, "ssr_mode": False}
        _, address, _ = page.launch(**where, **looks, quiet=True, prevent_thread_lock=True, show_error=True)
        started(address)
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)


def answer(model: Encoder, path: str | Path, topk: int) -> tuple[dict[str, float], Image.Image]:
    """Labels with their probabilities, and the picture of where the model saw the most likely one.

    Raises BadImage.
    """
    preprocess = preprocess_of(model)
    image = load_image(path, preprocess.channels, covers=max(preprocess.resize_to))
    labels = {each.label: each.probability for each in predict(model, image, topk)[0]}
    _, looked = looked_at(model, image)
    scale = _SIDE / max(looked.size)
    return labels, looked.resize((round(looked.width * scale), round(looked.height * scale)))


def _page(model: Encoder, topk: int) -> tuple[Any, dict[str, Any]]:
    """The page, and how it is launched to look."""
    gradio: Any = import_module("gradio")
    name = (model.origin or {}).get("architecture") or "A model"

    def answered(path: str | None) -> tuple[dict[str, float] | None, Image.Image | None]:
        if path is None:
            return None, None
        try:
            return answer(model, path, topk)
        except BadImage as error:
            raise gradio.Error(error.reason) from None

    kept = (_KEPT_SECONDS, _KEPT_SECONDS)
    with gradio.Blocks(title=f"{name} - hybridvit", analytics_enabled=False, delete_cache=kept) as page:
        gradio.Markdown("Drop an image: its labels, and where the model saw the most likely one.")
        with gradio.Row():
            dropped = gradio.Image(
                type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Image", buttons=[]
            )
            labels = gradio.Label(num_top_classes=topk, label="Labels")
            looked = gradio.Image(label="Where it looked", interactive=False, buttons=[])
        dropped.change(answered, dropped, [labels, looked], concurrency_limit=1, api_visibility="private")
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # none from elsewhere
    return page, {"theme": gradio.themes.Default(**fonts), "footer_links": []}
