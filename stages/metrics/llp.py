"""LLP: audio-visual video parsing, as the official evaluator counts it. Maps are binary, `[classes, T]` for each video.

Protocol `llp-official`, per video and modality (audio, visual, and audio-visual, which is their product for prediction
and truth alike):

- segment level: for each class TP, FP and FN over the segments, F = 2TP / (2TP + FP + FN);
- event level: the same with events, maximal runs of ones of one class. A predicted event is a TP if its IoU with some
  true event of the class is at least one half, else an FP; a true event without such a prediction is an FN.

F is averaged over the classes that have anything predicted or true; a video without any scores 1. `Event@AV` adds the
counts of audio and visual, class by class, before F. Scores are means over videos; `Type@AV` is the mean of the audio,
visual and audio-visual ones. Segment decisions pass the gate of the official loop first, see `gate`.

Videos may differ in length: segments that are off in prediction and truth change no count, so shorter ones are padded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Event
from avpipe.stages.metrics.common import Received
from avpipe.stages.metrics.llp_counts import Bools, event_counts, fscore, segment_counts

PROTOCOL = "llp-official"
COLUMNS = (
    *("segment_audio", "segment_visual", "segment_event_av", "segment_audio_visual"),
    *("event_audio", "event_visual", "event_event_av", "event_audio_visual"),
)
"""The scores of one video, in the order of the columns of `video_scores`."""
METRICS = {
    "segment_audio": "Audio Event Detection Segment-level F1",
    "segment_visual": "Visual Event Detection Segment-level F1",
    "segment_audio_visual": "Audio-Visual Event Detection Segment-level F1",
    "segment_type_av": "Segment-levelType@Avg. F1",
    "segment_event_av": "Segment-level Event@Avg. F1",
    "event_audio": "Audio Event Detection Event-level F1",
    "event_visual": "Visual Event Detection Event-level F1",
    "event_audio_visual": "Audio-Visual Event Detection Event-level F1",
    "event_type_av": "Event-level Type@Avg. F1",
    "event_event_av": "Event-level Event@Avg. F1",
}
"""The ten numbers in official order, with the names under which the official program prints them."""


def event_map(events: Iterable[Event], classes: int, segments: int) -> Bools:
    """The map `[classes, segments]` of events; one that ends before it starts marks nothing."""
    found = np.zeros((classes, segments), dtype=bool)
    for event in events:
        found[event.class_id, event.start : max(event.start, event.end)] = True
    return found


def gate(
    segment_probability: npt.ArrayLike,
    video_probability: npt.ArrayLike,
    *,
    segment_threshold: float = 0.5,
    video_threshold: float = 0.5,
) -> npt.NDArray[np.bool_]:
    """Binary maps from probabilities: at least the threshold, in the segment and for the class in the whole video.

    Args:
        segment_probability: `[..., classes, T]` of one modality.
        video_probability: `[..., classes]`.
        segment_threshold: 0.5 in the official protocol, like `video_threshold`.

    Returns:
        bool `[..., classes, T]`.

    Raises:
        UsageError: the shapes do not belong together.
    """
    segments, video = np.asarray(segment_probability), np.asarray(video_probability)
    if segments.shape[:-1] != video.shape:
        shapes = f"{segments.shape} and {video.shape}"
        raise UsageError(f"segment and video probabilities have shapes {shapes}: they must be [..., C, T] and [..., C]")
    return np.asarray((segments >= segment_threshold) & (video >= video_threshold)[..., None])


def protocol_name(*, segment_threshold: float = 0.5, video_threshold: float = 0.5, iou_threshold: float = 0.5) -> str:
    """`llp-official`, or a name that tells which thresholds were changed."""
    named = {"segment": segment_threshold, "video": video_threshold, "iou": iou_threshold}
    changed = "".join(f"-{name}{value:g}" for name, value in named.items() if value != 0.5)
    return f"llp{changed}" if changed else PROTOCOL


def video_scores(
    predicted_audio: npt.ArrayLike,
    predicted_visual: npt.ArrayLike,
    true_audio: npt.ArrayLike,
    true_visual: npt.ArrayLike,
    *,
    iou_threshold: float = 0.5,
) -> npt.NDArray[np.float64]:
    """The eight numbers of every video.

    Args:
        predicted_audio: bool or 0/1 `[videos, classes, T]`; the other maps have the same shape.
        iou_threshold: what makes two events match, 0.5 in the official protocol.

    Returns:
        fractions `[videos, 8]`, see `COLUMNS`.

    Raises:
        UsageError: the shapes differ or are not of that form, or a map holds other values than 0 and 1.
    """
    maps = [_binary(given) for given in (predicted_audio, predicted_visual, true_audio, true_visual)]
    shapes = {found.shape for found in maps}
    if len(shapes) > 1 or maps[0].ndim != 3:
        raise UsageError(f"maps have shapes {sorted(shapes)}: they must all be the same [videos, classes, T]")
    ours, theirs = (maps[0], maps[1], maps[0] & maps[1]), (maps[2], maps[3], maps[2] & maps[3])
    columns = []
    for count in (segment_counts, lambda p, t: event_counts(p, t, iou_threshold)):
        audio, visual, both = (count(p, t) for p, t in zip(ours, theirs, strict=True))
        columns += [fscore(audio), fscore(visual), fscore(audio + visual), fscore(both)]
    return np.stack(columns, axis=1)


def summary(per_video: npt.NDArray[np.float64], protocol: str = PROTOCOL) -> dict[str, Any]:
    """`protocol`, the ten numbers of `METRICS` (fractions) and `videos`, from the rows of `video_scores`.

    Raises:
        UsageError: there is no video.
    """
    if not len(per_video):
        raise UsageError("there is no video to score")
    means = dict(zip(COLUMNS, per_video.mean(axis=0).tolist(), strict=True))
    for level in ("segment", "event"):
        kinds = [means[f"{level}_{kind}"] for kind in ("audio", "visual", "audio_visual")]
        means[f"{level}_type_av"] = sum(kinds) / 3
    return {"protocol": protocol, **{name: means[name] for name in METRICS}, "videos": len(per_video)}


def printed(result: dict[str, Any]) -> list[str]:
    """The lines that the official program prints: percent with one decimal."""
    return [f"{label}: {100 * result[name]:.1f}" for name, label in METRICS.items()]


class LlpScorer:
    """Scores of videos that come one by one, in any order; they may differ in length.

    Args:
        videos: how many the split has.
        protocol: see `protocol_name`; the gate is the caller's, so the caller knows what to call it.
        iou_threshold: what makes two events match.

    Raises:
        UsageError: there is no video.
    """

    def __init__(self, videos: int, *, protocol: str = PROTOCOL, iou_threshold: float = 0.5) -> None:
        self.protocol, self.iou_threshold = protocol, iou_threshold
        self._received = Received(videos, "video")
        self._rows = np.zeros((videos, len(COLUMNS)))

    def add(
        self,
        index: int,
        predicted_audio: npt.ArrayLike,
        predicted_visual: npt.ArrayLike,
        true_audio: npt.ArrayLike,
        true_visual: npt.ArrayLike,
    ) -> None:
        """Scores one video.

        Args:
            index: its place in official order.
            predicted_audio: bool or 0/1 `[classes, T]`, after the gate; the other maps have the same shape. A blank
                prediction is all zeros.

        Raises:
            UsageError: maps that cannot be scored, or the place is wrong or taken.
        """
        maps = (np.asarray(given)[None] for given in (predicted_audio, predicted_visual, true_audio, true_visual))
        row = video_scores(*maps, iou_threshold=self.iou_threshold)[0]
        self._received.take(index)
        self._rows[index] = row

    def per_video(self) -> npt.NDArray[np.float64]:
        """The rows of `video_scores` in official order.

        Raises:
            UsageError: a video was never added.
        """
        self._received.require_all()
        return self._rows.copy()

    def result(self) -> dict[str, Any]:
        """See `summary`.

        Raises:
            UsageError: a video was never added.
        """
        return summary(self.per_video(), self.protocol)


def _binary(given: npt.ArrayLike) -> Bools:
    """A map as bool."""
    values = np.asarray(given)
    if values.dtype != np.bool_ and not ((values == 0) | (values == 1)).all():
        raise UsageError("maps must hold 0 and 1 only: pass probabilities through `gate` first")
    return np.asarray(values, dtype=bool)
