"""Runs the shell of docs/ci.md with which shards share a template: on two daemons with a server each, and one folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from daemon_process import TemporaryDaemon, postgres_programs, program
from test_pages import blocks


def test_second_shard_imports_what_the_first_has_built(tmp_path: Path) -> None:
    (script,) = (text for _, word, text in blocks("docs/ci.md") if word == "shards")
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations/1.sql").write_text("create table t (n int);\n")
    (tmp_path / "migrations/2.sql").write_text("insert into t values (5);\n")
    builders = []
    for _shard in range(2):
        daemon = TemporaryDaemon()
        environment = {**os.environ, **daemon.variables, "PGDIBS_PG_BIN_DIR": postgres_programs()}
        environment["PATH"] = f"{Path(program()).parent}:{os.environ['PATH']}:{postgres_programs()}"

        def run(text: str, environment: dict[str, str] = environment) -> str:
            command = ["bash", "-euo", "pipefail", "-c", text]
            ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
            assert ran.returncode == 0, ran.stderr
            return ran.stdout.strip()

        run(script)
        builders.append(run("pgdibs template list myapp_test --output json | jq -r '.pools[0].templates[0].holder'"))
        rows = run("pgdibs lease myapp_test > /dev/null; pgdibs psql -- -Atc 'select n from t'")
        assert rows == "5"
        daemon.stop()
        shutil.rmtree(daemon.data)
    assert "/sh -c cat" in builders[0] and builders[1].endswith("/pgdibs template import"), builders
