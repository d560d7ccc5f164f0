"""Faults on the way to a Hub and back: each ends in time, in one error that says what to do, and leaves nothing behind.

Every case loads, pulls or pushes while something is wrong, then heals the Hub and does it again with the same cache.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants, file_download
from huggingface_hub.utils import _http

import hybridvit as hv
from hybridvit import limits
from hybridvit.weights import transport
from hybridvit.weights.push import pull_from_hub
from hybridvit.weights.sources import HubFiles, WeightsNotFoundError, WeightsWarning, hub_files
from hybridvit.weights.store import WeightsError
from hybridvit.weights.transformers_format.processor import read_processor
from tests.hub.conftest import PROJECT
from tests.hub.faulty import Answer, FaultyHub, after, redirect, send, stall, status, trickle
from tests.parity import images
from tests.weights.examples import client, facts, logits, tiny

REPO = "me/model"
NOWHERE = "http://127.0.0.1:9"
LOOK_AT_CONFIG, CONFIG = r"^HEAD .*/config\.json", r"^GET .*/config\.json"
LOOK_AT_WEIGHTS, WEIGHTS = r"^HEAD .*/model\.safetensors", r"^GET /me/model/[0-9a-f]{64}"
DAY = "86400"
# Of the seconds that the client and we wait between attempts: 1 + 2 + 4 + 8 + 8, and what a Retry-After may be.
LONGEST_WAITS = 90


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    """A Hub with a model, shared by the cases that change nothing there."""
    with FaultyHub(tmp_path_factory.mktemp("faulty")) as hub:
        hv.push_to_hub(tiny(), REPO, endpoint=hub.endpoint, token=hub.token)
        yield hub


@pytest.fixture
def hub(served: FaultyHub) -> Iterator[FaultyHub]:
    served.faults.requests.clear()
    yield served
    served.faults.heal()


@pytest.fixture
def own_hub(tmp_path: Path) -> Iterator[FaultyHub]:
    """A Hub with a model, for the cases that change it."""
    with FaultyHub(tmp_path / "own") as hub:
        hv.push_to_hub(tiny(), REPO, endpoint=hub.endpoint, token=hub.token)
        yield hub


@pytest.fixture(scope="module")
def files(served: FaultyHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the model."""
    cache = tmp_path_factory.mktemp("whole")
    hv.create_model(f"hf-hub:{REPO}", **client(served, cache))
    return {path.name: path.read_bytes() for path in cache.glob("*/snapshots/*/*")}


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits between attempts; how long they would have."""
    seconds: list[float] = []
    clock = SimpleNamespace(sleep=seconds.append, time=time.time, monotonic=time.monotonic)
    for module in (_http, file_download, transport):
        monkeypatch.setattr(module, "time", clock)
    return seconds


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is an error after a fraction of a second."""
    for name in ("PATIENCE", "HEAD_PATIENCE"):
        monkeypatch.setattr(limits, name, 0.1)
    for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.setattr(constants, name, 0.1)


@pytest.fixture(autouse=True)
def _in_time_and_without_secrets(
    waits: list[float],
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> Iterator[None]:
    """Whatever a case does, it takes seconds, and the token is in no output and no file that it made."""
    hubs = [request.getfixturevalue(name) for name in ("hub", "own_hub") if name in request.fixturenames]
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 30
    assert sum(waits) <= LONGEST_WAITS
    shown = "".join(capfd.readouterr()) + caplog.text
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "token":
            shown += path.read_bytes().decode("latin-1")
    assert not [hub for hub in hubs if hub.token in shown]


def load(hub: FaultyHub, cache: Path, repo: str = REPO) -> Any:
    return hv.create_model(f"hf-hub:{repo}", **client(hub, cache))


def failure(hub: FaultyHub, call: Callable[[], object]) -> Exception:
    """What a call raises, without the token in it or in its causes."""
    with pytest.raises((OSError, ValueError)) as caught:
        call()
    cause: BaseException | None = caught.value
    while cause is not None:
        assert hub.token not in f"{cause} {cause!r}"
        cause = cause.__cause__ or cause.__context__
    return caught.value


def assert_heals(hub: FaultyHub, cache: Path) -> None:
    """A healthy load from the same cache gives the model, and nothing half-done lies there."""
    hub.faults.heal()
    model = load(hub, cache)
    assert torch.equal(logits(model, images(24, 32)), logits(tiny(), images(24, 32)))
    assert facts(model) == facts(tiny())
    assert not list(cache.rglob("*.incomplete"))


# While weights or config are loaded


def short(name: str, count: int) -> Callable[[dict[str, bytes]], Answer]:
    return lambda files: send(files[name][:count])


def cut(name: str, count: int, **how: Any) -> Callable[[dict[str, bytes]], Answer]:
    return lambda files: send(files[name][:count], of=len(files[name]), **how)


def always(answer: Answer) -> Callable[[dict[str, bytes]], Answer]:
    return lambda files: answer


RESET = cut("model.safetensors", 500_000, reset=True)
CLOSED = cut("model.safetensors", 500_000)
SHORT = short("model.safetensors", 1000)
WRONG_HEADER = always(lambda handler: send(b"\1" * WEIGHTS_SIZE)(handler))
WEIGHTS_SIZE = 1_127_288
GATED = always(status(403, "Access to this model is restricted", X_Error_Code="GatedRepo"))
GONE = always(status(404, "no repository", X_Error_Code="RepoNotFound"))
LINKED = {"X_Repo_Commit": "0" * 40, "X_Linked_Etag": f'"{"0" * 64}"', "X_Linked_Size": "10"}
SENT_AWAY = always(redirect("http://127.0.0.1:1/x", **LINKED))
SENT_AROUND = always(redirect("/me/model/resolve/main/config.json"))
PAGE = always(lambda handler: handler.send_head(200, {"Content-Type": "text/html"}, 10))


@pytest.mark.parametrize(
    ("pattern", "answer", "message"),
    [
        pytest.param(WEIGHTS, RESET, "[Cc]onnection reset|peer|broken; try again", id="reset in mid-file"),
        pytest.param(WEIGHTS, CLOSED, r"received \d+ bytes, expected 1127288\); try again", id="closed in mid-file"),
        pytest.param(WEIGHTS, SHORT, "be of size 1127288 but has size 1000 .*; try again", id="a truncated file"),
        pytest.param(CONFIG, short("config.json", 99), "has size 99 .*; try again", id="a truncated config"),
        pytest.param(CONFIG, short("config.json", 0), "has size 0 .*; try again", id="an empty config"),
        pytest.param(WEIGHTS, WRONG_HEADER, r"model\.safetensors .*removed .*try again", id="wrong bytes"),
        pytest.param(WEIGHTS, always(status(500)), "Internal Server Error; try again later", id="500"),
        pytest.param(WEIGHTS, always(status(503)), "Service Unavailable; try again later", id="503"),
        pytest.param(LOOK_AT_CONFIG, always(status(500)), "answers with status 500", id="500 at first"),
        pytest.param(LOOK_AT_CONFIG, always(status(503)), "answers with status 503", id="503 at first"),
        pytest.param(LOOK_AT_WEIGHTS, always(status(502)), "answers with status 502", id="502 between files"),
        pytest.param(WEIGHTS, always(status(429)), "Too Many Requests; try again later", id="429"),
        pytest.param(WEIGHTS, always(status(429, Retry_After="9")), "Too Many Requests; try", id="429, wait 9 s"),
        pytest.param(WEIGHTS, always(status(429, Retry_After=DAY)), "to wait for 86400 seconds", id="429, wait a day"),
        pytest.param(LOOK_AT_CONFIG, always(status(429, Retry_After=DAY)), "wait for 86400", id="429 at first, a day"),
        pytest.param(
            WEIGHTS, always(status(429, ratelimit=f'"resolvers";r=0;t={DAY}')), "wait for 86400", id="a rate limit"
        ),
        pytest.param(WEIGHTS, always(status(503, Retry_After=DAY)), "wait for 86400", id="503, wait a day"),
        pytest.param(
            LOOK_AT_CONFIG, always(status(401, "Invalid credentials in Authorization header")), "log in with",
            id="an expired token",
        ),
        pytest.param(LOOK_AT_CONFIG, always(status(403)), "status 403|let you do that", id="forbidden"),
        pytest.param(WEIGHTS, always(status(403)), "set HF_TOKEN to a token that may", id="an expired link"),
        pytest.param(LOOK_AT_CONFIG, GATED, "me/model is gated: accept its conditions on http", id="gated"),
        pytest.param(LOOK_AT_WEIGHTS, GATED, "me/model is gated: accept", id="gated weights, open config"),
        pytest.param(LOOK_AT_CONFIG, GONE, "no repository 'me/model' on", id="a deleted repository"),
        pytest.param(LOOK_AT_WEIGHTS, GONE, "no repository 'me/model' on", id="deleted between the files"),
        pytest.param(LOOK_AT_WEIGHTS, SENT_AWAY, "[Rr]efused.*; try again", id="sent to nowhere"),
        pytest.param(LOOK_AT_CONFIG, SENT_AROUND, "redirects", id="sent in a circle"),
        pytest.param(LOOK_AT_CONFIG, PAGE, "does not answer as a Hub; check HF_ENDPOINT", id="a login page"),
    ],
)  # fmt: skip
def test_a_load_fails_with_a_reason_and_heals(
    pattern: str, answer: Any, message: str, hub: FaultyHub, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.faults.on(pattern, answer(files))
    error = failure(hub, lambda: load(hub, tmp_path))
    assert isinstance(error, WeightsNotFoundError | WeightsError)
    assert "me/model" in str(error) or "models--me--model" in str(error)
    with pytest.raises(type(error), match=message):
        raise error
    assert_heals(hub, tmp_path)


@pytest.mark.parametrize(
    ("pattern", "answer", "times", "waited"),
    [
        pytest.param(WEIGHTS, RESET, 1, 1, id="reset once"),
        pytest.param(WEIGHTS, RESET, 2, 5, id="reset twice"),
        pytest.param(WEIGHTS, CLOSED, 3, 3, id="closed three times"),
        pytest.param(WEIGHTS, SHORT, 1, 1, id="truncated once"),
        pytest.param(WEIGHTS, always(status(500)), 2, 5, id="500 twice"),
        pytest.param(WEIGHTS, always(status(503)), 1, 1, id="503 once"),
        pytest.param(WEIGHTS, always(status(429, Retry_After="3")), 1, 4, id="429, wait 3 s"),
        pytest.param(LOOK_AT_CONFIG, always(status(503)), 2, 1, id="503 at first, twice"),
        pytest.param(LOOK_AT_CONFIG, always(status(429, Retry_After="7")), 2, 8, id="429 at first, wait 7 s"),
        pytest.param(CONFIG, always(status(500)), 1, 1, id="500 for the config"),
    ],
)
def test_a_load_that_succeeds_after_a_while(
    pattern: str,
    answer: Any,
    times: int,
    waited: int,
    hub: FaultyHub,
    files: dict[str, bytes],
    waits: list[float],
    tmp_path: Path,
) -> None:
    rule = hub.faults.on(pattern, answer(files), times=times)
    assert load(hub, tmp_path).labels
    assert rule.hits == times
    assert sum(waits) == waited
    assert_heals(hub, tmp_path)


def test_a_processor_that_does_not_arrive_is_no_missing_one(own_hub: FaultyHub, tmp_path: Path) -> None:
    """It says what images have to be, and in which order some weights see colours."""
    api = HfApi(endpoint=own_hub.endpoint, token=own_hub.token)
    name = "preprocessor_config.json"
    api.upload_file(repo_id=REPO, path_in_repo=name, path_or_fileobj=b'{"size": 32}')
    own_hub.faults.on(f"^GET .*/{name}", status(500))
    files = hub_files(REPO, **client(own_hub, tmp_path / "cache"))
    error = failure(own_hub, lambda: read_processor(files, tiny().spec))
    assert "Internal Server Error; try again later" in str(error)
    own_hub.faults.heal()
    processor = read_processor(files, tiny().spec)
    assert processor is not None
    assert processor.preprocess.input_size == (32, 32)


def test_right_size_and_wrong_weights(hub: FaultyHub, files: dict[str, bytes], tmp_path: Path) -> None:
    """The header is right, so that only the hash tells."""
    weights = files["model.safetensors"]
    hub.faults.on(WEIGHTS, send(weights[:-4] + b"\0\0\0\0"))
    error = failure(hub, lambda: load(hub, tmp_path))
    assert isinstance(error, WeightsError)
    assert "model.safetensors" in str(error)
    assert "removed" in str(error)
    assert "again" in str(error)
    assert_heals(hub, tmp_path)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("pattern", [LOOK_AT_CONFIG, CONFIG, LOOK_AT_WEIGHTS, WEIGHTS], ids=lambda each: each[1:22])
def test_a_hub_that_says_nothing(pattern: str, hub: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    hub.faults.on(pattern, stall(release))
    error = failure(hub, lambda: load(hub, tmp_path))
    release.set()
    assert isinstance(error, WeightsNotFoundError)
    assert f"me/model on {hub.endpoint}: " in str(error) or "cannot be reached" in str(error)
    monkeypatch.undo()
    assert_heals(hub, tmp_path)


def test_a_trickle_ends(
    hub: FaultyHub, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PATIENCE", 0.2)
    hub.faults.on(WEIGHTS, trickle(files["model.safetensors"], step=10, pause=0.05))
    error = failure(hub, lambda: load(hub, tmp_path))
    assert isinstance(error, WeightsNotFoundError)
    assert "it sent" in str(error)
    assert_heals(hub, tmp_path)


def test_a_slow_hub_is_waited_for(hub: FaultyHub, files: dict[str, bytes], tmp_path: Path) -> None:
    hub.faults.on(WEIGHTS, trickle(files["model.safetensors"], step=100_000, pause=0.02))
    assert load(hub, tmp_path).labels
    assert_heals(hub, tmp_path)


def test_a_huge_config_is_not_downloaded(hub: FaultyHub, tmp_path: Path) -> None:
    huge = {"X_Repo_Commit": "0" * 40, "X_Linked_Etag": '"0"', "X_Linked_Size": str(1 << 30)}
    hub.faults.on(LOOK_AT_CONFIG, redirect(f"{NOWHERE}/x", **huge))
    error = failure(hub, lambda: load(hub, tmp_path))
    assert "config.json has 1,073,741,824 bytes, and no config has more than 8,388,608" in str(error)
    assert not [request for request in hub.faults.requests if request.startswith("GET")]
    assert_heals(hub, tmp_path)


def test_a_config_that_is_larger_than_was_said(hub: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGEST_CONFIG", 1 << 20)

    def endless(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()  # neither a length nor chunks: it lasts until the connection ends
        handler.close_connection = True
        for _ in range(1000):
            handler.wfile.write(b" " * (1 << 16))

    hub.faults.on(CONFIG, endless)
    error = failure(hub, lambda: load(hub, tmp_path))
    assert "a config has more than 1,048,576 bytes: it is none" in str(error)
    assert_heals(hub, tmp_path)


def test_nothing_listens(hub: FaultyHub, tmp_path: Path) -> None:
    error = failure(hub, lambda: hv.create_model(f"hf-hub:{REPO}", endpoint=NOWHERE, cache_dir=tmp_path))
    assert f"me/model is not in the cache and {NOWHERE} cannot be reached; connect once" in str(error)
    assert_heals(hub, tmp_path)
    with pytest.warns(WeightsWarning, match=f"{NOWHERE} does not say what it has now"):
        assert hv.create_model(f"hf-hub:{REPO}", endpoint=NOWHERE, cache_dir=tmp_path).labels


@pytest.mark.parametrize("code", [401, 404, 500, 503])
def test_what_is_in_the_cache_is_used(code: int, hub: FaultyHub, tmp_path: Path) -> None:
    """Also when the Hub fails, the token has expired, or the repository is gone; a warning says so."""
    load(hub, tmp_path)
    hub.faults.on("HEAD", status(code, "Invalid credentials in Authorization header", X_Error_Code="RepoNotFound"))
    with pytest.warns(WeightsWarning, match="does not say what it has now .*using commit"):
        assert load(hub, tmp_path).labels
    assert_heals(hub, tmp_path)


def test_a_hub_outside_of_our_calls_is_left_alone(hub: FaultyHub, tmp_path: Path) -> None:
    """The client is the process's; another library that waits for a day is meant to."""
    load(hub, tmp_path)
    hub.faults.on("HEAD", status(429, Retry_After=DAY))
    with pytest.raises(Exception, match="429"):
        HfApi(endpoint=hub.endpoint, token=hub.token).get_hf_file_metadata(
            url=f"{hub.endpoint}/{REPO}/resolve/main/config.json"
        )


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(HubFiles(REPO, token="secret"))


def test_a_password_in_an_address_is_not_shown(hub: FaultyHub, tmp_path: Path) -> None:
    address = hub.endpoint.replace("://", "://me:hunter2@")
    hub.faults.on(LOOK_AT_CONFIG, status(500))
    error = failure(hub, lambda: hv.create_model(f"hf-hub:{REPO}", endpoint=address, cache_dir=tmp_path))
    assert "hunter2" not in str(error)
    assert f"{hub.endpoint} answers with status 500" in str(error)


# What changes meanwhile


def test_a_revision_that_moves_between_two_files(own_hub: FaultyHub, tmp_path: Path) -> None:
    """One load is of one commit; the next one sees the new."""
    newer = tiny(seed=1)
    newer.labels = tuple(label.upper() for label in tiny().labels or ())

    def push() -> None:
        own_hub.faults.heal()
        hv.push_to_hub(newer, REPO, endpoint=own_hub.endpoint, token=own_hub.token)

    own_hub.faults.on(LOOK_AT_WEIGHTS, after(push), times=1)
    first, second = load(own_hub, tmp_path / "cache"), load(own_hub, tmp_path / "cache")
    for found, pushed in ((first, tiny()), (second, newer)):
        assert found.labels == pushed.labels
        assert torch.equal(logits(found, images(24, 32)), logits(pushed, images(24, 32)))


def test_a_repository_that_is_deleted_and_made_again(own_hub: FaultyHub, tmp_path: Path) -> None:
    api = HfApi(endpoint=own_hub.endpoint, token=own_hub.token)
    own_hub.faults.on(LOOK_AT_WEIGHTS, after(lambda: api.delete_repo(REPO)), times=1)
    error = failure(own_hub, lambda: load(own_hub, tmp_path / "cache"))
    assert "no repository 'me/model' on" in str(error)
    hv.push_to_hub(tiny(seed=2), REPO, endpoint=own_hub.endpoint, token=own_hub.token)
    assert torch.equal(logits(load(own_hub, tmp_path / "cache"), images(24, 32)), logits(tiny(seed=2), images(24, 32)))


# A cache that is not as it was left


def blob(cache: Path, name: str) -> Path:
    return next(cache.glob(f"*/snapshots/*/{name}")).resolve()


def truncate(cache: Path) -> None:
    os.truncate(blob(cache, "model.safetensors"), 5000)


def empty(cache: Path) -> None:
    os.truncate(blob(cache, "model.safetensors"), 0)


def scribble(cache: Path) -> None:
    blob(cache, "config.json").write_text("{scribbled")


def dangle(cache: Path) -> None:
    blob(cache, "model.safetensors").unlink()


def forget(cache: Path) -> None:
    shutil.rmtree(next(cache.glob("*/snapshots")))


def misname(cache: Path) -> None:
    next(cache.glob("*/refs/main")).write_text("nonsense")


def litter(cache: Path) -> None:
    place = blob(cache, "model.safetensors")
    place.with_suffix(".1234.incomplete").write_bytes(b"half")
    place.unlink()
    (cache / ".locks" / "models--me--model" / "x.lock").write_text("")


def scribble_lists(cache: Path) -> None:
    (next(cache.glob("models--*")) / "trees").mkdir(exist_ok=True)
    (next(cache.glob("models--*")) / "trees" / f"{'0' * 40}.json").write_text("[")


@pytest.mark.parametrize("damage", [truncate, empty, scribble, dangle, forget, misname, litter, scribble_lists])
def test_a_cache_that_was_damaged(damage: Callable[[Path], None], hub: FaultyHub, tmp_path: Path) -> None:
    """A load mends it, or names the file, removes it and says to try again."""
    load(hub, tmp_path)
    damage(tmp_path)
    told = None
    try:
        load(hub, tmp_path)
    except WeightsError as error:
        told = str(error)
    if told is not None:
        assert re.search(r"config\.json|model\.safetensors", told)
        assert re.search("damaged.*removed.*try again", told)
    for left in tmp_path.rglob("*.incomplete"):
        left.unlink()  # the test's own
    assert_heals(hub, tmp_path)


def test_a_file_that_is_wrong_in_the_repository_stays_in_the_cache(own_hub: FaultyHub, tmp_path: Path) -> None:
    """Another download would bring the same."""
    api = HfApi(endpoint=own_hub.endpoint, token=own_hub.token)
    api.upload_file(path_or_fileobj=b"no tensors", path_in_repo="model.safetensors", repo_id=REPO)
    for _ in range(2):
        error = failure(own_hub, lambda: load(own_hub, tmp_path / "cache"))
        assert "that is how it is in the repository: tell its authors, or name another revision" in str(error)
    assert blob(tmp_path / "cache", "model.safetensors").read_bytes() == b"no tensors"


@pytest.mark.parametrize("cached", ["everything", "the config", "nothing"])
def test_offline(cached: str, hub: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if cached == "everything":
        load(hub, tmp_path)
    elif cached == "the config":
        assert HubFiles(REPO, cache_dir=tmp_path, endpoint=hub.endpoint, token=hub.token).get("config.json")
    hub.faults.requests.clear()
    with monkeypatch.context() as offline, warnings.catch_warnings():
        warnings.simplefilter("error")
        offline.setattr(constants, "HF_HUB_OFFLINE", True)
        if cached == "everything":
            assert load(hub, tmp_path).labels
        else:
            error = failure(hub, lambda: load(hub, tmp_path))
            assert "me/model is not in the cache and HF_HUB_OFFLINE is set; connect once" in str(error)
    assert not hub.faults.requests
    assert_heals(hub, tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT], ids=errno.errorcode.__getitem__)
def test_a_disk_that_takes_nothing(
    number: int, hub: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as full:
        full.setattr(file_download, "http_get", refuse)
        error = failure(hub, lambda: load(hub, tmp_path))
    assert f"me/model cannot be kept in {tmp_path}: {os.strerror(number)}; make room or" in str(error)
    assert_heals(hub, tmp_path)


# Pull


INFO = r"^GET /api/models/me/model(\?|$)"
TREE = "^GET /api/models/me/model/tree/"


def listing(*paths: str) -> Answer:
    """A Hub that lists files of any name, as git's does not."""

    def answer(handler: Any) -> None:
        handler.send_json([{"type": "file", "path": path, "oid": "0" * 40, "size": 3} for path in paths])

    return answer


@pytest.mark.parametrize(
    ("pattern", "answer", "message"),
    [
        pytest.param(INFO, status(503), "Service Unavailable; try again", id="503 at first"),
        pytest.param(INFO, status(429, Retry_After=DAY), "wait for 86400", id="429 at first"),
        pytest.param(INFO, status(401), "log in|no repository", id="an expired token"),
        pytest.param(TREE, status(500), "answers with status 500|did not arrive", id="no list of files"),
        pytest.param(WEIGHTS, status(500), "Internal Server Error; try again later", id="500 for one file"),
        pytest.param(WEIGHTS, send(b"x", of=WEIGHTS_SIZE, reset=True), "; try again", id="reset in mid-file"),
        pytest.param(WEIGHTS, send(b"x"), "has size 1 .*; try again", id="a truncated file"),
    ],
)
def test_a_pull_fails_with_a_reason_and_heals(
    pattern: str, answer: Answer, message: str, hub: FaultyHub, tmp_path: Path
) -> None:
    directory = tmp_path / "deep" / "er" / "pulled"

    def pull() -> Path:
        return pull_from_hub(REPO, directory, endpoint=hub.endpoint, token=hub.token)

    hub.faults.on(pattern, answer)
    error = failure(hub, pull)
    assert isinstance(error, WeightsNotFoundError)
    with pytest.raises(WeightsNotFoundError, match=message):
        raise error
    hub.faults.heal()
    assert hv.create_model(f"local-dir:{pull()}").labels
    assert not list(tmp_path.rglob("*.incomplete"))


@pytest.mark.parametrize("pattern", [TREE, WEIGHTS, LOOK_AT_WEIGHTS], ids=["list", "weights", "look at weights"])
def test_a_pull_over_an_older_one(pattern: str, own_hub: FaultyHub, tmp_path: Path) -> None:
    """The older one stays until the new one is whole; and nobody is told that the old one is new.

    The client takes what is there for an answer if the Hub stops giving any.
    """

    def pull() -> Any:
        return hv.create_model(
            f"local-dir:{pull_from_hub(REPO, tmp_path / 'a', endpoint=own_hub.endpoint, token=own_hub.token)}"
        )

    pull()
    for path in (tmp_path / "a").iterdir():
        os.utime(path, (1e9, 1e9))
    hv.push_to_hub(tiny(seed=1), REPO, endpoint=own_hub.endpoint, token=own_hub.token)
    own_hub.faults.on(pattern, status(500))
    assert isinstance(failure(own_hub, pull), WeightsNotFoundError)
    before = hv.create_model(f"local-dir:{tmp_path / 'a'}")
    assert torch.equal(logits(before, images(24, 32)), logits(tiny(), images(24, 32)))
    own_hub.faults.heal()
    assert torch.equal(logits(pull(), images(24, 32)), logits(tiny(seed=1), images(24, 32)))
    assert not (tmp_path / "a" / ".pulling").exists()


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:\\evil"])
def test_a_pull_of_names_that_lead_elsewhere(name: str, hub: FaultyHub, tmp_path: Path) -> None:
    hub.faults.on(TREE, listing("config.json", name))
    with pytest.raises(WeightsNotFoundError, match=f"Invalid filename '{re.escape(name)}'"):
        pull_from_hub(REPO, tmp_path / "a" / "b", endpoint=hub.endpoint, token=hub.token)
    assert not list(tmp_path.rglob("*evil"))
    assert not Path("/tmp/evil").exists()
    hub.faults.heal()  # what was listed is kept for that directory, for a commit has one list
    again = pull_from_hub(REPO, tmp_path / "a" / "c", endpoint=hub.endpoint, token=hub.token)
    assert hv.create_model(f"local-dir:{again}").labels


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("pattern", [INFO, TREE, WEIGHTS], ids=["info", "list", "weights"])
def test_a_pull_from_a_hub_that_says_nothing(
    pattern: str, hub: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    hub.faults.on(pattern, stall(release))
    error = failure(hub, lambda: pull_from_hub(REPO, tmp_path / "a", endpoint=hub.endpoint, token=hub.token))
    release.set()
    assert isinstance(error, WeightsNotFoundError)
    monkeypatch.undo()
    hub.faults.heal()
    assert hv.create_model(
        f"local-dir:{pull_from_hub(REPO, tmp_path / 'a', endpoint=hub.endpoint, token=hub.token)}"
    ).labels


# Push


@pytest.fixture
def new(request: pytest.FixtureRequest) -> str:
    """A repository that is not there yet."""
    return f"me/{abs(hash(request.node.name))}"


COMMIT, UPLOAD = "^POST .*/commit/", "^PUT "


@pytest.mark.parametrize(
    ("pattern", "answer", "message"),
    [
        pytest.param("/api/repos/create", status(503), "Service Unavailable; try again later", id="503 at first"),
        pytest.param("/api/repos/create", status(401), "set HF_TOKEN to a token that may", id="an expired token"),
        pytest.param("/api/repos/create", status(403), "set HF_TOKEN to a token that may", id="a token for reading"),
        pytest.param("preupload", status(429, Retry_After=DAY), "wait for 86400 seconds", id="429, wait a day"),
        pytest.param(UPLOAD, status(403), "model.safetensors.* 403 .*try again", id="an expired link"),
        pytest.param(UPLOAD, status(500), "model.safetensors.*'500 .*try again", id="500 for the weights"),
        pytest.param(COMMIT, status(500), "Internal Server Error; try again later", id="500 for the commit"),
        pytest.param(COMMIT, status(412, "main moved"), "main moved", id="somebody else pushed"),
        pytest.param(COMMIT, status(507, "the disk is full"), "the disk is full; try again later", id="no room there"),
        pytest.param(COMMIT, send(b"", of=10, reset=True), "; try again", id="reset at the commit"),
    ],
)
def test_a_push_fails_with_a_reason_and_heals(
    pattern: str, answer: Answer, message: str, hub: FaultyHub, new: str, tmp_path: Path
) -> None:
    """Nothing of the model is on the Hub then."""

    def push() -> str:
        return hv.push_to_hub(tiny(seed=3), new, endpoint=hub.endpoint, token=hub.token)

    api = HfApi(endpoint=hub.endpoint, token=hub.token)
    hub.faults.on(pattern, answer)
    error = failure(hub, push)
    assert isinstance(error, WeightsNotFoundError)
    with pytest.raises(WeightsNotFoundError, match=message):
        raise error
    hub.faults.heal()
    if api.repo_exists(new):
        assert api.list_repo_files(new) == [".gitattributes"]
    push()
    found = load(hub, tmp_path / "cache", new)
    assert torch.equal(logits(found, images(24, 32)), logits(tiny(seed=3), images(24, 32)))
    files = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert not [path for path, content in files.items() if hub.token.encode() in content]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("pattern", ["/api/repos/create", UPLOAD, COMMIT], ids=["create", "upload", "commit"])
def test_a_push_to_a_hub_that_says_nothing(
    pattern: str, hub: FaultyHub, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    hub.faults.on(pattern, stall(release))
    error = failure(hub, lambda: hv.push_to_hub(tiny(), new, endpoint=hub.endpoint, token=hub.token))
    release.set()
    assert isinstance(error, WeightsNotFoundError)
    monkeypatch.undo()
    hub.faults.heal()
    assert hv.push_to_hub(tiny(), new, endpoint=hub.endpoint, token=hub.token)


# Other processes


class Worker:
    """`tests.hub.worker`: starts processes and collects what they answer."""

    def __init__(self) -> None:
        environment = {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub.worker"],
            cwd=PROJECT,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answers: dict[int, str] = {}

    def start(self, hub: FaultyHub, do: str, **task: Any) -> int:
        assert self.process.stdin is not None
        task |= {"do": do, "endpoint": hub.endpoint, "token": hub.token}
        self.process.stdin.write(json.dumps(task, default=str) + "\n")
        self.process.stdin.flush()
        while not (line := self._line()).startswith("started "):
            self._keep(line)
        return int(line.split()[1])

    def answer(self, pid: int) -> str:
        while pid not in self.answers:
            self._keep(self._line())
        return self.answers.pop(pid)

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the worker ended"
        return line

    def _keep(self, line: str) -> None:
        pid, answer = line.rstrip("\n").split(" ", 1)
        self.answers[int(pid)] = answer


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.process.communicate()


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("do", ["load", "pull"])
def test_processes_that_want_the_same_files(
    do: str, count: int, hub: FaultyHub, files: dict[str, bytes], worker: Worker, tmp_path: Path
) -> None:
    hub.faults.on(WEIGHTS, trickle(files["model.safetensors"], step=300_000, pause=0.05))
    pids = [worker.start(hub, do, repo=REPO, to=tmp_path) for _ in range(count)]
    assert [worker.answer(pid) for pid in pids] == ["done"] * count
    if do == "load":
        assert_heals(hub, tmp_path)
    else:
        assert hv.create_model(f"local-dir:{tmp_path}").labels
        assert not list(tmp_path.rglob("*.incomplete"))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_a_load_that_is_killed(hub: FaultyHub, files: dict[str, bytes], worker: Worker, tmp_path: Path) -> None:
    reached, release = threading.Event(), threading.Event()
    half = files["model.safetensors"][:500_000]

    def halt(handler: Any) -> None:
        handler.send_head(200, {}, len(files["model.safetensors"]))
        handler.wfile.write(half)
        stall(release, reached)(handler)

    hub.faults.on(WEIGHTS, halt)
    for do, to in (("load", tmp_path / "cache"), ("pull", tmp_path / "pulled")):
        reached.clear()
        pid = worker.start(hub, do, repo=REPO, to=to)
        assert reached.wait(20)
        kill(pid)
    release.set()
    hub.faults.heal()
    for left in (tmp_path / "cache").rglob("*.incomplete"):
        left.rename(left.with_suffix(".left"))  # what a kill leaves is in nobody's way
    assert_heals(hub, tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match=r"has neither model\.safetensors|has no config"):
        hv.create_model(f"local-dir:{tmp_path / 'pulled'}")
    pull_from_hub(REPO, tmp_path / "pulled", endpoint=hub.endpoint, token=hub.token)
    assert hv.create_model(f"local-dir:{tmp_path / 'pulled'}").labels


@pytest.mark.parametrize("pattern", ["preupload", UPLOAD, COMMIT], ids=["before", "upload", "commit"])
def test_a_push_that_is_killed(pattern: str, hub: FaultyHub, new: str, worker: Worker, tmp_path: Path) -> None:
    reached, release = threading.Event(), threading.Event()
    hub.faults.on(pattern, stall(release, reached))
    pid = worker.start(hub, "push", repo=new)
    assert reached.wait(20)
    kill(pid)
    release.set()
    hub.faults.heal()
    api = HfApi(endpoint=hub.endpoint, token=hub.token)
    assert api.list_repo_files(new) == [".gitattributes"]
    hv.push_to_hub(tiny(), new, endpoint=hub.endpoint, token=hub.token)
    assert load(hub, tmp_path / "cache", new).labels


@pytest.mark.parametrize("do", ["load", "pull"])
def test_a_full_disk(do: str, hub: FaultyHub, worker: Worker, tmp_path: Path) -> None:
    """The kernel refuses to write more than a part of the weights."""
    answer = worker.answer(worker.start(hub, do, repo=REPO, to=tmp_path, file_size=100_000))
    assert answer.startswith("OSError: me/model cannot be kept in ")
    assert "File too large; make room or let it be written to" in answer
    assert not list(tmp_path.rglob("*.incomplete"))
    assert worker.answer(worker.start(hub, do, repo=REPO, to=tmp_path)) == "done"


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that other users may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="hybridvit-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_a_cache_that_is_read_only(warm: bool, hub: FaultyHub, worker: Worker, public_directory: Path) -> None:
    """Root may write anywhere, so that its tests become somebody else."""
    cache = public_directory / "cache"
    cache.mkdir()
    if warm:
        load(hub, cache)
    cache.chmod(0o555)
    task = {"user": 65534} if os.geteuid() == 0 else {}
    answer = worker.answer(worker.start(hub, "load", repo=REPO, to=cache, **task))
    cache.chmod(0o755)
    if warm:
        assert answer == "done"
    else:
        assert answer.startswith(f"OSError: me/model cannot be kept in {cache}")
        assert "Permission denied; make room or let it be written to, or name another place by HF_HOME" in answer
    assert_heals(hub, cache)


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_an_index_is_bounded_as_a_config_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hybridvit.weights import transport

    monkeypatch.setattr(transport, "_blocks", 1)
    request = SimpleNamespace(url=f"https://hub/me/model/resolve/main/{name}")
    answer = SimpleNamespace(status_code=200, headers={"Content-Length": str(30 << 20)}, request=request)
    with pytest.raises(transport.UnreasonableHubError, match=f"{name} has 31,457,280 bytes, and no config has more"):
        transport._watch(answer)


# Files that are not wanted


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("config", [True, False])
def test_a_pickle_that_is_not_allowed_is_not_downloaded(parts: int, config: bool, tmp_path: Path) -> None:
    with FaultyHub(tmp_path / "own") as hub:
        api, cache = HfApi(endpoint=hub.endpoint, token=hub.token), client(hub, tmp_path / "cache")
        model = tiny()
        saved, tensors = hv.save_pretrained(model, tmp_path / "saved"), model.state_dict()
        if not config:
            (saved / "config.json").unlink()
        (saved / "model.safetensors").unlink()
        names = ["pytorch_model.bin"] if parts == 1 else ["pytorch_model-1.bin", "pytorch_model-2.bin"]
        for part, name in enumerate(names):
            torch.save(dict(list(tensors.items())[part::parts]), saved / name)
        if parts > 1:
            listed = {key: names[place % parts] for place, key in enumerate(tensors)}
            (saved / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": listed}))
        api.create_repo(REPO)
        api.upload_folder(repo_id=REPO, folder_path=saved)
        hub.faults.requests.clear()
        with pytest.raises(WeightsError, match=r"pytorch_model\.bin of me/model is a pickle.*allow_pickle=True"):
            hv.create_model(f"hf-hub:{REPO}", **cache)
        assert not [each for each in hub.faults.requests if each.startswith("GET") and ".json" not in each]
        with pytest.MonkeyPatch.context() as offline:
            offline.setattr(constants, "HF_HUB_OFFLINE", True)
            message = "me/model is not in the cache and HF_HUB_OFFLINE is set; connect once"
            with pytest.raises(WeightsNotFoundError, match=message):
                hv.create_model(f"hf-hub:{REPO}", **cache)
        if config:
            loaded = hv.create_model(f"hf-hub:{REPO}", allow_pickle=True, **cache)
            assert torch.equal(logits(loaded, images(24, 32)), logits(model, images(24, 32)))
