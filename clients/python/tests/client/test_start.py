"""The daemon that a run starts: one for concurrent runs; it outlives the run, ends when idle, and explains a failed start."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_process import fresh_data_directory, postgres_programs
from scripted import Reply, Scripted
from support import eventually, finished, make_schema, program, python
from test_transport import unused_url

import pgdibs
from pgdibs import start
from pgdibs.program import find_program


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory for locks, logs and data of the daemons of this test; the end stops the daemons."""
    directory = fresh_data_directory()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("PGDIBS_BIN", program())
    monkeypatch.setenv("PGDIBS_PG_BIN_DIR", postgres_programs())
    monkeypatch.setenv("PGDIBS_DATA_DIR", str(directory / "data"))
    monkeypatch.setenv("PGDIBS_LINGER_SECONDS", "1")
    yield directory
    for pid in daemons(directory):
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not daemons(directory))
    monkeypatch.undo()
    eventually(lambda: not (directory / "data" / "pgdata" / "postmaster.pid").exists())
    shutil.rmtree(directory, ignore_errors=True)


def daemons(directory: Path) -> list[int]:
    """The daemons on the data directory of this test."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if b"\0serve\0" in command and f"={directory}/data".encode() in environment and state != "Z":
            found.append(int(process.name))
    return found


def test_concurrent_runs_start_one_daemon(directory: Path) -> None:
    url = unused_url()
    code = (
        "import sys, pgdibs\nclient = pgdibs.Client(sys.argv[1])\npgdibs.start.ensure_daemon(client)\n"
        "client.put_pool('p')\nprint(client.status()['daemon']['instance'])\n"
    )
    ended = [finished(process) for process in [python(code, url) for _ in range(4)]]
    assert [status for status, _out, _err in ended] == [0] * 4
    log = directory / f"pgdibs-{os.getuid()}" / f"daemon-{url.rpartition('/')[2].replace(':', '-')}.log"
    # The process that starts it says where it logs.
    assert "".join(err for _status, _out, err in ended) == f"pgdibs: starting a daemon at {url}; its log is {log}\n"
    assert log.exists()
    assert len({out for _status, out, _err in ended}) == 1
    assert len(daemons(directory)) == 1
    client = pgdibs.Client(url)
    begun = time.monotonic()
    start.ensure_daemon(client)
    assert time.monotonic() - begun < 10 and len(daemons(directory)) == 1
    client.ensure_template("p", "v1", make_schema)
    client.lease("p").release()


def test_daemon_ends_when_idle_and_without_leases(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "IDLE_SECONDS", 1)
    client = pgdibs.Client(unused_url())
    start.ensure_daemon(client)
    client.put_pool("p", warm=1)
    client.ensure_template("p", "v1", make_schema)
    lease = client.lease("p", heartbeat=False)
    idle_until = time.monotonic() + 3
    while time.monotonic() < idle_until:
        assert daemons(directory)
        # Polls for longer than the idle time, without requests, which count as use.
        time.sleep(0.1)
    kept = lease.keep(seconds=2)
    lease.release()
    assert kept.url
    eventually(lambda: not daemons(directory))
    log = next((directory / f"pgdibs-{os.getuid()}").glob("*.log")).read_text()
    assert "shutting down: no request and nothing in use" in log
    start.ensure_daemon(client)
    assert client.status()["daemon"]["ready"]


def test_started_daemon_has_token_of_client(directory: Path) -> None:
    url = unused_url()
    start.ensure_daemon(pgdibs.Client(url, "s3cret"))
    assert pgdibs.Client(url, "s3cret").put_pool("p")
    with pytest.raises(pgdibs.errors.Unauthorized):
        start.ensure_daemon(pgdibs.Client(url, "other"))


def test_failed_start_raises_error_with_daemons_log(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGDIBS_MAX_TTL_SECONDS", "lots")
    with pytest.raises(pgdibs.PgdibsError, match=r"(?s)was started for .* ended with 78; the end of .*max_ttl_seconds"):
        start.ensure_daemon(pgdibs.Client(unused_url()))
    monkeypatch.setenv("PGDIBS_BIN", str(directory / "none"))
    with pytest.raises(pgdibs.PgdibsError, match=r"PGDIBS_BIN is .*none, which is not an executable file"):
        start.ensure_daemon(pgdibs.Client(unused_url()))


def test_address_beyond_loopback_starts_no_daemon(directory: Path) -> None:
    for url in ("http://pgdibs.invalid:7432", "https://127.0.0.1:1", "http://192.0.2.1:1"):
        client = pgdibs.Client(url)
        client.ask = lambda *_arguments, **_more: (_ for _ in ()).throw(pgdibs.Unreachable("away"))  # type: ignore[method-assign]
        with pytest.raises(pgdibs.Unreachable, match="only on a loopback address of this machine"):
            start.ensure_daemon(client)
    assert not daemons(directory)


def test_unready_daemon_is_awaited_until_deadline(directory: Path) -> None:
    starting = Reply(503, {"code": "server_unavailable", "detail": "Postgres is starting"}, "1")
    not_ready = pytest.raises(pgdibs.PgdibsError, match="is not ready after 0 s: Postgres is starting")
    with Scripted([starting]) as scripted, not_ready:
        start.ensure_daemon(pgdibs.Client(scripted.url), timeout_seconds=0.3)
    with Scripted([starting, starting, starting, Reply(200, {"pools": []})]) as scripted:
        start.ensure_daemon(pgdibs.Client(scripted.url))
    assert not daemons(directory)


def test_held_start_lock_raises_at_deadline(directory: Path) -> None:
    import fcntl

    url = unused_url()
    own = directory / f"pgdibs-{os.getuid()}"
    own.mkdir(mode=0o700)
    with (own / f"daemon-127.0.0.1-{url.rpartition(':')[2]}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(pgdibs.PgdibsError, match="another run has been starting the daemon"):
            start.ensure_daemon(pgdibs.Client(url), timeout_seconds=0.3)


def test_state_directory_of_another_user_is_refused(directory: Path) -> None:
    elsewhere = directory / "elsewhere"
    elsewhere.mkdir()
    (directory / f"pgdibs-{os.getuid()}").symlink_to(elsewhere)
    with pytest.raises(pgdibs.PgdibsError, match="belongs to another user"):
        start.ensure_daemon(pgdibs.Client(unused_url()))
    (directory / f"pgdibs-{os.getuid()}").unlink()


def test_python_m_runs_the_found_program(directory: Path) -> None:
    assert find_program() == program()
    done = finished(
        python("import runpy, sys; sys.argv = ['pgdibs', '--version']; runpy.run_module('pgdibs', run_name='__main__')")
    )
    assert done[0] == 0 and done[1].startswith("pgdibs ")
