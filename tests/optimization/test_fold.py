"""Folding: each rule by itself on a model of one part, and all of them on every configuration of the zoo."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import hybridvit as hv
from hybridvit import components as c
from hybridvit.components.norms import BatchNormModule
from hybridvit.encoder import Encoder, Model, Stage
from hybridvit.optimization import folded
from hybridvit.registry import index, model_spec
from hybridvit.spec import Head, Spec, Transition
from tests.parity import features_and_embedding, images, perturb
from tests.representatives import one_of_each_family, perturbed_model, representatives, traced_model

BN = c.BatchNorm()
NORM, GELU, SCALE = c.Normalize(norm=BN), c.Activate(act="gelu"), c.LayerScale(initial=0.5)
CONV, POINTWISE = c.Conv(dim=8, kernel=3), c.Conv(dim=8)
BIASED, ATTENTION = CONV.replace(bias=True), c.Attention(heads=2)
DEPTHWISE, GROUPED = CONV.replace(groups=8), CONV.replace(groups=2)


def steps(*parts: Transition) -> c.Steps:
    return c.Steps(steps=parts)


def add(shortcut: Transition, body: Transition) -> c.Add:
    return c.Add(shortcut=shortcut, body=body)


# What becomes of a part.
FOLDED: dict[str, tuple[Transition, Transition]] = {
    "convolution and norm": (CONV.replace(norm=BN, act="relu"), BIASED.replace(act="relu")),
    "with a bias": (BIASED.replace(norm=BN), BIASED),
    "depthwise": (DEPTHWISE.replace(norm=BN), DEPTHWISE.replace(bias=True)),
    "strided, padded as TensorFlow does": (
        CONV.replace(stride=2, padding="same", norm=BN),
        BIASED.replace(stride=2, padding="same"),
    ),
    "strided, pointwise": (POINTWISE.replace(stride=2, norm=BN), POINTWISE.replace(stride=2, bias=True)),
    "standardised": (c.StdConv(dim=8, kernel=3), CONV),
    "standardised, and norm": (c.StdConv(dim=8, kernel=3, norm=BN), BIASED),
    "linear and norm": (c.Linear(dim=8, bias=False, norm=BN, act="silu"), c.Linear(dim=8, act="silu")),
    "patches and norm": (c.Patchify(dim=8, patch=3, bias=False, norm=BN), c.Patchify(dim=8, patch=3)),
    "patches, norm behind": (steps(c.Patchify(dim=8, patch=3, bias=False), NORM), c.Patchify(dim=8, patch=3)),
    "norm behind": (steps(CONV, NORM), BIASED),
    "norm and activation behind": (steps(CONV, c.Normalize(norm=BN, act="relu")), BIASED.replace(act="relu")),
    "identity between": (steps(CONV, c.Identity(), NORM), BIASED),
    "activation behind": (steps(CONV, GELU), CONV.replace(act="gelu")),
    "norm behind steps": (steps(steps(POINTWISE, CONV), NORM), steps(POINTWISE, BIASED)),
    "norm in front": (steps(GELU, NORM, POINTWISE), steps(GELU, POINTWISE.replace(bias=True))),
    "norm in front of steps": (
        steps(GELU, NORM, steps(c.Identity(), POINTWISE, CONV)),
        steps(GELU, steps(POINTWISE.replace(bias=True), CONV)),
    ),
    "norm in front, no border": (
        steps(GELU, NORM, CONV.replace(padding=0)),
        steps(GELU, BIASED.replace(padding=0)),
    ),
    "norm in front of layer norm": (
        steps(GELU, NORM, POINTWISE.replace(norm=c.LayerNorm())),
        steps(GELU, POINTWISE.replace(bias=True, norm=c.LayerNorm())),
    ),
    "norm in front, linear": (steps(GELU, NORM, c.Linear(dim=8, bias=False)), steps(GELU, c.Linear(dim=8))),
    "norm on both sides of an MLP": (steps(NORM, c.Mlp(hidden=12), NORM), c.Mlp(hidden=12)),
    "norm on both sides of a gated MLP": (steps(NORM, c.GatedMlp(hidden=12), NORM), c.GatedMlp(hidden=12)),
    "norm on both sides of attention": (steps(NORM, ATTENTION, NORM), ATTENTION),
    "attention without biases": (steps(NORM, ATTENTION.replace(qkv_bias=False, proj_bias=False), NORM), ATTENTION),
    "attention without biases, keys above all": (
        steps(NORM, ATTENTION.replace(qkv_bias=False, key_bias=False)),
        ATTENTION,
    ),
    "norm behind windows": (
        steps(c.WindowAttention(attention=ATTENTION, window=(4, 4)), NORM),
        c.WindowAttention(attention=ATTENTION, window=(4, 4)),
    ),
    "scale behind": (steps(CONV, SCALE), CONV),
    "scale behind a bias": (steps(BIASED, SCALE), BIASED),
    "scale in front": (steps(GELU, SCALE, POINTWISE), steps(GELU, POINTWISE)),
    "scales": (steps(GELU, SCALE, SCALE), steps(GELU, SCALE)),
    "gated MLP without biases, scaled": (
        steps(c.GatedMlp(hidden=12, bias=False), SCALE),
        c.GatedMlp(hidden=12, bias=False),
    ),
    "parallel": (add(POINTWISE.replace(norm=BN), CONV.replace(norm=BN)), BIASED),
    "parallel, strided": (
        add(POINTWISE.replace(stride=2, norm=BN), CONV.replace(stride=2)),
        BIASED.replace(stride=2),
    ),
    "parallel, kernel of 5": (add(CONV.replace(kernel=5), CONV), BIASED.replace(kernel=5)),
    "three in parallel": (add(NORM, add(POINTWISE, CONV)), BIASED),
    "parallel, depthwise": (
        add(NORM, add(POINTWISE.replace(groups=8), DEPTHWISE.replace(norm=BN))),
        DEPTHWISE.replace(bias=True),
    ),
    "parallel, grouped": (add(NORM, add(POINTWISE.replace(groups=2), GROUPED)), GROUPED.replace(bias=True)),
    "shortcut": (add(c.Identity(), CONV), BIASED),
    "scaled shortcut": (add(SCALE, POINTWISE), POINTWISE.replace(bias=True)),
    "norms of LeViT's attention": (
        c.NarrowAttention(heads=2, key_dim=3, value_dim=4, norm=BN, act="hard_swish"),
        c.NarrowAttention(heads=2, key_dim=3, value_dim=4, act="hard_swish"),
    ),
    "norms of shrinking attention": (
        c.ShrinkingAttention(dim=8, heads=2, key_dim=3, value_dim=4, act="hard_swish", norm=BN),
        c.ShrinkingAttention(dim=8, heads=2, key_dim=3, value_dim=4, act="hard_swish", norm=None),
    ),
    "subtracted": (c.Subtract(shortcut=NORM, body=CONV), BIASED),
    "norm of what keys and values are": (
        c.ReducedAttention(heads=2, reduce=steps(c.AvgPool(), NORM), qkv_bias=True),
        c.ReducedAttention(heads=2, reduce=c.AvgPool()),
    ),
    "without biases": (
        c.ReducedAttention(heads=2, reduce=steps(c.AvgPool(), NORM), qkv_bias=False),
        c.ReducedAttention(heads=2, reduce=c.AvgPool()),
    ),
    "scale of what keys and values are": (
        c.ReducedAttention(heads=2, reduce=steps(c.AvgPool(), SCALE), qkv_bias=False),
        c.ReducedAttention(heads=2, reduce=c.AvgPool(), qkv_bias=False),
    ),
    "norm alone of what keys and values are": (
        c.ReducedAttention(heads=2, reduce=NORM),
        c.ReducedAttention(heads=2, reduce=c.Identity()),
    ),
    "learned activation": (
        steps(POINTWISE, c.StarRelu(), c.Identity(), POINTWISE),
        steps(POINTWISE.replace(act="squared_relu"), POINTWISE.replace(bias=True)),
    ),
    "nothing": (steps(c.Identity(), c.Identity()), c.Identity()),
}
# What stays, for it is no sum of products: zeros outside a map are not shifted, an activation is between, and so on.
KEPT: dict[str, Transition] = {
    "border": steps(GELU, NORM, CONV),
    "border as TensorFlow's": steps(GELU, NORM, CONV.replace(padding="same")),
    "border of one position": steps(GELU, NORM, POINTWISE.replace(padding=1)),
    "border of windows": steps(GELU, NORM, c.WindowAttention(attention=ATTENTION, window=(5, 5))),
    "border of patches": steps(GELU, NORM, c.Patchify(dim=8, patch=5)),
    "groups": steps(GELU, NORM, POINTWISE.replace(groups=2)),
    "learned activation in front of a border": steps(POINTWISE, c.StarRelu(), CONV),
    "learned activation at the end": steps(POINTWISE, c.StarRelu()),
    "activation between": steps(CONV.replace(act="gelu"), NORM),
    "activation of the norm": steps(GELU, c.Normalize(norm=BN, act="relu"), POINTWISE),
    "another norm": CONV.replace(norm=c.LayerNorm()),
    "pooling between": steps(CONV, c.MaxPool(stride=1), NORM),
    "keyless biases": steps(NORM, ATTENTION.replace(key_bias=False)),
    "shift without biases": steps(c.GatedMlp(hidden=12, bias=False), NORM),
    "scale and shift": steps(GELU, SCALE, NORM),
    "two norms": steps(GELU, NORM, NORM),
    "parallel, one activated": add(POINTWISE.replace(act="relu"), CONV),
    "parallel, other groups": add(POINTWISE, DEPTHWISE),
    "parallel, other border": add(CONV.replace(padding="same"), CONV),
    "parallel, even kernel": add(CONV.replace(kernel=2, padding="same"), CONV.replace(padding="same")),
    "parallel, activated norm": add(c.Normalize(norm=BN, act="relu"), CONV),
    "parallel without a convolution": add(c.Identity(), NORM),
    "shortcut of attention": add(c.Identity(), ATTENTION),
}


def model_of(
    part: Transition, *blocks: c.Block, prefix: int = 0, head: Head | None = None, classes: int = 5
) -> Encoder:
    """A perturbed model in double precision: a stem, the part as the entrance of a stage, and its blocks."""
    stem = Stage(enter=c.Conv(dim=8, kernel=3, act="gelu"))
    stage = Stage(enter=part, prefix=prefix, blocks=blocks)
    spec = Model(
        stages=(stem, stage), pool=c.MeanPool(), head=head or c.LinearHead(), img_size=(12, 16), num_classes=classes
    )
    model = spec.build().eval().double()
    perturb(model)
    return model


def assert_same(one: Encoder, other: Encoder, batch: Tensor) -> None:
    """Maps, embeddings and logits are equal, to rounding in double precision."""
    with torch.no_grad():
        for each, expected in zip(outputs(one, batch), outputs(other, batch), strict=True):
            assert (each - expected).abs().max() < 1e-9 * expected.abs().max()


def outputs(model: Encoder, batch: Tensor) -> list[Tensor]:
    maps, embedding = features_and_embedding(model, batch)
    return [*maps, embedding, model.forward_head(embedding)]


def norms(model: nn.Module) -> int:
    return sum(isinstance(part, BatchNormModule) for part in model.modules())


@pytest.mark.parametrize("name", FOLDED)
def test_what_a_part_becomes(name: str):
    part, expected = FOLDED[name]
    model = model_of(part)
    fast = folded(model)
    assert fast.spec.stages[1].enter == expected
    assert_same(fast, model, images(12, 16).double())
    assert_same(fast, model, images(9, 23).double())


@pytest.mark.parametrize("name", KEPT)
def test_what_stays(name: str):
    model = model_of(KEPT[name])
    fast = folded(model)
    assert fast.spec == model.spec
    assert_same(fast, model, images(9, 23).double())


BRANCHES: dict[str, tuple[c.Branch, c.Branch]] = {
    "norm in front": (c.Branch(mixer=ATTENTION, norm=BN), c.Branch(mixer=ATTENTION)),
    "norm behind": (c.Branch(mixer=c.Mlp(hidden=12), post_norm=BN), c.Branch(mixer=c.Mlp(hidden=12))),
    "scale": (c.Branch(mixer=ATTENTION, layer_scale=0.1), c.Branch(mixer=ATTENTION)),
    "all": (
        c.Branch(mixer=ATTENTION, norm=BN, post_norm=BN, layer_scale=0.1, shortcut_scale=True),
        c.Branch(mixer=ATTENTION, shortcut_scale=True),
    ),
    "scale behind another norm": (
        c.Branch(mixer=ATTENTION, norm=BN, post_norm=c.LayerNorm(), layer_scale=0.1),
        c.Branch(mixer=ATTENTION, post_norm=c.LayerNorm(), layer_scale=0.1),
    ),
    "another norm": (
        c.Branch(mixer=ATTENTION, norm=c.LayerNorm(), layer_scale=0.1),
        c.Branch(mixer=ATTENTION, norm=c.LayerNorm()),
    ),
}
ON_MAPS: dict[str, tuple[c.Branch, c.Branch]] = {
    "norm in front of a border": (c.Branch(mixer=CONV, norm=BN), c.Branch(mixer=CONV, norm=BN)),
    "shortcut": (c.Branch(mixer=DEPTHWISE), c.Branch(mixer=DEPTHWISE.replace(bias=True), residual=False)),
    "scaled and with a shortcut": (
        c.Branch(mixer=CONV.replace(norm=BN), layer_scale=0.1),
        c.Branch(mixer=BIASED, residual=False),
    ),
    "scaled shortcut": (
        c.Branch(mixer=CONV.replace(norm=BN), shortcut_scale=True),
        c.Branch(mixer=BIASED, shortcut_scale=True),
    ),
    "no shortcut": (
        c.Branch(mixer=CONV, post_norm=BN, layer_scale=0.1, residual=False),
        c.Branch(mixer=BIASED, residual=False),
    ),
    "activated": (c.Branch(mixer=CONV.replace(act="relu")), c.Branch(mixer=CONV.replace(act="relu"))),
}


@pytest.mark.parametrize("name", [*BRANCHES, *ON_MAPS])
def test_what_a_branch_becomes(name: str):
    """With prefix tokens, where the mixer takes them."""
    branch, expected = (BRANCHES | ON_MAPS)[name]
    model = model_of(c.Identity(), c.Block(branches=(branch,)), prefix=2 if name in BRANCHES else 0)
    fast = folded(model)
    assert fast.spec.stages[1].blocks[0].branches[0] == expected
    assert_same(fast, model, images(9, 23).double())


@pytest.mark.parametrize("norm", [BN, None])
@pytest.mark.parametrize("count", [1, 2])
def test_normed_classifiers_become_one(count: int, norm: c.BatchNorm | None):
    model = model_of(c.Identity(), head=c.NormedHead(norm=norm, count=count))
    fast = folded(model)
    assert fast.spec.head == c.LinearHead()
    assert_same(fast, model, images(9, 23).double())


def test_a_classifier_of_another_norm_and_one_of_no_classes_stay():
    for model in (
        model_of(c.Identity(), head=c.NormedHead(norm=c.LayerNorm())),
        model_of(c.Identity(), head=c.NormedHead(norm=BN, count=2), classes=0),
    ):
        fast = folded(model)
        assert fast.spec == model.spec
        assert_same(fast, model, images(9, 23).double())


class Twice(nn.Conv2d):
    """Convolves with the square of its kernels."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight**2, self.bias)


class TwiceConv(c.Conv):
    layer = Twice


@pytest.mark.parametrize("around", ["norm", "steps", "add"])
def test_a_convolution_whose_kernel_is_another_stays(around: str):
    conv = TwiceConv(dim=8, kernel=1)
    part = {"norm": conv.replace(norm=BN), "steps": steps(NORM, conv, NORM), "add": add(CONV, conv)}[around]
    model = model_of(part)
    fast = folded(model)
    assert fast.spec == model.spec
    assert_same(fast, model, images(9, 23).double())


def test_the_original_is_as_it_was():
    model = hv.create_model("levit_128s").train()
    perturb(model)
    model.set_drop_path(0.2)
    before, modules = copy.deepcopy(model.state_dict()), str(model)
    fast = folded(model)
    assert model.training
    assert not fast.training
    assert str(model) == modules
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    mine = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert not mine & {tensor.data_ptr() for tensor in fast.state_dict().values()}


def test_layers_that_no_spec_describes_are_named():
    model = hv.create_model("cct_2_3x2_32")
    prune.random_unstructured(model.stages[0].blocks[0].branches[0].mixer.qkv, "weight", 0.5)  # pyright: ignore
    with pytest.raises(ValueError, match=r"from stages\.0\.blocks\.0\.branches\.0\.mixer\.qkv\.weight on: merge adapt"):
        folded(model)
    model = hv.create_model("cct_2_3x2_32")
    model.head = nn.Linear(128, 3)
    with pytest.raises(ValueError, match=r"from head\.bias on"):
        folded(model)


# Families of which some models keep batch norms, and where.
LEFT = {
    "botnet": "between attention and an activation",
    "coatnet_rw": "in front of an activation, or of what drops a border",
    "efficientformerv2": "in front of the embedding",
    "halonet": "between attention and an activation",
    "lambda_resnet": "inside the lambda layer, and between it and an activation",
    "lowformer": "inside attention, behind filters that it has no name for",
    "mobilenetv4": "in front of queries and of what keys and values come from, and behind its filters",
    "nextvit": "in front of queries and of what keys and values come from, and of the embedding",
    "resnetv2": "in front of an activation",
    "swiftformer": "in front of the embedding",
    "visformer": "in front of the embedding",
    "xcit": "between an activation and a border",
}


def in_default_run(name: str) -> bool:
    """One of each family that has something to fold."""
    spec = json.dumps(model_spec(name).to_dict())
    return name in one_of_each_family() and any(part in spec for part in ("BatchNorm", "LayerScale", "StdConv"))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if in_default_run(name) else pytest.mark.slow) for name in representatives()]
)
def test_every_model_computes_the_same(name: str):
    model = (traced_model if in_default_run(name) else perturbed_model)(name).double()
    fast = folded(model)
    assert_same(fast, model, images(48, 80, model.spec.in_chans).double())
    assert Spec.from_dict(fast.spec.to_dict()) == fast.spec
    family = index()[name].family
    assert norms(fast) == 0 or (family in LEFT and norms(fast) <= norms(model)), f"{family} keeps {norms(fast)}"
