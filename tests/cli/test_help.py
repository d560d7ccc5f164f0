"""Help is there at once: it imports nothing heavy, whatever the command."""

from __future__ import annotations

import pytest
import typer.main

from hybridvit.cli import app
from tests.hub.conftest import run_python

HEAVY = {"torch", "numpy", "PIL", "huggingface_hub", "matplotlib", "torchvision", "gradio", "jinja2", "accelerate"}


def commands() -> list[tuple[str, ...]]:
    """Every command as its words."""
    root = typer.main.get_command(app)
    found: list[tuple[str, ...]] = []
    waiting = [((), root)]
    while waiting:
        words, command = waiting.pop()
        inner = getattr(command, "commands", {})
        waiting += [((*words, name), each) for name, each in inner.items()]
        if not inner:
            found.append(words)
    return sorted(found)


def test_help_of_every_command_imports_nothing_heavy() -> None:
    assert len(commands()) > 12
    run_python(
        "-c",
        "import sys\n"
        "from hybridvit.cli import app\n"
        f"for words in {commands()}:\n"
        "    app([*words, '--help'], standalone_mode=False)\n"
        f"    heavy = {HEAVY} & sys.modules.keys()\n"
        "    assert not heavy, (words, heavy)\n",
    )


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_says_what_it_did_as_json(words: tuple[str, ...]) -> None:
    command = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]  # pyright: ignore[reportAttributeAccessIssue]
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
