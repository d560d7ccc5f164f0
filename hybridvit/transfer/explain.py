"""An image as a model gets it, and where in it the model saw a class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import PIL.Image

from ..inspect import class_maps, overlay
from .data.previews import stretched
from .geometry import EvalGeometry
from .transforms import transforms

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..encoder import Encoder


def looked_at(
    model: Encoder, image: Image.Image | Tensor, class_index: int | None = None
) -> tuple[Image.Image, Image.Image]:
    """The resized and cropped image, and the same coloured where the class was seen, by default the most likely one."""
    prepare = transforms(model)
    images = prepare(image)[None].to(next(model.parameters()))
    seen = EvalGeometry(prepare.preprocess)(image)
    if not isinstance(seen, PIL.Image.Image):
        seen = stretched(seen.numpy())
    return seen, overlay(seen, class_maps(model, images, class_index)[0])
