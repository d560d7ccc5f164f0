"""The model card, written from the same facts as the config."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..limits import LONGEST_SHOWN, printable
from .entries import is_non_commercial

if TYPE_CHECKING:
    from ..encoder import Encoder


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_list(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, list | tuple) and all(map(_is_text, value)))


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, value))


# Of the facts, all but the licence, of which the card shows whatever it is.
KINDS = {
    "architecture": (_is_text, "text"),
    "datasets": (_is_text_or_list, "text or a list of texts"),
    "metrics": (_is_table, "a table of names and figures"),
    "description": (_is_text, "text"),
    "base_model": (_is_text_or_list, "text or a list of texts"),
}
LONGEST_PARAGRAPH = 4000
KNOWN_FACTS = ("licence", "datasets", "metrics", "description", "base_model", "repository")


def saved_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What of the facts for a card is saved with a model: all that are given but the repository, which may change.

    Raises ValueError for a fact that the card has no place for, or that is of another kind.
    """
    for name in facts:
        if name not in KNOWN_FACTS:
            raise ValueError(f"the model card has no field {name!r}; it has: {', '.join(KNOWN_FACTS)}")
    given = {name: value for name, value in facts.items() if value and name != "repository"}
    odd = odd_facts(given)
    for name, value in given.get("metrics", {}).items() if "metrics" not in odd else ():
        if not isinstance(value, int | float | str):
            odd[name] = f"the metric {name!r} is {type(value).__name__}, expected a number"
    if odd:
        raise ValueError(f"of the facts for the model card, {'; '.join(odd.values())}")
    return given


def odd_facts(origin: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the facts of an origin that are not of the kind that the card and the config need."""
    return {
        name: f"{name} is {type(origin[name]).__name__}, expected {kind}"
        for name, (fits, kind) in KINDS.items()
        if origin.get(name) is not None and not fits(origin[name])
    }


def model_card(
    model: Encoder, config: Mapping[str, Any], repository: str | None = None, description: str | None = None
) -> str:
    """Markdown with the Hub's metadata block, for what `config` says of a model's origin.

    A `description` is Markdown; without one, that of the origin, which may come from anybody, is shown as text.
    """
    import yaml

    origin = config["origin"] or {}
    base = origin.get("base_model")
    metadata: dict[str, Any] = {
        "library_name": "hybridvit",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "hybridvit", *(["timm"] if _in_timm(config) else [])],
        "license": origin.get("licence") or "unknown",
    }
    if base:
        metadata["base_model"] = base
    if origin.get("datasets"):
        metadata["datasets"] = origin["datasets"]
    figures = {**_own_figures(origin), **(origin.get("metrics") or {})}
    if figures:
        metadata["metrics"] = list(figures)
    name = repository or origin.get("architecture") or "model"
    told = (description or _plain(origin.get("description") or "")).strip()
    sections = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n",
        f"# {_told(name)}\n",
        f"{told}\n" if told else _summary(model, origin),
        _licence(metadata["license"]),
        _loading(repository, _in_timm(config)),
        _preprocessing(model),
        _figures(figures),
        _recipe(origin),
        _labels(model),
    ]
    return "\n".join(section for section in sections if section).rstrip() + "\n"


def _in_timm(config: Mapping[str, Any]) -> bool:
    return "pretrained_cfg" in config


def _told(value: Any, longest: int = LONGEST_SHOWN) -> str:
    """A value as text of a page: one line in which nothing is HTML, a link or an image; it may come from anybody."""
    return " ".join(map(_word, printable(str(value), longest).split(" ")))


def _word(word: str) -> str:
    """A word as text; one that a page would make a link of as code."""
    word = word.replace("`", "'")
    if re.search(r"://|www\.|@", word, re.IGNORECASE):
        return _code(word).replace("|", r"\|")
    return re.sub(r"([\\*\[\]|])", r"\\\1", html.escape(word, quote=False))


def _plain(text: str) -> str:
    """Somebody's text, of which no line is a heading, list, rule, quotation or code."""
    lines = [_told(line.strip(), LONGEST_PARAGRAPH) for line in text[:LONGEST_PARAGRAPH].strip().splitlines()]
    return "\n".join(re.sub(r"^(\d*)(?=[-#+=~_]|(?<=\d)[.)](?:\s|$))", r"\1\\", line) for line in lines)


def _code(value: Any) -> str:
    return f"`{printable(str(value)).replace('`', chr(39))}`"


def _summary(model: Encoder, origin: Mapping[str, Any]) -> str:
    params = sum(parameter.numel() for parameter in model.parameters())
    start = f" Fine-tuned from {_code(origin['finetuned_from'])}." if "finetuned_from" in origin else ""
    return (
        f"{_code(origin.get('architecture', 'An image model'))} with {params / 1e6:.2f} million parameters and "
        f"{model.spec.num_classes} classes.{start} It takes images of any height and width.\n"
    )


def _licence(licence: Any) -> str:
    return f"**The licence, {_told(licence)}, does not allow commercial use.**\n" if is_non_commercial(licence) else ""


def _loading(repository: str | None, in_timm: bool) -> str:
    place = f"hf-hub:{repository}" if repository else "local-dir:PATH"
    lines = [
        "## Use\n",
        "```python",
        "import hybridvit as hv",
        f'model = hv.create_model("{place}").eval()',
        'print(hv.predict(model, ["picture.jpg"], topk=3))',
        "```\n",
    ]
    if in_timm and repository:
        lines += ["The same weights in timm:\n", "```python", "import timm"]
        lines += [f'model = timm.create_model("{place}", pretrained=True).eval()', "```\n"]
    return "\n".join(lines)


def _preprocessing(model: Encoder) -> str:
    if model.preprocess is None:
        return ""
    each = model.preprocess
    height, width = each.input_size
    return (
        f"## Preprocessing\n\n{width} x {height} pixels, {each.interpolation}, crop {each.crop_pct:g} "
        f"({each.crop_mode}), mean {_numbers(each.mean)}, std {_numbers(each.std)}. `hv.transforms(model)` does it.\n"
    )


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _own_figures(origin: Mapping[str, Any]) -> dict[str, Any]:
    return {"validation accuracy": origin["val_accuracy"]} if "val_accuracy" in origin else {}


def _figures(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return ""
    rows = [f"| {_told(name)} | {_told(value)} |" for name, value in metrics.items()]
    return "\n".join(["## Measured\n", "| figure | value |", "|---|---|", *rows, ""])


def _recipe(origin: Mapping[str, Any]) -> str:
    if not isinstance(origin.get("recipe"), Mapping):
        return ""
    rows = [printable(f"{name} = {value!r}") for name, value in origin["recipe"].items()]
    images = f"{_told(origin['images'])} images. " if "images" in origin else ""
    return f"## Training\n\n{images}Recipe:\n\n" + "\n".join(f"    {row}" for row in rows) + "\n"


def _labels(model: Encoder) -> str:
    if not model.labels:
        return ""
    shown = ", ".join(map(_told, model.labels[:100]))
    more = f" and {len(model.labels) - 100} more in `config.json`" if len(model.labels) > 100 else ""
    return f"## Labels\n\n{shown}{more}\n"
