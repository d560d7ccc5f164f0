"""A loopback Hub whose answers go wrong where a test says so."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from hybridvit.hub import LoopbackHub
from hybridvit.hub.wire import Handler

Answer = Callable[[Handler], None]


@dataclass
class Rule:
    """From the `first` request that matches on, `times` of them get `answer`; `hits` counts those."""

    pattern: re.Pattern[str]
    answer: Answer
    first: int = 1
    times: float = float("inf")
    seen: int = 0
    hits: int = 0


@dataclass
class Faults:
    """What goes wrong; `heal` ends it. Requests are spelled `METHOD /path?query`, and all are kept in `requests`."""

    rules: list[Rule] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, pattern: str, answer: Answer, *, first: int = 1, times: float = float("inf")) -> Rule:
        """Has requests that match answered by `answer` in place of the Hub."""
        rule = Rule(re.compile(pattern), answer, first, times)
        self.rules.append(rule)
        return rule

    def heal(self) -> None:
        self.rules.clear()

    def take(self, request: str) -> Answer | None:
        with self._lock:
            self.requests.append(request)
            for rule in self.rules:
                if rule.pattern.search(request):
                    rule.seen += 1
                    if rule.seen >= rule.first and rule.hits < rule.times:
                        rule.hits += 1
                        return rule.answer
        return None


class FaultyHub(LoopbackHub):
    """A loopback Hub with `faults`: of its own answers, and of the store where its large files are."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.faults = Faults()
        for server in (self._server, self._store.server):
            real: Any = server.RequestHandlerClass
            faulty = type("Faulty", (_Faulty, real.func), {"faults": self.faults})
            server.RequestHandlerClass = partial(faulty, *real.args)  # pyright: ignore[reportAttributeAccessIssue]


class _Faulty(Handler):
    faults: Faults

    def answer(self) -> None:
        fault = self.faults.take(f"{self.command} {self.path}")
        if fault is None:
            super().answer()
        else:
            fault(self)


# What an answer may be


def status(code: int, message: str = "", **headers: str) -> Answer:
    """An error, with headers whose names have `_` for `-`."""

    def answer(handler: Handler) -> None:
        handler.rfile.read(handler.content_length())
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.send_json({"error": message or HTTPStatus(code).phrase}, HTTPStatus(code), named)

    return answer


def redirect(location: str, **headers: str) -> Answer:
    """A redirect to another place, with the headers of a file."""
    return lambda handler: handler.send_head(
        HTTPStatus.FOUND, {"Location": location} | {name.replace("_", "-"): value for name, value in headers.items()}
    )


def send(content: bytes, *, of: int | None = None, reset: bool = False) -> Answer:
    """Sends `content`; with `of`, promises that many bytes and closes the connection, by a `reset` or in good order."""

    def answer(handler: Handler) -> None:
        handler.send_head(HTTPStatus.OK, {}, len(content) if of is None else of)
        handler.wfile.write(content)
        if of is not None:
            handler.wfile.flush()
            if reset:
                time.sleep(0.05)  # a reset overtakes what is on its way
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                handler.connection.close()
            handler.close_connection = True

    return answer


def trickle(content: bytes, *, step: int, pause: float) -> Answer:
    """Sends `content` a few bytes at a time."""

    def answer(handler: Handler) -> None:
        handler.send_head(HTTPStatus.OK, {}, len(content))
        for start in range(0, len(content), step):
            handler.wfile.write(content[start : start + step])
            time.sleep(pause)

    return answer


def stall(until: threading.Event, reached: threading.Event | None = None) -> Answer:
    """Says nothing until the event, and then ends the connection."""

    def answer(handler: Handler) -> None:
        if reached is not None:
            reached.set()
        until.wait(60)
        handler.close_connection = True

    return answer


def after(what: Callable[[], object]) -> Answer:
    """Does something first, then answers as the Hub does."""

    def answer(handler: Handler) -> None:
        what()
        super(_Faulty, handler).answer()  # pyright: ignore[reportArgumentType]

    return answer
