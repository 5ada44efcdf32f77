"""Templates: one build for concurrent callers, failed, interrupted and lost builds, renewals."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Optional

import pytest
from support import eventually, finished, make_schema, psql, python, table_exists

import pgdibs
from pgdibs import errors, templates
from pgdibs.transport import Answer

BUILDER = """
import json, os, subprocess, sys, time, pgdibs
url, pool, directory, psql = sys.argv[1:]
def build(target):
    open(os.path.join(directory, f"built-by-{os.getpid()}"), "x").close()
    subprocess.run([psql, "-X", "-q", target, "-c", "create table notes (id int)"], check=True)
open(os.path.join(directory, f"here-{os.getpid()}"), "x").close()
deadline = time.monotonic() + 30
while len([name for name in os.listdir(directory) if name.startswith("here-")]) < 8 and time.monotonic() < deadline:
    time.sleep(0.005)  # until all eight have started: the pause between two polls
client = pgdibs.Client(url)
ready = client.ensure_template(pool, "v1", build)
with client.lease(pool, fingerprint="v1", deadline_seconds=60) as lease:
    print(json.dumps([ready.reused, ready.database, lease.fingerprint]))
"""


def test_eight_concurrent_processes_build_once(client: pgdibs.Client, empty_pool: str, tmp_path: Path) -> None:
    from daemon_process import postgres_programs

    arguments = (client.url, empty_pool, str(tmp_path), f"{postgres_programs()}/psql")
    ended = [finished(process) for process in [python(BUILDER, *arguments) for _ in range(8)]]
    assert [(status, err) for status, _out, err in ended] == [(0, "")] * 8
    results = [json.loads(out) for _status, out, _err in ended]
    assert sorted(reused for reused, _database, _fingerprint in results) == [False] + [True] * 7
    assert len({database for _reused, database, _fingerprint in results}) == 1
    assert len(list(tmp_path.glob("built-by-*"))) == 1


def test_failed_build_is_abandoned_and_next_caller_builds(client: pgdibs.Client, empty_pool: str) -> None:
    def fail(url: str) -> None:
        psql(url, "create table half ()")
        raise RuntimeError("migration 0007 does not apply")

    with pytest.raises(RuntimeError, match="migration 0007"):
        client.ensure_template(empty_pool, "v1", fail)
    failed = client.call("GET", f"/v1/pools/{empty_pool}")["templates"]
    assert [template["state"] for template in failed] in ([], ["failed"])
    assert not failed or "migration 0007 does not apply" in failed[0]["detail"]
    assert not client.ensure_template(empty_pool, "v1", make_schema).reused
    with client.lease(empty_pool) as lease:
        assert table_exists(lease, "notes") and not table_exists(lease, "half")


def test_ctrl_c_during_build_abandons_it(client: pgdibs.Client, empty_pool: str) -> None:
    def interrupt(_url: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.ensure_template(empty_pool, "v1", interrupt)
    assert not client.ensure_template(empty_pool, "v1", make_schema, deadline_seconds=60).reused


def test_running_build_is_renewed(client: pgdibs.Client, empty_pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "RENEW_SECONDS", 0.05)
    renewals: list[str] = []
    ask = client.ask

    def record(method: str, path: str, body: object = None, timeout: object = None) -> pgdibs.Answer:
        answer = ask(method, path, body, timeout)  # type: ignore[arg-type]
        if path.endswith("/renew"):
            renewals.append(f"{answer.status}")
        return answer

    monkeypatch.setattr(client, "ask", record)

    def build(url: str) -> None:
        eventually(lambda: len(renewals) >= 3)
        make_schema(url)

    client.ensure_template(empty_pool, "v1", build)
    assert set(renewals) == {"200"}
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "pgdibs-build"])


def test_lost_build_raises_at_seal(client: pgdibs.Client, empty_pool: str) -> None:
    def lose(url: str) -> None:
        make_schema(url)
        token = templates_token(url)
        client.call("POST", f"/v1/pools/{empty_pool}/templates/v1/abandon", {"token": token, "detail": "lost"})

    tokens: dict[str, str] = {}
    call = client.call_through_restarts

    def remember(*request: Any) -> pgdibs.Answer:
        answer = call(*request)
        if answer.status == 201:
            tokens[answer.body["build"]["url"]] = answer.body["build"]["token"]
        return answer

    def templates_token(url: str) -> str:
        return tokens[url]

    client.call_through_restarts = remember  # type: ignore[method-assign, assignment]
    with pytest.raises((errors.BuildTokenStale, errors.TemplateNotBuilding, errors.TemplateNotFound)):
        client.ensure_template(empty_pool, "v1", lose)


def test_fingerprint_may_have_characters_of_urls(client: pgdibs.Client, empty_pool: str) -> None:
    fingerprint = "feature/ünï code?#%2F"
    assert not client.ensure_template(empty_pool, fingerprint, make_schema).reused
    with client.lease(empty_pool, fingerprint=fingerprint) as lease:
        assert lease.fingerprint == fingerprint


def test_seal_may_take_minutes(client: pgdibs.Client, empty_pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vacuum of 10 GB takes longer than any other answer."""
    timeouts = {}
    ask = pgdibs.Client.ask

    def recorded(self: pgdibs.Client, method: str, path: str, body: Any = None, timeout: Optional[float] = None) -> Answer:
        timeouts[path.rpartition("/")[2]] = timeout
        return ask(self, method, path, body, timeout)

    monkeypatch.setattr(pgdibs.Client, "ask", recorded)
    client.ensure_template(empty_pool, "large", lambda _url: None)
    assert timeouts["seal"] == 600.0, timeouts


def test_builder_learns_which_inputs_have_changed(client: pgdibs.Client, empty_pool: str, tmp_path: Path) -> None:
    def ensure(content: str, more: str = "") -> templates.TemplateReady:
        (tmp_path / "0042.sql").write_text(content)
        inputs = {**templates.inputs_of(tmp_path, ["*.sql"]), **({more: "x"} if more else {})}
        fingerprint = templates.fingerprint_of(tmp_path, ["*.sql"])
        return client.ensure_template(empty_pool, fingerprint, make_schema, inputs=inputs)

    first, again, second = ensure("one"), ensure("one"), ensure("two", "0043.sql")
    assert (first.input_changes, again.reused, again.input_changes) == (None, True, None)
    assert second.input_changes is not None
    since = second.input_changes.pop("since")
    assert second.input_changes == {"changed": ["0042.sql"], "added": ["0043.sql"], "removed": [], "more": 0}
    (tmp_path / "0042.sql").write_text("one")
    assert since == templates.fingerprint_of(tmp_path, ["*.sql"])


def test_reported_run_is_listed(client: pgdibs.Client, empty_pool: str) -> None:
    client.report_run("a run/with a slash", pool=empty_pool, seconds={"total": 1.5}, workers=[{"worker": "gw0"}], holder="ci-7")
    (run,) = client.runs(empty_pool)
    assert (run["run"], run["state"], run["holder"], run["seconds"]) == ("a run/with a slash", "ended", "ci-7", {"total": 1.5})
    assert run["workers"] == [{"worker": "gw0", "peak_rss_mb": None, "connections": None}]
    assert run in client.runs()
    with pytest.raises(errors.InvalidRequest, match=r"^seconds\.total: -1 is not a number of seconds"):
        client.report_run("r", pool=empty_pool, seconds={"total": -1.0})
