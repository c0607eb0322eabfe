"""The vectorised scores against the protocol written out with loops, and its rules one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_metrics import avs_curve, avs_iou, avs_set, full_size_frames, quick, small_set

from avpipe.pipeline.errors import UsageError
from avpipe.stages.metrics import avs, avs_frames

RNG = np.random.default_rng(3)


def by_loops(chance, truth):
    """F curve of one frame, threshold by threshold."""
    return avs_curve(chance, truth, avs.thresholds())


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
    middles = (np.arange(254) + 0.5) / 254
    values = np.concatenate([middles, np.nextafter(middles, 0), np.nextafter(middles, 1)]).astype(np.float32)
    values = np.concatenate([values, limits, np.nextafter(limits, np.float32(2)), np.nextafter(limits, np.float32(-1))])
    values = np.clip(np.concatenate([values, RNG.random(100_000, dtype=np.float32)]), 0, 1)
    assert (avs_frames._thresholds_reached(values) == np.searchsorted(limits, values, side="right")).all()
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


def test_precision_and_recall_at_the_thresholds():
    chance, truth = frames(3)
    truth[1] = False
    precision, recall = avs_frames.precision_recall(chance, truth)
    assert np.isnan(precision[1]).all()
    assert np.isnan(recall[1]).all()
    on = chance[0] >= avs.thresholds()[100]
    assert precision[0, 100] == pytest.approx((on & truth[0]).sum() / on.sum())
    assert recall[0, 100] == pytest.approx((on & truth[0]).sum() / truth[0].sum())


def test_videos_come_in_any_order_and_batches_in_the_official_one():
    parts = [frames(n, size) for n, size in ((5, (9, 7)), (5, (9, 7)), (3, (4, 4)), (0, (9, 7)), (5, (12, 3)))]
    parts[4][1][:] = False
    scorer = avs.AvsScorer(5)
    for index in (3, 1, 4, 0, 2):
        scorer.add(index, *parts[index])
    videos = [avs.frame_scores(*part) for part in parts]
    for name in (*avs.PROTOCOLS, "avsbench-batch2", "avsbench-batch8"):
        assert scorer.score(name) == avs.score(videos, name)
    found = scorer.result()
    assert found == {
        **avs.score(videos),
        "other_protocols": {name: avs.score(videos, name) for name in ("avsbench-batch1", "avsbench-set")},
    }
    assert (found["frames"], found["videos"]) == (18, 4)
    mious, fscores = scorer.batches("avsbench-batch1")
    assert mious == pytest.approx([avs.score([video])["miou"] for video in videos if len(video.iou)])
    assert fscores[-1] == 0  # only empty masks


def test_a_video_that_was_not_added_is_an_error():
    scorer = avs.AvsScorer(2)
    with pytest.raises(UsageError, match="sigmoid"):
        scorer.add(0, np.full((1, 2, 2), 2.0), np.ones((1, 2, 2)))
    scorer.add(0, *frames(1))
    with pytest.raises(UsageError, match="1 of 2 videos"):
        scorer.result()


@settings(quick, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), videos=st.integers(1, 5), size=st.integers(1, 3))
def test_equals_the_loops_on_random_sets(seed, videos, size):
    """Levels of probability that lie on thresholds, masks that are empty or full, videos of different lengths."""
    rng = np.random.default_rng(seed)
    levels = np.concatenate([avs.thresholds()[[0, 1, 126, 127, 128, 253, 254]], rng.random(3, dtype=np.float32)])
    parts = []
    for _ in range(videos):
        shape = (int(rng.integers(1, 4)), 3, 4)
        truth = (rng.random(shape) < rng.choice([0.2, 0.6, 1.1])) & (rng.random((shape[0], 1, 1)) < 0.7)
        parts.append((rng.choice(levels, shape), truth))
    scorer = avs.AvsScorer(videos)
    for index in rng.permutation(videos):
        scorer.add(index, *parts[index])
    for name, batch in ((f"avsbench-batch{size}", size), ("avsbench-set", videos)):
        scores = scorer.score(name)
        assert (scores["miou"], scores["fscore"]) == pytest.approx(avs_set(parts, avs.thresholds(), batch), abs=1e-9)
        assert 0 <= scores["miou"] <= 1
        assert 0 <= scores["fscore"] <= 1 + 1e-12
    backwards = [avs.frame_scores(*part) for part in parts[::-1]]
    for name in ("avsbench-batch1", "avsbench-set"):
        assert avs.score(backwards, name) == pytest.approx(scorer.score(name))
    full_mask = avs_set([(np.ones_like(c), t) for c, t in parts], [0.0], videos)[1]
    assert scorer.score("avsbench-set")["fscore"] >= full_mask - 1e-12  # threshold 0 accepts every pixel
    perfect = avs.score([avs.frame_scores(t.astype(np.float32), t) for _, t in parts], "avsbench-set")
    assert perfect["miou"] == pytest.approx(1, abs=1e-6)
    assert perfect["fscore"] == pytest.approx(float(any(t.any() for _, t in parts)))


def test_a_set_by_batch_size():
    """The F-score moves with the size of a batch; so does the mean IoU, a little, as the last batch is short."""
    chance, truth = small_set()
    scorer = avs.AvsScorer(23)
    for index in range(23):
        scorer.add(index, chance[index], truth[index])
    curves = [
        [avs_curve(c, t, avs.thresholds()) for c, t in zip(*pair, strict=True) if t.any()]
        for pair in zip(chance, truth, strict=True)
    ]
    found = set()
    for size in (1, 2, 4, 8, 23):
        batches = [[c for video in curves[start : start + size] for c in video] for start in range(0, 23, size)]
        slow = np.mean([np.mean(batch, axis=0).max() if batch else 0.0 for batch in batches])
        scores = scorer.score(f"avsbench-batch{size}")
        assert scores["fscore"] == pytest.approx(slow, abs=1e-9)
        found.add(scores["fscore"])
    assert len(found) == 5
    assert {**scorer.score("avsbench-set"), "protocol": ""} == {**scores, "protocol": ""}


def test_frames_of_full_size_equal_the_loops():
    logits, truth = full_size_frames()
    chance = avs.probabilities(logits[:2])
    scores = avs.frame_scores(chance, truth[:2])
    assert scores.iou == pytest.approx([avs_iou(c, t) for c, t in zip(chance, truth[:2], strict=True)])
    limits = avs.thresholds()
    assert scores.curve == pytest.approx(
        np.array([avs_curve(c, t, limits) for c, t in zip(chance, truth, strict=False)])
    )


def test_the_order_of_videos_matters_to_batches_of_several():
    rng = np.random.default_rng(8)
    videos = []
    for strength in (0.1, 0.9, 0.1, 0.9):
        truth = rng.random((2, 6, 6)) < 0.4
        videos.append(avs.frame_scores(np.clip(rng.random((2, 6, 6)) + strength * (truth - 0.5), 0, 1), truth))
    turned = [videos[i] for i in (0, 2, 1, 3)]
    assert avs.score(videos, "avsbench-batch2")["fscore"] != avs.score(turned, "avsbench-batch2")["fscore"]
    assert avs_iou(np.zeros((2, 2)), np.zeros((2, 2), dtype=bool)) == pytest.approx(1)
