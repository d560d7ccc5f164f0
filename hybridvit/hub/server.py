"""Starts and stops the loopback Hub: `LoopbackHub` in a thread of this process, `serve` until Ctrl-C."""

import json
import os
import secrets
import shlex
import shutil
import signal
import tempfile
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from hybridvit.hub.api import HubHandler
from hybridvit.hub.repositories import Repositories
from hybridvit.hub.store import Store
from hybridvit.hub.wire import Server


class LoopbackHub:
    """A Hub for this machine alone, with its repositories under `root`; it runs inside the `with` block.

    `endpoint` is its URL, on a free port unless `port` names one. `token` is needed to write and to see private
    repositories; it is kept in `root/token`, so it survives a restart.

    Raises `ValueError` if `root` is no directory, git is missing or the port is taken.
    """

    def __init__(self, root: Path, port: int = 0) -> None:
        if shutil.which("git") is None:
            raise ValueError("the loopback Hub keeps git repositories and needs the program git: install it")
        self.root = Path(root).resolve()
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"root {str(self.root)!r} is a file: name a directory, which may be new")
        repositories = Repositories(self.root)
        self.token = _token_of(self.root)
        self._store = Store(repositories)
        try:
            self._server = Server(port, partial(HubHandler, repositories, self._store, self.token))
        except OSError as error:
            self._store.server.server_close()
            raise ValueError(
                f"port {port} cannot be used ({error.strerror}): choose another, or 0 for a free one"
            ) from error

    @property
    def endpoint(self) -> str:
        return self._server.url

    def environment(self) -> dict[str, str]:
        """What a process that uses the Hub needs in its environment before it imports huggingface_hub."""
        direct = {
            name: ",".join(filter(None, (os.environ.get(name), "127.0.0.1"))) for name in ("NO_PROXY", "no_proxy")
        }
        return direct | {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": self.token,
            "HF_HUB_OFFLINE": "0",  # it is on this machine, whatever there is outside
            "HF_HUB_DISABLE_XET": "1",  # with Xet the client uploads to nothing but a Xet store
        }

    def __enter__(self) -> Self:
        self._store.server.start()
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop()
        self._store.server.stop()


def serve(root: Path, port: int = 0, as_json: bool = False) -> None:
    """Runs the Hub until Ctrl-C or SIGTERM, and prints what to export in the shell that uses it, or that as JSON."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with LoopbackHub(root, port) as hub:
        if as_json:
            facts = {"endpoint": hub.endpoint, "root": str(hub.root), "environment": hub.environment()}
            print(json.dumps(facts), flush=True)
        else:
            _print_how_to_use(hub)
        stop.wait()
    if not as_json:
        print("Hub stopped.")


def _print_how_to_use(hub: LoopbackHub) -> None:
    print(f"Hub at {hub.endpoint}, repositories in {hub.root}. Ctrl-C stops it.")
    print("In the shell that uses it:\n")
    for name, value in hub.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    print(flush=True)


def _token_of(root: Path) -> str:
    """The token that is kept in `root`, made if there is none; of two Hubs that start at once one makes it."""
    path = root / "token"
    if path.exists() and not path.read_text().strip():
        path.unlink()
    if not path.exists():
        descriptor, temporary = tempfile.mkstemp(prefix=".token-", dir=root)
        with open(descriptor, "w") as file:
            file.write(f"hf_{secrets.token_hex(16)}")
        with suppress(FileExistsError):
            os.link(temporary, path)
        os.unlink(temporary)
    return path.read_text().strip()
