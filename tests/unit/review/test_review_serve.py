"""The server on loopback, over real connections: answers arrive, everything else is refused."""

import contextlib
import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reviewing import PICTURES, duel, prefers, project

from genfoundry.commands.review import collect, serve, write
from genfoundry.core.errors import ConfigError, InfrastructureError
from genfoundry.review.plan import plan_digest, read_plan
from genfoundry.review.serve import MOST_BODY, ReviewServer


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("review"))


@pytest.fixture()
def server(root: Path, tmp_path: Path) -> Iterator[ReviewServer]:
    found = serve(write(root, PICTURES, count=12, out=tmp_path / "review"))
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found
    found.shutdown()
    thread.join()


def folder(server: ReviewServer) -> Path:
    return server.answers.parent


def an_answer(server: ReviewServer, **more: Any) -> dict[str, Any]:
    item = read_plan(folder(server))["items"][0]["id"]
    return {"plan": server.digest, "rater": "ann", "item": item, "choice": "left", "seconds": 1.5, **more}


def ask(
    server: ReviewServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    given = {"Host": f"127.0.0.1:{server.port}", **{name.replace("_", "-"): text for name, text in headers.items()}}
    connection.request(method, path, body, given)
    found = connection.getresponse()
    found.text = found.read().decode()  # type: ignore[attr-defined]
    connection.close()
    return found


def post(server: ReviewServer, value: Any, path: str = "", **headers: str) -> http.client.HTTPResponse:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return ask(
        server,
        "POST",
        path or f"/{server.token}/answer",
        body,
        **{"Content_Type": "application/json", "Origin": f"http://127.0.0.1:{server.port}", **headers},
    )


def test_the_page_is_served_as_it_was_written(server: ReviewServer) -> None:
    found = ask(server, "GET", f"/{server.token}/")

    assert found.status == 200
    assert found.text == (folder(server) / "review.html").read_text()  # type: ignore[attr-defined]
    assert found.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert found.headers["Referrer-Policy"] == "no-referrer"
    assert server.address == f"http://127.0.0.1:{server.port}/{server.token}/"
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert len(server.token) >= 20


def test_answers_of_two_raters_go_from_the_wire_to_the_results(server: ReviewServer, root: Path) -> None:
    plan = read_plan(folder(server))
    threads = []
    for rater, order in (("ann", PICTURES), ("bob", PICTURES[::-1])):

        def answer_all(rater: str = rater, order: tuple[str, ...] = order) -> None:
            for item in plan["items"]:
                given = {"plan": server.digest, "rater": rater, "item": item["id"], "choice": prefers(*order)(item)}
                assert post(server, given).status == 204

        threads.append(threading.Thread(target=answer_all))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    results, _ = collect(root, folder(server))

    assert len(server.answers.read_text().splitlines()) == 2 * len(plan["items"]) == 26
    assert results["answers"] == {"read": 26, "used": 26, "replaced": 0, "rejected": {}}
    assert set(results["raters"]) == {"ann", "bob"}
    assert results["plan"] == plan_digest(plan)
    assert results["agreement"]["value"] < 0
    pairs = {(pair["first"], pair["second"]): (pair["first_wins"], pair["second_wins"]) for pair in results["pairs"]}
    assert pairs == {duel(item): (4, 4) for item in plan["items"]}


def test_an_answer_is_on_disk_when_the_reply_comes(server: ReviewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_size), real(handle))[1])

    assert post(server, an_answer(server)).status == 204

    assert synced == [server.answers.stat().st_size]
    assert json.loads(server.answers.read_text()) == an_answer(server)


def test_a_line_that_a_crash_cut_short_costs_only_itself(server: ReviewServer) -> None:
    server.answers.write_text('{"plan": "cut')

    assert post(server, an_answer(server)).status == 204

    first, second = server.answers.read_text().splitlines()
    assert first == '{"plan": "cut'
    assert json.loads(second)["rater"] == "ann"


@pytest.mark.parametrize(
    "path", ["/", "//", "/answer", "/wrong/", "/{token}", "/{token}/plan.json", "/{token}/../plan.json",
             "/{token}/%2e%2e/plan.json", "/{token}/review.html", "/{token}/?x", "/\u00e9/"],
)  # fmt: skip
def test_nothing_else_is_found(server: ReviewServer, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        target = path.replace("{token}", server.token)
        raw.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode("latin-1"))
        reply = raw.makefile("rb").read()

    assert reply.startswith(b"HTTP/1.1 400 " if "\u00e9" in path else b"HTTP/1.1 404 ")
    assert server.token.encode() not in reply and b"bars" not in reply


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", ""])
def test_a_renamed_host_is_refused(server: ReviewServer, host: str) -> None:
    found = ask(server, "GET", f"/{server.token}/", Host=host.replace("{port}", str(server.port)))

    assert found.status == 403
    assert "<html" not in found.text  # type: ignore[attr-defined]


def test_localhost_is_this_server_too(server: ReviewServer) -> None:
    assert ask(server, "GET", f"/{server.token}/", Host=f"localhost:{server.port}").status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1"])
def test_answers_from_other_sites_are_refused(server: ReviewServer, origin: str) -> None:
    found = post(server, an_answer(server), Origin=origin.replace("{port}", str(server.port)))

    assert found.status == 403
    assert not server.answers.exists()


def test_answers_that_are_none_are_refused_with_the_reason(server: ReviewServer) -> None:
    cases: list[tuple[Any, int, str]] = [
        (b"{", 400, "not JSON"),
        (b"[" * 3000, 400, "not JSON"),
        (b"null", 400, "not JSON"),
        ([], 409, "another plan"),
        (an_answer(server, plan="0" * 64), 409, "another plan"),
        (an_answer(server, choice="up"), 400, "choice"),
        (an_answer(server, item="nothing"), 400, "item"),
        (an_answer(server, rater="a\nb"), 400, "rater"),
        (an_answer(server, rater="x" * 41), 400, "rater"),
        (an_answer(server, rater={"x": 1}), 400, "rater"),
        (an_answer(server, seconds="1"), 400, "seconds"),
        (an_answer(server, seconds=float("nan")), 400, "seconds"),
        (an_answer(server, note="x" * MOST_BODY), 413, "at most"),
    ]
    for value, status, reason in cases:
        found = post(server, value)
        assert (found.status, reason in found.text) == (status, True), (value, found.text)  # type: ignore[attr-defined]
    assert post(server, an_answer(server), Content_Type="text/plain").status == 415
    assert post(server, an_answer(server), path="/wrong/answer").status == 404
    assert post(server, an_answer(server), path=f"/{server.token}/").status == 404
    assert ask(server, "PUT", f"/{server.token}/answer").status == 405
    assert not server.answers.exists()


@pytest.mark.parametrize("length", ["-1", "1e3", "", "99999999999999999999"])
def test_a_false_length_is_refused(server: ReviewServer, length: str) -> None:
    # At once: a server that has refused the head may close before a body that comes after it.
    body = json.dumps(an_answer(server)).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(head(server, f"Content-Length: {length}") + body)
        assert raw.makefile("rb").read().startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))
    assert not server.answers.exists()


def test_unknown_fields_are_not_written(server: ReviewServer) -> None:
    assert post(server, an_answer(server, note="<script>", choice="undo")).status == 204

    assert json.loads(server.answers.read_text()) == an_answer(server, choice="undo")


def test_a_body_without_a_length_is_refused(server: ReviewServer) -> None:
    body = json.dumps(an_answer(server)).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(head(server, "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        assert raw.makefile("rb").read().startswith(b"HTTP/1.1 411 ")
    assert not server.answers.exists()


def head(server: ReviewServer, *more: str) -> bytes:
    first = f"POST /{server.token}/answer HTTP/1.1"
    lines = [first, f"Host: 127.0.0.1:{server.port}", "Content-Type: application/json", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def test_silent_clients_stop_nobody(server: ReviewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genfoundry.review.serve.TIMEOUT_S", 0.5)
    with contextlib.ExitStack() as held:
        first, second, third = (
            held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10)) for _ in range(3)
        )
        first.sendall(b"POST /")
        for half in (second, third):
            half.sendall(head(server, "Content-Length: 200") + b'{"plan": ')
        second.shutdown(socket.SHUT_RDWR)
        assert post(server, an_answer(server)).status == 204
        assert third.makefile("rb").read().startswith(b"HTTP/1.1 408 ")
    assert len(server.answers.read_text().splitlines()) == 1


def test_what_can_t_be_served_is_refused(server: ReviewServer, root: Path, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="choose another --port"):
        serve(folder(server), port=server.port)
    with pytest.raises(ConfigError, match="name the one address"):
        serve(folder(server), host="0.0.0.0")
    with pytest.raises(ConfigError, match=r"no plan\.json"):
        serve(tmp_path)
    other = write(root, PICTURES, count=12, seed=5, out=tmp_path / "other")
    (other / "review.html").write_bytes((folder(server) / "review.html").read_bytes())
    with pytest.raises(ConfigError, match="another plan"):
        serve(other)
