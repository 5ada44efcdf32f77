"""The page with 500 slots: how fast it is painted, and how fast a burst of 100 events is shown."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from browser import wait_for_state
from daemon_process import REPOSITORY
from playwright.sync_api import Browser, CDPSession, expect
from stage import until

# The goals on a machine that does nothing else, with a release build. Here the daemon is a debug build and other tests take both
# processors, so the best of some has to be within a multiple: a page that lays out every row again takes longer than that.
FIRST_PAINT_MS = 300
UPDATE_MS = 50
BESIDE_OTHERS = 3
TEST = "page_with_500_slots_has_a_cell_and_a_row_for_each"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The page of a daemon on a backend in memory, with 500 leases: a test of the daemon serves it."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "address"
        # Not `-p`, which would build with other features.
        command = ["cargo", "test", "-q", "--workspace", "--lib", "--locked", TEST]
        environment = {**os.environ, "PGDIBS_SERVE_PAGE": str(file)}
        output = Path(directory) / "output"
        with (
            output.open("wb") as log,
            subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log) as served,
        ):
            until("the page is served", lambda: is_written(file) or served.poll() is not None, within_seconds=900)
            assert is_written(file), output.read_text(encoding="utf-8", errors="replace")
            yield f"http://{file.read_text(encoding='utf-8')}"
            file.unlink()
            served.wait(60)
        assert served.returncode == 0, output.read_text(encoding="utf-8", errors="replace")


def is_written(file: Path) -> bool:
    """Whether a file has its text."""
    return file.exists() and file.stat().st_size > 0


def call(url: str, method: str, path: str, body: Any = None) -> Any:
    """The answer to one call."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def test_500_slots_are_painted_and_updated_in_time(url: str, browser: Browser, record_property: Any) -> None:
    paints = []
    # The best of some, because other work runs beside a test.
    for _ in range(5):
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        wait_for_state(page, "live")
        entry = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        until("the page is painted", partial(page.evaluate, entry))
        paints.append(page.evaluate(entry))
        assert page.locator(".slots .leased").count() == 500
        assert page.locator("#leases tbody tr").count() == 500
        if len(paints) < 5:
            context.close()
    leases = call(url, "GET", "/v1/leases")["leases"]
    worst, laid_out = [], []
    session = context.new_cdp_session(page)
    session.send("Performance.enable")
    for burst in range(3):
        page.evaluate("performance.clearMeasures('update')")
        before = layout_ms(session)
        # 50 leases end and 50 begin.
        for lease in leases[50 * burst : 50 * burst + 50]:
            call(url, "DELETE", f"/v1/leases/{lease['id']}")
        begun = [{"pool": "app", "run": f"burst-{burst}", "worker": f"gw{number}"} for number in range(50)]
        call(url, "POST", "/v1/leases/batch", {"leases": begun, "wait_seconds": 30})
        expect(page.locator(f"#leases td[title='burst-{burst}']")).to_have_count(50)
        worst.append(page.evaluate("Math.max(...performance.getEntriesByName('update').map((one) => one.duration))"))
        laid_out.append(layout_ms(session) - before)
        assert page.locator("#events li").count() == 50
    context.close()
    figures = (
        f"first paint {shown(paints)} ms, goal {FIRST_PAINT_MS}; a burst of 100 events: "
        f"longest update {shown(worst)} ms, all layout {shown(laid_out)} ms, goal {UPDATE_MS} together"
    )
    print(figures)
    record_property("figures", figures)
    assert min(paints) <= BESIDE_OTHERS * FIRST_PAINT_MS, figures
    assert min(one + two for one, two in zip(worst, laid_out)) <= BESIDE_OTHERS * UPDATE_MS, figures


def layout_ms(session: CDPSession) -> float:
    """How long the browser has computed styles and laid the page out since it was opened."""
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return float(1000 * (metrics["LayoutDuration"] + metrics["RecalcStyleDuration"]))


def shown(figures: list[float]) -> str:
    """The least and the most of them."""
    return f"{min(figures):.0f} to {max(figures):.0f}"
