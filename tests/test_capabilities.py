"""Each check fails where the ability is missing, and the page is what was measured."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import capabilities as measurement
from hybridvit.components.attention import ScaledDotProduct
from hybridvit.encoder import Encoder
from hybridvit.families import family_names
from tests import capabilities
from tests.capabilities import CAPABILITIES, Attentions, FeatureMap, Ours, Subject
from tests.representatives import small_spec

TINY, NORMED = "cct_2_3x2_32", "resnet18"


class Changed(Ours):
    """A model that `change` takes something from."""

    def change(self, model: Encoder) -> Encoder:
        raise NotImplementedError

    def build(self, anew: bool = False) -> Encoder:
        return self.change(super().build(anew))

    def perturbed(self, traced: bool = False) -> Encoder:
        return self.change(super().perturbed(traced))


@dataclass(frozen=True)
class FixedSize(Changed):
    step: int = 64

    def change(self, model: Encoder) -> Encoder:
        def refuse(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            height, width = inputs[0].shape[2:]
            if height % self.step or width % self.step:
                raise ValueError("this size has no place here")

        model.register_forward_pre_hook(refuse)
        return model


class Mixing(Changed):
    def change(self, model: Encoder) -> Encoder:
        model.register_forward_hook(lambda module, inputs, output: output - output.mean(dim=0))
        return model


class Forgetful(Ours):
    """Loads nothing."""

    def load(self, directory: Path, **changes: Any) -> Encoder:
        return small_spec(self.name).replace(**{name: _pair(value) for name, value in changes.items()}).build().eval()


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, tuple) else value


class WithoutTables(Ours):
    """Keeps all but the tables when it loads."""

    def load(self, directory: Path, **changes: Any) -> Encoder:
        model = super().load(directory, **changes)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "table" in name:
                    parameter.copy_(torch.randn_like(parameter))
        return model


class Coarse(Ours):
    def features(self, batch: Tensor) -> list[FeatureMap]:
        return [each._replace(stride=2 * each.stride) for each in super().features(batch)]

    def attention_maps(self, batch: Tensor) -> list[Tensor]:
        return super().attention_maps(batch)[1:]

    def layers(self, model: Any) -> list[list[nn.Parameter]]:
        return [list(model.parameters())]

    def set_checkpointing(self, model: Any) -> None: ...

    def width(self, model: Any) -> int:
        return 3


class MovingStatistics(Ours):
    def freeze(self, model: Any) -> tuple[str, ...]:
        model.requires_grad_(False)
        model.head.requires_grad_(True)
        return ("head.",)


class Idle(Changed):
    def change(self, model: Encoder) -> Encoder:
        model.register_parameter("idle", nn.Parameter(torch.zeros(3)))
        return model


class Random(Ours):
    def build(self, anew: bool = False) -> Encoder:
        if anew:
            torch.seed()
        return small_spec(self.name).build().eval()


class Wide(Changed):
    """Answers beyond what half precision holds."""

    def change(self, model: Encoder) -> Encoder:
        model.register_forward_hook(lambda module, inputs, output: output * 1e30 * 1e30)
        return model


@pytest.mark.parametrize(
    ("check", "subject", "message"),
    [
        (capabilities.any_size, FixedSize(TINY), "no place"),
        (capabilities.tiny_images, FixedSize(TINY), "1 x 1: this size"),
        (capabilities.weights_at_another_size, WithoutTables(TINY), "off by"),
        (capabilities.weights_at_another_size, Forgetful(TINY), "moved"),
        (capabilities.channels, Forgetful(TINY), "off by"),
        (capabilities.classes, Forgetful(TINY), "off by"),
        (capabilities.saving, Forgetful(TINY), "differs"),
        (capabilities.features, Coarse(TINY), "announced with stride"),
        (capabilities.embedding, Coarse(TINY), "is not of 3"),
        (capabilities.attention_maps, Coarse(TINY), "0 maps of 1 attentions"),
        (capabilities.layer_groups, Coarse(NORMED), "1 groups for"),
        (capabilities.checkpointing, Coarse(TINY), "nothing is computed again"),
        (capabilities.checkpointing_statistics, Coarse(NORMED), "nothing is computed again"),
        (capabilities.freezing, MovingStatistics(NORMED), "statistics move"),
        (capabilities.every_parameter_learns, Idle(TINY), "1 parameters without a gradient, idle"),
        (capabilities.batch_independence, Mixing(TINY), "off by"),
        (capabilities.seeded, Random(TINY), "differs"),
        (capabilities.float16, Wide(TINY), "not finite"),
        (capabilities.bfloat16, Wide(TINY), "not finite"),
    ],
)
def test_a_check_can_fail(check: Callable[[Subject], str | None], subject: Subject, message: str) -> None:
    with pytest.raises(AssertionError if "place" not in message else ValueError, match=message):
        check(subject)


def test_sizes_in_part() -> None:
    assert capabilities.any_size(FixedSize(TINY, step=32)) == "multiples of 32"


def test_attention_that_is_not_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScaledDotProduct, "forward", lambda self, q, k, v, bias=None: self.weights(q, k, bias) @ v)
    with pytest.raises(AssertionError, match="0 fused of 1 attentions"):
        capabilities.fused_attention(Ours(TINY))


def test_statistics_that_are_updated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.checkpoint import checkpoint

    from hybridvit import encoder

    again: Callable[..., Any] = lambda block, *inputs: checkpoint(block, *inputs, use_reentrant=False)  # noqa: E731
    monkeypatch.setattr(encoder, "recomputed", again)
    capabilities.gradients.cache_clear()
    with pytest.raises(AssertionError, match="is updated twice"):
        capabilities.checkpointing_statistics(Ours(NORMED))
    capabilities.gradients.cache_clear()


def test_what_an_architecture_lacks_is_not_asked() -> None:
    assert Ours(NORMED).attentions() == Attentions(0, 0)
    for check in (capabilities.attention_maps, capabilities.fused_attention):
        with pytest.raises(capabilities.NotApplicable):
            check(Ours(NORMED))


# The measurement


def test_a_check_that_hangs_or_dies_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_here(side: str, names: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
        for name in wanted:
            if name == "dies":
                os._exit(3)
            if name == "hangs":
                time.sleep(60)
            yield name, {"result": "yes"}

    monkeypatch.setattr(measurement, "check_here", check_here)
    assert measurement.measured("timm", ["model"], ["first", "dies", "hangs", "last"], limit=1.0) == {
        "first": {"result": "yes"},
        "dies": {"result": "no", "note": "the process ended with code 3"},
        "hangs": {"result": "no", "note": "not done after 1 seconds"},
        "last": {"result": "yes"},
    }


def test_ours_are_as_good_as_the_worst() -> None:
    yes, part = {"result": "yes"}, {"result": "in part", "note": "multiples of 32"}
    no, nothing = {"result": "no", "note": "broken"}, {"result": "not applicable", "note": "no attention"}
    assert measurement.worst([("a", nothing), ("b", yes)]) == yes
    assert measurement.worst([("a", yes), ("b", part)]) == part
    assert measurement.worst([("a", part), ("b", no)]) == {"result": "no", "note": "b: broken"}


def test_timm_s_models_are_asked_at_their_defaults_first() -> None:
    """A real one: a ViT takes any size with an option, and in-channels without."""
    by_name = {each.name: each for each in CAPABILITIES}
    assert measurement.of_timm(by_name["channels"], "test_vit") == {"result": "yes"}
    told = measurement.of_timm(by_name["any_size"], "test_vit")
    assert told == {"result": "with an option", "note": "dynamic_img_size=True, dynamic_img_pad=True"}


def test_an_error_is_told_in_a_line() -> None:
    assert measurement.told(RuntimeError("Error(s) in loading:\n\tsize mismatch for x\nmore")) == (
        "Error(s) in loading: size mismatch for x"
    )
    assert measurement.told(ValueError("\x1b[96mno\x1b[0m file /tmp/abc/model.onnx")) == "no file model.onnx"
    assert len(measurement.told(ValueError("x" * 1000))) < 200
    with pytest.raises(AssertionError) as caught:
        raise AssertionError
    assert measurement.told(caught.value) == "AssertionError at `raise AssertionError`"


def test_the_page_is_what_was_measured() -> None:
    page = (measurement.DOCS / "capabilities.md").read_text(encoding="utf-8")
    assert page == measurement.page(measurement.read()), "run `python -m benchmarks.capabilities --render`"


def test_every_family_is_a_row_and_every_check_a_column() -> None:
    results = measurement.read()["families"]
    assert sorted(results) == family_names(), "run `python -m benchmarks.capabilities`"
    names = {each.name for each in CAPABILITIES}
    for sides in results.values():
        for side in sides.values():
            assert side["cells"].keys() <= names
    page = (measurement.DOCS / "capabilities.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:family|\[(\w+)\]\(families/\w+\.md\)) \|(.*)\|$", page, flags=re.M)
    assert [family for family, _ in rows[1:]] == family_names()
    assert all(len(row.split("|")) == len(CAPABILITIES) for _, row in rows)
