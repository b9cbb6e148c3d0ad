"""HTTP calls to allowed hosts only: webhooks, heartbeat, live metrics.

An address is refused before anything is sent unless its host stands in ``retraining.allow``. The name is resolved
once and that very address is called, so it can't become another one in between; names that lead to this machine or to
the link-local network (where clouds keep their credentials) are refused unless ``allow`` names them so. Redirects are
not followed, proxies of the environment not used, and everything has a time limit.
"""

import http.client
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from genfoundry.core.errors import ConfigError, InfrastructureError
from genfoundry.state.secrets import redact

TIMEOUT_S = 10.0
"""Longest time a call may take, from connecting to the last byte."""

LIMIT_BYTES = 1 << 20
"""Longest answer that is read."""

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Target:
    """An address that may be called: where to connect to, and what to ask for there."""

    scheme: str
    host: str
    port: int
    ip: str
    path: str


def shown(address: str) -> str:
    """An address for messages: scheme and host; paths and arguments of webhooks are secrets."""
    try:
        parts = urlsplit(address)
        return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}/..."
    except ValueError:
        return "an address that is none"


def named(address: str, allow: Sequence[str]) -> SplitResult:
    """The parts of an address whose host the project allows.

    Raises:
        ConfigError: Another scheme than http and https, a user or password in it, or a host that ``allow`` lacks.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"retraining: {shown(address)}: not an address ({error})") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise ConfigError(f"retraining: {shown(address)}: needs http:// or https:// and a host")
    if parts.username or parts.password:
        raise ConfigError(
            f"retraining: {shown(address)}: holds a user or password; params.yaml is no place for secrets"
        )
    host, port = parts.hostname.rstrip(".").lower(), port or PORTS[parts.scheme]
    wanted = {host, f"{host}:{port}", f"[{host}]", f"[{host}]:{port}"}
    if not wanted & {entry.strip().lower() for entry in allow}:
        raise ConfigError(
            f"retraining: {shown(address)}: host {host!r} (port {port}) is not in retraining.allow; add it there"
        )
    return parts


def resolve(address: str, allow: Sequence[str]) -> Target:
    """Where to connect to for an address.

    Raises:
        ConfigError: It is not allowed (``named``), or its name leads to this machine or to the link-local network.
        InfrastructureError: The name can't be resolved.
    """
    parts = named(address, allow)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or PORTS[parts.scheme]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InfrastructureError(f"{shown(address)}: name can't be resolved ({error})") from None
    ip = str(found[0][4][0])
    if not _may_lead_to(host, ip):
        raise ConfigError(
            f"retraining: {shown(address)}: leads to {ip}, on this machine or the link-local network; if that is "
            "meant, write that address itself, there and in retraining.allow"
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, ip, path)


def _may_lead_to(host: str, ip: str) -> bool:
    number = ipaddress.ip_address(ip.split("%")[0])
    number = getattr(number, "ipv4_mapped", None) or number
    if number.is_loopback:
        return host.lower() in ("localhost", ip)
    return host == ip or not (number.is_link_local or number.is_multicast or number.is_unspecified)


class _Plain(http.client.HTTPConnection):
    """Connects to the address that was resolved, not to what the name has become since."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        super().__init__(target.host, target.port, timeout=timeout_s)
        self.target = target

    def connect(self) -> None:
        self.sock = socket.create_connection((self.target.ip, self.target.port), self.timeout)
        if self.target.scheme == "https":
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.target.host)


def call(
    address: str,
    allow: Sequence[str],
    body: Mapping[str, Any] | None = None,
    timeout_s: float = TIMEOUT_S,
    limit_bytes: int = LIMIT_BYTES,
) -> bytes:
    """The body of the answer to a GET, or to a POST of ``body`` as JSON.

    Raises:
        ConfigError: The address is not allowed.
        InfrastructureError: No answer in time, an answer that is too long, or another status than 2xx.
    """
    target, end = resolve(address, allow), time.monotonic() + timeout_s
    connection = _Plain(target, timeout_s)
    headers = {"User-Agent": "genfoundry", "Accept": "application/json, text/plain", "Connection": "close"}
    data = None if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    if data is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.request("GET" if data is None else "POST", target.path, body=data, headers=headers)
        response = connection.getresponse()
        text = _read(response, end, limit_bytes)
    except (OSError, http.client.HTTPException) as error:
        words = redact(str(error)) or type(error).__name__
        raise InfrastructureError(f"{shown(address)}: no answer ({words})") from None
    finally:
        connection.close()
    if not 200 <= response.status < 300:
        redirect = "; redirects are not followed" if 300 <= response.status < 400 else ""
        raise InfrastructureError(f"{shown(address)}: answered {response.status} {response.reason}{redirect}")
    return text


def _read(response: http.client.HTTPResponse, end: float, limit_bytes: int) -> bytes:
    """All of an answer, unless it is too long or comes in drops for ever."""
    text = b""
    while chunk := response.read1(65536):
        text += chunk
        if len(text) > limit_bytes:
            raise http.client.HTTPException(f"longer than {limit_bytes} bytes")
        if time.monotonic() > end:
            raise TimeoutError("timed out")
    return text


def fetch(address: str, allow: Sequence[str], timeout_s: float = TIMEOUT_S) -> bytes:
    """What a GET of an allowed address answers, at most 1 MiB; see ``call``."""
    return call(address, allow, timeout_s=timeout_s)
