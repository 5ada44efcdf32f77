"""Runs the example of clients/python/README.md, and checks the configuration file of README.md."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support import REPOSITORY, Daemon, make_schema, program, psql

import pgdibs


def block_of(page: str, language: str) -> str:
    """The only block of this language on a page."""
    text = (REPOSITORY / page).read_text()
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(block)


def test_example_of_readme_runs(daemon: Daemon, client: pgdibs.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    example = block_of("clients/python/README.md", "python")
    monkeypatch.setenv("PGDIBS_URL", daemon.url)

    def connect(url: str) -> None:
        psql(url, "insert into notes values (1)")

    names = {"migrate": make_schema, "connect": connect}
    exec(example, names)
    kept: pgdibs.KeptDatabase = names["kept"]  # type: ignore[assignment]
    # Kept as it was when the lease ended: after the reset, without the row.
    assert psql(kept.url, "select count(*) from notes") == "0"
    assert client.leases(pool="myapp_test") == []
    client.call("DELETE", "/v1/pools/myapp_test?force=true")


def test_daemon_accepts_configuration_of_readme(tmp_path: Path) -> None:
    file = tmp_path / "pgdibs.toml"
    file.write_text(block_of("README.md", "toml"))
    shown = subprocess.run([program(), "config", "--config", str(file)], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert re.search(r"^pools\.myapp_test\.source\.command +alembic,upgrade,head +file ", shown, re.MULTILINE)
