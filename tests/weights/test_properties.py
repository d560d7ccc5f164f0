"""Whatever is done to a config, a weight file or the names in it: a model, or an error that says what is wrong."""

from __future__ import annotations

import copy
import functools
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

import hybridvit as hv
from hybridvit.keys import Concat, KeyMismatchError, KeyRules, Rename, Split, check_keys
from hybridvit.registry import UnknownNameError, family_of, model_spec
from hybridvit.spec import SpecError
from hybridvit.weights.load import expected_tensors
from hybridvit.weights.store import WeightsError
from tests.weights.examples import TINY, tiny

REFUSALS = (SpecError, WeightsError, KeyMismatchError, UnknownNameError)


def examples(count: int) -> settings:
    """The same examples in every run, and none kept."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=20_000,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@pytest.fixture(autouse=True)
def _no_warnings_count() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model, whose config each example writes anew."""
    return hv.save_pretrained(tiny(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def own_config(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "config.json").read_text())


TIMM = {
    "architecture": "vit_tiny_patch16_224",
    "num_classes": 5,
    "label_names": ["a", "b", "c", "d", "e"],
    "label_descriptions": {"a": "one"},
    "model_args": {"img_size": 32},
    "pretrained_cfg": {
        "input_size": [3, 32, 32], "fixed_input_size": True, "crop_pct": 0.9, "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "license": "mit",
    },
}  # fmt: skip
TRANSFORMERS = [
    {"model_type": "vit", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
     "image_size": 32, "patch_size": 8, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "id2label": {"0": "a", "1": "b"}},
    {"model_type": "swin", "embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4, "image_size": 32},
    {"model_type": "levit", "hidden_sizes": [128, 256, 384], "depths": [1, 1, 1], "num_attention_heads": [4, 8, 12]},
    {"model_type": "mobilevit", "neck_hidden_sizes": [16, 32, 64, 96, 128, 160, 640], "hidden_sizes": [144, 192, 240]},
    {"model_type": "cvt", "embed_dim": [8, 16], "depth": [1, 2], "num_heads": [1, 2]},
    {"model_type": "hiera", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
]  # fmt: skip

NUMBERS = st.sampled_from([0, 1, -1, 2, 3, 7, 64, 1000, 4096, 10**5, 10**6, 2**20, 2**31, 10**9, 2**63, 10**30])
LEAVES = st.one_of(
    NUMBERS,
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["gelu", "Model", "Steps", "Conv", "same", "resnet18", "../x", "{}"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["kind", "repeat", "of", "x"]), inner),
    max_leaves=6,
)


def places(data: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value."""
    found: list[tuple[Any, Any]] = []
    keys = data.keys() if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    for key in keys:
        found += [(data, key), *places(data[key])]
    return found


def mutate(config: dict[str, Any], draw: st.DataObject) -> dict[str, Any]:
    """A copy in which some values are others, missing, of another place, multiplied, or have another name."""
    config = copy.deepcopy(config)
    for _ in range(draw.draw(st.integers(1, 3), "how often")):
        found = places(config)
        if not found:
            break
        container, key = found[draw.draw(st.integers(0, len(found) - 1), "where")]
        match draw.draw(st.sampled_from(["set", "set", "delete", "move", "scale", "wrap", "rename", "repeat"]), "what"):
            case "set":
                container[key] = draw.draw(VALUES, "value")
            case "delete":
                del container[key]
            case "move":
                other, its = found[draw.draw(st.integers(0, len(found) - 1), "from where")]
                container[key] = copy.deepcopy(other[its])
            case "scale" if isinstance(container[key], int | float):
                container[key] *= draw.draw(NUMBERS, "factor")
            case "wrap":
                container[key] = [container[key]]
            case "rename" if isinstance(container, dict):
                container[draw.draw(st.text(max_size=6), "name")] = container.pop(key)
            case "repeat":
                container[key] = [{"repeat": draw.draw(NUMBERS, "count"), "of": container[key]}]
            case _:
                pass
    return config


def load(directory: Path) -> None:
    told = None
    try:
        hv.create_model(f"local-dir:{directory}")
    except REFUSALS as error:
        told = str(error)
    assert told is None or (str(directory) in told and len(told) < 100_000)


@examples(120)
@given(draw=st.data())
def test_our_config(draw: st.DataObject, directory: Path, own_config: dict[str, Any]) -> None:
    (directory / "config.json").write_text(json.dumps(mutate(own_config, draw)))
    load(directory)


@examples(120)
@given(draw=st.data())
def test_our_spec(draw: st.DataObject, directory: Path, own_config: dict[str, Any]) -> None:
    spec = mutate(own_config["spec"], draw)
    (directory / "config.json").write_text(json.dumps(own_config | {"spec": spec}))
    load(directory)


@examples(60)
@given(draw=st.data())
def test_timm_config(draw: st.DataObject, directory: Path) -> None:
    (directory / "config.json").write_text(json.dumps(mutate(TIMM, draw)))
    load(directory)


@examples(120)
@given(draw=st.data(), config=st.sampled_from(TRANSFORMERS))
def test_transformers_config(draw: st.DataObject, config: dict[str, Any], directory: Path) -> None:
    (directory / "config.json").write_text(json.dumps(mutate(config, draw)))
    load(directory)


@examples(100)
@given(draw=st.data())
def test_bytes_of_a_config(draw: st.DataObject, directory: Path, own_config: dict[str, Any]) -> None:
    content = bytearray(json.dumps(own_config).encode())
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(content)))
        content[at : at + draw.draw(st.integers(0, 3))] = draw.draw(st.binary(max_size=3))
    (directory / "config.json").write_bytes(content)
    load(directory)


@examples(100)
@given(draw=st.data())
def test_bytes_of_a_weight_file(draw: st.DataObject, directory: Path, own_config: dict[str, Any]) -> None:
    (directory / "config.json").write_text(json.dumps(own_config))
    whole = (directory / "model.safetensors").read_bytes()
    content = bytearray(whole)
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, 4000))  # where the header is
        content[at : at + draw.draw(st.integers(0, 3))] = draw.draw(st.binary(max_size=3))
    try:
        (directory / "model.safetensors").write_bytes(content)
        load(directory)
    finally:
        (directory / "model.safetensors").write_bytes(whole)


# Key rules


RULES = KeyRules(
    Rename("stem", "stages.0.enter"),
    Rename("layer{s+1}.{b}", "stages.{s+1}.blocks.{b}", lambda each: each.mT, lambda each: each.mT),
    Concat([f"attention.{{b}}.{part}" for part in "qkv"], "blocks.{b}.qkv"),
    Split("fused.{b}", ["left.{b}", "right.{b}"]),
    dropped=["pooler"],
)


@st.composite
def state_dicts(draw: st.DrawFn) -> dict[str, Tensor]:
    """Tensors in the layout of RULES."""
    keys = [f"stem.{name}" for name in draw(st.sets(st.sampled_from(["weight", "bias", "a.b"])))]
    pairs = st.sets(st.tuples(st.integers(1, 12), st.integers(0, 12)), max_size=4)
    keys += [f"layer{stage}.{block}.weight" for stage, block in draw(pairs)]
    for block in draw(st.sets(st.integers(0, 120), max_size=3)):
        keys += [f"attention.{block}.{part}.weight" for part in "qkv"]
    keys += [f"fused.{block}.weight" for block in draw(st.sets(st.integers(0, 120), max_size=3))]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    width = draw(st.integers(1, 3))
    return {key: torch.randn(2 * width, width, generator=generator) for key in keys}


@examples(200)
@given(theirs=state_dicts())
def test_there_and_back(theirs: dict[str, Tensor]) -> None:
    ours = RULES.to_ours(theirs)
    again = RULES.to_theirs(ours)
    assert again.keys() == theirs.keys()
    assert all(torch.equal(again[key], theirs[key]) for key in theirs)
    assert RULES.to_ours(theirs | {"pooler.weight": torch.zeros(1)}).keys() == ours.keys()


def convert_and_check(theirs: dict[str, Tensor], rules: KeyRules | None, expected: dict[str, Tensor]) -> None:
    """As a load does."""
    untaken: tuple[str, ...] = ()
    if rules is not None:
        try:
            theirs = rules.to_ours(theirs)
        except KeyMismatchError as error:
            if not error.untaken:
                raise
            untaken = error.untaken
            theirs = rules.to_ours({key: tensor for key, tensor in theirs.items() if key not in untaken})
    check_keys(theirs, expected, untaken=untaken)


ODD_KEYS = st.sampled_from(
    ["stem", "layer0.0.weight", "layer01.0.weight", "layer1.00.weight", "layer1.1٣.weight", "attention.0", "fused",
     "pooler2.weight", "attention.x.q.weight", "layer1.-1.weight", "", ".", "stem.", "STEM.weight", "stem .weight"]
)  # fmt: skip


@examples(300)
@given(
    theirs=state_dicts(), missing=st.integers(0), surplus=st.sets(ODD_KEYS | st.text(max_size=9), max_size=2),
    renamed=st.none() | ODD_KEYS,
)  # fmt: skip
def test_what_does_not_fit_is_named(
    theirs: dict[str, Tensor], missing: int, surplus: set[str], renamed: str | None
) -> None:
    """In the layout of the file if no rule takes it, else under our name."""
    expected = RULES.to_ours(theirs)
    given_ = dict(theirs)
    gone = sorted(theirs)[missing % (2 * len(theirs)) :][:1] if theirs else []  # in half of the cases none
    for key in gone:
        tensor = given_.pop(key)
        if renamed is not None and renamed not in theirs:
            given_[renamed] = tensor
    surplus = {key for key in surplus if key not in theirs}
    given_ |= dict.fromkeys(surplus, torch.zeros(2, 1))
    odd = {*surplus, *(given_.keys() - theirs.keys())}
    assume(gone or odd)
    with pytest.raises(KeyMismatchError, match="checkpoint does not fit the model") as caught:
        convert_and_check(given_, RULES, expected)
    told = str(caught.value)
    for key in odd:
        assert key in told or next(iter(RULES.to_ours({key: torch.zeros(2, 1)}))) in told
    for key in gone:
        part = key.split(".")[1] if key.startswith("attention") else key
        assert part in told or next(iter(RULES.to_ours({key: theirs[key]}))) in told


@functools.cache
def released(name: str, layout: str) -> tuple[KeyRules | None, dict[str, Tensor], dict[str, Tensor]]:
    """The rules, and the tensors without memory in our layout and in theirs."""
    ours = expected_tensors(model_spec(name))
    rules = None if layout == "hybridvit" else family_of(name).layouts[layout](model_spec(name))
    return rules, ours, rules.to_theirs(ours) if rules else ours


@pytest.mark.parametrize(("name", "layout"), [(TINY, "hybridvit"), ("levit_128s", "timm")])
@examples(40)
@given(draw=st.data())
def test_keys_of_released_layouts(name: str, layout: str, draw: st.DataObject) -> None:
    """On tensors without memory: a key that is missing, surplus or renamed never passes."""
    rules, ours, whole = released(name, layout)
    theirs = dict(whole)
    what = draw.draw(st.sampled_from(["missing", "renamed", "surplus", "another shape"]))
    for key in draw.draw(st.sets(st.sampled_from(sorted(whole)), min_size=1, max_size=3)):
        if what == "another shape":
            theirs[key] = torch.empty(*theirs[key].shape, 2, device="meta")
        if what in ("missing", "renamed"):
            del theirs[key]
        if what in ("renamed", "surplus"):
            theirs[key + draw.draw(st.sampled_from(["_", ".x", "0", "weight"]))] = torch.empty(1, device="meta")
    with pytest.raises(KeyMismatchError, match=r"missing|surplus|of another shape|these shapes"):
        convert_and_check(theirs, rules, ours)


@examples(40)
@given(draw=st.data())
def test_names_and_shapes_in_a_weight_file(draw: st.DataObject, directory: Path) -> None:
    """Of a file that is loaded by itself, whose layout is to be found out."""
    tensors = load_file(directory / "model.safetensors")
    for key in draw.draw(st.sets(st.sampled_from(sorted(tensors)), min_size=1, max_size=3)):
        tensor = tensors.pop(key)
        match draw.draw(st.sampled_from(["rename", "drop", "shape", "kind", "empty"])):
            case "rename":
                tensors[draw.draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=9))] = tensor
            case "shape":
                tensors[key] = tensor[None]
            case "kind":
                tensors[key] = tensor.to(torch.int32)
            case "empty":
                tensors[key] = tensor[:0]
            case _:
                pass
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "weights.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
        with pytest.raises(REFUSALS, match=str(path)):
            hv.create_model(TINY, file=path)
