"""Reports of parsing runs, and of weakly supervised ones: what they say is what was scored, and how it was learned."""

import json
import shutil

import numpy as np
import pytest

from avpipe.pipeline.datasets import load_dataset
from avpipe.stages import runs
from avpipe.stages.config import MODALITIES
from avpipe.stages.metrics import llp
from avpipe.stages.report import make_report
from avpipe.stages.report.document import build
from avpipe.stages.report.sources import open_sources


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AVPIPE_DATA", raising=False)
    monkeypatch.delenv("AVPIPE_CACHE", raising=False)


def document(run, layers=False):
    return build(open_sources(run, "test", None, None, "cpu"), clips=2, beside=(), device="cpu", layers=layers).data


def copied(run, to):
    shutil.copytree(run, to, copy_function=shutil.copy2)
    return to


def change_predictions(run, **arrays):
    with np.load(run / "predictions-test.npz") as stored:
        np.savez(run / "predictions-test.npz", **{**stored, **arrays})


def lane_map(clip, modality, key, classes):
    """A map `[classes, T]` from the lanes of a clip."""
    found = np.zeros((classes, clip["segments"]), dtype=int)
    for lane in clip["lanes"][modality]:
        found[lane["class"]] = lane[key]
    return found


def test_the_ten_numbers_and_the_constant_answers(parsing_run):
    data = document(parsing_run, layers=True)
    json.dumps(data, allow_nan=False)
    metrics = json.loads((parsing_run / "metrics.json").read_text())
    (protocol,) = data["scores"]["protocols"]
    assert (data["scores"]["main"], protocol["name"]) == ("segment_type_av", "llp-official")
    assert protocol["metrics"] == list(llp.METRICS)
    ours, *constants = protocol["rows"]
    assert ours["values"] == {name: metrics["metrics"][name] for name in llp.METRICS}
    assert {row["label"] for row in constants} == {name.replace("_", " ") for name in metrics["baselines"]}
    assert data["confusion"] is None
    assert data["layers"]["base"] == pytest.approx(metrics["metrics"]["segment_type_av"])
    assert [row["tap"] for row in data["layers"]["rows"]][:2] == [None, "blocks.9"]
    assert data["layers"]["how"].startswith("Segment-level Type@AV")


def test_lanes_are_truth_and_gated_predictions(parsing_run, toy_parsing):
    data = document(parsing_run)
    dataset = load_dataset("llp", toy_parsing.root)
    classes = len(dataset.classes)
    samples = {sample.id: sample for sample in dataset.split("test")}
    stored = np.load(parsing_run / "predictions-test.npz")
    places = {name: place for place, name in enumerate(stored["ids"].tolist())}
    assert set(samples) == {clip["id"] for clip in data["clips"]}
    everything = {m: dict.fromkeys(("true", "predicted", "hits"), 0) for m in MODALITIES}
    for clip in data["clips"]:
        place, sample = places[clip["id"]], samples[clip["id"]]
        chance = stored["segment_probability"][10 * place : 10 * place + 10]
        maps = {}
        for number, (modality, events) in enumerate(
            zip(MODALITIES, (sample.audio_events, sample.visual_events), strict=True)
        ):
            truth = np.zeros((classes, 10), dtype=int)
            for event in events:
                truth[event.class_id, event.start : event.end] = 1
            predicted = ((chance[:, number] >= 0.5) & (stored["video_probability"][place] >= 0.5)).T.astype(int)
            assert (lane_map(clip, modality, "truth", classes) == truth).all()
            assert (lane_map(clip, modality, "predicted", classes) == predicted).all()
            for lane in clip["lanes"][modality]:
                assert any(lane["truth"]) or any(lane["predicted"])
                np.testing.assert_allclose(lane["chance"], chance[:, number, lane["class"]], atol=6e-4)
            true_first = [any(lane["truth"]) for lane in clip["lanes"][modality]]
            assert true_first == sorted(true_first, reverse=True)
            maps[modality] = predicted, truth
            for key, value in (("true", truth), ("predicted", predicted), ("hits", truth & predicted)):
                everything[modality][key] += int(value.sum())
        given = [one[None] for pair in zip(*maps.values(), strict=True) for one in pair]
        scored = llp.summary(llp.video_scores(*given))["segment_type_av"]
        assert clip["score"] == pytest.approx(scored)
    ranks = [clip["score"] for clip in data["clips"]]
    assert ranks == sorted(ranks)
    assert max(everything["audio"].values()) > 0
    for modality, sums in everything.items():
        for key, value in sums.items():
            assert sum(one[modality][key] for one in data["class_scores"]) == value
    for one in data["class_scores"]:
        for modality in MODALITIES:
            counts = one[modality]
            total = counts["true"] + counts["predicted"]
            assert counts["f"] == (pytest.approx(2 * counts["hits"] / total) if total else None)


def test_weak_labels_and_one_answer_for_all_are_said(parsing_run, tmp_path):
    run = copied(parsing_run, tmp_path / "ours")
    notes = document(run)["notes"]
    assert any(note.startswith("Weak labels: training saw which classes a clip holds, not when") for note in notes)
    assert any("The epoch was chosen by labels of segments all the same." in note for note in notes)
    assert not any(note.startswith("The model ") for note in notes)
    stored = np.load(run / "predictions-test.npz")
    blank = {name: np.zeros_like(stored[name]) for name in ("segment_probability", "video_probability")}
    change_predictions(run, **blank)
    assert "The model hears nothing and sees nothing in every segment of test." in document(run)["notes"]
    blank["segment_probability"][:, 1, 3] = blank["video_probability"][:, 3] = 1
    change_predictions(run, **blank)
    assert "The model hears nothing and sees Dog in every segment of test." in document(run)["notes"]
    heard = dict(np.load(parsing_run / "predictions-test.npz"))
    heard["segment_probability"][:, 1] = 0
    change_predictions(run, **heard)
    notes = document(run)["notes"]
    assert "The model sees nothing in every segment of test." in notes  # though it hears


def test_a_page_is_written_with_and_without_data(parsing_run, toy_parsing, tmp_path):
    run = copied(parsing_run, tmp_path / "ours")
    summary = make_report(run, device="cpu", layers=False)
    assert summary.clips == 8
    text = summary.path.read_text()
    assert '"lanes":{"audio":' in text
    config = (run / runs.CONFIG).read_text()
    config = config.replace(str(toy_parsing.root), str(tmp_path / "none"))
    (run / runs.CONFIG).write_text(config.replace(str(toy_parsing.cache), str(tmp_path / "gone")))
    alone = make_report(run, device="cpu", out=tmp_path / "alone.html")
    assert alone.clips == 0
    assert any("is gone" in note for note in alone.notes)
    change_predictions(run, segment_probability=np.zeros((80, 2, 25), np.float32))
    alone = make_report(run, device="cpu", out=tmp_path / "alone.html")
    assert "The model hears nothing and sees nothing in every segment of test." in alone.notes


def test_weak_supervision_of_events_is_said(event_run, tmp_path):
    run = copied(event_run, tmp_path / "runs" / "weak")
    assert not any("supervision" in note for note in document(run)["notes"])
    config = (run / runs.CONFIG).read_text()
    (run / runs.CONFIG).write_text(config.replace("supervision: full", "supervision: weak"))
    (note,) = [note for note in document(run)["notes"] if "supervision" in note]
    assert note.startswith("Weak supervision (`supervision=weak`): training saw the classes of whole clips")
