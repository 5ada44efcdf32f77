"""The developer's own database: on a server of its own, full of rows, named by `.env`. No test may reach it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pgdibs import Client, Lease

from running import ROOT, OwnDaemon

# A worker that came here would work these jobs off, and a test would find the shop full.
ROWS = """
insert into customers (email, full_name)
select 'customer-' || n || '@shop.example', 'The developer''s customer ' || n from generate_series(1, 300) n;
insert into jobs (kind, payload)
select 'customer.welcome', jsonb_build_object('customer_id', id) from customers order by id;
"""


@dataclass(frozen=True)
class DevelopersDatabase:
    """A live database with the shop's schema, with customers in it and jobs that wait for a worker."""

    lease: Lease

    def dotenv(self) -> str:
        """The developer's `.env`."""
        of_application = self.lease.url_for("postgresql+asyncpg")
        return f"DATABASE_URL={of_application}\nTEST_DATABASE_URL={self.lease.url_for('postgresql+psycopg')}\n"

    def dump(self) -> str:
        """Everything in it, as `pg_dump` writes it."""
        lines = run([program("pg_dump"), self.lease.url]).splitlines()
        # Minor releases since August 2025 write a random key into these two.
        return "\n".join(line for line in lines if not line.startswith(("\\restrict ", "\\unrestrict ")))


@contextlib.contextmanager
def developers_database(python: str) -> Iterator[DevelopersDatabase]:
    """Start its server, which is one that a second pgdibs runs, migrate it and fill it."""
    data = Path(tempfile.mkdtemp(prefix="shop-developer-"))
    data.chmod(0o711)  # the unprivileged user that Postgres runs as passes through
    server = OwnDaemon(data)
    try:
        with Client(f"http://{server.listen}") as client:
            client.put_pool("developer", warm=0, spares=0, max=1)
            client.ensure_template("developer", "1", lambda url: fill(python, url))
            with client.lease("developer", fingerprint="1") as lease:
                yield DevelopersDatabase(lease)
    finally:
        server.stop()
        shutil.rmtree(data, ignore_errors=True)


def fill(python: str, url: str) -> None:
    """The schema, and rows."""
    run([python, "-m", "alembic", "upgrade", "head"], {**os.environ, "DATABASE_URL": url})
    run([program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", ROWS, url])


def program(name: str) -> str:
    """A program of Postgres: of the directory that the daemon is told to use, of PATH, or of Debian's packages."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
    places = [os.environ.get("PGDIBS_PG_BIN_DIR", ""), os.environ.get("PATH", ""), *map(str, debian)]
    found = shutil.which(name, path=os.pathsep.join(place for place in places if place))
    if found is None:
        raise SystemExit(f"{name} is not there; install Postgres's client programs, or set PGDIBS_PG_BIN_DIR")
    return found


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a program prints; one that fails ends this program with what it said."""
    done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{Path(command[0]).name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
