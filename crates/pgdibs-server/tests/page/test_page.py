"""The page in a browser: its buttons, its life over events, who may use it, its looks."""

from __future__ import annotations

import base64
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browser import open_page, visitor, wait_for_state
from playwright.sync_api import Browser, HttpCredentials, Page, Response, expect
from stage import Stage, until

AXE = Path(os.environ["PGDIBS_CACHE"]) / "axe-core/node_modules/axe-core/axe.min.js"
# Runs as a script wherever it is not escaped: in an element, in an attribute, in a script.
ATTACK = "<img src=x onerror=alert(1)>\"'><script>alert(1)</script>"
PHONE = {"width": 390, "height": 800}
DESKTOP = {"width": 1280, "height": 900}


@contextmanager
def leased(stage: Stage, **fields: Any) -> Iterator[dict[str, Any]]:
    """A lease that ends with the test, if no button has ended it."""
    lease = stage.lease("shop_test", **fields)
    yield lease
    stage.call("DELETE", f"/v1/leases/{lease['id']}")


def button(page: Page, action: str, database: str) -> Any:
    """The button of a row."""
    return page.get_by_role("button", name=f"{action} {database}", exact=True)


def row(page: Page, database: str) -> Any:
    """The row of a lease."""
    return page.locator("#leases tr", has=page.get_by_role("cell", name=database, exact=True))


def test_release_is_confirmed(stage: Stage, page: Page) -> None:
    with leased(stage, worker="gw0", holder="ci-7/gw0") as lease:
        name = lease["database"]
        button(page, "Release", name).click()
        expect(page.get_by_role("dialog")).to_contain_text(f"Release {name}?")
        page.get_by_role("button", name="Cancel").click()
        assert name in stage.live()
        button(page, "Release", name).click()
        page.get_by_role("dialog").get_by_role("button", name="Release").click()
        expect(page.locator("#outcome")).to_have_text(f"Released {name}.")
        expect(row(page, name)).to_have_count(0)
        assert name not in stage.live()


def test_keep_and_drop_are_confirmed_and_psql_is_copied(stage: Stage, page: Page) -> None:
    with leased(stage, worker="gw1") as lease:
        name = lease["database"]
        button(page, "Keep", name).click()
        page.get_by_label("Why").fill("test_refund failed")
        page.get_by_label("Keep it for").select_option("4 hours")
        page.get_by_role("dialog").get_by_role("button", name="Keep").click()
        expect(page.locator("#outcome")).to_contain_text(f"{name} will stay as shop_test_kept_")
        kept = str(page.locator("#outcome").text_content()).rstrip(".").split()[-1]
        expect(page.locator("#kept")).to_contain_text("test_refund failed")
    expect(button(page, "Drop", kept)).to_be_visible()
    expect(page.locator("#kept")).to_contain_text("3 h 59 min")
    button(page, "Copy psql", kept).click()
    expect(page.locator("#outcome")).to_contain_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == f"PGDIBS_URL={stage.url} pgdibs psql {kept}"
    button(page, "Drop", kept).click()
    page.get_by_role("button", name="Cancel").click()
    assert kept in stage.kept()
    button(page, "Drop", kept).click()
    page.get_by_role("dialog").get_by_role("button", name="Drop").click()
    expect(page.locator("#outcome")).to_have_text(f"{kept} is being dropped.")
    expect(button(page, "Drop", kept)).to_have_count(0)
    until("the database is dropped", lambda: kept not in stage.kept())


def test_snippets_are_copied_with_the_daemons_address(stage: Stage, page: Page) -> None:
    copied = []
    for what in ("the address", "the lines for pytest", "the command", "the call"):
        page.get_by_role("button", name=f"Copy {what}", exact=True).click()
        expect(page.locator("#outcome")).to_contain_text("Copied")
        copied.append(page.evaluate("navigator.clipboard.readText()"))
    assert copied[0] == f"export PGDIBS_URL={stage.url}"
    assert copied[1] == "[pytest]\npgdibs_pool = shop_test"
    assert copied[2] == "pgdibs run --pool shop_test -- COMMAND"
    assert copied[3].startswith(f"curl -fsS -X POST {stage.url}/v1/leases ")


def test_error_of_an_action_is_said(stage: Stage, page: Page) -> None:
    with leased(stage) as lease:
        name = lease["database"]
        button(page, "Keep", name).click()
        stage.call("DELETE", f"/v1/leases/{lease['id']}")
        page.get_by_role("dialog").get_by_role("button", name="Keep").click()
        expect(page.locator("#outcome")).to_contain_text("released")
        expect(page.locator("#outcome")).to_have_class("bad")


def test_what_happens_is_shown_without_reload(stage: Stage, page: Page) -> None:
    with leased(stage, run="r-live", worker="gw3", holder="ci-7/gw3") as lease:
        expect(row(page, lease["database"])).to_contain_text("ci-7/gw3")
        expect(page.locator("#runs article", has_text="ci-7/gw3")).to_contain_text("gw3")
        expect(page.locator("#events")).to_contain_text(f"lease granted {lease['database']}")
        expect(page.locator("#figures")).to_contain_text("1 of 8 slots")
        expect(page.locator(".slots .leased")).to_have_count(1)
    expect(page.locator(".slots .leased")).to_have_count(0)
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1


def test_waiter_and_whom_it_waits_for(stage: Stage, page: Page) -> None:
    leases = [stage.lease("shop_test", run="r-full", worker=f"gw{number}", wait_seconds=30) for number in range(8)]
    stage.wait("shop_test", run="r-late", worker="gw0", holder="ci-9")
    expect(page.locator("#waiters tbody tr")).to_contain_text("run r-full (8 leases)")
    expect(page.locator("#headline")).to_contain_text("Waiting")
    expect(page).to_have_title("Waiting · pgdibs")
    for lease in leases:
        stage.call("DELETE", f"/v1/leases/{lease['id']}")
    stage.call("DELETE", "/v1/runs/r-late")
    expect(page.locator("#waiters")).to_have_text("No caller waits.")


def test_page_reconnects_after_restart(stage: Stage, page: Page) -> None:
    stage.daemon.stop()
    wait_for_state(page, "reconnecting")
    stage.daemon.restart()
    wait_for_state(page, "live")
    with leased(stage, holder="after the restart") as lease:
        expect(row(page, lease["database"])).to_contain_text("after the restart")


def test_no_free_text_is_run(stage: Stage, page: Page) -> None:
    stage.call("PUT", "/v1/pools/attack_test", {"warm": 0, "max": 1, "spares": 0})
    stage.build("attack_test", f"print{ATTACK}", f"builder{ATTACK}")
    stage.fail("attack_test", f"failed{ATTACK}", f"builder{ATTACK}", f"log{ATTACK}")
    fields = {name: f"{name}{ATTACK}" for name in ("run", "worker", "alias", "holder")}
    lease = stage.lease("attack_test", fingerprint=f"print{ATTACK}", wait_seconds=30, **fields)
    stage.call("POST", f"/v1/leases/{lease['id']}/keep", {"reason": f"reason{ATTACK}"})
    waiter = {"run": f"waiting{ATTACK}", "worker": f"second{ATTACK}", "holder": f"other{ATTACK}"}
    stage.wait("attack_test", fingerprint=f"print{ATTACK}", **waiter)
    for part, text in (
        ("#leases", f"holder{ATTACK}"),
        ("#leases", f"worker{ATTACK}"),
        ("#kept", f"reason{ATTACK}"),
        ("#waiters", f"other{ATTACK}"),
        ("#runs", f"other{ATTACK}"),
        ("#templates", f"builder{ATTACK}"),
        ("#templates", f"log{ATTACK}"),
        ("#events", f"holder{ATTACK}"),
    ):
        expect(page.locator(part)).to_contain_text(text)
    titles = page.locator("#templates td[title]").evaluate_all("(cells) => cells.map((cell) => cell.title)")
    assert {f"print{ATTACK}", f"failed{ATTACK}"} <= set(titles)
    assert page.locator("img, body script:not([type=module])").count() == 0
    # Also what the first answer holds, before any update. The fixture fails at a dialog of the browser.
    page.reload()
    wait_for_state(page, "live")
    assert page.locator("img").count() == 0
    stage.call("DELETE", f"/v1/runs/{quote(waiter['run'], safe='')}")
    stage.call("DELETE", "/v1/pools/attack_test?force=true")


def test_token_is_asked_for_and_shown_nowhere(stage: Stage, browser: Browser) -> None:
    for wrong in (None, HttpCredentials(username="me", password="wrong")):
        context = browser.new_context(http_credentials=wrong)
        answer = context.request.get(stage.url)
        assert (answer.status, "Basic realm" in answer.headers["www-authenticate"]) == (401, True)
        context.close()
    context = visitor(browser, stage)
    urls: list[str] = []
    context.on("request", lambda request: urls.append(request.url))
    page = open_page(context, stage.url)
    encoded = base64.b64encode(f"me:{stage.token}".encode()).decode()
    seen = "\n".join([page.content(), *urls, page.evaluate("JSON.stringify({...localStorage, cookie: document.cookie})")])
    context.close()
    seen += stage.daemon.log.read_text(errors="replace")
    assert len(urls) >= 2
    assert all(url.startswith(f"{stage.url}/") for url in urls if not url.startswith("data:")), urls
    assert stage.token not in seen
    assert encoded not in seen


def test_page_of_another_site_changes_nothing(stage: Stage, browser: Browser) -> None:
    with other_site() as sites, leased(stage) as lease:
        kept = stage.keep(stage.lease("shop_test"), "for the test")
        context = visitor(browser, stage)
        open_page(context, stage.url)
        calls = (
            ("DELETE", f"/v1/leases/{lease['id']}"),
            ("POST", f"/v1/leases/{lease['id']}/keep"),
            ("DELETE", f"/v1/databases/{kept}"),
        )
        # Another port is another origin of the same site; `localhost` is another site.
        for site in sites:
            page = context.new_page()
            page.goto(site)
            answers: list[int] = []
            page.on("response", collect(answers))
            for method, path in calls:
                fetch = f"fetch('{stage.url}{path}', {{method: '{method}', credentials: 'include'}})"
                assert page.evaluate(f"{fetch}.then(() => 'done', () => 'refused')") == "refused"
            # What a form can send arrives, and is refused by the daemon.
            keep = f"fetch('{stage.url}{calls[1][1]}', {{method: 'POST', mode: 'no-cors', credentials: 'include', body: '{{}}'}})"
            page.evaluate(f"{keep}.then(() => 0, () => 0)")
            assert 403 in answers, answers
            # Nor can the other site show the page in a frame, to steal a click.
            page.set_content(f"<iframe src='{stage.url}'></iframe>")
            assert not page.frames[-1].url.startswith(stage.url) or page.frames[-1].locator("#live").count() == 0
        context.close()
        assert lease["database"] in stage.live()
        databases = {one["database"]: one for one in stage.call("GET", "/v1/databases")["databases"]}
        assert databases[lease["database"]]["kept_until"] is None
        assert databases[kept]["state"] == "kept"
        stage.call("DELETE", f"/v1/databases/{kept}")


def collect(answers: list[int]) -> Callable[[Response], None]:
    """Adds the status of each answer to a list."""
    return lambda response: answers.append(response.status)


@contextmanager
def other_site() -> Iterator[tuple[str, str]]:
    """A web page of another server, by two addresses."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<p>another page</p>")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_keyboard_alone_releases_and_focus_survives_updates(stage: Stage, page: Page) -> None:
    with leased(stage) as lease, leased(stage) as other:
        name = max(lease["database"], other["database"])
        release = button(page, "Release", name)
        expect(release).to_be_visible()
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.dataset.do === 'release'") and name in focused(page):
                break
        assert name in focused(page)
        # Rows come before it and go.
        stage.call("DELETE", f"/v1/leases/{(lease if name == other['database'] else other)['id']}")
        expect(page.locator("#leases tbody tr")).to_have_count(1)
        assert name in focused(page), "the focus was lost in the update"
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        assert name in focused(page), "the dialog gives the focus back"
        page.keyboard.press("Enter")
        while focused(page) != "Release":
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#outcome")).to_have_text(f"Released {name}.")


def focused(page: Page) -> str:
    """The name of the element that has the focus."""
    return str(page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent"))


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_is_accessible_and_fits(stage: Stage, browser: Browser, theme: Any, size: Any) -> None:
    kept = stage.keep(stage.lease("shop_test"), "a reason that is so long that it does not fit into a line of a narrow window")
    with leased(stage, run="r-looks", worker="gw0", holder="a holder with a long name/pid 4312/gw0"):
        context = visitor(browser, stage, color_scheme=theme, viewport=size)
        page = open_page(context, stage.url)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(244, 245, 247)", "dark": "rgb(15, 18, 23)"}[theme]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        for dialog in (False, True):
            if dialog:
                page.locator("button[data-do=keep]").first.click()
            page.evaluate(AXE.read_text(encoding="utf-8"))
            found = page.evaluate("axe.run().then((found) => found.violations)")
            shown = [(one["id"], one["help"], [node["html"] for node in one["nodes"]][:3]) for one in found]
            assert shown == []
        context.close()
    stage.call("DELETE", f"/v1/databases/{kept}")


def test_hidden_page_holds_no_connection(stage: Stage, page: Page) -> None:
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true }) && undefined")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange')) && undefined")
    wait_for_state(page, "off")
    page.evaluate("delete document.hidden && undefined")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange')) && undefined")
    wait_for_state(page, "live")
    assert len(stage.call("GET", "/v1/status")["pools"]) == 1
