"""HTTP server of one review: serves the page and appends each answer to a file.

It listens on loopback by default. A random token in the address keeps strangers out; Host and Origin are
checked, so that a page of another site can't reach it through a renamed host (DNS rebinding). It serves one page and
takes one kind of message; no path of a request ever becomes a path of a file. uvicorn reads the requests, in one
thread, so that answers are written one after the other.
"""

import asyncio
import hmac
import ipaddress
import json
import os
import secrets
import socket
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from genfoundry.core.errors import ConfigError, InfrastructureError
from genfoundry.core.io import disk_errors
from genfoundry.review.answers import Answer, parse_answer
from genfoundry.review.plan import ANSWERS, PAGE, plan_digest, read_plan

MOST_BODY = 4096
"""Bytes of one answer: it takes about 200."""

TIMEOUT_S = 20
"""Seconds that an answer may take to arrive, that a connection may lie idle, that a last reply may take at the end."""

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The page brings its own policy; only framing can't be forbidden from inside.
    "Content-Security-Policy": "frame-ancestors 'none'",
}


class ReviewServer:
    """Serves the review in ``folder``; ``address`` is what raters open."""

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
        self.answers, self.token = folder / ANSWERS, token or secrets.token_urlsafe(16)
        try:
            self.socket = socket.create_server((host, port))
        except OSError as error:
            raise InfrastructureError(f"{host}:{port}: {error.strerror or error}; choose another --port") from error
        self.host, self.port = host, int(self.socket.getsockname()[1])
        self.hosts = _hosts(host, self.port)
        # No access log: the token would stand in every line.
        config = uvicorn.Config(
            self._serve, interface="asgi3", lifespan="off", ws="none", log_config=None, access_log=False,
            server_header=False, timeout_keep_alive=TIMEOUT_S, timeout_graceful_shutdown=TIMEOUT_S,
        )  # fmt: skip
        self.server = uvicorn.Server(config)

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}/{self.token}/"

    def serve_forever(self) -> None:
        """Answer until ``shutdown``, or SIGINT or SIGTERM, which are raised again once the last reply is out."""
        with self.socket:
            self.server.run(sockets=[self.socket])

    def shutdown(self) -> None:
        """End ``serve_forever``, which may run in another thread."""
        self.server.should_exit = True

    def append(self, answer: Answer) -> None:
        """Add an answer as one line, on disk before this returns."""
        line = {"plan": self.digest, "rater": answer.rater, "item": answer.item, "choice": answer.choice}
        if answer.seconds is not None:
            line["seconds"] = answer.seconds  # type: ignore[assignment]
        with disk_errors(self.answers), self.answers.open("ab") as file:
            # A line that a crash cut short must not swallow the next one.
            if file.tell() and not _ends_with_newline(self.answers):
                file.write(b"\n")
            file.write((json.dumps(line) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._reply(Request(scope, receive))
        response.headers.update(HEADERS)
        await response(scope, receive, send)

    async def _reply(self, request: Request) -> Response:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if host not in self.hosts:
            return _refused(403, "this host name is not served here")
        if origin is not None and origin != f"http://{host}":
            return _refused(403, "requests of other sites are refused")
        paths = {"GET": "/", "HEAD": "/", "POST": "/answer"}
        if request.method not in paths:
            return _refused(405, f"{request.method} is not served here")
        # As it was sent, with its arguments: nothing is unquoted or cleaned up.
        sent = b"?".join(filter(None, [request.scope["raw_path"], request.scope["query_string"]]))
        if not hmac.compare_digest(sent, f"/{self.token}{paths[request.method]}".encode()):
            return _refused(404, "no such page; open the whole address that was printed")
        if request.method != "POST":
            return Response(self.page, media_type="text/html")
        return await self._answer(request)

    async def _answer(self, request: Request) -> Response:
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return _refused(415, "send application/json")
        if "content-length" not in request.headers:
            return _refused(411, "send Content-Length")
        if int(request.headers["content-length"]) > MOST_BODY:
            return _refused(413, f"an answer has at most {MOST_BODY} bytes")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                value: Any = json.loads(await request.body())
        except TimeoutError:
            return _refused(408, f"the answer did not come within {TIMEOUT_S} s")
        except (ValueError, RecursionError, ClientDisconnect):
            value = None
        if value is None:
            return _refused(400, "not JSON")
        if not isinstance(value, dict) or value.get("plan") != self.digest:
            return _refused(409, "answers another plan; load the page again")
        answer = parse_answer(value, self.items)
        if isinstance(answer, str):
            return _refused(400, answer)
        try:
            self.append(answer)
        except OSError as error:
            return _refused(507, f"the answer could not be written: {error.strerror}")
        return Response(status_code=204)


def _refused(status: int, reason: str) -> Response:
    # What is left of the body was not read, so the connection can't be used again.
    return PlainTextResponse(reason + "\n", status, {"Connection": "close"})


def _hosts(host: str, port: int) -> frozenset[str]:
    """Values of the Host header that are this server."""
    names = {host, "localhost", "127.0.0.1"} if _loopback(host) else {host}
    # Browsers leave the port away where it is the usual one.
    return frozenset({f"{name}:{port}" for name in names} | (names if port == 80 else set()))


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
