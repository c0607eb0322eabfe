"""`avpipe demo` from data to reports, with few clips and one epoch."""

from __future__ import annotations

import json
from pathlib import Path

from avpipe.stages.demo.run import CASES, run_demo


def test_the_demo_trains_every_case_and_writes_reports(tmp_path: Path) -> None:
    result = run_demo(tmp_path, clips=5, settings=("epochs=1",))
    assert [(row["dataset"].partition("-")[0], row["method"], row["modality"]) for row in result["rows"]] == [
        (case.dataset, case.method, case.modality) for case in CASES
    ]
    for row in result["rows"]:
        main = "accuracy" if row["dataset"] == "ave" else "miou"
        assert 0 <= row["metrics"][main] <= 1
        config = (Path(row["run"]) / "environment.json").read_text()
        assert json.loads(config)["threads"] == 1
    assert len(result["reports"]) == 2
    for report in result["reports"]:
        page = Path(report).read_text()
        assert "linear" in page  # the controls stand beside
    assert json.loads((tmp_path / "demo.json").read_text())["reports"] == result["reports"]
