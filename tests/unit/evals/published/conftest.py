from __future__ import annotations

import hashlib
import http.server
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import huggingface_hub
import pytest


@dataclass
class Server:
    """The hub, as far as files go, and plain addresses, on the loopback.

    Attributes:
        files: content by path.
        refused: status and the hub's name of the error, by the beginning of a path.
        cuts: bytes after which the next answers break off.
        delay: seconds before an answer with content.
        asked, ranges, tokens: path, range and token of each request for content.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    delay: float = 0.0
    asked: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    url: str = ""

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        path, head = request.path, request.command == "HEAD"
        # What the library asks the hub's services, such as who calls it, is no content.
        if not head and not path.startswith("/api/"):
            self.asked.append(path)
            self.ranges.append(request.headers.get("Range"))
            self.tokens.append(request.headers.get("Authorization"))
        errors = [error for start, error in self.refused.items() if path.startswith(start)]
        if path not in self.files:
            errors.append((404, "EntryNotFound"))
        if errors:
            request.send_response(errors[0][0])
            request.send_header("X-Error-Code", errors[0][1])
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        content, start = self.files[path], 0
        if asked := request.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        commit = re.search("/([0-9a-f]{40})/", path)
        request.send_header("X-Repo-Commit", commit[1] if commit else "d" * 40)
        request.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        if not head:
            time.sleep(self.delay)
            request.wfile.write(content[start : start + self.cuts.pop(0) if self.cuts else len(content)])


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    served = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        served.url = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        # The library reads its settings when it is imported.
        constants = "huggingface_hub.constants"
        monkeypatch.setattr(f"{constants}.ENDPOINT", served.url)
        monkeypatch.setattr(
            f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", served.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(f"{constants}.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        huggingface_hub.close_session()
        yield served
        huggingface_hub.close_session()
        running.shutdown()
        thread.join()
