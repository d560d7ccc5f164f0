"""What timm makes of the size of images: for some families it builds other layers, or computes something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..components.windows import WindowAttention
from ..spec import Grid

if TYPE_CHECKING:
    from ..encoder import Model
    from ..families import Family

# Families of which timm asks for the size, though no layer here depends on it.
SIZED = ("vit_rope",)


def built_for(family: Family, architecture: str, img_size: tuple[int, int]) -> Model:
    """The spec of an architecture as it is built for a size, of which the smaller side decides about windows."""
    return family.model(architecture, img_size=min(img_size)).replace(img_size=img_size)


def differs(family: Family, spec: Model) -> bool:
    """Whether timm computes something else than a model of this family does at its size."""
    return family.name in DIFFERS and DIFFERS[family.name](spec)


def _oblong(spec: Model) -> bool:
    """timm gives windows a side for each side of the image, and the builders here take one."""
    height, width = spec.img_size
    return height != width


def _pads_shifted(spec: Model) -> bool:
    """timm shifts maps before it pads them: where windows do not divide them, opposite borders see each other."""
    height, width = spec.img_size
    grid = Grid(height, width)
    for stage in spec.stages:
        grid = stage.out_grid(grid)
        for mixer in (branch.mixer for block in stage.blocks for branch in block.branches):
            if isinstance(mixer, WindowAttention):
                sides = zip(mixer.shift, mixer.window, grid.size, strict=True)
                if any(moved and size % side for moved, side, size in sides):
                    return True
    return _oblong(spec)


def _resized(spec: Model) -> bool:
    """timm's tables are for one size."""
    return spec.img_size != (224, 224)


DIFFERS: dict[str, Callable[[Model], bool]] = {
    "efficientformer": _resized,
    **dict.fromkeys(("maxvit", "maxvit_tf", "maxvit_pm", "maxxvit"), _oblong),
    **dict.fromkeys(("swin", "swinv2", "swinv2_cr"), _pads_shifted),
}
