"""One exported program for images of any size, compared with the model at sizes that it was not exported with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.exports import BUILT, EXAMPLE, Sizes, differences, dynamic_size, exported
from tests.parity import perturb
from tests.representatives import representatives, traced_model

# Between them: positions with a class token and without, tables by offset, by distance and by axis, windows that move,
# strided queries and pooled ones, patches that a map is stretched to, padding as in TensorFlow.
COVERING = {
    "beit_base_patch16_224",
    "cct_2_3x2_32",
    "hiera_tiny_224",
    "levit_128s",
    "mobilevit_xxs",
    "swin_tiny_patch4_window7_224",
    "vit_tiny_r_s16_p8_224",
}


class Tiles(nn.Module):
    """The means of a layer over tiles of so many pixels a side; or, without a side, a weight for each pixel."""

    def __init__(self, side: int | None) -> None:
        super().__init__()
        pixels = nn.Sequential(nn.Flatten(), nn.Linear(3 * EXAMPLE[0] * EXAMPLE[1], 4))
        tiles = nn.Sequential(nn.PixelUnshuffle(side), nn.Conv2d(3 * side**2, 4, 1)) if side else pixels
        self.layers = tiles

    def forward(self, images: Tensor) -> Tensor:
        mixed = self.layers(images)
        return mixed.flatten(2).mean(dim=2) if mixed.ndim == 4 else mixed


@pytest.mark.parametrize(("side", "expected"), [(1, "any"), (32, "multiples of 32"), (None, "fixed")])
def test_verdicts(side: int | None, expected: Sizes):
    assert dynamic_size(Tiles(side)) == expected


def test_a_program_of_wrong_results_counts_for_nothing():
    model = Tiles(1)
    program = exported(model)
    with torch.no_grad():
        nn.init.ones_(next(model.parameters()))
    assert len(differences(Tiles(1), program, [EXAMPLE, (40, 50)])) == 2


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in COVERING else pytest.mark.slow) for name in representatives()]
)
def test_one_program_for_any_size(name: str):
    """Batch, height and width are free; tables are built for another grid, and for the one that the images have."""
    model = traced_model(name).spec.replace(img_size=BUILT).build().double().eval()
    perturb(model)
    assert differences(model, exported(model), [(131, 75), (66, 193), BUILT]) == []
