"""The compose stack: up, used from outside and inside, its containers killed, frozen and stopped, and down again."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import time
from pathlib import Path

import suites
from docker import BUILD_SECONDS, REPOSITORY, HealthWatch, docker, inspect, listening, pid_of, published, until
from transcript import Failed, Transcript, check

from pgdibs import Client, PgdibsError
from pgdibs.errors import LeaseNotFound

PROJECT = "pgdibs-trial"
DAEMON, SERVER = f"{PROJECT}-pgdibs-1", f"{PROJECT}-postgres-1"
STOPPED_SECONDS = 8.0
# Between its end and its restart Docker calls a container unhealthy for a moment, which is not always seen.
AS_KILLED = ("healthy → starting → healthy", "healthy → unhealthy → starting → healthy")


class Stack:
    """The stack of docker-compose.yml under ports and a token of its own."""

    def __init__(self, transcript: Transcript, bases: dict[str, str], work: Path, ports: tuple[int, int]) -> None:
        self.transcript = transcript
        self.token = secrets.token_hex(24)
        self.daemon_port, self.server_port = ports
        self.url = f"http://localhost:{self.daemon_port}"
        self.client = Client(self.url, self.token)
        self.migrations = work / "migrations"
        shutil.copytree(REPOSITORY / "deploy/compose/migrations", self.migrations)
        example = (REPOSITORY / ".env.example").read_text().splitlines()
        given = {
            "PGDIBS_TOKEN": self.token,
            "PGDIBS_PORT": str(self.daemon_port),
            "POSTGRES_PORT": str(self.server_port),
            "MIGRATIONS": str(self.migrations),
        }
        # The file as it is to be copied, with other values: a variable that is not in it would not be one for users.
        lines = [
            f"{name}={given.pop(name, value)}" for name, _, value in (line.partition("=") for line in example if "=" in line)
        ]
        check(not given, f".env.example does not name {', '.join(given)}")
        self.variables = work / "env"
        self.variables.write_text("\n".join([*lines, *(f"{name}={image}" for name, image in bases.items())]) + "\n")

    def compose(self, *arguments: str, within: float = 300.0, ok: bool = True) -> str:
        """`docker compose …`."""
        return docker("compose", "--project-name", PROJECT, "--env-file", str(self.variables), *arguments, within=within, ok=ok)

    def start(self) -> None:
        """The README's line; what listens now that did not before; what the containers may do."""
        before = published()
        started = time.monotonic()
        self.compose("up", "--build", "--wait", within=BUILD_SECONDS)
        self.transcript.add(f"     docker compose up --build --wait: {time.monotonic() - started:.1f} s")
        meant = {f"127.0.0.1:{self.daemon_port}", f"127.0.0.1:{self.server_port}"}
        check(published() - before == meant, f"Docker listens on {published() - before}, and {meant} is meant")
        inside = {DAEMON: ("pgdibs", "7432"), SERVER: ("postgres", "5432")}
        for name, (program, port) in inside.items():
            ports = {where.rsplit(":", 1)[1] for where in listening(pid_of(name, program))}
            check(ports == {port}, f"{name} listens on {ports}, and {port} is meant")
        self.transcript.add(f"     listens: {' and '.join(sorted(meant))}; in the containers 7432 and 5432; nothing else")
        process = Path(f"/proc/{pid_of(DAEMON, 'pgdibs')}/status").read_text().split("\n")
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in process)}
        check(status["Uid"].split()[0] == "65532", f"the daemon runs as {status['Uid']}")
        check(int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1", f"the daemon has rights: {status}")
        root = next(
            line
            for line in Path(f"/proc/{pid_of(DAEMON, 'pgdibs')}/mountinfo").read_text().splitlines()
            if line.split()[4] == "/"
        )
        check(root.split()[5].startswith("ro"), f"the daemon's root file system can be written: {root}")
        self.transcript.add("     the daemon: user 65532, no capability, no new privileges, read-only root file system")

    def follow_migrations(self) -> None:
        """The pool of deploy/compose/pgdibs.toml; its template follows the mounted directory."""
        columns = self.columns()
        check(columns == ["id", "body", "written_at"], f"the table has {columns}")
        started = time.monotonic()
        (self.migrations / "0002_author.sql").write_text("alter table notes add column author text;\n")
        columns = self.columns()
        check("author" in columns, f"after the change of a migration the table has {columns}")
        self.transcript.add(f"     a migration was added; the next lease has it, {time.monotonic() - started:.1f} s later")

    def columns(self) -> list[str]:
        """Of the table `notes`, in a fresh lease, asked over the published port."""
        import psycopg

        with self.client.lease("app_test") as lease, psycopg.connect(lease.url) as connection:
            check((lease.host, lease.port) == ("localhost", self.server_port), f"the lease names {lease.host}:{lease.port}")
            rows = connection.execute(
                "select column_name from information_schema.columns where table_name = 'notes' order by ordinal_position"
            )
            return [str(row[0]) for row in rows]

    def suite_outside(self) -> None:
        """Four workers on this machine."""
        self.transcript.add(f"     on this machine, pytest -n 4: {suites.passes(self.url, self.token, '-n', '4')}")

    def suite_inside(self) -> None:
        """The profile `test`: four workers in a container of the network."""
        output = self.compose("run", "--rm", "--build", "tests", within=BUILD_SECONDS)
        line = suites.last_line(output)
        check("failed" not in line and "error" not in line, output[-3000:])
        self.transcript.add(f"     in the network, profile test: {line}")

    def kill_the_daemon(self) -> None:
        """In the middle of a run; it comes back by its restart policy, and the run does not notice."""
        watch, count = HealthWatch(DAEMON), int(inspect(DAEMON)["RestartCount"])

        def kill() -> None:
            os.kill(pid_of(DAEMON, "pgdibs"), signal.SIGKILL)
            until("the daemon's container was restarted", lambda: int(inspect(DAEMON)["RestartCount"]) == count + 1)
            watch.until("healthy")

        line = suites.passes(self.url, self.token, "-n", "4", disturb=kill)
        check(watch.shown() in AS_KILLED, f"the daemon's health went {watch.seen}")
        self.transcript.add(f"     the daemon killed in the middle ({watch.shown()}): {line}")

    def kill_the_server(self) -> None:
        """In the middle of a run: all databases are gone with it. The run fails and says so; the next one passes."""
        watch, daemon, count = HealthWatch(SERVER), HealthWatch(DAEMON), int(inspect(SERVER)["RestartCount"])
        suite = suites.Suite(self.url, self.token, "-n", "4")
        suite.in_the_middle()
        os.kill(int(inspect(SERVER)["State"]["Pid"]), signal.SIGKILL)
        seen = self.until_ready_again()
        until("the server's container was restarted", lambda: int(inspect(SERVER)["RestartCount"]) == count + 1)
        watch.until("healthy")
        code = suite.end()
        check(code != 0, "the suite passed although its databases were gone")
        check(watch.shown() in AS_KILLED, f"the server's health went {watch.seen}")
        check(daemon.shown() == "healthy", f"the daemon's health went {daemon.seen}: it lives whether or not its server does")
        answers = " → ".join(seen)
        self.transcript.add(
            f"     Postgres killed in the middle ({watch.shown()}; /readyz {answers}; the daemon {daemon.shown()})"
        )
        self.transcript.add(f"     that run ended with {code}, as it has to: {suites.last_line(suite.output())}")
        self.transcript.add(f"     the next run, on the same stack: {suites.passes(self.url, self.token, '-n', '4')}")
        check("author" in self.columns(), "the daemon's own template was not built again")

    def until_ready_again(self) -> list[str]:
        """The answers of `/readyz`, each once when it changes, from not ready to ready."""
        seen: list[str] = []

        def is_ready() -> bool:
            try:
                status = str(self.client.ask("GET", "/readyz").status)
            except PgdibsError:
                status = "none"
            if not seen or seen[-1] != status:
                seen.append(status)
            return "503" in seen and status == "200"

        until(f"/readyz goes from 503 to 200 (seen: {seen})", is_ready)
        return seen

    def freeze_the_daemon(self) -> None:
        """A process that hangs is unhealthy; when it goes on, it is healthy, and its leases are live."""
        watch = HealthWatch(DAEMON)
        with self.client.lease("app_test") as lease:
            pid = pid_of(DAEMON, "pgdibs")
            os.kill(pid, signal.SIGSTOP)
            watch.until("unhealthy")
            os.kill(pid, signal.SIGCONT)
            watch.until("healthy")
            lease.renew()
        check(watch.shown() == "healthy → unhealthy → healthy", f"the daemon's health went {watch.seen}")
        self.transcript.add(f"     the daemon stopped by SIGSTOP: {watch.shown()}; its lease went on")

    def restart(self) -> None:
        """In order: SIGTERM, exit code 0 in time, leases that live on; then Postgres, which forgets."""
        with self.client.lease("app_test") as lease:
            started = time.monotonic()
            self.compose("stop", "pgdibs")
            took, state = time.monotonic() - started, inspect(DAEMON)["State"]
            check(state["ExitCode"] == 0 and took < STOPPED_SECONDS, f"it ended with {state['ExitCode']} after {took:.1f} s")
            self.compose("up", "--wait", "pgdibs")
            lease.renew()
            self.transcript.add(f"     docker compose stop pgdibs: {took:.1f} s, exit code 0; up again: the lease is live")
            self.compose("restart", "postgres")
            self.until_ready_again()
            try:
                lease.renew()
                raise Failed("a lease outlived the databases of its server")
            except LeaseNotFound as error:
                self.transcript.add(
                    f"     docker compose restart postgres: the lease is over ({error}); the stack is ready again"
                )
        check("author" in self.columns(), "the pool was not made again")

    def down(self) -> None:
        """Nothing of it is left."""
        self.compose("--profile", "test", "down", "--timeout", "10")
        label = f"label=com.docker.compose.project={PROJECT}"
        left = [
            docker(kind, "ls", *more, "--quiet", "--filter", label)
            for kind, *more in (["container", "--all"], ["network"], ["volume"])
        ]
        anonymous = docker("volume", "ls", "--quiet", "--filter", "dangling=true")
        check(not any(left) and not anonymous, f"left behind: {left} {anonymous}")
        self.transcript.add("     docker compose down: no container, network or volume is left")

    def logs(self) -> str:
        """The last lines of both, for a failure."""
        return self.compose("logs", "--tail", "40", ok=False)


def run(stack: Stack) -> None:
    """All of it, in order."""
    transcript = stack.transcript
    with transcript.part("the compose stack"):
        stack.start()
        stack.follow_migrations()
        stack.suite_outside()
        stack.suite_inside()
    with transcript.part("its containers killed, frozen, stopped and restarted"):
        stack.kill_the_daemon()
        stack.kill_the_server()
        stack.freeze_the_daemon()
        stack.restart()
    with transcript.part("down"):
        stack.down()
