"""Other classes, channels and sizes for a built model: what changes, and that nothing else does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from timm.models import adapt_input_conv

from hybridvit.adapt import GridDependent, repeat_channels, with_img_size, with_in_chans, with_num_classes
from hybridvit.components.convs import StdConv2d
from hybridvit.encoder import Encoder
from hybridvit.preprocess import Preprocess
from tests.parity import error, images, perturb
from tests.representatives import small_model

TINY = "cct_2_3x2_32"
# Each way to know positions, each kind of first kernel, each kind of classifier.
VARIED = [
    TINY,
    "botnet26t_256",
    "coatnet_nano_rw_224",
    "coatnet_rmlp_nano_rw_224",
    "cct_2_3x2_32_sine",
    "cvt_13",
    "deit_tiny_distilled_patch16_224",
    "efficientnet_lite0",
    "vit_medium_patch16_reg4_gap_256",
    "vit_tiny_r_s16_p8_224",
]


def tiny() -> Encoder:
    """A small model with everything that travels with weights."""
    model = small_model(TINY)
    perturb(model)
    model.labels = tuple("abcdefg")
    model.preprocess = Preprocess(input_size=(64, 64), mean=(0.3, 0.6, 0.9), std=(0.1, 0.2, 0.3))
    model.origin = {"architecture": TINY}
    return model


def logits(model: Encoder, batch: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(batch)


@pytest.mark.parametrize("name", VARIED)
def test_another_size_answers_as_the_original_at_that_size(name: str) -> None:
    """What is resized once is what would be resized in every forward pass, for a shape that is not square either."""
    model = small_model(name)
    perturb(model)
    adapted = with_img_size(model, (96, 128))
    assert adapted.spec == model.spec.replace(img_size=(96, 128))
    batch = images(96, 128)
    assert error(logits(adapted, batch), logits(model, batch)) < 1e-4
    for part in adapted.modules():
        if isinstance(part, GridDependent):
            assert part.grid != model.get_submodule(_name_of(adapted, part)).grid  # pyright: ignore[reportAttributeAccessIssue]


def _name_of(model: Encoder, part: object) -> str:
    return next(name for name, module in model.named_modules() if module is part)


@pytest.mark.parametrize("name", VARIED)
def test_other_channels_change_the_first_kernel_only(name: str) -> None:
    model = small_model(name)
    before = model.state_dict()
    for in_chans in (1, 5):
        adapted = with_in_chans(model, in_chans)
        after = adapted.state_dict()
        changed = [key for key in before if not torch.equal(before[key], after[key])]
        assert len(changed) == 1, changed
        assert torch.allclose(after[changed[0]], adapt_input_conv(in_chans, before[changed[0]]), atol=1e-6)
        assert logits(adapted, images(64, 64, channels=in_chans)).shape == (3, 7)


@pytest.mark.parametrize("in_chans", [1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize("old", [1, 3, 4])
def test_channels_are_repeated_as_timm_does(old: int, in_chans: int) -> None:
    kernel = torch.randn(5, old, 2, 2)
    expected = adapt_input_conv(in_chans, kernel.clone(), base_chans=old)
    assert torch.allclose(repeat_channels(kernel, in_chans), expected, atol=1e-6)


@pytest.mark.parametrize("name", VARIED)
def test_one_channel_answers_grey_images_as_before(name: str) -> None:
    model, grey = small_model(name).double(), images(64, 64, channels=1).double()
    perturb(model)
    found = error(logits(with_in_chans(model, 1), grey), logits(model, grey.expand(-1, 3, -1, -1)))
    standardised = any(isinstance(module, StdConv2d) for module in model.modules())
    assert found < 1e-10 or standardised, "a standardised kernel loses the scale of the sum"


def test_frozen_layers_stay_frozen() -> None:
    model = tiny()
    model.freeze(2)
    for adapted in (with_num_classes(model, 3), with_in_chans(model, 1), with_img_size(model, 48)):
        assert adapted.frozen_layers == 2
        frozen = {name for name, parameter in adapted.named_parameters() if not parameter.requires_grad}
        assert frozen == {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize("name", VARIED)
def test_other_classes_change_the_classifier_only(name: str) -> None:
    model = small_model(name)
    batch = images(64, 64)
    adapted = with_num_classes(model, 4)
    assert logits(adapted, batch).shape == (3, 4)
    with torch.no_grad():
        embedding = model.embed(batch)
        assert torch.equal(adapted.embed(batch), embedding)
    assert torch.equal(logits(with_num_classes(model, 0), batch), embedding)


def test_what_travels_with_the_weights() -> None:
    model = tiny()
    classes = with_num_classes(model, 7)
    assert (classes.labels, classes.preprocess, classes.origin) == (None, model.preprocess, model.origin)
    channels = with_in_chans(model, 1)
    assert (channels.labels, channels.origin) == (model.labels, model.origin)
    assert channels.preprocess is not None
    assert channels.preprocess.mean == pytest.approx((0.6,))
    assert channels.preprocess.std == pytest.approx((0.2,))
    four = with_in_chans(model, 4).preprocess
    assert four is not None
    assert four.mean == (0.3, 0.6, 0.9, 0.3)
    size = with_img_size(model, 32)
    assert (size.labels, size.origin) == (model.labels, model.origin)
    assert size.preprocess == Preprocess(input_size=(32, 32), mean=(0.3, 0.6, 0.9), std=(0.1, 0.2, 0.3))


CHANGES: dict[str, Callable[[Encoder], Encoder]] = {
    "classes": lambda model: with_num_classes(model, 3),
    "channels": lambda model: with_in_chans(model, 1),
    "size": lambda model: with_img_size(model, 96),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_original_stays_as_it_was(change: Callable[[Encoder], Encoder]) -> None:
    model, batch = tiny(), images(64, 64)
    before, facts = logits(model, batch), (model.spec, model.labels, model.preprocess)
    adapted = change(model)
    for parameter in adapted.parameters():
        parameter.data.fill_(9.0)
    assert torch.equal(logits(model, batch), before)
    assert (model.spec, model.labels, model.preprocess) == facts


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_precision_and_mode_are_kept(change: Callable[[Encoder], Encoder]) -> None:
    for training in (True, False):
        adapted = change(tiny().to(torch.bfloat16).train(training))
        assert {parameter.dtype for parameter in adapted.parameters()} == {torch.bfloat16}
        assert {part.training for part in adapted.modules()} == {training}
        assert not any(tensor.is_meta for tensor in adapted.state_dict().values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: with_num_classes(model, -1), "num_classes must be 0 or more, got -1"),
        (lambda model: with_in_chans(model, 0), "in_chans must be 1 or more, got 0"),
        (lambda model: with_img_size(model, (0, 32)), r"img_size must be positive, got \(0, 32\)"),
    ],
)
def test_impossible_numbers_are_refused(change: Callable[[Encoder], Encoder], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change(small_model(TINY))
