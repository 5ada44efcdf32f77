"""Runs what the pages for operating type against a daemon: the shell and the SQL of stuck.md, troubleshooting.md and http.md.

The names of the pages' examples are those of this daemon: one lease of pool myapp_test, and one kept database.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_process import TemporaryDaemon, postgres_programs, program
from test_pages import DEFAULT_PORT, blocks

# Starts a daemon in the foreground.
STARTS = "pgdibs serve"


class Operated:
    """A daemon with what the pages speak of, and a shell beside it."""

    def __init__(self) -> None:
        self.daemon = TemporaryDaemon()
        self.names = {
            f":{DEFAULT_PORT}": f":{self.daemon.url.rpartition(':')[2]}",
            "DATA_DIR": str(self.daemon.data / "data"),
            "RUN": "finished",
        }
        self.environment = {**os.environ, **self.daemon.variables}
        # psql last, for a machine whose only Postgres is the fetched one.
        self.environment["PATH"] = f"{Path(program()).parent}:{os.environ['PATH']}:{postgres_programs()}"
        self.run("pgdibs pool set myapp_test --warm 2")
        self.run("pgdibs template build myapp_test --fingerprint v1 -- psql -qc 'create table t (n int)'")
        ended, live = (self.lease(run) for run in ("finished", "other"))
        kept = json.loads(self.run(f"pgdibs keep {ended['id']} --output json"))["kept_database"]
        self.run(f"pgdibs release {ended['id']}")
        self.names.update(myapp_test_kept_7=kept, myapp_test_gw0=live["database"])

    def lease(self, run: str) -> dict[str, str]:
        """A lease of any slot."""
        lease: dict[str, str] = json.loads(self.run(f"pgdibs lease myapp_test --run {run} --ttl 600 --output json"))
        return lease

    def run(self, script: str) -> str:
        """The output of a script, which has to succeed."""
        script = re.sub("|".join(self.names), lambda found: self.names[found[0]], script)
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, f"{script}\nended with {ran.returncode}: {ran.stderr}"
        return ran.stdout


@pytest.fixture(scope="module")
def operated() -> Iterator[Operated]:
    operated = Operated()
    yield operated
    operated.daemon.stop()
    shutil.rmtree(operated.daemon.data)


def test_sql_of_pages_has_results(operated: Operated) -> None:
    pages = [
        text for page in ("stuck", "troubleshooting") for language, _, text in blocks(f"docs/{page}.md") if language == "sql"
    ]
    psql = next(
        text for language, _, text in blocks("docs/stuck.md") if language == "sh" and "superuser-password" in text
    ).strip()
    found = [
        operated.run(f"{psql} -v ON_ERROR_STOP=1 -Atc '{sql.replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'") for sql in pages
    ]
    assert len(found) == 5
    # The leader's own session, and that of psql. No session is in the examples' databases.
    assert found[0].count("\n") == 1 and found[4].startswith("pgdibs|")


def test_shell_of_stuck_page_works_from_top_to_bottom(operated: Operated) -> None:
    texts = [text for language, _, text in blocks("docs/stuck.md") if language == "sh" and STARTS not in text]
    printed = [operated.run(text) for text in texts if "superuser-password" not in text]
    assert len(printed) == 5
    assert f"{operated.names['myapp_test_gw0']} 0" in printed[3]
    left = json.loads(operated.run("pgdibs status --output json"))
    assert left["leases"] == []


def test_requests_of_http_page_take_renew_and_release(operated: Operated) -> None:
    (text,) = [text for language, _, text in blocks("docs/http.md") if language == "sh"]
    take, renew, release = re.findall(r"curl (?:.*\\\n)*.*\n", text)
    lease = json.loads(operated.run(take.replace("curl", "curl -sf")))
    for request in (renew, release):
        operated.run(f"id={lease['id']}\n{request.replace('curl', 'curl -sf')}")
    ended = json.loads(
        operated.run(f'curl -sf -H "Authorization: Bearer $PGDIBS_TOKEN" http://127.0.0.1:7432/v1/leases/{lease["id"]}')
    )
    assert ended["state"] == "released"
