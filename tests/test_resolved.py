"""The record of what was loaded: hashes that are read when they are asked for, and only of what was loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from hybridvit import resolved
from hybridvit.resolved import Resolved, ResolvedFile


def test_a_small_file_is_hashed_at_once_and_a_large_one_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, content = tmp_path / "weights", bytes(1000)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert ResolvedFile.of("weights", path).known_sha256 == digest
    monkeypatch.setattr(resolved, "SMALL", 10)
    large = ResolvedFile.of("weights", path)
    assert (large.known_sha256, large.size) == (None, 1000)
    assert large.described(hashed=False) == "weights, 1,000 bytes"
    assert large.described(hashed=True) == f"weights, 1,000 bytes, sha256 {digest}"
    monkeypatch.setattr(resolved, "sha256_of", lambda path: pytest.fail("read although the hash is known"))
    assert large.sha256 == ResolvedFile.of("weights", path, digest).sha256 == digest


def test_a_file_that_is_another_by_now_is_not_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolved, "SMALL", 1)
    path = tmp_path / "weights"
    path.write_bytes(b"old")
    loaded = ResolvedFile.of("weights", path)
    path.write_bytes(b"newer")
    with pytest.raises(ValueError, match=r"weights has changed since it was loaded; load it again"):
        _ = loaded.sha256


def test_a_record_says_everything_in_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    record = Resolved(
        name="hf-hub:me/a",
        source="hf:me/a",
        commit="c" * 40,
        files=(ResolvedFile.of("a", tmp_path / "a"),),
        layout="timm",
    )
    record = record.changed("one").changed("two")
    digest = hashlib.sha256(b"a").hexdigest()
    lines = [f"source: hf:me/a at commit {'c' * 40}", f"file: a, 1 bytes, sha256 {digest}", "layout: timm"]
    assert record.lines() == [*lines, "changed: one", "changed: two"]
    assert str(record) == "hf-hub:me/a: " + "; ".join(record.lines())
    assert json.loads(json.dumps(record.to_dict()))["files"] == {"a": {"sha256": digest, "size": 1}}
