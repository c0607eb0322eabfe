import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_metrics import quick

from avpipe.stages.metrics import ave

numbers = st.integers(0, 2**32 - 1)


def scored(predicted, truth, order=None, **options):
    scorer = ave.AveScorer(len(truth), **options)
    for index in range(len(truth)) if order is None else order:
        scorer.add(index, predicted[index], truth[index])
    return scorer


def test_ties_go_to_the_lowest_class():
    assert ave.decide([[0.0, 2.0, 2.0], [1.0, 1.0, 1.0], [0.0, 0.0, 3.0]]).tolist() == [1, 0, 2]


def test_background_counts_and_segments_are_pooled():
    truth = np.array([[0, 0, 28, 28], [28, 28, 28, 28]])
    predicted = np.array([[0, 1, 28, 0], [28, 28, 28, 3]])
    scores = ave.segment_accuracy(predicted, truth)
    assert scores == {"protocol": "ave-segment-accuracy", "accuracy": 5 / 8, "correct": 5, "segments": 8}
    assert scored(predicted, truth, [1, 0]).result() == scores


def test_two_heads_need_more_than_one_half_and_share_a_class():
    events = [[0.0, 1e-9, 1e-6, 5.0], [-3.0, 0.0, -1e-6, 2.0]]  # the sigmoid of 1e-9 is one half in float32
    classes = [[1.0, 4.0, 4.0], [9.0, 0.0, 0.0]]
    assert ave.decide_two_head(events, classes).tolist() == [[28, 28, 1, 1], [28, 28, 28, 0]]
    assert ave.decide_two_head(events, classes, background=3).tolist()[0] == [3, 3, 1, 1]


def test_a_short_last_batch_weighs_as_much_as_a_full_one():
    truth = np.zeros((17, 10), dtype=int)
    predicted = truth.copy()
    predicted[:16] = 1
    scores = scored(predicted, truth, two_head=True).result()
    assert (scores["protocol"], scores["accuracy"]) == ("ave-two-head", 10 / 170)
    other = scores["other_protocols"]["ave-two-head-batch16"]
    assert (other["protocol"], other["accuracy"], other["batches"]) == ("ave-two-head-batch16", 0.5, [0.0, 1.0])


def test_clips_differ_in_length_and_may_be_empty():
    truth = [[0, 1, 2], [], [5]]
    scorer = scored([[0, 1, 1], [], [5]], truth, two_head=True)
    assert scorer.result()["accuracy"] == 3 / 4
    assert scorer.batch_result(1)["batches"] == [2 / 3, 1]


def test_refuses_what_cannot_be_scored():
    with pytest.raises(ValueError, match=r"\(2, 10\)"):
        ave.segment_accuracy(np.zeros((2, 10)), np.zeros((2, 9)))
    with pytest.raises(ValueError, match="no segment"):
        ave.segment_accuracy([], [])
    with pytest.raises(ValueError, match="no segment"):
        scored([[]], [[]]).result()
    with pytest.raises(ValueError, match=r"\(3, 10\) and \(2, 28\)"):
        ave.decide_two_head(np.zeros((3, 10)), np.zeros((2, 28)))
    scorer = ave.AveScorer(2)
    scorer.add(1, [0], [0])
    with pytest.raises(ValueError, match=r"1 of 2 samples were never added \(places 0\)"):
        scorer.result()


@quick
@given(seed=numbers, samples=st.integers(1, 9), classes=st.integers(2, 6), size=st.integers(1, 5))
def test_equals_the_loops_whatever_the_order(seed, samples, classes, size):
    rng = np.random.default_rng(seed)
    truth, predicted = (rng.integers(0, classes, (samples, 10)) for _ in range(2))
    scorer = scored(predicted, truth, rng.permutation(samples), two_head=True)
    right = [sum(int(p == t) for p, t in zip(*pair, strict=True)) for pair in zip(predicted, truth, strict=True)]
    batches = [sum(right[i : i + size]) / (10 * len(right[i : i + size])) for i in range(0, samples, size)]
    assert scorer.result()["correct"] == sum(right)
    assert scorer.batch_result(size)["batches"] == batches
    assert scorer.batch_result(size)["accuracy"] == pytest.approx(sum(batches) / len(batches))
    renamed = rng.permutation(classes)
    again = ave.segment_accuracy(renamed[predicted], renamed[truth])
    assert again["accuracy"] == scorer.result()["accuracy"] == sum(right) / (10 * samples)
    assert ave.segment_accuracy(truth, truth)["accuracy"] == 1
