"""Commands of the command line, run in this process."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from hybridvit.cli import app

CLI = ("-m", "hybridvit.cli")


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def output(*arguments: object) -> str:
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def message(*arguments: object) -> str:
    """The one line on standard error of a command that fails."""
    result = command(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line
