"""The vectorised scores against the protocol written out with loops, and its rules one by one."""

import numpy as np
import pytest

from avpipe.pipeline.errors import UsageError
from avpipe.stages.metrics import avs

RNG = np.random.default_rng(3)


def by_loops(chance, truth):
    """F curve of one frame, threshold by threshold."""
    curve = []
    for threshold in avs.thresholds():
        on = chance >= threshold
        hits = np.sum(on & truth)
        precision, recall = hits / (on.sum() + 1e-20), hits / (truth.sum() + 1e-20)
        below = 0.3 * precision + recall
        curve.append(1.3 * precision * recall / below if below else 0.0)
    return np.array(curve)


def frames(count, size=(9, 7)):
    chance = RNG.random((count, *size), dtype=np.float32)
    chance[:, 0, :3] = avs.thresholds()[[0, 100, 254]]  # exactly on thresholds
    return chance, RNG.random((count, *size)) > 0.6


def test_equals_the_loops():
    chance, truth = frames(4)
    truth[2] = False
    scores = avs.frame_scores(chance, truth)
    for i in (0, 1, 3):
        assert scores.curve[i] == pytest.approx(by_loops(chance[i], truth[i]), abs=1e-12)
        on = chance[i] > 0.5
        assert scores.iou[i] == pytest.approx((on & truth[i]).sum() / (on | truth[i]).sum(), abs=1e-6)
    assert scores.empty.tolist() == [False, False, True, False]


def test_thresholds_reached_equal_a_binary_search_at_every_edge():
    limits = avs.thresholds()
    values = np.concatenate([limits, np.nextafter(limits, np.float32(2)), np.nextafter(limits, np.float32(-1))])
    values = np.clip(np.concatenate([values, RNG.random(100_000, dtype=np.float32)]), 0, 1)
    assert (avs._thresholds_reached(values) == np.searchsorted(limits, values, side="right")).all()
    assert (len(limits), limits.dtype, limits[0], limits[127], limits[-1]) == (255, np.float32, 0, 0.5, 1)


def test_thresholds_are_rounded_as_torch_rounds_them():
    """The official evaluator's are torch.linspace(0, 1, 255); these are its values where other roundings differ."""
    found = avs.thresholds()
    values = {143: 0.5629921555519104, 174: 0.6850394010543823, 207: 0.8149606585502625, 239: 0.9409449100494385}
    assert {i: float(found[i]) for i in values} == values
    naive = (np.float64(np.float32(1 / 254)) * np.arange(255)).astype(np.float32)
    assert (found != naive).sum() == 8
    assert (found != np.linspace(0, 1, 255, dtype=np.float32)).sum() == 10


def test_exactly_one_half_is_off_for_iou_and_on_for_f():
    half, truth = np.full((1, 2, 2), 0.5, dtype=np.float32), np.ones((1, 2, 2), dtype=bool)
    scores = avs.score([avs.frame_scores(half, truth)])
    assert scores["miou"] == 0
    assert scores["fscore"] == pytest.approx(1)


def test_an_empty_mask_scores_the_share_rightly_off_and_is_left_out_of_f():
    chance = np.zeros((2, 2, 2), dtype=np.float32)
    chance[0, 0, 0] = 1
    truth = np.zeros((2, 2, 2), dtype=bool)
    truth[1] = True
    scores = avs.frame_scores(chance, truth)
    assert scores.iou == pytest.approx([0.75, 0])
    assert avs.score([scores])["fscore"] == pytest.approx(by_loops(chance[1], truth[1]).max())
    assert avs.score([avs.frame_scores(chance[:1], truth[:1])])["fscore"] == 0


def test_protocols_differ_by_what_makes_a_batch():
    parts = [frames(n) for n in (5, 5, 5, 5, 5, 2)]
    parts[1][1][:] = False
    videos = [avs.frame_scores(*part) for part in parts]

    def mean_over(groups):
        fscores, mious = [], []
        for group in groups:
            curves = [by_loops(c, t) for i in group for c, t in zip(*parts[i], strict=True) if t.any()]
            fscores.append(np.mean(curves, axis=0).max() if curves else 0.0)
            mious.append(np.mean(np.concatenate([videos[i].iou for i in group])))
        return pytest.approx(np.mean(mious)), pytest.approx(np.mean(fscores))

    groups = {
        "avsbench-batch4": [range(4), range(4, 6)],
        "avsbench-batch1": [[i] for i in range(6)],
        "avsbench-batch2": [range(i, i + 2) for i in (0, 2, 4)],
        "avsbench-set": [range(6)],
    }
    found = {name: avs.score(videos, name) for name in groups}
    for name, grouping in groups.items():
        assert (found[name]["miou"], found[name]["fscore"]) == mean_over(grouping)
        assert (found[name]["protocol"], found[name]["frames"], found[name]["videos"]) == (name, 27, 6)
    assert len({scores["fscore"] for scores in found.values()}) == 4
    assert avs.score(videos) == found["avsbench-batch4"]


def test_a_video_without_annotated_frames_makes_no_batch():
    some = avs.frame_scores(*frames(3))
    assert avs.score([avs.join([]), some], "avsbench-batch1") == avs.score([some], "avsbench-batch1")


def test_refuses_what_cannot_be_scored():
    chance, truth = frames(1)
    with pytest.raises(ValueError, match="sigmoid"):
        avs.frame_scores(chance * 3, truth)
    with pytest.raises(ValueError, match="sigmoid"):
        avs.frame_scores(chance * np.float32("nan"), truth)
    with pytest.raises(ValueError, match="shape"):
        avs.frame_scores(chance, truth[:, 1:])
    with pytest.raises(ValueError, match="no frame"):
        avs.score([])
    with pytest.raises(UsageError, match="did you mean 'avsbench-batch4'"):
        avs.score([avs.frame_scores(chance, truth)], "avsbench-batch")


def test_sigmoid_does_not_warn_and_saturates():
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert avs.probabilities([-200.0, 0.0, 200.0]).tolist() == [0, 0.5, 1]
