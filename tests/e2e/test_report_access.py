"""The report's page for everybody: axe, the keyboard, a phone."""

from __future__ import annotations

from itertools import product

import pytest
from report_browser import PHONE, WIDE, until

EVERY_LOOK = tuple(product((WIDE, PHONE), ("light", "dark")))


@pytest.mark.parametrize(
    ("name", "looks"),
    [
        ("events", EVERY_LOOK[::3]),
        ("parsing", EVERY_LOOK[1:3]),
        ("segmentation", EVERY_LOOK[1:3]),
        *(pytest.param(name, EVERY_LOOK, marks=pytest.mark.slow) for name in ("events", "parsing", "segmentation")),
    ],
    ids=["events", "parsing", "segmentation", "events everywhere", "parsing everywhere", "segmentation everywhere"],
)
def test_axe_finds_nothing(opened, reports, name, looks):
    one = opened()
    one.go(reports[name])
    one.clip(0)
    for box in one.page.locator(".pane").get_by_role("checkbox").all():
        box.check()
    for fold in one.page.locator("details > summary").all():
        fold.click()
    found = []
    for (width, height), scheme in looks:
        one.page.set_viewport_size({"width": width, "height": height})
        one.page.emulate_media(color_scheme=scheme)
        found += [f"{width} {scheme}: {line}" for line in one.axe()]
    one.page.get_by_role("button", name="Close the clip").click()
    assert found + one.axe() == []


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["1440", "390"])
def test_everything_by_keyboard(opened, reports, size):
    one = opened(size)
    one.go(reports["events"])
    page, focus = one.page, lambda script: one.page.evaluate(f"document.activeElement.{script}")
    page.keyboard.press("Tab")
    assert focus("className") == "skip"
    page.keyboard.press("Enter")
    assert focus("id") == "main"
    _tab_to(page, "[role=slider][aria-label=Epoch]")
    page.keyboard.press("Home")
    assert "epoch 1:" in focus("getAttribute('aria-valuetext')")
    _tab_to(page, "input[type=search]")
    _tab_to(page, ".clip")
    page.keyboard.press("Enter")
    page.wait_for_selector('.pane[data-ready="0"]')
    if size == PHONE:
        assert focus("tagName") == "H3"
        assert page.locator(".column").is_hidden()
        page.keyboard.press("j")
    else:
        page.keyboard.press("ArrowDown")
    page.wait_for_selector('.pane[data-ready="1"]')
    _tab_to(page, ".play")
    _tab_to(page, ".scrub")
    page.keyboard.press("End")
    assert "segment 10" in focus("getAttribute('aria-valuetext')")
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    until(lambda: float(focus("getAttribute('aria-valuenow')")) > 0.3)
    page.keyboard.press("Space")
    _tab_to(page, "[data-modality=visual] input")
    before = one.pixels(".film")
    page.keyboard.press("Space")
    assert one.pixels(".film") != before
    outline = focus("ownerDocument.defaultView.getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.keyboard.press("Escape")
    assert focus("dataset.place") == "1"
    assert page.locator(".pane .opened").count() == 0
    _tab_to(page, "#setup summary")
    page.keyboard.press("Enter")
    assert page.locator("#setup details[open]").count() == 1


def _tab_to(page, selector: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab never reaches {selector}")


@pytest.mark.parametrize("name", ["events", "segmentation", "hostile"])
def test_a_phone_never_scrolls_sideways(opened, reports, name):
    one = opened(PHONE)
    one.go(reports[name])
    too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert one.page.evaluate(too_wide) == 0
    one.clip(1)
    for fold in one.page.locator("details > summary").all():
        fold.click() if fold.is_visible() else None
    assert one.page.evaluate(too_wide) == 0


def test_a_table_that_is_cut_says_so(opened, reports):
    one = opened(PHONE)
    one.go(reports["events"])
    fold = one.page.locator("#curves details")
    fold.locator("summary").click()
    sign = "getComputedStyle(document.querySelector('#curves .scroller'), '::before').content"
    until(lambda: "Scroll sideways" in one.page.evaluate(sign))
    one.page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    until(lambda: one.page.evaluate(sign) == "none")
