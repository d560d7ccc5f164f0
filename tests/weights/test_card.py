"""The model card: the Hub's metadata block and what a reader needs, from the same facts as the config."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from hybridvit.encoder import Encoder
from hybridvit.weights.card import KNOWN_FACTS, model_card
from hybridvit.weights.store import model_config
from tests.weights.examples import described, tiny


def card(model: Encoder, **facts: Any) -> str:
    return model_card(model, model_config(model, facts=facts), facts.get("repository"))


def metadata(text: str) -> dict[str, Any]:
    block = re.match(r"---\n(.*?)\n---\n", text, flags=re.DOTALL)
    assert block
    return yaml.safe_load(block[1])


def test_the_hub_reads_its_metadata() -> None:
    text = card(
        tiny(),
        licence="apache-2.0",
        datasets=["fashion_mnist"],
        metrics={"top1": 0.91},
        base_model="timm/vit_tiny",
        repository="me/clothes",
    )
    assert metadata(text) == {
        "library_name": "hybridvit",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "hybridvit"],
        "license": "apache-2.0",
        "base_model": "timm/vit_tiny",
        "datasets": ["fashion_mnist"],
        "metrics": ["top1"],
    }
    assert "\n# me/clothes\n" in text
    assert "| top1 | 0.91 |" in text


def test_facts_of_the_model_fill_the_card() -> None:
    model = tiny()
    assert model.origin is not None
    model.origin |= {
        "base_model": "me/before",
        "val_accuracy": 0.875,
        "images": 416,
        "recipe": {"epochs": 3, "augment": "gentle"},
    }
    text = card(model)
    assert metadata(text)["license"] == "mit"
    assert metadata(text)["base_model"] == "me/before"
    assert "| validation accuracy | 0.875 |" in text
    assert "416 images. Recipe:\n\n    epochs = 3\n    augment = 'gentle'\n" in text
    assert "0.28 million parameters and 5 classes. Fine-tuned from `nothing`." in text
    assert "32 x 24 pixels, bilinear, crop 0.75 (center), mean 0.3, 0.4, 0.5, std 0.1, 0.2, 0.3." in text
    assert "bear, cat, dog, eel, fox" in text


def test_little_is_known_and_nothing_is_made_up() -> None:
    model = tiny()
    model.labels = model.preprocess = model.origin = None
    text = card(model)
    assert metadata(text)["license"] == "unknown"
    assert "base_model" not in metadata(text)
    for section in ("## Measured", "## Labels", "## Preprocessing", "## Training"):
        assert section not in text
    assert 'hv.create_model("local-dir:PATH")' in text


def test_how_to_load_names_the_repository_in_both_libraries() -> None:
    text = card(described("vit_tiny_patch16_224", num_classes=5, img_size=32), repository="me/vit")
    assert 'hv.create_model("hf-hub:me/vit")' in text
    assert 'timm.create_model("hf-hub:me/vit", pretrained=True)' in text
    assert "timm" in metadata(text)["tags"]
    assert "timm" not in card(tiny(), repository="me/cct")


def test_many_labels_are_cut() -> None:
    model = described("cct_2_3x2_32", num_classes=250)
    model.labels = tuple(f"class {number}" for number in range(250))
    text = card(model)
    assert "class 99 and 150 more in `config.json`" in text
    assert "class 100" not in text


def test_a_licence_that_forbids_commercial_use_stands_out() -> None:
    assert "**The licence, cc-by-nc-4.0, does not allow commercial use.**" in card(tiny(), licence="cc-by-nc-4.0")
    assert "commercial" not in card(tiny(), licence="apache-2.0")


def test_values_cannot_break_the_metadata() -> None:
    text = card(tiny(), licence="mit\n---\nlibrary_name: other", datasets=["a: b", "- c"])
    assert metadata(text)["library_name"] == "hybridvit"
    assert metadata(text)["datasets"] == ["a: b", "- c"]


def test_an_unknown_fact_is_refused() -> None:
    with pytest.raises(ValueError, match=f"no field 'license'; it has: {', '.join(KNOWN_FACTS)}"):
        card(tiny(), license="mit")


def test_a_description_is_markdown_of_who_gives_it_and_text_of_who_loads_it() -> None:
    written = "# Mine\n\n**Bold** [link](https://example.org)\n---\n<img src=x onerror=1> and a@b.org"
    config = model_config(tiny(), facts={"description": written})
    assert f"\n{written}\n\n" in model_card(tiny(), config, None, written)
    told = r"""
\# Mine

\*\*Bold\*\* `[link](https://example.org)`
\---
&lt;img src=x onerror=1&gt; and `a@b.org`

"""
    assert told in model_card(tiny(), config)
    plain = "Of 2 sizes.\n0.5 of them\nare here.\n\n...and here."
    config = model_config(tiny(), facts={"description": plain})
    assert model_card(tiny(), config) == model_card(tiny(), config, None, plain), "plain text stays as it is"


@pytest.mark.parametrize("mark", ["---", "===", "1. x", "12) x", "- x", "+ x", "# x", "~~~", "___", "\t- x"])
def test_a_description_that_was_loaded_has_no_marks(mark: str) -> None:
    model = tiny()
    model.origin = {"description": f"Text\n{mark}\n{'z' * 10_000}"}
    lines = card(model).splitlines()
    at = lines.index("Text")
    assert lines[at + 1] in (f"\\{mark.strip()}", mark.replace(".", r"\.").replace(")", r"\)"))
    assert len(lines[at + 2]) < 4000


def test_a_label_is_no_link() -> None:
    model = tiny()
    model.labels = ("https://evil.example", "www.evil.example", "me@evil.example", "cat|dog", "a `https://x|y`")
    text = card(model).partition("## Labels")[2]
    assert text.strip() == (
        r"`https://evil.example`, `www.evil.example`, `me@evil.example`, cat\|dog, a `'https://x\|y'`"
    )


@pytest.mark.parametrize(
    ("fact", "message"),
    [
        ({"metrics": [1]}, "metrics is list, expected a table of names and figures"),
        ({"metrics": {"top1": object()}}, "the metric 'top1' is object, expected a number"),
        ({"description": 5}, "description is int, expected text"),
        ({"base_model": {"a": 1}}, "base_model is dict, expected text or a list of texts"),
        ({"datasets": ["a", 1]}, "datasets is list, expected text or a list of texts"),
    ],
)
def test_a_fact_of_another_kind_is_named(fact: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"of the facts for the model card, {message}"):
        card(tiny(), **fact)
