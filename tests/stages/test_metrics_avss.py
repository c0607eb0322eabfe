"""Class maps: the protocol's rules one by one, and against the loops."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_metrics import avss_set, quick

from avpipe.pipeline.errors import UsageError
from avpipe.stages.metrics import avss, avss_frames

numbers = st.integers(0, 2**32 - 1)


def scored(videos, order=None, **options):
    scorer = avss.AvssScorer(len(videos), **{"frames": None, **options})
    for index in range(len(videos)) if order is None else order:
        scorer.add(index, *videos[index])
    return scorer.result()


def maps(*rows):
    """One frame of one row of pixels for each argument, predicted and true."""
    return np.array(rows, dtype=np.uint8)[:, None, :]


def random_videos(rng, count, classes):
    """Pairs of maps of different lengths and sizes in which about half of the pixels are right."""
    found = []
    for _ in range(count):
        truth = rng.integers(0, classes, rng.integers(1, 5, 3)).astype(np.uint8)
        found.append((np.where(rng.random(truth.shape) < 0.5, truth, rng.integers(0, classes, truth.shape)), truth))
    return found


def test_one_frame_by_hand():
    scores = scored([(maps([0, 0, 1, 1]), maps([0, 1, 1, 2]))], classes=4)
    iou, f = [1 / 2, 1 / 3, 0, 0], [1.3 / (0.3 + 2), 1.3 / (0.6 + 2), 0, 0]
    assert scores["miou"] == pytest.approx(np.mean(iou))
    assert scores["fscore"] == pytest.approx(np.mean(f))
    assert scores["miou_over_seen"] == pytest.approx(np.mean(iou[:3]))  # class 2 was missed, class 3 never seen
    assert (scores["classes_seen"], scores["classes_never_seen"], scores["classes"]) == (3, 1, 4)
    assert scores["fscore_without_last_class"] == pytest.approx(np.mean(f[:3]))
    assert scores["protocol"] == "avss-official"
    assert json.loads(json.dumps(scores)) == scores


def test_a_false_alarm_counts_as_a_zero_in_its_frame():
    quiet = (maps([1, 1]), maps([1, 1]))
    alarm = (maps([1, 2]), maps([1, 1]))
    assert scored([quiet, quiet], classes=3)["miou"] == pytest.approx(1 / 3)
    assert scored([quiet, alarm], classes=3)["miou"] == pytest.approx((1 + 0.5) / 2 / 3)


def test_frames_are_averaged_and_sets_are_pooled():
    """The one number per frame and class, the other over all pixels: not comparable."""
    scores = scored([(maps([1, 1, 1, 1], [0, 0, 0, 1]), maps([1, 1, 1, 1], [0, 0, 1, 1]))], classes=2)
    assert scores["miou"] == pytest.approx((2 / 3 + (1 + 1 / 2) / 2) / 2)
    pooled = scores["other_protocols"]["avss-pooled"]
    assert pooled["miou"] == pytest.approx((2 / 3 + 5 / 6) / 2)
    assert pooled["fscore"] == round((1.3 * 2 / (0.6 + 3) + 1.3 * 5 / (1.8 + 5)) / 2, 4)


def test_a_perfect_prediction_suffers_from_classes_never_seen():
    video = (maps([0, 1, 2, 2]), maps([0, 1, 2, 2]))
    scores = scored([video], classes=71)
    assert scores["miou"] == scores["fscore"] == pytest.approx(3 / 71)
    assert scores["miou_over_seen"] == scores["fscore_over_seen"] == 1


def test_short_clips_are_padded_with_background_and_it_says_so():
    short = (maps([1, 1], [1, 1]), maps([1, 1], [1, 1]))
    whole = (np.concatenate([short[0], maps([0, 0])]), short[1])
    wrong = (np.concatenate([short[0], maps([1, 1])]), short[1])
    options = {"classes": 2, "frames": 3}
    assumed, given_frames, alarmed = (scored([video], **options) for video in (short, whole, wrong))
    assert (assumed["frames"], assumed["padded_frames"], assumed["assumed_frames"]) == (3, 1, 1)
    assert given_frames == {**assumed, "assumed_frames": 0}
    assert assumed["miou"] == 1
    assert alarmed["miou"] == pytest.approx((0 + 2 / 3) / 2)
    assert scored([short], classes=2)["miou"] == 1 / 2  # without padding nothing is background
    longer = scored([short], classes=2, frames=1)
    assert (longer["frames"], longer["padded_frames"]) == (2, 0)


def test_mean_over_classes_with_something_right():
    pixels = avss_frames.class_pixels(maps([0, 0, 1, 2], [1, 1, 1, 1]), maps([0, 0, 1, 1], [0, 0, 0, 0]), 3)
    assert avss_frames.mean_nonzero_iou(pixels) == pytest.approx([(1 + 1 / 2) / 2, np.nan], nan_ok=True)


def test_refuses_what_cannot_be_scored():
    truth = maps([0, 1], [1, 1])
    scorer = avss.AvssScorer(2, classes=2, frames=5)
    for wrong, message in (
        (truth[:1], r"\(1, 1, 2\), but the labels call for \(2, 1, 2\) or \(5, 1, 2\)"),
        (truth[:, :, :1], r"\(2, 1, 1\)"),
        (truth + 1, "predictions hold class 2"),
        (truth.astype(np.float32), "argmax"),
    ):
        with pytest.raises(UsageError, match=message):
            scorer.add(0, wrong, truth)
    with pytest.raises(UsageError, match="labels hold class 9"):
        scorer.add(0, truth, truth * 9)
    with pytest.raises(UsageError, match="labels have shape"):
        scorer.add(0, truth[0], truth[0])
    scorer.add(0, truth, truth)  # none of those took its place
    with pytest.raises(UsageError, match="1 of 2 videos"):
        scorer.result()
    with pytest.raises(UsageError, match="no pixel"):
        scored([(np.zeros((0, 2, 2), int), np.zeros((0, 2, 2), int))], classes=2)
    with pytest.raises(UsageError, match="two classes"):
        avss.AvssScorer(1, classes=1)


@quick
@given(seed=numbers, classes=st.sampled_from([2, 5, 40]))
def test_equals_the_loops_whatever_the_order(seed, classes):
    rng = np.random.default_rng(seed)
    videos = random_videos(rng, 3, min(classes, 7))
    found, slow = scored(videos, rng.permutation(3), classes=classes), avss_set(videos, classes)
    pooled = found["other_protocols"]["avss-pooled"]
    assert pooled["miou"] == pytest.approx(slow.pop("pooled_miou"))
    assert pooled["fscore"] == pytest.approx(slow.pop("pooled_fscore"), abs=1e-4)  # a tie may round either way
    assert {key: found[key] for key in slow} == pytest.approx(slow)
    assert scored(videos, classes=classes) == found


@pytest.mark.parametrize("classes", [71, 256, 257, 1000])
def test_many_classes(classes):
    """Pairs of classes are counted in the smallest integers that hold them."""
    videos = random_videos(np.random.default_rng(4), 3, 7)
    few = scored(videos, classes=7)
    many = scored(
        [(p.astype(np.int64) + classes - 7, t.astype(np.int64) + classes - 7) for p, t in videos], classes=classes
    )
    assert many["miou_over_seen"] == pytest.approx(few["miou_over_seen"])
    assert many["miou"] == pytest.approx(few["miou"] * 7 / classes)
    assert many["other_protocols"]["avss-pooled"]["fscore"] == few["other_protocols"]["avss-pooled"]["fscore"]


@quick
@given(seed=numbers)
def test_bounds_perfection_and_names_of_classes(seed):
    rng = np.random.default_rng(seed)
    videos, renamed = random_videos(rng, 3, 6), rng.permutation(6)
    found = scored(videos, classes=6)
    again = scored([(renamed[p], renamed[t]) for p, t in videos], classes=6)
    for key in ("miou", "fscore", "miou_over_seen", "fscore_over_seen"):
        assert again[key] == pytest.approx(found[key])
        assert 0 <= found[key] <= 1
    assert again["other_protocols"]["avss-pooled"] == pytest.approx(found["other_protocols"]["avss-pooled"])
    fixed = np.append(rng.permutation(5), 5)  # "without the last class" is about that class
    same = scored([(fixed[p], fixed[t]) for p, t in videos], classes=6)
    assert same["miou_without_last_class"] == pytest.approx(found["miou_without_last_class"])
    perfect = scored([(t, t) for _, t in videos], classes=6)
    assert perfect["miou_over_seen"] == perfect["fscore_over_seen"] == 1
    assert perfect["miou"] == pytest.approx(perfect["classes_seen"] / 6)
