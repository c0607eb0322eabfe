"""`bench train`: the same clips, head and optimizer, trained from a cache and without one, row after row.

Imports no torch: every row has a process and thus all memory to itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.errors import EnvironmentLacking, UsageError, unknown_name
from avpipe.pipeline.lifetime import orderly_end
from avpipe.stages.bench.material import dataset_of, facts_of_pair, job_of, require_room
from avpipe.stages.bench.pairs import ROWS, pair_of, rows_of, settings_of
from avpipe.stages.bench.process import in_a_process
from avpipe.stages.bench.ratios import TIMES, ratios

RESIDENCIES = ("disk", "ram", "gpu")
Planned = tuple[str, int, str]
"""Name, batch and residency of a row."""


@dataclass(frozen=True)
class TrainBench:
    """What to measure.

    Attributes:
        folder: where clips and features go; they are deleted afterwards.
        pairs: names for `pairs.pair_of`.
        rows: names in `ROWS`; none: all.
        batches: samples a step; none: those of each row.
        clips: number of clips; an epoch has all of them.
        segments: T, segments of a clip.
        steps: steps that count in each round, at least.
        seconds: time that they take, at least.
        rounds: how often each row is measured, one after another; figures are the medians.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        residency: where features are kept; none: on disk, and on a GPU `cached` in memory and on the GPU too.
        threads: of torch; 0: its default.
    """

    folder: Path
    pairs: tuple[str, ...] = ("vit_base",)
    rows: tuple[str, ...] = ()
    batches: tuple[int, ...] = ()
    clips: int = 8
    segments: int = 10
    steps: int = 3
    seconds: float = 5.0
    rounds: int = 1
    device: str = "auto"
    residency: tuple[str, ...] = ()
    threads: int = 0

    def __post_init__(self) -> None:
        rows_of(self.rows)
        for name in self.pairs:
            settings_of("cached", len(facts_of_pair(pair_of(name))["visual"].taps))
        for place in self.residency:
            if place not in RESIDENCIES:
                raise unknown_name("residency", place, RESIDENCIES)
        for key in ("clips", "segments", "steps", "rounds"):
            if getattr(self, key) < 1:
                raise UsageError(f"{key} must be 1 or more, not {getattr(self, key)}")
        if not self.pairs:
            raise UsageError("pair: name one or more")
        if self.threads < 0:
            raise UsageError(f"threads must be 0 (torch's default) or more, not {self.threads}")
        if not 0 <= self.seconds < float("inf"):
            raise UsageError(f"seconds must be a time of 0 s or more, not {self.seconds}")
        for size in self.batches:
            if size < 1:
                raise UsageError(f"batches must be 1 or more, not {size}")
            if size > self.clips:
                raise UsageError(f"batches of {size} clips: there are {self.clips}, see --clips")

    def batches_of(self, row: str) -> tuple[int, ...]:
        """Samples a step of a row; of its own those for which there are clips enough."""
        return self.batches or tuple(size for size in ROWS[row].batches if size <= self.clips)

    def left_out(self) -> tuple[int, ...]:
        """Batches of the rows that are larger than the number of clips."""
        usual = {size for row in rows_of(self.rows) for size in ROWS[row].batches}
        return () if self.batches else tuple(sorted(size for size in usual if size > self.clips))

    def planned(self, device: str) -> list[Planned]:
        """The rows of one pair on a device."""
        found = []
        for row in rows_of(self.rows):
            on_gpu = device.startswith("cuda") and row == "cached"
            places = self.residency or (RESIDENCIES if on_gpu else ("disk",))
            found += [(row, batch, place) for batch in self.batches_of(row) for place in places]
        return found


def run(bench: TrainBench) -> dict[str, Any]:
    """Measures.

    Returns:
        JSON-ready: `rows`, `ratios`, `failed` and what was asked for; see `docs/bench-train.md`.

    Raises:
        UsageError: there is no such folder.
        EnvironmentLacking: the disk lacks room, or clips cannot be extracted.
    """
    if not bench.folder.is_dir():
        raise UsageError(f"there is no folder {bench.folder}: make it, or name another with --folder")
    if larger := bench.left_out():
        progress.say(f"left out: batches of {', '.join(map(str, larger))}, as --clips is {bench.clips}")
    found: dict[str, Any] = {"rows": [], "ratios": [], "failed": [], "load_average": round(os.getloadavg()[0], 2)}
    found["cores"] = len(os.sched_getaffinity(0))
    for pair in bench.pairs:
        with orderly_end(), tempfile.TemporaryDirectory(dir=bench.folder, prefix="avpipe-bench-") as folder:
            rows, failed = _pair(bench, pair, Path(folder))
        found["rows"] += rows
        found["failed"] += failed
        found["ratios"] += ratios(rows)
    return found | {"clips": bench.clips, "segments": bench.segments, "rounds": bench.rounds}


def busy_in_words(load: float, cores: int) -> str:
    """That other programs took the cores, so that times say little; "" where they did not."""
    return f"the machine was busy (load {load} on {cores} cores): times are not to be trusted" if load > cores else ""


def _pair(bench: TrainBench, pair: str, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of a pair, and those that failed."""
    one_clip = dataset_of(folder, "events", 1, bench.segments)
    job = job_of(pair_of(pair), folder, one_clip, bench.device)
    require_room(folder, job, bench.clips * bench.segments, "--clips or --segments")
    progress.say(f"{pair}: {bench.clips} clips of {bench.segments} segments are made and extracted in {folder}")
    common = {"folder": str(folder), "clips": bench.clips, "segments": bench.segments}
    made, reason = in_a_process(folder, {"do": "make", "pair": pair, "device": bench.device, **common})
    if made is None:
        raise EnvironmentLacking(f"{pair}: {reason}")
    common |= {"do": "row", "device": made["device"], "steps": bench.steps, "seconds": bench.seconds}
    planned, failed = bench.planned(made["device"]), {}
    rounds: dict[Planned, list[dict[str, Any]]] = {}
    with progress.task(f"bench {pair}", bench.rounds * len(planned), "rows") as task:
        for each in _in_turn(planned, bench.rounds):
            name, batch, place = each
            if each not in failed:
                order = {"row": name, "batch": batch, "residency": place, "threads": bench.threads, **common}
                result, reason = in_a_process(folder, order)
                if result is None:
                    failed[each] = {"name": name, "pair": pair, "batch": batch, "residency": place, "reason": reason}
                    progress.say(f"{pair} {name}, batch {batch}: {reason}")
                else:
                    rounds.setdefault(each, []).append(result)
            task.advance(1, f"{name}, batch {batch}")
    rows = [_row(pair, each, rounds[each]) for each in planned if each in rounds and each not in failed]
    return rows, list(failed.values())


def _in_turn(planned: list[Planned], rounds: int) -> Iterator[Planned]:
    """All rows, and all again: what else the machine does then falls on all of them."""
    for _ in range(rounds):
        yield from planned


def _row(pair: str, planned: Planned, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """One row from its rounds: medians of times, and memory of the round that needed most above its base."""
    name, batch, place = planned
    most = max(rounds, key=lambda each: float(each["peak_mib"] - each["base_mib"]))
    times = {f"{kind}_s": round(median(each[f"{kind}_s"] for each in rounds), 5) for kind in TIMES}
    steps = sum(each["steps"] for each in rounds)
    return {"name": name, "pair": pair, "batch": batch, "residency": place, **most, **times, "steps": steps}
