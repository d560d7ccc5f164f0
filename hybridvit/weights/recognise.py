"""Which architecture a weight file is of, from the names and shapes of its tensors alone.

Whoever has as many parameters, whatever the numbers of classes and channels, is compared name by name and shape by
shape, in every layout, without memory.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from torch import Tensor

from ..encoder import Model
from ..keys import StateDict
from ..registry import IndexEntry, family_of, index, model_spec
from .errors import WeightsError
from .layouts import Layout, classes_in, converted, expected_tensors, layouts_of, possible_layouts

# What checkpoints hold besides parameters, by the ends of its names; whole numbers are none either.
NO_PARAMETERS = ("running_mean", "running_var", "relative_coords_table", "attn_mask", "rel_pos_idx")
SHORTLIST = 10  # as many are compared if none has just the right number of parameters
NEAR = 0.02  # and none of those that are further off than this share
SHOWN, TOLD = 3, 20  # architectures, and differences of the nearest, in a message


@dataclass(frozen=True)
class Fit:
    """How a file fits an architecture in one layout; `differences` are names and shapes, none if it fits."""

    architecture: str
    layout: Layout
    differences: tuple[str, ...]


def recognise(tensors: Mapping[str, Tensor], where: str, img_size: tuple[int, int] | None = None) -> Fit:
    """The architecture and layout of tensors, with the numbers of classes and channels that they have.

    Position and bias tables have to be those of the architecture's own image size or of `img_size`. Architectures that
    are the same network under several names count as one: the name with the most layouts, or else the first.

    Raises WeightsError if none fits, with the nearest, or if several do.
    """
    outline = {key: tensor.to("meta") for key, tensor in tensors.items()}
    distances = sorted(_distances(outline).items(), key=lambda pair: pair[1])
    fits: list[Fit] = []
    for count, (architecture, distance) in enumerate(distances):
        found = any(not fit.differences for fit in fits)
        if distance and (found or count >= SHORTLIST or distance > NEAR):
            break
        fits.append(_closest(architecture, outline, img_size))
    # Two that differ in the size of their images alone, and have no tables of that size, are the same network.
    matches = [fit for fit in fits if not fit.differences]
    if len({fit.layout.spec.replace(img_size=(1, 1)) for fit in matches}) == 1:
        return max(matches, key=lambda fit: len(layouts_of(family_of(fit.architecture))))
    if matches:
        names = [fit.architecture for fit in matches]
        raise WeightsError(
            f"{where} fits several architectures, which differ in what no weight shows: {', '.join(names)}; say which "
            f'it is: create_model("{names[0]}", file=...)'
        )
    if not fits:
        raise WeightsError(
            f"{where} is of no architecture of the zoo: none has about as many parameters; if it is one of them in "
            "other names, say which: create_model(ARCHITECTURE, file=...)"
        )
    nearest, *others = sorted(fits, key=lambda fit: len(fit.differences))[:SHOWN]
    raise WeightsError(
        f"{where} fits no architecture as it is. Nearest is {nearest.architecture} in layout {nearest.layout.name}: "
        f"{_told(nearest)}"
        + "".join(f"; then {fit.architecture} with {len(fit.differences)} differences" for fit in others)
        + f'. If it is one of them, say which: create_model("{nearest.architecture}", file=...)'
    )


def _told(fit: Fit) -> str:
    told = ", ".join(fit.differences[:TOLD])
    return f"{told} and {len(fit.differences) - TOLD} more" if len(fit.differences) > TOLD else told


def _distances(outline: StateDict) -> dict[str, float]:
    """Every architecture by how far its number of parameters is from the file's, as a share of the file's."""
    parameters = {
        key: tensor for key, tensor in outline.items() if tensor.is_floating_point() and not key.endswith(NO_PARAMETERS)
    }
    total = sum(tensor.numel() for tensor in parameters.values())
    # What the classifier and the first kernel could be: parameters a class, how many classes, and the same of channels.
    shapes = Counter(tuple(tensor.shape) for tensor in parameters.values())
    heads = {(0, 0)} | {
        (times * (shape[1] + 1), shape[0])
        for shape, count in shapes.items()
        if len(shape) == 2
        for times in range(1, min(count, 2) + 1)
    }
    widths = {shape[0] for shape in shapes if len(shape) == 1}  # an embedding that has no classifier
    kernels = {(0, 3)} | {
        (shape[0] * shape[2] * shape[3], shape[1]) for shape in shapes if len(shape) == 4 and shape[1] != 3
    }

    def distance(entry: IndexEntry) -> float:
        more = {each * (entry.num_classes - count) for each, count in heads}
        more |= {times * (width + 1) * entry.num_classes for width in widths for times in (1, 2)}
        more |= {_in_mlp_head(width, entry.num_classes) for width in widths}
        return min(
            abs(total + classifier + per_channel * (3 - channels) - entry.params)
            for classifier, (per_channel, channels) in product(more, kernels)
        )

    return {name: distance(entry) / max(total, 1) for name, entry in index().items()}


def _in_mlp_head(width: int, num_classes: int) -> int:
    """The parameters of MetaFormer's classifier: a layer of four times the width, its norm, a layer of classes."""
    return 4 * width * (width + 1) + 8 * width + (4 * width + 1) * num_classes


def _closest(architecture: str, outline: StateDict, img_size: tuple[int, int] | None) -> Fit:
    """The layout of an architecture in which the fewest names and shapes differ."""
    released = model_spec(architecture)
    specs = [released] if img_size in (None, released.img_size) else [released, released.replace(img_size=img_size)]
    family = family_of(architecture)
    fits = [_fit(architecture, layout, outline) for spec in specs for layout in possible_layouts(family, spec)]
    return min(fits, key=lambda fit: len(fit.differences))


def _fit(architecture: str, layout: Layout, outline: StateDict) -> Fit:
    try:
        ours, untaken = converted(outline, layout.rules, architecture)
    except (ValueError, RuntimeError, IndexError) as error:  # shapes that a rule cannot split
        return Fit(architecture, layout, (str(error),) * (len(outline) + 1))
    expected = _expected(layout.spec)
    if ours.keys() & expected.keys():
        classes = classes_in(ours, layout.spec, expected)
        spec = layout.spec.replace(num_classes=classes, in_chans=channels_in(ours, layout))
        if spec != layout.spec:
            layout, expected = layout._replace(spec=spec), _expected(spec)
    differences = [f"no {key}" for key in expected if key not in ours]
    differences += [f"{key} is surplus" for key in (*untaken, *(key for key in ours if key not in expected))]
    differences += [
        f"{key} is {tuple(ours[key].shape)}, not {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in ours and ours[key].shape != tensor.shape
    ]
    return Fit(architecture, layout, tuple(differences))


def channels_in(tensors: StateDict, layout: Layout) -> int:
    """The number of channels of a checkpoint, read from its first kernel."""
    kernels = (tensors[key] for key in _first_kernels(layout) if key in tensors)
    return next((kernel.shape[1] for kernel in kernels if kernel.ndim == 4), layout.spec.in_chans)


def _first_kernels(layout: Layout) -> list[str]:
    """The tensors whose second axis is that of the image's channels."""
    before = _expected(layout.spec)
    after = _expected(layout.spec.replace(in_chans=layout.spec.in_chans + 1))
    return [key for key, tensor in before.items() if tensor.ndim == 4 and tensor.shape != after[key].shape]


@functools.lru_cache(maxsize=16)
def _expected(spec: Model) -> StateDict:
    """`expected_tensors`, which the layouts of one architecture ask for again and again."""
    return expected_tensors(spec)
