"""A Hub for a test, and ways to use it as a user does: in this process, or in one that has its environment."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hybridvit.hub import LoopbackHub

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def loopback_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    """A running, empty Hub. A client in this process has to be given its `endpoint` and `token`."""
    with LoopbackHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def api(loopback_hub: LoopbackHub) -> HfApi:
    """The real client, logged in."""
    return HfApi(endpoint=loopback_hub.endpoint, token=loopback_hub.token)


@pytest.fixture
def anonymous(loopback_hub: LoopbackHub) -> HfApi:
    return HfApi(endpoint=loopback_hub.endpoint, token=False)


@pytest.fixture
def run_client(loopback_hub: LoopbackHub, tmp_path: Path) -> Callable[..., str]:
    """Runs `python ARGUMENTS...` with the Hub's environment and a cache of its own; returns what it prints."""

    def run(*arguments: str, **environment: str) -> str:
        return run_python(*arguments, **loopback_hub.environment() | {"HF_HOME": str(tmp_path / "hf")} | environment)

    return run


def run_python(*arguments: str, **environment: str) -> str:
    """Runs `python ARGUMENTS...` in the project; fails the test with what it printed if it fails."""
    defaults = {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=os.environ | defaults | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout
