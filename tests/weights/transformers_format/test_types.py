"""Every model type of transformers: its directories and its models in memory, with drawn weights, equal in logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.weights.store import WeightsError
from hybridvit.weights.transformers_format import MODEL_TYPES
from tests.parity import TOLERANCE, assert_power, error, images, perturb

SIZE = 64
VIT: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": SIZE}
VIT |= {"patch_size": 16, "layer_norm_eps": 0.05}
MLP = VIT | {"intermediate_size": 100}
DINO = VIT | {"mlp_ratio": 2}
SWIN = {"embed_dim": 16, "depths": [1, 2, 1], "num_heads": [1, 2, 4], "window_size": 4, "image_size": SIZE}
MOBILE = [16, 16, 24, 32, 40, 48, 64]
PYRAMID = {"depths": [1, 2, 1, 1], "hidden_sizes": [16, 24, 32, 40]}
# transformers indexes the drop path rates of the blocks of a stage by the stage, so each needs enough of them.
CVT = {"embed_dim": [16, 24, 32], "depth": [1, 2, 3], "num_heads": [1, 2, 4]}
HIERA = {"embed_dim": 16, "depths": [1, 2, 2, 1], "num_heads": [1, 2, 4, 8], "image_size": [SIZE, SIZE]}
LEVIT = {"hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "depths": [1, 2, 1], "image_size": SIZE}
# model type, class of the model without "ForImageClassification", and the numbers of a small one
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("vit", "ViT", MLP | {"num_channels": 2, "qkv_bias": False, "hidden_act": "quick_gelu"}),
    ("deit", "DeiT", MLP | {"patch_size": [8, 8]}),
    ("deit", "DeiT with teacher", MLP),
    ("dinov2", "Dinov2", DINO),
    ("dinov2", "Dinov2", DINO | {"use_swiglu_ffn": True}),
    ("dinov2_with_registers", "Dinov2WithRegisters", DINO | {"num_register_tokens": 3}),
    ("beit", "Beit", MLP | {"use_relative_position_bias": True}),
    (
        "beit",
        "Beit",
        MLP | {"use_absolute_position_embeddings": True, "use_mean_pooling": False, "layer_scale_init_value": 0.0},
    ),
    ("swin", "Swin", SWIN),
    ("swinv2", "Swinv2", SWIN | {"window_size": 7}),
    ("swinv2", "Swinv2", SWIN | {"window_size": 3, "pretrained_window_sizes": [5, 0, 4]}),
    ("hiera", "Hiera", HIERA),
    ("cvt", "Cvt", CVT),
    ("levit", "Levit", LEVIT),
    ("levit", "Levit with teacher", LEVIT),
    ("mobilevit", "MobileViT", {"neck_hidden_sizes": MOBILE, "hidden_sizes": [16, 24, 32], "expand_ratio": 2.0}),
    ("mobilevitv2", "MobileViTV2", {"width_multiplier": 0.5}),
    ("pvt_v2", "PvtV2", PYRAMID | {"num_attention_heads": [1, 2, 4, 5], "mlp_ratios": [2, 4, 3, 2]}),
    ("pvt_v2", "PvtV2", PYRAMID | {"num_attention_heads": [1, 2, 4, 5], "linear_attention": True}),
    ("swiftformer", "SwiftFormer", {"depths": [1, 2, 1, 1], "embed_dims": [16, 24, 32, 40]}),
    ("poolformer", "PoolFormer", PYRAMID),
]
IDS = [f"{name} {index}" for index, (_, name, _) in enumerate(CASES)]
DEEP = ("mobilevit", "mobilevitv2")  # in which rounding shows, so that they run in double precision


def reference_of(name: str, numbers: dict[str, Any]) -> Any:
    """A model of transformers with drawn weights; of the class with a teacher if its name says so."""
    base, _, teacher = name.partition(" with ")
    config = getattr(transformers, f"{base}Config")(**numbers, id2label={label: str(label) for label in range(7)})
    kind = f"{base}ForImageClassification" + ("WithTeacher" if teacher else "")
    model = getattr(transformers, kind)(config).eval()
    perturb(model, batch_norm_gain=1.5 if base.startswith("MobileViT") else 1.0)
    return model


def load(directory: Path) -> Encoder:
    return hv.create_model(f"local-dir:{directory}")


def assert_equal(ours: Encoder, reference: Any, size: tuple[int, int], tolerance: float = TOLERANCE) -> None:
    precise = reference.config.model_type in DEEP
    batch = images(*size, ours.spec.in_chans).double() if precise else images(*size, ours.spec.in_chans)
    if precise:
        ours, reference = ours.double(), reference.double()
    with torch.no_grad():
        assert error(ours(batch), reference(batch).logits) <= tolerance


@pytest.mark.parametrize(("kind", "name", "numbers"), CASES, ids=IDS)
def test_a_directory_of_any_numbers(kind: str, name: str, numbers: dict[str, Any], tmp_path: Path) -> None:
    reference = reference_of(name, numbers)
    assert reference.config.model_type == kind
    reference.save_pretrained(tmp_path)
    assert_equal(load(tmp_path), reference, (SIZE, SIZE))
    if kind not in ("mobilevit", "mobilevitv2"):
        assert_power(load(tmp_path), (SIZE, SIZE), immaterial=IMMATERIAL.get(kind, ()))


IMMATERIAL = {
    # What is added to all positions is in the mean of neighbours and in the position itself.
    "poolformer": ("branches.0.norm.bias",),
    # Large activations, which are normalised behind these.
    "swiftformer": ("query.bias", "key.bias"),
}


@pytest.mark.parametrize(("kind", "name", "numbers"), CASES, ids=IDS)
def test_names_in_memory(kind: str, name: str, numbers: dict[str, Any], tmp_path: Path) -> None:
    """A state dict as it is in memory, saved without the library."""
    reference = reference_of(name, numbers)
    reference.config.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": kind}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors: dict[str, Tensor] = {key: tensor.contiguous() for key, tensor in reference.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    assert_equal(load(tmp_path), reference, (SIZE, SIZE))


# The model without a classifier, and what it gives that is our embedding.
EMBEDDINGS: list[tuple[str, str, dict[str, Any]]] = [
    ("ViT", "token", MLP),
    ("Dinov2", "token", DINO),
    ("Dinov2WithRegisters", "token", DINO),
    ("Beit", "pooler", MLP | {"use_relative_position_bias": True}),
    ("DINOv3ViT", "pooler", MLP | {"num_register_tokens": 4}),
    ("DINOv3ViT", "pooler", MLP | {"use_gated_mlp": True, "num_register_tokens": 2, "key_bias": True}),
    ("Hiera", "pooler", HIERA),
    ("Swin", "pooler", SWIN),
    ("Swinv2", "pooler", SWIN),
    ("Cvt", "cls", CVT),
    ("Levit", "pooler", LEVIT),
    ("MobileViT", "pooler", {"neck_hidden_sizes": MOBILE, "hidden_sizes": [16, 24, 32], "expand_ratio": 2.0}),
    ("PvtV2", "map", PYRAMID | {"num_attention_heads": [1, 2, 4, 5]}),
    ("SwiftFormer", "map", {"depths": [1, 2, 1, 1], "embed_dims": [16, 24, 32, 40]}),
    ("PoolFormer", "map", PYRAMID),
]


@pytest.mark.parametrize(
    ("name", "output", "numbers"), EMBEDDINGS, ids=[f"{name} {index}" for index, (name, _, _) in enumerate(EMBEDDINGS)]
)
def test_without_a_classifier(name: str, output: str, numbers: dict[str, Any], tmp_path: Path) -> None:
    reference = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**numbers)).eval()
    perturb(reference)
    reference.save_pretrained(tmp_path)
    if name == "DINOv3ViT":  # the names in memory of the one type that has no classifier
        other = [load(tmp_path)(images(SIZE, SIZE))]
        save_file(reference.state_dict(), tmp_path / "model.safetensors")
        assert torch.equal(load(tmp_path)(images(SIZE, SIZE)), other[0])
    ours, batch = load(tmp_path).double(), images(SIZE, SIZE).double()
    with torch.no_grad():
        found = reference.double()(batch)
        expected = {
            "token": lambda: found.last_hidden_state[:, 0],
            "pooler": lambda: found.pooler_output,
            "map": lambda: found.last_hidden_state.mean(dim=(2, 3)),
            "cls": lambda: found.cls_token_value[:, 0],
        }[output]()
        assert ours.spec.num_classes == 0
        assert error(ours(batch), expected) <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        ("Beit", MLP | {"use_shared_relative_position_bias": True}, "use_shared_relative_position_bias is True"),
        ("Swin", SWIN | {"patch_size": 2}, "patch_size is 2, and only 4"),
        ("Swinv2", SWIN | {"image_size": [64, 96]}, r"image_size is \[64, 96\]"),
        ("Levit", LEVIT | {"key_dim": [16, 16, 32]}, r"key_dim is \(16, 16, 32\)"),
        ("MobileViT", {"neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 64]}, "start with 8"),
        ("MobileViTV2", {"width_multiplier": 0.6}, "width_multiplier 0.6"),
        ("PvtV2", PYRAMID | {"num_attention_heads": [1, 2, 4, 5], "sr_ratios": [4, 2, 2, 1]}, r"sr_ratios is \[4"),
        ("SwiftFormer", {"depths": [1, 1, 1, 1], "use_layer_scale": False}, "use_layer_scale is False"),
        ("PoolFormer", PYRAMID | {"mlp_ratio": 2.0}, "mlp_ratio is 2.0"),
        ("Cvt", CVT | {"mlp_ratio": [4.0, 4.0, 2.0]}, "mlp_ratio is"),
    ],
)
def test_what_is_not_computed_here_is_refused(name: str, numbers: dict[str, Any], message: str, tmp_path: Path) -> None:
    reference = reference_of(name, numbers)
    reference.save_pretrained(tmp_path)
    kind = reference.config.model_type
    with pytest.raises(WeightsError, match=f"a transformers model of type {kind}: .*{message}"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["MobileViT", "MobileViTV2"])
def test_weights_that_see_blue_first_take_red_first_here(name: str, tmp_path: Path) -> None:
    numbers = next(numbers for _, other, numbers in CASES if other == name)
    reference = reference_of(name, numbers).double()
    reference.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "MobileViTImageProcessor", "size": 64}'
    )
    ours, batch = load(tmp_path), images(SIZE, SIZE).double()
    with torch.no_grad():
        assert error(ours.double()(batch), reference(batch.flip(1)).logits) <= TOLERANCE
        assert error(ours(batch), reference(batch).logits) > 0.01
    hv.save_pretrained(ours.float(), tmp_path / "ours")
    assert torch.equal(load(tmp_path / "ours")(batch.float()), ours.float()(batch.float()))


def test_every_type_is_tested() -> None:
    """Two are gone from transformers: their tests are beside their families'. DINOv3 has no classifier."""
    assert {kind for kind, _, _ in CASES} | {"vit-hybrid", "efficientformer", "dinov3_vit"} == set(MODEL_TYPES)
