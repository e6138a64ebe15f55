"""Take the pictures of every page from a running dashboard: `python docs/screenshots.py http://127.0.0.1:8501`.

Light and dark, each under 150 KB: a picture has the 256 colours that fit it best. Needs Playwright
(in the `dev` extra), Pillow and a Chromium; `--chromium` names one that is not on the PATH.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Page, sync_playwright

_READY: Final = "[data-testid='stApp'][data-test-script-state='notRunning']"
#: Nothing on the page is being drawn anew.
_SETTLED: Final = "() => !document.querySelector('[data-stale=true]')"
#: What is looked at: a file's name and the address. Ranges are as long as a demo has run.
PAGES: Final = {
    "live": "?range=15+min",
    "trends": "trends?period=1+h&metric=Toxicity",
    "review": "review",
    "rules": "rules?rule=insult",
    "alerts": "alerts",
    "models": "models",
    "audit": "audit",
    "system": "system",
}
#: Of these also as a phone shows them.
_PHONE: Final = ("live", "alerts")
#: A busy machine takes its time.
_PATIENCE_MS: Final = 120_000
_DESK_SIZE: Final = (1280, 800)
_PHONE_SIZE: Final = (390, 844)


def take(page: Page, address: str, file: Path, wait_s: float) -> None:
    """Open a page, let its charts draw, and keep what is in the window."""
    page.goto(address, wait_until="domcontentloaded", timeout=_PATIENCE_MS)
    page.wait_for_selector(_READY, timeout=_PATIENCE_MS)
    page.wait_for_timeout(int(wait_s * 1000))
    page.wait_for_function(_SETTLED, timeout=_PATIENCE_MS)
    shot = Image.open(io.BytesIO(page.screenshot(timeout=_PATIENCE_MS))).convert("RGB")
    shot.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


def main() -> None:
    """Take one picture a page and theme."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="where the dashboard is")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--pages", nargs="*", choices=PAGES, default=list(PAGES), metavar="PAGE")
    parser.add_argument("--wait", type=float, default=6.0, help="seconds for the charts")
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    url = options.url.rstrip("/")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for theme, suffix in (("light", ""), ("dark", "-dark")):
            for (width, height), names, kind in (
                (_DESK_SIZE, options.pages, ""),
                (_PHONE_SIZE, [name for name in options.pages if name in _PHONE], "-phone"),
            ):
                page = browser.new_page(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if theme == "dark" else "light",
                )
                for name in names:
                    file = options.out / f"{name}{kind}{suffix}.png"
                    take(page, f"{url}/{PAGES[name]}", file, options.wait)
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
