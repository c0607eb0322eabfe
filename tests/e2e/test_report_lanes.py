"""Video parsing on the page: lanes of what is heard and seen, found, missed and invented; filters; the table."""

from __future__ import annotations

from report_toy import Toy, write


def test_lanes_say_what_was_found_missed_and_invented(opened, tmp_path):
    toy = Toy("parsing", clips=1, details=1)
    lane = {"chance": [0.5] * 10, "whole": 0.6}
    heard = {"class": 2, "truth": [0, 1, 1, 1, 0, 0, 0, 0, 0, 0], "predicted": [0, 0, 1, 1, 1, 0, 0, 0, 0, 0], **lane}
    toy.clips[0]["lanes"] = {"audio": [heard], "visual": []}
    one = opened()
    one.go(write(toy, tmp_path / "lanes.html"))
    one.clip(0)
    page = one.page
    pieces = page.locator(".tracks .strip .piece")
    assert pieces.all_inner_texts() == ["", "Bark", "Bark", "\u00d7 Bark", "", "nothing"]
    titles = [piece.get_attribute("title") for piece in pieces.all()]
    assert titles[:5] == ["no Bark", "Bark (missed)", "Bark", "Bark (false alarm)", "no Bark"]
    kinds = [piece.get_attribute("class").split() for piece in pieces.all()]
    assert ["missed" in kind for kind in kinds] == [False, True, False, False, False, False]
    assert ["wrong" in kind for kind in kinds] == [False, False, False, True, False, False]
    names = [text for text in page.locator(".tracks .track-name").all_inner_texts() if text in ("Heard", "Seen")]
    assert names == ["Heard", "Seen"]
    assert "2 of 3 heard or seen found, 1 false alarm" in page.locator(".clip-head p").inner_text()
    page.keyboard.press("Tab")
    slider = page.locator(".scrub")
    slider.press("ArrowRight")
    told = slider.get_attribute("aria-valuetext").replace("\u2068", "").replace("\u2069", "")
    assert told.endswith("segment 2: heard: Bark (missed); seen: nothing")
    one.unfold()
    cells = [row.locator("th, td").all_inner_texts() for row in page.locator(".pane .numbers tbody tr").all()]
    assert [cell[4] for cell in cells] == ["missed", "found", "found", "false alarm"]
    assert cells[0] == ["2", "1 s", "heard", "Bark", "missed", "50.0 %", "60.0 %"]


def test_the_list_is_short_and_filters_by_class(opened, reports):
    one = opened()
    one.go(reports["parsing"])
    page, clips = one.page, Toy("parsing").clips
    first = page.locator('.clip[data-place="0"]')
    assert len(clips[0]["lanes"]["audio"]) == 5
    assert first.locator(".lane-group").first.locator(".strip").count() == 3
    assert "and 2 more classes" in first.inner_text()
    held = [
        place
        for place, clip in enumerate(clips)
        if any(lane["class"] == 3 for m in clip["lanes"].values() for lane in m)
    ]
    page.get_by_label("Class", exact=True).select_option("Helicopter")
    assert [int(row.get_attribute("data-place")) for row in page.locator(".clip").all()] == held
    assert 0 < len(held) < len(clips)
    assert page.locator(".main-score .basis").inner_text() == "12 test clips"
    row = page.locator(".class-scores tbody tr").first
    assert row.locator("td").all_inner_texts() == ["57.1 %", "10 / 20 / 15", "\u2013", "0 / 0 / 0"]
