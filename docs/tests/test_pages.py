"""Runs the commands of the pages, as a reader would: README.md, docs/getting-started.md, docs/node.md, docs/go.md.

A block ```sh daemon starts the daemon, in the foreground. The blocks ```sh test run in order, in one shell for each page, up to
the first command that fails (a 4xx answer to curl is a failure). Another block with a name, as ```js test.js, is a file.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from daemon_process import REPOSITORY, DaemonProcess, TemporaryDaemon, free_port, fresh_data_directory, postgres_programs, program

BLOCK = re.compile(r"^```(\S+) ?(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
DEFAULT_PORT = 7432
# The daemon's own command builds it first.
READY_WITHIN_SECONDS = 600.0
BLOCKS_WITHIN_SECONDS = 300.0
# Passwords and build tokens of pgdibs, which the search for secrets would find in the log of this test.
MADE_BY_PGDIBS = re.compile(r"pgdibs(?:pw|bt)[0-9a-f]+")


def blocks(page: str) -> list[tuple[str, str, str]]:
    """The language, the word after it, and the text of each fenced block."""
    return BLOCK.findall((REPOSITORY / page).read_text(encoding="utf-8"))


def run_tests(page: str, environment: Mapping[str, str], directory: Path, port: int = DEFAULT_PORT) -> str:
    """Runs the blocks ```sh test of a page, and returns the output, which has each command; a failure shows it."""
    texts = [text for language, word, text in blocks(page) if (language, word) == ("sh", "test")]
    assert texts, f"{page} has no block ```sh test"
    script = "\n".join(texts).replace(f":{DEFAULT_PORT}", f":{port}")
    ran = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BLOCKS_WITHIN_SECONDS,
        check=False,
    )
    # Not `ran` in the assertion: pytest would show all of it.
    status, output = ran.returncode, MADE_BY_PGDIBS.sub("********", ran.stdout)
    assert status == 0, f"{page} ended with {status}:\n{output}"
    return ran.stdout


@pytest.mark.parametrize("page", ["README.md", "docs/getting-started.md"])
def test_page_with_daemon(page: str) -> None:
    starts = [text for language, word, text in blocks(page) if (language, word) == ("sh", "daemon")]
    assert len(starts) == 1, f"{page} has {len(starts)} blocks ```sh daemon, one is needed"
    unmarked = [text for language, word, text in blocks(page) if language == "sh" and word not in ("test", "daemon")]
    assert page == "README.md" or not unmarked, f"no test runs this block of {page}; mark it test or daemon:\n{unmarked[0]}"
    port, data = free_port(), fresh_data_directory()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PGDIBS_")}
    # By default curl ignores a 4xx status.
    (data / ".curlrc").write_text("fail-with-body\n", encoding="utf-8")
    environment.update(CURL_HOME=str(data), PGDIBS_LISTEN=f"127.0.0.1:{port}", PGDIBS_DATA_DIR=str(data / "data"))
    # The program as if installed; psql last, for a machine whose only Postgres is the fetched one.
    environment["PATH"] = f"{Path(program()).parent}:{os.environ['PATH']}:{postgres_programs()}"
    url = f"http://127.0.0.1:{port}"
    daemon = DaemonProcess(["bash", "-euo", "pipefail", "-c", starts[0]], environment, url, data / "daemon.log")
    try:
        daemon.wait_until_ready(READY_WITHIN_SECONDS)
        run_tests(page, {**environment, "PGDIBS_URL": url}, REPOSITORY, port)
        # Ctrl-C: make and bash end by that signal.
        daemon.stop(signal.SIGINT, accept={0, 2, -signal.SIGINT, 128 + signal.SIGINT})
        assert "Error" not in "\n".join(daemon.tail().splitlines()[-3:]), daemon.tail()
    finally:
        daemon.kill()
    shutil.rmtree(data)


@pytest.fixture
def variables() -> Iterator[dict[str, str]]:
    """The environment of this process, and what leads a client to a daemon."""
    daemon = TemporaryDaemon()
    yield {**os.environ, **daemon.variables}
    daemon.stop()
    shutil.rmtree(daemon.data)


@pytest.mark.long
@pytest.mark.parametrize("page", ["docs/node.md", "docs/go.md"])
def test_page_with_files(page: str, tmp_path: Path, variables: dict[str, str]) -> None:
    # Go without modules, because the module proxy may be unreachable; Debian has the sources of the driver.
    directory = tmp_path / "go/src/shop"
    variables.update(GO111MODULE="off", GOPATH=f"{tmp_path}/go:/usr/share/gocode", GOFLAGS="", PGSSLMODE="disable")
    variables.update(GOCACHE=str(tmp_path / "cache"), HOME=str(tmp_path))
    directory.mkdir(parents=True)
    files = {word: text for language, word, text in blocks(page) if word and language != "sh"}
    assert files, f"{page} has no block with the name of a file"
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    output = run_tests(page, variables, directory)
    # Public trackers: brianc/node-postgres#2762, #2509 (an uncaught 57P01 ends the process, and prints the client).
    is_leaked = MADE_BY_PGDIBS.search(output) is not None
    assert not is_leaked, MADE_BY_PGDIBS.sub("********", output)
