"""What migrations do in tests: tables, indexes, types, functions, extensions, sequences, TRUNCATE."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text

from shop.database import engine, session_factory
from tests.clean_database import LeasedDatabase
from tests.shop_world import ShopWorld

# Trusted extensions: the owner of a database may create them. One use each, with what it must answer.
TRUSTED = [
    ("citext", "select 'A'::citext = 'a'::citext", True),
    ("pg_trgm", "select round(similarity('lamp', 'lamps')::numeric, 2)::text", "0.57"),
    ("hstore", "select ('a=>1'::hstore -> 'a')", "1"),
    ("pgcrypto", "select encode(digest('a', 'md5'), 'hex')", "0cc175b9c0f1b6a831c399e269772661"),
    ("fuzzystrmatch", "select levenshtein('lamp', 'lump')", 1),
    ("unaccent", "select unaccent('Öl')", "Ol"),
    ("uuid-ossp", "select uuid_nil()::text", "00000000-0000-0000-0000-000000000000"),
    ("btree_gist", "select count(*)::int from pg_opclass where opcname = 'gist_int4_ops'", 1),
    ("intarray", "select sort('{3,1,2}'::int[])", [1, 2, 3]),
    ("ltree", "select subpath('a.b.c'::ltree, 1)::text", "b.c"),
]


@pytest.fixture
def scratch(database: LeasedDatabase) -> Iterator[LeasedDatabase]:
    """A table `scratch` that is dropped afterwards."""
    database.run("create table scratch (id serial primary key, word text not null)")
    database.run("insert into scratch (word) select 'word ' || i from generate_series(1, 100) i")
    yield database
    database.run("drop table if exists scratch cascade")


@pytest.mark.parametrize(("extension", "use", "answer"), TRUSTED, ids=[row[0] for row in TRUSTED])
def test_a_trusted_extension(extension: str, use: str, answer: object, database: LeasedDatabase) -> None:
    """Created, used and dropped. A server that does not have it says so, which is not the same as "not allowed"."""
    is_there = database.value("select count(*) from pg_available_extensions where name = %s", extension)
    if not is_there:
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            database.run(f'create extension "{extension}"')
        return
    database.run(f'create extension "{extension}"')
    try:
        assert database.value(use) == answer
    finally:
        database.run(f'drop extension "{extension}"')


@pytest.mark.parametrize("extension", ["file_fdw", "pg_buffercache", "pageinspect"])
def test_an_extension_that_is_not_trusted_is_refused(extension: str, database: LeasedDatabase) -> None:
    # Refused because of who we are, or not installed on this server: created in no case.
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)):
        database.run(f"create extension {extension}")


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_table_made_by_the_test_before_is_gone(attempt: int, scratch: LeasedDatabase) -> None:
    assert scratch.value("insert into scratch (word) values ('more') returning id") == 101


@pytest.mark.parametrize(
    "statement",
    [
        "alter table scratch add column note text not null default 'none'",
        "alter table scratch alter column word type varchar(20)",
        "alter table scratch add constraint word_there check (word <> '')",
        "alter table scratch rename column word to words",
        "alter table scratch rename to scratch_renamed",
        "alter table scratch add unique (word)",
        "alter table scratch enable row level security",
        "cluster scratch using scratch_pkey",
        "comment on table scratch is 'a comment'",
        "analyze scratch",
    ],
)
def test_a_table_can_be_altered(statement: str, scratch: LeasedDatabase) -> None:
    oid = scratch.value("select 'scratch'::regclass::oid")
    scratch.run(statement)
    name = scratch.value("select relname from pg_class where oid = %s", oid)
    assert scratch.value(f"select count(*) from {name}") == 100
    scratch.run(f"drop table {name}")


@pytest.mark.parametrize("method", ["btree", "hash", "gin", "brin"])
def test_an_index_is_built_concurrently(method: str, scratch: LeasedDatabase) -> None:
    column = "to_tsvector('simple', word)" if method == "gin" else "word"
    scratch.run(f"create index concurrently scratch_by_word on scratch using {method} ({column})")
    assert scratch.value("select indisvalid from pg_index where indexrelid = 'scratch_by_word'::regclass") is True
    scratch.run("reindex index concurrently scratch_by_word")
    scratch.run("drop index concurrently scratch_by_word")


@pytest.mark.parametrize("statement", ["vacuum scratch", "vacuum (full, analyze) scratch"])
def test_a_table_can_be_vacuumed(statement: str, scratch: LeasedDatabase) -> None:
    scratch.run("delete from scratch where id <= 50")
    scratch.run(statement)
    assert scratch.value("select count(*) from scratch") == 50


async def test_ddl_through_the_engine_of_the_application(database: LeasedDatabase) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("create table made_by_engine (id int primary key)"))
        await connection.execute(text("insert into made_by_engine values (1)"))
    assert database.rows("select id from made_by_engine") == [(1,)]
    async with engine.begin() as connection:
        await connection.execute(text("drop table made_by_engine"))


async def test_ddl_that_is_rolled_back_leaves_nothing(database: LeasedDatabase) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("create table never_there (id int)"))
        await connection.rollback()
    assert database.value("select to_regclass('never_there')") is None


@pytest.mark.parametrize("attempt", [1, 2])
def test_types_and_functions(attempt: int, database: LeasedDatabase) -> None:
    database.run("create schema lab")
    database.run("create type lab.mood as enum ('sad', 'happy')")
    database.run("create domain lab.even as int check (value % 2 = 0)")
    database.run("create function lab.twice(n int) returns lab.even language sql as 'select n * 2'")
    assert database.value("select lab.twice(%s)", attempt) == 2 * attempt
    with pytest.raises(psycopg.errors.CheckViolation):
        database.run("select 3::lab.even")
    database.run("drop schema lab cascade")


def test_a_partitioned_table(database: LeasedDatabase) -> None:
    database.run("create table parts (id int) partition by range (id)")
    for start in (0, 100):
        database.run(f"create table parts_{start} partition of parts for values from ({start}) to ({start + 100})")
    database.run("insert into parts select generate_series(50, 149)")
    assert database.rows("select tableoid::regclass::text, count(*) from parts group by 1 order by 1") == [
        ("parts_0", 50),
        ("parts_100", 50),
    ]
    database.run("drop table parts")


@pytest.mark.parametrize("restart", ["restart identity", "continue identity"])
async def test_truncate_and_the_numbers_after_it(restart: str, world: ShopWorld, database: LeasedDatabase) -> None:
    for _ in range(3):
        await world.customer()
    database.run(f"truncate customers {restart} cascade")
    assert await world.customer() == (1 if restart.startswith("restart") else 4)


async def test_truncate_of_a_seeded_table_takes_everything_that_refers_to_it(
    world: ShopWorld, database: LeasedDatabase
) -> None:
    await world.order()
    database.run("truncate currencies cascade")
    for table in ("currencies", "countries", "tax_rates", "orders", "payments", "stock_items"):
        assert database.value(f"select count(*) from {table}") == 0


def test_what_was_truncated_is_back(database: LeasedDatabase) -> None:
    assert [database.value(f"select count(*) from {table}") for table in ("currencies", "countries", "tax_rates")] == [
        10,
        21,
        40,
    ]


@pytest.mark.parametrize("start", [1, 500])
def test_a_sequence_of_a_test(start: int, database: LeasedDatabase) -> None:
    database.run(f"create sequence tickets start {start} increment 5")
    assert [database.value("select nextval('tickets')") for _ in range(3)] == [start, start + 5, start + 10]
    database.run("drop sequence tickets")


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_sequence_that_was_moved_is_back(attempt: int, world: ShopWorld, database: LeasedDatabase) -> None:
    assert database.value("select nextval('order_numbers')") == 1000
    database.run("alter sequence order_numbers restart 9000")
    assert (await world.order())["number"] == "S-9000"


async def test_a_rolled_back_insert_uses_up_its_number(world: ShopWorld, database: LeasedDatabase) -> None:
    async with session_factory() as session:
        await session.execute(text("insert into tags (name) values ('gone')"))
        await session.rollback()
    assert (await world.post("/admin/tags", name="stays"))["id"] == 2


def test_advisory_locks_and_notifications_stay_in_this_database(database: LeasedDatabase) -> None:
    """Both are per database: two processes with the same key do not meet."""
    assert database.value("select pg_try_advisory_lock(4711)") is True
    database.run("listen orders")
    database.run("notify orders, 'hello'")
    (heard,) = list(database.connection.notifies(timeout=5, stop_after=1))
    assert (heard.channel, heard.payload) == ("orders", "hello")
    database.run("unlisten orders")
    assert database.value("select pg_advisory_unlock(4711)") is True


@pytest.mark.parametrize(
    "statement",
    ["drop table order_lines cascade", "drop schema public cascade", "drop table countries, tax_rates cascade"],
)
async def test_destruction_is_mended_by_a_reset(
    statement: str, database_to_destroy: LeasedDatabase, world: ShopWorld
) -> None:
    await world.order()
    database_to_destroy.run(statement)
    assert database_to_destroy.value("select to_regclass('order_lines') is null or to_regclass('countries') is null")


async def test_after_destruction_the_first_order_is_s_1000(world: ShopWorld) -> None:
    assert (await world.order())["number"] == "S-1000"
