"""Makes demo data: plans, writes every clip in worker processes, and publishes what was made."""

from __future__ import annotations

import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from avpipe.pipeline import datasets, progress
from avpipe.pipeline.datasets.overrides import FILE_NAME, read_overrides
from avpipe.pipeline.errors import EnvironmentLacking, UsageError, unknown_name
from avpipe.stages.backbones import demo_weights
from avpipe.stages.config import MASK_TASKS
from avpipe.stages.demo import ave, avqa, avss, llp, ms3, s4
from avpipe.stages.demo.layout import ClipPlan, Layout
from avpipe.stages.demo.publish import is_free, publish, workshop, write_yaml

LAYOUTS: dict[str, Layout] = {
    "ave": ave.LAYOUT,
    "avsbench-ms3": ms3.LAYOUT,
    "avsbench-s4": s4.LAYOUT,
    "avsbench-avss": avss.LAYOUT,
    "llp": llp.LAYOUT,
    "music-avqa": avqa.LAYOUT,
}
USUAL_SUBSET = {"avsbench": "avsbench-ms3"}
"""What the name of a whole dataset stands for: one subset, so that training after it has no choice to make."""
GENERATOR = 3
"""Goes up with every change of what a seed gives, so that old and new demo data are not taken for each other."""


def make_demo(dataset: str, out: Path, *, seed: int = 0, clips: int | None = None, workers: int = 2) -> bool:
    """Makes the demo data of one dataset in its official layout.

    The same seed gives the same annotations and, on the same machine and libraries, the same decoded content. The data
    appear when they are complete; what an interrupted run left beside the folder is published or cleared by the next.

    Args:
        dataset: a name in `LAYOUTS`, or `avsbench` for its MS3 subset.
        out: folder to make, its parents are made as needed; or a folder with demo data of another subset of the same
            dataset, to which this one is added.
        seed: seed of everything, 0 or more.
        clips: number of clips, 3 or more; default as in the layout: 300 (AVE), 90 (MS3), 60 (S4, AVSS,
            LLP), 24 (MUSIC-AVQA).
        workers: processes that write clips; 1 writes them in this process.

    Returns:
        True when the data were made, False when they were there already.

    Raises:
        UsageError: unknown dataset, or `out` is in the way: not made by this function, or with another seed or number.
    """
    name = USUAL_SUBSET.get(dataset, dataset)
    if name not in LAYOUTS:
        raise unknown_name("demo dataset", dataset, [*LAYOUTS, *USUAL_SUBSET])
    if seed < 0:
        raise UsageError(f"seed {seed} is negative: give 0 or more")
    layout = LAYOUTS[name]
    made_of = {"seed": seed, "clips": layout.clips if clips is None else clips, "generator": GENERATOR}
    if _is_there(out, name, made_of):
        progress.say(f"{out}: demo data of {name} is there already (seed {seed}, {made_of['clips']} clips)")
        return False
    plan = layout.plan(seed, made_of["clips"])
    with workshop(out) as folder:
        if _is_there(out, name, made_of):  # a run that was killed had made it, or another process has meanwhile
            return False
        for path, text in plan.annotations.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        _write_clips(name, folder, plan.clips, workers)
        _write_overrides(folder, name, {name: made_of})
        publish(folder, out)
    return True


def _is_there(out: Path, name: str, made_of: dict[str, Any]) -> bool:
    """Whether `out` holds this demo already; raises where anything else is in the way of it."""
    if is_free(out):
        return False
    records = read_overrides(out).get("demo") if out.is_dir() else None
    if not records or {datasets.folder(other) for other in records} != {datasets.folder(name)}:
        raise UsageError(f"{out} is in the way and is no demo data of {name}: choose another folder with --out")
    before = records.get(name)
    if before is None or datasets.find(name, out) is None:
        return False
    changed = [
        f"{key} {before.get(key)} there, {value} asked" for key, value in made_of.items() if before.get(key) != value
    ]
    if changed:
        raise UsageError(
            f"{out} holds other demo data of {name} ({'; '.join(changed)}): choose another --out, or remove it first"
        )
    return True


def _write_clips(dataset: str, folder: Path, clips: tuple[ClipPlan, ...], workers: int) -> None:
    with progress.task(f"make {dataset} demo", total=len(clips), unit="clips") as task:
        if workers <= 1:
            for clip in clips:
                LAYOUTS[dataset].write(folder, clip)
                task.advance()
            return
        # Spawned: a forked child inherits locks and threads of libraries that it does not expect.
        with ProcessPoolExecutor(
            min(workers, len(clips)), get_context("spawn"), _leave_interrupts_to_the_parent
        ) as pool:
            try:
                for done in as_completed([pool.submit(_write_clip, dataset, folder, clip) for clip in clips]):
                    done.result()
                    task.advance()
            except BrokenProcessPool as error:
                raise EnvironmentLacking(
                    "a process that wrote demo clips died (out of memory?): try --workers 1"
                ) from error
            except BaseException:
                # Waits here: leaving the `with` shuts down again, which takes a cancellation back that is not done yet.
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_clip(dataset: str, folder: Path, clip: ClipPlan) -> None:
    LAYOUTS[dataset].write(folder, clip)


def _write_overrides(folder: Path, dataset: str, records: dict[str, Any]) -> None:
    image_size = LAYOUTS[dataset].image_size
    with_masks = datasets.manifest_of(dataset)["task"] in MASK_TASKS
    backbones = {
        "visual": {"model": demo_weights.MODEL, "weights": demo_weights.KEYWORD, "image_size": image_size},
        "audio": {"model": demo_weights.MODEL, "weights": demo_weights.KEYWORD},
        "layers": "stages" if with_masks else "last:4",  # the mask decoder works on the ends of stages
    }
    write_yaml(folder / FILE_NAME, {"backbones": backbones, "demo": records})
