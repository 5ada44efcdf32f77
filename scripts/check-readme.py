"""Runs the commands of README.md and docs/getting-started.md against a daemon that their own command starts.

A fenced block marked ```sh daemon starts the daemon, in the foreground; both pages have the same one. When the daemon is ready,
the blocks marked ```sh test run in order, in one shell for each page, up to the first command that fails (a 4xx answer to curl is
a failure). `--print` only prints the test blocks of README.md.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from daemon_process import DaemonError, DaemonProcess, free_port, fresh_data_directory, is_free, postgres_programs

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/getting-started.md")
DEFAULT_PORT = 7432
BLOCKS_WITHIN_SECONDS = 300
# Passwords and build tokens of pgdibs, by their prefixes.
MADE_BY_PGDIBS = re.compile(r"pgdibs(?:pw|bt)[0-9a-f]+")
# `make run` builds first.
READY_WITHIN_SECONDS = 600.0

# Prints the command that failed.
PREAMBLE = """
trap 'echo "$page, the block at line $block: this failed: $BASH_COMMAND" >&2' ERR
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: the line of its fence, the words after the language, and its text."""

    line: int
    words: tuple[str, ...]
    text: str


def fenced_blocks(markdown: str) -> list[Block]:
    """All fenced blocks with the language sh."""
    blocks: list[Block] = []
    opened: list[str] = []
    fence: tuple[int, tuple[str, ...]] | None = None
    for number, line in enumerate(markdown.splitlines(), start=1):
        if fence is None:
            match = re.fullmatch(r"```(\S*)\s*(.*)", line)
            if match:
                fence = (number, (match[1], *match[2].split()))
                opened = []
        elif line.startswith("```"):
            if fence[1][0] == "sh":
                blocks.append(Block(fence[0], fence[1][1:], "\n".join(opened) + "\n"))
            fence = None
        else:
            opened.append(line)
    return blocks


def script_of(page: str, blocks: list[Block]) -> str:
    """One bash script of all blocks of a page, which prints its progress."""
    lines = [PREAMBLE, f"page={page}\n"]
    for block in blocks:
        lines.append(f"block={block.line}\n{block.text}")
        lines.append(f"echo '## {page}, the block at line {block.line}: ok'\n")
    return "\n".join(lines)


def run(daemon_block: Block, pages: dict[str, list[Block]], data: Path) -> int:
    """Starts the daemon with its block, runs the other blocks, and stops the daemon as Ctrl-C does."""
    port = DEFAULT_PORT if is_free(DEFAULT_PORT) else free_port()
    target = os.environ.get("CARGO_TARGET_DIR", str(REPOSITORY / "target"))
    # The program as if installed; psql last, for a machine whose only Postgres is the fetched one.
    path = f"{target}/debug:{os.environ['PATH']}:{postgres_programs()}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PGDIBS_")}
    environment["PATH"] = path
    # By default curl ignores a 4xx status.
    (data / ".curlrc").write_text("fail-with-body\n", encoding="utf-8")
    environment["CURL_HOME"] = str(data)
    environment.update(PGDIBS_LISTEN=f"127.0.0.1:{port}", PGDIBS_DATA_DIR=str(data / "data"))
    scripts = [script_of(page, blocks) for page, blocks in pages.items()]
    if port != DEFAULT_PORT:
        print(f"port {DEFAULT_PORT} is taken here; the blocks run with {port} in its place")
        scripts = [script.replace(f":{DEFAULT_PORT}", f":{port}") for script in scripts]
        environment["PGDIBS_URL"] = f"http://127.0.0.1:{port}"
    os.chdir(REPOSITORY)
    started = ["bash", "-euo", "pipefail", "-c", daemon_block.text]
    daemon = DaemonProcess(started, environment, f"http://127.0.0.1:{port}", data / "daemon.log")
    try:
        daemon.wait_until_ready(READY_WITHIN_SECONDS)
        print(f"daemon ready on port {port}, started by the block at line {daemon_block.line}", flush=True)
        status = 0
        for script in scripts:
            status = status or run_masked(["bash", "-eEuo", "pipefail", "-c", script], environment)
        if status != 0:
            print(daemon.tail(), file=sys.stderr)
        # Ctrl-C reaches the process group; make exits by that signal.
        seconds = daemon.stop(signal.SIGINT, to_group=True, accept={0, -signal.SIGINT, 128 + signal.SIGINT, 2})
        print(f"daemon stopped in {seconds:.1f} s")
        if "Error" in daemon.tail(lines=3):
            print(f"Ctrl-C left an error on the screen\n{daemon.tail(lines=5)}", file=sys.stderr)
            return 1
        return status
    finally:
        daemon.kill()


def run_masked(command: list[str], environment: dict[str, str]) -> int:
    """Runs a command and prints its output without the passwords that curl shows. Returns the exit status.

    The search for secrets at the end of a run reads this output.
    """
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    ending = threading.Timer(BLOCKS_WITHIN_SECONDS, child.kill)
    ending.start()
    try:
        for line in child.stdout or ():
            print(MADE_BY_PGDIBS.sub("********", line), end="", flush=True)
        return child.wait()
    finally:
        ending.cancel()


def main() -> int:
    """Reads the blocks, and refuses a page without blocks to run."""
    pages: dict[str, list[Block]] = {}
    daemons: list[Block] = []
    for page in PAGES:
        blocks = fenced_blocks((REPOSITORY / page).read_text(encoding="utf-8"))
        pages[page] = [block for block in blocks if "test" in block.words]
        starts = [block for block in blocks if "daemon" in block.words]
        daemons.extend(starts)
        unmarked = [block.line for block in blocks if not set(block.words) & {"test", "daemon"}]
        if not pages[page] or len(starts) != 1:
            print(
                f"{page} has {len(starts)} blocks marked ```sh daemon (one is needed) "
                f"and {len(pages[page])} marked ```sh test (at least one is needed)",
                file=sys.stderr,
            )
            return 1
        # README.md ends with `make test` itself.
        if unmarked and page != "README.md":
            print(f"{page}:{unmarked[0]}: no check runs this ```sh block; mark it test or daemon", file=sys.stderr)
            return 1
    if len({block.text for block in daemons}) != 1:
        print(f"{' and '.join(PAGES)} start the daemon differently", file=sys.stderr)
        return 1
    if sys.argv[1:] == ["--print"]:
        print("\n".join(f"  {line}".rstrip() for block in pages["README.md"] for line in block.text.splitlines()))
        return 0
    data = fresh_data_directory()
    try:
        status = run(daemons[0], pages, data)
    except (DaemonError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    if status == 0:
        print(" and ".join(f"{len(blocks)} blocks of {page}" for page, blocks in pages.items()) + " ran")
        shutil.rmtree(data)
    return status


if __name__ == "__main__":
    sys.exit(main())
