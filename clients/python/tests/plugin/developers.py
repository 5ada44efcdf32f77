"""A developer's own Postgres: a live server with a database full of rows that no test may change."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import psycopg
from projects import Daemon, Project, Ran, eventually, free_port, postgres_programs

PASSWORD = "hushhush-of-the-developer"
ROWS = 200
FAST = ("-c", "fsync=off", "-c", "max_connections=200")
WRITES = "insert into notes (body) select 'of a test ' || n from generate_series(1, 10) n"


class Server:
    """A Postgres server on a port of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self._programs = postgres_programs()
        self._directory = Path(tempfile.mkdtemp(prefix="pgdibs-developer-", dir="/tmp"))
        if os.getuid() == 0:
            shutil.chown(self._directory, "postgres")
        data = str(self._directory / "data")
        self.run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self._process = subprocess.Popen(
            [
                f"{self._programs}/postgres",
                "-D",
                data,
                "-p",
                str(self.port),
                "-k",
                self.socket_directory,
                "-h",
                "127.0.0.1",
                *FAST,
            ],
            user="postgres" if os.getuid() == 0 else None,
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self.is_ready)

    def run(self, program: str, *arguments: str) -> str:
        """Run one of Postgres' own programs, unprivileged; its output."""
        done = subprocess.run(
            [f"{self._programs}/{program}", *arguments],
            user="postgres" if os.getuid() == 0 else None,
            cwd=self._directory,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    def is_ready(self) -> bool:
        """Whether it takes connections."""
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str, scheme: str = "postgresql") -> str:
        """The URL of one of its databases, with a password."""
        return f"{scheme}://postgres:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    @property
    def socket_directory(self) -> str:
        """Where its Unix socket is."""
        return str(self._directory)

    def stop(self) -> None:
        """Stop it and delete its data."""
        self._process.terminate()
        self._process.wait(30)
        shutil.rmtree(self._directory)


class DeveloperDatabase:
    """The developer's own database, and proof that nothing has changed it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.name = f"shop_dev_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {self.name}")
        with psycopg.connect(self.url()) as connection:
            connection.execute("create table notes (id int generated always as identity primary key, body text)")
            connection.execute("insert into notes (body) select 'work of ' || n from generate_series(1, %s) n", [ROWS])
        self._before = self.dump()
        assert self._before.count("work of ") == ROWS

    def url(self, scheme: str = "postgresql") -> str:
        """Its URL."""
        return self.server.url(self.name, scheme)

    @property
    def place(self) -> str:
        """How an error names it."""
        return f"database {self.name} on 127.0.0.1:{self.server.port}"

    def dump(self) -> str:
        """All of it, by pg_dump; the random key that newer ones print is left out."""
        there = ["-h", self.server.socket_directory, "-p", str(self.server.port), "-U", "postgres"]
        dump = self.server.run("pg_dump", *there, self.name)
        return re.sub(r"^\\(un)?restrict .*$", "", dump, flags=re.MULTILINE)

    def assert_untouched(self) -> None:
        """Byte for byte what it was."""
        assert self.dump() == self._before

    def assert_written(self) -> None:
        """A test has written: what happens without the guard."""
        assert self.dump() != self._before

    def drop(self) -> None:
        """Remove it."""
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as connection:
            connection.execute(f"drop database {self.name} with (force)")

    def assert_stopped(self, ran: Ran, *sentences: str) -> str:
        """The run ended with one sentence about this database, which is untouched. Returns the sentence."""
        error = self.assert_ended(ran, *sentences)
        assert self.place in error
        return error

    def assert_ended(self, ran: Ran, *sentences: str) -> str:
        """The run ended with one sentence about a stopped connection, and this database is untouched. Returns the sentence."""
        self.assert_untouched()
        assert ran.status == 4, ran.output
        assert len(ran.errors) == 1, ran.output
        (error,) = ran.errors
        assert error.startswith("ERROR: pgdibs: stopped a connection by "), error
        for sentence in sentences:
            assert sentence in error
        assert PASSWORD not in ran.output
        assert "INTERNALERROR" not in ran.output
        assert "Traceback (most recent call last)" not in ran.output
        return error


def without_guard(project: Project, database: DeveloperDatabase, *arguments: str) -> Ran:
    """The same run with the guard off: it reaches the developer's database, so the test of the guard can fail."""
    ran = project.run("--pgdibs-guard=off", *arguments)
    database.assert_written()
    return ran


__all__ = ["Daemon", "DeveloperDatabase", "Server", "without_guard"]
