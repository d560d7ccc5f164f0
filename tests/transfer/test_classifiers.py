"""What answers images needs a classifier."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.registry import model_spec
from hybridvit.transfer.errors import DataError
from hybridvit.transfer.predict import predict_files
from hybridvit.transfer.serve import serve

USES: dict[str, Callable[[Encoder, Path], object]] = {
    "predict": lambda model, path: hv.predict(model, path),
    "predict_files": lambda model, path: list(predict_files(model, [path])),
    "export": lambda model, path: hv.export(model, path, format="torch"),
    "serve": lambda model, path: serve(model),
}


@pytest.mark.parametrize("use", USES)
def test_a_model_without_a_classifier_is_refused(use: str, tmp_path: Path) -> None:
    model = model_spec("cct_2_3x2_32").replace(img_size=(16, 16), num_classes=0).build()
    with pytest.raises(DataError, match="the model has no classifier; create it with num_classes"):
        USES[use](model, tmp_path)
    assert not list(tmp_path.iterdir())
