"""A headless Chromium from Debian, and the page in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from stage import Stage


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser that Debian has; as root it has no sandbox."""
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        assert program, "chromium is needed: scripts/install-tools.sh page"
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def visitor(browser: Browser, stage: Stage, **options: Any) -> BrowserContext:
    """A browser whose user answers the question for a password with the token."""
    return browser.new_context(http_credentials={"username": "me", "password": stage.token}, **options)


def open_page(context: BrowserContext, url: str) -> Page:
    """The page, once it is live."""
    page = context.new_page()
    page.goto(url)
    wait_for_state(page, "live")
    return page


def wait_for_state(page: Page, state: str) -> None:
    """Waits until the page says that it is live, reconnecting or paused (`off`)."""
    page.wait_for_selector(f'#live[data-state="{state}"]')
