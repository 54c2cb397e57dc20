"""A hub of our own on this machine, so that the real `huggingface_hub` fetches over a real connection in tests."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef" * 2 + "01234567"
CHUNK = 4096


class FakeHub(ThreadingHTTPServer):
    """Serves the files of `folder` as `repo` at COMMIT. `pause` seconds before each chunk; `asked` holds all paths."""

    daemon_threads = True

    def __init__(self, folder: Path, repo: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.repo = folder, repo
        self.pause = 0.0
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        hub = self.server
        path = unquote(urlsplit(self.path).path)
        hub.asked.append(path)
        api = f"/api/models/{hub.repo}"
        if path in (api, *(f"{api}/revision/{name}" for name in ("main", "v1", COMMIT))):
            answer = json.dumps({"id": hub.repo, "sha": COMMIT, "siblings": []})
            self._send(answer.encode(), "application/json", with_body)
        elif path in (f"{api}/tree/{name}" for name in ("main", "v1", COMMIT)):
            files = [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _oid(file)}
                     for file in sorted(hub.folder.iterdir())]  # fmt: skip
            self._send(json.dumps(files).encode(), "application/json", with_body)
        elif path.startswith(f"/{hub.repo}/resolve/") and (hub.folder / path.rpartition("/")[2]).is_file():
            file = hub.folder / path.rpartition("/")[2]
            self._send(file.read_bytes(), "application/octet-stream", with_body, _oid(file))
        else:
            known = path.startswith((api, f"/{hub.repo}/"))
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, body: bytes, kind: str, with_body: bool, etag: str = "") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        for begin in range(0, len(body) if with_body else 0, CHUNK):
            if self.server.pause and etag:
                time.sleep(self.server.pause)
            self.wfile.write(body[begin : begin + CHUNK])

    def log_message(self, *args: object) -> None:
        """Quiet."""


def _oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextmanager
def serve(folder: Path, repo: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """`with serve(...) as hub`: `huggingface_hub` asks this hub, and keeps what it gets in `cache`."""
    from huggingface_hub import constants

    hub = FakeHub(folder, repo)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)  # or a small file comes in one piece
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
