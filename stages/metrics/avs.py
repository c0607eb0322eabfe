"""AVSBench S4 and MS3: mean IoU and maximal F of binary masks, as the official evaluator computes them.

IoU: a pixel is on where its probability is strictly above one half; a frame whose true mask is empty scores the share
of pixels that are rightly off. F: beta squared 0.3, 255 thresholds, a pixel is on where its probability is at least
the threshold; frames with an empty mask are left out. The curve of F over thresholds is averaged over the frames of a
batch and its maximum is the batch's score, so the result depends on how many videos make a batch:

- `avsbench-batch4`: four videos a batch, plain mean over batches (the authors' scripts; the default here);
- `avsbench-batch1`: one video a batch (the authors' program without options);
- `avsbench-batch<N>`: N videos a batch, as other repositories have it (2 and 8 are in use);
- `avsbench-set`: one curve over all frames of the set.

A batch in which every mask is empty has F 0 and still counts. Scores are collected per video, by `AvsScorer` or by
`frame_scores` (in `metrics.avs_frames`), so the pixels of a set never lie in memory together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.stages.metrics.avs_frames import (
    BETA_SQUARED,
    THRESHOLDS,
    FrameScores,
    frame_iou,
    frame_scores,
    join,
    thresholds,
)
from avpipe.stages.metrics.common import Received, probabilities

__all__ = [
    "BETA_SQUARED",
    "DEFAULT_PROTOCOL",
    "PROTOCOLS",
    "THRESHOLDS",
    "AvsScorer",
    "FrameScores",
    "frame_iou",
    "frame_scores",
    "join",
    "probabilities",
    "score",
    "thresholds",
]

PROTOCOLS = ("avsbench-batch4", "avsbench-batch1", "avsbench-set")
"""The protocols that are reported; `score` and `AvsScorer.score` take other batch sizes as well."""
DEFAULT_PROTOCOL = "avsbench-batch4"


class AvsScorer:
    """Scores of videos that come one by one, in any order; batches are formed in official order.

    Two kilobytes a video are kept, whatever its length and size. Videos may differ in both.

    Args:
        videos: how many the set has.

    Raises:
        UsageError: there is no video.
    """

    def __init__(self, videos: int) -> None:
        self._received = Received(videos, "video")
        self._frames, self._drawn = np.zeros(videos, dtype=np.int64), np.zeros(videos, dtype=np.int64)
        self._ious, self._curves = np.zeros(videos), np.zeros((videos, THRESHOLDS))

    def add(self, index: int, probability: npt.ArrayLike, mask: npt.ArrayLike) -> None:
        """Scores the frames of one video.

        Args:
            index: its place in official order.
            probability: float `[F, H, W]`, after the sigmoid (see `probabilities`). A blank prediction is all zeros.
            mask: the truth, bool or 0/1, same shape; only frames that are annotated. With F 0 it makes no batch.

        Raises:
            UsageError: the shapes differ, values lie outside 0 to 1, or the place is wrong or taken.
        """
        self.add_scores(index, frame_scores(probability, mask))

    def add_scores(self, index: int, scores: FrameScores) -> None:
        """The same with scores that are known, such as those of frames of several sizes after `join`."""
        self._received.take(index)
        self._frames[index], self._drawn[index] = len(scores.iou), np.count_nonzero(~scores.empty)
        self._ious[index], self._curves[index] = scores.iou.sum(), scores.curve.sum(axis=0)

    def result(self) -> dict[str, Any]:
        """Scores by `avsbench-batch4`, see `score`; `other_protocols` has those of `PROTOCOLS` by name.

        Raises:
            UsageError: a video was never added, or there is no frame.
        """
        others = {name: self.score(name) for name in PROTOCOLS if name != DEFAULT_PROTOCOL}
        return {**self.score(), "other_protocols": others}

    def score(self, protocol: str = DEFAULT_PROTOCOL) -> dict[str, Any]:
        """`protocol`, `miou` and `fscore` (fractions), `frames` and `videos` (counts, of videos that have frames).

        Raises:
            UsageError: a video was never added, there is no frame, or the protocol is not known.
        """
        mious, fscores = self.batches(protocol)
        return {
            "protocol": protocol,
            "miou": float(mious.mean()),
            "fscore": float(fscores.mean()),
            "frames": int(self._frames.sum()),
            "videos": int(np.count_nonzero(self._frames)),
        }

    def batches(self, protocol: str = DEFAULT_PROTOCOL) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean IoU and F of every batch, whose plain means `score` returns. Raises what it raises."""
        size = _batch_size(protocol)
        self._received.require_all()
        kept = np.flatnonzero(self._frames)
        if not len(kept):
            raise UsageError("there is no frame to score")
        starts = np.arange(0, len(kept), size or len(kept))
        frames, drawn, ious, curves = (
            np.add.reduceat(part[kept], starts, axis=0)
            for part in (self._frames, self._drawn, self._ious, self._curves)
        )
        return ious / frames, curves.max(axis=1) / np.maximum(drawn, 1)


def score(videos: Sequence[FrameScores], protocol: str = DEFAULT_PROTOCOL) -> dict[str, Any]:
    """Scores of a set of videos that lie in memory.

    Args:
        videos: one entry a video, in official order.
        protocol: `avsbench-batch<N>` or `avsbench-set`.

    Returns:
        see `AvsScorer.score`.

    Raises:
        UsageError: there is no frame, or the protocol is not known.
    """
    _batch_size(protocol)
    if not videos:
        raise UsageError("there is no frame to score")
    scorer = AvsScorer(len(videos))
    for index, scores in enumerate(videos):
        scorer.add_scores(index, scores)
    return scorer.score(protocol)


def _batch_size(protocol: str) -> int:
    """Videos of a batch; 0 means the whole set."""
    named = re.fullmatch(r"avsbench-batch([1-9]\d*)", protocol)
    if protocol != "avsbench-set" and named is None:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    return int(named[1]) if named else 0
