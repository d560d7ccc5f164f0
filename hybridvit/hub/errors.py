"""What the Hub refuses."""

from http import HTTPStatus


class HubError(Exception):
    """A request that the Hub refuses; the message says why and the status tells the client.

    `code`, sent as X-Error-Code, has the client raise RepositoryNotFoundError ("RepoNotFound"), RevisionNotFoundError
    ("RevisionNotFound") or EntryNotFoundError ("EntryNotFound") instead of its general error.
    """

    def __init__(
        self, status: HTTPStatus, message: str, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}


def bad_request(message: str) -> HubError:
    return HubError(HTTPStatus.BAD_REQUEST, message)


def not_found(code: str, message: str, headers: dict[str, str] | None = None) -> HubError:
    return HubError(HTTPStatus.NOT_FOUND, message, code, headers)
