"""Scoring sets of the official sizes: the bars are 30 s (S4) and 5 min (AVSS) on two cores, memory flat."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "benchmarks" / "score_speed.py"


def measured(*options):
    done = subprocess.run([sys.executable, BENCH, *options], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_benchmark_prints_what_it_measured():
    found = measured("--videos", "3")
    assert (found["avsbench-s4"]["frames"], found["avsbench-avss"]["frames"]) == (15, 30)
    assert 0.1 < found["avsbench-s4"]["scores"]["avsbench-batch4"]["miou"] < 0.9
    assert set(found["avsbench-avss"]["scores"]) == {"avss-official", "avss-pooled"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whole_test_sets_are_scored_within_the_bars():
    found = measured()
    assert (found["avsbench-s4"]["videos"], found["avsbench-avss"]["videos"]) == (740, 1554)
    assert found["avsbench-s4"]["scoring_seconds_cpu"] < 30
    assert found["avsbench-avss"]["scoring_seconds_cpu"] < 300
    for part in found.values():
        assert part["grown_mb"] < 40  # a few kilobytes a video; the pixels would be 15 GB
