"""HTTP as the Hub needs it: JSON answers, errors, byte ranges, and a server whose connections end when it stops."""

import errno
import json
import logging
import re
import socket
import socketserver
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, BinaryIO
from urllib.parse import quote

from hybridvit.hub.errors import HubError, bad_request

HOST = "127.0.0.1"  # the only address: the Hub is for this machine alone

_log = logging.getLogger(__name__)


class Server(socketserver.ThreadingTCPServer):
    """One thread per connection. `stop` ends open connections too and returns once no request is being answered."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, handler: Any) -> None:
        super().__init__((HOST, port), handler)
        self._connections: set[socket.socket] = set()
        self._acceptor = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"

    def start(self) -> None:
        self._acceptor.start()

    def stop(self) -> None:
        self.shutdown()
        for connection in list(self._connections):
            with suppress(OSError):  # its client has closed it already
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("the connection to %s ended early", client_address, exc_info=True)


class Handler(BaseHTTPRequestHandler):
    """Leaves every request to `answer`, and tells the client what that raises."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; joining them would cost 40 ms a request
    _answering = False

    def answer(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self._answering = False
        try:
            self._refuse_foreign_host()
            self.answer()
        except Exception as error:
            if self._answering:  # what is sent cannot be taken back: end the connection, so that the client notices
                raise
            self._refuse(error)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _refuse_foreign_host(self) -> None:
        """A web page whose name resolves to this machine must not read the Hub through a browser."""
        host = self.headers.get("Host", HOST).rsplit(":", 1)[0]
        if host not in (HOST, "localhost"):
            raise bad_request(f"the loopback Hub answers to {HOST}, not to {host}")

    def _refuse(self, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            error = HubError(HTTPStatus.INSUFFICIENT_STORAGE, "the disk of the Hub is full: make room and push again")
        # Unread parts of the request would be taken for the next one, so the connection ends.
        headers = {"Connection": "close"}
        if isinstance(error, HubError):
            one_line = " ".join(str(error).split()).encode("ascii", "backslashreplace").decode()
            headers |= {"X-Error-Message": one_line, **error.headers}
            headers |= {"X-Error-Code": error.code} if error.code else {}
            self.send_json({"error": str(error)}, error.status, headers)
        else:
            _log.error("%s %s failed", self.command, self.path, exc_info=error)
            self.send_json({"error": f"{type(error).__name__}: {error}"}, HTTPStatus.INTERNAL_SERVER_ERROR, headers)

    def content_length(self) -> int:
        text = self.headers.get("Content-Length", "0")
        if not text.isdecimal():
            raise bad_request(f"Content-Length must be a number, got {text!r}")
        return int(text)

    def send_head(self, status: int, headers: dict[str, str], length: int = 0) -> None:
        self._answering = True
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def send_json(self, value: Any, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value, default=str).encode()  # a model card may hold dates
        self.send_head(status, {"Content-Type": "application/json", **(headers or {})}, len(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_content(self, source: BinaryIO, size: int, headers: dict[str, str]) -> None:
        """Sends `size` bytes of `source`, or the part of them that the Range header asks for."""
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        status, start, stop = HTTPStatus.OK, 0, size
        if span := _range_of(self.headers.get("Range", ""), size):
            status, (start, stop) = HTTPStatus.PARTIAL_CONTENT, span
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self.send_head(status, headers, stop - start)
        if self.command != "HEAD" and stop > start:
            self.connection.sendfile(source, start, stop - start)

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)


def named(path: str) -> dict[str, str]:
    """The header that says as what a browser keeps a file."""
    return {"Content-Disposition": f"inline; filename*=UTF-8''{quote(path.rpartition('/')[2], safe='')}"}


def _range_of(header: str, size: int) -> tuple[int, int] | None:
    """Start and stop of a Range header; None if there is none that we serve, which HTTP allows to ignore."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    if match is None or header == "bytes=-":
        return None
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        headers = {"Content-Range": f"bytes */{size}"}
        raise HubError(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"{header} of {size} bytes", headers=headers)
    return start, stop
