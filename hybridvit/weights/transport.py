"""No request to a Hub lasts for ever or fills a disk: what huggingface_hub leaves open is bounded while we use it.

Its downloads end by themselves when nothing comes for HF_HUB_DOWNLOAD_TIMEOUT seconds (10, and five more attempts), and
its looks at one file after HF_HUB_ETAG_TIMEOUT (10, then six attempts of 60). It sets no limit to the requests of a
push and to lists of files, waits for as long as a Hub asks it to, and for a download of which a byte comes now and
then.
"""

from __future__ import annotations

import math
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .. import limits

CONFIGS = ("config.json", "preprocessor_config.json")
INDICES = (".safetensors.index.json", ".bin.index.json")
RETRIED = (408, 429, 500, 502, 503, 504)
_blocks = 0
_lock = threading.Lock()


class UnreasonableHubError(Exception):
    """A Hub that would take too long or send too much; this ends the request, and no attempt follows."""


@contextmanager
def bounded() -> Iterator[None]:
    """Bounds the requests of huggingface_hub that are made inside, in whichever thread.

    Its HTTP client is shared by the whole process, so what is added to it does nothing outside.
    """
    from huggingface_hub.utils import get_session

    global _blocks
    hooks: Any = get_session().event_hooks
    for name, hook in (("request", _limit_waiting), ("response", _watch)):
        if hook not in hooks[name]:
            hooks[name].append(hook)
    with _lock:
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1


def is_offline() -> bool:
    """Whether huggingface_hub asks nobody and takes what its cache has."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


@contextmanager
def offline_if_unreachable(seconds: float = 5.0) -> Iterator[bool]:
    """Asks the Hub once; if it does not answer in time, nobody is asked inside, as if HF_HUB_OFFLINE were set.

    Several loads then take what the cache has, or fail, at once, where each would wait for itself. Gives whether that
    is so; False also where the user has set HF_HUB_OFFLINE.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if is_offline():
        yield False
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=seconds)
    except Exception:  # of whichever HTTP library the huggingface_hub at hand has
        constants.HF_HUB_OFFLINE = True
        try:
            yield True
        finally:
            constants.HF_HUB_OFFLINE = False
    else:
        yield False


Result = TypeVar("Result")


def persistently(download: Callable[[], Result]) -> Result:
    """A download, tried again where the client gives up at once: a connection reset, a 5xx, a file cut short."""
    for seconds in limits.RETRY_AFTER:
        try:
            return download()
        except Exception as error:
            if not _passes(error):
                raise
        time.sleep(seconds)
    return download()


def _passes(error: Exception) -> bool:
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (500, 502, 503, 504)
    cut_short = isinstance(error, OSError) and error.errno is None and not isinstance(error, EntryNotFoundError)
    return cut_short or type(error).__name__ == "ReadError"  # of httpx, or of httpx2


def _limit_waiting(request: Any) -> None:
    from huggingface_hub import constants

    if _blocks:
        longest = limits.HEAD_PATIENCE if request.method == "HEAD" else limits.PATIENCE
        longest = max(longest, constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT)
        given = request.extensions.get("timeout") or dict.fromkeys(("connect", "read", "write", "pool"))
        bounds = {name: longest if seconds is None else min(seconds, longest) for name, seconds in given.items()}
        request.extensions = {**request.extensions, "timeout": bounds}


def _watch(response: Any) -> None:
    if not _blocks:
        return
    wait = _wanted_wait(response.headers) if response.status_code in RETRIED else 0
    if wait > limits.LONGEST_WAIT:
        raise UnreasonableHubError(f"it asks to wait for {wait} seconds (HTTP {response.status_code}); try again then")
    name = urlsplit(str(response.request.url)).path.rpartition("/")[2]
    largest = limits.LARGEST_CONFIG if name in CONFIGS or name.endswith(INDICES) else math.inf
    size = response.headers.get("X-Linked-Size") or response.headers.get("Content-Length") or "0"
    if size.isdecimal() and int(size) > largest:
        raise UnreasonableHubError(
            f"{name} has {int(size):,} bytes, and no config has more than {largest:,}: it is none"
        )
    response.stream = _watched(response.stream, largest)


def _wanted_wait(headers: Mapping[str, str]) -> int:
    """Seconds until the next attempt, by either of the headers that the client obeys."""
    after = headers.get("Retry-After", "").strip()
    limited = re.search(r"r\s*=\s*0+\s*;\s*t\s*=\s*(\d+)", headers.get("ratelimit", ""))
    return max(int(after) if after.isdecimal() else 0, int(limited[1]) if limited else 0)


def paced(parts: Iterable[bytes], largest: float = math.inf) -> Iterator[bytes]:
    """The same parts. Raises UnreasonableHubError when they come too slowly, or are more than there may be."""
    start, received, total = time.monotonic(), 0, 0
    for part in parts:
        received, total = received + len(part), total + len(part)
        if total > largest:
            raise UnreasonableHubError(f"a config has more than {largest:,} bytes: it is none")
        seconds = time.monotonic() - start
        if seconds > limits.PATIENCE:
            if received < limits.SLOWEST * seconds:
                raise UnreasonableHubError(f"it sent {received:,} bytes in {seconds:.0f} s; try again later")
            start, received = time.monotonic(), 0
        yield part


def _watched(stream: Any, largest: float) -> Any:
    """The same body; it ends in an error when it comes too slowly, or is larger than it may be."""
    library: Any = sys.modules[type(stream).__module__.partition(".")[0]]  # httpx, or httpx2 since huggingface_hub 2

    class Watched(library.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return paced(stream, largest)

        def close(self) -> None:
            stream.close()

    return Watched()
