"""One way in for every kind of name, the record of what was loaded, and what is never excused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file
from torch import Tensor

import hybridvit as hv
from hybridvit import resolved
from hybridvit.adapt import with_num_classes
from hybridvit.encoder import Encoder
from hybridvit.hub import LoopbackHub
from hybridvit.keys import KeyMismatchError
from hybridvit.registry import family_of, model_spec
from hybridvit.resolved import sha256_of
from hybridvit.weights import resolve
from hybridvit.weights.cache import check_cached, promised_digest
from hybridvit.weights.entries import entries
from hybridvit.weights.errors import WeightsError
from hybridvit.weights.layouts import expected_tensors, layouts_of
from hybridvit.weights.sources import WeightsNotFoundError
from tests.parity import images
from tests.weights.examples import LABELS, TINY, client, described, facts, logits, tiny

REPO, SHIPPED = "me/model", f"{TINY}.fmnist"
VIT = "vit_tiny_patch16_224"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return hv.save_pretrained(tiny(), tmp_path / "saved")


@pytest.fixture
def repo(loopback_hub: LoopbackHub) -> str:
    hv.push_to_hub(tiny(), REPO, endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    return REPO


def record(model: Encoder) -> dict[str, Any]:
    assert model.resolved is not None
    return model.resolved.to_dict()


# One way in


def test_a_file_beside_a_config_is_what_the_config_says(saved: Path) -> None:
    loaded = hv.create_model(str(saved / "model.safetensors"))
    assert facts(loaded) == facts(tiny())
    assert torch.equal(logits(loaded, images(24, 32)), logits(tiny(), images(24, 32)))
    assert set(record(loaded)["files"]) == {"config.json", "model.safetensors"}
    (saved / "model.safetensors").rename(saved / "best.safetensors")
    assert hv.create_model(str(saved / "best.safetensors")).labels == LABELS


@pytest.mark.parametrize("config", [None, {"name": "mine"}])
def test_a_file_without_a_config_is_recognised(config: dict[str, str] | None, tmp_path: Path) -> None:
    model = described(TINY, num_classes=7, in_chans=1)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    for name in (str(tmp_path / "model.safetensors"), f"local-dir:{tmp_path}"):
        loaded = hv.create_model(name)
        assert torch.equal(logits(loaded, images(32, 32, 1)), logits(model, images(32, 32, 1)))
        assert loaded.origin is not None
        assert loaded.origin["architecture"] == TINY
        assert loaded.spec == model.spec
        assert hv.create_model(name, num_classes=3, in_chans=3)(images(32, 32)).shape == (3, 3)


def test_a_repository_without_a_config_is_recognised(loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    model = timm.create_model(VIT, num_classes=4).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    api.create_repo(REPO)
    api.upload_file(path_or_fileobj=tmp_path / "model.safetensors", path_in_repo="model.safetensors", repo_id=REPO)
    loaded = hv.create_model(f"hf-hub:{REPO}", **client(loopback_hub, tmp_path / "cache"))
    assert (loaded.spec.num_classes, record(loaded)["layout"]) == (4, "timm")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match=f"no weight file {tmp_path}/gone.safetensors"):
        hv.create_model(str(tmp_path / "gone.safetensors"))
    with pytest.raises(ValueError, match=r"file= goes with the name of an architecture, not with 'a\.safetensors'"):
        hv.create_model("a.safetensors", file="b.safetensors")


def test_a_tag_that_ends_as_a_file_does_is_a_tag() -> None:
    (tag, *_) = [name for name in entries() if name.endswith(resolve.SUFFIXES)]
    assert resolve.weight_path(tag) is None
    assert resolve.weight_path(f"./{tag}") == Path(tag)


def test_a_pickle_by_its_path_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    torch.save(tiny().state_dict(), tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match=r"mine\.pth is a pickle.*allow_pickle=True"):
        hv.create_model(str(tmp_path / "mine.pth"))
    loaded = hv.create_model(str(tmp_path / "mine.pth"), img_size=(24, 32), allow_pickle=True)
    assert loaded.spec == tiny().spec


def test_a_path_works_wherever_a_model_does(saved: Path) -> None:
    for path in (saved / "model.safetensors", str(saved / "model.safetensors")):
        assert len(hv.predict(path, images(24, 32), topk=2)[0]) == 2


ONLINE = """
import sys, hybridvit as hv
work = sys.argv[1]
model = hv.create_model("hf-hub:me/model")
assert model.resolved.files[0].path.is_relative_to(sys.argv[2]), model.resolved
hv.lock("hf-hub:me/model", f"{work}/weights.lock")
hv.convert("hf-hub:me/model", f"{work}/a.safetensors")
hv.pull_from_hub("me/model", f"{work}/pulled")
print(hv.push_to_hub(model, "me/other"))
"""
OFFLINE = """
import sys, hybridvit as hv
work = sys.argv[1]
model = hv.create_model("hf-hub:me/model", lock=f"{work}/weights.lock")
hv.lock("hf-hub:me/model", f"{work}/again.lock")
hv.convert("hf-hub:me/model", f"{work}/b.safetensors", lock=f"{work}/again.lock")
hv.pull_from_hub("me/model", f"{work}/copied")
for refused in (lambda: hv.pull_from_hub("me/none", f"{work}/none"), lambda: hv.push_to_hub(model, "me/other")):
    try:
        refused()
    except FileNotFoundError as error:
        print(error)
"""


def test_the_variables_of_huggingface_hub_hold_everywhere(
    loopback_hub: LoopbackHub, run_client: Callable[..., str], tmp_path: Path
) -> None:
    """HF_ENDPOINT, HF_TOKEN and HF_HOME of a private repository, then HF_HUB_OFFLINE."""
    hv.push_to_hub(tiny(), REPO, private=True, endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    printed = run_client("-c", ONLINE, str(tmp_path), str(tmp_path / "hf"))
    assert f"{loopback_hub.endpoint}/me/other/commit/" in printed
    printed = run_client("-c", OFFLINE, str(tmp_path), HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert "me/none is not in the cache and HF_HUB_OFFLINE is set" in printed
    assert "me/other on http://127.0.0.1:9: " in printed
    assert (tmp_path / "again.lock").read_bytes() == (tmp_path / "weights.lock").read_bytes()
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    for name in ("config.json", "model.safetensors", "README.md"):
        if (tmp_path / "copied" / name).exists() or name != "README.md":  # a load does not read the card
            assert (tmp_path / "copied" / name).read_bytes() == (tmp_path / "pulled" / name).read_bytes()


def test_another_cache_is_used_everywhere(
    repo: str, loopback_hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, name = client(loopback_hub, tmp_path / "cache"), f"hf-hub:{repo}"
    hv.create_model(name, **hub)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("downloaded again"))
    hv.lock(name, tmp_path / "weights.lock", **hub)
    hv.convert(name, tmp_path / "a.safetensors", **hub)
    (weights,) = (tmp_path / "cache").rglob("model.safetensors")
    weights.resolve().write_bytes(b"from the cache")
    with pytest.raises(WeightsError, match="was damaged on its way: its bytes have not the digest"):
        hv.pull_from_hub(repo, tmp_path / "pulled", **hub)


PROGRESS = "import sys, hybridvit as hv; hv.create_model('hf-hub:me/model', cache_dir=sys.argv[1])"


@pytest.mark.slow
def test_downloads_show_their_progress_on_a_terminal(repo: str, loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    import os
    import pty
    import shlex
    import sys

    def shown(cache: str, **environment: str) -> str:
        output = b""

        def read(descriptor: int) -> bytes:
            nonlocal output
            chunk = os.read(descriptor, 1024)
            output += chunk
            return chunk

        added = loopback_hub.environment() | {"HF_HUB_DISABLE_PROGRESS_BARS": "", **environment}
        before = os.environ.copy()
        os.environ.update(added)
        try:
            command = shlex.join([sys.executable, "-c", PROGRESS, str(tmp_path / cache)])
            status = pty.spawn(["sh", "-c", f"stty cols 100 rows 30 && exec {command}"], read)
        finally:
            os.environ.clear()
            os.environ.update(before)
        assert status == 0, output
        return output.decode()

    assert "100%" in shown("a")
    assert "%" not in shown("b", HF_HUB_DISABLE_PROGRESS_BARS="1")


# The record


def test_what_was_loaded_is_on_record(
    repo: str, loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hybridvit")
    loaded = hv.create_model(f"hf-hub:{repo}", num_classes=3, in_chans=1, img_size=64, **client(loopback_hub, tmp_path))
    told = record(loaded)
    files = {name: tmp_path.rglob(name) for name in ("config.json", "model.safetensors")}
    assert told == {
        "name": f"hf-hub:{repo}",
        "source": f"hf:{repo}",
        "commit": api.model_info(repo).sha,
        "files": {name: {"sha256": sha256_of(path), "size": path.stat().st_size} for name, (path,) in files.items()},
        "layout": "hybridvit",
        "changes": [
            "classifier replaced: 5 -> 3 classes",
            "first kernel: 3 -> 1 channels",
            "tables resized: 24x32 -> 64x64 pixels",
        ],
    }
    (line,) = [entry.getMessage() for entry in caplog.records if entry.name == "hybridvit"]
    assert line == str(loaded.resolved)
    assert "\n" not in line
    assert loopback_hub.token not in line
    assert with_num_classes(loaded, 9).resolved.changes[-1] == "classifier replaced: 3 -> 9 classes"  # pyright: ignore[reportOptionalMemberAccess]


def test_weights_of_the_hub_are_not_read_for_their_hash(
    repo: str, loopback_hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = client(loopback_hub, tmp_path)
    hv.create_model(f"hf-hub:{repo}", **hub)
    for path in tmp_path.rglob("model.safetensors"):
        import os

        os.utime(path, (0, 0))  # downloaded long ago
    monkeypatch.setattr(resolved, "SMALL", -1)
    monkeypatch.setattr(resolved, "sha256_of", lambda path: pytest.fail(f"{path} read for its hash"))
    monkeypatch.setattr("hybridvit.weights.cache.sha256_of", lambda path: pytest.fail(f"{path} read for its hash"))
    (config, weights) = hv.create_model(f"hf-hub:{repo}", **hub).resolved.files  # pyright: ignore[reportOptionalMemberAccess]
    assert config.known_sha256 is None
    assert len(weights.sha256) == 64


def test_every_kind_of_name_has_its_source(saved: Path) -> None:
    file = str(saved / "model.safetensors")
    cases: list[tuple[str, dict[str, Any], str]] = [
        (f"local-dir:{saved}", {}, f"local-dir:{saved}"),
        (file, {}, f"file:{file}"),
        (TINY, {"file": file, "img_size": (24, 32)}, f"file:{file}"),
        (SHIPPED, {"file": file, "img_size": (24, 32), "pretrained": True}, f"file:{file}"),
        (TINY, {"pretrained": True}, entries()[SHIPPED].source),
    ]
    for name, arguments, source in cases:
        told = record(hv.create_model(name, **arguments))
        assert (told["source"], told["commit"], told["layout"]) == (source, None, "hybridvit")
        assert told["changes"] == []
    assert hv.create_model(TINY).resolved is None


def test_the_record_stays_on_this_machine(saved: Path, tmp_path: Path) -> None:
    hv.save_pretrained(hv.create_model(f"local-dir:{saved}"), tmp_path / "again")
    for path in (tmp_path / "again").iterdir():
        assert str(saved).encode() not in path.read_bytes()
        assert path.read_bytes() == (saved / path.name).read_bytes()


# Bytes that arrive damaged


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_arrives_damaged_is_removed_and_downloaded_again(
    name: str, repo: str, loopback_hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    download = huggingface_hub.hf_hub_download

    def damaged(repository: str, filename: str, **settings: Any) -> str:
        path = download(repository, filename, **settings)
        if filename == name:
            blob = Path(path).resolve()
            blob.write_bytes(flipped(blob.read_bytes()))
        return path

    hub = client(loopback_hub, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(huggingface_hub, "hf_hub_download", damaged)
        with pytest.raises(
            WeightsError, match=rf"{name} of {repo} was damaged on its way.*It is removed from the cache"
        ):
            hv.create_model(f"hf-hub:{repo}", **hub)
    assert not list(tmp_path.rglob(name))
    assert torch.equal(logits(hv.create_model(f"hf-hub:{repo}", **hub), images(24, 32)), logits(tiny(), images(24, 32)))


def test_a_damaged_file_in_the_cache_that_cannot_be_read_is_removed(
    repo: str, loopback_hub: LoopbackHub, tmp_path: Path
) -> None:
    hub = client(loopback_hub, tmp_path)
    hv.create_model(f"hf-hub:{repo}", **hub)
    (weights,) = tmp_path.rglob("model.safetensors")
    weights.resolve().write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="It is removed from the cache; try again"):
        hv.create_model(f"hf-hub:{repo}", **hub)
    assert hv.create_model(f"hf-hub:{repo}", **hub).labels == LABELS


def test_files_of_mirrors_and_elsewhere_are_left_alone(tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "blobs").mkdir()
    content = b"text"
    for digest in (
        hashlib.sha1(b"blob 4\0text").hexdigest(),
        hashlib.sha1(content).hexdigest(),
        hashlib.sha256(content).hexdigest(),
        "5f-3a",
    ):
        path = tmp_path / "blobs" / digest
        path.write_bytes(content)
        check_cached(path, "here")
        assert path.exists()
        assert promised_digest(path) == (None if digest == "5f-3a" else digest)
    plain = tmp_path / ("0" * 64)
    plain.write_bytes(content)
    check_cached(plain, "here")
    assert plain.exists()


# A key of the backbone is never excused


def a_directory(tmp_path: Path, hub: LoopbackHub, api: HfApi, tensors: dict[str, Tensor]) -> str:
    save_file(tensors, hv.save_pretrained(described(TINY, num_classes=5), tmp_path / "model") / "model.safetensors")
    return f"local-dir:{tmp_path / 'model'}"


def a_repository(tmp_path: Path, hub: LoopbackHub, api: HfApi, tensors: dict[str, Tensor]) -> str:
    a_directory(tmp_path, hub, api, tensors)
    api.create_repo(REPO)
    api.upload_folder(repo_id=REPO, folder_path=tmp_path / "model")
    return f"hf-hub:{REPO}"


def a_file(tmp_path: Path, hub: LoopbackHub, api: HfApi, tensors: dict[str, Tensor]) -> str:
    save_file(tensors, tmp_path / "a.safetensors")
    return str(tmp_path / "a.safetensors")


def a_named_file(tmp_path: Path, hub: LoopbackHub, api: HfApi, tensors: dict[str, Tensor]) -> tuple[str, str]:
    return TINY, a_file(tmp_path, hub, api, tensors)


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("place", [a_directory, a_repository, a_file, a_named_file])
def test_missing_and_surplus_keys_of_the_backbone(
    place: Callable[..., str | tuple[str, str]],
    num_classes: int | None,
    loopback_hub: LoopbackHub,
    api: HfApi,
    tmp_path: Path,
) -> None:
    tensors = {key: tensor.contiguous() for key, tensor in described(TINY, num_classes=5).state_dict().items()}
    del tensors["pool.norm.bias"], tensors["stages.0.blocks.1.branches.0.norm.bias"]
    name = place(tmp_path, loopback_hub, api, tensors | {"stages.0.gate": torch.ones(1)})
    name, file = (name, None) if isinstance(name, str) else name
    hub = client(loopback_hub, tmp_path / "cache")
    with pytest.raises(ValueError, match=r"pool\.norm\.bias") as caught:
        hv.create_model(name, num_classes=num_classes, file=file, **hub)
    for part in ("stages.0.blocks.1.branches.0.norm.bias", "stages.0.gate"):
        assert part in str(caught.value)


def test_missing_and_surplus_keys_of_a_timm_repository(loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    tensors = timm.create_model(VIT, num_classes=4).state_dict()
    del tensors["norm.bias"]
    save_file(tensors | {"gate": torch.ones(1)}, tmp_path / "model" / "model.safetensors")
    (tmp_path / "model" / "config.json").write_text(json.dumps({"architecture": VIT, "num_classes": 4}))
    api.create_repo(REPO)
    api.upload_folder(repo_id=REPO, folder_path=tmp_path / "model")
    for num_classes in (None, 3):
        with pytest.raises(KeyMismatchError, match=r"1 missing: pool\.norm\.bias\. 1 surplus: gate"):
            hv.create_model(f"hf-hub:{REPO}", num_classes=num_classes, **client(loopback_hub, tmp_path / "cache"))


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("from_donor", [False, True])
def test_missing_and_surplus_keys_of_an_entry_and_of_a_donor(
    from_donor: bool, num_classes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a donor, also those in parts that are not taken from it."""
    entry = next(e for e in entries().values() if (e.donor if from_donor else e.architecture == VIT))
    holder = entry.donor or entry.architecture
    spec = model_spec(holder).replace(num_classes=entry.num_classes)
    ours = expected_tensors(spec)
    gone = next(key for key in ours if key.startswith("pool."))
    theirs = layouts_of(family_of(holder))[entry.layout](spec).to_theirs(ours | {gone: torch.empty(0, device="meta")})
    theirs = {key: tensor for key, tensor in theirs.items() if tensor.numel()}
    found = theirs | {"gate": torch.ones(1)}
    monkeypatch.setattr(resolve.Recorded, "tensors", lambda files, allow_pickle, name, prefix: found)
    with pytest.raises(KeyMismatchError, match=rf"1 missing: {gone}\. 1 surplus: gate") as caught:
        hv.create_model(entry.name, pretrained=True, num_classes=num_classes)
    assert entry.name in str(caught.value)


def test_no_head_keeps_the_names_of_another(saved: Path, repo: str, loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    model = hv.create_model(f"local-dir:{saved}")
    assert model.labels == LABELS
    assert with_num_classes(model, 5).labels is None
    for name in (f"local-dir:{saved}", f"hf-hub:{repo}", str(saved / "model.safetensors")):
        other = hv.create_model(name, num_classes=4, **client(loopback_hub, tmp_path / "cache"))
        assert other.labels is None
        config = json.loads((hv.save_pretrained(other, tmp_path / "other") / "config.json").read_text())
        assert config["labels"] is None
    assert hv.create_model(SHIPPED, pretrained=True, num_classes=11).labels is None


@pytest.mark.parametrize("part", ["snapshots", f"models--a--b/snapshots/{'0' * 40}"])
def test_only_a_file_in_a_cache_is_to_be_deleted(part: str, tmp_path: Path) -> None:
    directory = tmp_path / part / "mine"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{")
    with pytest.raises(WeightsError) as caught:
        hv.create_model(f"local-dir:{directory}")
    deleted = "delete it and try again" in str(caught.value)
    assert deleted == part.startswith("models--")
    assert deleted != ("save or download the model again" in str(caught.value))
