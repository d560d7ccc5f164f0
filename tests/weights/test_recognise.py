"""Architectures by the names and shapes of tensors alone."""

from __future__ import annotations

import pytest
import timm
import torch

from hybridvit.keys import StateDict
from hybridvit.meta import without_memory
from hybridvit.registry import family_of, model_spec
from hybridvit.weights import recognise as recognising
from hybridvit.weights.errors import WeightsError
from hybridvit.weights.layouts import OWN_LAYOUT, expected_tensors, layouts_of
from hybridvit.weights.recognise import recognise


def in_layout(architecture: str, layout: str, **changes: int) -> StateDict:
    spec = model_spec(architecture).replace(**changes)
    ours = expected_tensors(spec)
    return ours if layout == OWN_LAYOUT else layouts_of(family_of(architecture))[layout](spec).to_theirs(ours)


@pytest.mark.parametrize(
    ("architecture", "layout"),
    [
        ("cct_2_3x2_32", OWN_LAYOUT),
        ("cct_2_3x2_32", "original"),
        ("coatnet_0_rw_224", "timm"),
        ("levit_128s", "timm"),
        ("levit_conv_128s", "timm"),
        ("caformer_s18", "timm"),
        ("levit_128s", "transformers"),
        ("deit_tiny_distilled_patch16_224", "timm"),
        ("vit_base_patch16_224", "torchvision"),
        ("swin_tiny_patch4_window7_224", "transformers-v5"),
        ("maxvit_t", "torchvision"),
    ],
)
@pytest.mark.parametrize("changes", [{"num_classes": 37, "in_chans": 1}, {"num_classes": 0}])
def test_every_layout_of_any_classes_and_channels(architecture: str, layout: str, changes: dict[str, int]) -> None:
    fit = recognise(in_layout(architecture, layout, **changes), "a file")
    assert (fit.architecture, fit.layout.name) == (architecture, layout)
    assert fit.layout.spec == model_spec(architecture).replace(**changes)
    assert fit.differences == ()


def test_what_timm_itself_builds() -> None:
    with without_memory():
        tensors = timm.create_model("gcvit_xxtiny", num_classes=11).state_dict()
    fit = recognise(tensors, "a file")
    assert (fit.architecture, fit.layout.name, fit.layout.spec.num_classes) == ("gcvit_xxtiny", "timm", 11)


def test_one_network_of_several_names_has_the_name_with_the_most_layouts() -> None:
    assert model_spec("deit_base_patch16_224") == model_spec("vit_base_patch16_224")
    for name in ("deit_base_patch16_224", "vit_base_patch16_224"):
        assert recognise(in_layout(name, "timm"), "a file").architecture == "vit_base_patch16_224"
    assert recognise(in_layout("xcit_tiny_12_p16_384", "timm"), "a file").architecture == "xcit_tiny_12_p16_224"


def test_tables_of_another_size_are_recognised_with_the_size() -> None:
    tensors = in_layout("vit_tiny_patch16_224", "timm")
    tensors["pos_embed"] = torch.empty(1, 1 + 6 * 4, 192, device="meta")
    with pytest.raises(WeightsError, match=r"stages\.0\.position\.table is \(1, 25, 192\), not \(1, 197, 192\)"):
        recognise(tensors, "a file")
    assert recognise(tensors, "a file", (96, 64)).layout.spec.img_size == (96, 64)


def test_several_that_differ_in_what_no_weight_shows() -> None:
    with pytest.raises(WeightsError) as caught:
        recognise(in_layout("vit_base_patch16_clip_224", "timm"), "a file")
    assert str(caught.value) == (
        "a file fits several architectures, which differ in what no weight shows: vit_base_patch16_clip_224, "
        'vit_base_patch16_clip_quickgelu_224; say which it is: create_model("vit_base_patch16_clip_224", file=...)'
    )


def test_the_nearest_are_named_with_what_differs() -> None:
    tensors = in_layout("resnet18", "timm", num_classes=5)
    del tensors["layer3.0.bn1.weight"]
    with pytest.raises(
        WeightsError, match=r"fits no architecture as it is\. Nearest is resnet18 in layout timm: no "
    ) as e:
        recognise(tensors | {"gate": torch.empty(3)}, "a file")
    assert "gate is surplus" in str(e.value)
    assert 'say which: create_model("resnet18", file=...)' in str(e.value)


@pytest.mark.parametrize(
    "tensors", [{}, {"a": torch.empty(3)}, {"a": torch.empty(())}, {"a": torch.empty(2, 3, 4, 5, 6)}]
)
def test_what_is_nothing_known(tensors: StateDict) -> None:
    with pytest.raises(WeightsError, match="a file is of no architecture of the zoo"):
        recognise(tensors, "a file")


def test_few_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of parameters rule out nearly all."""
    tensors, compared = in_layout("convit_tiny", "timm", num_classes=9), list[str]()
    closest = recognising._closest

    def noted(architecture: str, *arguments: object) -> recognising.Fit:
        compared.append(architecture)
        return closest(architecture, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(recognising, "_closest", noted)
    recognise(tensors, "a file")
    assert compared == ["convit_tiny"]
