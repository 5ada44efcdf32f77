"""Runs the example of clients/python/README.md."""

from __future__ import annotations

import re

import pytest
from support import REPOSITORY, Daemon, make_schema, psql

import pgdibs


def test_example_of_readme_runs(daemon: Daemon, client: pgdibs.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (REPOSITORY / "clients/python/README.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
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
