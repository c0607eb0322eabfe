"""A report of a thousand clips in a browser."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from report_browser import Opened
from report_toy import Toy, write


@pytest.mark.alone
def test_a_thousand_clips_open_in_under_three_seconds(opened, tmp_path):
    toy = Toy("events", 1000, 24, ballast=400_000)
    path = write(toy, tmp_path / "thousand.html")
    tries = [_opening(opened(), path) for _ in range(3)]
    one, rows, spent = min(tries, key=lambda tried: tried[2])  # the machine may have other work
    size = path.stat().st_size / 1e6
    print(f"\n{size:.1f} MB, 1,000 clips, 24 details: read and listed in {[round(tried[2], 2) for tried in tries]} s")
    assert rows >= 50
    assert one.page.locator(".found").inner_text() == "1,000 clips"
    assert spent < 3
    one.page.get_by_label("Find clips").fill("toy0999")
    assert one.page.locator(".found").inner_text() == "1 of 1,000 clips"
    one.page.get_by_label("Find clips").fill("")
    one.page.get_by_label("Order").select_option("Easiest first")
    assert one.page.locator(".clip .score").first.inner_text() == "100 %"
    one.page.get_by_role("button", name=re.compile("Show .* more")).click()
    assert one.page.locator(".clip").count() > rows


def _opening(one: Opened, path: Path) -> tuple[Opened, int, float]:
    """Opens a page to its last byte: rows of the list, and seconds."""
    begun = time.perf_counter()
    one.page.goto(path.as_uri(), wait_until="load")
    one.page.wait_for_selector('html[data-ready="true"]')
    rows = one.page.locator(".clip").count()
    return one, rows, time.perf_counter() - begun
