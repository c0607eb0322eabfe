"""Hostile names in a report in a browser, and what its policy stops."""

from __future__ import annotations

import pytest
from report_browser import PHONE
from report_toy import CLASSES, SCRIPT, Toy, write


@pytest.mark.parametrize("name", ["hostile", "hostile-segmentation"])
def test_hostile_names_are_text(opened, reports, name):
    one = opened()
    one.go(reports[name])
    assert one.page.title() == f"{SCRIPT} - avpipe report"
    assert one.page.locator("h1").inner_text() == SCRIPT
    assert f"{SCRIPT} and {SCRIPT}" in one.page.locator(".note li").first.inner_text()
    assert one.page.locator(".note code").first.inner_text() == SCRIPT
    assert one.page.locator(".clip .id").first.inner_text() == SCRIPT
    if name == "hostile":
        assert one.page.locator(".confusion tbody th").first.inner_text() == SCRIPT
        one.page.get_by_label("Class", exact=True).select_option(SCRIPT)
    for place in (0, 1):
        if one.page.locator(f'.clip[data-place="{place}"]').count():
            one.clip(place)
            assert (
                one.page.locator(".pane h3").inner_text()
                == one.page.locator(f'.clip[data-place="{place}"] .id').inner_text()
            )
    assert one.page.locator("script").count() == 2 + 4


def test_the_policy_stops_even_a_mistake(opened, reports):
    """What the page must never do, done by hand: the browser refuses, and nothing is requested."""
    one = opened()
    one.go(reports["events"])
    stopped = one.page.evaluate(
        """async () => {
             const found = [];
             document.addEventListener('securitypolicyviolation', event => found.push(event.effectiveDirective));
             document.body.append(Object.assign(new Image(), { src: 'https://example.org/x.png' }));
             document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = 1' }));
             await fetch('https://example.org/').catch(() => {});
             await new Promise(done => setTimeout(done, 200));
             return [found.sort(), window.ran];
           }"""
    )
    assert stopped == [["connect-src", "img-src", "script-src-elem"], None]
    assert one.sent == []
    one.wrong.clear()


def test_endless_and_turned_names_keep_their_place(opened, tmp_path):
    """A name without a space is wider than a phone; another turns the direction of what follows it."""
    toy = Toy("events", clips=4)
    toy.classes[:2] = ["W" * 200, "\u202eneddih"]
    toy.data["classes"] = toy.classes
    one = opened(PHONE)
    one.go(write(toy, tmp_path / "names.html"))
    page = one.page
    too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    page.get_by_label("Class", exact=True).select_option("W" * 200)
    assert page.evaluate(too_wide) == 0
    one.clip(next(place for place, clip in enumerate(toy.clips) if 1 in clip["predicted"]))
    one.unfold()
    assert page.evaluate(too_wide) == 0
    place = int(page.locator(".clip[aria-current]").get_attribute("data-place"))
    for _ in range(toy.clips[place]["predicted"].index(1)):
        page.locator(".scrub").press("ArrowRight")
    assert "predicted \u2068\u202eneddih\u2069, " in page.locator(".scrub").get_attribute("aria-valuetext")


def test_only_classes_of_the_clips_can_be_chosen(opened, tmp_path):
    toy = Toy("events", clips=2, details=0)
    one = opened()
    one.go(write(toy, tmp_path / "classes.html"))
    used = sorted({number for clip in toy.clips for number in clip["truth"] + clip["predicted"]})
    assert 0 < len(used) < len(CLASSES)
    names = one.page.get_by_label("Class", exact=True).locator("option").all_inner_texts()
    assert names == ["All classes", *(CLASSES[number] for number in used)]
