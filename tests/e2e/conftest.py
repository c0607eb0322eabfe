"""A real browser for the tests of the report's page: Debian's chromium, driven by Playwright."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_browser import CHROMIUM, LOCAL, WIDE, Opened
from report_toy import Toy, write


@pytest.fixture(scope="module")  # not the session: Playwright's event loop would be in the way of other tests
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no chromium: `make browser` installs it")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install 'avpipe[dev]'")
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is missing: pip install 'avpipe[dev]'")
    with sync_api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """Opens pages of a size and colour scheme; in the end nothing may have gone wrong in any of them."""
    made: list[tuple[object, Opened]] = []

    def make(size=WIDE, scheme="light", **options) -> Opened:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce", **options
        )
        one = Opened(context)
        context.route(lambda url: not url.startswith(LOCAL), lambda route: (one.sent.append(route), route.abort()))
        made.append((context, one))
        return one

    yield make
    for context, one in made:
        context.close()
        assert one.wrong == []


@pytest.fixture(scope="session")
def reports(tmp_path_factory) -> dict[str, Path]:
    """Pages of made-up reports."""
    folder = tmp_path_factory.mktemp("reports")
    toys = {
        "events": Toy("events"),
        "parsing": Toy("parsing"),
        "segmentation": Toy("segmentation"),
        "hostile": Toy("events", hostile=True),
        "hostile-segmentation": Toy("segmentation", hostile=True),
    }
    return {name: write(toy, folder / f"{name}.html") for name, toy in toys.items()}
