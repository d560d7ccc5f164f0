"""The routes of the Hub that the huggingface_hub client calls to push, pull, look up and list models."""

import base64
import hmac
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from hybridvit.hub import cards
from hybridvit.hub.errors import HubError, bad_request, not_found
from hybridvit.hub.repositories import Repositories
from hybridvit.hub.repository import DEFAULT_BRANCH, LARGE_FILE_SUFFIXES, USER, Change, Entry, Repository
from hybridvit.hub.store import Store
from hybridvit.hub.wire import Handler, named

PAGE_SIZE = 1000
LARGEST_REGULAR_FILE = 10 << 20


@dataclass(frozen=True)
class _Route:
    method: str
    path: re.Pattern[str]
    needs_token: bool
    answer: Callable[..., None]


_ROUTES: list[_Route] = []
_PARAMETERS = {"repo": "[^/]+(?:/[^/]+)?", "path": ".+"}


def _route(method: str, path: str, needs_token: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Has a method of the handler answer a path; `{repo}` is one or two segments of it, `{path}` any, others one."""
    pattern = re.sub(r"{(\w+)}", lambda match: f"(?P<{match[1]}>{_PARAMETERS.get(match[1], '[^/]+')})", path)

    def register(answer: Callable[..., None]) -> Callable[..., None]:
        _ROUTES.append(_Route(method, re.compile(pattern), needs_token, answer))
        return answer

    return register


class HubHandler(Handler):
    """Answers one connection of a client."""

    def __init__(self, repositories: Repositories, store: Store, token: str, *request: Any) -> None:
        self.repositories = repositories
        self.store = store
        self.token = token
        super().__init__(*request)

    def answer(self) -> None:
        self.body = self.rfile.read(self.content_length())
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.is_authenticated = self._authenticate()
        method = "GET" if self.command == "HEAD" else self.command
        for route in _ROUTES:
            if route.method == method and (match := route.path.fullmatch(url.path)):
                if route.needs_token and not self.is_authenticated:
                    hint = "this needs the Hub's token: set HF_TOKEN to what `hybridvit hub serve` prints"
                    raise HubError(HTTPStatus.UNAUTHORIZED, hint)
                route.answer(self, **{name: unquote(value) for name, value in match.groupdict().items()})
                return
        raise HubError(HTTPStatus.NOT_FOUND, f"the loopback Hub does not know {method} {url.path}")

    def _authenticate(self) -> bool:
        header = self.headers.get("Authorization")
        if header is None:
            return False
        if not hmac.compare_digest(header.encode(), f"Bearer {self.token}".encode()):
            # Other words the client takes for a repository that does not exist.
            raise HubError(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")
        return True

    def _repository(self, repo_id: str) -> Repository:
        repository = self.repositories.find(repo_id)
        if repository.is_private and not self.is_authenticated:
            raise not_found("RepoNotFound", f"no repository {repo_id!r}")  # nor may its name be learned
        return repository

    def _json_body(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise bad_request(f"the body is not JSON: {error}") from error

    def _send_page(self, items: list[dict[str, Any]]) -> None:
        start = self._number("cursor", 0)
        stop = start + min(self._number("limit", PAGE_SIZE), PAGE_SIZE)
        headers = {}
        if stop < len(items):
            query = urlencode({**self.query, "cursor": stop}, doseq=True)
            headers["Link"] = f'<{self._endpoint()}{urlsplit(self.path).path}?{query}>; rel="next"'
        self.send_json(items[start:stop], headers=headers)

    def _number(self, name: str, default: int) -> int:
        text = self.query.get(name, [str(default)])[0]
        if not text.isdecimal():
            raise bad_request(f"{name} must be a number, got {text!r}")
        return int(text)

    def _endpoint(self) -> str:
        return f"http://{self.headers['Host']}"

    # Users and repositories

    @_route("GET", "/api/whoami-v2", needs_token=True)
    def who_am_i(self) -> None:
        access = {"accessToken": {"displayName": "loopback", "role": "write"}}
        self.send_json({"type": "user", "id": USER, "name": USER, "fullname": USER, "orgs": [], "auth": access})

    @_route("POST", "/api/repos/create", needs_token=True)
    def create_repository(self) -> None:
        request = self._json_body()
        repo_id = _repo_id(request)
        answer = {"url": f"{self._endpoint()}/{repo_id}", "name": repo_id}
        private = request.get("visibility") == "private" or request.get("private", False)  # the latter before 2.0
        try:
            self.repositories.create(repo_id, private)
        except HubError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            self.send_json({"error": str(error), **answer}, error.status)  # exist_ok=True reads the url here too
        else:
            self.send_json(answer)

    @_route("DELETE", "/api/repos/delete", needs_token=True)
    def delete_repository(self) -> None:
        self.repositories.delete(_repo_id(self._json_body()))
        self.send_json({})

    @_route("GET", "/api/models")
    def list_models(self) -> None:
        search = self.query.get("search", [""])[0].lower()
        author = self.query.get("author", [None])[0]
        wanted = {*self.query.get("filter", []), *self.query.get("pipeline_tag", [])}
        models = [
            _model_info(repo_id, repository, DEFAULT_BRANCH)
            for repo_id, repository in self.repositories
            if search in repo_id.lower()
            and author in (None, repo_id.split("/")[0])
            and (self.is_authenticated or not repository.is_private)
        ]
        models = [model for model in models if wanted <= {*model["tags"], model["pipeline_tag"]}]
        self._send_page(sorted(models, key=lambda model: model["lastModified"], reverse=True))

    # Reading a repository

    @_route("GET", "/api/models/{repo}/revision/{revision}")
    @_route("GET", "/api/models/{repo}")
    def model_info(self, repo: str, revision: str = DEFAULT_BRANCH) -> None:
        self.send_json(_model_info(repo, self._repository(repo), revision))

    @_route("GET", "/api/models/{repo}/tree/{revision}/{path}")
    @_route("GET", "/api/models/{repo}/tree/{revision}")
    def list_tree(self, repo: str, revision: str, path: str = "") -> None:
        repository = self._repository(repo)
        entries = repository.tree(repository.resolve(revision))
        folder = f"{path}/" if path else ""
        inside = [entry for name, entry in entries.items() if name.startswith(folder) and name != path]
        if path and not inside:
            raise not_found("EntryNotFound", f"no folder {path!r} at {revision!r}")
        if self.query.get("recursive") != ["true"]:
            inside = [entry for entry in inside if "/" not in entry.path.removeprefix(folder)]
        self._send_page([_entry_json(entry) for entry in inside])

    @_route("POST", "/api/models/{repo}/paths-info/{revision}")
    def paths_info(self, repo: str, revision: str) -> None:
        repository = self._repository(repo)
        entries = repository.tree(repository.resolve(revision))
        paths = parse_qs(self.body.decode())["paths"]
        self.send_json([_entry_json(entries[path]) for path in paths if path in entries])

    @_route("GET", "/api/models/{repo}/commits/{revision}")
    def list_commits(self, repo: str, revision: str) -> None:
        repository = self._repository(repo)
        self._send_page(repository.log(repository.resolve(revision)))

    @_route("GET", "/api/models/{repo}/refs")
    def list_refs(self, repo: str) -> None:
        refs = self._repository(repo).refs()

        def of_kind(prefix: str) -> list[dict[str, str]]:
            return [
                {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": commit}
                for ref, commit in refs.items()
                if ref.startswith(prefix)
            ]

        answer = {"branches": of_kind("refs/heads/"), "tags": of_kind("refs/tags/"), "converts": []}
        self.send_json({**answer, "pullRequests": of_kind("refs/pr/")})

    @_route("GET", "/{repo}/resolve/{revision}/{path}")
    def download(self, repo: str, revision: str, path: str) -> None:
        repository = self._repository(repo)
        commit = repository.resolve(revision)
        headers = {"X-Repo-Commit": commit}
        entry = repository.tree(commit).get(path)
        if entry is None or entry.is_directory:
            raise not_found("EntryNotFound", f"no file {path!r} at {revision!r}", headers)
        headers |= named(path)
        if entry.sha256 is None:
            content = io.BytesIO(repository.read(entry.oid))
            self.send_content(content, entry.size, {**headers, "ETag": f'"{entry.etag}"'})
        else:
            headers |= {"X-Linked-Etag": f'"{entry.etag}"', "X-Linked-Size": str(entry.size)}
            headers["Location"] = self.store.url("GET", repo, entry.sha256, entry.size, path)
            self.send_head(HTTPStatus.FOUND, headers)

    # Writing to a repository

    @_route("POST", "/api/validate-yaml")
    def validate_card(self) -> None:
        try:
            cards.metadata(self._json_body()["content"])
        except ValueError as error:
            self.send_json({"errors": [{"message": str(error)}], "warnings": []}, HTTPStatus.BAD_REQUEST)
        else:
            self.send_json({"errors": [], "warnings": []})

    @_route("POST", "/api/models/{repo}/preupload/{revision}", needs_token=True)
    def plan_upload(self, repo: str, revision: str) -> None:
        repository = self._repository(repo)
        entries = repository.tree(repository.resolve(revision))

        def plan(file: dict[str, Any]) -> dict[str, Any]:
            is_large = (
                file["path"].endswith(LARGE_FILE_SUFFIXES)
                or file["size"] > LARGEST_REGULAR_FILE
                or b"\0" in base64.b64decode(file["sample"])
            )
            present = entries.get(file["path"])
            return {
                "path": file["path"],
                "uploadMode": "lfs" if is_large else "regular",
                "shouldIgnore": False,
                "oid": present and present.etag,  # lets the client skip a file that has not changed
            }

        self.send_json({"files": [plan(file) for file in self._json_body()["files"]]})

    @_route("POST", "/{repo}.git/info/lfs/objects/batch", needs_token=True)
    def plan_large_uploads(self, repo: str) -> None:
        repository = self._repository(repo)
        objects = []
        for wanted in self._json_body()["objects"]:
            sha256, size = wanted["oid"], wanted["size"]
            plan = {"oid": sha256, "size": size}
            if not repository.large_file(sha256).exists():
                verify = {"href": f"{self._endpoint()}/{repo}.git/info/lfs/verify"}
                plan["actions"] = {"upload": {"href": self.store.url("PUT", repo, sha256, size)}, "verify": verify}
            objects.append(plan)
        self.send_json({"transfer": "basic", "objects": objects})

    @_route("POST", "/{repo}.git/info/lfs/verify", needs_token=True)
    def verify_large_upload(self, repo: str) -> None:
        sha256, size = self._json_body()["oid"], self._json_body()["size"]
        path = self._repository(repo).large_file(sha256)
        if not path.exists() or path.stat().st_size != size:
            raise not_found("EntryNotFound", f"no file of {size} bytes with sha256 {sha256}: upload it again")
        self.send_json({})

    @_route("POST", "/api/models/{repo}/commit/{revision}", needs_token=True)
    def commit(self, repo: str, revision: str) -> None:
        repository = self._repository(repo)
        header, changes = _parse_commit(self.body, repository)
        message = f"{header['summary']}\n\n{header['description']}"
        parent = header.get("parentCommit")
        page = f"{self._endpoint()}/{repo}"
        answer = {}
        if "create_pr" in self.query:
            commit, number = repository.open_pull_request(parent or revision, changes, message)
            answer["pullRequestUrl"] = f"{page}/discussions/{number}"
        else:
            commit = repository.commit(revision, changes, message, parent)
        self.send_json({**answer, "success": True, "commitOid": commit, "commitUrl": f"{page}/commit/{commit}"})

    @_route("POST", "/api/models/{repo}/branch/{name}", needs_token=True)
    def create_branch(self, repo: str, name: str) -> None:
        self._repository(repo).create_branch(name, self._json_body().get("startingPoint", DEFAULT_BRANCH))
        self.send_json({})

    @_route("POST", "/api/models/{repo}/tag/{revision}", needs_token=True)
    def create_tag(self, repo: str, revision: str) -> None:
        request = self._json_body()
        self._repository(repo).create_tag(request["tag"], revision, request.get("message"))
        self.send_json({})

    @_route("DELETE", "/api/models/{repo}/branch/{name}", needs_token=True)
    def delete_branch(self, repo: str, name: str) -> None:
        self._repository(repo).delete_ref("heads", name)
        self.send_json({})

    @_route("DELETE", "/api/models/{repo}/tag/{name}", needs_token=True)
    def delete_tag(self, repo: str, name: str) -> None:
        self._repository(repo).delete_ref("tags", name)
        self.send_json({})


def _repo_id(request: dict[str, Any]) -> str:
    if request.get("type", "model") != "model":
        raise bad_request(f"the loopback Hub keeps models, no {request['type']}s")
    return f"{request['organization'] or USER}/{request['name']}"


def _model_info(repo_id: str, repository: Repository, revision: str) -> dict[str, Any]:
    commit = repository.resolve(revision)
    entries = repository.tree(commit)
    history = repository.log(commit)
    card = _card(repository, entries)
    return {
        "id": repo_id,
        "author": repo_id.split("/")[0],
        "sha": commit,
        "createdAt": history[-1]["date"],
        "lastModified": history[0]["date"],
        "private": repository.is_private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": cards.tags(card),
        "library_name": card.get("library_name"),
        "pipeline_tag": card.get("pipeline_tag"),
        "cardData": card,
        "siblings": [_sibling_json(entry) for entry in entries.values() if not entry.is_directory],
    }


def _card(repository: Repository, entries: dict[str, Entry]) -> dict[str, Any]:
    readme = entries.get("README.md")
    if readme is None:
        return {}
    try:
        return cards.metadata(repository.read(readme.oid).decode(errors="replace"))
    except ValueError:  # pushed by git, past the check of /api/validate-yaml
        return {}


def _entry_json(entry: Entry) -> dict[str, Any]:
    kind = "directory" if entry.is_directory else "file"
    lfs = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size} if entry.sha256 else None
    return {"type": kind, "path": entry.path, "oid": entry.oid, "size": entry.size, "lfs": lfs}


def _sibling_json(entry: Entry) -> dict[str, Any]:
    lfs = {"sha256": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size} if entry.sha256 else None
    return {"rfilename": entry.path, "blobId": entry.oid, "size": entry.size, "lfs": lfs}


def _parse_commit(body: bytes, repository: Repository) -> tuple[dict[str, Any], list[Change]]:
    """Header and changes of a commit, which come as one JSON object a line."""
    header: dict[str, Any] = {}
    changes = []
    for line in body.splitlines():
        item = json.loads(line)
        kind, value = item["key"], item["value"]
        if kind == "header":
            header = value
        elif kind == "file":
            changes.append(Change(value["path"], base64.b64decode(value["content"])))
        elif kind == "lfsFile":
            changes.append(Change(value["path"], repository.pointer(value["oid"])))
        elif kind == "deletedFile":
            changes.append(Change(value["path"], None))
        elif kind == "deletedFolder":
            changes.append(Change(value["path"].rstrip("/") + "/", None))
        else:
            raise bad_request(f"the loopback Hub does not know the change {kind!r}")
    return header, changes
