"""A small server for one review: it hands out the page and appends each answer to a file as it comes.

It listens on loopback unless told otherwise. A random token in the address keeps strangers out; Host and Origin are
checked, so that a page of another site can't reach it through a renamed host (DNS rebinding). It serves one page and
takes one kind of message; no path of a request ever becomes a path of a file.
"""

import hmac
import ipaddress
import json
import os
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from genfoundry.core.errors import ConfigError, InfrastructureError
from genfoundry.core.io import disk_errors
from genfoundry.review.answers import Answer, parse_answer
from genfoundry.review.plan import ANSWERS, PAGE, plan_digest, read_plan

MOST_BODY = 4096
"""Bytes of one answer: it takes about 200."""

TIMEOUT_S = 20.0
"""Seconds a client may keep a connection without a word."""

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The page brings its own policy; only framing can't be forbidden from inside.
    "Content-Security-Policy": "frame-ancestors 'none'",
}


class ReviewServer(ThreadingHTTPServer):
    """Serves the review in ``folder``; ``address`` is what raters open."""

    daemon_threads = True

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0, token: str = "") -> None:
        if host in ("", "0.0.0.0", "::"):
            raise ConfigError(
                f"--host {host!r} is every address of this machine, so the Host header can't be checked; "
                "name the one address that raters open"
            )
        plan = read_plan(folder)
        self.digest = plan_digest(plan)
        self.items = frozenset(item["id"] for item in plan["items"])
        if not (folder / PAGE).is_file():
            raise ConfigError(f"{folder}: no {PAGE}; write the review again")
        self.page = (folder / PAGE).read_bytes()
        if self.digest.encode() not in self.page:
            raise ConfigError(f"{folder}: {PAGE} belongs to another plan than plan.json; write the review again")
        self.answers, self.lock = folder / ANSWERS, threading.Lock()
        self.token = token or secrets.token_urlsafe(16)
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise InfrastructureError(f"{host}:{port}: {error.strerror or error}; choose another --port") from error
        self.host, self.port = host, int(self.server_address[1])
        self.hosts = self._hosts()

    def _hosts(self) -> frozenset[str]:
        """Values of the Host header that are this server."""
        names = {self.host, "localhost"} if _loopback(self.host) else {self.host}
        names |= {"127.0.0.1"} if _loopback(self.host) else set()
        # Browsers leave the port away where it is the usual one.
        return frozenset({f"{name}:{self.port}" for name in names} | (names if self.port == 80 else set()))

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}/{self.token}/"

    def append(self, answer: Answer) -> None:
        """Add an answer as one line, on disk before this returns."""
        line = {"plan": self.digest, "rater": answer.rater, "item": answer.item, "choice": answer.choice}
        if answer.seconds is not None:
            line["seconds"] = answer.seconds  # type: ignore[assignment]
        with self.lock, disk_errors(self.answers), self.answers.open("ab") as file:
            # A line that a crash cut short must not swallow the next one.
            if file.tell() and not _ends_with_newline(self.answers):
                file.write(b"\n")
            file.write((json.dumps(line) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Handler(BaseHTTPRequestHandler):
    """GET of the page and POST of an answer; everything else is refused."""

    server: ReviewServer
    timeout: ClassVar[float] = TIMEOUT_S  # type: ignore[misc]
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "genfoundry", ""

    def do_GET(self) -> None:
        if self._admitted("/"):
            self._reply(200, self.server.page, "text/html; charset=utf-8")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        if not self._admitted("/answer"):
            return
        value = self._body()
        if value is None:
            return
        if not isinstance(value, dict) or value.get("plan") != self.server.digest:
            self._refuse(409, "answers another plan; load the page again")
            return
        answer = parse_answer(value, self.server.items)
        if isinstance(answer, str):
            self._refuse(400, answer)
            return
        try:
            self.server.append(answer)
        except OSError as error:
            self._refuse(507, f"the answer could not be written: {error.strerror}")
            return
        self._reply(204)

    def _admitted(self, path: str) -> bool:
        """Whether host, origin and address are right; the reply is sent if not."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if host not in self.server.hosts:
            self._refuse(403, "this host name is not served here")
        elif origin is not None and origin != f"http://{host}":
            self._refuse(403, "requests of other sites are refused")
        elif not hmac.compare_digest(self.path.encode(), f"/{self.server.token}{path}".encode()):
            self._refuse(404, "no such page; open the whole address that was printed")
        else:
            return True
        return False

    def _body(self) -> Any:
        """The parsed body, or None after a reply that refuses it."""
        if self.headers.get("Content-Type", "").split(";")[0].strip().lower() != "application/json":
            self._refuse(415, "send application/json")
            return None
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 10):
            self._refuse(411, "send Content-Length")
            return None
        if int(length) > MOST_BODY:
            self._refuse(413, f"an answer has at most {MOST_BODY} bytes")
            return None
        try:
            value = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            value = None
        if value is None:
            self._refuse(400, "not JSON")
        return value

    def _refuse(self, status: int, reason: str) -> None:
        # What is left of the body was not read, so the connection can't be used again.
        self.close_connection = True
        self._reply(status, (reason + "\n").encode(), "text/plain; charset=utf-8")

    def _reply(self, status: int, body: bytes = b"", kind: str = "") -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the token would stand in every line."""
