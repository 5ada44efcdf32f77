"""The back office's tables through the API. Keys are exact: the first row of a clean database is row 1."""

from __future__ import annotations

import httpx
import pytest

from shop.api.tables import CRUD_PATHS, READ_PATHS
from tests.clean_database import LeasedDatabase
from tests.samples import SAMPLES, Sample
from tests.shop_world import ShopWorld

each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.table)
CONSTRAINED = [sample for sample in SAMPLES if sample.refused]


def test_every_table_of_the_back_office_is_tested() -> None:
    seeded = {"/admin/currencies", "/admin/countries", "/admin/tax-rates"}
    assert {sample.path for sample in SAMPLES} | seeded == set(CRUD_PATHS)


@each_sample
async def test_the_first_row_is_number_one_and_committed(
    sample: Sample, world: ShopWorld, database: LeasedDatabase
) -> None:
    body = await sample.body(world)
    made = await world.post(sample.path, **body)
    assert made["id"] == 1
    assert {name: made[name] for name in body} == body
    assert await world.get(f"{sample.path}/1") == made
    assert database.rows(f"select id from {sample.table}") == [(1,)]


@each_sample
async def test_pages_are_in_order_and_know_the_total(sample: Sample, world: ShopWorld) -> None:
    for _ in range(3):
        await world.post(sample.path, **await sample.body(world))
    response = await world.client.get(sample.path, params={"limit": 2, "offset": 1})
    assert [row["id"] for row in response.json()] == [2, 3]
    assert response.headers["X-Total-Count"] == "3"


@each_sample
async def test_a_change_is_committed_and_touches_nothing_else(
    sample: Sample, world: ShopWorld, database: LeasedDatabase
) -> None:
    made = await world.post(sample.path, **await sample.body(world))
    changed = await world.send("PATCH", f"{sample.path}/1", sample.change)
    assert {name: changed[name] for name in sample.change} == sample.change
    untouched = set(made) - set(sample.change) - {"updated_at"}
    assert {name: changed[name] for name in untouched} == {name: made[name] for name in untouched}
    for name, value in sample.change.items():
        assert database.value(f"select {name} from {sample.table} where id = 1") == value


@each_sample
async def test_a_deleted_row_is_gone_and_its_number_is_not_used_again(
    sample: Sample, world: ShopWorld, database: LeasedDatabase
) -> None:
    await world.post(sample.path, **await sample.body(world))
    await world.send("DELETE", f"{sample.path}/1")
    assert database.value(f"select count(*) from {sample.table}") == 0
    assert (await world.refused("GET", f"{sample.path}/1")).status == 404
    assert (await world.post(sample.path, **await sample.body(world)))["id"] == 2


@each_sample
async def test_a_field_that_is_no_column_is_refused(sample: Sample, world: ShopWorld, database: LeasedDatabase) -> None:
    refusal = await world.refused("POST", sample.path, **await sample.body(world), no_such_column=1)
    assert refusal.status == 422
    assert "no_such_column" in refusal.detail
    assert database.value(f"select count(*) from {sample.table}") == 0


@pytest.mark.parametrize("sample", CONSTRAINED, ids=lambda sample: sample.table)
async def test_the_database_refuses_what_the_constraints_forbid(
    sample: Sample, world: ShopWorld, database: LeasedDatabase
) -> None:
    body = await sample.body(world)
    if sample.sqlstate == "23505":
        # One row takes the value, in lower case: the e-mail address is unique whatever its case.
        taken = {name: value.lower() for name, value in sample.refused.items()}
        await world.post(sample.path, **(body | taken))
        body = await sample.body(world)
    rows_before = database.value(f"select count(*) from {sample.table}")
    response = await world.client.post(sample.path, json=body | sample.refused)
    assert response.json()["sqlstate"] == sample.sqlstate
    assert response.status_code == (422 if sample.sqlstate == "23514" else 409)
    assert database.value(f"select count(*) from {sample.table}") == rows_before


@pytest.mark.parametrize("path", READ_PATHS)
async def test_what_only_the_shop_writes_can_only_be_read(path: str, client: httpx.AsyncClient) -> None:
    assert (await client.get(path)).json() == []
    assert (await client.post(path, json={})).status_code == 405
    assert (await client.get(f"{path}/1")).status_code == 404


@pytest.mark.parametrize("path", [*CRUD_PATHS, *READ_PATHS])
@pytest.mark.parametrize("query", ["limit=0", "offset=-1"])
async def test_a_page_out_of_range_is_refused(path: str, query: str, client: httpx.AsyncClient) -> None:
    response = await client.get(f"{path}?{query}")
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", query.split("=")[0]]


class TestSeededTables:
    """Tests may change what the migrations have seeded; the next test finds it as it was."""

    @pytest.mark.parametrize(("path", "total"), [("currencies", 10), ("countries", 21), ("tax-rates", 40)])
    async def test_the_seed_is_there(self, path: str, total: int, client: httpx.AsyncClient) -> None:
        response = await client.get(f"/admin/{path}", params={"limit": 1})
        assert response.headers["X-Total-Count"] == str(total)

    @pytest.mark.parametrize(
        ("country", "category", "rate"), [("DE", "standard", 1900), ("DE", "reduced", 700), ("FI", "standard", 2550)]
    )
    def test_tax_rates_are_those_of_the_migration(
        self, country: str, category: str, rate: int, database: LeasedDatabase
    ) -> None:
        found = database.value(
            "select rate_basis_points from tax_rates where country_code = %s and category = %s", country, category
        )
        assert found == rate

    @pytest.mark.parametrize("attempt", [1, 2])
    async def test_the_next_tax_rate_is_number_41(self, attempt: int, world: ShopWorld) -> None:
        made = await world.post("/admin/tax-rates", country_code="DE", category="zero", rate_basis_points=attempt)
        assert made["id"] == 41

    @pytest.mark.parametrize("attempt", [1, 2])
    async def test_a_new_currency_is_new_each_time(self, attempt: int, world: ShopWorld) -> None:
        made = await world.post("/admin/currencies", code="ISK", name=f"Krona {attempt}", exponent=0)
        assert made["code"] == "ISK"
        await world.post("/admin/countries", code="IS", name="Iceland", currency_code="ISK")
        assert (await world.get("/admin/countries/IS"))["is_eu_member"] is False

    @pytest.mark.parametrize("attempt", [1, 2])
    async def test_a_renamed_country_has_its_name_back(self, attempt: int, world: ShopWorld) -> None:
        assert (await world.get("/admin/countries/CZ"))["name"] == "Czechia"
        renamed = await world.send("PATCH", "/admin/countries/CZ", {"name": f"Bohemia {attempt}"})
        assert renamed["name"] == f"Bohemia {attempt}"

    @pytest.mark.parametrize("attempt", [1, 2])
    async def test_a_deleted_tax_rate_is_back(self, attempt: int, world: ShopWorld, database: LeasedDatabase) -> None:
        await world.send("DELETE", f"/admin/tax-rates/{attempt}")
        assert database.value("select count(*) from tax_rates") == 39

    async def test_a_currency_in_use_is_kept(self, world: ShopWorld) -> None:
        assert (await world.refused("DELETE", "/admin/currencies/EUR")).status == 409

    @pytest.mark.parametrize("rate", [-1, 10001])
    async def test_a_rate_out_of_range_is_refused(self, rate: int, world: ShopWorld) -> None:
        refusal = await world.refused(
            "POST", "/admin/tax-rates", country_code="DE", category="zero", rate_basis_points=rate
        )
        assert refusal.status == 422
