"""Audio-visual video parsing: the protocol's rules one by one, and against the loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from slow_metrics import llp_video, quick

from avpipe.pipeline.errors import UsageError
from avpipe.stages.metrics import llp

numbers = st.integers(0, 2**32 - 1)


def row(*runs, length=10):
    """A map of one class with these runs of ones, given as (first, past the last)."""
    values = np.zeros((1, length), dtype=np.uint8)
    for first, end in runs:
        values[0, first:end] = 1
    return values


def audio(predicted, truth, **options):
    """Segment and event score of one class that is heard and never seen."""
    silent = np.zeros_like(truth)
    scores = llp.video_scores(predicted[None], silent[None], truth[None], silent[None], **options)[0]
    return scores[llp.COLUMNS.index("segment_audio")], scores[llp.COLUMNS.index("event_audio")]


def blobs(rng, videos, classes, segments):
    """Four maps with runs, not noise."""
    noise = rng.random((4, videos, classes, segments))
    return (np.cumsum(noise - 0.5, axis=-1) > rng.normal(0, 0.7, (4, videos, classes, 1))).astype(np.uint8)


def test_nothing_anywhere_scores_one_and_anything_wrong_zero():
    empty, some = row(), row((2, 5))
    assert audio(empty, empty) == (1, 1)
    assert audio(some, empty) == audio(empty, some) == (0, 0)
    assert audio(some, some) == (1, 1)


@pytest.mark.parametrize(
    ("predicted", "truth", "event"),
    [
        (row((0, 2)), row((0, 4)), 1),  # IoU exactly one half
        (row((0, 2)), row((0, 5)), 0),  # just below
        (row((0, 2), (3, 5)), row((0, 5)), 0),  # two halves of one event, 2/5 each
        (row((0, 3), (4, 5)), row((0, 5)), 2 / 3),  # one of them is enough
        (row((0, 5)), row((0, 3), (4, 5)), 2 / 3),  # one event for two true ones
        (row((9, 10)), row((9, 10)), 1),  # at the end
        (row((0, 1), (9, 10)), row((9, 10)), 2 / 3),
    ],
)
def test_events_match_by_half_of_their_union(predicted, truth, event):
    assert audio(predicted, truth)[1] == pytest.approx(event)


def test_runs_of_neighbouring_rows_do_not_grow_together():
    """The last segment of one class and the first of the next lie side by side in memory."""
    truth = np.concatenate([row((8, 10)), row((0, 2))])
    assert audio(truth, truth) == (1, 1)
    assert audio(np.concatenate([row((8, 10)), row()]), truth) == (0.5, 0.5)


def test_the_threshold_of_matching_can_be_named():
    predicted, truth = row((0, 2)), row((0, 6))
    assert audio(predicted, truth)[1] == 0
    assert audio(predicted, truth, iou_threshold=1 / 3)[1] == 1
    both = row((0, 2), (4, 6))  # a low threshold lets two predictions find one event
    assert audio(both, truth, iou_threshold=0.3)[1] == 1
    assert llp.protocol_name() == "llp-official"
    assert llp.protocol_name(iou_threshold=0.3, video_threshold=0.4) == "llp-video0.4-iou0.3"


def test_audio_visual_is_the_product_and_event_adds_the_counts():
    heard, seen = row((0, 4)), row((2, 8))
    scores = llp.summary(llp.video_scores(heard[None], seen[None], heard[None], np.zeros_like(seen)[None]))
    assert scores["segment_audio"] == 1
    assert scores["segment_visual"] == scores["segment_audio_visual"] == 0
    assert scores["segment_type_av"] == pytest.approx(1 / 3)
    assert scores["segment_event_av"] == pytest.approx(2 * 4 / (2 * 4 + 6))


def test_gate_keeps_what_reaches_both_thresholds():
    segments = np.array([[0.5, 0.49, 1.0], [1.0, 1.0, 0.0]], dtype=np.float32)
    assert llp.gate(segments, [0.5, 0.49]).tolist() == [[True, False, True], [False] * 3]
    assert llp.gate(segments, [0.5, 0.49], video_threshold=0.4, segment_threshold=0.6).tolist() == [
        [False, False, True],
        [True, True, False],
    ]
    with pytest.raises(UsageError, match=r"\(2, 3\) and \(3,\)"):
        llp.gate(segments, [1, 1, 1])


def test_refuses_what_cannot_be_scored():
    maps = np.zeros((4, 1, 2, 3))
    with pytest.raises(UsageError, match="through `gate` first"):
        llp.video_scores(maps[0] + 0.3, *maps[1:])
    with pytest.raises(UsageError, match=r"\(1, 2, 2\)"):
        llp.video_scores(maps[0][..., :2], *maps[1:])
    with pytest.raises(UsageError, match="no video"):
        llp.summary(np.zeros((0, 8)))
    scorer = llp.LlpScorer(2)
    with pytest.raises(UsageError, match=r"\[videos, classes, T\]"):
        scorer.add(0, maps[0], *maps[1:, 0])
    scorer.add(0, *maps[:, 0])
    with pytest.raises(UsageError, match="1 of 2 videos"):
        scorer.result()


@quick
@given(maps=arrays.arrays(np.bool_, st.tuples(st.just(4), st.just(1), st.integers(1, 3), st.integers(1, 12))))
def test_small_maps_equal_the_loops(maps):
    assert llp.video_scores(*maps)[0] == pytest.approx(llp_video(maps[:, 0]), abs=1e-12)


@quick
@given(seed=numbers, threshold=st.sampled_from([0.2, 0.5, 0.75]))
def test_equals_the_loops_for_videos_of_any_length_in_any_order(seed, threshold):
    rng = np.random.default_rng(seed)
    videos = [blobs(rng, 1, 4, int(rng.integers(1, 15)))[:, 0] for _ in range(5)]
    scorer = llp.LlpScorer(5, iou_threshold=threshold)
    for index in rng.permutation(5):
        scorer.add(index, *videos[index])
    slow = np.array([llp_video(maps, threshold) for maps in videos])
    assert scorer.per_video() == pytest.approx(slow, abs=1e-12)
    means = dict(zip(llp.COLUMNS, slow.mean(axis=0), strict=True))
    found = scorer.result()
    assert {name: found[name] for name in llp.COLUMNS} == pytest.approx(means)
    types = [means[f"event_{kind}"] for kind in ("audio", "visual", "audio_visual")]
    assert found["event_type_av"] == pytest.approx(np.mean(types))


@quick
@given(seed=numbers)
def test_bounds_perfection_and_names_of_classes(seed):
    rng = np.random.default_rng(seed)
    maps = blobs(rng, 6, 5, 10)
    scores = llp.video_scores(*maps)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (llp.video_scores(*maps[2:], *maps[2:]) == 1).all()
    assert llp.video_scores(*maps[:, :, rng.permutation(5)]) == pytest.approx(scores, abs=1e-12)
    backwards = llp.video_scores(*maps[:, ::-1, :, ::-1])[::-1]
    assert backwards == pytest.approx(scores, abs=1e-12)
    padded = np.pad(maps, ((0, 0), (0, 0), (0, 1), (0, 4)))  # a class and segments in which nothing is
    assert llp.video_scores(*padded) == pytest.approx(scores, abs=1e-12)
