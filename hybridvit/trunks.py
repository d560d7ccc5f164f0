"""The ViT that families share: its widths, its stage, its model, and the sizes that its names tell."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from .components.attention import Attention
from .components.blocks import Block, Branch, transformer_block
from .components.heads import LinearHead
from .components.mixers import Mlp
from .components.norms import LayerNorm
from .components.positions import LearnedPosition
from .components.transitions import Normalize, Patchify
from .encoder import Model, Stage
from .spec import Head, Norm, Pool, Position, Transition


class Width(NamedTuple):
    """Channels, number of blocks, attention heads and hidden channels over channels of a ViT."""

    dim: int
    depth: int
    heads: int
    mlp_ratio: float = 4

    @property
    def hidden(self) -> int:
        """Channels between the two layers of the MLP."""
        return round(self.mlp_ratio * self.dim)


WIDTHS = {
    "tiny": Width(192, 12, 3),
    "small": Width(384, 12, 6),
    "medium": Width(512, 12, 8),
    "mediumd": Width(512, 20, 8),
    "betwixt": Width(640, 12, 10),
    "base": Width(768, 12, 12),
    "base_plus": Width(896, 12, 14),
    "large": Width(1024, 24, 16),
    "so400m": Width(1152, 27, 16, 4304 / 1152),
    "huge": Width(1280, 32, 16),
    "giant": Width(1408, 40, 16, 6144 / 1408),
    "gigantic": Width(1664, 48, 16, 8192 / 1664),
}
NORM = LayerNorm(eps=1e-6)
POSITION = LearnedPosition()
LINEAR = LinearHead()


def vit_stage(
    *,
    enter: Transition | int,
    width: Width,
    prefix: int = 1,
    position: Position = POSITION,
    pre_norm: Norm | None = None,
    attention: Transition | None = None,
    mlp: Transition | None = None,
    norm: Norm = NORM,
    layer_scale: float | None = None,
    block: Block | None = None,
) -> Stage:
    """The stage that is a ViT: `enter` makes the tokens, equal blocks mix them. `pre_norm` comes before these.

    A number to `enter` with is the side of patches. A block is `attention` and `mlp`, by default those of the plain
    ViT, with a `norm` in front of each and a `layer_scale` behind; or it is another `block`.
    """
    enter = Patchify(dim=width.dim, patch=enter) if isinstance(enter, int) else enter
    attention, mlp = attention or Attention(heads=width.heads), mlp or Mlp(hidden=width.hidden)
    block = block or transformer_block(attention, mlp, norm, layer_scale)
    first = (Block(branches=(Branch(mixer=Normalize(norm=pre_norm), residual=False),)),) if pre_norm else ()
    return Stage(enter=enter, prefix=prefix, position=position, blocks=first + (block,) * width.depth)


def classifier(stages: Iterable[Stage], pool: Pool, img_size: int = 224, head: Head = LINEAR) -> Model:
    """A model of 1000 classes for square images, `img_size` pixels a side."""
    return Model(stages=tuple(stages), pool=pool, head=head, img_size=(img_size, img_size))


def named_sizes(names: str, **numbers: Any) -> dict[str, dict[str, Any]]:
    """The size of each name: `..._WIDTH_patchN_..._SIZE` says its width, patch and image, `numbers` what is left.

    Braces hold alternatives, as in a shell: `vit_{small,base}_patch16_{224,384}` is four names.
    """
    sizes: dict[str, dict[str, Any]] = {}
    pieces = ([piece.split(",") for piece in re.split("[{}]", name)] for name in names.split())
    for name in ("".join(choice) for alternatives in pieces for choice in itertools.product(*alternatives)):
        _, width, patch, rest = re.split(r"([a-z0-9]+)_patch(\d+)", name)
        of_image = {"img_size": int(size[0])} if (size := re.findall(r"_(\d{3})(?:_|$)", rest)) else {}
        sizes[name] = {"width": width, "patch": int(patch)} | of_image | numbers
    return sizes
