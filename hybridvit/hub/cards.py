"""What the model card says about a repository: its metadata, and the tags by which it is found."""

import json
from typing import Any

import yaml


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, by which a few bytes stand for megabytes, or for themselves."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name); write the value out")
        return super().compose_node(parent, index)


def metadata(card: str) -> dict[str, Any]:
    """The YAML between the two `---` at the top of a README, as JSON data; `ValueError` if it is not a mapping."""
    lines = card.splitlines()
    if not lines or lines[0].rstrip() != "---":
        return {}
    try:
        end = [line.rstrip() for line in lines].index("---", 1)
    except ValueError:
        raise ValueError("the metadata has no closing '---'") from None
    try:
        values = yaml.load("\n".join(lines[1:end]), _PlainLoader) or {}  # a SafeLoader
        values = json.loads(json.dumps(values, default=str))
    except (yaml.YAMLError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(values, dict):
        raise ValueError(f"the metadata is {values!r}: write 'name: value' lines")
    return values


def tags(values: dict[str, Any]) -> list[str]:
    """The tags of a model with this metadata, as the Hub forms them."""
    found = [values["library_name"]] if "library_name" in values else []
    found += _listed(values.get("tags"))
    for name, prefix in (("datasets", "dataset:"), ("license", "license:"), ("language", "")):
        found += [f"{prefix}{value}" for value in _listed(values.get(name))]
    return list(dict.fromkeys(map(str, found)))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
