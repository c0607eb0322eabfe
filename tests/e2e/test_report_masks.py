"""What a report says in a browser of segments where nothing is true, and which moment its overlays belong to."""

from __future__ import annotations

import pytest
from report_browser import until
from report_toy import FRAME_POSITION, Toy, write

EMPTY = "clip-0003"
ALARM = "nothing is true here; false alarm, 11.5 % painted; scored on the background, 88.5 %"


def test_a_false_alarm_is_no_good_overlap(opened, reports):
    one = opened()
    one.go(reports["segmentation"])
    page, clips = one.page, Toy("segmentation").clips
    place = next(i for i, clip in enumerate(clips) if clip["id"] == EMPTY)
    row = page.locator(f'.clip[data-place="{place}"]')
    assert "mean IoU over 5 annotated frames, 2 with nothing true, 1 false alarm" in row.get_attribute("aria-label")
    bars = row.locator(".level")
    assert [bars.nth(i).get_attribute("class") for i in range(3)] == ["level bare alarm", "level bare", "level"]
    assert bars.first.get_attribute("title") == ALARM
    one.clip(place)
    caption = page.locator(".seen figcaption")
    assert ALARM in caption.inner_text()
    page.locator(".scrub").press("ArrowRight")
    assert "nothing is true here; nothing painted; scored on the background, 100.0 %" in caption.inner_text()
    one.unfold()
    cells = page.locator(".pane table tbody tr").first.locator("td").all_inner_texts()
    assert cells == ["0 s", "88.5 %", "nothing", "11.5 %"]


def test_the_filter_finds_false_alarms_over_one_percent(opened, tmp_path):
    toy = Toy("segmentation", clips=3, details=0)
    for clip, share in zip(toy.clips, (0.009, 0.011, None), strict=True):
        clip |= {"score": 0.9, "iou": [0.9] * 5, "empty": [share is not None] * 5, "painted": [share or 0.3] * 5}
    one = opened()
    one.go(write(toy, tmp_path / "alarms.html"))
    one.page.get_by_label("IoU below one half, or a false alarm").check()
    assert one.page.locator(".clip .id").all_inner_texts() == [toy.clips[1]["id"]]


@pytest.mark.parametrize("name", ["segmentation", "events"])
def test_overlays_lie_over_the_very_frame_they_belong_to(opened, reports, name):
    """The video stands at the moment of the backbone's frame while something is painted over it, and not otherwise."""
    one = opened()
    one.go(reports[name])
    one.clip(0)
    page, scrub = one.page, one.page.locator(".scrub")
    moment = lambda: page.evaluate("document.querySelector('.screen video').currentTime")  # noqa: E731
    caption = page.locator(".seen figcaption")
    switch = page.locator('[data-modality="visual"]').get_by_role("checkbox")
    if name == "events":
        switch.check()
    page.get_by_role("radio", name="Video").check()
    what = "Masks belong to" if name == "segmentation" else "Attention belongs to"
    assert moment() == pytest.approx(FRAME_POSITION)
    assert f"{what} 0.94 s." in caption.inner_text()
    for _ in range(2):
        scrub.press("ArrowRight")
    assert moment() == pytest.approx(2 + FRAME_POSITION)
    assert f"{what} 2.94 s." in caption.inner_text()
    page.get_by_role("button", name="Play").click()
    until(lambda: moment() > 3.2)
    page.get_by_role("button", name="Pause").click()
    assert moment() % 1 == pytest.approx(FRAME_POSITION)
    if name == "segmentation":
        page.get_by_role("radio", name="Frame", exact=True).check()
    else:
        switch.uncheck()
    page.get_by_role("radio", name="Video").check()
    scrub.press("Home")
    assert moment() == 0
    assert "belong" not in caption.inner_text()


def test_without_its_dataset_a_report_claims_no_moment(opened, tmp_path):
    toy = Toy("segmentation", clips=2, details=1)
    toy.data["frame_position"] = None
    one = opened()
    one.go(write(toy, tmp_path / "gone.html"))
    one.clip(0)
    assert "0.94 s" not in one.page.locator(".seen figcaption").inner_text()


def test_class_maps_have_a_legend_of_the_classes_met(opened, tmp_path):
    toy = Toy("semantic", clips=8, details=8)
    one = opened()
    one.go(write(toy, tmp_path / "classes.html"))
    page = one.page
    place = next(i for i, clip in enumerate(toy.clips) if clip["true"][0] != clip["predicted"][0])
    names = [toy.classes[toy.clips[place][key][0][0]] for key in ("true", "predicted")]
    one.clip(place)
    legend = page.locator(".views .legend")
    assert legend.locator("span").all_inner_texts() == [name for name in toy.classes if name in names]
    colours = legend.locator("i").evaluate_all("all => all.map((one) => getComputedStyle(one).backgroundColor)")
    assert len(set(colours)) == 2
    caption = page.locator(".seen figcaption").inner_text().translate({0x2068: None, 0x2069: None})
    assert f"true {names[0]}; predicted {names[1]}" in caption
    painted = {}
    for view in ("Frame", "Truth", "Prediction", "Both", "Errors"):
        page.locator(".views").get_by_role("radio", name=view, exact=True).check()
        painted[view] = one.pixels("canvas.frame")
    assert len(set(painted.values())) == 5
    page.locator(".filters").get_by_label("Class", exact=True).select_option(label=names[0])
    assert 0 < page.locator(".clip").count() < 8
    assert page.locator("#confusion td.diagonal").all_inner_texts() == ["90", "100"]
    assert not one.wrong
