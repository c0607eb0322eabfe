"""What a report says before its numbers, and the files that it does not touch."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from avpipe.pipeline.datasets.overrides import FILE_NAME
from avpipe.pipeline.errors import UsageError
from avpipe.stages import runs
from avpipe.stages.report import make_report
from avpipe.stages.report.document import build
from avpipe.stages.report.sources import open_sources
from avpipe.stages.train import TrainOptions, train

SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "epochs=1")
RECORD = {"seed": 3, "clips": 40, "generator": 1}
SYNTHETIC = "Synthetic demo data (seed 3, clips 40, generator 1): scores say nothing about real recordings."


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AVPIPE_DATA", raising=False)
    monkeypatch.delenv("AVPIPE_CACHE", raising=False)


@pytest.fixture
def run(event_run, tmp_path):
    """A copy of a scored run."""
    return copied(event_run, tmp_path / "runs" / "ours")


def copied(run, to):
    shutil.copytree(run, to, copy_function=shutil.copy2)
    return to


def document(run, beside=None, root=None):
    sources = open_sources(run, "test", None, root, "cpu")
    return build(sources, clips=0, beside=beside, device="cpu", layers=False).data


def change(run, **values):
    """Puts other values into a run's environment; None removes a key."""
    known = json.loads((run / runs.ENVIRONMENT).read_text()) | values
    (run / runs.ENVIRONMENT).write_text(json.dumps({key: value for key, value in known.items() if value is not None}))


def change_predictions(run, **arrays):
    path = run / "predictions-test.npz"
    with np.load(path) as stored:
        known = {name: stored[name] for name in stored.files}
    np.savez(path, **(known | arrays))


def test_other_files_are_kept(run, tmp_path):
    weights, settings = (run / runs.BEST).read_bytes(), (run / runs.CONFIG).read_bytes()
    (tmp_path / "mine.html").write_text("<!doctype html><title>mine</title>")
    (tmp_path / "config.html").symlink_to(run / runs.CONFIG)
    (tmp_path / "null.html").symlink_to("/dev/null")
    (run / "report.html").write_text("notes")
    for out in (run / runs.BEST, run / runs.CONFIG, "/dev/full", "-", "", "page"):
        with pytest.raises(UsageError, match=r"ends in \.html"):
            make_report(run, out=type(run)(out))
    for out in ("mine.html", "config.html", "null.html", None):
        with pytest.raises(UsageError, match="is no report of avpipe"):
            make_report(run, out=out and tmp_path / out)
    with pytest.raises(UsageError, match="does not exist"):
        make_report(run, out=tmp_path / "no" / "report.html")
    assert ((run / runs.BEST).read_bytes(), (run / runs.CONFIG).read_bytes()) == (weights, settings)
    assert (run / "report.html").read_text() == "notes"
    page = tmp_path / "page.HTM"
    for clips in (0, 1):
        assert make_report(run, out=page, clips=clips, layers=False).details == clips


def test_demo_data_and_random_weights_stand_first_and_outlive_cache_and_data(make_toy, tmp_path):
    toy = make_toy["events"](tmp_path / "toy")
    (toy.root / FILE_NAME).write_text(yaml.safe_dump({"demo": {"ave": RECORD}}))
    run = train(TrainOptions(cache=toy.cache, run=tmp_path / "run", modality="audio", overrides=SMALL))
    about = json.loads((run / runs.ENVIRONMENT).read_text())
    assert about["data"] == {"root": str(toy.root.resolve()), "demo": RECORD}
    assert about["weights"] == {"audio": None}  # the toy's cache was not asked for any
    data = document(run)
    assert (data["notes"][0], list(data["spec"])) == (SYNTHETIC, ["audio"])
    change(run, weights={"audio": "random:0"})
    shutil.rmtree(toy.root)
    shutil.rmtree(toy.cache)
    data = document(run)
    random = "Random weights in the audio backbone: scores do not say what a method is worth."
    assert data["notes"][:2] == [SYNTHETIC, random]
    assert data["spec"]["audio"]["weights"] == "random:0"


def test_demo_data_of_a_run_that_does_not_record_them(run, toy_events, tmp_path):
    root = tmp_path / "elsewhere"
    shutil.copytree(toy_events.root, root)
    assert not any("demo data" in note for note in document(run, root=root)["notes"])
    (root / FILE_NAME).write_text(yaml.safe_dump({"demo": {"ave": RECORD}}))
    change(run, data=None, weights=None)
    notes = document(run, root=root)["notes"]
    assert notes[0] == SYNTHETIC
    assert f"The dataset is read from {root.resolve()}; at training it was at {toy_events.root.resolve()}." in notes
    assert not any("is read from" in note for note in document(run)["notes"])


def test_which_weights_were_asked_for():
    asked = {"visual": {"weights": "/home/ann/vit.safetensors"}, "audio": {"weights": "random:0"}, "other": {}}
    cache = SimpleNamespace(specs={name: SimpleNamespace(request=request) for name, request in asked.items()})
    assert runs.asked_weights(cache, ("visual", "other")) == {"visual": "vit.safetensors", "other": None}
    assert runs.asked_weights(cache, ("audio",)) == {"audio": "random:0"}


def test_lost_epochs(run):
    (run / runs.EPOCHS).write_text((run / runs.EPOCHS).read_text()[:-20])
    data = document(run)
    assert [record["epoch"] for record in data["curves"]["epochs"]] == [1, 2, 3]
    assert "epochs.jsonl cannot be read behind epoch 3: curves and times end there." in data["notes"]
    (run / runs.EPOCHS).unlink()
    data = document(run)
    assert "No record of the epochs in epochs.jsonl: no curves, no training time." in data["notes"]
    assert [cost["name"] for cost in data["costs"] if cost["group"] == "training"] == ["trainable parameters"]


def test_lost_checkpoints(run):
    twin = copied(run, run.parent / "twin")
    (twin / runs.BEST).unlink()
    assert "Not shown beside this run: twin (its best.safetensors is missing)." in document(run)["notes"]
    with pytest.raises(UsageError, match=r"best\.safetensors is missing, though epochs were finished"):
        document(twin)
    for name in (runs.EPOCHS, runs.LAST):
        (twin / name).unlink()
    assert "Not shown beside this run: twin (it has no finished epoch)." in document(run)["notes"]
    with pytest.raises(UsageError, match="has no finished epoch"):
        document(twin)


def test_one_answer_for_all(run, mask_run, tmp_path):
    assert not any("in every segment" in note for note in document(run)["notes"])
    change_predictions(run, predicted=np.full(80, 28), scores=np.eye(29, dtype=np.float32)[np.full(80, 28)])
    assert "The model predicts background in every segment of test." in document(run)["notes"]
    masks = copied(mask_run, tmp_path / "masks")
    logits = np.full((40, 32, 32), -3, np.float16)
    logits[7, 5, 5] = 3
    change_predictions(masks, logits=logits)
    assert not any("in every segment" in note for note in document(masks)["notes"])
    for logit, what, share in ((-3, "nothing", 0), (3, "everything", 1)):
        change_predictions(masks, logits=np.full((40, 32, 32), logit, np.float16))
        data = document(masks)
        assert f"The model paints {what} in every segment of test." in data["notes"]
        assert {painted for clip in data["clips"] for painted in clip["painted"]} == {share}


def test_what_is_true_and_painted_in_each_segment(mask_run):
    sources = open_sources(mask_run, "test", None, None, "cpu")
    clips = build(sources, clips=0, beside=(), device="cpu", layers=False).data["clips"]
    places = {sample.id: index for index, sample in enumerate(sources.samples)}
    task = sources.config.build_task(sources.samples)
    for clip in clips:
        index = places[clip["id"]]
        logits = sources.predictions["logits"][5 * index : 5 * index + 5]
        np.testing.assert_allclose(clip["painted"], (logits > 0).mean(axis=(1, 2)), atol=1e-4)
        assert clip["empty"] == [None if mask is None else not mask.any() for mask in task.truth(index)]


def test_chance(run):
    data = document(run)
    scores = np.array([clip["score"] for clip in data["clips"]])
    error = 100 * scores.std(ddof=1) / np.sqrt(8)
    (note,) = [note for note in data["notes"] if "one seed" in note]
    assert note.startswith("8 samples of test (80 segments), one seed:")
    assert f"error of {error:.1f} points over samples, so differences of less than {2 * error:.1f} points" in note
    everywhere = np.full(80, 27)  # a class that no clip has: every clip scores 0, which says nothing of chance
    alike = copied(run, run.parent.parent / "elsewhere" / "alike")
    change_predictions(alike, predicted=everywhere, scores=np.eye(29, dtype=np.float32)[everywhere])
    assert "One seed: another one would give another score." in document(alike)["notes"]
    twin = copied(run, run.parent / "twin")
    (twin / runs.CONFIG).write_text((twin / runs.CONFIG).read_text().replace("seed: 0", "seed: 1"))
    assert not any("one seed" in note for note in document(run)["notes"])


def test_runs_named_wrongly_are_found_before_the_work(run, mask_run, monkeypatch):
    def not_yet(*args):
        raise AssertionError("the run was opened before the others were looked at")

    monkeypatch.setattr("avpipe.stages.report.sources.open_sources", not_yet)
    bare = copied(run, run.parent / "bare")
    (bare / "metrics.json").unlink()
    for other, why in ((run / "nope", "is no run folder"), (mask_run, "is on avsbench-ms3"), (bare, "not scored")):
        with pytest.raises(UsageError, match=why):
            make_report(run, beside=[other])


def test_the_run_beside_itself(run):
    data = document(run, beside=[run])
    assert f"--beside {run} is the run itself, so it is not shown again." in data["notes"]
    assert [row["kind"] for row in data["scores"]["protocols"][0]["rows"]] == ["this", "constant"]
