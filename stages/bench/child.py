"""What benches run in fresh interpreters: `python -m avpipe.stages.bench.child ORDER RESULT PARENT`."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from avpipe.pipeline.errors import AvpipeError
from avpipe.pipeline.lifetime import die_with

LIKELY_VICTIM = "1000"


def main(order_file: str, result_file: str, parent: str) -> int:
    """Does what an order says and writes what it gave; returns the exit code. Ends with the process `parent`."""
    die_with(int(parent))
    with suppress(OSError):  # where memory runs out, this process ends and no other
        Path("/proc/self/oom_score_adj").write_text(LIKELY_VICTIM)
    order = json.loads(Path(order_file).read_text())
    try:
        does = {"make": _make, "row": _row, "together": _together, "alone": _alone}
        result = does[order.pop("do")](order)
    except AvpipeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    Path(result_file).write_text(json.dumps(result))
    return 0


def _make(order: dict[str, Any]) -> dict[str, Any]:
    """Makes the clips and extracts them; says on which device rows will run."""
    from avpipe.stages.backbones.devices import torch_device
    from avpipe.stages.bench.material import dataset_of, job_of, write
    from avpipe.stages.bench.pairs import pair_of
    from avpipe.stages.extract import extract

    device = str(torch_device(order["device"]))  # refused before anything is made
    folder, clips, segments = Path(order["folder"]), order["clips"], order["segments"]
    dataset = dataset_of(folder, "events", clips, segments)
    job = job_of(pair_of(order["pair"]), folder, dataset, order["device"])
    write(dataset, job)
    done = extract(dataset, job, unit_segments=segments)
    if done.clips < clips:
        reason = next(iter(done.quarantined)).reason if done.quarantined else "interrupted"
        raise AvpipeError(f"{clips - done.clips} of {clips} clips were not extracted: {reason}")
    return {"device": device}


def _row(order: dict[str, Any]) -> dict[str, Any]:
    from avpipe.stages.bench.measure import RowOrder, measure_row

    return measure_row(RowOrder(**order))


def _together(order: dict[str, Any]) -> dict[str, Any]:
    from avpipe.stages.bench.extract_measure import measure_together
    from avpipe.stages.bench.extract_order import ExtractOrder

    return measure_together(ExtractOrder(**order))


def _alone(order: dict[str, Any]) -> dict[str, Any]:
    from avpipe.stages.bench.extract_measure import measure_alone
    from avpipe.stages.bench.extract_order import ExtractOrder

    return measure_alone(ExtractOrder(**order))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
