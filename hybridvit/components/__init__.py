"""The parts that families share, one role a file. Importing this package makes every shared kind known."""

from . import (
    activations,
    attention,
    biases,
    blocks,
    channels,
    convs,
    heads,
    linear_attention,
    mixers,
    narrow,
    norms,
    pools,
    positions,
    rotary,
    transitions,
    windows,
)

__all__ = [
    "activations",
    "attention",
    "biases",
    "blocks",
    "channels",
    "convs",
    "heads",
    "linear_attention",
    "mixers",
    "narrow",
    "norms",
    "pools",
    "positions",
    "rotary",
    "transitions",
    "windows",
]
