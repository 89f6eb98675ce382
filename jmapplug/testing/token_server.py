"""An OAuth provider for tests on a socket of 127.0.0.1: a token endpoint (RFC 6749 §6), and introspection (RFC 7662).

``Dovecot`` asks the latter (``dovecot.start(oauth=…)``) whether an access token is good, and whose it is.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qsl

from jmapplug.testing.ports import HOST

CLIENT = "client-of-ours"
CLIENT_SECRET = "cl13nt-s3cret"


class TokenServer:
    """``asked``: the forms posted to the token endpoint. ``script``: what the next ones get instead of a token:
    (status, JSON or octets), or ``"cut"``. ``life``: of an access token, in seconds. ``rotates``: a refresh token is
    good once. ``revoked``: no refresh token is good any more. ``release``: no answer before it is set.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.script: deque[Any] = deque()
        self.life: float | None = 3600
        self.rotates = False
        self.revoked = False
        self.release = threading.Event()
        self.release.set()
        self.issued: list[str] = []
        """Every token that was ever given out."""
        self._refresh: dict[str, str] = {}
        self._access: dict[str, str] = {}
        self._names = count(1)
        self._server = ThreadingHTTPServer((HOST, 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        self.port = self._server.server_address[1]
        self.url = f"http://{HOST}:{self.port}/token"
        self.introspection = f"http://{HOST}:{self.port}/introspect"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def consent(self, user: str) -> str:
        """A refresh token for a user."""
        return self._issue(self._refresh, "refresh", user)

    def settings(self, user: str) -> dict[str, Any]:
        """An account's, in the management API's words."""
        return {
            "password": None, "oauthTokenUrl": self.url, "oauthClientId": CLIENT, "oauthClientSecret": CLIENT_SECRET,
            "oauthRefreshToken": self.consent(user), "oauthScope": "imap smtp",
        }  # fmt: skip

    def expire(self) -> None:
        """No access token that was given out is good any more."""
        self._access.clear()

    def stop(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def _issue(self, table: dict[str, str], kind: str, user: str) -> str:
        # As long as those of a large provider: a command of SMTP does not hold it.
        token = f"{kind}-{next(self._names)}-" + "x" * 1200
        table[token] = user
        self.issued.append(token)
        return token

    def _token(self, form: dict[str, str]) -> tuple[int, Any]:
        self.asked.append(form)
        if self.script:
            scripted = self.script.popleft()
            return scripted if isinstance(scripted, tuple) else (0, scripted)
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}
        given = form.get("refresh_token", "")
        user = None if self.revoked else self._refresh.get(given)
        if form.get("grant_type") != "refresh_token" or user is None:
            return 400, {"error": "invalid_grant", "error_description": f"{given} is no good"}
        answer: dict[str, Any] = {"access_token": self._issue(self._access, "access", user), "token_type": "Bearer"}
        if self.life is not None:
            answer["expires_in"] = self.life
        if self.rotates:
            del self._refresh[given]
            answer["refresh_token"] = self.consent(user)
        return 200, answer

    def _introspect(self, form: dict[str, str]) -> dict[str, Any]:
        user = self._access.get(form.get("token", ""))
        return {"active": False} if user is None else {"active": True, "username": user}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                octets = self.rfile.read(int(self.headers["Content-Length"]))
                form = dict(parse_qsl(octets.decode()))
                if self.path == "/token":
                    status, answer = server._token(form)
                    server.release.wait(60)
                else:
                    status, answer = 200, server._introspect(form)
                if status:
                    self._reply(status, answer)

            def _reply(self, status: int, answer: Any) -> None:
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                if status == 503:
                    self.send_header("Retry-After", "90")
                if status == 302:
                    self.send_header("Location", server.url)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        return Handler
