"""The names of classes: as many as there are, in the order in which timm has them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from timm.data.imagenet_info import ImageNetInfo

from hybridvit.weights.from_timm import imagenet_lines
from hybridvit.weights.labels import IMAGENET, LABEL_SETS, OTHERS, imagenet_table, label_set
from hybridvit.zoo_path import zoo_path

LABELS = zoo_path() / "labels"


@pytest.mark.parametrize("name", LABEL_SETS)
def test_a_set_has_a_name_for_each_class(name: str) -> None:
    names = label_set(name)
    assert len(names) == LABEL_SETS[name]
    assert all(names)


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenets_names_are_timms_in_its_order(name: str) -> None:
    """With the synset behind those of several classes, so that each class has a name of its own."""
    theirs = ImageNetInfo(name)
    assert len(set(label_set(name))) == LABEL_SETS[name]
    for ours, called, synset in zip(label_set(name), theirs.label_descriptions(), theirs.label_names(), strict=True):
        assert ours in (called, f"{called} ({synset})")


def test_the_table_is_what_timm_says_now() -> None:
    assert (LABELS / "imagenet.tsv").read_text(encoding="utf-8") == imagenet_lines()


def test_the_table_has_each_synset_once_in_order() -> None:
    synsets = [synset for synset, _, _ in imagenet_table()]
    assert all(one < other for one, other in pairwise(synsets))


def test_well_known_classes() -> None:
    assert label_set("imagenet-1k")[207] == "golden retriever"
    assert [label_set("imagenet-1k")[number] for number in (134, 517)] == ["crane (n02012849)", "crane (n03126707)"]
    assert label_set("imagenet-21k-goog")[0] == "organism, being"
    assert label_set("imagenet-22k-ms")[207] == "golden retriever"
    assert label_set("cifar-10")[3] == "cat"
    assert label_set("cifar-100")[::99] == ("apple", "worm")


def test_every_file_is_a_set_and_all_are_small() -> None:
    told = {"README.md", "NOTICE"}
    assert {path.name for path in LABELS.iterdir()} - told == {"imagenet.tsv", *(f"{name}.txt" for name in OTHERS)}
    assert sum(path.stat().st_size for path in LABELS.iterdir()) < 2e6
