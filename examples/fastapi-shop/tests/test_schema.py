"""The clone is what the migrations make: structure, emptiness, sequences at their start, triggers and views."""

from __future__ import annotations

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Table

from shop.models import Base
from shop.worker import Worker
from tests.clean_database import KEPT_TABLES, SEEDED_TABLES, LeasedDatabase
from tests.shop_world import ShopWorld

TABLES = sorted(Base.metadata.tables)
EMPTY_TABLES = sorted(set(TABLES) - set(SEEDED_TABLES) - set(KEPT_TABLES))


def test_there_are_as_many_tables_as_models(database: LeasedDatabase) -> None:
    found = {name for (name,) in database.rows("select tablename from pg_tables where schemaname = 'public'")}
    assert found == set(TABLES) | {"alembic_version"}


def test_the_database_is_at_the_newest_revision(database: LeasedDatabase) -> None:
    assert database.value("select version_num from alembic_version") == ScriptDirectory("alembic").get_current_head()


def test_the_migrations_make_what_the_models_say(worker: Worker) -> None:
    def is_ours(_object: object, name: str | None, _type: str, _reflected: bool, _compared: object) -> bool:
        return name != "alembic_version"

    with worker.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": is_ours})
        assert compare_metadata(context, Base.metadata) == []


@pytest.mark.parametrize("table", EMPTY_TABLES)
def test_a_table_is_empty_and_counts_from_one(table: str, database: LeasedDatabase) -> None:
    assert database.value(f"select count(*) from {table}") == 0
    assert database.rows(
        "select last_value from pg_sequences where schemaname = 'public' and sequencename = %s", f"{table}_id_seq"
    ) == [(None,)]


@pytest.mark.parametrize(("sequence", "first"), [("order_numbers", 1000), ("invoice_numbers", 1)])
@pytest.mark.parametrize("attempt", [1, 2])
def test_a_sequence_starts_at_its_start_each_time(
    sequence: str, first: int, attempt: int, database: LeasedDatabase
) -> None:
    drawn = [database.value(f"select nextval('{sequence}')") for _ in range(attempt)]
    assert drawn == list(range(first, first + attempt))


@pytest.mark.parametrize("table", [Base.metadata.tables[name] for name in TABLES], ids=lambda table: table.name)
def test_foreign_keys_are_validated_and_there(table: Table, database: LeasedDatabase) -> None:
    found = database.rows(
        "select count(*), coalesce(bool_and(convalidated), true) from pg_constraint "
        "where contype = 'f' and conrelid = %s::regclass",
        table.name,
    )
    assert found == [(len(table.foreign_key_constraints), True)]


async def test_a_trigger_moves_updated_at_and_leaves_created_at(world: ShopWorld, database: LeasedDatabase) -> None:
    product_id = await world.product()
    assert database.value("select updated_at = created_at from products") is True
    changed = await world.send("PATCH", f"/admin/products/{product_id}", {"name": "New"})
    assert changed["updated_at"] > changed["created_at"]


async def test_a_trigger_writes_down_every_status_of_an_order(world: ShopWorld, database: LeasedDatabase) -> None:
    order = await world.paid_order()
    await world.post(f"/orders/{order['id']}/ship", tracking_code="T1")
    events = [details for (details,) in database.rows("select details from order_events order by id")]
    assert events == [{"to": "placed"}, {"from": "placed", "to": "paid"}, {"from": "paid", "to": "shipped"}]


async def test_the_view_of_sales_leaves_cancelled_orders_out(world: ShopWorld) -> None:
    variant_id = await world.sellable(stock=10)
    kept, cancelled = await world.order({variant_id: 1}), await world.order({variant_id: 2})
    await world.post(f"/orders/{cancelled['id']}/cancel", reason="changed my mind")
    (day,) = await world.get("/reports/sales-by-day")
    assert (day["orders"], day["currency_code"]) == (1, "EUR")
    assert (day["total_cents"], day["tax_cents"]) == (kept["total_cents"], kept["tax_cents"])


async def test_an_order_whose_sums_do_not_add_up_cannot_be_stored(world: ShopWorld, database: LeasedDatabase) -> None:
    order = await world.order()
    with pytest.raises(psycopg.errors.CheckViolation):
        database.run("update orders set total_cents = total_cents + 1 where id = %s", order["id"])
