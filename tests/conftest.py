"""What every test relies on: no network beyond loopback, no user cache, one seed, few threads."""

import gc
import os
import random
import tempfile
from typing import Any

import numpy as np
import pytest

# huggingface_hub reads these when it is imported, so they are set before any test module is. The endpoint is a loopback
# port that nothing listens on: a test that means to use a Hub starts its own and names it.
os.environ.update(
    HF_ENDPOINT="http://127.0.0.1:9",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_XET="1",
    MPLBACKEND="Agg",
    # Idle threads sleep instead of spinning, or tests crawl on a machine that is busy with something else.
    OMP_WAIT_POLICY="PASSIVE",
)
for inherited in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
    os.environ.pop(inherited, None)


def pytest_configure(config: pytest.Config) -> None:
    cache = tempfile.TemporaryDirectory(prefix="hybridvit-tests-")
    config.add_cleanup(cache.cleanup)
    os.environ["HF_HOME"] = cache.name

    import torch

    # pytest-xdist shares the cores out itself.
    torch.set_num_threads(1 if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1 else 2)


def pytest_collection_finish() -> None:
    # Tests and libraries stay to the end, and a model is thousands of objects: a collector that looks through them all
    # as often as by default takes a tenth of the time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(name="calls")
def calls_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The activations that oneDNN was called with."""
    import torch

    calls: list[str] = []
    kernel = torch.ops.mkldnn._linear_pointwise

    def counted(*given: Any) -> torch.Tensor:
        calls.append(given[3])  # behind tokens, weight and bias
        return kernel(*given)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    return calls
