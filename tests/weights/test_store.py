"""Saved models: what a directory holds, that it replaces another as a whole, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

import hybridvit as hv
from hybridvit.meta import without_memory
from hybridvit.registry import family_of, model_spec
from hybridvit.spec import SpecError
from hybridvit.weights import exclusive, store
from hybridvit.weights.card import model_card
from hybridvit.weights.store import WeightsError, model_config, timm_fields
from tests.hub.conftest import run_python
from tests.parity import images
from tests.weights.examples import LABELS, TINY, described, facts, logits, tiny

NAMES = ["README.md", "config.json", "model.safetensors"]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def load(directory: Path) -> Any:
    return hv.create_model(f"local-dir:{directory}")


def rewrite(directory: Path, **changes: Any) -> None:
    """Changes fields of a config; None takes one away."""
    config = json.loads((directory / "config.json").read_text()) | changes
    (directory / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


# What is saved


def test_a_directory_holds_everything(tmp_path: Path) -> None:
    model = tiny()
    assert hv.save_pretrained(model, tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert names(tmp_path / "a" / "b") == NAMES
    again = load(tmp_path / "a" / "b")
    assert facts(again) == facts(model)
    assert torch.equal(logits(again, images(24, 32)), logits(model, images(24, 32)))
    assert again.state_dict().keys() == model.state_dict().keys()
    with safe_open(tmp_path / "a" / "b" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}, "transformers and timm ask for it"


def test_saving_leaves_the_model_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    model = tiny().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    before = {key: (tensor.data_ptr(), tensor.stride()) for key, tensor in model.state_dict().items()}
    hv.save_pretrained(model, tmp_path)
    assert {key: (tensor.data_ptr(), tensor.stride()) for key, tensor in model.state_dict().items()} == before
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert names(tmp_path) == sorted([*NAMES, "notes.txt"])


def test_half_precision_stays_half(tmp_path: Path) -> None:
    hv.save_pretrained(tiny().to(torch.bfloat16), tmp_path)
    assert {tensor.dtype for tensor in load(tmp_path).parameters()} == {torch.bfloat16}


def test_a_model_of_no_name_is_saved_with_its_spec(tmp_path: Path) -> None:
    """Loading needs the spec alone, whatever became of the architecture that it started as."""
    other = tiny().spec.replace(num_classes=2).build().eval()
    hv.save_pretrained(other, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["architecture"], config["layout"], config["origin"]) == (None, "hybridvit", None)
    assert torch.equal(logits(load(tmp_path), images(24, 32)), logits(other, images(24, 32)))


def test_labels_are_one_a_class(tmp_path: Path) -> None:
    model = tiny()
    model.labels = LABELS[:4]
    with pytest.raises(ValueError, match=r"model\.labels has 4 names for 5 classes; set one a class, or None"):
        hv.save_pretrained(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_timm_finds_its_fields() -> None:
    config = model_config(described("vit_tiny_patch16_224", num_classes=5, img_size=(32, 48)))
    assert config["layout"] == "timm"
    assert config["architecture"] == "vit_tiny_patch16_224"
    assert config["model_args"] == {"img_size": [32, 48]}
    assert config["label_names"] == list(LABELS)
    fields = config["pretrained_cfg"]
    assert (fields["classifier"], fields["first_conv"]) == ("head", "patch_embed.proj")
    assert (fields["input_size"], fields["fixed_input_size"], fields["license"]) == ([3, 32, 48], True, "mit")


@pytest.mark.parametrize(
    ("name", "classifier", "first_conv"),
    [
        ("deit_tiny_distilled_patch16_224", ["head", "head_dist"], "patch_embed.proj"),
        ("vit_small_r26_s32_224", "head", "patch_embed.backbone.stem.conv"),
        ("resnet18", "fc", "conv1"),
        ("coatnet_0_rw_224", "head.fc", "stem.conv1"),
    ],
)
def test_timm_is_told_what_changes_with_classes_and_channels(name: str, classifier: Any, first_conv: Any) -> None:
    with without_memory():
        model = model_spec(name).build()
    model.preprocess = model.origin = None
    fields = timm_fields(model, family_of(name), name)["pretrained_cfg"]
    assert fields["classifier"] == classifier
    assert fields["first_conv"] == first_conv


@pytest.mark.parametrize(
    ("name", "changes", "arguments"),
    [
        ("vit_tiny_patch16_224", {"img_size": (32, 48)}, {"img_size": [32, 48]}),  # a table of positions
        ("mobilevit_xxs", {"in_chans": 1}, {"in_chans": 1}),
        ("tiny_vit_5m_224", {"img_size": (96, 96)}, {}),  # windows of its own, whatever the size
        ("vit_small_patch16_rope_224", {"img_size": (96, 96)}, {"img_size": [96, 96]}),  # nothing here depends on it
        ("swinv2_tiny_window8_256", {}, {"img_size": [256, 256]}),  # not the size that timm's class is for
        ("test_maxvit", {"img_size": (320, 320)}, {"img_size": [160, 160]}),  # that of its windows
    ],
)
def test_timm_is_told_what_its_layers_depend_on(name: str, changes: Any, arguments: dict[str, Any]) -> None:
    config = model_config(on_meta(name, **changes))
    assert config["layout"] == "timm"
    assert config["model_args"] == arguments
    is_for_the_size = arguments.get("img_size") == list(changes.get("img_size", (256, 256)))
    assert config["pretrained_cfg"]["fixed_input_size"] == is_for_the_size


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("swin_tiny_patch4_window7_224", (256, 256)),  # maps that windows do not divide
        ("swinv2_tiny_window16_256", (256, 512)),
        ("test_maxvit", (160, 320)),
        ("efficientformer_l1", (256, 256)),  # tables of one size
    ],
)
def test_what_timm_computes_otherwise_is_for_us_alone(name: str, size: tuple[int, int]) -> None:
    config = model_config(on_meta(name, img_size=size))
    assert config["layout"] == "hybridvit"
    assert "pretrained_cfg" not in config
    assert model_config(on_meta(name))["layout"] == "timm"


def on_meta(name: str, **changes: Any) -> Any:
    with without_memory():
        model = model_spec(name).replace(**changes).build()
    model.preprocess, model.origin = None, {"architecture": name}
    return model


# A save that does not end


class Killed(BaseException):
    pass


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ends a save at its n-th renaming as a kill does: nothing after it runs, no cleaning up either."""

    def kill(moment: int) -> None:
        calls = iter(range(moment))
        replace = os.replace

        def replacing(source: Any, target: Any) -> None:
            if next(calls, None) is None:
                raise Killed
            replace(source, target)

        monkeypatch.setattr(store.os, "replace", replacing)
        monkeypatch.setattr(store.shutil, "rmtree", lambda *_, **__: None)

    return kill


@pytest.mark.parametrize("moment", range(4))
def test_a_save_that_is_killed_leaves_the_old_model_or_the_new(
    moment: int, killed_at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, batch = tiny(seed=1), tiny(seed=2), images(24, 32)
    new.labels = tuple(label.upper() for label in LABELS)
    hv.save_pretrained(old, tmp_path)
    with monkeypatch.context():
        killed_at(moment)
        with pytest.raises(Killed):
            hv.save_pretrained(new, tmp_path)
        monkeypatch.undo()
    expected = old if moment == 0 else new
    found = load(tmp_path)
    assert torch.equal(logits(found, batch), logits(expected, batch))
    assert found.labels == expected.labels

    last = tiny(seed=3)
    hv.save_pretrained(last, tmp_path)
    assert torch.equal(logits(load(tmp_path), batch), logits(last, batch))
    assert names(tmp_path) == NAMES, "nothing of the save that was killed is left"


def test_the_whole_save_renames_four_times(killed_at: Any, tmp_path: Path) -> None:
    """So that the test above covers every moment."""
    killed_at(4)
    hv.save_pretrained(tiny(), tmp_path)
    assert set(NAMES) <= set(names(tmp_path))


FULL_DISK = """
import resource, signal, sys
from hybridvit.weights.store import save_pretrained
from tests.weights.examples import tiny
model = tiny(seed=2)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_pretrained(model, sys.argv[1])
except OSError as error:
    print(error)
"""


def test_what_cannot_be_written_leaves_the_earlier_files(tmp_path: Path) -> None:
    """The kernel refuses to write more than a part of the weights, as on a full disk."""
    old = tiny(seed=1)
    hv.save_pretrained(old, tmp_path)
    shown = run_python("-c", FULL_DISK, str(tmp_path))
    assert f"{tmp_path / 'model.safetensors'} could not be written" in shown
    assert "earlier files are intact" in shown
    assert names(tmp_path) == NAMES
    assert torch.equal(logits(load(tmp_path), images(24, 32)), logits(old, images(24, 32)))


def test_a_full_disk_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        hv.save_pretrained(tiny(), tmp_path / "new")
    assert names(tmp_path / "new") == []


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match=f"{tmp_path}/file is a file; name a directory"):
        hv.save_pretrained(tiny(), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_safetensors_errors_are_os_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(store, "save_file", refuse)
    with pytest.raises(OSError, match=r"model\.safetensors could not be written .*No space left.*earlier files"):
        hv.save_pretrained(tiny(), tmp_path)
    assert names(tmp_path) == []


# What is refused


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return hv.save_pretrained(tiny(), tmp_path / "saved")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"config\.json is not JSON .*save or download the model again"),
        ('{"format_version": 1, "spec"', r"config\.json is not JSON"),
        ("[1, 2]", r"config\.json holds list, expected an object"),
        ("[" * 100_000, r"config\.json is not JSON"),
        ("{}", "is neither hybridvit's"),
        ('{"format_version": 1}', "its config.json has no 'spec'; save the model again"),
        ('{"format_version": 1, "spec": 3}', "its config.json has no 'spec'"),
    ],
)
def test_a_config_that_is_none(content: str, message: str, saved: Path) -> None:
    (saved / "config.json").write_text(content)
    with pytest.raises(WeightsError, match=message):
        load(saved)


def test_a_config_in_another_encoding(saved: Path) -> None:
    (saved / "config.json").write_bytes(b"\xff\xfe{\x00}\x00")
    with pytest.raises(WeightsError, match=r"config\.json is not JSON"):
        load(saved)


@pytest.mark.parametrize("version", [2, "2", 0])
def test_another_format_version(version: Any, saved: Path) -> None:
    rewrite(saved, format_version=version)
    with pytest.raises(
        WeightsError, match=rf"has format version {version!r}, this is hybridvit .*pip install --upgrade"
    ):
        load(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preprocess": {"input_size": [28, 28], "gamma": 2}}, "the 'preprocess' in its config.json cannot be read"),
        ({"preprocess": "imagenet"}, "the 'preprocess' in its config.json cannot be read"),
        ({"preprocess": {"mean": ["a"], "std": [1]}}, "mean and std must be numbers"),
        ({"layout": "timm", "architecture": ["x"]}, "its config.json describes no model"),
        ({"labels": "abcde"}, "the 'labels' in its config.json are no list of names"),
        ({"labels": [1, 2, 3, 4, 5]}, "the 'labels' in its config.json are no list of names"),
        ({"origin": "the net"}, "the 'origin' in its config.json is no table"),
        ({"layout": "timm"}, f"no layout 'timm' of an architecture '{TINY}' is known here"),
        (
            {"layout": "timm", "architecture": "vit_huge_patch2"},
            "no layout 'timm' of an architecture 'vit_huge_patch2'",
        ),
    ],
)
def test_fields_that_cannot_be_read(changes: dict[str, Any], message: str, saved: Path) -> None:
    rewrite(saved, **changes)
    with pytest.raises(WeightsError, match=message):
        load(saved)


def spec_of(saved: Path) -> dict[str, Any]:
    return json.loads((saved / "config.json").read_text())["spec"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("kind",), "Tree", "Tree"),
        (("stages", 0, "blocks", 0, "of", "branches", 0, "mixer", "kind"), "Atention", "'Atention'"),
        (("stages", 0, "blocks", 0, "of", "branches", 0, "mixer", "shift"), 3, "shift"),
        (("num_classes",), "five", "num_classes"),
    ],
)
def test_a_spec_that_is_not_known(path: tuple[Any, ...], value: Any, message: str, saved: Path) -> None:
    spec = spec_of(saved)
    part: Any = spec
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    rewrite(saved, spec=spec)
    with pytest.raises(SpecError, match=message):
        load(saved)


def test_a_missing_weight_file(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has neither model\.safetensors nor pytorch_model\.bin"):
        load(saved)


def test_labels_are_counted(saved: Path) -> None:
    rewrite(saved, labels=["a", "b"])
    with pytest.raises(WeightsError, match=r"its config\.json has 2 labels for 5 classes; correct it"):
        load(saved)


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": 5},
        {"architecture": "resnet18", "pretrained_cfg": None},
        {"architecture": "resnet18", "model_args": [1]},
        {"architecture": "resnet18", "num_classes": "ten"},
        {"model_type": ["vit"]},
        {"model_type": "vit", "image_size": "x", "hidden_size": 8, "num_attention_heads": 2},
        {"model_type": "vit", "hidden_size": 0, "intermediate_size": 0, "num_attention_heads": 0},
    ],
)
def test_a_config_of_nonsense_is_named(config: dict[str, Any], saved: Path) -> None:
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=re.escape(str(saved))):
        load(saved)


def test_a_copy_of_a_directory_loads(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    assert load_file(tmp_path / "copy" / "model.safetensors").keys() == load_file(saved / "model.safetensors").keys()
    assert facts(load(tmp_path / "copy")) == facts(load(saved))


# A part of a file


def test_tensors_below_a_prefix(tmp_path: Path) -> None:
    one, two = torch.zeros(2), torch.ones(3)
    save_file({"visual.a.b": one, "text.a.b": two}, tmp_path / "model.safetensors")
    assert store.read_tensors(tmp_path / "model.safetensors", prefix="visual.").keys() == {"a.b"}
    torch.save(
        {"encoder": {"module.a.b": one, "module.c": two}, "predictor": {"module.c": two}}, tmp_path / "model.pth"
    )
    found = store.read_tensors(tmp_path / "model.pth", allow_pickle=True, prefix="encoder.module.")
    assert found.keys() == {"a.b", "c"}
    assert torch.equal(found["c"], two)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_nothing_below_a_prefix(name: str, tmp_path: Path) -> None:
    save = save_file if name.endswith(".safetensors") else torch.save
    save({"trunk.a": torch.zeros(2)}, tmp_path / name)
    with pytest.raises(
        WeightsError, match=rf"{name} has no tensor whose name begins with 'visual\.'; it has: trunk\.a"
    ):
        store.read_tensors(tmp_path / name, allow_pickle=True, prefix="visual.")


def test_timms_names_do_not_make_timm_load_what_it_computes_differently(tmp_path: Path) -> None:
    """Swin at 200 pixels, whose maps windows do not divide."""
    with without_memory():
        model = hv.create_model("swin_tiny_patch4_window7_224", img_size=200, num_classes=2)
    config = model_config(model, "timm")
    assert config["layout"] == "timm"
    assert not {"pretrained_cfg", "model_args", "label_names"} & config.keys()
    text = model_card(model, config, "me/swin")
    assert "timm.create_model" not in text
    assert "- timm" not in text
    assert "pretrained_cfg" in model_config(described("vit_tiny_patch16_224", num_classes=2, img_size=32), "timm")


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"metrics": [1]}, "metrics is list, expected a table"),
        ({"description": ["x"]}, "description is list, expected text"),
        ({"architecture": ["x"]}, "architecture is list, expected text"),
        ({"datasets": {"x": 1}}, "datasets is dict, expected text or a list"),
        ({"metrics": None, "description": None, "architecture": None}, ""),
    ],
)
def test_odd_facts_of_an_origin_are_left_out(odd: dict[str, Any], message: str, tmp_path: Path) -> None:
    hv.save_pretrained(tiny(), tmp_path / "first")
    rewrite(tmp_path / "first", origin={"images": 3} | odd)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load(tmp_path / "first")
    told = [str(each.message) for each in caught if "origin" in str(each.message)]
    assert [message in each for each in told] == [True] * bool(message)
    assert model.origin == {"images": 3}
    hv.save_pretrained(model, tmp_path / "second")
    model.origin = odd
    if message:
        with pytest.raises(ValueError, match=f"in model.origin, {message}"):
            hv.save_pretrained(model, tmp_path / "third")


# Two saves at the same time


def test_two_saves_into_one_directory_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins and ends while the first is writing."""
    first, second, batch = tiny(seed=1), tiny(seed=2), images(24, 32)
    first.labels = tuple(label.upper() for label in LABELS)
    write = store.write_tensors

    def interrupted(*arguments: Any) -> None:
        write(*arguments)
        monkeypatch.undo()
        hv.save_pretrained(second, tmp_path)
        assert torch.equal(logits(load(tmp_path), batch), logits(second, batch))

    monkeypatch.setattr(store, "write_tensors", interrupted)
    hv.save_pretrained(first, tmp_path)
    assert torch.equal(logits(load(tmp_path), batch), logits(first, batch))
    assert load(tmp_path).labels == first.labels
    assert names(tmp_path) == NAMES


def test_saves_in_threads_leave_one_model(tmp_path: Path) -> None:
    models, batch = [tiny(seed) for seed in range(4)], images(24, 32)
    for number, model in enumerate(models):
        model.labels = tuple(f"{number} {label}" for label in LABELS)
    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda model: hv.save_pretrained(model, tmp_path), models))
        found = load(tmp_path)
        assert found.labels is not None
        expected = models[int(found.labels[0][0])]
        assert torch.equal(logits(found, batch), logits(expected, batch))
        assert names(tmp_path) == NAMES


def test_what_a_killed_save_left_is_removed_also_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusive, "fcntl", None)
    old, recent = tmp_path / ".saving-old", tmp_path / ".saving-recent"
    for left in (old, recent):
        left.mkdir()
        (left / "model.safetensors").write_text("a part")
    os.utime(old, (1e9, 1e9))
    hv.save_pretrained(tiny(), tmp_path)
    assert names(tmp_path) == sorted([*NAMES, ".saving-recent"])
