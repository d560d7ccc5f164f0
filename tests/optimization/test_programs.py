"""Programs that are loaded again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hybridvit.optimization.programs import load_package, save_package
from tests.hub.conftest import run_python


class Doubled(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 2 * images


@pytest.mark.slow
def test_a_package_is_loaded_without_the_compiler(tmp_path: Path) -> None:
    package, images = tmp_path / "doubled.pt2", torch.arange(6.0).reshape(2, 3)
    save_package(Doubled(), images, package)
    assert torch.equal(load_package(package)(images), 2 * images)
    run_python(
        "-c",
        "import sys, torch\n"
        "from hybridvit.optimization.programs import load_package\n"
        f"given = load_package({str(package)!r})(torch.ones(2, 3))\n"
        "assert given.tolist() == [[2.0] * 3] * 2\n"
        "assert 'torch._inductor' not in sys.modules\n",
    )


def test_another_loader_of_pytorch_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def older(path: str, model_name: str) -> None:
        raise AssertionError("called with two arguments")

    monkeypatch.setattr(torch._C._aoti, "AOTIModelPackageLoader", older)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr("torch._inductor.aoti_load_package", lambda path: path)
    assert load_package(tmp_path) == str(tmp_path)
