"""The tasks of `make check`, `make test` and `make test-all`; to add one, add an entry to TASKS.

The tasks of a job run one after another, in this order. Two jobs run in parallel: `main` has the tasks that compile or keep the
processors busy, `side` the tasks that are short or mostly wait. The tasks of `last` run when both jobs have ended, failed or not.
A task waits for the tasks that it `needs`, and fails if one of them failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

CHECK = frozenset({"check", "test", "test-all"})
TEST = frozenset({"test", "test-all"})
TEST_ONLY = frozenset({"test"})
ALL_ONLY = frozenset({"test-all"})

NEXTEST_JUNIT = "nextest/default/junit.xml"
WITH_DAEMON = ("python3", "../../scripts/with-daemon.py")
# Each of the other suites takes half a minute or more; `make test-all` runs them all.
SHORT_SUITES = ("--only", "short")
KILLED_OFTEN = ("--only", "killed with a process at work", "--repeat", "5")
# Slow tests, and tests that are similar to others and need a server of their own; `make test-all` runs them.
LONG_RUST_TESTS = "|".join(
    (
        "^conformance::createdb_",
        # The same tests with a daemon that is no superuser.
        "_createrole$",
        # Against a complete daemon; unit tests cover the same rules.
        "^fence::(session_that_cannot_be_ended|full_lock_table|tenant_keeps_no_session)",
        "^faults::long::",
        "^killed_",
        "_for_ten_seconds$",
        "^arithmetic::max_connections_and_disk_limit",
        "^bad_input::hostile_requests_do_not_harm",
        "^copies::",
        "^passing_time::",
        "^adopting::(adopting_daemon|ctrl_c|server_outlives_linger|supervisor_stops)",
        "dumps_on_postgres::",
    )
)
LAST = "last"
SUPPORTED_MAJORS = ("14", "15", "16", "17", "18")


@dataclass(frozen=True)
class Task:
    """A named command, the source of its counts, and the sets that it belongs to."""

    name: str
    command: tuple[str, ...]
    sets: frozenset[str]
    job: str = "main"
    needs: tuple[str, ...] = ()
    # A JUnit file below the target directory, which the command writes; it must have at least one test.
    junit: Optional[str] = None
    # Whether the output has closing lines of pytest; at least one test must pass.
    pytest: bool = False
    timeout_seconds: float = 600.0
    # The working directory, below the repository.
    directory: str = "."
    # `{repository}` and `{path}` (the PATH of the run) are placeholders.
    environment: dict[str, str] = field(default_factory=dict)


TASKS: tuple[Task, ...] = (
    Task("lint", ("python3", "scripts/lint.py"), CHECK, job="side"),
    Task("python environment", ("scripts/python-environment.sh",), CHECK, job="side"),
    Task("python checks", ("scripts/python-checks.sh",), CHECK, job="side", needs=("python environment",)),
    Task("shell checks", ("scripts/shell-checks.sh",), CHECK, job="side", needs=("python environment",)),
    Task(
        "script tests",
        (".venv/bin/python", "-m", "pytest", "-q", "scripts/tests"),
        CHECK,
        job="side",
        needs=("python environment",),
        pytest=True,
    ),
    Task("words", ("python3", "scripts/words.py"), CHECK, job="side"),
    Task("import circles", ("python3", "scripts/import-circles.py"), CHECK, job="side"),
    Task("crate arrows", ("python3", "scripts/crate-arrows.py"), CHECK, job="side"),
    Task("SQL guards apply", ("python3", "scripts/sql-guards.py", "--check"), CHECK, job="side"),
    Task("cargo-deny", ("scripts/dependency-rules.sh",), TEST, job="side"),
    Task("postgres 15", ("scripts/fetch-postgres.sh", "15"), TEST_ONLY, job="side"),
    Task("postgres 14 to 18", ("scripts/try-postgres.sh", *SUPPORTED_MAJORS), ALL_ONLY, job="side"),
    Task("rust format", ("cargo", "fmt", "--all", "--check"), CHECK),
    Task(
        "clippy",
        ("cargo", "clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"),
        CHECK,
    ),
    Task("rust build", ("cargo", "build", "--workspace", "--all-targets", "--locked"), TEST, timeout_seconds=1200),
    # The conformance suite runs here as superuser on 15, and in `make test-all` with both kinds of rights on each major. All of
    # it, with the random kills, the soak and the slowest tests, would take `make test` more than twelve minutes.
    Task(
        "rust tests on 15",
        (
            "scripts/rust-tests.sh",
            "15",
            "--",
            "-E",
            f"not test(/{LONG_RUST_TESTS}/)",
        ),
        TEST_ONLY,
        needs=("rust build", "postgres 15"),
        junit=NEXTEST_JUNIT,
        timeout_seconds=900,
        # Less than in `make test-all`; `make soak` runs longer.
        environment={"SOAK_MINUTES": "0.3", "PGDIBS_SCENARIOS": "700"},
    ),
    Task(
        "rust tests on 14 to 18",
        ("scripts/rust-tests.sh", *SUPPORTED_MAJORS, "--", "-E", "not test(/^faults::long::/)"),
        ALL_ONLY,
        needs=("rust build", "postgres 14 to 18"),
        junit=NEXTEST_JUNIT,
        timeout_seconds=2400,
    ),
    Task(
        "faults, each of them",
        ("scripts/fault-tests.sh",),
        ALL_ONLY,
        needs=("rust build", "postgres 14 to 18"),
        junit=NEXTEST_JUNIT,
        timeout_seconds=3600,
    ),
    Task(
        "example: fastapi-shop",
        # From the root, which has no pgdibs.toml, so the tests build the template and not the daemon.
        ("python3", "scripts/with-daemon.py", "python", "examples/fastapi-shop/run_suites.py", *SHORT_SUITES),
        TEST_ONLY,
        job="side",
        needs=("rust build", "python environment"),
        pytest=True,
        timeout_seconds=1200,
        environment={"PATH": "{repository}/.venv/bin:{path}"},
    ),
    Task(
        "example: fastapi-shop, every suite",
        ("python3", "scripts/with-daemon.py", "python", "examples/fastapi-shop/run_suites.py"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
        timeout_seconds=1800,
        environment={"PATH": "{repository}/.venv/bin:{path}"},
    ),
    Task(
        "example: fastapi-shop, killed five times",
        ("python3", "scripts/with-daemon.py", "python", "examples/fastapi-shop/run_suites.py", *KILLED_OFTEN),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
        timeout_seconds=900,
        environment={"PATH": "{repository}/.venv/bin:{path}"},
    ),
    Task(
        "python client",
        (".venv/bin/python", "-m", "pytest", "-q", "-n", "3", "clients/python/tests/client"),
        TEST,
        job="side",
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Task(
        "python wheel",
        (".venv/bin/python", "-m", "pytest", "-q", "clients/python/tests/wheel"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Task(
        "pytest plugin",
        (".venv/bin/python", "-m", "pytest", "-q", "-n", "3", "-m", "not long", "clients/python/tests/plugin"),
        TEST_ONLY,
        job="side",
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Task(
        "pytest plugin, every test",
        (".venv/bin/python", "-m", "pytest", "-q", "-n", "3", "clients/python/tests/plugin"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Task(
        "pytest plugin on pytest 7 to 9",
        ("scripts/pytest-versions.sh", "7.4.4", "8.4.2", "9.0.0"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
        timeout_seconds=1800,
    ),
    Task(
        "connection guard on SQLAlchemy 1.4",
        ("scripts/sqlalchemy-1.4.sh",),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Task(
        "django plugin",
        (".venv/bin/python", "-m", "pytest", "-q", "-n", "3", "-m", "not long", "clients/python/tests/django"),
        TEST_ONLY,
        job="side",
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Task(
        "django plugin, every test",
        (".venv/bin/python", "-m", "pytest", "-q", "-n", "3", "clients/python/tests/django"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Task(
        "example: django-library",
        ("python3", "scripts/with-daemon.py", "python", "examples/django-library/run_suites.py", "--only", "short"),
        TEST_ONLY,
        job="side",
        needs=("rust build", "python environment"),
        pytest=True,
        environment={"PATH": "{repository}/.venv/bin:{path}"},
    ),
    Task(
        "example: django-library, every suite",
        ("python3", "scripts/with-daemon.py", "python", "examples/django-library/run_suites.py", "--own-daemon"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
        timeout_seconds=1800,
        environment={"PATH": "{repository}/.venv/bin:{path}"},
    ),
    # The daemon reads pgdibs.toml of its working directory.
    Task(
        "example: template built by the daemon",
        (*WITH_DAEMON, "python", "run_suites.py", "--only", "one"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
        directory="examples/fastapi-shop",
        environment={"PATH": "{repository}/.venv/bin:{path}", "SHOP_TEMPLATE": "daemon"},
    ),
    # In the job of the Rust tests, because `make run` replaces their daemon by one without failpoints.
    Task(
        "README's commands",
        ("python3", "scripts/check-readme.py"),
        TEST,
        needs=("rust build", "python environment"),
        timeout_seconds=900,
    ),
    Task(
        "HTTP API by schemathesis",
        ("scripts/contract-test.sh", "--seconds", "10"),
        TEST_ONLY,
        job="side",
        needs=("rust build",),
    ),
    Task(
        "HTTP API by schemathesis, 10,000 requests",
        ("scripts/contract-test.sh", "--requests", "10000"),
        ALL_ONLY,
        needs=("rust build",),
        timeout_seconds=2400,
    ),
    Task("SQL guards", ("python3", "scripts/sql-guards.py"), ALL_ONLY, needs=("rust build",), timeout_seconds=4800),
    Task("Node and Go snippets", ("scripts/try-snippets.sh",), ALL_ONLY, needs=("rust build",)),
    Task("deploy's files", ("scripts/deploy-checks.sh",), ALL_ONLY, needs=("python environment",)),
    Task("benchmark", ("scripts/bench.sh",), ALL_ONLY, timeout_seconds=2400),
    Task("secrets in what the tests left", ("python3", "scripts/find-secrets.py"), TEST, job=LAST),
)
