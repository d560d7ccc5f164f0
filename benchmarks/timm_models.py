"""timm's models as subjects of `tests/capabilities.py`, used as its documentation says."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers.config import set_fused_attn
from timm.models import save_for_hf
from timm.optim._param_groups import param_groups_layer_decay
from timm.utils.attention_extract import AttentionExtract
from timm.utils.model import freeze
from torch import Tensor, nn

from hybridvit.encoder import Encoder
from hybridvit.registry import index, model_names, model_spec
from tests.capabilities import CLASSES, Attentions, FeatureMap, Size, attentions_of, warmed_up
from tests.parity import images

# Where the smallest is not what the family is about: without attention, or a backbone without a classifier.
INSTEAD = {"mobilenetv4": "mobilenetv4_hybrid_medium", "vit_pe": "vit_pe_core_tiny_patch16_384"}


def smallest(family: str) -> str | None:
    """timm's smallest model of a family of the zoo, miniatures for its own tests apart."""
    names = [name for name in model_names(family=family) if timm.is_model(name) and not name.startswith("test_")]
    return INSTEAD.get(family) or min(names, key=lambda name: index()[name].params, default=None)


Arguments = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Timm:
    """A model of timm by name.

    Options: `arguments` of `create_model`, `set_fused_attn(experimental=True)`, `forward_intermediates` in place of
    `features_only`, `set_input_size` in place of `img_size`, and arguments of `AttentionExtract`. The other
    size is a little larger, or `twice` as large, which more windows divide.
    """

    name: str
    arguments: Arguments = ()
    experimental: bool = False
    intermediates: bool = False
    set_input_size: bool = False
    twice: bool = False
    extract: Arguments = ()
    exact: bool = False

    @property
    def size(self) -> Size:
        config = timm.get_pretrained_cfg(self.name)
        assert config is not None
        return (config.input_size[1], config.input_size[2])

    @property
    def other_size(self) -> Size:
        height, width = self.size
        more = 56 if "patch14" in self.name else 64
        return (2 * height, 2 * width) if self.twice else (height + more, width + more)

    def _create(self, name: str, **arguments: Any) -> Any:
        set_fused_attn(True, experimental=self.experimental)
        return timm.create_model(name, **dict(self.arguments) | arguments).eval()

    def build(self, anew: bool = False) -> nn.Module:
        return self._create(self.name, num_classes=CLASSES)

    def perturbed(self, traced: bool = False) -> nn.Module:
        return copy.deepcopy(_perturbed(self))

    def save(self, model: nn.Module, directory: Path) -> None:
        save_for_hf(model, str(directory), safe_serialization=True)

    def load(self, directory: Path, **changes: Any) -> nn.Module:
        name, size = f"local-dir:{directory}", changes.get("img_size")
        if size and self.set_input_size:
            model = self._create(name, pretrained=True)
            model.set_input_size(size)
            return model
        try:
            return self._create(name, pretrained=True, **changes)
        except TypeError as problem:
            if size is None or "img_size" not in str(problem):
                raise
            return self._create(name, pretrained=True)  # it takes no size, since it has no tables

    def embed(self, model: Any, batch: Tensor) -> Tensor:
        return model.forward_head(model.forward_features(batch), pre_logits=True)

    def width(self, model: Any) -> int:
        return getattr(model, "head_hidden_size", None) or model.num_features

    def features(self, batch: Tensor) -> list[FeatureMap]:
        if self.intermediates:
            model: Any = self.build()
            maps = model.forward_intermediates(batch, intermediates_only=True)
            told = [(info["num_chs"], info["reduction"]) for info in model.feature_info]
        else:
            model = self._create(self.name, features_only=True)
            maps = model(batch)
            told = list(zip(model.feature_info.channels(), model.feature_info.reduction(), strict=True))
            if str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC"):  # as it announces, too
                maps = [map_.permute(0, 3, 1, 2) for map_ in maps]
        return [FeatureMap(map_, *facts) for map_, facts in zip(maps, told, strict=True)]

    def attention_maps(self, batch: Tensor) -> list[Tensor]:
        set_fused_attn(False)
        model = timm.create_model(self.name, num_classes=CLASSES, **dict(self.arguments))
        with torch.no_grad():
            return list(AttentionExtract(model, **dict(self.extract))(batch).values())

    @functools.cached_property
    def _same(self) -> Encoder:
        """The zoo's model of this name, which tells how many parts of a kind the architecture has."""
        with torch.device("meta"):
            return model_spec(self.name).build()

    def attentions(self) -> Attentions:
        return attentions_of(self._same)

    def blocks(self) -> int:
        return sum(len(stage.blocks) for stage in self._same.spec.stages)

    def layers(self, model: nn.Module) -> list[list[nn.Parameter]]:
        groups: dict[float, list[nn.Parameter]] = {}
        for group in param_groups_layer_decay(model, layer_decay=0.5):
            groups.setdefault(group["lr_scale"], []).extend(group["params"])
        return list(groups.values())

    def set_checkpointing(self, model: Any) -> None:
        model.set_grad_checkpointing(True)

    def freeze(self, model: Any) -> tuple[str, ...]:
        named = model.pretrained_cfg["classifier"]
        heads = tuple(dict.fromkeys(name.partition(".")[0] for name in ([named] if isinstance(named, str) else named)))
        freeze(model, [name for name, _ in model.named_children() if name not in heads])
        for parameter in model.parameters(recurse=False):  # class tokens and the like, which `freeze` does not name
            parameter.requires_grad = False
        return tuple(f"{head}." for head in heads)


@functools.lru_cache(maxsize=1)
def _perturbed(subject: Timm) -> nn.Module:
    """Gently: what `tests.parity.perturb` draws lets a network of full depth answer its rounding errors."""
    model, generator = subject.build(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            small = parameter.ndim < 2 or any(part in name for part in ("embed", "token", "table", "bias"))
            size = torch.tensor(0.2) if small else parameter.std()
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size / 2)
    return warmed_up(model, images(*subject.size))


def options(name: str, capability: str) -> dict[str, Timm]:
    """What timm offers beyond its defaults for a capability, by how one asks for it."""
    by_arguments: dict[str, dict[str, Any]] = {
        "dynamic_img_size=True, dynamic_img_pad=True": {"dynamic_img_size": True, "dynamic_img_pad": True},
        "strict_img_size=False": {"strict_img_size": False},
    }
    sizes = {label: Timm(name, tuple(of.items())) for label, of in by_arguments.items()}
    exports = {"exportable=True": Timm(name, (("exportable", True),))}
    return {
        "any_size": sizes,
        "tiny_images": sizes,
        "weights_at_another_size": {
            "twice the size": Timm(name, twice=True),
            **sizes,
            "set_input_size": Timm(name, set_input_size=True),
        },
        "features": {"forward_intermediates": Timm(name, intermediates=True)},
        "attention_maps": {
            "AttentionExtract(names=['*softmax*'])": Timm(name, extract=(("names", ["*softmax*"]),)),
            "AttentionExtract(method='hook')": Timm(name, extract=(("method", "hook"),)),
        },
        "fused_attention": {"set_fused_attn(experimental=True)": Timm(name, experimental=True)},
        "static_export": exports,
        "dynamic_batch": exports,
        "dynamic_size": sizes,
        "compiling": exports,
        "onnx": exports,
    }.get(capability, {})
