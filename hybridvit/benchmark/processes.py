"""Work in a process of its own, whose memory, caches and imports nothing else has touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from .cases import Case
from .records import Settings
from .sides import WAYS, Way, reason

_KILLED = (-9, 137)


def in_process(module: str, request: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What `python -m module REQUEST` answers; {"failed": why} if it fails. Request and answer are JSON objects."""
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(request)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | dict(environment or {}),
    )
    if done.returncode in _KILLED:
        return {"failed": "out of memory: the system ended the process"}
    if done.returncode:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        return {"failed": f"its process ended with status {done.returncode} and said: {said}"[:300]}
    return json.loads(done.stdout.splitlines()[-1])


def answer(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Does the work of this process, which `in_process` started, and prints what it makes of the request."""
    request = json.loads(sys.argv[1])
    if "case" in request:
        request["case"] = case_from(request["case"])
    if "way" in request:
        request["way"] = way_of(request["way"])
    try:
        answered = work(request)
    except Exception as error:  # of another package, which may raise anything
        answered = {"failed": reason(error)}
    print(json.dumps(answered))


def case_from(data: Mapping[str, Any]) -> Case:
    """The case that `dataclasses.asdict` took apart."""
    return Case(**{**data, "img_size": tuple(data["img_size"]), "settings": Settings(**data["settings"])})


def way_of(name: str) -> Way:
    """The way of a side's name."""
    return next(way for way in WAYS if way.name == name)
