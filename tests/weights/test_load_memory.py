"""What a load costs: a file is read once and mapped, and its tensors are the model's, but for converted ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import hybridvit as hv
from hybridvit.weights import store
from tests.hub.conftest import run_python
from tests.weights.examples import TINY, described, tiny

VIT, COATNET = "vit_tiny_patch16_224", "coatnet_pico_rw_224"


class Allocated(TorchDispatchMode):
    """Counts the bytes of new tensors with memory."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        held = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if has_memory(leaf)}
        made = func(*args, **(kwargs or {}))
        for leaf in filter(has_memory, tree_leaves(made)):
            if leaf.untyped_storage().data_ptr() not in held:
                self.total += leaf.untyped_storage().nbytes()
        return made


def has_memory(value: object) -> bool:
    return isinstance(value, Tensor) and not value.is_meta


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The state dicts that are read from files."""
    found: list[dict[str, Tensor]] = []
    load_file: Callable[[Path], dict[str, Tensor]] = store.load_file

    def reading(path: Path) -> dict[str, Tensor]:
        found.append(load_file(path))
        return found[-1]

    monkeypatch.setattr(store, "load_file", reading)
    return found


@pytest.mark.parametrize(
    ("name", "layout", "copied"),
    [(VIT, "timm", (".prefix.",)), (VIT, "hybridvit", ()), (TINY, "hybridvit", ()), (COATNET, "timm", (".qkv.",))],
)
def test_tensors_are_those_of_the_file(
    name: str, layout: str, copied: tuple[str, ...], tmp_path: Path, reads: list[dict[str, Tensor]]
) -> None:
    saved = hv.save_pretrained(described(name, num_classes=5), tmp_path, layout=layout)
    with Allocated() as allocated:
        model = hv.create_model(f"local-dir:{saved}")
    (read,) = reads
    mapped = {tensor.data_ptr() for tensor in read.values()}
    state = model.state_dict()
    others = {key for key, tensor in state.items() if tensor.data_ptr() not in mapped}
    assert others == {key for key in state if any(part in key for part in copied)}
    of_others = sum(state[key].nbytes for key in others)
    of_file = sum(tensor.nbytes for tensor in read.values())  # new tensors, whose memory is the file's
    assert of_others <= allocated.total - of_file < of_others + 1e4 + 0.01 * of_file


def test_a_copy_would_be_counted() -> None:
    with Allocated() as allocated:
        torch.ones(1000).clone()
        torch.ones(1000, device="meta").clone()
    assert allocated.total == 2 * 4000


def test_a_load_imports_no_other_layouts(tmp_path: Path) -> None:
    hv.save_pretrained(tiny(), tmp_path)
    run_python(
        "-c",
        f"import sys; from hybridvit import create_model; create_model('local-dir:{tmp_path}')\n"
        "layouts = {'hybridvit.weights.transformers_format', 'hybridvit.weights.torchvision_format'}\n"
        "assert not {'timm', 'torchvision', 'transformers', 'huggingface_hub', *layouts} & sys.modules.keys()",
    )
