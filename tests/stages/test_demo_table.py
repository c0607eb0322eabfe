"""The table of docs/demo.md: what is averaged over what."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "demo_table.py"


def load_script():
    spec = importlib.util.spec_from_file_location("demo_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_table"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_rows_are_means_per_data_seed_and_over_all_runs():
    script = load_script()
    jobs, results = [], []
    for data_seed, scores in ((0, (0.8, 0.9)), (1, (0.6, 0.7))):
        for seed, score in enumerate(scores):
            jobs.append(script.Job("ave", data_seed, "pretrained", "mettle-both", seed))
            results.append(
                {
                    "metrics": {"accuracy": score},
                    "baselines": {"majority_class": {"accuracy": 0.3 + 0.1 * data_seed}},
                    "shuffles": [{"modality": "audio", "tap": None, "score": score - 0.5, "cost": 0.5}],
                }
            )
    lines = script.table(jobs, results).splitlines()
    assert lines[0] == "| backbones | case | data 0 | data 1 | all | runs |"
    assert "| pretrained | mettle-both | 0.850 | 0.650 | 0.750 ± 0.129 | 4 |" in lines
    assert "| pretrained | mettle-both, audio of another clip | 0.350 | 0.150 | 0.250 ± 0.129 | 4 |" in lines
    assert "|  | majority class, no input | 0.300 | 0.400 | 0.350 ± 0.071 | 2 |" in lines


def test_rows_name_the_settings_that_are_not_usual():
    script = load_script()
    plain = script.Job("llp", 0, "pretrained", "mettle-both", 1, script._settings("", "full"))
    weak = script.Job("ave", 0, "pretrained", "mettle-both", 1, script._settings("cmbs", "weak"))
    assert (plain.name, plain.row) == ("llp-0-pretrained-mettle-both-1", "mettle-both")
    assert weak.settings == ("head=cmbs", "supervision=weak")
    assert weak.name == "ave-0-pretrained-mettle-both-cmbs-weak-1"
    assert weak.row == "mettle-both head=cmbs supervision=weak"
    results = [{"metrics": {"accuracy": 0.5}, "baselines": {"majority_class": {"accuracy": 0.3}}}]
    lines = script.table([weak], results).splitlines()
    assert lines[2] == "| pretrained | mettle-both head=cmbs supervision=weak | 0.500 | 0.500 | 1 |"
    assert lines[3] == "|  | majority class, no input | 0.300 | 0.300 | 1 |"
