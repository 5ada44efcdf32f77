"""The parts of `make check`, `make test` and `make test-all`; to add one, add an entry to PARTS.

Parts of one lane run one after another, in this order; the two lanes run beside each other: `main` holds what compiles and
what keeps the processors busy, `side` what is short or waits much; what is in `last` runs when both have ended, however they
ended.
A part waits for the parts it `needs`, and fails when one of them failed.
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
# Each of the others takes half a minute or more; `make test-all` runs all of them.
SHORT_SUITES = ("--only", "short")
KILLED_OFTEN = ("--only", "killed with a process at work", "--repeat", "5")
# What takes long, or needs a server of its own for a moment and there are others like it: `make test-all` runs them.
LONG_RUST_TESTS = "|".join(
    (
        "^conformance::createdb_",
        # The same with a daemon that is no superuser.
        "_createrole$",
        # Once more against a whole daemon; the tests beside the code hold the same.
        "^fence::(session_that_cannot_be_ended|full_lock_table|tenant_keeps_no_session)",
        "^faults::long::",
        "^killed_",
        "_for_ten_seconds$",
        "^arithmetic::max_connections_and_disk_limit",
        "^bad_input::hostile_requests_do_not_harm",
        "^copies::",
        "^passing_time::",
        "^adopting::(a_server_that_nobody_adopts|an_adopting_daemon|a_connected_daemon|ctrl_c|sigterm_to)",
        "dumps_on_postgres::",
    )
)
LAST = "last"
SUPPORTED_MAJORS = ("14", "15", "16", "17", "18")


@dataclass(frozen=True)
class Part:
    """One named step: a command, where its counts come from, and the sets it belongs to."""

    name: str
    command: tuple[str, ...]
    sets: frozenset[str]
    lane: str = "main"
    needs: tuple[str, ...] = ()
    # A JUnit file below the target directory, written again by the command; it must hold at least one test.
    junit: Optional[str] = None
    # Whether the output holds pytest's closing lines; there must be at least one with a test passed.
    pytest: bool = False
    timeout_seconds: float = 600.0
    # Where it runs, below the repository.
    directory: str = "."
    # `{repository}` and `{path}` (the PATH of the run) are filled in.
    environment: dict[str, str] = field(default_factory=dict)


PARTS: tuple[Part, ...] = (
    Part("tidy", ("python3", "scripts/tidy.py"), CHECK, lane="side"),
    Part("python environment", ("scripts/python-environment.sh",), CHECK, lane="side"),
    Part("python checks", ("scripts/python-checks.sh",), CHECK, lane="side", needs=("python environment",)),
    Part("shell checks", ("scripts/shell-checks.sh",), CHECK, lane="side", needs=("python environment",)),
    Part(
        "script tests",
        (".venv/bin/python", "-m", "pytest", "-q", "scripts/tests"),
        CHECK,
        lane="side",
        needs=("python environment",),
        pytest=True,
    ),
    Part("words", ("python3", "scripts/words.py"), CHECK, lane="side"),
    Part("import circles", ("python3", "scripts/import-circles.py"), CHECK, lane="side"),
    Part("crate arrows", ("python3", "scripts/crate-arrows.py"), CHECK, lane="side"),
    Part("SQL guards apply", ("python3", "scripts/sql-guards.py", "--check"), CHECK, lane="side"),
    Part("cargo-deny", ("scripts/dependency-rules.sh",), TEST, lane="side"),
    Part("postgres 15", ("scripts/fetch-postgres.sh", "15"), TEST_ONLY, lane="side"),
    Part("postgres 14 to 18", ("scripts/try-postgres.sh", *SUPPORTED_MAJORS), ALL_ONLY, lane="side"),
    Part("rust format", ("cargo", "fmt", "--all", "--check"), CHECK),
    Part(
        "clippy",
        ("cargo", "clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"),
        CHECK,
    ),
    Part("rust build", ("cargo", "build", "--workspace", "--all-targets", "--locked"), TEST, timeout_seconds=1200),
    # The conformance suite runs under two kinds of rights: here as superuser on 15, in `make test-all` under both on each major.
    # More would take longer than the twelve minutes that `make test` has; so would the random kills, a part of the soak, and
    # what takes minutes.
    Part(
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
        # A part of what `make test-all` does; `make soak` goes on for longer.
        environment={"SOAK_MINUTES": "0.3", "PGDIBS_SCENARIOS": "700"},
    ),
    Part(
        "rust tests on 14 to 18",
        ("scripts/rust-tests.sh", *SUPPORTED_MAJORS, "--", "-E", "not test(/^faults::long::/)"),
        ALL_ONLY,
        needs=("rust build", "postgres 14 to 18"),
        junit=NEXTEST_JUNIT,
        timeout_seconds=2400,
    ),
    Part(
        "faults, each of them",
        ("scripts/fault-tests.sh",),
        ALL_ONLY,
        needs=("rust build", "postgres 14 to 18"),
        junit=NEXTEST_JUNIT,
        timeout_seconds=3600,
    ),
    Part(
        "example: fastapi-shop",
        # From the root, where no pgdibs.toml makes the daemon build the template: here the tests do.
        ("python3", "scripts/with-daemon.py", "python", "examples/fastapi-shop/run_suites.py", *SHORT_SUITES),
        TEST_ONLY,
        lane="side",
        needs=("rust build", "python environment"),
        pytest=True,
        timeout_seconds=1200,
        environment={"PATH": "{repository}/.venv/bin:{path}"},
    ),
    Part(
        "example: fastapi-shop, every suite",
        ("python3", "scripts/with-daemon.py", "python", "examples/fastapi-shop/run_suites.py"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
        timeout_seconds=1800,
        environment={"PATH": "{repository}/.venv/bin:{path}"},
    ),
    Part(
        "example: fastapi-shop, killed five times",
        ("python3", "scripts/with-daemon.py", "python", "examples/fastapi-shop/run_suites.py", *KILLED_OFTEN),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
        timeout_seconds=900,
        environment={"PATH": "{repository}/.venv/bin:{path}"},
    ),
    Part(
        "python client",
        (".venv/bin/python", "-m", "pytest", "-q", "-n", "3", "clients/python/tests/client"),
        TEST,
        lane="side",
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Part(
        "python wheel",
        (".venv/bin/python", "-m", "pytest", "-q", "clients/python/tests/wheel"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Part(
        "pytest plugin",
        (".venv/bin/python", "-m", "pytest", "-q", "-n", "3", "-m", "not long", "clients/python/tests/plugin"),
        TEST_ONLY,
        lane="side",
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Part(
        "pytest plugin, every test",
        (".venv/bin/python", "-m", "pytest", "-q", "-n", "3", "clients/python/tests/plugin"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Part(
        "pytest plugin on pytest 7 to 9",
        ("scripts/pytest-versions.sh", "7.4.4", "8.4.2", "9.0.0"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
        timeout_seconds=1800,
    ),
    Part(
        "connection guard on SQLAlchemy 1.4",
        ("scripts/sqlalchemy-1.4.sh",),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Part(
        "django plugin",
        (".venv/bin/python", "-m", "pytest", "-q", "-n", "3", "-m", "not long", "clients/python/tests/django"),
        TEST_ONLY,
        lane="side",
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Part(
        "django plugin, every test",
        (".venv/bin/python", "-m", "pytest", "-q", "-n", "3", "clients/python/tests/django"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
    ),
    Part(
        "example: django-library",
        ("python3", "scripts/with-daemon.py", "python", "examples/django-library/run_suites.py", "--only", "short"),
        TEST_ONLY,
        lane="side",
        needs=("rust build", "python environment"),
        pytest=True,
        environment={"PATH": "{repository}/.venv/bin:{path}"},
    ),
    Part(
        "example: django-library, every suite",
        ("python3", "scripts/with-daemon.py", "python", "examples/django-library/run_suites.py", "--own-daemon"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
        timeout_seconds=1800,
        environment={"PATH": "{repository}/.venv/bin:{path}"},
    ),
    # The daemon reads pgdibs.toml of its working directory.
    Part(
        "example: template built by the daemon",
        (*WITH_DAEMON, "python", "run_suites.py", "--only", "one"),
        ALL_ONLY,
        needs=("rust build", "python environment"),
        pytest=True,
        directory="examples/fastapi-shop",
        environment={"PATH": "{repository}/.venv/bin:{path}", "SHOP_TEMPLATE": "daemon"},
    ),
    # In the lane of the Rust tests, because `make run` builds a daemon without failpoints into their place.
    Part(
        "README's commands",
        ("python3", "scripts/check-readme.py"),
        TEST,
        needs=("rust build", "python environment"),
        timeout_seconds=900,
    ),
    Part(
        "HTTP API by schemathesis",
        ("scripts/contract-test.sh", "--seconds", "10"),
        TEST_ONLY,
        lane="side",
        needs=("rust build",),
    ),
    Part(
        "HTTP API by schemathesis, 10,000 requests",
        ("scripts/contract-test.sh", "--requests", "10000"),
        ALL_ONLY,
        needs=("rust build",),
        timeout_seconds=2400,
    ),
    Part("SQL guards", ("python3", "scripts/sql-guards.py"), ALL_ONLY, needs=("rust build",), timeout_seconds=4800),
    Part("Node and Go snippets", ("scripts/try-snippets.sh",), ALL_ONLY, needs=("rust build",)),
    Part("deploy's files", ("scripts/deploy-checks.sh",), ALL_ONLY, needs=("python environment",)),
    Part("benchmark", ("scripts/bench.sh",), ALL_ONLY, timeout_seconds=2400),
    Part("secrets in what the tests left", ("python3", "scripts/find-secrets.py"), TEST, lane=LAST),
)
