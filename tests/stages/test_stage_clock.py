"""The clock of an extraction: quantiles, busy shares over lanes and processes, and what is called the bottleneck."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from avpipe.cli.extract_summary import stage_lines
from avpipe.stages.extract import _stages
from avpipe.stages.outcome import UnitOutcome
from avpipe.stages.stage_clock import ADVICE, STAGES, Durations, StageClock, bottleneck, stage_reports


def _durations(*seconds: float) -> Durations:
    found = Durations()
    for each in seconds:
        found.add(each)
    return found


def test_quantiles_are_those_of_numpy_to_one_percent():
    values = np.random.default_rng(0).lognormal(-2, 1.5, 5000)
    whole, halves = _durations(*values), [_durations(*half) for half in np.split(values, 2)]
    halves[0].merge(halves[1])
    assert halves[0].bins == whole.bins
    assert whole.count == 5000
    assert whole.seconds == pytest.approx(values.sum())
    for share in (0.01, 0.5, 0.99, 1.0):
        assert whole.quantile(share) == pytest.approx(np.quantile(values, share, method="inverted_cdf"), rel=0.0101)
    assert len(pickle.dumps(whole)) < 6000


def test_nothing_took_no_time_and_what_took_none_counts():
    assert Durations().quantile(0.5) == 0.0
    assert _durations(0.0, 0.0, 3.0).quantile(0.5) <= 1e-5


def test_a_clock_counts_work_and_not_what_failed():
    clock = StageClock()
    with clock.time("encode"):
        pass
    with pytest.raises(ValueError, match="no"), clock.time("encode"):
        raise ValueError("no")
    clock.add("decode", 2.0)
    assert clock.stages["encode"].count == 1
    assert clock.seconds()["decode"] == 2.0


def test_shares_are_of_the_time_that_all_lanes_had():
    parts = [{"decode": _durations(1, 3), "write": _durations(0.5)}, {"decode": _durations(4)}]
    decode, write = stage_reports(parts, {"decode": 2}, 5.0)
    assert (decode.name, decode.lanes, decode.clips, decode.busy_seconds) == ("decode", 2, 3, 8.0)
    assert decode.busy_share == pytest.approx(0.8)
    assert decode.p50_ms == pytest.approx(3000, rel=0.02)
    assert decode.p99_ms == pytest.approx(4000, rel=0.02)
    assert (write.name, write.lanes, write.busy_share) == ("write", 1, pytest.approx(0.1))
    assert bottleneck([decode, write]) == "decode"
    assert bottleneck([write]) is None
    assert bottleneck([]) is None


def test_lanes_of_several_processes_add_up():
    def outcome(unit: int, process: str, span: tuple[float, float]) -> UnitOutcome:
        stages = {"decode": _durations(4.0), "backbone": _durations(3.0)}
        return UnitOutcome(unit, True, stages=stages, lanes={"decode": 2}, process=process, span=span)

    outcomes = [outcome(0, "a-1", (10, 14)), outcome(1, "b-1", (11, 15)), outcome(2, "a-1", (14, 20))]
    wall, (decode, backbone) = _stages([*outcomes, UnitOutcome(3, False, holder="c")])
    assert wall == 10
    assert (decode.lanes, decode.busy_share) == (4, pytest.approx(0.3))
    assert (backbone.lanes, backbone.busy_share) == (2, pytest.approx(0.45))
    assert _stages([]) == (0.0, ())


def test_the_manual_says_what_helps_in_the_same_words():
    manual = (Path(__file__).parents[2] / "docs/extracting.md").read_text().replace("`", "")
    rows = dict(re.findall(r"^\| (\w+) \| (.*) \|$", manual, re.MULTILINE))
    assert {stage: rows.get(stage) for stage in STAGES} == ADVICE


def test_the_last_lines_name_the_bottleneck_and_what_helps():
    assert set(ADVICE) == set(STAGES)
    reports = stage_reports([{"decode": _durations(4), "backbone": _durations(1)}], {"decode": 2}, 2.5)
    busy, found = stage_lines(reports, bottleneck(reports))
    assert "decode 80% of 2 (" in busy
    assert "backbone 40% (" in busy
    assert found == f"  bottleneck: decode: {ADVICE['decode']}"
    assert "none" in stage_lines(reports[1:], None)[1]
    assert stage_lines((), None) == []
