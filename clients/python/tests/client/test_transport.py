"""The requests of the client: Retry-After, deadlines, connections, proxies, addresses, and errors without an answer."""

from __future__ import annotations

import gc
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


def test_call_waits_for_retry_after(scripted: Scripted) -> None:
    scripted.replies = [Reply(503, EXHAUSTED, "0.4"), Reply(503, EXHAUSTED, "0.1"), Reply(200, {"leases": []})]
    assert pgdibs.Client(scripted.url).leases() == []
    first, second, third = (request.time for request in scripted.requests)
    assert 0.4 <= second - first < 10
    assert 0.1 <= third - second < 10


def test_release_repeats_after_retry_after(scripted: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    granted = json.loads((REPOSITORY / "api" / "lease_granted.json").read_text())["body"]
    scripted.replies = [Reply(503, {"code": "server_unavailable", "detail": "not up yet"}, "0.1"), Reply(204)]
    with pgdibs.Client(scripted.url) as client:
        pgdibs.Lease(client, granted, heartbeat=False).release()
    assert [request.method for request in scripted.requests] == ["DELETE", "DELETE"]
    assert capsys.readouterr().err == ""


def test_deadline_raises_last_answer_with_duration(scripted: Scripted) -> None:
    scripted.replies = [Reply(503, EXHAUSTED, "0.2")]
    started = time.monotonic()
    with pytest.raises(errors.PoolExhausted, match=r"gw0 holds the only one .*asked for 1 s"):
        pgdibs.Client(scripted.url).lease("p", wait_seconds=30, deadline_seconds=0.9)
    assert time.monotonic() - started < 2
    # No request waits longer than the remaining time.
    waits = [request.body["wait_seconds"] for request in scripted.requests]
    assert len(waits) >= 2 and waits == sorted(waits, reverse=True) and waits[0] <= 0.9


def test_caller_that_asks_is_told_early_what_it_waits_for(scripted: Scripted) -> None:
    granted = json.loads((REPOSITORY / "api" / "lease_granted.json").read_text())["body"]
    scripted.replies = [Reply(503, EXHAUSTED, "0.1"), Reply(503, EXHAUSTED, "0.1"), Reply(201, granted)]
    client, waits = pgdibs.Client(scripted.url), []
    client.on_wait = lambda sentence, seconds: waits.append((sentence, seconds < 10))
    client.lease("p", wait_seconds=30, heartbeat=False)
    assert waits == [("gw0 holds the only one", True)] * 2
    # The first request waits a short time, so that the sentence comes early; the others keep their place in the queue for longer.
    assert [request.body["wait_seconds"] for request in scripted.requests] == [1, 30, 30]


def test_endless_build_of_another_names_its_holder(scripted: Scripted) -> None:
    scripted.replies = [Reply(202, {"state": "building", "holder": "ci-7", "since": "10:00"}, "0.1")]
    with pytest.raises(errors.TemplateBuilding, match="ci-7 has been building this template since 10:00"):
        pgdibs.Client(scripted.url).ensure_template("p", "f", lambda _url: None, deadline_seconds=0.3)


def test_thread_reuses_its_connection(scripted: Scripted) -> None:
    client = pgdibs.Client(scripted.url)
    for _ in range(3):
        client.ask("GET", "/livez")
    thread = threading.Thread(target=client.ask, args=("GET", "/livez"))
    thread.start()
    thread.join()
    assert len({request.peer for request in scripted.requests[:3]}) == 1
    assert scripted.requests[3].peer != scripted.requests[0].peer


def test_closed_connection_is_opened_again() -> None:
    with Scripted() as first:
        client = pgdibs.Client(first.url)
        client.ask("GET", "/livez")
        connection = client._transport._kept.own.connection
        connection.sock.shutdown(socket.SHUT_RDWR)
        assert client.ask("GET", "/livez").status == 200
    assert len({request.peer for request in first.requests}) == 2


def test_client_in_reference_cycle_closes_its_socket(scripted: Scripted) -> None:
    """Regression: `ResourceWarning: unclosed socket`, in whichever test the garbage collector ran (found by a test run)."""
    made = [pgdibs.Client(scripted.url)]
    made[0].ask("GET", "/livez")
    sock = made[0]._transport._kept.own.connection.sock
    # The collector finalizes in the order of its list. In this collection the client, reached through a younger object, moves
    # behind the socket.
    cycle: list[object] = [made.pop()]
    gc.collect()
    cycle.append(cycle)
    del cycle, sock
    gc.collect()


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_proxy_variables_are_ignored(name: str, scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Scripted([Reply(418, {"detail": "the proxy"})]) as proxy:
        monkeypatch.setenv(name, proxy.url)
        for host in ("127.0.0.1", "localhost"):
            assert pgdibs.Client(scripted.url.replace("127.0.0.1", host)).ask("GET", "/livez").status == 200
        assert proxy.requests == []


def test_token_argument_wins_over_variable(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    pgdibs.Client(scripted.url).ask("GET", "/livez")
    monkeypatch.setenv("PGDIBS_TOKEN", "of-the-variable")
    monkeypatch.setenv("PGDIBS_URL", scripted.url + "/")
    pgdibs.Client().ask("GET", "/livez")
    pgdibs.Client(token="of-the-argument").ask("GET", "/livez")
    headers = [request.headers.get("authorization") for request in scripted.requests]
    assert headers == [None, "Bearer of-the-variable", "Bearer of-the-argument"]


@pytest.mark.parametrize(
    "url", ["127.0.0.1:7432", "postgresql://localhost", "http://", "http://h:x", "http://u:p@h", "http://h/v1", "http://h?q=1"]
)
def test_invalid_url_is_refused_with_example(url: str) -> None:
    with pytest.raises(ValueError, match=r"is no address of a pgdibs daemon; PGDIBS_URL is .* http://127\.0\.0\.1:7432"):
        pgdibs.Client(url)


@pytest.mark.parametrize("token", ["two words", "naïve", "line\nX-Evil: 1", "\x00"])
def test_invalid_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII characters without blanks; correct PGDIBS_TOKEN") as raised:
        pgdibs.Client(token=token)
    assert token not in str(raised.value)


def unused_url() -> str:
    """An address without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_address_without_daemon_raises_at_once() -> None:
    url, started = unused_url(), time.monotonic()
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


def test_another_program_at_address_raises_unreachable(scripted: Scripted) -> None:
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


def test_wrong_address_raises_error_with_cause(scripted: Scripted) -> None:
    with pytest.raises(pgdibs.Unreachable, match=r"the host of http://no-such-host\.invalid:1 cannot be resolved"):
        pgdibs.Client("http://no-such-host.invalid:1").status()
    with pytest.raises(pgdibs.Unreachable, match=r"the TLS handshake with https://.* failed .*correct PGDIBS_URL"):
        pgdibs.Client(scripted.url.replace("http", "https")).status()


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_name_that_changes_the_path_is_refused(name: str, scripted: Scripted) -> None:
    client = pgdibs.Client(scripted.url)
    calls: dict[str, Callable[[], object]] = {
        "pool": lambda: client.put_pool(name),
        "run": lambda: client.end_run(name),
        "fingerprint": lambda: client.ensure_template("p", name, print),
    }
    for field, call in calls.items():
        with pytest.raises(errors.InvalidRequest, match=f"{field} is `"):
            call()
    assert scripted.requests == []


def test_request_without_answer_times_out(scripted: Scripted) -> None:
    scripted.replies = [Reply(hangs=True)]
    with pytest.raises(pgdibs.Unreachable, match=r"no answer came from .* within 0 s"):
        pgdibs.Client(scripted.url).ask("GET", "/livez", timeout=0.2)
    assert scripted.hung_up.wait(60)


def test_abort_ends_waiting_calls(scripted: Scripted) -> None:
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
    eventually(lambda: scripted.requests)
    client.abort()
    thread.join(5)
    assert scripted.hung_up.wait(60) and "was aborted" in str(raised[0])
    with pytest.raises(pgdibs.PgdibsError, match="aborted"):
        client.status()


def test_forked_child_opens_its_own_connections(scripted: Scripted) -> None:
    client = pgdibs.Client(scripted.url)
    client.ask("GET", "/parent")
    child = os.fork()
    if child == 0:
        client.ask("GET", "/child")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    client.ask("GET", "/parent")
    peers = {path: {request.peer for request in scripted.requests if request.path == path} for path in ("/parent", "/child")}
    assert len(peers["/parent"]) == 1 and not peers["/parent"] & peers["/child"]


def test_import_loads_no_modules_and_opens_no_socket() -> None:
    code = "import sys, pgdibs; print(*sorted(name for name in sys.modules if name.startswith(('pgdibs.', 'http', 'socket'))))"
    assert finished(python(code)) == (0, "\n", "")
    code = "import pgdibs, sys; sys.addaudithook(lambda event, _: event == 'socket.connect' and sys.exit(9)); pgdibs.Client()"
    assert finished(python(code))[0] == 0
