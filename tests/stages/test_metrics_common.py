import numpy as np
import pytest

from avpipe.pipeline.errors import UsageError
from avpipe.stages.metrics.common import Received, probabilities, require_classes


def test_every_sample_once_in_any_order():
    received = Received(3, "video")
    for index in (2, 0, 1):
        received.take(index)
    received.require_all()


def test_twice_nowhere_and_never_are_named():
    received = Received(8, "video")
    received.take(3)
    with pytest.raises(UsageError, match="video 3 was added twice"):
        received.take(3)
    for index in (8, -1):
        with pytest.raises(UsageError, match=f"video {index} does not exist: there are 8"):
            received.take(index)
    with pytest.raises(UsageError, match=r"7 of 8 videos were never added \(places 0, 1, 2, 4, 5, \.\.\.\)"):
        received.require_all()
    with pytest.raises(UsageError, match="no video to score"):
        Received(0, "video")


def test_class_ids_are_integers_within_their_range():
    require_classes(np.array([0, 3]), 4, "labels")
    with pytest.raises(UsageError, match="labels hold class 4, but ids go from 0 to 3"):
        require_classes(np.array([0, 4]), 4, "labels")
    with pytest.raises(UsageError, match="class -1"):
        require_classes(np.array([-1, 9]), 4, "labels")
    with pytest.raises(UsageError, match="argmax"):
        require_classes(np.array([0.5]), 4, "predictions")


def test_sigmoid_falls_on_torchs_side_of_a_half():
    torch = pytest.importorskip("torch")
    logits = np.concatenate([np.linspace(-6e-7, 6e-7, 4001), np.linspace(16, 18, 4001)]).astype(np.float32)
    assert np.array_equal(probabilities(logits), torch.sigmoid(torch.from_numpy(logits)).numpy())


def test_sigmoid_does_not_warn_and_saturates():
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert probabilities([-200.0, 0.0, 200.0]).tolist() == [0, 0.5, 1]
    assert probabilities(np.array([3], dtype=np.int8)).dtype == np.float32
