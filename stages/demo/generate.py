"""Makes demo data: plans, writes every clip in worker processes, and publishes the folder in one step."""

from __future__ import annotations

import fcntl
import shutil
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.datasets.overrides import FILE_NAME, read_overrides
from avpipe.pipeline.errors import EnvironmentLacking, UsageError, unknown_name
from avpipe.stages.demo import ave, ms3
from avpipe.stages.demo.layout import ClipPlan, Layout

LAYOUTS: dict[str, Layout] = {"ave": ave.LAYOUT, "avsbench": ms3.LAYOUT}
GENERATOR = 1
"""Goes up with every change of what a seed gives, so that old and new demo data are not taken for each other."""

_LOCK = ".lock"


def make_demo(dataset: str, out: Path, *, seed: int = 0, clips: int | None = None, workers: int = 2) -> bool:
    """Makes the demo data of one dataset in its official layout.

    The same seed gives the same annotations and, on the same machine and libraries, the same decoded content. The
    folder appears when it is complete; what an interrupted run left beside it is cleared away by the next.

    Args:
        dataset: `ave` or `avsbench`.
        out: folder to make; its parents are made as needed.
        seed: seed of everything, 0 or more.
        clips: number of clips, 3 or more; default 200 (AVE) and 60 (AVSBench MS3).
        workers: processes that write clips; 1 writes them in this process.

    Returns:
        True when the data were made, False when they were there already.

    Raises:
        UsageError: unknown dataset, or `out` is in the way: not made by this function, or with another seed or number.
    """
    if dataset not in LAYOUTS:
        raise unknown_name("demo dataset", dataset, LAYOUTS)
    if seed < 0:
        raise UsageError(f"seed {seed} is negative: give 0 or more")
    layout = LAYOUTS[dataset]
    clips = layout.clips if clips is None else clips
    made_of = {"dataset": dataset, "seed": seed, "clips": clips, "generator": GENERATOR}
    if _is_there(out, made_of):
        progress.say(f"{out}: demo data is there already (seed {seed}, {clips} clips)")
        return False
    plan = layout.plan(seed, clips)
    with _workshop(out) as folder:
        for path, text in plan.annotations.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        _write_clips(dataset, folder, plan.clips, workers)
        _write_overrides(folder, layout, made_of)
    return True


def _is_there(out: Path, made_of: dict[str, Any]) -> bool:
    """Whether `out` holds this demo already; raises where it holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    before = read_overrides(out).get("demo") if out.is_dir() else None
    if before is None:
        raise UsageError(f"{out} is in the way and is no demo data: choose another folder with --out")
    changed = [
        f"{key} {before.get(key)} there, {value} asked" for key, value in made_of.items() if before.get(key) != value
    ]
    if changed:
        raise UsageError(
            f"{out} holds other demo data ({'; '.join(changed)}): choose another --out, or remove it first"
        )
    return True


@contextmanager
def _workshop(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` when the block ends well; one process at a time.

    It lies in a folder beside `out` that is cleared at the start, and has a name of its own: a worker of a killed run
    that is still writing cannot reach into it.
    """
    beside = out.parent / f".{out.name}.making"
    if beside.exists() and not (beside / _LOCK).exists() and any(beside.iterdir()):
        raise UsageError(f"{beside} is in the way and is no unfinished demo data: move it")
    beside.mkdir(parents=True, exist_ok=True)
    with (beside / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another process is making demo data in {beside}: wait for it") from error
        for entry in beside.iterdir():
            if entry.name != _LOCK:
                shutil.rmtree(entry)
        folder = beside / uuid.uuid4().hex
        folder.mkdir()
        yield folder
        folder.rename(out)
        shutil.rmtree(beside, ignore_errors=True)


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
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_clip(dataset: str, folder: Path, clip: ClipPlan) -> None:
    LAYOUTS[dataset].write(folder, clip)


def _write_overrides(folder: Path, layout: Layout, made_of: dict[str, Any]) -> None:
    import yaml

    backbones = {
        "visual": {"model": "test_vit", "weights": "random:0", "image_size": layout.image_size},
        "audio": {"model": "test_vit", "weights": "random:1"},
        "layers": "last:4",
    }
    text = yaml.safe_dump({"backbones": backbones, "demo": made_of}, sort_keys=False)
    (folder / FILE_NAME).write_text(text, encoding="utf-8")
