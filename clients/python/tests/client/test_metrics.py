"""`GET /metrics` of a real daemon: the format, the rules of `promtool check metrics`, and the dashboard and alerts on it."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from pathlib import Path
from typing import Any

import promql_parser
import psycopg
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from support import Daemon, eventually, make_schema

import pgdibs
from pgdibs import errors

REPOSITORY = Path(__file__).resolve().parents[4]
UNITS = ("seconds", "bytes")
# Each label, and the most values that it may have; those of None are bounded by the pools of the server.
LABELS: dict[str, int | None] = {
    "pool": None,
    "database": None,
    "version": 1,
    "instance": 1,
    "state": 11,
    "kind": 20,
    "result": 4,
    "reason": 3,
    "route": 40,
    "method": 5,
    "code": 30,
    "le": 26,
}
# What a metric is about, and what to do when it is high.
ADVICE = re.compile(r"\b([Ww]hen|Near)\b.+|`disk_floor_mb` sets it")


def scraped(daemon: Daemon) -> dict[str, Metric]:
    """The families of the page, by name. The parser refuses what OpenMetrics does not allow."""
    with urllib.request.urlopen(f"{daemon.url}/metrics") as answer:
        assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        text = answer.read().decode()
    families: list[Metric] = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    return {family.name: family for family in families}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    """The sum of the samples of this name with these labels."""
    found = [one for family in families.values() for one in family.samples if one.name == sample]
    return sum(one.value for one in found if labels.items() <= one.labels.items())


def used(client: pgdibs.Client, daemon: Daemon, pool: str) -> None:
    """Leases of every kind and end: at once, after a wait, reset, released, expired, of a run that ends; a failing request."""
    client.put_pool(pool, warm=1, spares=1, max=1)
    client.ensure_template(pool, "v1", make_schema)
    eventually(lambda: value(scraped(daemon), "pgdibs_databases", pool=pool, state="ready") == 1)
    first = client.lease(pool, run="r", worker="gw0")
    first.reset()
    waiter = threading.Thread(target=lambda: client.lease(pool, run="r", worker="gw1", wait_seconds=60, heartbeat=False))
    waiter.start()
    eventually(lambda: value(scraped(daemon), "pgdibs_waiting", pool=pool) == 1)
    first.release()
    waiter.join()
    client.call("DELETE", "/v1/runs/r")
    short = client.lease(pool, ttl_seconds=1, heartbeat=False)
    with psycopg.connect(short.url) as session:
        # The session keeps the lease beyond its time to live.
        session.execute("select pg_sleep(1.2)")
        client.call("POST", f"/v1/leases/{short.id}/renew", {"ttl_seconds": 1})
    assert value(scraped(daemon), "pgdibs_late_renewals_total") == 1
    eventually(lambda: value(scraped(daemon), "pgdibs_lease_ends_total", reason="expired") == 1)
    with pytest.raises(errors.LeaseEnded):
        client.call("POST", f"/v1/leases/{short.id}/renew", {"ttl_seconds": 1})
    with pytest.raises(errors.PoolNotFound):
        client.call("GET", "/v1/pools/unknown")
    # The template of another pool is built after the first snapshot, its database dropped with the pool.
    eventually(lambda: value(scraped(daemon), "pgdibs_drop_seconds_count") > 0)


def family_name(name: str, family: Metric) -> str:
    """The name in queries."""
    return f"{name}_total" if family.type == "counter" else name


def names_in(expression: str) -> set[str]:
    """The metrics of an expression, which must be one of Prometheus."""
    if not expression.startswith("label_values("):
        promql_parser.parse(expression.replace("$__rate_interval", "5m"))
    return set(re.findall(r"\bpgdibs_[a-z_]+", expression))


def expressions() -> dict[str, list[str]]:
    """The expressions of the dashboard and of the alerts, by file."""
    dashboard = json.loads((REPOSITORY / "deploy/grafana/pgdibs.json").read_text())
    panels: list[dict[str, Any]] = dashboard["panels"]
    alerts = YAML(typ="safe").load(REPOSITORY / "deploy/prometheus/alerts.yml")
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    variables = [variable["definition"] for variable in dashboard["templating"]["list"] if "definition" in variable]
    assert len({panel["id"] for panel in panels}) == len(panels) and len({rule["alert"] for rule in rules}) == len(rules)
    assert all(rule["annotations"].keys() == {"summary", "description"} and rule["for"] for rule in rules)
    return {
        "dashboard": [target["expr"] for panel in panels for target in panel["targets"]] + variables,
        "alerts": [rule["expr"] for rule in rules],
    }


def test_metrics_follow_the_rules_and_dashboard_and_alerts_name_existing_ones(
    client: pgdibs.Client, daemon: Daemon, empty_pool: str
) -> None:
    used(client, daemon, empty_pool)
    families = scraped(daemon)
    samples = [sample for family in families.values() for sample in family.samples]
    assert value(families, "pgdibs_grants_total", pool=empty_pool, kind="warm") >= 1
    assert value(families, "pgdibs_grants_total", pool=empty_pool, kind="waited") >= 1
    assert value(families, "pgdibs_lease_ends_total", reason="released") >= 2
    assert value(families, "pgdibs_late_renewals_total") == 1
    for histogram in ("wait", "hold", "reset", "build"):
        assert value(families, f"pgdibs_{histogram}_seconds_count", pool=empty_pool) >= 1, histogram
    for histogram in ("clone", "drop", "swap"):
        assert value(families, f"pgdibs_{histogram}_seconds_count") >= 1, histogram
    assert 0.9 < value(families, "pgdibs_hold_seconds_sum", pool=empty_pool) < 120

    for name, family in families.items():
        assert re.fullmatch(r"pgdibs_[a-z_]+", name) and family.type in ("counter", "gauge", "histogram"), family
        assert ADVICE.search(family.documentation), f"the help of {name} does not say what to do: {family.documentation}"
        unit = name.rsplit("_", 1)[1] if name.endswith(UNITS) else ""
        assert family.unit == unit, family
        assert not re.search(r"milli|micro|_ms\b|kilo|mega|minutes|hours|_total$|_(count|sum|bucket)$", name), name
        if family.type == "counter":
            assert {sample.name for sample in family.samples} <= {f"{name}_total"}, family
    for label, most in LABELS.items():
        values = {sample.labels[label] for sample in samples if label in sample.labels}
        assert most is None or len(values) <= most, (label, values)
    assert {label for sample in samples for label in sample.labels} <= LABELS.keys()
    openapi = client.call("GET", "/openapi.json")
    routes = {sample.labels["route"] for sample in samples if "route" in sample.labels}
    assert routes <= {*openapi["paths"], "/openapi.json", "none"}, routes

    page = (REPOSITORY / "docs/metrics.md").read_text()
    assert [name for name, family in families.items() if f"`{family_name(name, family)}`" not in page] == []
    there = {sample.name for sample in samples}
    for file, found in expressions().items():
        assert len(found) > 5
        for expression in found:
            assert names_in(expression) and names_in(expression) <= there, (file, expression, names_in(expression) - there)
            labels = set(re.findall(r"[{,]\s*([a-z_]+)\s*[=!]~?\"", expression))
            assert labels <= {*LABELS}, (file, expression)
