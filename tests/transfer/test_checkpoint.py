"""Checkpoints are whole or absent."""

import errno
import os
from pathlib import Path

import pytest
import torch

from hybridvit.transfer.checkpoint import (
    CheckpointError,
    load_checkpoint,
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
