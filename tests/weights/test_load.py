"""`create_model`: from names, entries and files to models, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import HfApi, constants, snapshot_download
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import hybridvit as hv
from hybridvit.adapt import with_img_size, with_in_chans, with_num_classes
from hybridvit.encoder import Encoder
from hybridvit.hub import LoopbackHub
from hybridvit.keys import KeyMismatchError
from hybridvit.meta import without_memory
from hybridvit.preprocess import Preprocess
from hybridvit.registry import UnknownNameError, family_of, model_spec
from hybridvit.weights import load as loading
from hybridvit.weights import resolve
from hybridvit.weights.entries import WeightEntry, entries, entries_of
from hybridvit.weights.sources import HubFiles, LocalFiles, WeightsNotFoundError, WeightsWarning
from hybridvit.weights.store import WeightsError, finish_pending
from tests.parity import error, images, perturb
from tests.representatives import representatives
from tests.weights.examples import LABELS, TINY, client, described, facts, logits, tiny

SHIPPED = f"{TINY}.fmnist"


@pytest.fixture
def saved(tmp_path: Path) -> str:
    """The name of a saved model."""
    return f"local-dir:{hv.save_pretrained(tiny(), tmp_path / 'saved')}"


# From scratch


def test_from_scratch() -> None:
    model = hv.create_model(TINY, num_classes=3, in_chans=2, img_size=(24, 40))
    assert model.spec == model_spec(TINY).replace(num_classes=3, in_chans=2, img_size=(24, 40))
    assert model.training
    assert (model.labels, model.preprocess, model.origin) == (None, None, {"architecture": TINY})
    assert hv.create_model(TINY).spec == model_spec(TINY)
    assert hv.create_model(SHIPPED, img_size=24).spec == model_spec(TINY).replace(img_size=(24, 24))


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cct_2_3x2_23", r"no model 'cct_2_3x2_23'\. Did you mean 'cct_2_3x2_32'"),
        (f"{TINY}.fminst", r"cct_2_3x2_32 has no tag 'fminst'\. Did you mean 'fmnist'\? Tags: fmnist"),
        ("resnet18/../../etc", "no model"),
        ("", "no model ''"),
    ],
)
def test_an_unknown_name(name: str, message: str, pretrained: bool) -> None:
    with pytest.raises(UnknownNameError, match=message):
        hv.create_model(name, pretrained)


def test_a_model_without_released_weights() -> None:
    with pytest.raises(UnknownNameError, match="cct_7_3x2_32 has no released weights here; pretrained=False starts"):
        hv.create_model("cct_7_3x2_32", pretrained=True)


@pytest.mark.parametrize("name", [TINY, SHIPPED])
@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"num_classes": -1}, "num_classes must be at least 0, got -1"),
        ({"in_chans": 0}, "in_chans must be at least 1, got 0"),
        ({"img_size": 0}, "img_size must be at least 1, got 0"),
        ({"img_size": (32, -1)}, "img_size must be at least 1, got -1"),
        ({"img_size": (32, 32, 3)}, r"img_size must be a number of pixels or \(height, width\), got \(32, 32, 3\)"),
        ({"img_size": 32.0}, r"img_size must be a number of pixels or \(height, width\), got 32\.0"),
        ({"img_size": "32"}, r"img_size must be a number of pixels or \(height, width\), got '32'"),
    ],
)
def test_impossible_numbers(name: str, pretrained: bool, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hv.create_model(name, pretrained, **request_)


def test_a_path_is_spelled_as_a_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"name must be text; for a directory local-dir:{tmp_path}, for a weight file"):
        hv.create_model(tmp_path)  # pyright: ignore[reportArgumentType]


# Other classes, channels and sizes of saved weights


def test_other_classes_get_a_fresh_classifier(saved: str) -> None:
    model, batch = tiny(), images(24, 32)
    other = hv.create_model(saved, num_classes=3)
    assert logits(other, batch).shape == (3, 3)
    with torch.no_grad():
        embedding = model.embed(batch)
        assert torch.equal(other.embed(batch), embedding)
    assert other.labels is None
    assert (other.preprocess, other.origin) == (model.preprocess, model.origin)
    assert not other.training
    assert torch.equal(logits(hv.create_model(saved, num_classes=0), batch), embedding)


def test_the_same_number_of_classes_keeps_the_classifier(saved: str) -> None:
    same = hv.create_model(saved, num_classes=5)
    assert torch.equal(logits(same, images(24, 32)), logits(tiny(), images(24, 32)))
    assert same.labels == LABELS


def test_other_channels_and_sizes_are_those_of_adapt(saved: str) -> None:
    adapted = with_img_size(with_in_chans(tiny(), 1), (40, 24))
    loaded = hv.create_model(saved, in_chans=1, img_size=(40, 24))
    assert facts(loaded) == facts(adapted)
    assert torch.equal(logits(loaded, images(40, 24, 1)), logits(adapted, images(40, 24, 1)))


def test_nothing_is_initialised_or_copied_that_is_loaded(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters are the mapped file."""
    read: dict[str, Tensor] = {}
    read_tensors = resolve.read_tensors

    def spy(path: Path, allow_pickle: bool, prefix: str) -> dict[str, Tensor]:
        read.update(read_tensors(path, allow_pickle, prefix))
        return read

    monkeypatch.setattr(resolve, "read_tensors", spy)
    drawn: list[torch.Size] = []
    for name in ("trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "normal_", "uniform_"):
        original = getattr(nn.init, name)

        def noted(tensor: Tensor, *args: Any, original: Callable[..., Tensor] = original, **kwargs: Any) -> Tensor:
            if not tensor.is_meta:
                drawn.append(tensor.shape)
            return original(tensor, *args, **kwargs)

        monkeypatch.setattr(nn.init, name, noted)
    model = hv.create_model(saved)
    assert drawn == []
    assert {tensor.data_ptr() for tensor in model.state_dict().values()} == {t.data_ptr() for t in read.values()}
    other = hv.create_model(saved, num_classes=3)
    assert {shape[0] for shape in drawn} == {3}, "a new classifier and nothing else"
    assert all(tensor.data_ptr() in {t.data_ptr() for t in read.values()} for tensor in other.stages.parameters())


def test_training_a_loaded_model_leaves_its_file(saved: str) -> None:
    model = hv.create_model(saved)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    assert torch.equal(logits(hv.create_model(saved), images(24, 32)), logits(tiny(), images(24, 32)))


def test_a_path_is_a_directory_and_a_known_name_is_not(
    saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / TINY).mkdir()
    names = {"saved": "local-dir:saved", "./typo": "local-dir:./typo", TINY: TINY, SHIPPED: SHIPPED, saved: saved}
    assert {name: loading.full_name(name) for name in names} == names
    assert loading.full_name(Path(TINY)) == f"local-dir:{TINY}"
    assert loading.full_name("typo") == "typo"
    assert loading.load_model("saved").labels == loading.load_model(tmp_path / "saved").labels == LABELS


# Keys that do not fit


@pytest.mark.parametrize("num_classes", [None, 5, 3])
def test_every_key_that_does_not_fit_is_listed(num_classes: int | None, saved: str) -> None:
    path = Path(saved.removeprefix("local-dir:")) / "model.safetensors"
    tensors = load_file(path)
    del tensors["stages.0.position.table"], tensors["pool.norm.bias"]
    tensors |= {"stages.0.gate": torch.ones(1), "classifier.weight": torch.ones(1), "pool.norm.weight": torch.ones(9)}
    save_file(tensors, path)
    with pytest.raises(KeyMismatchError) as caught:
        hv.create_model(saved, num_classes=num_classes)
    message = str(caught.value)
    for part in (
        str(path.parent),
        "2 missing: stages.0.position.table, pool.norm.bias",
        "2 surplus: ",
        "stages.0.gate",
        "classifier.weight",
        "1 of another shape: pool.norm.weight is (9,), expected (128,)",
    ):
        assert part in message


def test_a_classifier_that_is_not_there_is_missed_unless_it_is_replaced(saved: str) -> None:
    path = Path(saved.removeprefix("local-dir:")) / "model.safetensors"
    save_file({key: tensor for key, tensor in load_file(path).items() if not key.startswith("head")}, path)
    with pytest.raises(KeyMismatchError, match=r"2 missing: head\.weight, head\.bias"):
        hv.create_model(saved)
    assert hv.create_model(saved, num_classes=3).spec.num_classes == 3


def test_missing_and_surplus_keys_of_another_layout_are_listed_together(tmp_path: Path) -> None:
    model = hv.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5)
    directory = hv.save_pretrained(model, tmp_path)
    tensors = load_file(directory / "model.safetensors")
    del tensors["norm.bias"]
    save_file(tensors | {"extra.gate": torch.ones(1)}, directory / "model.safetensors")
    with pytest.raises(KeyMismatchError, match=r"pool\.norm\.bias") as caught:
        hv.create_model(f"local-dir:{tmp_path}")
    assert "extra.gate" in str(caught.value)


# A weight file


def state(model: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.contiguous() for key, tensor in model.state_dict().items()}


def test_a_file_in_our_layout(tmp_path: Path) -> None:
    model, batch = described(TINY, num_classes=4), images(32, 32)
    save_file(state(model), tmp_path / "mine.safetensors")
    loaded = hv.create_model(TINY, file=tmp_path / "mine.safetensors")
    assert torch.equal(logits(loaded, batch), logits(model, batch))
    assert not loaded.training
    assert loaded.origin == {"architecture": TINY, "source": "mine.safetensors"}
    assert hv.create_model(TINY, file=tmp_path / "mine.safetensors", num_classes=2, in_chans=1)(
        images(32, 32, 1)
    ).shape == (3, 2)


@pytest.mark.parametrize("layout", ["original"])
def test_a_file_in_a_layout_of_the_family(layout: str, tmp_path: Path) -> None:
    model = described(TINY)
    theirs = family_of(TINY).layouts[layout](model.spec).to_theirs(model.state_dict())
    torch.save({"state_dict": theirs}, tmp_path / "cct.pth")
    loaded = hv.create_model(TINY, file=tmp_path / "cct.pth", allow_pickle=True)
    assert torch.equal(logits(loaded, images(32, 32)), logits(model, images(32, 32)))


def test_a_file_of_timms_names(tmp_path: Path) -> None:
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=4).eval()
    save_file(state(theirs), tmp_path / "vit.safetensors")
    loaded = hv.create_model("vit_tiny_patch16_224", file=tmp_path / "vit.safetensors")
    assert error(logits(loaded, images(224, 224)), logits(theirs, images(224, 224))) < 1e-4
    embedding = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    save_file(state(embedding), tmp_path / "vit.safetensors")
    assert hv.create_model("vit_tiny_patch16_224", file=tmp_path / "vit.safetensors").spec.num_classes == 0


def test_a_file_of_a_model_that_another_package_has_no_names_for(tmp_path: Path) -> None:
    """transformers has no layer scales in a `vit`, so that its layout is no candidate."""
    name = "vit_base_patch16_plus_240"
    theirs = timm.create_model(name, num_classes=4, img_size=32).eval()
    perturb(theirs)
    save_file(state(theirs), tmp_path / "vit.safetensors")
    loaded = hv.create_model(name, file=tmp_path / "vit.safetensors", img_size=32)
    assert error(logits(loaded, images(32, 32)), logits(theirs, images(32, 32))) < 1e-4


def test_a_file_of_another_size_and_channels(tmp_path: Path) -> None:
    model = described(TINY, num_classes=4, in_chans=1, img_size=48)
    save_file(state(model), tmp_path / "mine.safetensors")
    loaded = hv.create_model(TINY, file=tmp_path / "mine.safetensors", in_chans=1, img_size=48)
    assert torch.equal(logits(loaded, images(48, 48, 1)), logits(model, images(48, 48, 1)))
    with pytest.raises(KeyMismatchError, match=r"of another shape: .*stages\.0\.position\.table is"):
        hv.create_model(TINY, file=tmp_path / "mine.safetensors")


def test_files_that_are_none(tmp_path: Path, saved: str) -> None:
    with pytest.raises(WeightsNotFoundError, match=r"no weight file .*gone\.safetensors"):
        hv.create_model(TINY, file=tmp_path / "gone.safetensors")
    with pytest.raises(ValueError, match="file= goes with the name of an architecture, not with 'local-dir:"):
        hv.create_model(saved, file=tmp_path / "gone.safetensors")


def test_a_foreign_safetensors_file(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(3), "b.bias": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(KeyMismatchError, match=r"other\.safetensors does not fit the model.*") as caught:
        hv.create_model(TINY, file=tmp_path / "other.safetensors")
    assert "a.weight, b.bias" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{}", b'\x10\0\0\0\0\0\0\0{"a":1}', b"PK\x03\x04" + bytes(100)])
def test_what_is_no_safetensors_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"broken\.safetensors is no readable safetensors file.*download it again"):
        hv.create_model(TINY, file=tmp_path / "broken.safetensors")


@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_a_truncated_file(kept: float, saved: str) -> None:
    path = Path(saved.removeprefix("local-dir:")) / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(WeightsError, match=r"truncated or something else; download it again"):
        hv.create_model(saved)


# Pickles


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/never-made-by-a-test"),))


def test_a_pickle_is_refused_unless_it_is_allowed(saved: str) -> None:
    directory = Path(saved.removeprefix("local-dir:"))
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"is a pickle, which can run code.*allow_pickle=True if you trust it"):
        hv.create_model(saved)
    loaded = hv.create_model(saved, allow_pickle=True)
    assert torch.equal(logits(loaded, images(24, 32)), logits(tiny(), images(24, 32)))


def test_safetensors_come_before_a_pickle(saved: str) -> None:
    (Path(saved.removeprefix("local-dir:")) / "pytorch_model.bin").write_bytes(b"rubbish")
    assert hv.create_model(saved, allow_pickle=True).labels == LABELS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Evil(), "cannot be read as tensors only"),
        ({"model": Evil()}, "cannot be read as tensors only"),
        (torch.ones(3), "holds no state dict"),
        ({"epoch": 3, "lr": 0.1}, "holds no state dict"),
    ],
)
def test_nothing_in_a_pickle_is_run(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=message):
        hv.create_model(TINY, file=tmp_path / "evil.pth", allow_pickle=True)
    assert not Path("/tmp/never-made-by-a-test").exists()


def test_a_plain_pickle_is_not_run_either(tmp_path: Path) -> None:
    (tmp_path / "evil.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError, match="cannot be read as tensors only"):
        hv.create_model(TINY, file=tmp_path / "evil.bin", allow_pickle=True)
    assert not Path("/tmp/never-made-by-a-test").exists()


# Released weights


def test_weights_that_ship_with_the_package() -> None:
    model = hv.create_model(TINY, pretrained=True)
    assert facts(model) == facts(hv.create_model(SHIPPED, pretrained=True))
    (entry,) = entries_of(TINY)
    assert model.labels == entry.labels
    assert model.preprocess == entry.preprocess
    assert model.spec == model_spec(TINY).replace(in_chans=1, img_size=(28, 28))
    assert model.origin == {"architecture": TINY, "source": SHIPPED, "licence": "apache-2.0"}
    three = hv.create_model(SHIPPED, pretrained=True, in_chans=3, num_classes=4)
    assert three(images(32, 32)).shape == (3, 4)


def test_released_weights_come_from_the_hub(loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    (entry, *_) = entries_of(name)
    model, batch = described(name), images(48, 32)
    hv.push_to_hub(model, entry.source.removeprefix("hf:"), endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    hub = client(loopback_hub, tmp_path)
    loaded = hv.create_model(name, pretrained=True, **hub)
    assert torch.equal(logits(loaded, batch), logits(model, batch))
    assert loaded.labels is not None
    assert loaded.labels[207] == "golden retriever"
    assert loaded.preprocess == entry.preprocess
    assert loaded.origin is not None
    assert (loaded.origin["source"], loaded.origin["licence"]) == (entry.name, "apache-2.0")
    assert loaded.origin["base_model"] == entry.source.removeprefix("hf:")
    assert len(loaded.origin["commit"]) == 40
    fewer = hv.create_model(entry.name, pretrained=True, num_classes=3, in_chans=1, img_size=64, **hub)
    assert fewer(images(64, 64, 1)).shape == (3, 3)
    assert fewer.labels is None


def structural(entry: WeightEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads an entry with tensors that have the names and shapes of timm's model and no memory."""
    with without_memory():
        theirs = timm.create_model(entry.name).state_dict()
    monkeypatch.setattr(resolve.Recorded, "tensors", lambda files, allow_pickle, name, prefix: theirs)
    monkeypatch.setattr(loading, "_initialise_missing", lambda model, spec, missing: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightsWarning)
        model = hv.create_model(entry.name, pretrained=True, allow_pickle=True)
    classes = len(model.labels or ())
    assert classes in (0, entry.num_classes)
    assert model.spec.num_classes == entry.num_classes
    assert model.preprocess == entry.preprocess


TIMMS = [entry for entry in entries().values() if entry.layout == "timm"]
REPRESENTATIVE = [entry for entry in TIMMS if entry.architecture in representatives()]


@pytest.mark.parametrize("entry", REPRESENTATIVE, ids=lambda entry: entry.name)
def test_timms_weights_fit(entry: WeightEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    structural(entry, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("entry", [e for e in TIMMS if e not in REPRESENTATIVE], ids=lambda entry: entry.name)
def test_timms_other_weights_fit(entry: WeightEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    structural(entry, monkeypatch)


def test_a_licence_that_forbids_commercial_use_is_said(tmp_path: Path) -> None:
    model = tiny()
    model.origin = {"architecture": TINY, "licence": "cc-by-nc-4.0"}
    hv.save_pretrained(model, tmp_path)
    with pytest.warns(WeightsWarning, match=f"{tmp_path} is licensed cc-by-nc-4.0: not for commercial use"):
        hv.create_model(f"local-dir:{tmp_path}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once a process and name
        hv.create_model(f"local-dir:{tmp_path}")


# Weights behind an address


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightEntry:
    """An entry of a pickle behind an address that is in the cache, so that nothing is downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model, path = described(TINY, num_classes=5), tmp_path / "hub" / "checkpoints" / "model.pth"
    path.parent.mkdir(parents=True)
    tensors = {f"module.{key}": tensor for key, tensor in model.state_dict().items()}
    torch.save({"encoder": tensors, "text": {"bias": torch.zeros(2)}, "epoch": 3}, path)
    entry = WeightEntry(
        name=f"{TINY}.behind",
        source="url:https://nowhere.invalid/model.pth",
        layout="hybridvit",
        prefix="encoder.module.",
        num_classes=5,
        labels=LABELS,
        preprocess=Preprocess(input_size=(32, 32)),
    )
    for module in (loading, resolve):
        monkeypatch.setattr(module, "find_entry", lambda name: entry)
    return entry


def test_weights_behind_an_address(released: WeightEntry) -> None:
    model = hv.create_model(released.name, pretrained=True, allow_pickle=True)
    assert torch.equal(logits(model, images(32, 32)), logits(described(TINY, num_classes=5), images(32, 32)))
    assert (model.labels, model.preprocess) == (LABELS, released.preprocess)
    assert model.origin == {"architecture": TINY, "source": released.name, "licence": "unknown"}
    assert model.resolved is not None
    assert (model.resolved.source, model.resolved.files[0].name) == (released.source, "model.pth")


def test_a_pickle_is_refused_before_it_is_downloaded(released: WeightEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "downloaded_file", lambda *arguments: pytest.fail("it was downloaded"))
    message = rf"{released.name} \(https://nowhere.invalid/model.pth\) is a pickle.*allow_pickle=True"
    with pytest.raises(WeightsError, match=message):
        hv.create_model(released.name, pretrained=True)


@pytest.mark.parametrize("sha256", ["", "0123abcd"])
def test_damage_behind_an_address_is_removed(
    sha256: str, released: WeightEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the cache of downloads alone; with a hash, which is checked before, it is no damage."""
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "model.pth"
    file.write_bytes(b"no weights")
    entry = dataclasses.replace(released, sha256=sha256)
    for module in (loading, resolve):
        monkeypatch.setattr(module, "find_entry", lambda name: entry)
    monkeypatch.setattr(resolve, "downloaded_file", lambda *arguments: file)
    with pytest.raises(WeightsError, match=r"model\.pth cannot be read as tensors only") as caught:
        hv.create_model(released.name, pretrained=True, allow_pickle=True, cache_dir=tmp_path)
    removed = "It is removed; try again, and it is downloaded again"
    assert (removed in str(caught.value), file.exists()) == ((True, False) if not sha256 else (False, True))
    own = tmp_path / "own.pth"
    own.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match=r"own\.pth cannot be read as tensors only"):
        hv.create_model(TINY, file=own, allow_pickle=True)
    assert own.exists()


# A load while something else is saved there


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Encoder]]:
    """Saves another model into the directory `saved` after its config was read, so many times; gives what it saved."""

    def during(times: int) -> list[Encoder]:
        models = [tiny(seed) for seed in range(1, times + 1)]
        for number, model in enumerate(models):
            model.labels = tuple(f"{number} {label}" for label in LABELS)
        left = iter(models)
        read_json = loading.read_json

        def reading(path: Path) -> dict[str, Any]:
            config = read_json(path)
            model = next(left, None)
            if model is not None:
                hv.save_pretrained(model, path.parent)
            return config

        monkeypatch.setattr(loading, "read_json", reading)
        return models

    return during


@pytest.mark.parametrize("by_file", [False, True])
def test_a_save_during_a_load_is_seen(
    by_file: bool, saved: str, read: Callable[[int], list[Encoder]], tmp_path: Path
) -> None:
    last = read(2)[-1]
    model = hv.create_model(str(tmp_path / "saved" / "model.safetensors") if by_file else saved)
    assert torch.equal(logits(model, images(24, 32)), logits(last, images(24, 32)))
    assert facts(model) == facts(last)
    assert model.resolved is not None
    assert model.resolved.files[-1].sha256


def test_a_load_that_never_comes_to_an_end(saved: str, read: Callable[[int], list[Encoder]], tmp_path: Path) -> None:
    read(3)
    with pytest.raises(WeightsError, match=rf"{tmp_path / 'saved'} was saved or pulled into again during each of 3"):
        hv.create_model(saved)


def test_a_file_that_is_moved_during_a_load_is_found(
    saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whatever finishes a save that was killed."""
    directory, batch = tmp_path / "saved", images(24, 32)
    hv.save_pretrained(tiny(seed=1), tmp_path / "saved" / ".pending")
    get, read = LocalFiles.get, iter(range(2))

    def getting(files: LocalFiles, name: str) -> Path | None:
        path = get(files, name)
        if name == "model.safetensors" and not next(read, 1):
            finish_pending(directory)
        return path

    monkeypatch.setattr(LocalFiles, "get", getting)
    assert torch.equal(logits(hv.create_model(saved), batch), logits(tiny(seed=1), batch))


@pytest.mark.parametrize("earlier", [True, False])
def test_a_weight_file_of_a_killed_save(earlier: bool, tmp_path: Path) -> None:
    """Its config and weights are taken from one place, also where there was no model before."""
    if earlier:
        hv.save_pretrained(tiny(), tmp_path)
    new, batch = tiny(seed=1), images(24, 32)
    hv.save_pretrained(new, tmp_path / ".pending")
    path = tmp_path / "model.safetensors"
    assert torch.equal(logits(hv.create_model(str(path)), batch), logits(new, batch))
    by_architecture = hv.create_model(TINY, file=path, img_size=(24, 32))
    assert torch.equal(logits(by_architecture, batch), logits(new, batch))


# What was asked for, in precisions, sizes, channels and places other than those of the weights


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fresh_parts_have_the_precision_of_the_rest(dtype: torch.dtype, tmp_path: Path) -> None:
    half = tiny().to(dtype)
    name = f"local-dir:{hv.save_pretrained(half, tmp_path / 'half')}"
    other = hv.create_model(name, num_classes=7)
    assert {each.dtype for each in other.parameters()} == {dtype}
    assert other(images(24, 32).to(dtype)).shape == (3, 7)
    body = {key: tensor for key, tensor in half.state_dict().items() if key.startswith("stages.")}
    partial = loading.fill(half.spec, body, None, "a part", covers=("stages.",))
    assert {each.dtype for each in partial.parameters()} == {dtype}


def test_figures_go_with_the_classifier(tmp_path: Path) -> None:
    model, known = tiny(), {"licence": "mit", "base_model": "me/start"}
    model.origin = {"architecture": TINY, "val_accuracy": 0.8125, "epoch": 3, "recipe": {"epochs": 4}}
    told = {"metrics": {"top1": 0.5}, "datasets": ["five"], "description": "Five animals."}
    name = f"local-dir:{hv.save_pretrained(model, tmp_path / 'saved', **known, **told)}"
    kept = {"architecture": TINY, "recipe": {"epochs": 4}, **known}
    for other in (hv.create_model(name, num_classes=3), with_num_classes(hv.create_model(name), 5)):
        assert other.origin == kept
        card = (hv.save_pretrained(other, tmp_path / "other") / "README.md").read_text()
        assert not any(word in card for word in ("top1", "0.8125", "five", "Five"))
    assert hv.create_model(name, num_classes=5).origin == kept | told | {"val_accuracy": 0.8125, "epoch": 3}


def test_a_config_that_is_pushed_in_the_middle_is_not_seen(
    loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = described(TINY, num_classes=4), described(TINY, 3, num_classes=4)
    save_file(first.state_dict(), tmp_path / "model.safetensors")
    api.create_repo("me/bare")
    api.upload_file(repo_id="me/bare", path_in_repo="model.safetensors", path_or_fileobj=tmp_path / "model.safetensors")
    recognised = loading._recognised  # pyright: ignore[reportPrivateUsage]

    def pushed_before(*arguments: Any) -> Any:
        hv.push_to_hub(second, "me/bare", endpoint=loopback_hub.endpoint, token=loopback_hub.token)
        return recognised(*arguments)

    monkeypatch.setattr(loading, "_recognised", pushed_before)
    loaded = hv.create_model("hf-hub:me/bare", **client(loopback_hub, tmp_path / "cache"))
    assert torch.equal(loaded.state_dict()["head.weight"], first.state_dict()["head.weight"])
    monkeypatch.undo()
    after = hv.create_model("hf-hub:me/bare", **client(loopback_hub, tmp_path / "cache"))
    assert facts(after) == facts(second)


def cached_as_a_whole(hub: LoopbackHub, api: HfApi, files: dict[str, dict[str, Tensor]], tmp_path: Path) -> None:
    """A repository `me/whole` of these weight files, all of it in the cache, where no note says what it has not."""
    api.create_repo("me/whole", exist_ok=True)
    for name, tensors in files.items():
        save_file(tensors, tmp_path / name)
        api.upload_file(repo_id="me/whole", path_in_repo=name, path_or_fileobj=tmp_path / name)
    snapshot_download("me/whole", **client(hub, tmp_path / "cache"))


@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:9"])
def test_a_whole_snapshot_loads_offline(
    endpoint: str | None, loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny()
    saved = hv.save_pretrained(model, tmp_path / "saved")
    tensors = load_file(saved / "model.safetensors")
    shards = {f"model-{part}.safetensors": dict(list(tensors.items())[part::2]) for part in (0, 1)}
    index = {"weight_map": {key: name for name, held in shards.items() for key in held}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    api.create_repo("me/whole")
    for name in ("config.json", "model.safetensors.index.json"):
        api.upload_file(repo_id="me/whole", path_in_repo=name, path_or_fileobj=saved / name)
    cached_as_a_whole(loopback_hub, api, shards, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", endpoint is None)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if endpoint else "error", WeightsWarning)
        loaded = hv.create_model("hf-hub:me/whole", endpoint=endpoint, cache_dir=tmp_path / "cache")
    assert facts(loaded) == facts(model)
    assert torch.equal(logits(loaded, images(24, 32)), logits(model, images(24, 32)))
    for gone in (tmp_path / "cache").rglob("model-1.safetensors"):
        gone.unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsNotFoundError, match="me/whole is not in the cache and HF_HUB_OFFLINE is set; connect"):
        hv.create_model("hf-hub:me/whole", cache_dir=tmp_path / "cache")


def test_a_snapshot_without_a_config_loads_offline(
    loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, lock = described(TINY, num_classes=4), tmp_path / "weights.lock"
    cached_as_a_whole(loopback_hub, api, {"model.safetensors": model.state_dict()}, tmp_path)
    hv.lock("hf-hub:me/whole", lock, **client(loopback_hub, tmp_path / "other"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.warns(WeightsWarning, match="me/whole has no config.json in the cache, and the Hub does not say"):
        loaded = hv.create_model("hf-hub:me/whole", cache_dir=tmp_path / "cache")
    assert torch.equal(logits(loaded, images(32, 32)), logits(model, images(32, 32)))
    assert loaded.resolved is not None
    files = HubFiles("me/whole", cache_dir=tmp_path / "cache")
    assert files.get("model.safetensors.index.json") is None
    with pytest.warns(WeightsWarning, match="me/whole has no preprocessor_config.json in the cache"):
        assert files.get("preprocessor_config.json") is None
    locked = hv.create_model("hf-hub:me/whole", lock=lock, cache_dir=tmp_path / "cache")
    assert locked.resolved is not None
    assert locked.resolved.commit == loaded.resolved.commit


@pytest.mark.parametrize(
    ("held", "asked", "got"),
    [
        ({"in_chans": 1}, {}, (1, 32)),
        ({"in_chans": 1}, {"in_chans": 3}, (3, 32)),
        ({"in_chans": 1}, {"in_chans": 1, "img_size": 64}, (1, 64)),
        ({"in_chans": 1}, {"in_chans": 2, "img_size": 64}, (2, 64)),
        ({"in_chans": 1, "img_size": 64}, {"in_chans": 3, "img_size": 64}, (3, 64)),
        ({"img_size": 64}, {"in_chans": 1, "img_size": 64, "num_classes": 4}, (1, 64)),
    ],
)
def test_the_channels_of_a_file_and_its_size_are_independent(
    held: dict[str, Any], asked: dict[str, Any], got: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(described(TINY, **held).state_dict(), path)
    model = hv.create_model(TINY, file=path, **asked)
    assert (model.spec.in_chans, model.spec.img_size[0]) == got
    tensors = load_file(path)
    same = [key for key, tensor in model.state_dict().items() if tensor.shape == tensors[key].shape]
    assert len(same) > len(tensors) - 4
    assert all(torch.equal(model.state_dict()[key], tensors[key]) for key in same)


@pytest.mark.parametrize("classes", [(1 << 20) + 1, 2.5])
def test_a_request_that_cannot_be_is_not_blamed_on_the_config(classes: Any, saved: str) -> None:
    with pytest.raises(ValueError, match=r"^num_classes must be a whole number of at most 1,048,576, got"):
        hv.create_model(saved, num_classes=classes)


def test_warnings_that_are_errors_stay_warnings(
    loopback_hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    name = f"local-dir:{hv.save_pretrained(model, tmp_path / 'nan')}"
    hv.push_to_hub(tiny(), "me/model", endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    hv.create_model("hf-hub:me/model", **client(loopback_hub, tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(WeightsWarning, match="NaN or infinite"):
            hv.create_model(name)
        with pytest.raises(WeightsWarning, match="from the cache"):
            hv.create_model("hf-hub:me/model", cache_dir=tmp_path / "cache", endpoint="http://127.0.0.1:9")


def test_a_revision_goes_with_the_hub_alone(saved: str, released: WeightEntry) -> None:
    path = saved.removeprefix("local-dir:") + "/model.safetensors"
    cases: list[tuple[str, dict[str, Any]]] = [(saved, {}), (path, {}), (TINY, {"file": path})]
    for name, more in [*cases, (released.name, {"pretrained": True})]:
        with pytest.raises(
            ValueError, match=r"revision= goes with a repository on the Hub, not with (local|file|url):?"
        ):
            hv.create_model(name, revision="v1", allow_pickle=True, **more)


@pytest.mark.parametrize(("name", "revision"), [("hf-hub:me/x@", None), ("hf-hub:me/x@", "v1"), ("hf-hub:me/x", "")])
def test_an_empty_revision_is_not_the_main_one(name: str, revision: str | None) -> None:
    with pytest.raises(ValueError, match=r"'me/x@?' has an empty revision; name a branch, tag or commit"):
        hv.create_model(name, revision=revision)


@pytest.mark.parametrize("name", ["levit_128s.ft/best", "./levit_128s.ft/best", "run.pt"])
def test_a_directory_that_is_called_like_a_file_or_a_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hv.save_pretrained(tiny(), name)
    for given in (name, Path(name)):
        assert facts(loading.load_model(given)) == facts(tiny())
    for pretrained in (False, True):
        with pytest.raises(WeightsNotFoundError, match=rf"{name} is a directory, .*: local-dir:{name}"):
            hv.create_model(name, pretrained)
    with pytest.raises(WeightsNotFoundError, match=r"is a directory, expected a weight file; .* without an architect"):
        hv.convert(name, "out.safetensors", model=TINY)
    with pytest.raises(WeightsNotFoundError, match="is a directory, expected a weight file"):
        hv.create_model(TINY, file=name)


def test_an_architecture_beside_a_repository(tmp_path: Path) -> None:
    for place in ("hf-hub:me/model", f"local-dir:{tmp_path}"):
        with pytest.raises(
            ValueError,
            match=f"{place} is loaded by itself: .* or name the file, which of a repository `hybridvit",
        ):
            hv.lock(place, tmp_path / "weights.lock", model=TINY)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors.index.json", b"{}", "it lists the files of weights: name their directory"),
        ("config.json", b"{}", "name the file with the tensors"),
        ("model.onnx", b"\x08\x07", "name the file with the tensors"),
        ("empty", b"", "name the file with the tensors"),
    ],
)
@pytest.mark.parametrize("allow_pickle", [False, True])
def test_what_is_no_weight_file_is_not_called_a_pickle(
    name: str, content: bytes, message: str, allow_pickle: bool, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name} is no weight file, which is a .safetensors .*; {message}"):
        hv.create_model(TINY, file=tmp_path / name, allow_pickle=allow_pickle)


@pytest.mark.parametrize("old", [False, True])
def test_a_pickle_of_any_name(old: bool, tmp_path: Path) -> None:
    torch.save(described(TINY).state_dict(), tmp_path / "best", _use_new_zipfile_serialization=not old)
    assert hv.create_model(TINY, file=tmp_path / "best", allow_pickle=True).spec == model_spec(TINY)
    with pytest.raises(WeightsError, match="best is a pickle, which can run code"):
        hv.create_model(TINY, file=tmp_path / "best")


def test_names_of_tensors_are_text(tmp_path: Path) -> None:
    path = tmp_path / "numbered.bin"
    torch.save({0: torch.zeros(1), "head.weight": torch.zeros(2)}, path)
    for load in (
        lambda: hv.create_model(TINY, file=path, allow_pickle=True),
        lambda: hv.create_model(str(path), allow_pickle=True),
    ):
        with pytest.raises(WeightsError, match=r"numbered.bin holds no state dict: 0 is not the name of a tensor"):
            load()
