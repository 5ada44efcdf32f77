"""One daemon and one browser for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import chromium, open_page, visitor
from playwright.sync_api import Browser, Page
from stage import Stage


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """A daemon with a token and a pool of eight slots."""
    stage = Stage()
    stage.pool("shop_test", warm=2, max=8, spares=1)
    yield stage
    stage.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(stage: Stage, browser: Browser) -> Iterator[Page]:
    """The page, live; a test fails when the page reports an error, breaks its policy or shows a dialog of the browser."""
    context = visitor(browser, stage, permissions=["clipboard-read", "clipboard-write"])
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.on("dialog", lambda dialog: errors.append(f"a dialog: {dialog.message}"))
    context.on("console", lambda message: errors.append(message.text) if "Content Security Policy" in message.text else None)
    yield open_page(context, stage.url)
    context.close()
    assert errors == []
