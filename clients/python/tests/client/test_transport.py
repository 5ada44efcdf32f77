"""How the client asks: Retry-After, deadlines, connections, proxies, addresses, and what it says when nobody answers."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable

import pytest
from scripted import Reply, Scripted
from support import REPOSITORY, eventually, finished, python

import pgdibs
from pgdibs import errors

EXHAUSTED = {"code": "pool_exhausted", "detail": "gw0 holds the only one"}


def test_it_waits_as_long_as_the_daemon_says(scripted: Scripted) -> None:
    scripted.replies = [Reply(503, EXHAUSTED, "0.4"), Reply(503, EXHAUSTED, "0.1"), Reply(200, {"leases": []})]
    assert pgdibs.Client(scripted.url).leases() == []
    first, second, third = (asked.at for asked in scripted.asked)
    assert 0.4 <= second - first < 10
    assert 0.1 <= third - second < 10


def test_a_release_is_asked_again_when_the_daemon_says_so(scripted: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    granted = json.loads((REPOSITORY / "api" / "lease_granted.json").read_text())["body"]
    scripted.replies = [Reply(503, {"code": "server_unavailable", "detail": "not up yet"}, "0.1"), Reply(204)]
    with pgdibs.Client(scripted.url) as client:
        pgdibs.Lease(client, granted, heartbeat=False).release()
    assert [asked.method for asked in scripted.asked] == ["DELETE", "DELETE"]
    assert capsys.readouterr().err == ""


def test_what_comes_at_the_deadline_is_the_last_answer_and_how_long_it_was_asked_for(scripted: Scripted) -> None:
    scripted.replies = [Reply(503, EXHAUSTED, "0.2")]
    started = time.monotonic()
    with pytest.raises(errors.PoolExhausted, match=r"gw0 holds the only one .*asked for 1 s"):
        pgdibs.Client(scripted.url).lease("p", wait_seconds=30, deadline_seconds=0.9)
    assert time.monotonic() - started < 2
    # No request waits longer than what is left.
    waits = [asked.body["wait_seconds"] for asked in scripted.asked]
    assert len(waits) >= 2 and waits == sorted(waits, reverse=True) and waits[0] <= 0.9


def test_somebody_elses_build_that_does_not_end_names_the_builder(scripted: Scripted) -> None:
    scripted.replies = [Reply(202, {"state": "building", "holder": "ci-7", "since": "10:00"}, "0.1")]
    with pytest.raises(errors.TemplateBuilding, match="ci-7 has been building this template since 10:00"):
        pgdibs.Client(scripted.url).ensure_template("p", "f", lambda _url: None, deadline_seconds=0.3)


def test_a_thread_keeps_its_connection(scripted: Scripted) -> None:
    client = pgdibs.Client(scripted.url)
    for _ in range(3):
        client.ask("GET", "/livez")
    thread = threading.Thread(target=client.ask, args=("GET", "/livez"))
    thread.start()
    thread.join()
    assert len({asked.peer for asked in scripted.asked[:3]}) == 1
    assert scripted.asked[3].peer != scripted.asked[0].peer


def test_a_kept_connection_that_was_closed_meanwhile_is_made_again() -> None:
    with Scripted() as first:
        client = pgdibs.Client(first.url)
        client.ask("GET", "/livez")
        connection = client._transport._kept.own.connection
        connection.sock.shutdown(socket.SHUT_RDWR)
        assert client.ask("GET", "/livez").status == 200
    assert len({asked.peer for asked in first.asked}) == 2


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_no_proxy_captures_loopback(name: str, scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Scripted([Reply(418, {"detail": "the proxy"})]) as proxy:
        monkeypatch.setenv(name, proxy.url)
        for host in ("127.0.0.1", "localhost"):
            assert pgdibs.Client(scripted.url.replace("127.0.0.1", host)).ask("GET", "/livez").status == 200
        assert proxy.asked == []


def test_the_token_is_that_of_the_argument_or_of_the_variable(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    pgdibs.Client(scripted.url).ask("GET", "/livez")
    monkeypatch.setenv("PGDIBS_TOKEN", "of-the-variable")
    monkeypatch.setenv("PGDIBS_URL", scripted.url + "/")
    pgdibs.Client().ask("GET", "/livez")
    pgdibs.Client(token="of-the-argument").ask("GET", "/livez")
    said = [asked.headers.get("authorization") for asked in scripted.asked]
    assert said == [None, "Bearer of-the-variable", "Bearer of-the-argument"]


@pytest.mark.parametrize(
    "url", ["127.0.0.1:7432", "postgresql://localhost", "http://", "http://h:x", "http://u:p@h", "http://h/v1", "http://h?q=1"]
)
def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ValueError, match=r"is no address of a pgdibs daemon; PGDIBS_URL is .* http://127\.0\.0\.1:7432"):
        pgdibs.Client(url)


@pytest.mark.parametrize("token", ["two words", "naïve", "line\nX-Evil: 1", "\x00"])
def test_what_is_no_token_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII characters without blanks; correct PGDIBS_TOKEN") as raised:
        pgdibs.Client(token=token)
    assert token not in str(raised.value)


def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_when_nobody_is_there_it_says_so_at_once() -> None:
    url, started = nobody(), time.monotonic()
    client = pgdibs.Client(url)
    calls: list[Callable[[], object]] = [
        lambda: client.lease("p"),
        lambda: client.status(),
        lambda: client.ensure_template("p", "f", print),
    ]
    for call in calls:
        with pytest.raises(pgdibs.Unreachable) as raised:
            call()
        assert str(raised.value).startswith(f"no pgdibs daemon answers at {url} (") and "`pgdibs serve`" in str(raised.value)
    assert time.monotonic() - started < 15


def test_somebody_else_at_the_address_is_named_as_such(scripted: Scripted) -> None:
    scripted.replies = [Reply(502, text="<h1>Bad gateway</h1>")]
    with pytest.raises(pgdibs.PgdibsError, match=r"Bad gateway.*502"):
        pgdibs.Client(scripted.url).status()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(pgdibs.Unreachable, match=r"is no pgdibs daemon|no pgdibs daemon answers"):
            pgdibs.Client(f"http://127.0.0.1:{listener.getsockname()[1]}").status()
        thread.join()


def test_a_wrong_address_says_what_is_wrong_with_it(scripted: Scripted) -> None:
    with pytest.raises(pgdibs.Unreachable, match=r"the host of http://no-such-host\.invalid:1 cannot be resolved"):
        pgdibs.Client("http://no-such-host.invalid:1").status()
    with pytest.raises(pgdibs.Unreachable, match=r"the TLS handshake with https://.* failed .*correct PGDIBS_URL"):
        pgdibs.Client(scripted.url.replace("http", "https")).status()


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_make_another_path_is_refused(name: str, scripted: Scripted) -> None:
    client = pgdibs.Client(scripted.url)
    calls: dict[str, Callable[[], object]] = {
        "pool": lambda: client.put_pool(name),
        "run": lambda: client.end_run(name),
        "fingerprint": lambda: client.ensure_template("p", name, print),
    }
    for field, call in calls.items():
        with pytest.raises(errors.InvalidRequest, match=f"{field} is `"):
            call()
    assert scripted.asked == []


def test_silence_has_an_end(scripted: Scripted) -> None:
    scripted.replies = [Reply(hangs=True)]
    with pytest.raises(pgdibs.Unreachable, match=r"no answer came from .* within 0 s"):
        pgdibs.Client(scripted.url).ask("GET", "/livez", timeout=0.2)
    assert scripted.hung_up.wait(60)


def test_an_aborted_client_hangs_up_where_it_waits(scripted: Scripted) -> None:
    scripted.replies = [Reply(hangs=True)]
    client = pgdibs.Client(scripted.url)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            client.lease("p")
        except pgdibs.PgdibsError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: scripted.asked)
    client.abort()
    thread.join(5)
    assert scripted.hung_up.wait(60) and "was aborted" in str(raised[0])
    with pytest.raises(pgdibs.PgdibsError, match="aborted"):
        client.status()


def test_a_forked_child_has_connections_of_its_own(scripted: Scripted) -> None:
    client = pgdibs.Client(scripted.url)
    client.ask("GET", "/parent")
    child = os.fork()
    if child == 0:
        client.ask("GET", "/child")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    client.ask("GET", "/parent")
    peers = {path: {asked.peer for asked in scripted.asked if asked.path == path} for path in ("/parent", "/child")}
    assert len(peers["/parent"]) == 1 and not peers["/parent"] & peers["/child"]


def test_an_import_opens_no_socket_and_loads_nothing() -> None:
    code = "import sys, pgdibs; print(*sorted(name for name in sys.modules if name.startswith(('pgdibs.', 'http', 'socket'))))"
    assert finished(python(code)) == (0, "\n", "")
    code = "import pgdibs, sys; sys.addaudithook(lambda event, _: event == 'socket.connect' and sys.exit(9)); pgdibs.Client()"
    assert finished(python(code))[0] == 0
