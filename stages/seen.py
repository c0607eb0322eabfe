"""Which samples a run was given, by split: weights that saw some of them must not be tested on these."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import SPLITS
from avpipe.stages import runs
from avpipe.stages.checkpoint import write_atomic

if TYPE_CHECKING:
    from avpipe.pipeline.manifest import Dataset

Seen = dict[str, frozenset[str]]
"""Ids of samples by split."""


def samples_of(dataset: Dataset) -> Seen:
    """The samples of a dataset, by split."""
    return {split: frozenset(sample.id for sample in dataset.split(split)) for split in SPLITS}


def write_samples(run: Path, dataset: Dataset) -> None:
    """Writes `samples.json` into a run's folder: sorted ids by split."""
    ids = {split: sorted(found) for split, found in samples_of(dataset).items()}
    write_atomic(run / runs.SAMPLES, json.dumps(ids, indent=0).encode())


def read_samples(run: Path) -> Seen | None:
    """What `write_samples` wrote; None for runs of earlier versions, which did not.

    Raises:
        UsageError: the file cannot be read.
    """
    path = run / runs.SAMPLES
    if not path.is_file():
        return None
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return {split: frozenset(known[split]) for split in SPLITS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({error}): restore the file, or train again") from error


def other_split(then: Mapping[str, frozenset[str]], now: Mapping[str, frozenset[str]]) -> str:
    """In which split two sets of samples differ, in words; "" where they are the same."""
    for split in SPLITS:
        gone, new = then[split] - now[split], now[split] - then[split]
        if gone or new:
            return f"its {split} split was another one ({len(gone)} samples that are not in it now, {len(new)} lacking)"
    return ""


def seen_before(
    then: Mapping[str, frozenset[str]], select_then: str, now: Mapping[str, frozenset[str]], select: str
) -> str:
    """Which samples that are held out now had a part in earlier weights, in words; "" where none had.

    Args:
        then: samples of the earlier run.
        select_then: split on which it chose its epoch.
        now: samples of today.
        select: split on which the new run chooses: with `test` its scores are marked, whatever was chosen on before.
    """
    for split in ("test", "val"):
        if shared := then["train"] & now[split]:
            return f"it was trained on {len(shared)} samples that are in {split} now"
    if select != "test" and (shared := then[select_then] & now["test"]):
        return f"its epoch was chosen on {len(shared)} samples that are in test now"
    return ""
