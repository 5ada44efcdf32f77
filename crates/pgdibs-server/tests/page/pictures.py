"""Takes the pictures of the page in docs/pictures: `make page-pictures`, about two minutes. Two runs are shown; one waits."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

from browser import chromium, open_page, visitor
from stage import Stage

PICTURES = Path(__file__).resolve().parents[4] / "docs/pictures"
LOG = """psql:migrations/0042_orders.sql:12: ERROR:  column "custmer_id" of relation "orders" does not exist
LINE 1: alter table orders add foreign key (custmer_id) references ...
                                            ^
HINT:  Perhaps you meant to reference the column "orders.customer_id"."""
WORK_SECONDS = 110
# The theme, and the size of the window.
SHOTS = {
    "page-light.png": ("light", 1360, 900),
    "page-dark.png": ("dark", 1360, 900),
    "page-phone.png": ("light", 400, 860),
}


def populate(stage: Stage) -> None:
    """Two pools, two runs with four workers each, a kept database and a failed build."""
    stage.call("PUT", "/v1/pools/shop_test", {"warm": 2, "max": 8, "spares": 1})
    stage.call("PUT", "/v1/pools/billing_test", {"warm": 3, "max": 24, "spares": 1})
    stage.build("shop_test", "7be2c41f09aa5d3e", "ci-7/controller")
    stage.build("billing_test", "c81d0a4471f2", "ada@laptop, alembic upgrade head")
    stage.fail("billing_test", "d09c55e1b7a3", "ci-9/controller", LOG)
    first = stage.lease("shop_test", run="warm-up", worker="gw0", holder="ci-6/pid 3107/gw0")
    stage.keep(first, "test_refund_of_partial_order failed")
    for number in range(4):
        stage.lease("shop_test", run="7f3c2a", worker=f"gw{number}", holder=f"ci-7/pid 4312/gw{number}")
    for number in range(4):
        stage.lease("shop_test", run="b1f09e", worker=f"gw{number}", holder=f"ci-9/pid 977/gw{number}")
    stage.lease("billing_test", holder="ada@laptop")


def add_waiters(stage: Stage) -> None:
    """Two callers for whom no database is left."""
    stage.wait("shop_test", run="b1f09e", worker="gw4", holder="ci-9/pid 977/gw4")
    stage.wait("shop_test", run="c44d17", worker="gw0", holder="grace@desk/pid 51/gw0")


def work(stage: Stage) -> None:
    """Leases and releases for some minutes, in waves, so that the lines have something to show."""
    end = time.monotonic() + WORK_SECONDS
    while (left := end - time.monotonic()) > 0:
        lease = stage.lease("billing_test", run="nightly", worker="gw0", holder="nightly/pid 88", wait_seconds=30)
        # The test that has the database; its length goes up and down.
        time.sleep(0.15 + 0.12 * math.sin(left / 9))
        stage.call("DELETE", f"/v1/leases/{lease['id']}")


def main() -> int:
    stage = Stage()
    try:
        with chromium() as browser:
            populate(stage)
            work(stage)
            add_waiters(stage)
            for name, (theme, width, height) in SHOTS.items():
                context = visitor(browser, stage, color_scheme=theme, viewport={"width": width, "height": height})
                page = open_page(context, stage.url)
                page.wait_for_selector("#waiters tbody tr:nth-child(2)")
                page.screenshot(path=PICTURES / name, full_page=width > 500)
                context.close()
    finally:
        stage.daemon.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
