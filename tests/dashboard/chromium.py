"""Chromium for tests: pages in it must neither raise nor ask another host."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)

# Five seconds, its default, are what a page takes on a machine with other tests on it.
expect.set_options(timeout=30_000)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Browser, url: str, height: int = 720) -> Iterator[Callable[..., Page]]:
    """`visit("alerts", width=390)`: a page in a browser of somebody's own; at the end all are closed.

    Raises:
        AssertionError: one of them asked another host, threw, or opened a dialog.
    """
    contexts = []
    outside: list[str] = []
    thrown: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith((url, "data:", "blob:")):
            outside.append(request.url)

    def go(path: str = "", *, width: int = 1280, height: int = height) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.on("request", note)
        page.on("pageerror", lambda error: thrown.append(str(error)))
        page.on("dialog", lambda dialog: thrown.append(dialog.message))
        page.goto(f"{url}/{path}")
        return page

    yield go
    for context in contexts:
        context.close()
    assert not outside, "the page asked another host"
    assert not thrown


def shown(page: Page) -> str:
    """The id of the post on the desk of Review, once it is ready for a key."""
    desk = page.locator(".desk[data-post]:not(.busy)")
    expect(desk).to_be_visible(timeout=60_000)
    return desk.get_attribute("data-post") or ""


def press(page: Page, key: str, after: str) -> str | None:
    """Press a key that ends the post in hand; the next one's id, None: there is none."""
    page.keyboard.press(key)
    done = page.locator(f'.desk:not([data-post="{after}"]):not(.busy)')
    nothing = page.get_by_text(re.compile("The queue is empty|Nothing here for you"))
    expect(done.or_(nothing).first).to_be_visible(timeout=60_000)
    return None if nothing.count() else shown(page)
