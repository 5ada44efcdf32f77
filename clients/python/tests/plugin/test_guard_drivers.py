"""The connection guard for each driver: it stops every way to connect to a foreign database, and allows leases."""

from __future__ import annotations

import json

import pytest
from developers import DeveloperDatabase
from projects import PLUGINS, Project

pytestmark = pytest.mark.shared_pool

# Each function opens one connection to a database and closes it. The imports are those of applications.
WAYS = """
import asyncio, os, socket
import asyncpg, pg8000, pg8000.dbapi, pg8000.native, psycopg, psycopg2, psycopg2.extras, psycopg2.pool, psycopg_pool
import sqlalchemy, sqlalchemy.ext.asyncio
from asyncpg import connect as asyncpg_connect, create_pool
from psycopg import AsyncConnection, Connection, connect
from psycopg2 import connect as psycopg2_connect

def psycopg_connect(url): connect(url).close()
def psycopg_module(url): psycopg.connect(url).close()
def psycopg_class(url): Connection.connect(url).close()
def psycopg_subclass(url): type("Mine", (psycopg.Connection,), {}).connect(url).close()
def psycopg_keywords(url): psycopg.connect(**psycopg.conninfo.conninfo_to_dict(url)).close()
async def psycopg_async(url): await (await AsyncConnection.connect(url)).close()
def psycopg_pool_sync(url):
    with psycopg_pool.ConnectionPool(url, min_size=1) as pool, pool.connection(timeout=30): pass
def psycopg_pool_opened_at_once(url):
    pool = psycopg_pool.ConnectionPool(url, min_size=1, open=True)
    pool.wait(30)
    pool.close()
def psycopg_pool_null(url):
    with psycopg_pool.NullConnectionPool(url) as pool, pool.connection(timeout=30): pass
async def psycopg_pool_async(url):
    async with psycopg_pool.AsyncConnectionPool(url, min_size=1, open=False) as pool, pool.connection(timeout=30): pass
def psycopg2_by_name(url): psycopg2_connect(url).close()
def psycopg2_keywords(url): psycopg2.connect(**psycopg2.extensions.parse_dsn(url)).close()
def psycopg2_factory(url): psycopg2.connect(url, connection_factory=psycopg2.extras.RealDictConnection).close()
def psycopg2_asynchronous(url): psycopg2.connect(url, async_=True).close()
def psycopg2_pool(url): psycopg2.pool.SimpleConnectionPool(1, 1, url).closeall()
def psycopg2_threaded_pool(url): psycopg2.pool.ThreadedConnectionPool(1, 1, url).closeall()
async def asyncpg_by_name(url): await (await asyncpg_connect(url)).close()
async def asyncpg_module(url): await (await asyncpg.connect(dsn=url)).close()
async def asyncpg_pool(url):
    async with create_pool(url, min_size=1) as pool: await pool.fetchval("select 1")
def pg8000_interfaces(url, connect):
    lease = psycopg2.extensions.parse_dsn(url)
    connect(lease["user"], lease["host"], lease["dbname"], int(lease["port"]), password=lease["password"]).close()
def pg8000_dbapi(url): pg8000_interfaces(url, pg8000.dbapi.connect)
def pg8000_native(url): pg8000_interfaces(url, pg8000.native.Connection)
def pg8000_legacy(url): pg8000_interfaces(url, pg8000.connect)
def pg8000_connected(url):
    to = psycopg2.extensions.parse_dsn(url)
    with socket.create_connection((to["host"], int(to["port"]))) as connected:
        pg8000.native.Connection(to["user"], database=to["dbname"], password=to["password"], sock=connected).close()
def sqlalchemy_sync(url, driver):
    engine = sqlalchemy.create_engine(url.replace("postgresql", f"postgresql+{driver}", 1))
    engine.connect().close()
    engine.dispose()
def sqlalchemy_psycopg(url): sqlalchemy_sync(url, "psycopg")
def sqlalchemy_psycopg2(url): sqlalchemy_sync(url, "psycopg2")
def sqlalchemy_pg8000(url): sqlalchemy_sync(url, "pg8000")
def sqlalchemy_creator(url):
    sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url)).connect().close()
async def sqlalchemy_async(url, driver):
    engine = sqlalchemy.ext.asyncio.create_async_engine(url.replace("postgresql", f"postgresql+{driver}", 1))
    async with engine.connect(): pass
    await engine.dispose()
async def sqlalchemy_asyncpg(url): await sqlalchemy_async(url, "asyncpg")
async def sqlalchemy_psycopg_async(url): await sqlalchemy_async(url, "psycopg_async")

PREFIXES = ("psycopg_", "psycopg2_", "asyncpg_", "pg8000_", "sqlalchemy_")
WAYS = {name: way for name, way in list(globals().items()) if name.startswith(PREFIXES) and callable(way) and name not in
        ("psycopg_pool", "psycopg2_connect", "asyncpg_connect", "pg8000_interfaces", "sqlalchemy_sync", "sqlalchemy_async")}

def run(way, url):
    done = way(url)
    return asyncio.run(done) if asyncio.iscoroutine(done) else done
"""
TESTS = """
import json, os, pathlib, pgdibs, pytest, ways
def test_each(pgdibs_url):
    sentences = {}
    for name, way in ways.WAYS.items():
        ways.run(way, pgdibs_url)
        with pytest.raises(pgdibs.ConnectionStopped) as stopped:
            ways.run(way, os.environ["DEVELOPERS"])
        sentences[name] = str(stopped.value)
        ways.run(way, pgdibs_url)
    pathlib.Path("sentences.json").write_text(json.dumps(sentences))
"""


@pytest.mark.parametrize("imported", ["after the plugin", pytest.param("before the plugin", marks=pytest.mark.long)])
def test_each_way_to_connect_is_stopped(project: Project, developer: DeveloperDatabase, imported: str) -> None:
    project.file("ways.py", WAYS)
    project.file("test_it.py", TESTS)
    project.settings["pythonpath"] = "."
    project.environment.update(DEVELOPERS=developer.url(), PYTHONPATH=str(project.pytester.path))
    plugins = ["-p", "ways", *PLUGINS] if imported == "before the plugin" else PLUGINS
    developer.assert_stopped(project.run(plugins=plugins))
    sentences = json.loads(project.text("sentences.json"))
    assert len(sentences) == 29, sorted(sentences)
    for name, sentence in sentences.items():
        # One sentence for each target, from the first layer.
        assert sentence.startswith("pgdibs: stopped a connection by psycopg opened at ways.py:"), name
        assert developer.place in sentence


LAYERS = """
import os, pytest, ways
@pytest.mark.parametrize("name", ["{name}"])
def test_it(name):
    ways.run(ways.WAYS[name], os.environ["DEVELOPERS"])
"""


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("psycopg_async", "psycopg"),
        ("psycopg_pool_async", "psycopg_pool"),
        ("psycopg2_pool", "psycopg2"),
        ("asyncpg_pool", "asyncpg"),
        ("pg8000_dbapi", "pg8000"),
        ("sqlalchemy_psycopg2", "SQLAlchemy with psycopg2"),
        ("sqlalchemy_pg8000", "SQLAlchemy with pg8000"),
        ("sqlalchemy_asyncpg", "SQLAlchemy with asyncpg"),
    ],
)
@pytest.mark.long
def test_error_names_layer_and_line(project: Project, developer: DeveloperDatabase, name: str, layer: str) -> None:
    project.file("ways.py", WAYS)
    project.file("test_it.py", LAYERS.format(name=name))
    project.settings["pythonpath"] = "."
    project.environment["DEVELOPERS"] = developer.url()
    # asyncio logs the exception of a pool's background task with a traceback; the run itself prints none.
    ran = project.run("-n2", "--show-capture=no")
    developer.assert_stopped(ran, f"by {layer} opened at ways.py:", "DEVELOPERS names this database")


# Missing arguments come from the environment, by the rules of the driver.
INDIRECT = """
import asyncio, os, pathlib
import asyncpg, pgdibs, psycopg, psycopg2, pytest, sqlalchemy
WAYS = {
    "psycopg": lambda: psycopg.connect(),
    "psycopg with a host": lambda: psycopg.connect(host="localhost"),
    "psycopg2": lambda: psycopg2.connect(""),
    "asyncpg": lambda: asyncio.run(asyncpg.connect()),
    "sqlalchemy": lambda: sqlalchemy.create_engine("postgresql+psycopg://").connect(),
    "sqlalchemy with a part": lambda: sqlalchemy.create_engine("postgresql+psycopg2://127.0.0.1/").connect(),
}
SERVICE = {
    "psycopg": lambda: psycopg.connect("service=dev"),
    "psycopg2": lambda: psycopg2.connect(service="dev"),
    "sqlalchemy": lambda: sqlalchemy.create_engine("postgresql+psycopg://?service=dev").connect(),
}
def test_it(pgdibs_lease, monkeypatch):
    lease, database, port = pgdibs_lease, os.environ["DEVELOPERS_NAME"], os.environ["DEVELOPERS_PORT"]
    def set_target(host, port, database):
        for name, value in (("PGHOST", host), ("PGPORT", port), ("PGDATABASE", database)):
            monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PGUSER", lease.user)
    monkeypatch.setenv("PGPASSWORD", lease.password)
    for way in WAYS.values():
        set_target("127.0.0.1", lease.port, lease.database)
        way().close() if way is not WAYS["asyncpg"] else way()
        set_target("127.0.0.1", port, database)
        with pytest.raises(pgdibs.ConnectionStopped):
            way()
        set_target("127.0.0.1", lease.port, lease.database)
        way().close() if way is not WAYS["asyncpg"] else way()
    # The address counts, not the name; one foreign host of several counts.
    monkeypatch.setenv("PGHOSTADDR", "::ffff:127.0.0.1")
    psycopg2.connect(lease.url).close()
    for address in ("127.0.0.2", "192.0.2.1"):
        monkeypatch.setenv("PGHOSTADDR", address)
        for connect in (psycopg.connect, psycopg2.connect):
            with pytest.raises(pgdibs.ConnectionStopped):
                connect(lease.url)
    monkeypatch.delenv("PGHOSTADDR")
    several = f"host=127.0.0.1,127.0.0.1 port={lease.port},{port} dbname={lease.database} user={lease.user}"
    with pytest.raises(pgdibs.ConnectionStopped):
        psycopg2.connect(several, password=lease.password)
    for variable in ("PGHOST", "PGPORT", "PGDATABASE"):
        monkeypatch.delenv(variable)
    file = pathlib.Path("services").resolve()
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    for way in SERVICE.values():
        file.write_text(f"[other]\\nport=1\\n[dev]\\nhost=127.0.0.1\\nport={lease.port}\\ndbname={lease.database}\\n")
        way().close()
        file.write_text(f"[dev]\\nhost=127.0.0.1\\nport={port}\\ndbname={database}\\n")
        with pytest.raises(pgdibs.ConnectionStopped):
            way()
        file.write_text("[other]\\nport=1\\n")
        with pytest.raises(pgdibs.ConnectionStopped, match="service `dev` is in none of "):
            way()
    pathlib.Path("done").write_text("done")
"""


def test_missing_arguments_come_from_environment(project: Project, developer: DeveloperDatabase) -> None:
    project.file("test_it.py", INDIRECT)
    project.environment.update(DEVELOPERS_NAME=developer.name, DEVELOPERS_PORT=str(developer.server.port))
    developer.assert_stopped(project.run())
    assert project.text("done") == "done"


# A mock reaches no server, unless it calls the driver.
MOCKED = """
import asyncio, os
from unittest import mock
import asyncpg, pgdibs, psycopg, psycopg2, pytest, sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
URL = os.environ["DEVELOPERS"]
def engine(driver, **more):
    return sqlalchemy.create_engine(URL.replace("postgresql", f"postgresql+{driver}", 1), **more)
@pytest.mark.parametrize("more", [{}, {"autospec": True}])
def test_mocked(more):
    with mock.patch("psycopg2.connect", **more) as connect:
        connect.return_value = mock.MagicMock()
        engine("psycopg2").raw_connection()
    assert connect.call_args.kwargs["dbname"] == "shop_dev"
    with mock.patch("psycopg.connect", side_effect=psycopg.OperationalError("of the mock"), **more):
        with pytest.raises(sqlalchemy.exc.OperationalError, match="of the mock"):
            engine("psycopg").connect()
    with mock.patch("asyncpg.connect", side_effect=OSError("of the mock"), **more), pytest.raises(OSError, match="of the mock"):
        asyncio.run(create_async_engine(URL.replace("postgresql", "postgresql+asyncpg", 1)).connect().start())
def test_mocked_driver():
    driver = mock.MagicMock(paramstyle="pyformat", __version__="2.9.9")
    engine("psycopg2", module=driver).raw_connection()
    assert driver.connect.call_args.kwargs["dbname"] == "shop_dev"
def test_mock_that_calls_the_driver():
    with mock.patch("psycopg2.connect", wraps=psycopg2.connect), pytest.raises(pgdibs.ConnectionStopped, match="by psycopg2 "):
        engine("psycopg2").connect()
    open("done", "w").write("done")
"""


def test_mock_is_allowed_but_not_its_driver_call(project: Project, developer: DeveloperDatabase) -> None:
    project.file("test_it.py", MOCKED)
    project.environment["DEVELOPERS"] = developer.url()
    developer.assert_stopped(project.run(), "by psycopg2 opened at test_it.py:")
    assert project.text("done") == "done"
