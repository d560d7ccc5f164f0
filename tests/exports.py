"""Which image sizes an exported program takes: found out by running it, for our models and for anybody's."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from tests.parity import TOLERANCE, error, images

Sizes = Literal["any", "multiples of 32", "fixed"]

EXAMPLE = (96, 160)
# The size that the tests build position and bias tables for, where a program must leave them as they are.
BUILT = (72, 72)
# Larger and smaller than the example, upright, square, odd: none of "any" is a multiple of what a model divides by.
# An export takes an axis of one position for a special case, so the smallest leave two at a stride of 64.
OTHER: dict[Sizes, list[tuple[int, int]]] = {
    "any": [(131, 75), (66, 193), (101, 101), BUILT],
    "multiples of 32": [(160, 96), (96, 192), (128, 128)],
}


def batch_for(model: nn.Module, size: tuple[int, int], channels: int = 3, seed: int = 0) -> Tensor:
    """Three images of the precision of the model."""
    return images(*size, channels, seed).to(next(model.parameters()).dtype)


def exported(model: nn.Module, example: tuple[int, int] = EXAMPLE, step: int = 1, channels: int = 3) -> ExportedProgram:
    """The program of a model for any batch, and for any height and width or for multiples of `step`."""
    sides = {axis: Dim.AUTO if step == 1 else step * Dim(f"side{axis}", min=2) for axis in (2, 3)}
    return torch.export.export(model, (batch_for(model, example, channels),), dynamic_shapes=({0: Dim.AUTO, **sides},))


def differences(
    model: nn.Module, program: ExportedProgram, sizes: list[tuple[int, int]], channels: int = 3
) -> list[str]:
    """Where the program, run on one image and on two, parts from the model: the size, and by how much or why."""
    found: list[str] = []
    run = program.module()
    with torch.no_grad():
        for size in sizes:
            batch = batch_for(model, size, channels, seed=1)
            try:
                off = error(torch.cat([run(batch[:1]), run(batch[1:])]), model(batch))
            except Exception as problem:
                off = problem
            if isinstance(off, Exception) or not off <= TOLERANCE:
                found.append(f"{size[0]} x {size[1]}: {off!s:.200}")
    return found


def dynamic_size(model: nn.Module, example: tuple[int, int] = EXAMPLE, channels: int = 3) -> Sizes:
    """The sizes of images for which one program of a model, exported with `example`, gives the model's own results.

    The model is in eval mode and perturbed, for weights that tell no places apart would hide a table of a wrong size;
    in double precision rounding hides nothing either.
    """
    attempts: list[tuple[Sizes, int]] = [("any", 1), ("multiples of 32", 1), ("multiples of 32", 32)]
    programs: dict[int, ExportedProgram | None] = {}
    for verdict, step in attempts:
        if step not in programs:
            try:
                programs[step] = exported(model, example, step, channels)
            except Exception:
                programs[step] = None
        program = programs[step]
        if program and not differences(model, program, [*OTHER[verdict], example], channels):
            return verdict
    return "fixed"
