"""Where large files travel: a server beside the Hub's, because the redirect to it must leave the Hub's origin.

The client follows a redirect within one origin itself, and then misses the headers that came with it. It sends no token
to another origin, so a URL of the store carries a signature instead.
"""

import hashlib
import hmac
import secrets
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from hybridvit.hub.errors import HubError, bad_request, not_found
from hybridvit.hub.repositories import Repositories
from hybridvit.hub.wire import Handler, Server, named


class Store:
    """The server of large files; its URLs are good while it runs."""

    def __init__(self, repositories: Repositories) -> None:
        self._key = secrets.token_bytes(32)
        self.server = Server(0, partial(_StoreHandler, self, repositories))

    def url(self, method: str, repo_id: str, sha256: str, size: int, name: str = "") -> str:
        """Where to PUT or GET the large file, which whoever keeps it may call by its `name`."""
        query = {"size": size, "signature": self.sign(method, repo_id, sha256, size), "name": name}
        return f"{self.server.url}/{repo_id}/{sha256}?{urlencode(query)}"

    def sign(self, method: str, repo_id: str, sha256: str, size: int) -> str:
        return hmac.new(self._key, f"{method} {repo_id} {sha256} {size}".encode(), hashlib.sha256).hexdigest()


class _StoreHandler(Handler):
    def __init__(self, store: Store, repositories: Repositories, *request: Any) -> None:
        self.store = store
        self.repositories = repositories
        super().__init__(*request)

    def answer(self) -> None:
        url = urlsplit(self.path)
        repo_id, _, sha256 = url.path.removeprefix("/").rpartition("/")
        query = parse_qs(url.query)
        size = int(query.get("size", ["0"])[0])
        signature = query.get("signature", [""])[0]
        method = "PUT" if self.command == "PUT" else "GET"
        if not hmac.compare_digest(signature.encode(), self.store.sign(method, repo_id, sha256, size).encode()):
            raise HubError(HTTPStatus.FORBIDDEN, "this URL is not signed by the Hub that runs now: ask the Hub again")
        repository = self.repositories.find(repo_id)
        if method == "PUT":
            if self.content_length() != size:
                raise bad_request(f"expected {size} bytes, not {self.content_length()}")
            repository.store_large_file(self.rfile, sha256, size)
            self.send_head(HTTPStatus.OK, {})
        else:
            path = repository.large_file(sha256)
            if not path.exists():
                raise not_found("EntryNotFound", f"no file with sha256 {sha256} in {repo_id!r}")
            with path.open("rb") as file:
                self.send_content(file, size, {"ETag": f'"{sha256}"', **named(query.get("name", [sha256])[0])})
