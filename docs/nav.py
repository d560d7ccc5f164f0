"""MkDocs hook: puts the families into the navigation, group by group, so that a new one needs no line in mkdocs.yml."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

GROUPS = Path(__file__).parent.parent / "zoo" / "groups.json"


def on_config(config: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Fills the section "Zoo" of the navigation."""
    groups = json.loads(GROUPS.read_text(encoding="utf-8"))
    zoo = next(section["Zoo"] for section in config["nav"] if "Zoo" in section)
    for group, families in groups.items():
        zoo.append({group: [{family: f"families/{family}.md"} for family in sorted(families)]})
    return config
