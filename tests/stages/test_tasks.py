"""Task rules: what counts in the loss, and at which size masks are compared."""

import numpy as np
import pytest
import torch

from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages.config import TrainConfig
from avpipe.stages.features import FeatureBatch
from avpipe.stages.heads.event_losses import event_loss
from avpipe.stages.heads.mask import mask_loss
from avpipe.stages.tasks import EventsTask, SegmentationTask, build_task, nearest


def batch(indices, valid, present=None):
    valid = torch.tensor(valid)
    return FeatureBatch(tuple(indices), {}, torch.ones_like(valid) if present is None else present, valid)


def events(*labels):
    return [Sample(str(i), f"c{i}", "train", events=tuple(row)) for i, row in enumerate(labels)]


def test_event_loss_counts_valid_segments_only():
    task = EventsTask(events((0, 1, 2), (2, 1)), 3)
    logits = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
    found = task.loss(logits, batch([1, 0], [[True, True, False], [True, False, True]]))
    labels = torch.tensor([[2, 1, -100], [0, -100, 2]])
    torch.testing.assert_close(found, event_loss(logits, labels))


def test_event_predictions_have_each_samples_own_length():
    task = EventsTask(events((0, 1, 2), (2, 1)), 3)
    logits = torch.randn(2, 3, 3)
    second, first = task.predictions(logits, batch([1, 0], [[True] * 3] * 2))
    assert (first == logits[1].numpy()).all()
    assert (second == logits[0, :2].numpy()).all()
    assert task.score([first, second])["segments"] == 5


@pytest.fixture
def masks(toy_masks):
    """Two samples of which the second lacks its last three masks."""
    first, second = load_dataset("avsbench-ms3", toy_masks.root).split("train")[:2]
    held = (*(second.masks or ())[:2], None, None, None)
    return [first, Sample(second.id, second.clip, "train", subset="ms3", masks=held)]


def test_mask_loss_counts_annotated_valid_segments_only(masks):
    task = SegmentationTask(masks, (32, 32), dice=0.5)
    logits = torch.randn(2, 5, 32, 32, generator=torch.Generator().manual_seed(0))
    valid = [[True, False, True, True, True], [False, True, True, True, True]]
    found = task.loss(logits, batch([0, 1], valid))
    chosen = [(0, 0), (0, 2), (0, 3), (0, 4), (1, 1)]
    truth = torch.from_numpy(np.stack([task.truth(i)[t] for i, t in chosen])).float()
    picked = torch.stack([logits[i, t] for i, t in chosen])
    torch.testing.assert_close(found, mask_loss(picked, truth, 0.5))
    nothing = logits.requires_grad_()
    task.loss(nothing, batch([0, 1], [[False] * 5] * 2)).backward()
    assert (nothing.grad == 0).all()


def test_segments_without_a_mask_are_not_scored(masks):
    task = SegmentationTask(masks, (32, 32))
    scores = task.score([task.blank(0), task.blank(1)])
    assert scores["frames"] == 7
    assert scores["other_protocols"]["avsbench-set"]["frames"] == 7
    empty = [mask is not None and not mask.any() for i in (0, 1) for mask in task.truth(i)]
    assert scores["other_protocols"]["avsbench-set"]["miou"] == pytest.approx(sum(empty) / 7, abs=1e-5)
    assert task.validate([task.blank(0), task.blank(1)]) == pytest.approx(sum(empty) / 7, abs=1e-5)


def test_stored_logits_are_what_is_scored(masks):
    """Values that round to another float16 give the score of the rounded ones, so a file can be scored again."""
    task = SegmentationTask(masks[:1], (32, 32))
    kept = task.predictions(torch.randn(1, 5, 8, 8) * 100, batch([0], [[True] * 5]))[0]
    assert kept.dtype == np.float16
    assert kept.shape == (5, 32, 32)
    assert np.isfinite(kept).all()
    assert np.abs(kept).max() == 60


def test_nearest_keeps_the_corners():
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, 3] = mask[2, 1] = True
    assert nearest(mask, (4, 4)) is mask
    grown = nearest(mask, (8, 8))
    assert (grown == mask.repeat(2, 0).repeat(2, 1)).all()
    assert (nearest(grown, (4, 4)) == mask).all()
    assert nearest(mask, (3, 5)).shape == (3, 5)


def test_a_sample_without_labels_is_named():
    bare = Sample("7:abc", "abc", "train")
    for name in ("events", "segmentation"):
        with pytest.raises(UsageError, match="'7:abc'"):
            build_task(name, [bare], classes=3, mask_size=(4, 4), config=TrainConfig())
