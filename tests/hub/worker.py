"""A process that forks one for each line of its input: what a test lets run beside itself, limits, and kills.

A line is `{"do": ..., "endpoint": ..., "token": ..., ...}` as JSON. Answers are `started PID`, then `PID done` or
`PID ERROR: MESSAGE`. Forking what has been imported saves the seconds that a new Python takes.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, snapshot_download

import hybridvit as hv
from hybridvit.weights.push import pull_from_hub
from tests.weights.examples import tiny


def work(task: dict[str, Any]) -> None:
    hub = {"endpoint": task["endpoint"], "token": task["token"]}
    if "file_size" in task:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (task["file_size"],) * 2)
    if "user" in task:
        os.setgroups([])
        os.setgid(task["user"])
        os.setuid(task["user"])
    if task["do"] == "load":
        assert hv.create_model(f"hf-hub:{task['repo']}", cache_dir=task["to"], **hub).labels
    elif task["do"] == "pull":
        pull_from_hub(task["repo"], task["to"], **hub)
    else:
        hv.push_to_hub(tiny(), task["repo"], **hub)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # All that a task needs is imported before it is forked: another user may not be able to read it.
    "localhost".encode("idna")
    assert hf_hub_download
    assert snapshot_download
    HfApi()

    for line in sys.stdin:
        pid = os.fork()
        if pid:
            print(f"started {pid}", flush=True)
            continue
        try:
            work(json.loads(line))
            answer = "done"
        except BaseException as error:
            answer = f"{type(error).__name__}: {' '.join(str(error).split())}"
        os.write(1, f"{os.getpid()} {answer}\n".encode())
        os._exit(0)


if __name__ == "__main__":
    main()
