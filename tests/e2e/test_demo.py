"""`avpipe demo` from data to reports, with few clips and one epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from avpipe.stages.demo.run import CASES, run_demo


def data_of(page: Path) -> dict[str, Any]:
    """The block of data in a report."""
    start = '<script type="application/json" id="data">'
    found: dict[str, Any] = json.loads(page.read_text().partition(start)[2].partition("</script>")[0])
    return found


def test_the_demo_trains_every_case_and_writes_reports(tmp_path: Path) -> None:
    result = run_demo(tmp_path, clips=5, settings=("epochs=1",))
    assert [
        (row["dataset"].partition("-")[0], row["method"], row["modality"], row["stage"]) for row in result["rows"]
    ] == [(case.dataset, case.method, case.modality, case.stage) for case in CASES]
    for row in result["rows"]:
        main = "accuracy" if row["dataset"] == "ave" else "miou"
        assert 0 <= row["metrics"][main] <= 1
        config = (Path(row["run"]) / "environment.json").read_text()
        assert json.loads(config)["threads"] == 1
    assert len(result["reports"]) == 2
    for report in result["reports"]:
        rows = data_of(Path(report))["scores"]["protocols"][0]["rows"]
        own, dataset = Path(report).parent.name, Path(report).parent.name.partition("-")[0]
        others = {case.name for case in CASES if case.dataset == dataset} - {own}
        assert {row["run"] for row in rows if row["kind"] == "this"} == {own}
        assert {row["run"] for row in rows if row["kind"] == "run"} == others  # the controls stand beside
    assert json.loads((tmp_path / "demo.json").read_text())["reports"] == result["reports"]
