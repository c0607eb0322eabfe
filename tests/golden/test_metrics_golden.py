"""Our scores against those of the official evaluators, on the golden vectors that lie beside the repository."""

import json
from pathlib import Path

import numpy as np
import pytest

from avpipe.stages.metrics import ave, avs

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="no golden vectors beside the repository")


def expected(folder):
    file = GOLDEN / folder / "expected.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def binary_masks(stored, name):
    shape = stored[f"{name}__shape"]
    return np.unpackbits(stored[f"{name}__gt"], count=int(np.prod(shape))).reshape(shape).astype(bool)


@pytest.mark.parametrize("name", expected("ave").get("segment_accuracy", ()))
def test_ave_segment_accuracy(name):
    stored = np.load(GOLDEN / "ave" / "segment_accuracy.npz")
    scores = stored[f"{name}__scores"].astype(np.float32)
    ours = ave.segment_accuracy(ave.decide(scores), stored[f"{name}__labels"])
    theirs = expected("ave")["segment_accuracy"][name]
    assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=1e-9)
    assert ours["segments"] == 10 * theirs["videos"]


@pytest.mark.parametrize("name", [n for n, case in expected("avs").items() if "frame_iou" in case])
def test_avs_cases(name):
    stored, theirs = np.load(GOLDEN / "avs" / "cases.npz"), expected("avs")[name]
    chance, truth = avs.probabilities(stored[f"{name}__logits"]), binary_masks(stored, name)
    together = avs.frame_scores(chance, truth)
    assert together.iou == pytest.approx(theirs["frame_iou"], abs=1e-5)
    assert avs.frame_iou(chance, truth) == pytest.approx(theirs["frame_iou"], abs=1e-5)
    scores = avs.score([together])
    assert scores["miou"] == pytest.approx(theirs["miou"], abs=1e-5)
    assert scores["fscore"] == pytest.approx(theirs["fscore"], abs=1e-5)
    alone = [avs.score([avs.frame_scores(p[None], m[None])])["fscore"] for p, m in zip(chance, truth, strict=True)]
    assert alone == pytest.approx(theirs["frame_fscore_alone"], abs=1e-5)


def test_avs_curve_follows_from_golden_precision_and_recall():
    stored, name = np.load(GOLDEN / "avs" / "cases.npz"), "five_frames"
    precision, recall = stored[f"{name}__precision"], stored[f"{name}__recall"]
    with np.errstate(invalid="ignore"):
        curve = np.nan_to_num(1.3 * precision * recall / (0.3 * precision + recall))
    ours = avs.frame_scores(avs.probabilities(stored[f"{name}__logits"]), binary_masks(stored, name))
    assert np.abs(ours.curve - curve).max() < 1e-5
