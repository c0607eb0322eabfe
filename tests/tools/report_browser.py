"""What the tests of the report's page in a browser share: an opened page and what went wrong in it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDE, PHONE = (1440, 900), (390, 844)
LOCAL = ("file:", "blob:", "data:")


class Opened:
    """A page with what went wrong in it: console messages, attempts at outside requests, dialogs.

    `sent` are the outside requests that the page's policy did not stop.
    """

    def __init__(self, context) -> None:
        self.page = context.new_page()
        self.wrong: list[str] = []
        self.sent: list[str] = []
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.wrong.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(f"exception: {error}"))
        self.page.on("request", lambda r: r.url.startswith(LOCAL) or self.wrong.append(f"request: {r.url}"))
        self.page.on("dialog", self._dialog)

    def _dialog(self, dialog) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def go(self, path: Path) -> None:
        self.page.goto(path.as_uri())

    def clip(self, place: int) -> None:
        """Opens a clip of the list and waits for its pictures."""
        self.page.locator(f'.clip[data-place="{place}"]').click()
        self.page.wait_for_selector(f'.pane[data-ready="{place}"]')

    def unfold(self) -> None:
        """Opens every fold that is on the screen."""
        for fold in self.page.locator("details > summary").all():
            fold.click() if fold.is_visible() else None

    def pixels(self, selector: str) -> bytes:
        return self.page.locator(selector).screenshot()

    def axe(self) -> list[str]:
        """What axe finds wrong with the page as it is now."""
        from axe_playwright_python.sync_playwright import Axe

        result = Axe().run(self.page, options={"resultTypes": ["violations"]})
        places = [(v, [node["html"][:120] for node in v["nodes"][:3]]) for v in result.response["violations"]]
        return [f"{v['impact']} {v['id']}: {v['help']} {nodes}" for v, nodes in places]


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits for a condition; Playwright's own way needs `eval`, which the page's policy refuses."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
