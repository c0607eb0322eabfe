"""What an audio backbone hears at once, and how its tokens come back to segments. Nothing here imports torch on import.

Models of sound take a fixed stretch, 10 s say, where a segment is one second. Two ways (`--audio-window`):

- `segment`, as in the papers: each segment's waveform is repeated to the model's length and cut there; every segment
  then has the model's whole grid of tokens.
- `clip` (ours): as many whole segments as fit lie side by side, the rest is silence, and one pass serves them all. A
  stage has columns of known seconds; a segment gets `round(segment_seconds / column_seconds)` bins of time, at least
  one, of equal length, and each bin is the mean of the columns under it, weighted by the time that they share.
  Rows of frequency stay as they are, and prefix tokens (they speak of the whole window) are repeated for each segment.
  That is one linear map for each stage, the same for every window of every clip.

Legend: B batch, W segments of a window, S samples of a segment, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones.contract import BackboneChoice, BackboneFacts, Stage, stage_index

if TYPE_CHECKING:
    from torch import Tensor

WINDOWS = ("segment", "clip")

Rows = Callable[[str, "Tensor"], "Tensor"]
"""Of a tap: tokens as the model gives them, [B, N, C], to one row for each segment, [B * W, N, C]."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What an audio model takes at once, and where time is in its grid of tokens.

    Attributes:
        seconds: length of its input; the grid spans just that.
        sound_seconds: length of the waveform, where the front end pads its picture to a longer one.
        time_axis: `columns` or `rows`.
        chunks: stretches of time, one after the other, that are stacked along the other axis (HTS-AT folds its picture
            into 4); inside each, time runs along `time_axis`.
    """

    seconds: float
    time_axis: str = "columns"
    chunks: int = 1
    sound_seconds: float | None = None

    def folded(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Rows of frequency and columns of time of a grid as the model has it."""
        rows, columns = grid if self.time_axis == "columns" else grid[::-1]
        return rows // self.chunks, columns * self.chunks


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a backbone's facts for a window.

    Attributes:
        stages: blocks by stage, with the grid of a segment's tokens: the model's own for `segment`; rows of frequency
            and bins of time for `clip`.
        segments: segments in a window, W.
        fields: what `fill` and `rows_of` need, for `preprocess["window"]`.
    """

    stages: tuple[Stage, ...]
    segments: int
    fields: dict[str, Any]


def plan(
    choice: BackboneChoice, hearing: Hearing, stages: tuple[Stage, ...], timeline: Timeline, sample_rate: int
) -> Plan:
    """Plans the windows of a model.

    Args:
        choice: its `window` decides.
        hearing: what the model takes.
        stages: the model's blocks with its own grids.
        timeline: how clips are cut; its sample rate is not looked at.
        sample_rate: samples per second that the model takes.

    Raises:
        UsageError: another window, or a segment that is longer than what the model takes.
    """
    if choice.window not in WINDOWS:
        raise unknown_name("audio window", choice.window, WINDOWS)
    heard_seconds = hearing.sound_seconds or hearing.seconds
    samples = round(heard_seconds * sample_rate)
    own = round(timeline.segment_seconds * sample_rate)
    if own > samples:
        raise UsageError(
            f"a segment of {timeline.segment_seconds} s is longer than what {choice.model} hears at once, "
            f"{heard_seconds} s: cut clips into shorter segments, or choose another audio backbone"
        )
    heard = own / sample_rate
    fields: dict[str, Any] = {"kind": choice.window, "seconds": hearing.seconds, "samples": samples}
    fields |= {"segment_seconds": heard, "time_axis": hearing.time_axis, "chunks": hearing.chunks}
    if choice.window == "segment":
        return Plan(stages, 1, fields)
    fields |= {"grids": [list(stage.grid) for stage in stages]}
    return Plan(tuple(_per_segment(stage, hearing, heard) for stage in stages), samples // own, fields)


def _per_segment(stage: Stage, hearing: Hearing, segment_seconds: float) -> Stage:
    frequencies, columns = hearing.folded(stage.grid)
    return Stage(stage.blocks, stage.width, (frequencies, bins_of(segment_seconds, hearing.seconds / columns)))


def bins_of(segment_seconds: float, column_seconds: float) -> int:
    """Bins of time that a segment gets where a column of tokens spans `column_seconds`."""
    return max(1, round(segment_seconds / column_seconds))


def overlap_map(segments: int, segment_seconds: float, columns: int, column_seconds: float) -> npt.NDArray[np.float32]:
    """The map from columns of a window to bins of its segments.

    Args:
        segments: segments in the window, W, side by side from its start.
        segment_seconds: length of one.
        columns: columns of time of the stage.
        column_seconds: length of one.

    Returns:
        float32 [W * bins, columns]; each row has the shares of time that the columns have in a bin, and sums to 1.
    """
    bins = bins_of(segment_seconds, column_seconds)
    edges = np.arange(segments * bins + 1) * (segment_seconds / bins)
    starts = np.arange(columns) * column_seconds
    ends = np.minimum(edges[1:, None], starts + column_seconds)
    shared = np.clip(ends - np.maximum(edges[:-1, None], starts), 0, None)
    shares: npt.NDArray[np.float32] = (shared / shared.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def fill(samples: Tensor, window: Mapping[str, Any]) -> Tensor:
    """Samples of a window, as long as the model takes them: repeated (`segment`) or followed by silence (`clip`).

    Args:
        samples: [B, W * S], any type.
        window: `preprocess["window"]`.

    Returns:
        [B, window["samples"]], of the same type.
    """
    from torch.nn.functional import pad

    length, given = int(window["samples"]), samples.shape[1]
    if window["kind"] == "clip":
        return pad(samples, (0, length - given))
    return samples.repeat(1, -(-length // given))[:, :length]


def rows_of(facts: BackboneFacts) -> Rows:
    """Brings tokens of windows to segments: the overlap map of every stage, or nothing where windows are segments.

    Tokens of a segment are ordered row by row: rows of frequency, columns of time.
    """
    window = facts.preprocess.get("window", {"kind": "segment"})
    if window["kind"] == "segment":
        return lambda tap, tokens: tokens
    import torch

    hearing = Hearing(window["seconds"], window["time_axis"], window["chunks"])
    grids = [tuple(grid) for grid in window["grids"]]
    maps = []
    for grid in grids:
        columns = hearing.folded(grid)[1]
        found = overlap_map(facts.window_segments, window["segment_seconds"], columns, hearing.seconds / columns)
        maps.append(torch.from_numpy(found))

    def rows(tap: str, tokens: Tensor) -> Tensor:
        stage, prefix = stage_index(tap), facts.prefix_tokens
        unfolded = _unfold(tokens[:, prefix:], grids[stage], hearing)  # [B, frequencies, columns, C]
        mixed = maps[stage].to(tokens) @ unfolded  # [B, frequencies, W * bins, C]
        batch, frequencies, _, channels = mixed.shape
        split = mixed.view(batch, frequencies, facts.window_segments, -1, channels).transpose(1, 2)
        patches = split.reshape(batch * facts.window_segments, -1, channels)
        return torch.cat([tokens[:, :prefix].repeat_interleave(facts.window_segments, 0), patches], dim=1)

    return rows


def _unfold(tokens: Tensor, grid: tuple[int, ...], hearing: Hearing) -> Tensor:
    """Patch tokens [B, N, C] as a picture, [B, frequencies, columns of time, C]."""
    batch, _, channels = tokens.shape
    picture = tokens.view(batch, *grid, channels)
    if hearing.time_axis == "rows":
        picture = picture.transpose(1, 2)
    rows, columns = picture.shape[1:3]
    chunks = picture.reshape(batch, hearing.chunks, rows // hearing.chunks, columns, channels)
    return chunks.transpose(1, 2).reshape(batch, rows // hearing.chunks, hearing.chunks * columns, channels)
