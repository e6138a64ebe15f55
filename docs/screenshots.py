"""Take the README's pictures from a running dashboard: `python docs/screenshots.py http://127.0.0.1:8501`.

Needs Playwright (in the `dev` extra) and a Chromium; `--chromium` names one that is not on the PATH.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

_READY = "[data-testid='stApp'][data-test-script-state='notRunning']"


def take(page: Page, url: str, file: Path, wait_s: float) -> None:
    """Open a page, let its charts draw, and keep what is in the window."""
    page.goto(url, wait_until="domcontentloaded")
    page.wait_for_selector(_READY, timeout=60_000)
    page.wait_for_timeout(int(wait_s * 1000))
    page.screenshot(path=file)


def main() -> None:
    """Take one picture a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="where the dashboard is")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    parser.add_argument("--size", default="1280x800", help="of the window")
    parser.add_argument("--suffix", default="", help="put behind each picture's name")
    parser.add_argument("--query", default="", help="of the Live page, for instance `range=1+h`")
    parser.add_argument("--wait", type=float, default=6.0, help="seconds for the charts")
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    options = parser.parse_args()
    width, height = (int(part) for part in options.size.split("x"))
    options.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme=options.theme
        )
        url = options.url.rstrip("/")
        live = f"{url}/?{options.query}" if options.query else f"{url}/"
        take(page, live, options.out / f"live{options.suffix}.png", options.wait)
        take(page, f"{url}/system", options.out / f"system{options.suffix}.png", options.wait)
        for name in ("review", "rules", "alerts", "audit"):
            take(page, f"{url}/{name}", options.out / f"{name}{options.suffix}.png", options.wait)
        browser.close()


if __name__ == "__main__":
    main()
