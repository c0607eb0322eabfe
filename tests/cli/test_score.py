"""`avpipe score`: the official numbers through the command, and what it prints."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from avpipe.cli.main import app
from avpipe.pipeline.errors import UsageError

SHARED = Path(__file__).resolve().parents[3] / "shared"
GOLDEN, ANNOTATIONS = SHARED / "golden", SHARED / "annotations"
needs_shared = pytest.mark.skipif(not GOLDEN.is_dir() or not ANNOTATIONS.is_dir(), reason="no golden vectors here")


def run(*args):
    done = CliRunner().invoke(app, ["score", *map(str, args)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def expected(folder):
    return json.loads((GOLDEN / folder / "expected.json").read_text())


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """The real annotations in the official layouts, without media."""
    base = tmp_path_factory.mktemp("roots")
    shutil.copytree(ANNOTATIONS / "ave", base / "ave" / "AVE_Dataset", ignore=shutil.ignore_patterns("*.h5"))
    shutil.copytree(ANNOTATIONS / "llp", base / "llp" / "data", ignore=shutil.ignore_patterns("*first_release*"))
    shutil.copytree(ANNOTATIONS / "music_avqa", base / "music-avqa")
    return base


@needs_shared
def test_ave_official(roots, tmp_path):
    stored = np.load(GOLDEN / "ave" / "segment_accuracy.npz")
    np.savez(tmp_path / "p.npz", scores=stored["official_test_split__scores"])
    args = ("--dataset", "ave", "--root", roots / "ave", "--predictions", tmp_path / "p.npz")
    found = json.loads(run(*args, "--json"))
    theirs = expected("ave")["segment_accuracy"]["official_test_split"]
    assert found["metrics"]["accuracy"] == pytest.approx(theirs["accuracy"], abs=1e-9)
    assert (found["protocol"], found["samples"]) == ("ave-segment-accuracy", theirs["videos"])


@needs_shared
def test_ave_two_heads_official(roots, tmp_path):
    stored = np.load(GOLDEN / "ave" / "two_head_accuracy.npz")
    name = "official_test_split_bs16"
    arrays = {key: stored[f"{name}__{key}"] for key in ("event_logit", "class_logit")}
    np.savez(tmp_path / "p.npz", **arrays)
    found = json.loads(run("--dataset", "ave", "--root", roots / "ave", "--predictions", tmp_path / "p.npz", "--json"))
    theirs = expected("ave")["two_head_accuracy"][name]
    assert found["metrics"]["accuracy"] * 100 == pytest.approx(theirs["pooled_percent"], abs=1e-9)
    batches = found["other_protocols"]["ave-two-head-batch16"]
    assert batches["accuracy"] * 100 == pytest.approx(theirs["mean_of_batches_percent"], abs=1e-9)


@needs_shared
@pytest.mark.parametrize("split", [pytest.param("val", marks=pytest.mark.slow), "test"])
def test_llp_official(roots, tmp_path, split):
    stored, theirs = np.load(GOLDEN / "llp" / f"official_{split}.npz"), expected("llp")["expected"][f"official_{split}"]
    probability = stored["segment_prob_u8"] / np.float32(256), stored["video_prob_u8"] / np.float32(256)
    np.savez(tmp_path / "p.npz", segment_probability=probability[0], video_probability=probability[1])
    args = ("--dataset", "llp", "--root", roots / "llp", "--split", split, "--predictions", tmp_path / "p.npz")
    found = json.loads(run(*args, "--json"))
    assert found["printed"] == theirs["printed"]
    names = {
        "segment_audio": "seg_A",
        "segment_type_av": "seg_Type",
        "event_event_av": "evt_Event",
        "event_audio_visual": "evt_AV",
    }
    for ours, name in names.items():
        assert 100 * found["metrics"][ours] == pytest.approx(theirs[name], abs=1e-9)


@needs_shared
@pytest.mark.parametrize(
    ("name", "release"),
    [("test_updated", "update"), pytest.param("test_first_release", "first", marks=pytest.mark.slow)],
)
def test_music_avqa_official(roots, tmp_path, name, release):
    stored, theirs = np.load(GOLDEN / "avqa" / "predictions.npz"), expected("avqa")[name]
    np.savez(tmp_path / "p.npz", predicted=stored[f"{name}__pred"])
    base = ("--dataset", "music-avqa", "--root", roots / "music-avqa", f"release={release}", "--predictions")
    found = json.loads(run(*base, tmp_path / "p.npz", "--json"))
    assert found["printed"] == theirs["printed"]
    assert 100 * found["metrics"]["accuracy"] == pytest.approx(theirs["overall"], abs=1e-9)
    assert [[t["correct"], t["total"]] for t in found["metrics"]["types"].values()] == [
        theirs["correct_and_total"][key]
        for key in ("A_count", "A_cmp", "V_count", "V_loc", "AV_ext", "AV_count", "AV_loc", "AV_cmp", "AV_temp")
    ]
    assert found["options"] == {"release": release}
    if name == "test_updated":
        return
    answers = expected("avqa")["answers"]  # the same as texts
    rows = [json.dumps({"answer": answers[i]}) for i in stored[f"{name}__pred"].tolist()]
    (tmp_path / "p.jsonl").write_text("\n".join(rows))
    assert run(*base, tmp_path / "p.jsonl").splitlines()[:13] == theirs["printed"]


def test_what_it_prints_of_masks(toy_masks, tmp_path):
    names = [f"{'a-'[n % 2]}clip{n:06}" for n in range(32, 40) if n != 38]
    np.savez(tmp_path / "p.npz", logits=np.full((7, 5, 32, 32), -9.0), ids=names)
    args = ("--dataset", "avsbench", "--root", toy_masks.root, "--predictions", tmp_path / "p.npz")
    with pytest.raises(UsageError, match="1 of 8 samples of split test have no prediction: ms3/aclip000038"):
        run(*args)
    lines = run(*args, "--missing", "blank").splitlines()
    assert lines[0].split() == ["protocol", "miou", "fscore"]
    assert [line.split()[0] for line in lines[2:5]] == ["avsbench-batch4", "avsbench-batch1", "avsbench-set"]
    assert lines[5] == "avsbench-ms3 test: 8 samples, 1 of them without a prediction, scored as nothing found"
    assert lines[6] == "masks of 32 x 32"
    with pytest.raises(UsageError, match="is no setting: write key=value"):
        run(*args, "release")
    with pytest.raises(UsageError, match="is given twice"):
        run(*args, "a=1", "a=2")


def test_no_torch_is_needed(toy_events, tmp_path):
    np.savez(tmp_path / "p.npz", predicted=np.zeros((8, 10), int))
    code = (
        "import sys; from avpipe.cli.main import app\n"
        "try: app(sys.argv[1:])\n"
        "finally: assert not {'torch', 'zarr', 'timm'} & set(sys.modules)\n"
    )
    args = ["score", "--dataset", "ave", "--root", toy_events.root, "--predictions", tmp_path / "p.npz"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["protocol", "accuracy"]
    assert lines[2].split()[0] == "ave-segment-accuracy"
    assert lines[3:] == ["ave test: 8 samples"]
