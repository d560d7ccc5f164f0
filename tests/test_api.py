"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import hybridvit


def run(code: str) -> None:
    """Runs code in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_and_listing_load_no_torch() -> None:
    run(
        "import sys, hybridvit as hv\n"
        "assert hv.list_models() and hv.list_models('vit*', pretrained=True, family='vit')\n"
        "assert not {'torch', 'torchvision', 'timm', 'huggingface_hub'} & set(sys.modules)"
    )


def test_creating_and_saving_load_neither_torchvision_nor_timm(tmp_path: Path) -> None:
    run(
        "import sys, hybridvit as hv\n"
        f"hv.save_pretrained(hv.create_model('cct_2_3x2_32'), {str(tmp_path)!r})\n"
        f"hv.create_model({f'local-dir:{tmp_path}'!r})\n"
        "assert not {'torchvision', 'timm', 'transformers'} & set(sys.modules)"
    )


@pytest.mark.parametrize("name", hybridvit.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(hybridvit, name)
    assert name in dir(hybridvit)
    assert isinstance(value, str) or value.__doc__
    # A part of that name, once imported, would take the name's place.
    assert not {name, f"{name}.py"} & {path.name for path in Path(hybridvit.__file__).parent.iterdir()}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'create_modle'"):
        _ = hybridvit.create_modle  # pyright: ignore[reportAttributeAccessIssue]
