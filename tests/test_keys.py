from __future__ import annotations

import pytest
import torch

from hybridvit.keys import (
    Concat,
    Fixed,
    KeyMismatchError,
    KeyRules,
    Place,
    Rename,
    Split,
    check_keys,
    conv_to_linear,
    linear_to_conv,
    renames,
)


def test_place_matches_whole_components():
    place = Place("layer{s+1}.{b+1}.conv")
    assert place.match("layer1.2.conv.weight") == ({"s": 0, "b": 1}, ".weight")
    assert place.match("layer1.2.conv") == ({"s": 0, "b": 1}, "")
    assert place.match("layer1.0.conv.weight") is None, "b would be -1"
    assert place.match("layer1.2.conv1.weight") is None
    assert place.match("x.layer1.2.conv.weight") is None
    assert place.key({"s": 0, "b": 1}, ".bias") == "layer1.2.conv.bias"


def test_a_counter_used_twice_must_agree():
    place = Place("a.{i}.b.{i}")
    assert place.match("a.3.b.3.weight") == ({"i": 3}, ".weight")
    assert place.match("a.3.b.4.weight") is None


RULES = KeyRules(
    Rename("stem", "stages.0.enter.conv"),
    Rename("blocks.0.{b}.attn", "stages.1.blocks.{b}.mixer"),
    Concat(("q.{b}", "k.{b}", "v.{b}"), "qkv.{b}"),
    Concat(("cls", "reg"), "prefix", dim=1, sizes=(1, 4)),
    Split("fused", ("left", "right"), dim=1),
    conv_to_linear("c2l", "c2l"),
    linear_to_conv("l2c", "l2c"),
    Rename("turned", "turned", lambda t: t.mT.contiguous(), lambda t: t.mT.contiguous()),
    Fixed("index", lambda: torch.arange(4)),
    dropped=["pooler"],
)


def theirs() -> dict[str, torch.Tensor]:
    shapes = {
        "stem.weight": (4, 3, 2, 2),
        "blocks.0.0.attn.weight": (2, 2),
        "blocks.0.11.attn.proj.bias": (2,),
        "q.0.weight": (2, 3),
        "k.0.weight": (2, 3),
        "v.0.weight": (2, 3),
        "q.0.bias": (2,),
        "k.0.bias": (2,),
        "v.0.bias": (2,),
        "cls": (1, 1, 8),
        "reg": (1, 4, 8),
        "fused": (3, 6),
        "c2l.weight": (5, 3, 1, 1),
        "c2l.bias": (5,),
        "l2c.weight": (5, 3),
        "turned": (2, 5),
    }
    return {key: torch.randn(shape) for key, shape in shapes.items()} | {"index": torch.arange(4)}


def test_round_trip_is_bit_exact():
    state = theirs()
    ours = RULES.to_ours(state | {"pooler.weight": torch.zeros(1)})
    assert ours["stages.1.blocks.11.mixer.proj.bias"] is state["blocks.0.11.attn.proj.bias"]
    assert torch.equal(ours["qkv.0.weight"], torch.cat([state["q.0.weight"], state["k.0.weight"], state["v.0.weight"]]))
    assert ours["prefix"].shape == (1, 5, 8)
    assert ours["c2l.weight"].shape == (5, 3)
    assert ours["l2c.weight"].shape == (5, 3, 1, 1)
    assert ours["left"].shape == ours["right"].shape == (3, 3)
    assert "index" not in ours
    back = RULES.to_theirs(ours)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_every_key_must_be_taken():
    with pytest.raises(KeyMismatchError, match=r"2 keys that no rule takes: foo, bar.weight"):
        RULES.to_ours(theirs() | {"foo": torch.zeros(1), "bar.weight": torch.zeros(1)})
    with pytest.raises(KeyMismatchError, match=r"q\.0\.weight"):
        RULES.to_ours({key: value for key, value in theirs().items() if key != "k.0.weight"})


def test_a_fixed_tensor_must_be_what_the_architecture_says():
    with pytest.raises(KeyMismatchError, match="index differs"):
        RULES.to_ours(theirs() | {"index": torch.arange(1, 5)})


def test_check_keys_lists_everything_at_once():
    expected = {"a": torch.zeros(2), "b": torch.zeros(3), "head.weight": torch.zeros(2, 2)}
    found = {"b": torch.zeros(4), "c": torch.zeros(1), "head.weight": torch.zeros(5, 2)}
    with pytest.raises(KeyMismatchError) as caught:
        check_keys(found, expected, source="model.safetensors")
    message = str(caught.value)
    assert "model.safetensors does not fit" in message
    assert "1 missing: a" in message
    assert "1 surplus: c" in message
    assert "b is (4,), expected (3,)" in message
    assert "head.weight is (5, 2), expected (2, 2)" in message


def test_only_what_is_named_is_excused():
    expected = {"a": torch.zeros(2), "head.weight": torch.zeros(2, 2)}
    check_keys({"a": torch.zeros(2), "head.weight": torch.zeros(5, 2)}, expected, excused=("head.",))
    check_keys({"a": torch.zeros(2)}, expected, excused=("head.",))
    with pytest.raises(KeyMismatchError, match="1 missing: a"):
        check_keys({"head.weight": torch.zeros(2, 2)}, expected, excused=("head.",))
    with pytest.raises(KeyMismatchError, match="1 surplus: b"):
        check_keys({"a": torch.zeros(2), "b": torch.zeros(1)}, expected, excused=("head.",))


def test_renames_pairs_the_parts_of_two_places():
    rules = KeyRules(
        renames("blocks.{b}", "stages.0.blocks.{b}.branches", "norm1=0.norm attn=0.mixer gamma=0.layer_scale"),
        renames("", "", "stem=enter head"),
        renames("last", "pool", "=before"),
        renames("mlp", "", "fc=mlp.linear", conv_to_linear),
    )
    theirs = {
        "blocks.3.norm1.weight": "stages.0.blocks.3.branches.0.norm.weight",
        "blocks.3.attn.proj.bias": "stages.0.blocks.3.branches.0.mixer.proj.bias",
        "blocks.0.gamma": "stages.0.blocks.0.branches.0.layer_scale",
        "stem.bias": "enter.bias",
        "head.bias": "head.bias",
        "last.bias": "pool.before.bias",
        "mlp.fc.weight": "mlp.linear.weight",
    }
    tensors = {key: torch.rand(2, 2, 1, 1) for key in theirs}
    ours = rules.to_ours(tensors)
    assert list(ours) == list(theirs.values())
    assert ours["mlp.linear.weight"].shape == (2, 2)
    back = rules.to_theirs(ours)
    assert all(torch.equal(back[key], tensor) for key, tensor in tensors.items())
