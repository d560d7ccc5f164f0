"""What is true of every model because it is written once: checked for each distinct configuration."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybridvit.components.attention import ChannelProduct, ScaledDotProduct
from hybridvit.components.blocks import BranchModule, drop_path
from hybridvit.components.linear_attention import LinearProduct
from hybridvit.components.norms import BatchNormModule
from hybridvit.encoder import Model
from hybridvit.families import family_names, load_family
from hybridvit.meta import without_memory
from hybridvit.registry import build_entry, build_index, family_of, groups, index, model_spec, spec_from_dict
from hybridvit.spec import Grid
from tests import capabilities
from tests.capabilities import NotApplicable, Ours
from tests.parity import images, perturb
from tests.representatives import (
    one_of_each_family,
    perturbed_model,
    representatives,
    small_model,
    small_spec,
    traced_by_default,
    traced_model,
)

every_model = pytest.mark.parametrize("name", sorted(index()))


@pytest.fixture(scope="module", params=representatives())
def name(request: pytest.FixtureRequest) -> str:
    """Every configuration in turn; of this scope, so that the tests of one model follow each other."""
    return request.param


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=() if name in traced_by_default() else pytest.mark.slow) for name in representatives()
    ],
)
def traced_name(request: pytest.FixtureRequest) -> str:
    """As `name`, but all except those that cover every component are slow: a compiler takes seconds a model."""
    return request.param


# Each kind of attention and of position, and a CNN.
EXPORTED = [
    "cct_2_3x2_32",
    "coatnet_0_rw_224",
    "convit_tiny",
    "cvt_13",
    "davit_tiny",
    "efficientvit_b0",
    "hiera_tiny_224",
    "levit_128s",
    "resnet18",
    "vit_small_patch16_rope_224",
    "xcit_nano_12_p8_224",
]


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in EXPORTED else pytest.mark.slow) for name in representatives()],
)
def exported_name(request: pytest.FixtureRequest) -> str:
    """As `name`, but all except a few that differ in kind are slow: ONNX takes several seconds a model."""
    return request.param


def test_index_is_the_registry():
    """Every name; and parameters and operations of one of each family."""
    names = [name for family in map(load_family, family_names()) for name in family.sizes]
    assert list(index()) == names, "run `python -m hybridvit.registry` after adding models"
    for name in one_of_each_family():
        assert_indexed(name, build_entry(family_of(name), name))


@pytest.mark.slow
def test_index_has_what_every_model_costs():
    for name, entry in build_index().items():
        assert_indexed(name, entry)


def assert_indexed(name: str, entry: dict[str, Any]) -> None:
    stored, built = (json.loads(json.dumps(each)) for each in (vars(index()[name]), entry))
    assert stored == built, f"{name}: the pinned numbers of parameters and operations changed"


def test_every_family_is_in_one_group():
    listed = [family for families in groups().values() for family in families]
    assert sorted(listed) == family_names(), "name a new family in zoo/groups.json"


@every_model
def test_spec_survives_json(name: str):
    spec = model_spec(name)
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def without_blocks(model: Model) -> Model:
    """For what is about shapes only: a block keeps them, and knows nothing of the image."""
    return model.replace(stages=tuple(stage.replace(blocks=()) for stage in model.stages))


@every_model
def test_shapes_are_computed_on_meta(name: str):
    """Features of an odd, non-square image have the strides and widths that the spec announces."""
    with without_memory():
        model = without_blocks(model_spec(name)).build()
    maps = model.features(torch.empty(2, model.spec.in_chans, 193, 226, device="meta"))
    assert [m.shape[1] for m in maps] == [info.channels for info in model.feature_info]
    grid = Grid(193, 226)
    sizes = {}
    for number, stage in enumerate(model.spec.stages):
        grid = stage.out_grid(grid)
        sizes[number] = grid.size
    assert [tuple(m.shape[2:]) for m in maps] == [sizes[info.stage] for info in model.feature_info]
    strides = [info.stride for info in model.feature_info]
    assert strides == sorted(set(strides))
    for map_, stride in zip(maps, strides, strict=True):
        # Strides round up; besides, PiT's patches reach nowhere over the border, and MobileViTv2 stretches odd maps.
        off = 2 if name.startswith(("pit_", "mobilevitv2")) else 1
        assert abs(map_.shape[2] - 193 / stride) <= off
        assert abs(map_.shape[3] - 226 / stride) <= off


def test_stream_is_contiguous(name: str):
    """Every stage hands on contiguous tokens, so that maps are channels_last and no hidden copies follow.

    The maps of `features` are these tokens.
    """
    model = small_model(name)
    outputs: list[Tensor] = []
    for stage in model.stages:
        stage.register_forward_hook(lambda module, args, output: outputs.append(output[0]))
    with torch.no_grad():
        maps = model.features(images(64, 64))
    for info, map_ in zip(model.feature_info, maps, strict=True):
        tokens = map_.permute(0, 2, 3, 1).flatten(1, 2)
        assert torch.equal(tokens, outputs[info.stage][:, -tokens.shape[1] :])
    assert len(outputs) == len(model.stages)
    assert all(output.is_contiguous() for output in outputs)


def test_any_size(name: str):
    assert capabilities.any_size(Ours(name)) is None


def test_batch_independence(name: str):
    model = perturbed_model(name).double()
    batch = images(64, 80).double()
    with torch.no_grad():
        together = model(batch)
        alone = torch.cat([model(image[None]) for image in batch])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


def test_seed_decides_initialisation(name: str):
    capabilities.seeded(Ours(name))


def test_without_classes_gives_the_embedding(name: str):
    model = small_model(name)
    with without_memory():
        headless = small_spec(name).replace(num_classes=0).build().eval()
    state = model.state_dict()
    headless.load_state_dict({key: state[key] for key in headless.state_dict()}, assign=True)
    batch = images(64, 64)
    with torch.no_grad():
        embedding = headless(batch)
        assert embedding.shape == (3, model.num_features)
        assert torch.equal(model.embed(batch), embedding)
        torch.testing.assert_close(model.forward_head(embedding), model(batch))


def test_any_number_of_channels(name: str):
    spec = without_blocks(small_spec(name))
    for channels in (1, 2, 5):
        with without_memory():
            model = spec.replace(in_chans=channels).build().eval()
        assert model(images(64, 64, channels).to("meta")).shape == (3, 7)
        with pytest.raises(ValueError, match="in_chans"):
            model(images(64, 64, channels + 1).to("meta"))


def test_attention_maps_are_distributions(name: str):
    model = small_model(name)
    attentions = [module for module in model.modules() if isinstance(module, ScaledDotProduct)]
    maps = model.attention_maps(images(64, 96))
    assert len(maps) == len(attentions)
    for module_name, weights in maps.items():
        assert weights.ndim == 4, module_name
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))


def test_attention_maps_give_the_output():
    """The recorded weights, applied to the values, are what the attention computed."""
    model = small_model("vit_tiny_patch16_224")
    perturb(model)
    seen: list[tuple[Tensor, Tensor]] = []

    def record(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((args[2], output))

    next(module for module in model.modules() if isinstance(module, ScaledDotProduct)).register_forward_hook(record)
    weights = next(iter(model.attention_maps(images(64, 64)).values()))
    value, output = seen[0]
    torch.testing.assert_close(weights @ value, output, atol=1e-5, rtol=1e-4)


def test_every_parameter_gets_a_gradient_and_checkpointing_gives_the_same(name: str):
    capabilities.every_parameter_learns(Ours(name, exact=True))
    capabilities.checkpointing(Ours(name, exact=True))
    with contextlib.suppress(NotApplicable):
        capabilities.checkpointing_statistics(Ours(name, exact=True))


def test_layers_cover_each_parameter_once(name: str):
    capabilities.layer_groups(Ours(name))
    model = small_model(name)
    assert len(model.layer_parameters()) == len(model.spec.stages) + Ours(name).blocks() + 1


def test_frozen_layers_stay_frozen_through_train(name: str):
    capabilities.freezing(Ours(name))
    model = small_model(name)
    count = len(model.layers())
    model.freeze(count - 1)
    trainable = {key for key, parameter in model.train().named_parameters() if parameter.requires_grad}
    assert trainable == {key for key, _ in model.named_parameters() if key.startswith(("head.", "pool."))}
    model.freeze(count)
    model.freeze(0)
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ValueError, match="cannot freeze"):
        model.freeze(count + 1)


def test_drop_path_acts_in_training_only(name: str):
    model = perturbed_model(name)
    torch.manual_seed(0)
    model.set_drop_path(0.5)
    with torch.no_grad():
        batch = images(64, 64)
        assert torch.equal(model(batch), model(batch))
    rates = [module.drop_path for module in model.modules() if isinstance(module, BranchModule)]
    blocks = sum(len(stage.blocks) for stage in model.spec.stages)
    assert max(rates, default=0.0) == (0.5 if blocks > 1 else 0.0)
    model.train()
    for module in model.modules():
        if isinstance(module, BatchNormModule):
            module.eval()
    with torch.no_grad():
        first = model(batch)
        differs = any(not torch.equal(model(batch), first) for _ in range(7))
    branches = [module for module in model.modules() if isinstance(module, BranchModule)]
    dropped = any(branch.residual and branch.drop_path for branch in branches)
    assert differs == dropped


def test_bfloat16_is_finite_and_close(name: str):
    model = small_model(name)
    batch = images(64, 80)
    with torch.no_grad():
        if name.startswith("repvit"):
            # Without a batch in its norms a fresh one's sums of three grow from layer to layer, to tens of thousands.
            model.train()(batch)
            model.eval()
        exact = model(batch)
        half = model.to(torch.bfloat16)(batch.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert torch.isfinite(half).all()
    assert torch.cosine_similarity(half.float(), exact).min() > 0.95


def test_float16_is_finite(traced_name: str):
    capabilities.float16(Ours(traced_name))


def test_export(exported_name: str):
    capabilities.static_export(Ours(exported_name, exact=True))


def test_export_with_dynamic_batch(traced_name: str):
    capabilities.dynamic_batch(Ours(traced_name, exact=True))


def test_onnx(exported_name: str):
    capabilities.onnx(Ours(exported_name))


def test_compile_without_graph_break(traced_name: str):
    capabilities.compiling(Ours(traced_name, exact=True))


def test_saved_and_loaded(name: str):
    capabilities.saving(Ours(name, exact=True))


def test_weights_at_another_size(traced_name: str):
    capabilities.weights_at_another_size(Ours(traced_name))


def test_weights_for_other_channels_and_classes(traced_name: str):
    capabilities.channels(Ours(traced_name))
    capabilities.classes(Ours(traced_name))


def test_softmax_attention_is_fused(name: str):
    """All of it, but between channels and with mixed heads; so no layer has a softmax that nobody knows of.

    More than `capabilities.fused_attention` asks, which knows no names of what others do not fuse.
    """
    assert capabilities.attention_calls(Ours(name)) == Ours(name).attentions()


@pytest.mark.parametrize("name", ["efficientvit_b0", "xcit_nano_12_p16_224", "davit_tiny"])
def test_attention_maps_of_other_products_give_the_output(name: str):
    """Maps between channels, and the shares of linear attention, applied to the values, are what was computed."""
    model = small_model(name).double()
    perturb(model)
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for module_name, module in model.named_modules():
        if isinstance(module, ChannelProduct | LinearProduct):
            place = module_name.removesuffix(".attend")
            module.register_forward_hook(lambda m, args, out, place=place: seen.update({place: (args[2], out)}))
    maps = model.attention_maps(images(64, 96).double())
    assert seen
    for place, (value, output) in seen.items():
        torch.testing.assert_close(maps[place] @ value, output, atol=1e-3, rtol=1e-3, msg=place)


def test_attention_maps_leave_the_model_as_it_is(name: str):
    model = small_model(name).train()
    model.set_drop_path(0.5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first, second = model.attention_maps(images(64, 64)), model.attention_maps(images(64, 64))
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_attention_maps_of_a_compiled_model():
    model = small_model("vit_tiny_patch16_224")
    expected = model.attention_maps(images(64, 64))
    model.compile(backend="eager")
    model(images(64, 64))
    assert model.attention_maps(images(64, 64)).keys() == expected.keys()


def test_the_smallest_images(name: str):
    """They run, or are refused with their size."""
    model = small_model(name)
    for size in ((1, 1), (2, 3), (33, 2), (5, 9)):
        grids = itertools.accumulate(model.spec.stages, lambda grid, stage: stage.out_grid(grid), initial=Grid(*size))
        if min(min(grid.size) for grid in grids) < 1:
            # A stem that leaves out what fills no patch needs one patch.
            assert min(size) < (model.feature_info[0].stride if "siglip" in name or name.startswith("pit_") else 3)
            with pytest.raises(ValueError, match=f"images of {size[0]} x {size[1]} pixels are too small"):
                model(images(*size))
        else:
            with torch.no_grad():
                assert torch.isfinite(model(images(*size))).all()


def test_checkpointing_compiles():
    model = traced_model("coatnet_0_rw_224").train()
    model.set_grad_checkpointing()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=False)
    compiled(images(64, 64)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_drop_path_keeps_the_expectation_and_drops_whole_images():
    torch.manual_seed(0)
    update = torch.ones(10_000, 3, 2)
    dropped = drop_path(update, 0.25)
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert torch.equal(dropped, dropped[:, :1, :1].expand_as(dropped))
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_drop_path_has_a_rate_below_one(rate: float):
    with pytest.raises(ValueError, match="rate of at least 0 and below 1"):
        small_model("vit_tiny_patch16_224").set_drop_path(rate)
