"""Checkpoints are whole or absent, and optimizer state comes back in the layout of its parameter."""

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from hybridvit.transfer.checkpoint import (
    CheckpointError,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
    write_text,
)


def test_round_trip(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "b": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)}
    save_checkpoint(tmp_path / "new" / "last.safetensors", tensors, {"epoch": 3, "loss": 0.1 + 0.2})
    loaded, state = load_checkpoint(tmp_path / "new" / "last.safetensors")
    assert state == {"epoch": 3, "loss": 0.1 + 0.2}
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["last.safetensors"]


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, {"a": torch.zeros(2)}, {"epoch": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left on device; what was written before is unharmed"):
        save_checkpoint(path, {"a": torch.ones(2)}, {"epoch": 2})
    assert load_checkpoint(path)[1] == {"epoch": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_text_is_written_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "log.csv", "a,b\n")
    assert (tmp_path / "log.csv").read_text() == "a,b\n"
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write"):
        write_text(tmp_path / "file" / "log.csv", "a")


def test_optimizer_state_keeps_the_layout_of_its_parameter() -> None:
    def trained(steps: int, optimizer: torch.optim.AdamW, layer: nn.Conv2d) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            layer(torch.ones(1, 3, 5, 5)).square().sum().backward()
            optimizer.step()

    def made() -> tuple[nn.Conv2d, torch.optim.AdamW]:
        torch.manual_seed(0)
        layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)

    layer, optimizer = made()
    trained(2, optimizer, layer)
    weights = {name: value.clone() for name, value in layer.state_dict().items()}
    # What a file holds is contiguous.
    state = {
        name: value.clone(memory_format=torch.contiguous_format) for name, value in optimizer_tensors(optimizer).items()
    }
    trained(2, optimizer, layer)

    other, other_optimizer = made()
    other.load_state_dict(weights)
    load_optimizer_tensors(other_optimizer, state)
    trained(2, other_optimizer, other)
    assert torch.equal(other.weight, layer.weight)
    assert torch.equal(other.bias, layer.bias)  # pyright: ignore[reportArgumentType]
