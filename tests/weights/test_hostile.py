"""Files by somebody who means harm: each is refused in one error, in little time and memory, and nothing of it runs."""

from __future__ import annotations

import json
import pickle
import re
import resource
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import hybridvit as hv
from hybridvit import limits
from hybridvit.cli import app
from hybridvit.hub import LoopbackHub
from hybridvit.keys import KeyMismatchError
from hybridvit.limits import printable, shown
from hybridvit.preprocess import Preprocess
from hybridvit.registry import model_spec
from hybridvit.spec import SpecError, count_parts
from hybridvit.weights.push import pull_from_hub
from hybridvit.weights.sources import WeightsWarning
from hybridvit.weights.store import WeightsError
from tests.parity import images
from tests.weights.examples import LABELS, client, facts, logits, tiny

SECONDS, MEGABYTES = 20, 250
PEAK = Path("/proc/self/status")
ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a model."""
    directory = hv.save_pretrained(tiny(), tmp_path_factory.mktemp("whole"))
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def saved(whole: dict[str, bytes], tmp_path: Path) -> Path:
    """A model's directory to spoil."""
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture(autouse=True)
def _in_time_and_memory() -> Iterator[None]:
    before, start = resident(reset=True), time.monotonic()
    yield
    assert time.monotonic() - start < SECONDS
    assert resident() - before < MEGABYTES


def resident(reset: bool = False) -> float:
    """Megabytes that this process has had in memory since the last `reset`, if Linux lets it be asked."""
    if reset:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if not PEAK.exists() else peak()


def peak() -> float:
    return next(int(line.split()[1]) for line in PEAK.read_text().splitlines() if line.startswith("VmHWM")) / 1024


def load(directory: Path, **options: Any) -> Any:
    return hv.create_model(f"local-dir:{directory}", **options)


def rewrite(directory: Path, **changes: Any) -> None:
    config = json.loads((directory / "config.json").read_text()) | changes
    (directory / "config.json").write_text(json.dumps(config))


# Weight files


class Runs:
    """Reading it as a pickle would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_by_the_name_of_safetensors(saved: Path) -> None:
    (saved / "model.safetensors").write_bytes(pickle.dumps(Runs(saved / "ran")))
    with pytest.raises(WeightsError, match=r"model\.safetensors is no readable safetensors file"):
        load(saved, allow_pickle=True)
    assert not (saved / "ran").exists()


def test_a_pickle_that_runs_code(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    (saved / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(saved / "ran"), protocol=2))
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin is a pickle, which can run code"):
        load(saved)
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin cannot be read as tensors only"):
        load(saved, allow_pickle=True)
    torch.save({"weight": torch.zeros(1), "x": Runs(saved / "ran")}, saved / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin cannot be read as tensors only"):
        load(saved, allow_pickle=True)
    assert not (saved / "ran").exists()


def test_code_in_a_repository_is_not_run(saved: Path) -> None:
    for name in ("__init__.py", "modeling.py", "setup.py", "conftest.py", "configuration_tiny.py"):
        (saved / name).write_text(f"from pathlib import Path\nPath({str(saved / 'ran')!r}).touch()\n")
    rewrite(saved, auto_map={"AutoModel": "modeling.Model"}, trust_remote_code=True, custom_pipelines={"x": "setup"})
    assert load(saved).labels == LABELS
    assert not (saved / "ran").exists()


def tensor_file(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: int, stop: int, shape: list[int] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(stop - start) // 4] if shape is None else shape, "data_offsets": [start, stop]}


TEN_TERABYTES = 10 << 40
TWICE = b'{"a": %s, "a": %s}' % (json.dumps(entry(0, 4)).encode(), json.dumps(entry(4, 8)).encode())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 7, id="shorter than a length"),
        pytest.param(tensor_file({}, length=TEN_TERABYTES), id="a header of 10 TB"),
        pytest.param(tensor_file({}, length=2**64 - 1), id="a header of 2^64 bytes"),
        pytest.param(tensor_file({}, length=1000), id="a header longer than the file"),
        pytest.param(tensor_file(b"[" * 10_000), id="a deep header"),
        pytest.param(tensor_file(b"\xff\xfe"), id="a header in no encoding"),
        pytest.param(tensor_file([1]), id="a header that is a list"),
        pytest.param(tensor_file({"a": 1}), id="a tensor that is a number"),
        pytest.param(tensor_file({"a": entry(0, TEN_TERABYTES)}), id="a tensor of 10 TB"),
        pytest.param(tensor_file({"a": entry(0, 8)}, b"1234"), id="a tensor beyond the end"),
        pytest.param(tensor_file({"a": entry(8, 4, [1])}, b"12345678"), id="offsets that go back"),
        pytest.param(tensor_file({"a": entry(-4, 4, [2])}, b"12345678"), id="an offset below 0"),
        pytest.param(tensor_file({"a": entry(0, 8), "b": entry(4, 12)}, b"123456789012"), id="tensors that overlap"),
        pytest.param(tensor_file({"a": entry(0, 4), "b": entry(8, 12)}, b"123456789012"), id="a hole"),
        pytest.param(tensor_file({"a": entry(0, 4)}, b"12345678"), id="more than the tensors"),
        pytest.param(tensor_file({"a": entry(0, 4, [2])}, b"1234"), id="a shape that is not the size"),
        pytest.param(tensor_file({"a": entry(0, 4, [-1])}, b"1234"), id="a negative shape"),
        pytest.param(tensor_file({"a": entry(0, 0, [2**40, 2**40])}), id="a shape that overflows"),
        pytest.param(tensor_file({"a": entry(0, 4, dtype="F99")}, b"1234"), id="an unknown dtype"),
        pytest.param(tensor_file({"a": entry(0, 4, dtype="STR")}, b"1234"), id="a dtype of text"),
        pytest.param(tensor_file(TWICE, b"12345678"), id="a tensor there twice"),
        pytest.param(b"../../../../etc/passwd", id="a link as git keeps it"),
    ],
)
def test_a_weight_file_that_is_none(content: bytes, saved: Path) -> None:
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises((WeightsError, KeyMismatchError), match=rf"{saved}"):
        load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: tensor.double(), None),
        (lambda tensor: tensor.to(torch.int64), r"1 of another kind: \S+ holds int64, expected floating-point"),
        (lambda tensor: tensor[None], r"1 of another shape: \S+ is \(1, "),
        (lambda tensor: tensor[:0], r"1 of another shape: \S+ is \(0, "),
    ],
    ids=["double", "whole numbers", "one axis more", "empty"],
)
def test_a_tensor_of_another_kind(change: Callable[[Any], Any], message: str | None, saved: Path) -> None:
    tensors = load_file(saved / "model.safetensors")
    key = next(key for key, tensor in tensors.items() if tensor.ndim == 4)
    save_file(tensors | {key: change(tensors[key])}, saved / "model.safetensors")
    if message is None:
        assert load(saved).labels == LABELS
    else:
        with pytest.raises((KeyMismatchError, WeightsError), match=message):
            load(saved)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_that_are_no_numbers(number: float, dtype: torch.dtype, saved: Path) -> None:
    tensors = {key: tensor.to(dtype) for key, tensor in load_file(saved / "model.safetensors").items()}
    key = sorted(tensors)[0]
    tensors[key].view(-1)[-1] = number
    save_file(tensors, saved / "model.safetensors")
    with pytest.warns(WeightsWarning, match=f"{saved}: NaN or infinite weights in {key}; what the model answers"):
        load(saved)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("row", [0, 1, -1])
def test_a_single_weight_that_is_no_number(row: int, dtype: str, saved: Path) -> None:
    tensors = {key: tensor.to(getattr(torch, dtype)) for key, tensor in load_file(saved / "model.safetensors").items()}
    key = max(tensors, key=lambda name: tensors[name].numel())
    tensors[key][row].view(-1)[-1] = torch.nan
    save_file(tensors, saved / "model.safetensors")
    with pytest.warns(WeightsWarning, match=f"NaN or infinite weights in {key}"):
        load(saved)


def test_large_weights_are_numbers(saved: Path) -> None:
    """Their sum overflows, and no warning is due."""
    tensors = load_file(saved / "model.safetensors")
    key = max(tensors, key=lambda name: tensors[name].numel())
    save_file(tensors | {key: torch.full_like(tensors[key], 3e38)}, saved / "model.safetensors")
    load(saved)


# Configs


TIMM = {"architecture": "resnet18"}
MANY_X = b'{"%s": "' + b"x" * 10**6 + b'"}'


def nested(depth: int, count: int = 10_000) -> dict[str, Any]:
    part: dict[str, Any] = {"kind": "Identity"}
    for _ in range(depth):
        part = {"kind": "Steps", "steps": [{"repeat": count, "of": part}]}
    return part


def config_of(whole: dict[str, bytes]) -> dict[str, Any]:
    return json.loads(whole["config.json"])


def edited(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(spec: dict[str, Any]) -> None:
        part: Any = spec
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = value

    return edit


def more_blocks(count: int) -> Callable[[dict[str, Any]], None]:
    def edit(spec: dict[str, Any]) -> None:
        blocks = spec["stages"][0]["blocks"]
        spec["stages"][0]["blocks"] = [{"repeat": count, "of": blocks[0].get("of", blocks[0])}]

    return edit


def many_lists(spec: dict[str, Any]) -> None:
    blocks = spec["stages"][0]["blocks"]
    spec["stages"][0]["blocks"] = blocks * 3000


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        pytest.param(edited("kind", value="Exec"), "unknown kind 'Exec'", id="an unknown kind"),
        pytest.param(edited("kind", value=["Model"]), r"unknown kind \['Model'\]", id="a kind that is a list"),
        pytest.param(edited("kind", value="os.system"), "unknown kind 'os.system'", id="a kind that is a function"),
        pytest.param(edited("kind", value="x" * 10**6), "unknown kind 'x+...x+'", id="a kind of 10^6 letters"),
        pytest.param(edited("x" * 10**6, value=1), "no field 'x+...x+'", id="a field of 10^6 letters"),
        pytest.param(edited("num_classes", value="1" * 10**6), "found '1+...1+'", id="a number of 10^6 letters"),
        pytest.param(more_blocks(10**6), "expected at most 20000 parts", id="10^6 blocks"),
        pytest.param(more_blocks(-1), "expected a count from 1 to 10000", id="-1 blocks"),
        pytest.param(more_blocks(10**18), "expected at most 20000 parts", id="10^18 blocks"),
        pytest.param(many_lists, "expected at most 20000 parts", id="10^6 blocks written out"),
        pytest.param(edited("stages", 0, "enter", value=nested(2)), "expected at most 20000 parts", id="nested repeat"),
        pytest.param(edited("stages", 0, "enter", value=nested(8)), "expected at most", id="10^32 parts"),
        pytest.param(edited("stages", 0, "enter", value=nested(150, 1)), "describes no model", id="150 deep"),
        pytest.param(edited("in_chans", value=10**9), "expected a number of at most 1048576", id="10^9 channels"),
        pytest.param(edited("in_chans", value=-3), "at least 1, found -3", id="-3 channels"),
        pytest.param(edited("in_chans", value=10**6), "does not fit the model", id="10^6 channels"),
        pytest.param(edited("num_classes", value=10**9), "expected a number of at most", id="10^9 classes"),
        pytest.param(edited("num_classes", value=10**6), "of another shape|1000000 classes", id="10^6 classes"),
        pytest.param(edited("num_classes", value=-1), "at least 0, found -1", id="-1 classes"),
        pytest.param(edited("num_classes", value=True), "expected int, found True", id="a class that is true"),
        pytest.param(edited("img_size", value=[10**9, 10**9]), "expected a number of at most", id="10^18 pixels"),
        pytest.param(edited("img_size", value=[10**6, 10**6]), "", id="10^12 pixels"),
        pytest.param(edited("img_size", value=[-1, 32]), "", id="-1 pixels"),
        pytest.param(edited("img_size", value=[0, 0]), "", id="no pixels"),
        pytest.param(edited("img_size", value=[32]), "expected 2 values, found 1", id="one side"),
        pytest.param(edited("stages", value=[]), "", id="no stages"),
        pytest.param(edited("stages", value=None), "expected a list, found None", id="null for stages"),
        pytest.param(
            edited("head", value={"kind": "NormedHead", "count": 10**6}), "at most 20000", id="10^6 classifiers"
        ),
    ],
)
def test_a_spec_beyond_reason(
    edit: Callable[[dict[str, Any]], None], message: str, whole: dict[str, bytes], saved: Path
) -> None:
    config = config_of(whole)
    edit(config["spec"])
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises((SpecError, WeightsError, KeyMismatchError), match=message or str(saved)) as caught:
        load(saved)
    assert str(saved) in str(caught.value)
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is not JSON", id="empty"),
        pytest.param(b"[" * 10**6, "is not JSON", id="deep"),
        pytest.param(b'{"a":' * 10**5 + b"1" + b"}" * 10**5, "is not JSON", id="deep objects"),
        pytest.param(b'{"labels": 1, "labels": 1}', "'labels' is there twice", id="a name twice"),
        pytest.param(b'{"spec": {"kind": "A", "kind": "Model"}}', "'kind' is there twice", id="a name twice inside"),
        pytest.param(b'{"format_version": NaN}', "NaN is not a number in JSON", id="NaN"),
        pytest.param(b'{"format_version": -Infinity}', "-Infinity is not a number in JSON", id="infinity"),
        pytest.param(b'{"format_version": 1e999, "spec": {}}', "format version inf", id="a number beyond all"),
        pytest.param(b'{"format_version": ' + b"9" * 5000 + b"}", "is not JSON", id="5,000 digits"),
        pytest.param('{"format_version": 1}'.encode("utf-16"), "is not JSON", id="UTF-16"),
        pytest.param(b'\xef\xbb\xbf{"format_version": 1}', "is not JSON", id="a byte order mark"),
        pytest.param(b'{"format_version": "\xff"}', "is not JSON", id="no encoding"),
        pytest.param(b"\0" * 100, "is not JSON", id="zeros"),
        pytest.param(MANY_X % b"format_version", r"format version 'x+...x+', this", id="10^6 letters"),
        pytest.param(MANY_X % b"architecture", r"timm's 'x+...x+', which", id="10^6 letters for timm"),
        pytest.param(MANY_X % b"model_type", "of type 'x+...x+'", id="10^6 letters for transformers"),
    ],
)  # fmt: skip
def test_json_that_is_none(content: bytes, message: str, saved: Path) -> None:
    (saved / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load(saved)
    assert str(saved) in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_a_config_of_a_gigabyte(saved: Path) -> None:
    with (saved / "config.json").open("ab") as file:
        file.truncate(1 << 30)  # which takes no room on the disk
    with pytest.raises(
        WeightsError, match=r"config\.json has 1,073,741,824 bytes, and no config has more than 8,388,608"
    ):
        load(saved)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"model_type": "vit", "num_hidden_layers": 10**9}, id="10^9 layers"),
        pytest.param({"model_type": "vit", "num_hidden_layers": -1}, id="-1 layers"),
        pytest.param({"model_type": "vit", "hidden_size": 10**9}, id="a width of 10^9"),
        pytest.param({"model_type": "vit", "hidden_size": 10**6, "num_hidden_layers": 10**4}, id="10^16 weights"),
        pytest.param({"model_type": "swin", "depths": [10**9]}, id="depths"),
        pytest.param({"model_type": "swin", "depths": [1] * 10**5}, id="10^5 stages"),
        pytest.param({"model_type": "swin", "depths": "abcd"}, id="depths of letters"),
        pytest.param({"model_type": "mobilevit", "neck_hidden_sizes": [16] * 10**5}, id="10^5 widths"),
        pytest.param({"model_type": "dinov2", "image_size": 10**7}, id="10^14 pixels"),
        pytest.param({"model_type": "vit", "id2label": {"x": "y"}}, id="a class that is no number"),
        pytest.param({"model_type": "vit", "hidden_act": "__import__('os')"}, id="code for an activation"),
        pytest.param(TIMM | {"num_classes": 10**9, "label_names": {"0": "a"}}, id="timm, 10^9 classes"),
        pytest.param(TIMM | {"pretrained_cfg": {"input_size": [3, 10**9, 10**9]}}, id="timm, pixels"),
        pytest.param(TIMM | {"model_args": {"img_size": [10**9] * 2}}, id="timm, img_size"),
        pytest.param({"architecture": "../../etc/passwd"}, id="timm, a path"),
    ],
)  # fmt: skip
def test_configs_of_other_packages_beyond_reason(config: dict[str, Any], saved: Path) -> None:
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises((SpecError, WeightsError, KeyMismatchError, ValueError)) as caught:
        load(saved)
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"input_size": [10**9, 10**9]},
        {"input_size": [224, 224], "crop_pct": 1e-9},
        {"input_size": [-1, 5]},
        {"input_size": [2.5, 5]},
        {"mean": [10**400], "std": [1.0]},
        {"std": [0.0, 0.0, 0.0]},
        {"interpolation": "x" * 10**6},
        {"interpolation": ["bicubic"]},
        {"x" * 10**6: 1},
    ],
    ids=str,
)
def test_preprocessing_beyond_reason(changes: dict[str, Any], saved: Path) -> None:
    rewrite(saved, preprocess=changes)
    with pytest.raises(WeightsError, match=r"the 'preprocess' in its config\.json cannot be read") as caught:
        load(saved)
    assert len(str(caught.value)) < 1000


def test_nan_in_preprocessing_of_a_model() -> None:
    with pytest.raises(ValueError, match="must be numbers"):
        Preprocess(mean=(float("nan"),) * 3)


# What is shown


def hostile(**origin: Any) -> Any:
    model = tiny()
    bad = f"<script>alert(1)</script>|`{ESCAPES}![x](http://evil/x.png)\n## Owned\n---\nlicense: mit\n"
    model.labels = (bad, "x" * 10**6, "", "cat", "dog")
    model.origin = {
        "architecture": bad,
        "finetuned_from": bad,
        "licence": f"cc-by-nc {bad}",
        "val_accuracy": bad,
        "images": bad,
        "recipe": {bad: bad},
        **origin,
    }
    return model


def test_a_card_is_text(tmp_path: Path) -> None:
    """Of facts that came with somebody else's weights."""
    text = (hv.save_pretrained(hostile(), tmp_path) / "README.md").read_text()
    page = text.split("---\n", 2)[2]
    prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    lines = [re.sub("`[^`]*`", "", line) for line in prose.splitlines() if not line.startswith("    ")]
    assert not [line for line in lines if re.search(r"<|(?<!\\)\[", line)], "no HTML, links or images outside of code"
    assert "\n## Owned" not in page
    assert "\n---" not in page
    assert "\x1b" not in text
    assert "\u202e" not in page
    assert max(map(len, page.splitlines())) < 1000
    assert len(text) < 20_000


@pytest.mark.parametrize("recipe", [None, 3, "x", ["x"]])
def test_a_card_of_odd_facts(recipe: Any, tmp_path: Path) -> None:
    hv.save_pretrained(hostile(recipe=recipe, licence=5), tmp_path)
    rewrite(tmp_path, origin={"licence": ["cc-by-nc"], "recipe": recipe})
    with pytest.warns(WeightsWarning, match="not for commercial use"):
        again = load(tmp_path)
    hv.save_pretrained(again, tmp_path / "again")


def test_a_terminal_stays_as_it_is(tmp_path: Path) -> None:
    model = hostile(licence="mit")
    directory = hv.save_pretrained(model, tmp_path / "model")
    picture = Path(hv.__file__).parents[1] / "zoo" / "samples" / "emoji"
    picture = next(picture.rglob("*.png"))
    result = CliRunner().invoke(app, ["predict", str(picture), "--model", str(directory), "--topk", "5"])
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
    assert len(result.output) < 2000
    assert len(result.output.splitlines()) == 1
    rewrite(directory, origin={"licence": ESCAPES, "architecture": ESCAPES})
    result = CliRunner().invoke(app, ["info", str(directory)])
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
    rewrite(directory, preprocess={ESCAPES: 1})
    result = CliRunner().invoke(app, ["predict", str(picture), "--model", str(directory)])
    assert result.exit_code == 1
    assert "\x1b]" not in result.output
    assert "\u202e" not in result.output


def test_a_saved_model_is_not_refused_by_its_own_limits(tmp_path: Path) -> None:
    model = tiny()
    model.labels = ("x" * limits.LARGEST_CONFIG, *LABELS[1:])
    with pytest.raises(
        ValueError, match=r"config\.json would have 8,\d+,\d+ bytes, of 8,388,608 at most: shorten the labels"
    ):
        hv.save_pretrained(model, tmp_path / "new")
    model.labels, model.origin = LABELS, {"val_accuracy": float("nan")}
    with pytest.raises(ValueError, match="has a number that JSON has not"):
        hv.save_pretrained(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_is_printable() -> None:
    assert printable("a\x1b[2Jb\nc\u202ed\te") == "a [2Jb c d e"
    assert printable("säule 😀") == "säule 😀"
    assert printable("x" * 10**7) == "x" * 77 + "..."
    assert shown("cat") == "'cat'"
    assert len(shown([["x" * 10**6] * 10**4] * 10**4)) <= 240


def test_every_model_is_within_the_limits() -> None:
    """By far: those of the zoo with the most parts, the widest layers and the longest config."""
    for name in ("repvit_m2_3", "fastvit_mci4", "eva02_enormous_patch14_clip_224"):
        config = model_spec(name).to_dict()
        assert count_parts(config) < limits.MOST_PARTS / 10
        assert len(json.dumps(config)) < limits.LARGEST_CONFIG / 50


# Repositories


def git(repository: Path, *arguments: str, stdin: str = "") -> str:
    command = ["git", f"--git-dir={repository}", "-c", "user.name=x", "-c", "user.email=x@x", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, input=stdin).stdout.strip()


def test_links_in_a_repository_are_text(loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    """A symbolic link that was pushed by git arrives as the path that it holds, and leads nowhere."""
    secret = tmp_path / "secret"
    secret.write_text("{}")
    hub = client(loopback_hub, tmp_path / "cache")
    hv.push_to_hub(tiny(), "me/links", endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    repository = loopback_hub.root / "models" / "me" / "links.git"
    link = git(repository, "hash-object", "-w", "--stdin", stdin=str(secret))
    tree = git(repository, "mktree", stdin=f"120000 blob {link}\tconfig.json\n120000 blob {link}\tmodel.safetensors\n")
    commit = git(repository, "commit-tree", tree, stdin="links")
    git(repository, "update-ref", "refs/heads/main", commit)
    with pytest.raises(WeightsError, match=r"config\.json is not JSON .*that is how it is in the repository"):
        hv.create_model("hf-hub:me/links", **hub)
    pulled = pull_from_hub("me/links", tmp_path / "pulled", endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    assert not (pulled / "config.json").is_symlink()
    assert (pulled / "config.json").read_text() == str(secret)
    with pytest.raises(WeightsError, match=r"config\.json is not JSON"):
        load(pulled)


def test_links_in_the_directory_of_a_pull_are_replaced(loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    """What a link there names stays as it is."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    target = tmp_path / "pulled"
    target.mkdir()
    (target / "config.json").symlink_to(mine)
    hv.push_to_hub(tiny(), "me/model", endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    pull_from_hub("me/model", target, endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    assert mine.read_text() == "mine"
    assert facts(load(target)) == facts(tiny())


def test_names_that_pass_for_our_own_are_not_pulled(loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    """A directory would be read as if a save had been cut off there."""
    hv.push_to_hub(tiny(), "me/model", endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    for name in (".pending/config.json", ".saving/config.json"):
        api.upload_file(path_or_fileobj=b"{}", path_in_repo=name, repo_id="me/model")
    pulled = pull_from_hub("me/model", tmp_path, endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    assert not (pulled / ".pending").exists()
    assert not (pulled / ".saving").exists()
    assert facts(load(pulled)) == facts(tiny())


def test_a_card_with_scripts_does_no_harm(loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    """It is never rendered by us, and its metadata is read as data."""
    hv.push_to_hub(tiny(), "me/model", endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    card = "---\ntags:\n- !!python/object/apply:os.system ['touch ran']\n---\n<script>alert(1)</script>"
    repository = loopback_hub.root / "models" / "me" / "model.git"
    blob = git(repository, "hash-object", "-w", "--stdin", stdin=card)
    tree = git(repository, "ls-tree", "main").replace(
        next(line for line in git(repository, "ls-tree", "main").splitlines() if line.endswith("README.md")),
        f"100644 blob {blob}\tREADME.md",
    )
    commit = git(repository, "commit-tree", git(repository, "mktree", stdin=tree + "\n"), stdin="card")
    git(repository, "update-ref", "refs/heads/main", commit)
    assert api.model_info("me/model").sha == commit
    again = hv.create_model("hf-hub:me/model", **client(loopback_hub, tmp_path / "cache"))
    assert torch.equal(logits(again, images(24, 32)), logits(tiny(), images(24, 32)))
    assert "script" not in (hv.save_pretrained(again, tmp_path / "saved") / "README.md").read_text()
    assert not Path("ran").exists()
