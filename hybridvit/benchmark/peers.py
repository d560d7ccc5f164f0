"""Other packages' models of the same architecture, with our weights: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..keys import KeyRules, check_keys
from ..registry import family_of, model_spec
from ..weights.layouts import layouts_of
from .cases import Case
from .records import BenchmarkError

LARGEST_DIFFERENCE = 1e-3

_NO_DROPOUT = {"drop_path_rate": 0.0}


def _vit(dim: int, depth: int = 12, heads: int | None = None) -> dict[str, Any]:
    return {
        "layer_norm_eps": 1e-6,
        "hidden_size": dim,
        "num_hidden_layers": depth,
        "num_attention_heads": heads or dim // 64,
        "intermediate_size": 4 * dim,
    }


def _swin(dim: int, *depths: int) -> dict[str, Any]:
    heads = [dim // 32 * 2**stage for stage in range(4)]
    return _NO_DROPOUT | {"embed_dim": dim, "depths": list(depths), "num_heads": heads}


def _levit(*dims: int, key_dim: int, heads: tuple[int, ...], depths: tuple[int, ...] = (4, 4, 4)) -> dict[str, Any]:
    shrinks = [["Subsample", key_dim, dim // key_dim, 4, 2, 2] for dim in dims[:-1]]
    return {
        "hidden_sizes": list(dims),
        "key_dim": [key_dim] * 3,
        "num_attention_heads": list(heads),
        "depths": list(depths),
        "down_ops": [*shrinks, [""]],
    }


def _mobilevit(*dims: int, necks: tuple[int, ...], expand: float = 4.0) -> dict[str, Any]:
    return {"hidden_sizes": list(dims), "neck_hidden_sizes": list(necks), "expand_ratio": expand}


# The model type of transformers, and where its config differs from the type's usual one.
TRANSFORMERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "vit_tiny_patch16_224": ("vit", _vit(192)),
    "vit_small_patch16_224": ("vit", _vit(384)),
    "vit_base_patch16_224": ("vit", _vit(768)),
    "vit_large_patch16_224": ("vit", _vit(1024, 24)),
    "deit_tiny_distilled_patch16_224": ("deit", _vit(192)),
    "deit_small_distilled_patch16_224": ("deit", _vit(384)),
    "deit_base_distilled_patch16_224": ("deit", _vit(768)),
    "vit_small_patch14_dinov2": ("dinov2", _vit(384) | {"image_size": 518, "patch_size": 14}),
    "vit_base_patch14_dinov2": ("dinov2", _vit(768) | {"image_size": 518, "patch_size": 14}),
    "swin_tiny_patch4_window7_224": ("swin", _swin(96, 2, 2, 6, 2)),
    "swin_small_patch4_window7_224": ("swin", _swin(96, 2, 2, 18, 2)),
    "swin_base_patch4_window7_224": ("swin", _swin(128, 2, 2, 18, 2)),
    "cvt_13": ("cvt", {"drop_path_rate": [0.0, 0.0, 0.0]}),
    "cvt_21": ("cvt", {"drop_path_rate": [0.0, 0.0, 0.0], "depth": [1, 4, 16]}),
    "levit_128s": ("levit", _levit(128, 256, 384, key_dim=16, heads=(4, 6, 8), depths=(2, 3, 4))),
    "levit_128": ("levit", _levit(128, 256, 384, key_dim=16, heads=(4, 8, 12))),
    "levit_192": ("levit", _levit(192, 288, 384, key_dim=32, heads=(3, 5, 6))),
    "levit_256": ("levit", _levit(256, 384, 512, key_dim=32, heads=(4, 6, 8))),
    "levit_384": ("levit", _levit(384, 512, 768, key_dim=32, heads=(6, 9, 12))),
    "mobilevit_xxs": ("mobilevit", _mobilevit(64, 80, 96, necks=(16, 16, 24, 48, 64, 80, 320), expand=2.0)),
    "mobilevit_xs": ("mobilevit", _mobilevit(96, 120, 144, necks=(16, 32, 48, 64, 80, 96, 384))),
    "mobilevit_s": ("mobilevit", _mobilevit(144, 192, 240, necks=(16, 32, 64, 96, 128, 160, 640))),
    "pvt_v2_b0": ("pvt_v2", {}),
}
# Those whose class is not the type's usual one.
_CLASSES = {
    "deit": "DeiTForImageClassificationWithTeacher",
    "levit": "LevitForImageClassificationWithTeacher",
    "dinov2": "Dinov2Model",
}


class Output(nn.Module):
    """A model of transformers that gives its logits, or what it pools, alone."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, images: Tensor) -> Tensor:
        return getattr(self.model(pixel_values=images), self.name)


def timm_model(case: Case) -> nn.Module:
    """timm's model of the same name, freshly initialised."""
    import timm

    classes = case.spec().num_classes
    if case.img_size == model_spec(case.model).img_size:
        return timm.create_model(case.model, num_classes=classes)
    try:
        return timm.create_model(case.model, num_classes=classes, img_size=case.img_size)
    except TypeError:  # a convolutional model takes images of any size and refuses the argument
        return timm.create_model(case.model, num_classes=classes)


def transformers_model(case: Case) -> nn.Module:
    """transformers' model of a config with the same numbers, freshly initialised."""
    import transformers

    kind, numbers = TRANSFORMERS[case.model]
    spec = case.spec()
    size = case.img_size[0] if case.img_size[0] == case.img_size[1] else case.img_size
    given = numbers | {"image_size": size, "num_labels": spec.num_classes, "num_channels": spec.in_chans}
    config = transformers.AutoConfig.for_model(kind, **given)
    usual = transformers.AutoModelForImageClassification
    model = getattr(transformers, _CLASSES[kind])(config) if kind in _CLASSES else usual.from_config(config)
    return Output(model, "logits" if spec.num_classes else "pooler_output")


def torchvision_model(case: Case) -> nn.Module:
    """torchvision's model, freshly initialised, without the random depth that ours would have to be asked for."""
    import torchvision

    name = torchvision_names()[case.model]
    size = {"vit": "image_size", "maxvit": "input_size"}.get(name.partition("_")[0])
    height, width = case.img_size
    if size and height != width:
        raise BenchmarkError(f"torchvision's {name} takes square images alone")
    sized = {"image_size": height} if size == "image_size" else {"input_size": case.img_size} if size else {}
    model = torchvision.models.get_model(name, **sized)
    for module in model.modules():
        if isinstance(module, torchvision.ops.StochasticDepth):
            module.p = 0.0
    return model


def torchvision_names() -> Mapping[str, str]:
    """torchvision's name of each of our models that it has."""
    from ..weights.from_torchvision import MODELS

    return {ours: theirs for theirs, ours in MODELS.items()}


def fresh(case: Case, package: str) -> nn.Module:
    """A package's model, or ours, freshly initialised and ready to classify."""
    return _MAKERS[package](case).eval()


_MAKERS: Mapping[str, Callable[[Case], nn.Module]] = {
    "hybridvit": lambda case: case.spec().build(),
    "timm": timm_model,
    "transformers": transformers_model,
    "torchvision": torchvision_model,
}


def packages_with(model: str) -> list[str]:
    """The packages that have this architecture, whether they are installed or not."""
    has = {
        "timm": "timm" in family_of(model).layouts,
        "transformers": model in TRANSFORMERS,
        "torchvision": model in torchvision_names(),
    }
    return [package for package, known in has.items() if known]


def peer(case: Case, package: str, ours: nn.Module) -> nn.Module:
    """A package's model with the weights of `ours`, ready to classify. Raises KeyMismatchError if they do not fit."""
    model = fresh(case, package)
    inner = model.model if isinstance(model, Output) else model
    assert isinstance(inner, nn.Module)
    rules = rules_of(case, package)
    weights = ours.state_dict()
    inner.load_state_dict(rules.to_theirs(weights), strict=False)
    # What they have beside it, the rules name; whatever else differs shows on the way back.
    check_keys(rules.to_ours(inner.state_dict()), weights, source=f"{package}'s {case.model}")
    return model


def rules_of(case: Case, package: str) -> KeyRules:
    """The key rules for a package's models in memory."""
    layouts = layouts_of(family_of(case.model))
    if package == "transformers":
        from ..weights.transformers_format import MODEL_TYPES

        kind = MODEL_TYPES[TRANSFORMERS[case.model][0]]
        return (kind.in_memory or kind.rules)(case.spec())
    return layouts[package](case.spec())


def perturb(model: nn.Module) -> None:
    """Moves what starts as 0 or 1, so that each weight shows in the output: scales of layers start so small, too."""
    generator = torch.Generator().manual_seed(0)

    def noise(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2 or not parameter.any():
                parameter.add_(0.05 * noise(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.05 * noise(buffer))
            elif name.endswith("running_var"):
                buffer.mul_(1 + 0.2 * noise(buffer).tanh())


def difference(ours: nn.Module, theirs: nn.Module, case: Case) -> float:
    """The largest difference of the outputs, over the spread of theirs. Raises BenchmarkError above a thousandth."""
    noise = case.of(1).images()
    coarse = nn.functional.interpolate(2 * noise[:, :, :5, :7], size=case.img_size, mode="bilinear")
    images = torch.cat([coarse, 0.5 * noise + 1])
    with torch.inference_mode():
        expected, actual = theirs(images), ours(images)
    if expected.shape != actual.shape:
        raise BenchmarkError(f"its outputs are {tuple(expected.shape)}, ours {tuple(actual.shape)}")
    spread = (expected - expected.mean(dim=0)).abs().max()
    found = ((actual - expected).abs().max() / spread).item()
    if not found <= LARGEST_DIFFERENCE:
        raise BenchmarkError(
            f"its outputs differ from ours by {found:.1e} of their spread, so a comparison of speed would mean nothing"
        )
    return found
