"""The most that is believed of a config, a repository or a Hub: what is beyond is refused before it costs.

Each is far above what real models need, by the figures of the zoo, and far below what harms.
"""

from __future__ import annotations

import reprlib

LARGEST_CONFIG = 8 << 20
"""Bytes of a JSON file; read, it takes up to 25 times that. 21,843 labels with descriptions are 2 million."""

MOST_PARTS = 20_000
"""Specs of a model, those of a `repeat` counted as often as they stand there; `repvit_m2_3` has 970."""

LARGEST_NUMBER = 1 << 20
"""Any whole number in a spec, such as a width or the classes; the widest layer has 15,360 channels."""

LARGEST_SIDE = 8192
"""Pixels along an axis that an image is resized to, by what a config says: 800 MB as float32; 1,024 is the largest."""

LONGEST_WAIT = 60
"""Seconds that a Hub may ask us to wait (Retry-After) before the next attempt; the client alone waits for any."""

RETRY_AFTER = (1, 4)
"""Seconds before the second attempt, and before the last, at what the client itself gives up at once."""

PATIENCE = 60
"""Seconds without an answer or a byte where the client sets no limit: lists, all of a push, files outside of a Hub."""

HEAD_PATIENCE = 20
"""The same for a look at one file, which the client repeats six times, 60 seconds each."""

SLOWEST = 1024
"""Bytes a second, over PATIENCE seconds, below which a download ends; the client alone waits while one byte comes."""

LONGEST_MESSAGE = 100_000
"""Characters of a line of a message in a terminal; one that lists every key of a file may be long."""

LONGEST_SHOWN = 80
"""Characters of a value that a message, a card or a terminal shows."""


def printable(text: str, longest: int = LONGEST_SHOWN) -> str:
    """One line of text without control characters, for a terminal or a card; what is longer ends in `...`.

    A label can hold an escape sequence that rewrites the screen, or a million characters.
    """
    shown = "".join(each if each.isprintable() else " " for each in text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxlong = self.maxother = LONGEST_SHOWN
        self.maxlevel = 3


def shown(value: object) -> str:
    """`repr(value)`, cut: what a file holds may be as long and as deep as it likes."""
    return printable(_Short().repr(value), 3 * LONGEST_SHOWN)
