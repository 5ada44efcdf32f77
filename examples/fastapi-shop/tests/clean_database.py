"""Back to what the clone was like when it was leased, between the tests of one process.

A test commits, truncates and draws from sequences as it likes. Afterwards `restore` empties what it filled, puts the
seeded rows back and restarts the sequences: a few milliseconds, because most tests touch few tables. What no `truncate`
can mend (dropped tables, for one) a test mends with `Lease.reset`, which is a new clone.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg
from pgdibs import Lease

SEEDED_TABLES = ("currencies", "countries", "tax_rates")
KEPT_TABLES = ("alembic_version", "session_witnesses")

PREPARE = """
create schema seed;
create table seed.currencies as table public.currencies;
create table seed.countries as table public.countries;
create table seed.tax_rates as table public.tax_rates;
create table seed.sequences as select sequencename as name, last_value from pg_sequences where schemaname = 'public';
create table seed.relations as
    select relname as name, relkind from pg_class where relnamespace = 'public'::regnamespace;
create table seed.extensions as select extname as name from pg_extension;

create function seed.restore() returns void language plpgsql as $$
declare
    this text;
    has_rows boolean;
    filled text[] := '{}';
    is_seed_changed boolean := false;
begin
    for this in
        select r.name from seed.relations r where r.relkind = 'r'
        and r.name not in ('alembic_version', 'session_witnesses', 'currencies', 'countries', 'tax_rates')
    loop
        execute format('select exists (select from public.%I)', this) into has_rows;
        if has_rows then filled := filled || format('public.%I', this); end if;
    end loop;
    foreach this in array array['currencies', 'countries', 'tax_rates'] loop
        execute format(
            'select exists ((table public.%1$I except all table seed.%1$I) union all '
            '(table seed.%1$I except all table public.%1$I))', this) into has_rows;
        is_seed_changed := is_seed_changed or has_rows;
    end loop;
    if is_seed_changed then
        filled := filled || array['public.currencies', 'public.countries', 'public.tax_rates'];
    end if;
    if filled <> '{}' then
        execute 'truncate ' || array_to_string(filled, ', ') || ' restart identity cascade';
    end if;
    if is_seed_changed then
        insert into public.currencies table seed.currencies;
        insert into public.countries table seed.countries;
        insert into public.tax_rates overriding system value table seed.tax_rates;
    end if;
    for this in
        select s.name from seed.sequences s join pg_sequences p on p.sequencename = s.name
        where p.schemaname = 'public' and p.last_value is distinct from s.last_value
        and s.name <> 'session_witnesses_id_seq'
    loop
        execute format('alter sequence public.%I restart', this);
        perform setval(format('public.%I', this)::regclass, s.last_value)
        from seed.sequences s where s.name = this and s.last_value is not null;
    end loop;
    if exists (select from public.product_ratings) then refresh materialized view public.product_ratings; end if;
end $$;
"""

STRANGERS = """
(select 'gone or renamed: ' || name from seed.relations where name not in (
    select relname from pg_class where relnamespace = 'public'::regnamespace))
union all
(select 'left behind: ' || relname from pg_class where relnamespace = 'public'::regnamespace
    and relname not in (select name from seed.relations))
union all
(select 'extension left behind: ' || extname from pg_extension where extname not in (select name from seed.extensions))
union all
(select 'row of ' || run from session_witnesses order by id offset 1)
"""


class LeasedDatabase:
    """A connection of the tests' own: what it sees was committed by the application or the worker."""

    def __init__(self, lease: Lease, run: str, worker: str) -> None:
        self._lease = lease
        self._witness = (run, worker)
        self.connection = self._connect()
        self._prepare()

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        deadline = time.monotonic() + 10
        while True:
            try:
                return psycopg.connect(self._lease.url, autocommit=True)
            except psycopg.OperationalError:
                # Just after a reset the name is missing or closed (3D000, 55000) for some milliseconds; a failed
                # connection has no SQLSTATE in psycopg, so any failure is tried again until the deadline.
                if time.monotonic() > deadline:
                    raise
                # The pause between two looks, not a wait for the outcome: that one is bounded by the deadline.
                time.sleep(0.005)

    def _prepare(self) -> None:
        """Nobody has been here before us: the witnesses' table of the template is empty, and so must ours be."""
        earlier = self.rows("select run, worker, generation from session_witnesses")
        if earlier:
            raise AssertionError(f"{self._lease.database} was handed out before, to {earlier}")
        run, worker = self._witness
        self.connection.execute(
            "insert into session_witnesses (run, worker, generation) values (%s, %s, %s)",
            (run, worker, self._lease.generation),
        )
        self.connection.execute(PREPARE)

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.connection.execute(statement.encode(), parameters or None).fetchall()

    def value(self, statement: str, *parameters: Any) -> Any:
        """The first column of the only row of a query."""
        ((value, *_),) = self.rows(statement, *parameters)
        return value

    def run(self, statement: str, *parameters: Any) -> None:
        """A statement without rows, committed at once."""
        self.connection.execute(statement.encode(), parameters or None)

    def restore(self) -> None:
        """See the head of this file. A test that leaves tables or extensions behind fails here, by name."""
        self.connection.execute("select seed.restore()")
        strangers = [stranger for (stranger,) in self.rows(STRANGERS)]
        if strangers:
            for stranger in strangers:
                self._drop(stranger)
            raise AssertionError(f"the test did not clean up: {', '.join(sorted(strangers))}")

    def _drop(self, stranger: str) -> None:
        what, _, name = stranger.partition(": ")
        if what == "extension left behind":
            self.run(f'drop extension if exists "{name}" cascade')
        elif what == "left behind" and self.value("select to_regclass(%s)::text", f'public."{name}"') is not None:
            kind = self.value("select relkind::text from pg_class where oid = to_regclass(%s)", f'public."{name}"')
            words = {"r": "table", "i": "index", "S": "sequence", "v": "view", "m": "materialized view"}
            self.run(f'drop {words[kind]} if exists public."{name}" cascade')

    def reset(self) -> None:
        """A new clone under the same name, as clean as the first."""
        self.connection.close()
        self._lease.reset()
        self.connection = self._connect()
        self._prepare()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
