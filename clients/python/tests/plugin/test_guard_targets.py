"""Units of the connection guard: resolving and comparing targets, exemptions, assignments, import callbacks."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psycopg
import pytest
from projects import free_port

from pgdibs.plugin.connection_guard.sources import _sets
from pgdibs.plugin.connection_guard.targets import Exemption, Target, Unresolved, is_same, of_url, resolve

NAMES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR")


@pytest.mark.parametrize(
    ("parameters", "variables", "found"),
    [
        ({"host": "a", "port": 1, "dbname": "x"}, {"PGHOST": "b", "PGPORT": "2", "PGDATABASE": "y"}, ["a:1/x"]),
        ({}, {"PGHOST": "b", "PGPORT": "2", "PGDATABASE": "y"}, ["b:2/y"]),
        ({"host": "a", "user": "me"}, {"PGUSER": "you"}, ["a:5432/me"]),
        ({"host": "a"}, {"PGUSER": "you"}, ["a:5432/you"]),
        ({"host": "a", "port": "", "dbname": "x"}, {"PGPORT": "2"}, ["a:5432/x"]),
        ({"host": "", "dbname": "x"}, {"PGHOST": "b"}, ["the local socket:5432/x"]),
        ({"host": "a,b", "port": "1,2", "dbname": "x"}, {}, ["a:1/x", "b:2/x"]),
        ({"host": ["a", "b"], "port": 7, "dbname": "x"}, {}, ["a:7/x", "b:7/x"]),
        ({"host": "/run/sockets", "dbname": "x"}, {}, ["/run/sockets:5432/x"]),
        ({"hostaddr": "192.0.2.1", "dbname": "x"}, {}, ["192.0.2.1:5432/x"]),
    ],
)
def test_parameters_resolve_as_libpq_does(parameters: dict[str, Any], variables: dict[str, str], found: list[str]) -> None:
    assert [str(target) for target in resolve(parameters, variables.get)] == found


@pytest.mark.parametrize("variables", [{}, {"PGHOST": "127.0.0.1"}, {"PGDATABASE": "of_variable"}, {"PGUSER": "of_variable"}])
@pytest.mark.parametrize("conninfo", ["", "host=127.0.0.1", "dbname=given", "user=given", "host=127.0.0.1,127.0.0.2 dbname=''"])
def test_targets_match_those_of_libpq(conninfo: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    conninfo += f" port={port}"
    targets = resolve(psycopg.conninfo.conninfo_to_dict(conninfo), variables.get)
    started = psycopg.pq.PGconn.connect_start(conninfo.encode())
    assert {target.database for target in targets} == {started.db.decode()}
    assert {target.port for target in targets} == {started.port.decode()} == {str(port)}
    assert targets[0].is_socket == started.host.decode().startswith(("/", "@"))
    started.finish()


def test_unreadable_service_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "services"
    variables = {"PGSERVICEFILE": str(file)}
    for text, reason in [
        ("", "is in none of"),
        ("[dev]\nldap://directory/\n", "LDAP"),
        ("[dev]\nno value\n", "cannot be read"),
        ("[dev2]\nhost=a\n", "is in none of"),
    ]:
        file.write_text(text)
        with pytest.raises(Unresolved, match=reason):
            resolve({"service": "dev"}, variables.get)
    file.write_text("[dev]\nhost=a\nport=3\ndbname=x\n")
    assert [str(target) for target in resolve({"service": "dev", "port": 4}, variables.get)] == ["a:4/x"]
    with pytest.raises(Unresolved, match="2 hosts and 3 ports were given"):
        resolve({"host": "a,b", "port": "1,2,3"}, variables.get)


# The answer of libpq itself, without a server: a started connection has its target.
@pytest.mark.parametrize(
    "text",
    [
        "[dev]\nhost=127.0.0.1\ndbname=first\n[dev]\ndbname=second\n",
        "[dev]\nhost=127.0.0.1\n[dev]\ndbname=second\n",
        "[dev]\nhost=127.0.0.1\ndbname=first\ndbname=second\n",
        "no section\n[other]\ndbname=x\n  [dev]  \n# a comment\n\n  host=127.0.0.1\ndbname=a b=c\n[other]\nno value\n",
    ],
    ids=["section twice", "rest of a section", "key twice", "other lines"],
)
def test_service_section_matches_that_of_libpq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "services"
    file.write_text(text)
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    conninfo = f"service=dev user=of_user port={free_port()}"
    started = psycopg.pq.PGconn.connect_start(conninfo.encode())
    (target,) = resolve(psycopg.conninfo.conninfo_to_dict(conninfo), os.environ.get)
    assert (target.host, target.database) == (started.host.decode(), started.db.decode())
    started.finish()


@pytest.mark.parametrize(
    ("target", "lease", "same"),
    [
        (Target("localhost", "1", "x"), ("127.0.0.1", 1, "x"), True),
        (Target("127.0.0.1", "1", "x"), ("localhost", 1, "x"), True),
        (Target("::1", "1", "x"), ("127.0.0.1", 1, "x"), True),
        (Target("", "1", "x"), ("127.0.0.1", 1, "x"), True),
        (Target("/run/postgresql", "1", "x"), ("localhost", 1, "x"), True),
        (Target("/run/postgresql", "2", "x"), ("localhost", 1, "x"), False),
        (Target("127.0.0.2", "1", "x"), ("127.0.0.1", 1, "x"), False),
        (Target("localhost", "1", "y"), ("127.0.0.1", 1, "x"), False),
        (Target("DB.example.", "1", "x"), ("db.example", 1, "x"), True),
        (Target("other.invalid", "1", "x"), ("db.invalid", 1, "x"), False),
        (Target("db.invalid", "1", "x", "192.0.2.9"), ("db.invalid", 1, "x"), False),
        (Target("db.invalid", "1", "x", "192.0.2.9"), ("192.0.2.9", 1, "x"), True),
        (Target("localhost", "1", "x", "127.0.0.1"), ("127.0.0.1", 1, "x"), True),
        (Target("", "1", "x"), ("db.invalid", 1, "x"), False),
    ],
)
def test_is_same_accepts_all_spellings_of_host(target: Target, lease: tuple[str, int, str], same: bool) -> None:
    assert is_same(target, *lease) is same


def test_of_url_parses_all_spellings() -> None:
    assert str(of_url("postgresql+asyncpg://u:p@h:5/x?ssl=on")) == "h:5/x"
    assert str(of_url("postgres://u:p%40@[::1]:5/x%2Dy")) == "::1:5/x-y"
    assert str(of_url("postgis:///x?host=/run/pg&port=7")) == "/run/pg:7/x"
    for other in ("mysql://h/x", "postgresql://h:5", "postgresql://h:port/", "sqlite:///x", "x"):
        assert of_url(other) is None, other


def test_exemption_parts_are_globs() -> None:
    entry = Exemption.parse("[::1]:54*/ref_*")
    assert entry is not None
    assert entry.covers(Target("localhost", "5432", "ref_a"))
    assert not entry.covers(Target("localhost", "6432", "ref_a"))
    assert not entry.covers(Target("db", "5432", "ref_a"))
    assert [Exemption.parse(wrong) for wrong in ("x", "h/x", "h:1", "h:1/", ":1/x")] == [None] * 5
    socket = Exemption.parse("/run/pg:5432/x")
    assert socket is not None and socket.covers(Target("/run/pg", "5432", "x"))


@pytest.mark.parametrize(
    ("line", "strength"),
    [
        ("os.environ['X'] = 'y'", 2),
        ("environ['X'] = 'y'", 2),
        ("os.environ.update(X='y')", 2),
        ("os.environ.update({'X': 'y'})", 2),
        ("os.environ |= {'X': 'y'}", 2),
        ("os.putenv('X', 'y')", 2),
        ("monkeypatch.setenv('X', 'y')", 2),
        ("mock.patch.dict(os.environ, {'X': 'y'})", 2),
        ("mock.patch.dict('os.environ', X='y')", 2),
        ("load_dotenv(override=True)", 1),
        ("dotenv.load_dotenv('.env', override=True)", 1),
        ("load_dotenv()", 0),
        ("os.environ.setdefault('X', 'y')", 0),
        ("os.environ['Y'] = 'X'", 0),
        ("values['X'] = 'y'", 0),
        ("print(os.environ['X'])", 0),
    ],
)
def test_statements_that_set_a_variable_are_found(line: str, strength: int) -> None:
    assert max(_sets(node, "X") for node in ast.walk(ast.parse(line))) == strength


def test_after_import_calls_back_and_keeps_loader(tmp_path: Path) -> None:
    (tmp_path / "watched.py").write_text("import importlib.util\nLOADER = __loader__\nSPEC = importlib.util.find_spec('json')\n")
    (tmp_path / "raises.py").write_text("raise ValueError('its own')\n")
    program = """
    import sys
    from pgdibs.plugin.connection_guard.imports import AfterImport
    calls = []
    after = AfterImport({name: lambda module: calls.append(module.__name__) for name in ("watched", "raises", "json", "absent")})
    import json
    after.install()
    assert calls == ["json"]
    import watched, csv
    assert calls == ["json", "watched"]
    assert watched.__spec__.loader is watched.__loader__ is watched.LOADER
    assert type(watched.LOADER).__name__ == "SourceFileLoader"
    for name in ("raises", "absent"):
        try:
            __import__(name)
        except (ValueError, ModuleNotFoundError) as error:
            calls.append(type(error).__name__)
    assert calls == ["json", "watched", "ValueError", "ModuleNotFoundError"]
    after.remove()
    assert after not in sys.meta_path
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, cwd=tmp_path)
