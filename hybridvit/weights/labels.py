"""The names of the classes of well-known data sets, as files in `zoo/labels`.

ImageNet's sets overlap, so one table, `imagenet.tsv`, holds all their classes by synset, in the order of synsets: the
letters of the sets that a class is in, and its names. Other sets are files of one name a line.
"""

from __future__ import annotations

import functools
from collections import Counter

from ..zoo_path import zoo_path

# The letter of each set of ImageNet's in the table, and its number of classes.
IMAGENET = {
    "imagenet-1k": ("1", 1000),
    "imagenet-12k": ("t", 11821),
    "imagenet-22k": ("f", 21841),
    "imagenet-21k-goog": ("g", 21843),
    "imagenet-21k-miil": ("m", 11221),
    "imagenet-22k-ms": ("s", 21842),
}
OTHERS = {"cifar-10": 10, "cifar-100": 100}
# The sets by name, and their numbers of classes.
LABEL_SETS = {name: classes for name, (_, classes) in IMAGENET.items()} | OTHERS


@functools.cache
def label_set(name: str) -> tuple[str, ...]:
    """The names of the classes of a set of LABEL_SETS, in the order of the logits.

    ImageNet calls several classes by one name: two are a crane. Those have their synsets behind it, in parentheses.
    """
    if name in OTHERS:
        return tuple((zoo_path() / "labels" / f"{name}.txt").read_text(encoding="utf-8").splitlines())
    own = [row for row in imagenet_table() if IMAGENET[name][0] in row[1]]
    if name == "imagenet-22k-ms":  # which begins with the classes of imagenet-1k
        own.sort(key=lambda row: "1" not in row[1])
    called = Counter(names for _, _, names in own)
    return tuple(names if called[names] == 1 else f"{names} ({synset})" for synset, _, names in own)


@functools.cache
def imagenet_table() -> tuple[tuple[str, str, str], ...]:
    """The rows of the table: synset, letters of the sets, names."""
    lines = (zoo_path() / "labels" / "imagenet.tsv").read_text(encoding="utf-8").splitlines()
    rows = [tuple(line.split("\t")) for line in lines]
    return tuple((synset, sets, names) for synset, sets, names in rows)
