"""Lock files: what they hold, and that a load under one takes exactly that."""

from __future__ import annotations

import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file

import hybridvit as hv
from hybridvit.hub import LoopbackHub
from hybridvit.resolved import sha256_of
from hybridvit.weights import load as loading
from hybridvit.weights.entries import entries
from hybridvit.weights.lock import check_lock
from hybridvit.weights.lock_file import Lock, LockError, read_lock
from hybridvit.weights.sources import LocalFiles, WeightsNotFoundError
from hybridvit.weights.store import finish_pending
from tests.parity import images
from tests.weights.examples import TINY, client, described, logits, tiny

REPO, SHIPPED = "me/model", f"{TINY}.fmnist"
HUB_NAME = f"hf-hub:{REPO}"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "weights.lock"


@pytest.fixture
def saved(tmp_path: Path) -> str:
    return f"local-dir:{hv.save_pretrained(tiny(), tmp_path / 'saved')}"


def push(hub: LoopbackHub, seed: int = 0) -> None:
    hv.push_to_hub(tiny(seed), REPO, endpoint=hub.endpoint, token=hub.token)


def test_a_lock_file_says_everything(
    lock: Path, saved: str, loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path
) -> None:
    push(loopback_hub)
    hub, file = client(loopback_hub, tmp_path / "cache"), tmp_path / "mine.safetensors"
    save_file(described(TINY, num_classes=3).state_dict(), file)
    names = [HUB_NAME, saved.removeprefix("local-dir:"), SHIPPED, str(file)]
    hv.lock(names, lock, **hub)
    data = json.loads(lock.read_text())
    assert list(data) == ["format_version", "weights"]
    assert list(data["weights"]) == sorted([HUB_NAME, saved, SHIPPED, str(file)])
    directory = Path(saved.removeprefix("local-dir:"))
    assert data["weights"][saved] == {
        "source": saved,
        "commit": None,
        "files": {
            name: {"sha256": sha256_of(directory / name), "size": (directory / name).stat().st_size}
            for name in ("config.json", "model.safetensors")
        },
    }
    assert data["weights"][HUB_NAME]["files"] == data["weights"][saved]["files"]
    assert data["weights"][HUB_NAME]["commit"] == api.model_info(REPO).sha
    assert data["weights"][SHIPPED]["source"] == entries()[SHIPPED].source
    for name in (HUB_NAME, saved, SHIPPED, TINY, str(file)):
        assert hv.create_model(name, pretrained=True, lock=lock, **hub).resolved
    assert hv.create_model(TINY, file=file, lock=lock).spec.num_classes == 3
    assert set(check_lock(lock, cache_dir=tmp_path / "cache").values()) == {None}
    assert loopback_hub.token not in lock.read_text()


def test_a_locked_name_stays_at_its_commit(lock: Path, loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    push(loopback_hub)
    hub = client(loopback_hub, tmp_path / "cache")
    hv.lock(HUB_NAME, lock, **hub)
    before = lock.read_bytes()
    push(loopback_hub, seed=1)
    batch = images(24, 32)
    for cache in ("cache", "another"):
        locked = hv.create_model(HUB_NAME, lock=lock, **client(loopback_hub, tmp_path / cache))
        assert torch.equal(logits(locked, batch), logits(tiny(), batch))
    assert torch.equal(logits(hv.create_model(HUB_NAME, **hub), batch), logits(tiny(1), batch))
    new = hv.create_model(HUB_NAME, **hub).resolved
    assert new is not None
    with pytest.raises(LockError, match=f"{HUB_NAME} is locked to commit .* in {lock}, and you ask for {new.commit}"):
        hv.create_model(HUB_NAME, revision=new.commit, lock=lock, **hub)
    of_branch = hv.create_model(HUB_NAME, revision="main", lock=lock, **hub)
    assert torch.equal(logits(of_branch, batch), logits(tiny(), batch)), "the branch is a name of what was locked"
    hv.lock(HUB_NAME, lock, **hub)
    assert lock.read_bytes() != before
    assert torch.equal(logits(hv.create_model(HUB_NAME, lock=lock, **hub), batch), logits(tiny(1), batch))


def test_a_commit_that_the_hub_has_not(lock: Path, loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    push(loopback_hub)
    hv.lock(HUB_NAME, lock, **client(loopback_hub, tmp_path / "cache"))
    edit(lock, lambda weights: weights[HUB_NAME].update(commit="0" * 40))
    with pytest.raises(WeightsNotFoundError, match=f"{REPO} has no revision '{'0' * 40}'"):
        hv.create_model(HUB_NAME, lock=lock, **client(loopback_hub, tmp_path / "cache"))


def test_names_are_added_and_the_others_stay(lock: Path, saved: str) -> None:
    hv.lock(saved, lock)
    first = json.loads(lock.read_text())["weights"]
    hv.lock([SHIPPED], lock)
    both = json.loads(lock.read_text())["weights"]
    assert both[saved] == first[saved]
    text = lock.read_text()
    hv.lock([SHIPPED, saved], lock)
    assert lock.read_text() == text
    assert sorted(path.name for path in lock.parent.iterdir()) == ["saved", "weights.lock"]


def test_a_name_that_is_not_in_the_lock(lock: Path, saved: str) -> None:
    hv.lock(saved, lock)
    with pytest.raises(LockError) as caught:
        hv.create_model(SHIPPED, pretrained=True, lock=lock)
    assert str(caught.value) == f"{SHIPPED} is not in {lock}. To add it: hybridvit lock {SHIPPED} --file {lock}"
    with pytest.raises(FileNotFoundError, match=r"no lock file .*none; write one with: hybridvit lock NAME --file"):
        hv.create_model(saved, lock=lock.with_name("none"))
    with pytest.raises(ValueError, match=f"lock= goes with weights, and '{TINY}' is made from scratch"):
        hv.create_model(TINY, lock=lock)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("longer", [False, True])
def test_other_bytes_are_refused(name: str, longer: bool, lock: Path, saved: str) -> None:
    hv.lock(saved, lock)
    path = Path(saved.removeprefix("local-dir:")) / name
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content + b" " * longer)
    differs = r"bytes, locked [\d,]+" if longer else "sha256 [0-9a-f]{64}"
    with pytest.raises(LockError, match=f"{name} of {saved} is not the file in {lock}: .*{differs}, locked sha256"):
        hv.create_model(saved, lock=lock)
    (wrong,) = check_lock(lock).values()
    assert wrong is not None
    assert wrong.startswith(f"{name} of {saved} is not the file in {lock}")


def test_files_that_came_or_went_are_refused(lock: Path, saved: str) -> None:
    hv.lock(saved, lock)
    path = Path(saved.removeprefix("local-dir:")) / "config.json"
    (content, _) = path.read_bytes(), path.unlink()
    with pytest.raises(LockError, match=rf"config\.json of {saved} is locked in {lock}, and is not there; to accept"):
        hv.create_model(saved, lock=lock)
    path.write_bytes(content)
    edit(lock, lambda weights: weights[saved]["files"].pop("config.json"))
    with pytest.raises(LockError, match=rf"config\.json of {saved} is not in {lock}; to accept that: hybridvit lock"):
        hv.create_model(saved, lock=lock)


def test_damage_in_the_cache_is_found_and_removed(lock: Path, loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    """A flipped bit of a weight is no error to any reader."""
    push(loopback_hub)
    hub = client(loopback_hub, tmp_path / "cache")
    hv.lock(HUB_NAME, lock, **hub)
    (weights,) = (tmp_path / "cache").rglob("model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.resolve().write_bytes(content)
    (wrong,) = check_lock(lock, cache_dir=tmp_path / "cache").values()
    assert wrong is not None
    assert "is not the file in" in wrong
    with pytest.raises(ValueError, match="It is removed from the cache; try again"):
        hv.create_model(HUB_NAME, lock=lock, **hub)
    assert check_lock(lock, cache_dir=tmp_path / "cache") == {HUB_NAME: ""}
    assert hv.create_model(HUB_NAME, lock=lock, **hub).resolved


def test_a_source_that_is_another_by_now(lock: Path) -> None:
    hv.lock(SHIPPED, lock)
    edit(lock, lambda weights: weights[SHIPPED].update(source="zoo:weights/other.safetensors"))
    with pytest.raises(LockError, match=f"{SHIPPED} is locked to zoo:weights/other.* and is zoo:.* now; to accept"):
        hv.create_model(SHIPPED, pretrained=True, lock=lock)


def edit(lock: Path, change: Any) -> None:
    data = json.loads(lock.read_text())
    change(data["weights"])
    lock.write_text(json.dumps(data))


DIGEST, GOOD = "a" * 64, {"source": "zoo:x", "commit": None, "files": {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("[" * 10_000, "is not JSON"),
        ("[]", "it is no table"),
        ('{"format_version": 1}', "it has format_version, expected format_version, weights"),
        ('{"format_version": 1, "format_version": 1, "weights": {}}', "a name is there twice"),
        ('{"format_version": 2, "weights": {}}', "it has format version 2, read is 1"),
        ('{"format_version": 1, "weights": []}', "'weights' is no table"),
        ({"a": 1}, "a is no table"),
        ({"a": GOOD | {"extra": 1}}, "a has commit, extra, files, source, expected source, commit, files"),
        ({"a": GOOD | {"source": 1}}, "the source of a is no text"),
        ({"a": GOOD | {"commit": "main"}}, "the commit of a is 'main', expected 40 hexadecimal digits or null"),
        ({"a": GOOD | {"source": "hf:a/b"}}, "a is from hf:a/b and has commit None"),
        ({"a": GOOD | {"files": {"f": {"size": 1}}}}, "f of a has size, expected sha256, size"),
        ({"a": GOOD | {"files": {"f": {"size": 1, "sha256": "A"}}}}, "the sha256 of f of a is 'A'"),
        ({"a": GOOD | {"files": {"f": {"size": True, "sha256": DIGEST}}}}, "the size of f of a is True"),
    ],
)
def test_what_is_no_lock_file(content: str | dict[str, Any], message: str, lock: Path) -> None:
    text = content if isinstance(content, str) else json.dumps({"format_version": 1, "weights": content})
    lock.write_text(text)
    with pytest.raises(LockError, match="is no lock file") as caught:
        read_lock(lock)
    assert message in str(caught.value)
    with pytest.raises(LockError):
        hv.lock(SHIPPED, lock)
    assert lock.read_text() == text


def test_a_failure_leaves_the_lock_file(lock: Path, saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hv.lock(saved, lock)
    before = lock.read_bytes()
    with pytest.raises(WeightsNotFoundError):
        hv.lock([SHIPPED, "local-dir:nowhere"], lock)

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        hv.lock(SHIPPED, lock)
    assert lock.read_bytes() == before
    assert sorted(path.name for path in lock.parent.iterdir()) == ["saved", "weights.lock"]


def test_names_are_quoted_in_the_command_that_adds_them() -> None:
    assert Lock(Path("my lock"), {}).add_command("a b; c") == "hybridvit lock 'a b; c' --file 'my lock'"


def test_names_that_are_locked_at_once_are_all_there(lock: Path, tmp_path: Path) -> None:
    names = [f"local-dir:{hv.save_pretrained(tiny(), tmp_path / f'model{index}')}" for index in range(6)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda name: hv.lock(name, lock), names))
    assert list(read_lock(lock).weights) == names
    assert [path.name for path in lock.parent.iterdir() if "lock" in path.name] == ["weights.lock"]


def test_a_name_that_is_locked_by_another_process_meanwhile(
    lock: Path, saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybridvit.weights import lock as module

    load = module.load_recorded

    def loading(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        hv.lock(SHIPPED, lock)
        return load(*arguments, **options)

    monkeypatch.setattr(module, "load_recorded", loading)
    hv.lock(saved, lock)
    assert set(read_lock(lock).weights) == {saved, SHIPPED}


@pytest.mark.parametrize("moved", [False, True], ids=["saved into", "moved"])
def test_what_is_locked_while_it_is_saved_into_is_one_model(
    moved: bool, lock: Path, saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a save after the load, before its files are hashed; or by what finishes a save that was killed."""
    directory, create, seeds = tmp_path / "saved", loading.create_model, iter(range(1, 2))
    if moved:
        hv.save_pretrained(tiny(seed=1), directory / ".pending")

    def creating(*arguments: Any, **options: Any) -> Any:
        model = create(*arguments, **options)
        seed = next(seeds, None)
        if seed is not None and not moved:
            hv.save_pretrained(tiny(seed), directory)
        finish_pending(directory)
        return model

    monkeypatch.setattr(loading, "create_model", creating)
    (locked,) = hv.lock(saved, lock).values()
    assert locked.files["model.safetensors"].sha256 == sha256_of(directory / "model.safetensors")
    assert torch.equal(logits(create(saved, lock=lock), images(24, 32)), logits(tiny(seed=1), images(24, 32)))
    moved, seeds = False, itertools.count(2)
    with pytest.raises(ValueError, match=r"has changed since it was loaded; load it again"):
        hv.lock(saved, lock)


def test_the_directory_of_a_lock_file_is_made(saved: str, tmp_path: Path) -> None:
    hv.lock(saved, tmp_path / "new" / "dir" / "w.lock")
    assert [path.name for path in (tmp_path / "new" / "dir").iterdir()] == ["w.lock"]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"{tmp_path}/file"):
        hv.lock("local-dir:nowhere", tmp_path / "file" / "w.lock")


def test_a_read_only_directory_is_refused_first(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=f"{lock} cannot be written: {lock.parent} is read-only; name another"):
        hv.lock("local-dir:nowhere", lock)


def test_a_link_to_a_lock_file_stays_one(lock: Path, saved: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "real.lock"
    lock.symlink_to(target)
    for names in ({saved}, {saved, SHIPPED}):
        hv.lock(sorted(names), lock)
        assert lock.is_symlink()
        assert set(read_lock(target).weights) == names
    assert [path.name for path in target.parent.iterdir()] == ["real.lock"]


def test_a_path_has_one_name(saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(described(TINY, num_classes=3).state_dict(), "g.safetensors")
    hv.lock("./g.safetensors", "a.lock")
    hv.lock("saved/", "a.lock")
    assert set(read_lock("a.lock").weights) == {"g.safetensors", "local-dir:saved"}
    for name in ("g.safetensors", "./g.safetensors", "saved/../g.safetensors", "local-dir:saved", "local-dir:./saved/"):
        assert hv.create_model(name, lock="a.lock").resolved
    assert hv.create_model(TINY, file=Path("g.safetensors"), lock="a.lock").resolved
    assert set(check_lock("a.lock").values()) == {None}


def test_a_file_without_a_weight_suffix_is_checked(lock: Path, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    torch.save(described(TINY, num_classes=3).state_dict(), file)
    hv.lock(file, lock, model=TINY, allow_pickle=True)
    assert check_lock(lock) == {str(file): None}
    file.write_bytes(b"other")
    (wrong,) = check_lock(lock).values()
    assert f"checkpoint of {file} is not the file in {lock}" in (wrong or "")


def test_files_that_came_are_found_by_a_check(lock: Path, saved: str, tmp_path: Path) -> None:
    directory = tmp_path / "bare"
    directory.mkdir()
    save_file(described(TINY).state_dict(), directory / "model.safetensors")
    name = f"local-dir:{directory}"
    hv.lock([name, saved], lock)
    for each in ("notes.txt", "pytorch_model.bin", "model.safetensors.index.json", "preprocessor_config.json"):
        (directory / each).write_text("{}")
        assert check_lock(lock) == {name: None, saved: None}, "a load does not look at it"
    (directory / "config.json").write_text("{}")
    (wrong, right) = (check_lock(lock)[each] for each in (name, saved))
    assert right is None
    assert wrong == f"config.json of {name} is not in {lock}; to accept that: {Lock(lock, {}).add_command(name)}"
    with pytest.raises(LockError) as caught:
        hv.create_model(name, lock=lock)
    assert str(caught.value) == wrong


def test_a_check_while_the_same_model_is_saved(
    lock: Path, saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hv.lock(saved, lock)
    directory, get, saves = tmp_path / "saved", LocalFiles.get, iter([1])
    hv.save_pretrained(tiny(), directory / ".pending")

    def getting(files: LocalFiles, name: str) -> Path | None:
        path = get(files, name)
        if name == "model.safetensors" and next(saves, None):
            finish_pending(directory)
        return path

    monkeypatch.setattr(LocalFiles, "get", getting)
    assert check_lock(lock) == {saved: None}


def test_weights_that_came_before_those_that_are_locked(lock: Path, tmp_path: Path) -> None:
    directory = tmp_path / "old"
    directory.mkdir()
    torch.save(described(TINY).state_dict(), directory / "pytorch_model.bin")
    hv.lock(directory, lock, allow_pickle=True)
    assert set(check_lock(lock).values()) == {None}
    save_file(described(TINY).state_dict(), directory / "model.safetensors")
    (wrong,) = check_lock(lock).values()
    assert f"model.safetensors of local-dir:{directory} is not in {lock}" in (wrong or "")


def test_a_lock_file_that_another_process_does_not_let_go(
    lock: Path, saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.utils import WeakFileLock

    monkeypatch.setattr("hybridvit.limits.PATIENCE", 0.2)
    held = lock.with_name(".weights.lock.held")
    message = f"another process has been writing {lock} for 0.2 seconds; try again, and if there is none, remove {held}"
    with WeakFileLock(held), pytest.raises(TimeoutError, match=message):
        hv.lock(saved, lock)
    hv.lock(saved, lock)
