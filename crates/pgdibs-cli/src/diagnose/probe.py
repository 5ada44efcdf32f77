"""The pytest plugin that `pgdibs diagnose` loads into the command: it writes phases, imports, fixtures and tests of each process.

The program writes this file into a temporary directory, puts that on PYTHONPATH and names the module with `-p` in
PYTEST_ADDOPTS. Events go to a file of their own for each process, one JSON object a line, so that a killed process leaves what
it had seen. As a program it prints the durations of a JUnit file as JSON.
"""

from __future__ import annotations

import builtins
import contextlib
import inspect
import json
import os
import pathlib
import re
import sys
import time
from typing import Any, Optional

IMPORTED_AT = time.time()

if __name__ != "__main__":
    import pytest

OUT = os.environ.get("PGDIBS_DIAGNOSE_OUT", "")
ONLY = os.environ.get("PGDIBS_DIAGNOSE_ONLY", "")
"""A file with the ids of the tests to run, one a line; the others are deselected after the whole collection."""
FILE = os.environ.get("PGDIBS_DIAGNOSE_FILE", "")
"""One test file to collect and run in place of the arguments of the command."""
STRIDE = int(os.environ.get("PGDIBS_DIAGNOSE_STRIDE") or 1)
"""Each so many-th test comes first."""
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")

FOREIGN = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python3[^/\\]*)[/\\]")
PREPARES = re.compile(
    r"(?i)postgres|psycopg|asyncpg|database|(^|_)db(_|$)|migrat|create_all|drop_all|truncat|alembic|create_engine|sessionmaker|pgdibs"
)
"""What the name or the source of a fixture that prepares a database contains."""


def write(kind: str, **fields: Any) -> None:
    """Append an event."""
    if _out is not None:
        os.write(_out, (json.dumps({"kind": kind, **fields}) + "\n").encode())


def mark(name: str) -> None:
    """Write that a phase begins or ends now."""
    write("mark", name=name, at=time.time())


_out: Optional[int] = None
if OUT and __name__ != "__main__":
    _out = os.open(os.path.join(OUT, f"{WORKER}-{os.getpid()}.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    write(
        "process",
        worker=WORKER,
        at=IMPORTED_AT,
        python=sys.executable,
        prefix=sys.prefix,
        version=".".join(map(str, sys.version_info[:3])),
        pytest=getattr(pytest, "__version__", "?"),
    )


class Imports:
    """Times the outermost import statements of the user's own files, until collection ends."""

    def __init__(self) -> None:
        self.root = os.path.realpath(os.getcwd()) + os.sep
        self.is_inside = False
        self.seconds: dict[tuple[str, int, str], float] = {}
        self.real = builtins.__import__
        builtins.__import__ = self.imported

    def imported(self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        """Import, and add the seconds to the line that asked for it."""
        if self.is_inside:
            return self.real(name, globals, locals, fromlist, level)
        frame = sys._getframe(1)
        file = frame.f_code.co_filename
        if not file.startswith(self.root) or FOREIGN.search(file[len(self.root) - 1 :]):
            return self.real(name, globals, locals, fromlist, level)
        line = frame.f_lineno
        self.is_inside = True
        begun = time.perf_counter()
        try:
            return self.real(name, globals, locals, fromlist, level)
        finally:
            self.is_inside = False
            what = "." * level + name
            # `from app import models` imports the module app.models.
            if fromlist and len(fromlist) == 1 and fromlist[0] != "*" and what + "." + fromlist[0] in sys.modules:
                what = what + "." + fromlist[0]
            key = (file[len(self.root) :], line, what)
            self.seconds[key] = self.seconds.get(key, 0.0) + time.perf_counter() - begun

    def end(self) -> None:
        """Restore the builtin and write the lines that took at least a millisecond."""
        builtins.__import__ = self.real
        for (file, line, what), seconds in self.seconds.items():
            if seconds >= 0.001:
                write("import", file=file, line=line, what=what, seconds=seconds)
        self.seconds = {}


_imports = Imports() if OUT and __name__ != "__main__" else None


if __name__ != "__main__":

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_load_initial_conftests(early_config: pytest.Config) -> Any:
        """Time the first conftests."""
        if _imports is not None and hasattr(early_config, "rootpath"):
            _imports.root = os.path.realpath(str(early_config.rootpath)) + os.sep
        time_conftests(early_config.pluginmanager)
        mark("conftest_begin")
        yield
        mark("conftest_end")

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(config: pytest.Config) -> None:
        """Keep the command from writing into the user's tree and from asking a terminal."""
        option = config.option
        for name in ("usepdb", "trace"):
            if getattr(option, name, False):
                setattr(option, name, False)
        for name in ("xmlpath", "log_file", "htmlpath", "json_report_file", "report_log", "allure_report_dir"):
            if getattr(option, name, None):
                setattr(option, name, os.path.join(OUT, name))
        if getattr(option, "basetemp", None):
            option.basetemp = None
        write("options", **options_of(config))
        write("splits", splits=getattr(option, "splits", None), group=getattr(option, "group", None))
        for name in ("splits", "group", "store_durations"):
            if getattr(option, name, None):
                setattr(option, name, None)
        coverage = config.pluginmanager.getplugin("_cov")
        reports = getattr(getattr(coverage, "options", None), "cov_report", None)
        if isinstance(reports, dict):
            for kind in reports:
                if kind in ("xml", "html", "json", "lcov", "annotate", "markdown", "markdown-append"):
                    reports[kind] = os.path.join(OUT, "coverage-" + kind)
        if FILE:
            config.args = [FILE]

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_collection() -> Any:
        """Time the collection."""
        mark("collection_begin")
        yield

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
        """Write the tests; deselect those that this run does not need."""
        if config.option.collectonly:
            write("items", ids=[item.nodeid for item in items])
        if STRIDE > 1:
            items[:] = items[::STRIDE] + [item for number, item in enumerate(items) if number % STRIDE]
        if ONLY:
            with open(ONLY, encoding="utf-8") as file:
                wanted = set(file.read().split("\n"))
            deselected = [item for item in items if item.nodeid not in wanted]
            items[:] = [item for item in items if item.nodeid in wanted]
            if deselected:
                config.hook.pytest_deselected(items=deselected)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish() -> None:
        """The end of the start-up of a process that runs tests."""
        mark("collection_end")
        if _imports is not None:
            _imports.end()
        if OUT:
            write("compiled", **compiled())

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_xdist_setupnodes() -> None:
        """The controller starts its workers."""
        mark("workers_begin")

    _current = {"session": 0.0, "file": 0.0}
    _stack: list[float] = []
    _kinds: dict[int, bool] = {}

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(item: pytest.Item) -> Any:
        """Time a test; what the fixtures of its session and its file took is told apart, because other tests share it."""
        _current["session"] = _current["file"] = 0.0
        begun = time.time()
        yield
        ended = time.time()
        write("test", id=item.nodeid, begun=begun, ended=ended, session=_current["session"], file=_current["file"])

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Any:
        """Time a fixture without those that it asks for."""
        begun = time.perf_counter()
        _stack.append(0.0)
        yield
        took(fixturedef, time.perf_counter() - begun)

    def took(fixturedef: pytest.FixtureDef[Any], seconds: float) -> None:
        """Count the set-up or the teardown of a fixture, without those within it."""
        own = seconds - _stack.pop()
        if _stack:
            _stack[-1] += seconds
        scope = str(fixturedef.scope)
        if scope == "session":
            _current["session"] += own
        elif scope != "function":
            _current["file"] += own
        if own >= 0.0005:
            write("fixture", name=fixturedef.argname, scope=scope, seconds=own, database=prepares_database(fixturedef))

    def time_teardowns() -> None:
        """Time the teardown of fixtures, for which pytest has no hook. Without this private class the tests count it."""
        try:
            from _pytest.fixtures import FixtureDef

            real = FixtureDef.finish
        except (ImportError, AttributeError):
            return

        def finish(self: Any, request: Any) -> Any:
            # pytest also calls it for fixtures that were not set up.
            if getattr(self, "cached_result", None) is None:
                return real(self, request)
            begun = time.perf_counter()
            _stack.append(0.0)
            try:
                return real(self, request)
            finally:
                took(self, time.perf_counter() - begun)

        FixtureDef.finish = finish  # type: ignore[method-assign]

    if OUT:
        time_teardowns()

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(session: pytest.Session) -> Any:
        """Write what the plugin of pgdibs took, and the memory."""
        mark("finish_begin")
        databases = sys.modules.get("pgdibs.plugin.databases")
        if databases is not None:
            # The command's own pgdibs may be another version.
            with contextlib.suppress(AttributeError):
                leased = session.config.stash.get(databases.databases_key, None)
                if leased is not None and leased.leases:
                    write("databases", seconds=sum(leased.waits))
        try:
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            write("memory", bytes=peak if sys.platform == "darwin" else peak * 1024)
        except ImportError:
            pass
        yield
        mark("finish_end")


def time_conftests(manager: Any) -> None:
    """Time each conftest, by file. The method is private to pytest; without it the files are not told apart."""
    real = getattr(manager, "_importconftest", None)
    if real is None or getattr(real, "is_timed", False):
        return

    def timed(path: Any, *args: Any, **kwargs: Any) -> Any:
        known = len(manager._conftest_plugins) if hasattr(manager, "_conftest_plugins") else None
        begun = time.perf_counter()
        try:
            return real(path, *args, **kwargs)
        finally:
            if known is None or len(manager._conftest_plugins) > known:
                write("conftest", file=str(path), seconds=time.perf_counter() - begun)

    timed.is_timed = True  # type: ignore[attr-defined]
    manager._importconftest = timed


def options_of(config: pytest.Config) -> dict[str, Any]:
    """What the layout of the run follows from, wherever it is set: arguments, addopts, PYTEST_ADDOPTS, ini."""
    option, manager = config.option, config.pluginmanager

    def version(distribution: str) -> Optional[str]:
        try:
            from importlib.metadata import version as installed

            return installed(distribution)
        except Exception:
            return None

    try:
        pool = config.getini("pgdibs_pool") or os.environ.get("PGDIBS_POOL") or getattr(option, "pgdibs_pool", None)
        url = config.getini("pgdibs_url") or getattr(option, "pgdibs_url", None)
    except (ValueError, KeyError):
        pool = url = None
    coverage = getattr(option, "cov_source", None)
    return {
        "root": str(config.rootpath),
        "workers": getattr(option, "numprocesses", None),
        "dist": getattr(option, "dist", None),
        "chunk": getattr(option, "maxschedchunk", None),
        "scope_order": getattr(option, "loadscopereorder", True),
        "xdist": version("pytest-xdist") if manager.hasplugin("xdist") else None,
        "coverage": version("pytest-cov") if coverage and not getattr(option, "no_cov", False) else None,
        "can_cover": manager.hasplugin("pytest_cov"),
        "pgdibs": manager.hasplugin("pgdibs") or manager.hasplugin("pgdibs.pytest_plugin"),
        "pool": pool,
        "url": url,
    }


def compiled() -> dict[str, int]:
    """How many modules have been imported from source, and how many of these have no compiled file: each run compiles them."""
    try:
        from _pytest.assertion import rewrite
    except ImportError:
        rewrite = None  # type: ignore[assignment]
    all_modules = missing = 0
    for module in list(sys.modules.values()):
        file, cached = getattr(module, "__file__", None), getattr(module, "__cached__", None)
        if not isinstance(file, str) or not file.endswith(".py") or "pgdibs-diagnose-" in file:
            continue
        if rewrite is not None and isinstance(getattr(module, "__loader__", None), rewrite.AssertionRewritingHook):
            with contextlib.suppress(AttributeError, TypeError):
                cached = str(rewrite.get_cache_dir(pathlib.Path(file)) / (pathlib.Path(file).name[:-3] + rewrite.PYC_TAIL))
        all_modules += 1
        missing += cached is None or not os.path.exists(cached)
    return {"modules": all_modules, "missing": missing}


def prepares_database(fixturedef: pytest.FixtureDef[Any]) -> bool:
    """Whether the name, the source or a requested fixture of a fixture says that it prepares a database."""
    known = _kinds.get(id(fixturedef))
    if known is None:
        text = " ".join((fixturedef.argname, *fixturedef.argnames))
        with contextlib.suppress(OSError, TypeError):
            text += "\n" + inspect.getsource(fixturedef.func)
        known = _kinds[id(fixturedef)] = PREPARES.search(text) is not None
    return known


def print_junit(path: str) -> None:
    """Print the seconds of each test of a JUnit file, by class name and name."""
    import xml.etree.ElementTree as ElementTree

    found: dict[str, float] = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        key = f"{case.get('classname', '')}::{case.get('name', '')}"
        found[key] = found.get(key, 0.0) + float(case.get("time") or 0.0)
    print(json.dumps(found))


if __name__ == "__main__":
    print_junit(sys.argv[1])
