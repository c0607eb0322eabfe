import numpy as np
import pytest

from avpipe.stages.metrics import ave


def test_ties_go_to_the_lowest_class():
    assert ave.decide([[0.0, 2.0, 2.0], [1.0, 1.0, 1.0], [0.0, 0.0, 3.0]]).tolist() == [1, 0, 2]


def test_background_counts_and_segments_are_pooled():
    truth = np.array([[0, 0, 28, 28], [28, 28, 28, 28]])
    predicted = np.array([[0, 1, 28, 0], [28, 28, 28, 3]])
    scores = ave.segment_accuracy(predicted, truth)
    assert scores == {"protocol": "ave-segment-accuracy", "accuracy": 5 / 8, "correct": 5, "segments": 8}


def test_refuses_what_cannot_be_scored():
    with pytest.raises(ValueError, match=r"\(2, 10\)"):
        ave.segment_accuracy(np.zeros((2, 10)), np.zeros((2, 9)))
    with pytest.raises(ValueError, match="no segment"):
        ave.segment_accuracy([], [])
