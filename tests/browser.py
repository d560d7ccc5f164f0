"""A real browser without a window, for pages that people will look at: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def page_in_browser(width: int = 1000, height: int = 900, dark: bool = False) -> Iterator[Any]:
    """A page of a browser; what it logs is an error of the test, and so is anything that it would fetch from a network.

    Skips the test where there is no browser.
    """
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    complaints: list[str] = []
    with playwright.sync_playwright() as drivers:
        browser = drivers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
            )
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: complaints.append(request.url) if _is_far(request.url) else None)
            yield page
        finally:
            browser.close()
    assert complaints == []


def _is_far(url: str) -> bool:
    return url.startswith("http") and not url.startswith(("http://127.0.0.1:", "http://localhost:"))
