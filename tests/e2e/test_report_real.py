"""Pages of real runs in a browser, and whether the made-up reports of the other tests speak as real ones do."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from report_toy import Toy

from avpipe.stages import runs
from avpipe.stages.report import make_report


@pytest.fixture(scope="module")
def pages(media_run, mask_run, parsing_run, tmp_path_factory) -> dict[str, Path]:
    """Reports of a run on real media, with a twin of another seed beside it, of one on masks, and of one on parsing."""
    folder = tmp_path_factory.mktemp("pages")
    ours, twin = folder / "runs" / "ours", folder / "runs" / "twin"
    for copy in (ours, twin):
        shutil.copytree(media_run, copy, copy_function=shutil.copy2)
    config = (twin / runs.CONFIG).read_text()
    (twin / runs.CONFIG).write_text(config.replace("seed: 0", "seed: 5"))
    made = {"events": make_report(ours, clips=2), "segmentation": make_report(mask_run, out=folder / "m.html", clips=2)}
    made["parsing"] = make_report(parsing_run, out=folder / "p.html", clips=2)
    return {task: one.path for task, one in made.items()}


@pytest.mark.parametrize("task", ["events", "segmentation"])
def test_a_real_report_opens_and_shows_its_labels(opened, pages, task):
    one = opened()
    one.go(pages[task])
    page = one.page
    score = {"events": "Accuracy", "segmentation": "Mean IoU"}[task]
    assert page.locator(".main-score dt").inner_text() == score
    heads = page.locator(".scores").first.locator("thead th").all_inner_texts()
    assert heads == ["Run", "Seed", score] + (["F-score"] if task == "segmentation" else [])
    cards = page.locator("#costs .card h3").all_inner_texts()
    assert cards == ["Extraction", "Cache", "Training", "Evaluation", "Report"]
    one.clip(0)
    for name in ("visual", "audio"):
        switches = page.locator(f'[data-modality="{name}"]')
        assert switches.get_by_label("Mechanism").locator("option").all_inner_texts() == [
            "kept",
            "adapted",
        ]
        layers = ["blocks.4", "blocks.5"] if task == "events" else ["blocks.10"]
        assert switches.get_by_label("Layer").locator("option").all_inner_texts() == layers
        switches.get_by_role("checkbox").check()
    if task == "events":
        assert page.locator(".screen video").count() == 1
        assert "over 2 seeds" in page.locator(".scores .mean").inner_text()
        assert "The one run beside it with the same settings" in page.locator(".scoreline").inner_text()
    else:
        page.get_by_role("radio", name="Errors").check()
        assert page.locator(".legend").inner_text().split("\n") == ["hit", "missed", "false alarm"]
    one.unfold()
    assert one.axe() == []


@pytest.mark.parametrize("task", ["events", "parsing", "segmentation"])
def test_made_up_reports_have_the_keys_and_names_of_real_ones(pages, task):
    toy = Toy(task, details=2)
    made, real = toy.data, _block(pages[task], "data")
    assert set(made) == set(real)
    for name in ("run", "scores", "curves", "layers"):
        assert set(made[name]) == set(real[name]), name
    assert set(made["settings"]) <= set(real["settings"])
    assert set(made["clips"][0]) == set(real["clips"][0])
    assert set(made["layers"]["rows"][0]) <= set(real["layers"]["rows"][0])
    assert set(made["curves"]["epochs"][0]) <= set(real["curves"]["epochs"][0])
    assert {made["curves"]["score"], made["scores"]["main"]} == {real["curves"]["score"], real["scores"]["main"]}
    ours, theirs = made["scores"]["protocols"], real["scores"]["protocols"]
    assert ours[0]["metrics"] == theirs[0]["metrics"]
    assert {one["name"] for one in ours} <= {one["name"] for one in theirs}
    if task == "parsing":
        assert set(made["class_scores"][0]["audio"]) == set(real["class_scores"][0]["audio"])
        lanes = [[lane for clip in data["clips"] for lane in clip["lanes"]["audio"]] for data in (made, real)]
        assert set(lanes[0][0]) == set(lanes[1][0])
    assert set(ours[0]["rows"][0]) == set(theirs[0]["rows"][0])
    if task == "events":  # the features of the masks were never extracted, and say so
        known = {(cost["group"], cost["name"], cost["unit"]) for cost in real["costs"]}
        named = {(cost["group"], cost["name"], cost["unit"]) for cost in made["costs"] if cost["group"] != "cache"}
        assert named <= known
    assert {cost["group"] for cost in made["costs"]} == {cost["group"] for cost in real["costs"]}
    mine, other = dict(toy.details())[0], _block(pages[task], "detail-0")
    assert set(mine) - {"ballast"} == set(other)
    maps, looks = mine["attention"]["visual"], other["attention"]["visual"]
    assert set(maps) == set(looks)
    assert maps["mechanisms"] == looks["mechanisms"]


def _block(page: Path, name: str) -> dict:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page.read_text(encoding="utf-8"))
    return json.loads(found[1])
