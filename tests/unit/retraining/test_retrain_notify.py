"""Notification against real servers on loopback, and addresses that must not be called."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from genfoundry.core.errors import ConfigError, InfrastructureError
from genfoundry.retraining.notify import send as notify
from genfoundry.retraining.notify import web
from genfoundry.retraining.options import Retraining
from genfoundry.state.secrets import redact, redacted

EVENT = {
    "at": "2026-03-29T01:00:00Z", "kind": "retrain", "outcome": "promoted", "code": 0, "key": "abc",
    "message": "m version 2 promoted", "reasons": [{"trigger": "slot", "why": "03:00"}], "branch": "retrain/abc",
}  # fmt: skip


@contextmanager
def http_server() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """(host:port, calls): answers by path: /ok, /moved, /broken, /long, /slow."""
    calls: list[tuple[str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            calls.append((self.command, self.path, body))
            kind = self.path.split("?")[0]
            self.send_response({"/moved": 302, "/broken": 500}.get(kind, 200))
            if kind == "/moved":
                self.send_header("Location", "/ok")
            self.end_headers()
            try:
                if kind == "/long":
                    self.wfile.write(b"x" * (web.LIMIT_BYTES + 2))
                elif kind == "/slow":
                    for _ in range(100):
                        self.wfile.write(b"x")
                        self.wfile.flush()
                        threading.Event().wait(0.05)
                else:
                    self.wfile.write(b'{"rating": 4.5}')
            except OSError:
                pass

        do_GET = do_POST = _answer

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", calls
        server.shutdown()


class Smtp(socketserver.StreamRequestHandler):
    """As much of SMTP (RFC 5321) as a client that sends one mail needs."""

    mails: list[str]

    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline():
            word = line.split()[0].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                text = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    text += part
                self.server.mails.append(text.decode())  # type: ignore[attr-defined]
                self.wfile.write(b"250 taken\r\n")
            elif word == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 ok\r\n")


@contextmanager
def smtp_server() -> Iterator[tuple[int, list[str]]]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp) as server:
        server.mails = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], server.mails  # type: ignore[attr-defined]
        server.shutdown()


def options(**values: Any) -> Retraining:
    return Retraining.model_validate(values)


def test_everybody_who_wants_to_know_is_told_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server() as (host, calls), smtp_server() as (port, mails):
        monkeypatch.setenv("TEAM_WEBHOOK", f"http://{host}/ok")
        mail = {
            "host": "127.0.0.1",
            "port": port,
            "security": "none",
            "sender": "a@example.org",
            "to": ["b@example.org"],
        }
        told = options(
            allow=[host], heartbeat=f"http://{host}/ok?beat",
            notify={"file": "told.jsonl", "webhooks": ["$TEAM_WEBHOOK"], "mail": mail},
        )  # fmt: skip

        assert notify.tell(EVENT, told, tmp_path, "digits") == []
        assert notify.tell({**EVENT, "outcome": "no_op"}, told, tmp_path, "digits") == []

    (line,) = (tmp_path / "told.jsonl").read_text().splitlines()
    posted = [(method, path, json.loads(body)) for method, path, body in calls if method == "POST"]
    assert posted == [("POST", "/ok", json.loads(line))], "a no-op is not in notify.on"
    assert posted[0][2]["outcome"] == "promoted" and "m version 2 promoted" in posted[0][2]["text"]
    assert [path for method, path, _ in calls if method == "GET"] == ["/ok?beat"] * 2, "the heart beats at each retrain"
    assert len(mails) == 1 and "Subject: digits: retrain promoted" in mails[0] and "because: 03:00" in mails[0]


def test_what_fails_is_said_without_secrets_and_stops_nothing(tmp_path: Path) -> None:
    with http_server() as (host, calls):
        told = options(
            allow=[host], heartbeat=f"http://{host}/ok",
            notify={
                "file": "../outside.jsonl",
                "webhooks": [f"http://{host}/broken?token=s3cret", f"http://{host}/moved", "http://example.org/hook/T0PSECRET"],
                "mail": {"host": "127.0.0.1", "port": 1, "sender": "a@example.org", "to": ["b@example.org"]},
            },
        )  # fmt: skip

        failures = notify.tell({**EVENT, "outcome": "killed"}, told, tmp_path, "digits")

        assert [words.split(":")[0] for words in failures] == ["file", "webhook", "webhook", "webhook", "mail"]
        assert "answered 500" in failures[1] and "redirects are not followed" in failures[2]
        assert "not in retraining.allow" in failures[3]
        assert "s3cret" not in str(failures) and "T0PSECRET" not in str(failures)
        assert [path for _, path, _ in calls] == ["/broken?token=s3cret", "/moved", "/ok"]
    assert not (tmp_path.parent / "outside.jsonl").exists()


def test_no_password_goes_over_an_open_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENFOUNDRY_SMTP_USER", "me")
    monkeypatch.setenv("GENFOUNDRY_SMTP_PASSWORD", "hunter2hunter2")
    with smtp_server() as (port, mails):
        mail = {
            "host": "127.0.0.1",
            "port": port,
            "security": "none",
            "sender": "a@example.org",
            "to": ["b@example.org"],
        }
        failures = notify.tell(EVENT, options(notify={"mail": mail}), tmp_path, "digits")
        assert "not sent without TLS" in failures[0]
        failures = notify.tell(EVENT, options(notify={"mail": {**mail, "security": "starttls"}}), tmp_path, "digits")
        assert "STARTTLS" in failures[0]
    assert not mails


@pytest.mark.parametrize(
    ("address", "allow", "words"),
    [
        ("file:///etc/passwd", ["localhost"], "needs http"),
        ("http://example.org/", [], "not in retraining.allow"),
        ("http://example.org:8080/", ["example.org:80"], "not in retraining.allow"),
        ("http://user:pw@example.org/", ["example.org"], "no place for secrets"),
        ("http://example.org.evil.com/", ["example.org"], "not in retraining.allow"),
        ("http://example.org@evil.com/", ["example.org"], "no place for secrets"),
        ("http://example.org:99999/", ["example.org"], "not an address"),
    ],
)
def test_addresses_that_are_refused_before_anything_is_sent(address: str, allow: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        web.fetch(address, allow)


@pytest.mark.parametrize(
    ("ip", "name", "allowed"),
    [
        ("127.0.0.1", "metrics.example.org", False),
        ("169.254.169.254", "metrics.example.org", False),
        ("::ffff:169.254.169.254", "metrics.example.org", False),
        ("0.0.0.0", "metrics.example.org", False),
        ("::1", "localhost", True),
        ("169.254.169.254", "169.254.169.254", True),
        ("10.0.0.7", "metrics.example.org", True),
    ],
)
def test_a_name_must_not_lead_to_this_machine(
    monkeypatch: pytest.MonkeyPatch, ip: str, name: str, allowed: bool
) -> None:
    monkeypatch.setattr(web.socket, "getaddrinfo", lambda host, port, **more: [(0, 0, 0, "", (ip, port))])
    if allowed:
        assert web.resolve(f"http://{name}/x?y=1", [name]).path == "/x?y=1"
    else:
        with pytest.raises(ConfigError, match="leads to"):
            web.resolve(f"http://{name}/", [name])


def test_answers_are_read_to_a_limit_of_size_and_time() -> None:
    with http_server() as (host, _):
        assert json.loads(web.fetch(f"http://{host}/ok", [host.split(":")[0]])) == {"rating": 4.5}
        with pytest.raises(InfrastructureError, match="longer than"):
            web.fetch(f"http://{host}/long", [host])
        with pytest.raises(InfrastructureError, match="timed out"):
            web.fetch(f"http://{host}/slow", [host], timeout_s=0.3)
    with pytest.raises(InfrastructureError, match="no answer"):
        web.fetch(f"http://{host}/ok", [host])


def test_secrets_do_not_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-1234")
    monkeypatch.setenv("SOME_TOKEN", "1")
    text = "s3://me:pass@host/x?sig=abc&n=1 with canary-1234, at 1 o'clock"

    assert redact(text) == "s3://***@host/x?sig=***&n=1 with ***, at 1 o'clock"
    assert redacted({"a": ["canary-1234", 1], "b": None}) == {"a": ["***", 1], "b": None}
