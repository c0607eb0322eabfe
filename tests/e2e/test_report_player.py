"""An open clip of a report in a browser: player, attention, masks, and what it holds in memory."""

from __future__ import annotations

import base64

import pytest
from report_browser import Opened, until
from report_toy import Toy, write


@pytest.mark.parametrize(("place", "kind"), [(0, "video"), (1, "sound"), (2, "frames alone")])
def test_the_player_plays_and_can_be_moved(opened, reports, place, kind):
    one = opened()
    one.go(reports["events"])
    one.clip(place)
    assert one.page.locator(".screen video").count() == (kind == "video")
    slider = one.page.locator(".scrub")
    one.page.get_by_role("button", name="Play").click()
    until(lambda: float(slider.get_attribute("aria-valuenow")) > 1.1)
    if kind == "video":
        assert one.page.evaluate("document.querySelector('.screen video').currentTime") > 1
    assert "segment 2" in slider.get_attribute("aria-valuetext")
    one.page.get_by_role("button", name="Pause").click()
    box = slider.bounding_box()
    slider.click(position={"x": 0.75 * box["width"], "y": box["height"] - 5})
    assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(7.5, abs=0.2)
    assert "segment 8" in slider.get_attribute("aria-valuetext")


def test_a_stored_frame_follows_the_sound(opened, reports):
    one = opened()
    one.go(reports["events"])
    one.clip(1)
    first = one.pixels(".screen")
    one.page.locator(".scrub").press("ArrowRight")
    assert one.pixels(".screen") != first


def test_a_video_that_cannot_be_played_gives_way_to_frames(opened, tmp_path):
    toy = Toy("events", clips=3, details=1)
    broken = [(place, {**detail, "video": {"type": "video/mp4", "data": "AAAA"}}) for place, detail in toy.details()]
    toy.details = lambda: iter(broken)
    one = opened()
    one.go(write(toy, tmp_path / "broken.html"))
    one.clip(0)
    one.page.get_by_text("This browser cannot play the video").wait_for()
    assert one.page.locator(".screen video").count() == 0
    first = one.pixels(".screen")
    one.page.locator(".scrub").press("End")
    assert one.pixels(".screen") != first


def test_attention_switches_change_what_is_drawn(opened, reports):
    one = opened()
    one.go(reports["events"])
    one.clip(1)
    for modality, canvas in (("visual", ".screen"), ("audio", ".spectrogram")):
        group = one.page.locator(f'[data-modality="{modality}"]')
        seen = [one.pixels(canvas)]
        group.get_by_role("checkbox").check()
        seen.append(one.pixels(canvas))
        group.get_by_label("Layer").select_option("blocks.3")
        seen.append(one.pixels(canvas))
        group.get_by_label("Mechanism").select_option("adapted")
        seen.append(one.pixels(canvas))
        one.page.get_by_label("Opacity").fill("20" if modality == "visual" else "90")
        seen.append(one.pixels(canvas))
        assert len(set(seen)) == len(seen)
        group.get_by_role("checkbox").uncheck()
        assert one.pixels(canvas) == seen[0]


def test_the_gate_stands_beside_the_mechanism_that_it_scales(opened, reports):
    one = opened()
    one.go(reports["events"])
    one.clip(1)
    group = one.page.locator('[data-modality="visual"]')
    gate = group.locator(".gate")
    assert gate.is_hidden()
    group.get_by_label("Mechanism").select_option("adapted")
    assert gate.inner_text() == "gate 0.4"
    group.get_by_label("Layer").select_option("blocks.3")
    assert gate.inner_text() == "gate 0.03"
    assert "near 0 it hardly counts" in gate.get_attribute("title")
    group.get_by_label("Mechanism").select_option("kept")
    assert gate.is_hidden()
    told = "Kept: a plain mix of frozen tokens; adapted: low-rank attention that training shaped, added with a gate."
    assert group.get_by_text(told).is_visible()


def test_attention_lies_where_the_map_says(opened, tmp_path):
    """One bright patch a map: upper left for frames; for sound row 0 is the lowest frequency, so lower left.

    The first layer has patches twice as large as the others.
    """
    toy = Toy("events", clips=2, details=2)
    made = dict(toy.details())[1]
    for one in made["attention"].values():
        rows, columns = one["grids"][0]
        one["grids"][0] = [rows // 2, columns // 2]
        lone = [bytes([255] + [0] * (r * c - 1)) * (10 * 2) for r, c in one["grids"]]
        one["maps"] = [base64.b64encode(each).decode() for each in lone]
    toy.details = lambda: iter([(1, made)])
    page = opened()
    page.go(write(toy, tmp_path / "lone.html"))
    page.clip(1)
    for modality, canvas, rows, expected in (("visual", ".screen .frame", 8, 0), ("audio", ".spectrogram", 4, 3)):
        before = _brightness(page, canvas, rows)
        page.page.locator(f'[data-modality="{modality}"]').get_by_role("checkbox").check()
        after = _brightness(page, canvas, rows)
        brighter = [(r, c) for r in range(rows) for c in range(8) if after[r][c] > before[r][c] + 20]
        assert brighter == [(expected, 0)], modality
        group = page.page.locator(f'[data-modality="{modality}"]')
        group.get_by_label("Layer").select_option(f"blocks.3 ({rows // 2} \u00d7 4)")
        after = _brightness(page, canvas, rows)
        brighter = [(r, c) for r in range(rows) for c in range(8) if after[r][c] > before[r][c] + 20]
        low = min(expected, rows - 2)
        assert brighter == [(low, 0), (low, 1), (low + 1, 0), (low + 1, 1)], modality


def _brightness(opened: Opened, canvas: str, rows: int, columns: int = 8) -> list[list[float]]:
    """Mean of red and green in the middle of every cell of a canvas."""
    return opened.page.locator(canvas).evaluate(
        """(canvas, [rows, columns]) => {
             const [w, h] = [canvas.width / columns, canvas.height / rows];
             const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true});
             copy.drawImage(canvas, 0, 0);
             const mean = (r, c) => {
               const at = copy.getImageData((c + 0.25) * w, (r + 0.25) * h, w / 2, h / 2).data;
               let sum = 0;
               for (let i = 0; i < at.length; i += 4) sum += at[i] + at[i + 1];
               return sum / (at.length / 2);
             };
             return Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_, c) => mean(r, c)));
           }""",
        [rows, columns],
    )


def test_mask_views_differ_and_have_legends(opened, reports):
    one = opened()
    one.go(reports["segmentation"])
    one.clip(0)
    seen = {}
    for view in ("Frame", "Truth", "Prediction", "Both", "Errors", "Probability"):
        one.page.get_by_role("radio", name=view, exact=True).check()
        seen[view] = one.pixels(".screen")
    assert len(set(seen.values())) == len(seen)
    one.page.get_by_role("radio", name="Errors").check()
    assert one.page.locator(".legend").inner_text().split("\n") == ["hit", "missed", "false alarm"]
    one.page.locator(".scrub").press("End")  # the last frame has no true mask: no errors can be shown
    bare = one.pixels(".screen")
    one.page.get_by_role("radio", name="Frame", exact=True).check()
    assert one.pixels(".screen") == bare


def test_media_are_given_back_when_a_clip_closes(opened, reports):
    one = opened()
    one.page.add_init_script(
        """window.held = new Set();
           const [make, drop] = [URL.createObjectURL, URL.revokeObjectURL];
           URL.createObjectURL = blob => { const url = make.call(URL, blob); held.add(url); return url; };
           URL.revokeObjectURL = url => { held.delete(url); drop.call(URL, url); };"""
    )
    one.go(reports["events"])
    counts = []
    for place in (0, 1, 2, 3):
        one.clip(place)
        counts.append(one.page.evaluate("held.size"))
    one.page.get_by_role("button", name="Close the clip").click()
    assert [*counts, one.page.evaluate("held.size")] == [1, 1, 0, 1, 0]
