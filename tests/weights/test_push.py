"""Pushing to a Hub and pulling from it, with the real client over HTTP."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file, save_file

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.hub import LoopbackHub
from hybridvit.weights import store
from hybridvit.weights.errors import WeightsError
from hybridvit.weights.sources import NOTE, WeightsNotFoundError, WeightsWarning
from tests.parity import error, images
from tests.weights.examples import TINY, client, described, facts, logits, tiny

REPO = "me/model"
NOWHERE = "http://127.0.0.1:9"
WEIGHTS, FIRST_SHARD = "model.safetensors", "model-00001-of-00002.safetensors"


def access(hub: LoopbackHub) -> dict[str, Any]:
    return {"endpoint": hub.endpoint, "token": hub.token}


def test_what_is_pushed_comes_back_whole(loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    model, batch = tiny(), images(24, 32)
    url = hv.push_to_hub(model, REPO, **access(loopback_hub))
    again = hv.create_model(f"hf-hub:{REPO}", **client(loopback_hub, tmp_path))
    assert torch.equal(logits(again, batch), logits(model, batch))
    assert facts(again) == facts(model)
    assert not again.training
    info = api.model_info(REPO)
    assert url.startswith(loopback_hub.endpoint)
    assert url.endswith(str(info.sha))
    assert set(api.list_repo_files(REPO)) == {".gitattributes", "config.json", "model.safetensors", "README.md"}
    assert info.card_data is not None
    assert info.card_data["license"] == "mit"


def test_a_push_without_a_change_makes_no_commit(loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    """Also of a model that was loaded from there, or pulled, of which nobody says again what its card should say."""
    said = {"licence": "mit", "datasets": ["mine"], "metrics": {"top1": 0.5}, "description": "D.", "base_model": "a/b"}
    model = tiny()
    model.origin = {"architecture": TINY, "recipe": {"sizes": (32, 64), "epochs": 3}, "val_accuracy": 0.5}
    hv.push_to_hub(model, REPO, **access(loopback_hub), **said)
    commit = api.model_info(REPO).sha
    hv.push_to_hub(model, REPO, **access(loopback_hub), **said)
    loaded = hv.create_model(f"hf-hub:{REPO}", **client(loopback_hub, tmp_path / "cache"))
    pulled = hv.pull_from_hub(REPO, tmp_path / "pulled", **access(loopback_hub))
    for same in (loaded, hv.create_model(f"local-dir:{pulled}")):
        hv.push_to_hub(same, REPO, **access(loopback_hub))
        assert api.model_info(REPO).sha == commit


def test_a_pushed_card_says_everything(loopback_hub: LoopbackHub, api: HfApi) -> None:
    """The metadata as the Hub has read it, and the text."""
    model = described("vit_tiny_patch16_224", num_classes=5, img_size=32)
    assert model.origin is not None
    model.origin |= {"recipe": {"epochs": 3}, "images": 416}
    said = {"licence": "mit", "datasets": ["mine"], "metrics": {"top1": 0.5}, "base_model": "timm/vit_tiny"}
    hv.push_to_hub(model, REPO, **access(loopback_hub), **said)
    info = api.model_info(REPO)
    assert info.card_data is not None
    assert info.card_data.to_dict() == {
        "library_name": "hybridvit",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "hybridvit", "timm"],
        "license": "mit",
        "base_model": "timm/vit_tiny",
        "datasets": ["mine"],
        "metrics": ["top1"],
    }
    assert {"hybridvit", "timm", "license:mit", "dataset:mine"} <= set(info.tags or ())
    card = Path(api.hf_hub_download(REPO, "README.md")).read_text()
    for part in (
        "| top1 | 0.5 |",
        f'import hybridvit as hv\nmodel = hv.create_model("hf-hub:{REPO}").eval()\nprint(hv.predict(model, ["',
        "## Preprocessing\n\n32 x 32 pixels, bilinear, crop 0.75",
        "## Labels\n\nbear, cat, dog, eel, fox",
        "416 images. Recipe:\n\n    epochs = 3",
    ):
        assert part in card
    config = json.loads(Path(api.hf_hub_download(REPO, "config.json")).read_text())
    assert config["pretrained_cfg"]["license"] == "mit"


def test_a_file_that_arrives_damaged_is_not_kept(
    loopback_hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    hv.push_to_hub(tiny(), REPO, **access(loopback_hub))
    download = huggingface_hub.snapshot_download

    def damaged(*arguments: Any, **settings: Any) -> str:
        directory = download(*arguments, **settings)
        weights = Path(directory) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"!")
        return directory

    with monkeypatch.context() as patched:
        patched.setattr(huggingface_hub, "snapshot_download", damaged)
        with pytest.raises(WeightsError, match=rf"model\.safetensors of {REPO} was damaged on its way.* pull again"):
            hv.pull_from_hub(REPO, tmp_path / "pulled", **access(loopback_hub))
    assert not (tmp_path / "pulled" / "model.safetensors").exists()
    hv.pull_from_hub(REPO, tmp_path / "pulled", **access(loopback_hub))
    assert hv.create_model(f"local-dir:{tmp_path / 'pulled'}").labels


def test_a_commit_pins_the_weights(loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    first, second, batch = tiny(seed=1), tiny(seed=2), images(24, 32)
    hv.push_to_hub(first, REPO, **access(loopback_hub))
    old = api.model_info(REPO).sha
    hub = client(loopback_hub, tmp_path)
    assert torch.equal(logits(hv.create_model(f"hf-hub:{REPO}", **hub), batch), logits(first, batch))
    hv.push_to_hub(second, REPO, **access(loopback_hub), commit_message="Better weights")
    assert api.list_repo_commits(REPO)[0].title == "Better weights"
    assert torch.equal(logits(hv.create_model(f"hf-hub:{REPO}", **hub), batch), logits(second, batch))
    for pinned in (
        hv.create_model(f"hf-hub:{REPO}@{old}", **hub),
        hv.create_model(f"hf-hub:{REPO}", revision=old, **hub),
    ):
        assert torch.equal(logits(pinned, batch), logits(first, batch))


def test_a_branch_and_a_pull_request_leave_main_alone(loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    main, branch, request = (tiny(seed) for seed in range(3))
    batch, hub = images(24, 32), client(loopback_hub, tmp_path)
    hv.push_to_hub(main, REPO, **access(loopback_hub))
    hv.push_to_hub(branch, REPO, revision="trial", **access(loopback_hub))
    hv.push_to_hub(request, REPO, create_pr=True, **access(loopback_hub))
    for revision, model in (("main", main), ("trial", branch), ("refs/pr/1", request)):
        assert torch.equal(logits(hv.create_model(f"hf-hub:{REPO}@{revision}", **hub), batch), logits(model, batch))


def test_a_private_repository_is_found_with_the_token_alone(
    loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path
) -> None:
    hv.push_to_hub(tiny(), REPO, private=True, **access(loopback_hub))
    assert api.model_info(REPO).private
    assert hv.create_model(f"hf-hub:{REPO}", **client(loopback_hub, tmp_path / "a")).labels
    with pytest.raises(WeightsNotFoundError, match=f"no repository '{REPO}' on {loopback_hub.endpoint}.*log in"):
        hv.create_model(f"hf-hub:{REPO}", endpoint=loopback_hub.endpoint, cache_dir=tmp_path / "b")


def test_a_refused_push_says_why(loopback_hub: LoopbackHub, api: HfApi) -> None:
    with pytest.raises(WeightsNotFoundError, match=loopback_hub.endpoint):
        hv.push_to_hub(tiny(), REPO, endpoint=loopback_hub.endpoint)
    with pytest.raises(WeightsNotFoundError, match="'a/b/c' is no repository name: it looks like ORG/NAME"):
        hv.push_to_hub(tiny(), "a/b/c", **access(loopback_hub))
    with pytest.raises(WeightsNotFoundError, match=f"{REPO} on {NOWHERE}"):
        hv.push_to_hub(tiny(), REPO, endpoint=NOWHERE, token=loopback_hub.token)
    with pytest.raises(ValueError, match=r"no field 'license'.*licence"):
        hv.push_to_hub(tiny(), REPO, **access(loopback_hub), license="mit")
    assert not list(api.list_models())


def test_pulled_files_load_as_a_directory(loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    model, batch = tiny(), images(24, 32)
    hv.push_to_hub(model, REPO, **access(loopback_hub))
    hv.push_to_hub(tiny(seed=1), REPO, revision="trial", **access(loopback_hub))
    for name, revision, expected in (
        (REPO, None, model),
        (f"hf-hub:{REPO}", None, model),
        (f"{REPO}@trial", None, tiny(seed=1)),
        (REPO, "trial", tiny(seed=1)),
    ):
        target = hv.pull_from_hub(name, tmp_path / "pulled", revision=revision, **access(loopback_hub))
        again = hv.create_model(f"local-dir:{target}")
        assert torch.equal(logits(again, batch), logits(expected, batch))
        assert facts(again) == facts(expected)


def test_a_pull_that_fails_says_why_and_leaves_the_directory(loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    hv.push_to_hub(tiny(), REPO, **access(loopback_hub))
    target = tmp_path / "there"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    for name, message in (
        ("me/nothing", "no repository 'me/nothing'"),
        (f"{REPO}@nowhere", f"{REPO} has no revision 'nowhere'"),
        ("me/model/main", "is no repository name"),
    ):
        with pytest.raises(WeightsNotFoundError, match=message):
            hv.pull_from_hub(name, target, **access(loopback_hub))
    with pytest.raises(WeightsNotFoundError, match=NOWHERE):
        hv.pull_from_hub(REPO, target, endpoint=NOWHERE)
    with pytest.raises(WeightsNotFoundError, match=r"mine\.txt is a file"):
        hv.pull_from_hub(REPO, target / "mine.txt", **access(loopback_hub))
    assert [path.name for path in target.iterdir()] == ["mine.txt"]


def test_two_revisions_are_refused(loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two revisions: 'me/model@a' and revision='b'"):
        hv.create_model(f"hf-hub:{REPO}@a", revision="b", **client(loopback_hub, tmp_path))


TIMM_LOADS = """
import sys, timm, torch
for name, batch in torch.load(sys.argv[1]).items():
    model = timm.create_model(f"hf-hub:me/{name}", pretrained=True).eval()
    assert list(model.pretrained_cfg["input_size"][1:]) == list(batch.shape[2:]), name
    torch.save(model(batch).detach(), f"{sys.argv[2]}/{name}.pt")
"""


def test_timm_loads_what_is_pushed(loopback_hub: LoopbackHub, run_client: Callable[..., str], tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "vit_tiny_patch16_224": {"num_classes": 5, "in_chans": 1, "img_size": (32, 48)},
        "deit_tiny_distilled_patch16_224": {"num_classes": 5, "img_size": 32},
        "tf_efficientnet_lite0": {"num_classes": 3, "in_chans": 1, "img_size": 64},
    }
    models = {name: described(name, **changed) for name, changed in changes.items()}
    for name, model in models.items():
        hv.push_to_hub(model, f"me/{name}", **access(loopback_hub))
    batches = {name: images(*model.spec.img_size, model.spec.in_chans) for name, model in models.items()}
    torch.save(batches, tmp_path / "batches.pt")
    run_client("-c", TIMM_LOADS, str(tmp_path / "batches.pt"), str(tmp_path))
    for name, model in models.items():
        theirs = torch.load(tmp_path / f"{name}.pt")
        assert error(theirs, logits(model, batches[name])) < 1e-4, name


TIMM_PUSHES = """
import sys, timm, torch
from tests.parity import images, perturb
settings = {
    "vit_tiny_patch16_224": dict(num_classes=4, img_size=(32, 48), drop_path_rate=0.1),
    "deit_tiny_distilled_patch16_224": dict(num_classes=4, in_chans=1, img_size=32),
    "resnet18": dict(num_classes=4, in_chans=2),
}
for name, arguments in settings.items():
    model = timm.create_model(name, **arguments).eval()
    perturb(model, batch_norm_gain=1.5)
    channels = arguments.get("in_chans", 3)
    batch = images(*(32, 48) if name.startswith("vit") else (32, 32), channels)
    torch.save((batch, model(batch).detach()), f"{sys.argv[1]}/{name}.pt")
    labels = ["ant", "bee", "cow", "doe"]
    timm.models.push_to_hf_hub(model, f"me/{name}", model_config={"label_names": labels})
"""


def test_what_timm_pushes_loads(loopback_hub: LoopbackHub, run_client: Callable[..., str], tmp_path: Path) -> None:
    run_client("-c", TIMM_PUSHES, str(tmp_path))
    for path in sorted(tmp_path.glob("*.pt")):
        batch, theirs = torch.load(path)
        ours = hv.create_model(f"hf-hub:me/{path.stem}", **client(loopback_hub, tmp_path / "cache"))
        assert error(logits(ours, batch), theirs) < 1e-4, path.stem
        assert ours.labels == ("ant", "bee", "cow", "doe")
        assert ours.origin is not None
        assert (ours.origin["architecture"], ours.origin["base_model"]) == (path.stem, f"me/{path.stem}")
        assert re.fullmatch("[0-9a-f]{40}", ours.origin["commit"])
        assert ours.preprocess is not None
        assert len(ours.preprocess.mean) == ours.spec.in_chans


def test_origin_of_a_pulled_model_is_what_was_pushed(loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    hv.push_to_hub(tiny(), REPO, **access(loopback_hub))
    target = hv.pull_from_hub(REPO, tmp_path / "pulled", **access(loopback_hub))
    assert json.loads((target / "config.json").read_text())["origin"]["architecture"] == TINY


# A pull over an earlier one


def sharded(model: Encoder, directory: Path) -> Path:
    """A saved model whose weights are in two files."""
    hv.save_pretrained(model, directory)
    tensors = sorted(load_file(directory / "model.safetensors").items())
    (directory / "model.safetensors").unlink()
    listed: dict[str, str] = {}
    for number, part in enumerate((tensors[::2], tensors[1::2]), start=1):
        name = f"model-{number:05}-of-00002.safetensors"
        save_file(dict(part), directory / name, metadata={"format": "pt"})
        listed |= {key: name for key, _ in part}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    return directory


@pytest.fixture
def resharded(loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> tuple[Path, Encoder]:
    """A directory with a pulled model, and the model in two files that replaces its one file on the Hub."""
    hv.push_to_hub(tiny(), REPO, **access(loopback_hub))
    target = hv.pull_from_hub(REPO, tmp_path / "pulled", **access(loopback_hub))
    (target / "notes.txt").write_text("mine")
    new = tiny(seed=1)
    folder = sharded(new, tmp_path / "new")
    api.upload_folder(repo_id=REPO, folder_path=folder, delete_patterns=["model.safetensors"])
    return target, new


def test_a_pull_removes_what_the_commit_has_not(
    loopback_hub: LoopbackHub, api: HfApi, resharded: tuple[Path, Encoder], tmp_path: Path
) -> None:
    (target, new), batch = resharded, images(24, 32)
    for _ in range(2):
        hv.pull_from_hub(REPO, target, **access(loopback_hub))
        assert not (target / "model.safetensors").exists()
        assert (target / "notes.txt").read_text() == "mine"
        assert torch.equal(logits(hv.create_model(f"local-dir:{target}"), batch), logits(new, batch))
    hv.save_pretrained(tiny(seed=2), tmp_path / "last")
    api.upload_folder(repo_id=REPO, folder_path=tmp_path / "last", delete_patterns=["model-*", "*.index.json"])
    hv.pull_from_hub(REPO, target, **access(loopback_hub))
    ours = {".cache", ".gitattributes", "README.md", "config.json", "model.safetensors", "notes.txt"}
    assert {path.name for path in target.iterdir()} == ours


def test_a_pull_that_only_removes(loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    hv.push_to_hub(tiny(), REPO, **access(loopback_hub))
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a/b/c.txt", repo_id=REPO)
    target = hv.pull_from_hub(REPO, tmp_path / "pulled", **access(loopback_hub))
    assert (target / "a" / "b" / "c.txt").exists()
    api.delete_file("a/b/c.txt", REPO)
    hv.pull_from_hub(REPO, target, **access(loopback_hub))
    assert not (target / "a").exists()
    assert hv.create_model(f"local-dir:{target}").labels


def test_a_pull_leaves_what_was_changed_since(
    loopback_hub: LoopbackHub, api: HfApi, resharded: tuple[Path, Encoder]
) -> None:
    target, _ = resharded
    (target / "model.safetensors").write_bytes(b"mine")
    for _ in range(2):
        with pytest.warns(WeightsWarning, match=r"pulled also has model\.safetensors, which is not of the commit"):
            hv.pull_from_hub(REPO, target, **access(loopback_hub))
    assert (target / "model.safetensors").read_bytes() == b"mine"
    (target / "model.safetensors").unlink()
    (target / "preprocessor_config.json").write_text("{}")  # which a load does not look at
    (target / "pytorch_model.bin").touch()
    hv.pull_from_hub(REPO, target, **access(loopback_hub))


def test_a_pull_tells_of_a_config_that_is_not_of_the_commit(
    loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path
) -> None:
    hv.save_pretrained(tiny(), tmp_path / "saved")
    api.create_repo(REPO)
    api.upload_file(path_or_fileobj=tmp_path / "saved" / WEIGHTS, path_in_repo=WEIGHTS, repo_id=REPO)
    (tmp_path / "pulled").mkdir()
    for text in ('{"model_type": "vit"}', "no JSON"):
        (tmp_path / "pulled" / "config.json").write_text(text)
        with pytest.warns(WeightsWarning, match=r"pulled also has config\.json, which is not of the commit"):
            hv.pull_from_hub(REPO, tmp_path / "pulled", **access(loopback_hub))


def test_a_pull_that_is_killed_leaves_the_old_model_or_the_new(
    loopback_hub: LoopbackHub, resharded: tuple[Path, Encoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target, new), batch, old = resharded, images(24, 32), tiny()
    replace, seen = os.replace, list[bool]()

    def looking(source: Any, place: Any) -> None:
        if str(source).startswith(str(target)) and ".cache/huggingface/download" not in str(source):
            copy = shutil.copytree(target, tmp_path / "copies" / f"{len(seen)}")
            found = logits(hv.create_model(f"local-dir:{copy}"), batch)
            seen.append(torch.equal(found, logits(new, batch)))
            assert seen[-1] or torch.equal(found, logits(old, batch))
        replace(source, place)

    with monkeypatch.context() as patched:
        patched.setattr(store.os, "replace", looking)
        hv.pull_from_hub(REPO, target, **access(loopback_hub))
    assert seen == sorted(seen)
    assert seen[-1]
    for number in range(len(seen)):
        copy = hv.pull_from_hub(REPO, tmp_path / "copies" / f"{number}", **access(loopback_hub))
        assert not (copy / "model.safetensors").exists()
        assert not (copy / ".pending").exists()


def test_a_note_that_leads_elsewhere_removes_nothing_there(tmp_path: Path) -> None:
    """A directory that came from somewhere may hold what looks like a pull that was killed."""
    mine, target = tmp_path / "mine.txt", tmp_path / "there"
    mine.write_text("mine")
    note = target / ".pending" / NOTE
    note.parent.mkdir(parents=True)
    (target / "link").symlink_to(tmp_path)
    note.write_text(json.dumps({"files": {}, "gone": ["../mine.txt", str(mine), "link/mine.txt", "", 3]}))
    hv.save_pretrained(tiny(), target)
    assert mine.read_text() == "mine"
    assert hv.create_model(f"local-dir:{target}").labels


def test_a_file_becomes_a_folder_and_a_file_again(loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    hv.push_to_hub(tiny(), REPO, **access(loopback_hub))
    api.upload_file(path_or_fileobj=b"file", path_in_repo="extra", repo_id=REPO)
    target = hv.pull_from_hub(REPO, tmp_path / "pulled", **access(loopback_hub))
    assert (target / "extra").read_text() == "file"
    api.delete_file("extra", REPO)
    api.upload_file(path_or_fileobj=b"inside", path_in_repo="extra/deep/a.txt", repo_id=REPO)
    hv.pull_from_hub(REPO, target, **access(loopback_hub))
    assert (target / "extra" / "deep" / "a.txt").read_text() == "inside"
    api.delete_folder("extra", REPO)
    api.upload_file(path_or_fileobj=b"again", path_in_repo="extra", repo_id=REPO)
    hv.pull_from_hub(REPO, target, **access(loopback_hub))
    assert (target / "extra").read_text() == "again"


@pytest.mark.parametrize(("mine", "theirs"), [("extra", "extra/a.txt"), ("extra/mine.txt", "extra")])
def test_a_file_of_the_users_is_not_replaced_by_a_folder(
    mine: str, theirs: str, loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path
) -> None:
    hv.push_to_hub(tiny(), REPO, **access(loopback_hub))
    target = hv.pull_from_hub(REPO, tmp_path / "pulled", **access(loopback_hub))
    (target / mine).parent.mkdir(exist_ok=True)
    (target / mine).write_text("mine")
    hv.push_to_hub(tiny(seed=1), REPO, **access(loopback_hub))
    api.upload_file(path_or_fileobj=b"theirs", path_in_repo=theirs, repo_id=REPO)
    with pytest.raises(FileExistsError, match=rf"{mine} is in the way of .*{theirs}, .*move it away"):
        hv.pull_from_hub(REPO, target, **access(loopback_hub))
    assert (target / mine).read_text() == "mine"
    assert not (target / ".pending").exists()
    batch = images(24, 32)
    assert torch.equal(logits(hv.create_model(f"local-dir:{target}"), batch), logits(tiny(), batch))
    (target / mine).rename(tmp_path / "away")
    hv.pull_from_hub(REPO, target, **access(loopback_hub))
    assert (target / theirs).read_text() == "theirs"


# A pull without a network


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_pull_from_the_cache_leaves_out_what_passes_for_our_own(
    loopback_hub: LoopbackHub, api: HfApi, offline: Callable[[], None], tmp_path: Path
) -> None:
    hv.push_to_hub(tiny(), REPO, **access(loopback_hub))
    for name in (".pending/config.json", ".saving-1/config.json", ".pulling/config.json"):
        api.upload_file(path_or_fileobj=b"{}", path_in_repo=name, repo_id=REPO)
    api.snapshot_download(REPO, cache_dir=tmp_path / "cache")
    offline()
    for _ in range(2):
        pulled = hv.pull_from_hub(REPO, tmp_path / "pulled", **client(loopback_hub, tmp_path / "cache"))
        ours = {".cache", ".gitattributes", "README.md", "config.json", "model.safetensors"}
        assert {path.name for path in pulled.iterdir()} == ours
        assert facts(hv.create_model(f"local-dir:{pulled}")) == facts(tiny())


@pytest.mark.parametrize("name", [".pending", ".pulling", ".saving"])
def test_a_file_that_is_named_as_our_own_is_not_pulled(
    name: str, loopback_hub: LoopbackHub, api: HfApi, offline: Callable[[], None], tmp_path: Path
) -> None:
    hv.push_to_hub(tiny(), REPO, **access(loopback_hub))
    api.upload_file(path_or_fileobj=b"x", path_in_repo=name, repo_id=REPO)
    api.snapshot_download(REPO, cache_dir=tmp_path / "cache")
    hub = client(loopback_hub, tmp_path / "cache")
    pulled = [hv.pull_from_hub(REPO, tmp_path / "online", **hub)]
    offline()
    pulled.append(hv.pull_from_hub(REPO, tmp_path / "offline", **hub))
    for each in pulled:
        assert not (each / name).is_file()
        assert facts(hv.create_model(f"local-dir:{each}")) == facts(tiny())


@pytest.mark.parametrize(
    ("cached", "lacks"),
    [
        (["config.json"], "model.safetensors"),
        (["README.md", f"{WEIGHTS}.index.json", FIRST_SHARD], "config.json, model-00002-of-00002.safetensors"),
        (["config.json", FIRST_SHARD], "model.safetensors"),
    ],
)
def test_a_pull_of_what_the_cache_has_in_part(
    cached: list[str],
    lacks: str,
    loopback_hub: LoopbackHub,
    api: HfApi,
    offline: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny()
    api.create_repo(REPO)
    api.upload_folder(repo_id=REPO, folder_path=sharded(model, tmp_path / "new"))
    hub = client(loopback_hub, tmp_path / "cache")
    for name in cached:
        api.hf_hub_download(REPO, name, cache_dir=tmp_path / "cache")
    offline()
    message = rf"holds only a part of {REPO} .*it has {cached[0]}.*, and lacks {lacks}; connect once"
    with pytest.raises(WeightsNotFoundError, match=message):
        hv.pull_from_hub(REPO, tmp_path / "pulled", **hub)
    assert not (tmp_path / "pulled").exists()
    monkeypatch.undo()
    hv.create_model(f"hf-hub:{REPO}", **hub)
    offline()
    pulled = hv.pull_from_hub(REPO, tmp_path / "pulled", **hub)
    assert torch.equal(logits(hv.create_model(f"local-dir:{pulled}"), images(24, 32)), logits(model, images(24, 32)))


def test_weights_without_a_config_are_pulled_from_the_cache(
    loopback_hub: LoopbackHub, api: HfApi, offline: Callable[[], None], tmp_path: Path
) -> None:
    """The cache knows that there is none."""
    hv.push_to_hub(described(TINY), REPO, **access(loopback_hub))
    api.delete_file("config.json", REPO)
    hub = client(loopback_hub, tmp_path / "cache")
    hv.create_model(f"hf-hub:{REPO}", **hub)
    offline()
    assert (hv.pull_from_hub(REPO, tmp_path / "pulled", **hub) / "model.safetensors").exists()


def test_a_pull_of_a_part_from_the_cache_removes_nothing_of_the_same_commit(
    loopback_hub: LoopbackHub,
    api: HfApi,
    resharded: tuple[Path, Encoder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A load does not bring README.md into the cache."""
    (target, new), cache = resharded, tmp_path / "cache"
    api.upload_file(path_or_fileobj=b"x", path_in_repo="more.txt", repo_id=REPO)
    hv.create_model(f"hf-hub:{REPO}", **client(loopback_hub, cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = {path.name for path in target.iterdir()}
    hv.pull_from_hub(REPO, target, cache_dir=cache)
    shards = {FIRST_SHARD, FIRST_SHARD.replace("00001", "00002", 1), f"{WEIGHTS}.index.json"}
    assert {path.name for path in target.iterdir()} == before - {WEIGHTS} | shards
    batch = images(24, 32)
    assert torch.equal(logits(hv.create_model(f"local-dir:{target}"), batch), logits(new, batch))
    monkeypatch.undo()
    hv.pull_from_hub(REPO, target, **access(loopback_hub))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hv.pull_from_hub(REPO, target, cache_dir=cache)
    assert (target / "more.txt").exists()
    monkeypatch.undo()
    api.delete_file("more.txt", REPO)
    hv.pull_from_hub(REPO, target, **access(loopback_hub))
    assert not (target / "more.txt").exists()


def test_pulls_from_the_cache_into_one_directory(
    loopback_hub: LoopbackHub, api: HfApi, offline: Callable[[], None], tmp_path: Path
) -> None:
    hv.push_to_hub(tiny(), REPO, **access(loopback_hub))
    hub = client(loopback_hub, tmp_path / "cache")
    api.snapshot_download(REPO, cache_dir=tmp_path / "cache")
    offline()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: hv.pull_from_hub(REPO, tmp_path / "pulled", **hub), range(24)))
    assert facts(hv.create_model(f"local-dir:{tmp_path / 'pulled'}")) == facts(tiny())
    assert not (tmp_path / "pulled" / ".pulling").exists()


# What a name says


def test_a_tilde_is_the_home_directory(
    loopback_hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert hv.save_pretrained(tiny(), "~/saved") == tmp_path / "saved"
    hv.push_to_hub(hv.create_model("local-dir:~/saved"), REPO, **access(loopback_hub))
    pulled = hv.pull_from_hub(REPO, "~/pulled", **access(loopback_hub), cache_dir="~/cache")
    assert pulled == tmp_path / "pulled"
    assert facts(hv.create_model("local-dir:~/pulled")) == facts(tiny())
    assert not (tmp_path / "~").exists()


def test_a_revision_goes_beside_the_name_of_a_push(loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"'{REPO}@dev' names a revision.*push to '{REPO}' with revision='dev'"):
        hv.push_to_hub(tiny(), f"{REPO}@dev", **access(loopback_hub))
    assert not list(api.list_models())
    hv.push_to_hub(tiny(), f"hf-hub:{REPO}", **access(loopback_hub))
    assert facts(hv.create_model(f"hf-hub:{REPO}", **client(loopback_hub, tmp_path))) == facts(tiny())
    assert f'"hf-hub:{REPO}"' in Path(api.hf_hub_download(REPO, "README.md", cache_dir=tmp_path)).read_text()


def test_a_pull_request_goes_to_the_main_branch(loopback_hub: LoopbackHub, api: HfApi) -> None:
    message = r"create_pr=True opens .* the main branch, and revision='dev' is another one; leave one of the two out"
    with pytest.raises(ValueError, match=message):
        hv.push_to_hub(tiny(), REPO, revision="dev", create_pr=True, **access(loopback_hub))
    assert not list(api.list_models())
    hv.push_to_hub(tiny(), REPO, **access(loopback_hub))
    hv.push_to_hub(tiny(seed=1), REPO, revision="main", create_pr=True, **access(loopback_hub))
    requests = api.list_repo_refs(REPO, include_pull_requests=True).pull_requests
    assert [request.ref for request in requests or ()] == ["refs/pr/1"]


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil"])
def test_names_that_lead_elsewhere_are_no_missing_weights(
    name: str, loopback_hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hv.push_to_hub(tiny(), REPO, **access(loopback_hub))
    info = HfApi.model_info

    def listing(*arguments: Any, **settings: Any) -> Any:
        found = info(*arguments, **settings)
        assert found.siblings
        found.siblings[0].rfilename = name
        return found

    monkeypatch.setattr(HfApi, "model_info", listing)
    with pytest.raises(WeightsError, match=f"{REPO} has a file '{name}', which would lie outside"):
        hv.pull_from_hub(REPO, tmp_path / "pulled", **access(loopback_hub))
    assert not (tmp_path / "pulled").exists()
