"""Windows of sound: what is fed to a model that hears 10 s, and tokens brought back to segments."""

import numpy as np
import pytest
import torch

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import windows
from avpipe.stages.backbones.contract import BackboneChoice, BackboneFacts, Stage
from avpipe.stages.backbones.htsat import HEARING, STAGES
from avpipe.stages.job_backbones import in_batches

ROWS = windows.Hearing(10.24, time_axis="rows")


def _plan(window, seconds=1.0, hearing=HEARING, stages=STAGES, rate=32_000):
    return windows.plan(BackboneChoice("audio", "htsat", window=window), hearing, stages, Timeline(seconds), rate)


def _facts(window, seconds=1.0, hearing=HEARING, stages=STAGES, prefix=0):
    plan = _plan(window, seconds, hearing, stages)
    fields = {"window": plan.fields}
    return BackboneFacts("m", "f", "audio", plan.stages, prefix, (1, 1), fields, 32_000, plan.segments)


def _folded(value, grid):
    """Tokens [1, N, 1] of a grid that HTS-AT folded, from `value(frequency, second at the column's middle)`."""
    rows, columns = grid
    seconds = 10 / (4 * columns)
    picture = np.empty(grid, np.float32)
    for chunk in range(4):
        for frequency in range(rows // 4):
            for column in range(columns):
                middle = (chunk * columns + column + 0.5) * seconds
                picture[chunk * (rows // 4) + frequency, column] = value(frequency, middle)
    return torch.from_numpy(picture.reshape(1, -1, 1))


def test_a_segment_of_one_second_has_the_documented_bins():
    plan = _plan("clip")
    assert plan.segments == 10
    assert [stage.grid for stage in plan.stages] == [(16, 26), (8, 13), (4, 6), (2, 3)]
    assert _plan("segment").stages == STAGES
    assert _plan("segment").segments == 1


@pytest.mark.parametrize(
    ("seconds", "segments", "bins"),
    [(1.0, 10, 26), (3.0, 3, 77), (0.96, 10, 25), (0.01, 1000, 1), (6.0, 1, 154), (10.0, 1, 256), (1 / 3, 29, 9)],
)
def test_segments_that_do_not_divide_the_window_leave_silence(seconds, segments, bins):
    plan = _plan("clip", seconds)
    assert (plan.segments, plan.stages[0].grid) == (segments, (16, bins))
    assert plan.segments * round(seconds * 32_000) <= plan.fields["samples"] == 320_000


def test_what_makes_no_sense_is_refused():
    for window in windows.WINDOWS:
        with pytest.raises(UsageError, match=r"longer than what htsat hears at once, 10\.0 s"):
            _plan(window, 10.5)
    with pytest.raises(UsageError, match="did you mean 'segment'"):
        _plan("segmant")


@pytest.mark.parametrize("seconds", [1.0, 0.7, 3.0, 0.02])
def test_the_map_gives_means_and_leaves_nothing_out(seconds):
    segments = int(10 / seconds)
    found = windows.overlap_map(segments, seconds, 64, 10 / 64)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    bins = len(found) // segments
    shares = (found * seconds / bins).sum(0) / (10 / 64)  # of each column, how much of its time is in some bin
    covered = np.clip(segments * seconds / (10 / 64) - np.arange(64), 0, 1)
    np.testing.assert_allclose(shares, covered, atol=1e-5)


@pytest.mark.parametrize("seconds", [1.4, 0.9, 0.3])
def test_the_map_by_hand(seconds):
    np.testing.assert_allclose(windows.overlap_map(2, seconds, 4, 1.0), _by_hand(2, seconds, 4), atol=1e-6)


def _by_hand(segments, seconds, columns):
    """One bin a segment, columns of a second, integrated in steps of a millisecond."""
    found = np.zeros((segments, columns), np.float32)
    for step in range(round(segments * seconds * 1000)):
        found[int((step + 0.5) / 1000 / seconds), int((step + 0.5) / 1000)] += 1
    return found / found.sum(1, keepdims=True)


@pytest.mark.parametrize("stage", range(4))
def test_tokens_come_to_the_segment_in_whose_time_they_are(stage):
    facts, tap = _facts("clip"), f"layers.{stage}.blocks.0"
    rows = windows.rows_of(facts)
    frequencies, bins = facts.stages[stage].grid
    times = rows(tap, _folded(lambda frequency, second: second, STAGES[stage].grid)).numpy()
    assert times.shape == (10, frequencies * bins, 1)
    middles = np.arange(10)[:, None] + (np.arange(bins) + 0.5) / bins
    column = 10 / (4 * STAGES[stage].grid[1])
    assert np.abs(times.reshape(10, frequencies, bins) - middles[:, None]).max() < column / 2
    pitches = rows(tap, _folded(lambda frequency, second: frequency, STAGES[stage].grid)).numpy()
    expected = np.broadcast_to(np.arange(frequencies)[:, None], (10, frequencies, bins))
    np.testing.assert_allclose(pitches.reshape(10, frequencies, bins), expected, rtol=1e-6)


def test_time_along_rows_and_prefix_tokens():
    stages = (Stage(1, 2, (64, 8)),)  # AudioMAE: 16 frames of 10 ms a row
    facts = _facts("clip", 1.0, ROWS, stages, prefix=1)
    assert (facts.window_segments, facts.stages[0].grid) == (10, (8, 6))
    time = torch.arange(64.0)[:, None].expand(64, 8)
    pitch = torch.arange(8.0).expand(64, 8)
    tokens = torch.cat([torch.full((1, 1, 2), -7.0), torch.stack([time, pitch], -1).view(1, -1, 2)], 1)
    three = tokens.repeat(3, 1, 1)
    three[:, 0, 0] = torch.arange(3.0)  # prefix tokens of each window stay with its segments
    found = windows.rows_of(facts)("blocks.0", three)
    assert found.shape == (30, 49, 2)
    assert found[:, 0, 0].tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert (found[:, 0, 1] == -7).all()
    by_bin = found[:10, 1:].view(10, 8, 6, 2)
    torch.testing.assert_close(by_bin[..., 1], torch.arange(8.0)[:, None].expand(10, 8, 6))
    assert (by_bin[..., 0].diff(dim=2) > 0).all()
    assert by_bin[3, 0, 0, 0] == pytest.approx((3 + 1 / 12) / 0.16 - 0.5, abs=0.5)


def test_a_segment_is_repeated_and_a_clip_is_followed_by_silence():
    samples = torch.arange(1, 32_001, dtype=torch.int16)[None]
    filled = windows.fill(samples, _plan("segment").fields)
    assert filled.shape == (1, 320_000)
    assert torch.equal(filled.view(10, -1), samples.expand(10, -1))
    three = windows.fill(samples.repeat(1, 3), _plan("segment", 3.0).fields)
    assert torch.equal(three[0, 288_000:], samples[0])
    clip = windows.fill(samples.repeat(1, 9), _plan("clip", 3.0).fields)
    assert torch.equal(clip[0, :32_000], samples[0])
    assert (clip[0, 288_000:] == 0).all()


class _Loudness:
    """A backbone that gives the largest sample of each of its columns, after `rows_of`."""

    def __init__(self, facts):
        self._rows, self.sizes = windows.rows_of(facts), []

    def features(self, batch):
        self.sizes.append(batch.shape)
        filled = np.pad(batch, ((0, 0), (0, 320_000 - batch.shape[1]))).reshape(len(batch), 4, 8, 10_000)
        loud = torch.from_numpy(filled.max(-1).astype(np.float32))  # [B, chunk, column]
        tokens = loud[:, :, None].expand(-1, 4, 2, 8).reshape(len(batch), 64, 1)
        return {"layers.3.blocks.1": self._rows("layers.3.blocks.1", tokens).numpy()}


@pytest.mark.parametrize(("segments", "batch"), [(60, 32), (25, 10), (25, 20), (5, 5), (1, 1)])
def test_clips_of_any_length_go_through_in_windows(segments, batch):
    facts = _facts("clip")
    samples = np.repeat(np.arange(1, segments + 1, dtype=np.int16)[:, None], 32_000, 1)
    model = _Loudness(facts)
    found = in_batches(model, samples, batch, facts.window_segments)["layers.3.blocks.1"]
    assert found.shape == (segments, 6, 1)
    assert np.abs(found[:, 1::3, 0] - np.arange(1, segments + 1)[:, None]).max() < 0.5  # the bin in the middle
    assert set(model.sizes) == {(max(1, batch // 10), 320_000)}
