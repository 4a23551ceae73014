"""A webhook over loopback that checks every signature, and answers as it is told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

SECRET = bytes(range(32))


class HookSink:
    """`events` are bodies it took, `ids` and `attempts` what every request said; `status` is what it answers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.secret = folder / "webhook.key"
        self.secret.write_text("whsec_" + base64.b64encode(SECRET).decode() + "\n")
        self.secret.chmod(0o600)
        self.status = 204
        self.drop = False  # take it, and say nothing
        self.events: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.attempts: list[tuple[str, str]] = []
        self.wrong: list[str] = []
        self.got = threading.Event()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sink._take(self)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook?x=1"

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        event_id, at = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        signed = f"{event_id}.{at}.".encode() + body
        right = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
        if request.headers["webhook-signature"] != f"v1,{right}":
            self.wrong.append(event_id)
        self.attempts.append((event_id, at))
        if self.status < 300:
            self.events.append(json.loads(body))
            self.ids.append(event_id)
        self.got.set()
        if self.drop:
            request.close_connection = True
            request.connection.close()
            return
        request.send_response(self.status)
        if self.status == 302:
            request.send_header("location", self.url)
        request.send_header("content-length", "0")
        request.end_headers()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
