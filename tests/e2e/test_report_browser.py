"""The report's page in a browser: its sections, scores, curves, filters, and pages with little in them."""

from __future__ import annotations

import re
from importlib import resources
from itertools import pairwise

import pytest
from report_tables import row
from report_toy import Toy, write

OWN = {"events": {"Confusion"}, "parsing": {"Classes"}, "segmentation": set()}
"""Sections that only one task has."""


@pytest.mark.parametrize("name", list(OWN))
def test_every_clip_opens_without_a_complaint(opened, reports, name):
    one = opened()
    one.go(reports[name])
    for place in range(6):
        one.clip(place)
        told = one.page.locator(".pane .why").first.inner_text() if place >= 4 else ""
        assert ("keeps media, attention and masks of 4 of 12 clips only" in told) == (place >= 4)
    sections = one.page.locator("main > section h2").all_inner_texts()
    expected = ["Scores", "Training", "Confusion", "Classes", "What each layer is worth", "Clips, hardest first"]
    foreign = {"Confusion", "Classes"} - OWN[name]
    assert sections == [title for title in expected if title not in foreign] + ["Costs", "What was run"]


def test_the_summary_says_how_far_this_run_is_from_controls_and_constants(opened, reports):
    one = opened()
    one.go(reports["events"])
    text = one.page.locator(".scoreline").inner_text()
    for part in ("81.2 %", "74.4 %", "linear (both), seed 0", "6.8 points above", "40.8 %", "40.4 points above"):
        assert part in text
    assert "Best of 3 runs beside it with other settings, on this split" in text
    backbones = one.page.locator(".facts .wide").all_inner_texts()
    assert [text.split("\n")[1] for text in backbones] == list(Toy("events").data["run"]["backbones"].values())
    mean = one.page.locator(".scores .mean").inner_text()
    assert "73.8 % ± 0.9" in mean
    assert "mean and standard deviation over 2 seeds" in mean


@pytest.mark.parametrize("name", ["ave-segment-accuracy", "ave-segment-accuracy+test-selected"])
def test_scores_of_an_epoch_chosen_on_test_are_not_called_official(opened, tmp_path, name):
    toy = Toy("events", clips=2, details=0)
    toy.data["scores"]["protocols"][0]["name"] = name
    one = opened()
    one.go(write(toy, tmp_path / "page.html"))
    told = one.page.locator(".protocol h3").inner_text()
    wrong = "the official counting, but the epoch was chosen on the test split"
    assert told == f"{name} \u2013 {wrong if '+' in name else 'the official protocol'}"


def test_means_are_over_seeds_of_the_same_settings(opened, tmp_path):
    toy = Toy("events", clips=2, details=0)
    runs = (
        ("same", "this", 0, 0.70, "a"),
        ("same", "run", 1, 0.80, "a"),
        ("same", "run", 1, 0.82, "a"),  # the same seed twice: one value, 0.81
        ("same", "run", 2, 0.10, "b"),  # other settings under the same label
        ("again", "run", 3, 0.30, "c"),
        ("again", "run", 3, 0.50, "c"),
    )
    rows = [row(label, kind, seed, value, ["accuracy"], group) for label, kind, seed, value, group in runs]
    toy.data["scores"]["protocols"][0]["rows"] = rows
    one = opened()
    one.go(write(toy, tmp_path / "seeds.html"))
    means = one.page.locator(".scores .mean").all_inner_texts()
    assert len(means) == 1
    assert "over 2 seeds" in means[0]
    assert "75.5 % ± 7.8" in means[0]
    text = one.page.locator(".scoreline").inner_text()
    assert "Best of 3 runs beside it with other settings, on this split" in text
    assert "again, seed 3" in text


def test_durations_are_rounded_before_they_are_split(opened):
    source = (resources.files("avpipe.stages.report") / "assets" / "format.js").read_text(encoding="utf-8")
    expected = {0: "0 s", 0.25: "250 ms", 59.6: "59.6 s", 119.7: "120 s", 179.7: "3 min 0 s", 180.4: "3 min 0 s"}
    expected |= {
        3600: "60 min 0 s",
        7199.4: "119 min 59 s",
        7199.8: "2 h 0 min",
        10790: "3 h 0 min",
        9000: "2 h 30 min",
    }
    texts = opened().page.evaluate(f"values => {{ {source}\nreturn values.map(seconds); }}", list(expected))
    assert texts == list(expected.values())


def test_notes_show_code_and_fold_what_is_not_shown(opened, reports, tmp_path):
    one = opened()
    one.go(reports["events"])
    note = one.page.locator(".note")
    assert note.locator(":scope > ul > li").count() == 2
    assert note.locator("summary").inner_text() == "3 runs are not shown"
    assert not note.get_by_text("one, two").is_visible()
    note.locator("summary").click()
    assert note.get_by_text("one, two").is_visible()
    assert note.locator("code").all_inner_texts() == ["avpipe quarantine ls", "avpipe evaluate"]
    assert "`" not in note.inner_text()
    toy = Toy("events", clips=1, details=0)
    toy.data["notes"] = ["Not shown beside this run: one (cannot be read)."]
    one.go(write(toy, tmp_path / "one.html"))
    assert note.locator("summary").inner_text() == "1 run is not shown"


def test_curves_can_be_read_by_pointer(opened, reports):
    one = opened()
    one.go(reports["events"])
    one.page.locator(".charts").scroll_into_view_if_needed()
    box = one.page.locator(".chart").first.bounding_box()
    texts: list[str] = []
    for share in (0.15, 0.5, 0.97):
        one.page.mouse.move(box["x"] + share * box["width"], box["y"] + 60)
        texts.append(one.page.locator(".readout").inner_text())
    epochs = [int(re.match(r"Epoch (\d+):", text)[1]) for text in texts]
    assert all(a < b for a, b in pairwise(epochs))
    assert "reported" in one.page.locator(".chart").first.text_content()


def test_filters_agree(opened, reports):
    one = opened()
    one.go(reports["events"])
    clips = Toy("events").clips
    one.page.get_by_label("Wrong only").check()
    wrong = sum(clip["score"] < 1 for clip in clips)
    assert one.page.locator(".clip").count() == wrong < len(clips)
    one.page.get_by_label("Class", exact=True).select_option("Helicopter")
    with_class = sum(clip["score"] < 1 and 3 in clip["truth"] + clip["predicted"] for clip in clips)
    assert one.page.locator(".clip").count() == with_class
    assert 0 < with_class < wrong
    one.page.get_by_label("Find clips").fill("no such clip")
    assert one.page.get_by_text("No clip passes these filters.").is_visible()


def test_a_file_that_was_cut_off_says_so(opened, reports, tmp_path):
    text = reports["events"].read_text(encoding="utf-8")
    short = tmp_path / "short.html"
    short.write_text(text[: text.index('id="detail-2"') - 100], encoding="utf-8")  # in the middle of the one before
    one = opened()
    one.go(short)
    one.clip(0)
    assert one.page.locator(".pane .why").count() == 1
    for place in (1, 3):
        one.clip(place)
        assert "The file ends before the media of this clip" in one.page.locator(".pane .why").first.inner_text()


def test_a_report_with_next_to_nothing_in_it_opens(opened, tmp_path):
    toy = Toy("events", clips=0, details=0)
    toy.data |= {"scores": {"main": "accuracy", "protocols": []}, "confusion": None, "layers": None, "costs": []}
    toy.data |= {"curves": {"score": "val_accuracy", "epochs": []}, "notes": [], "spec": {}, "environment": {}}
    one = opened()
    one.go(write(toy, tmp_path / "bare.html"))
    sections = one.page.locator("main > section h2").all_inner_texts()
    assert sections == ["Scores", "Training", "Clips, hardest first", "What was run"]
    assert one.page.locator(".found").inner_text() == "0 clips"


def test_without_a_script_there_is_a_sentence(opened, reports):
    one = opened(java_script_enabled=False)
    one.go(reports["events"])
    assert "Allow JavaScript" in one.page.locator("noscript").inner_text()


def test_the_score_says_what_it_rests_on_and_differences_fit_what_is_shown(opened, tmp_path):
    toy = Toy("events", clips=1, details=0)
    toy.clips[0] |= {"truth": [0] * 10, "predicted": [0] * 5 + [1] * 5}
    names = (("ours", "this", 0.5), ("other", "run", 0.46949))  # 50.0 and 46.9 %: 3.1 points, not 3.05
    toy.data["scores"]["protocols"][0]["rows"] = [
        row(name, kind, 0, value, ["accuracy"]) for name, kind, value in names
    ]
    toy.data["layers"] |= {"base": 0.4896, "rows": [{"modality": "audio", "tap": "a", "score": 0.4834, "cost": 0.0062}]}
    one = opened()
    one.go(write(toy, tmp_path / "counts.html"))
    text = one.page.locator(".scoreline").inner_text()
    assert "5 of 10 segments, 1 test clip\n" in text
    assert "46.9 %" in text
    assert "3.1 points above" in text
    shown = one.page.locator("table.layers tbody td").all_inner_texts()
    assert [part.strip() for part in shown] == ["\u22120.7", "48.3 %"]  # of 49.0 %


def test_one_epoch_gives_no_impossible_axis(opened, tmp_path):
    toy = Toy("events", clips=1, details=0)
    toy.data["curves"]["epochs"] = [toy.data["curves"]["epochs"][0] | {"val_accuracy": 0.0, "train_loss": 0.0}]
    one = opened()
    one.go(write(toy, tmp_path / "epoch.html"))
    marks = one.page.locator(".chart text").all_text_contents()
    assert "0 %" in marks
    assert [mark for mark in marks if mark.startswith("\u2212")] == []


def test_weights_that_were_asked_for_stand_in_the_set_up(opened, tmp_path):
    toy = Toy("events", clips=1, details=0)
    toy.data["spec"]["visual"]["weights"] = "random:0"
    one = opened()
    one.go(write(toy, tmp_path / "weights.html"))
    for fold in one.page.locator("#setup summary").all():
        fold.click()
    texts = [" ".join(text.split()) for text in one.page.locator("#setup .keys > div").all_inner_texts()]
    assert "weights random:0" in texts
