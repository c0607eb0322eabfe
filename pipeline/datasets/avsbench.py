"""AVSBench as a whole: every subset that is found at the root in one Dataset, for one cache."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from avpipe.pipeline.datasets import avsbench_avss, avsbench_ms3, avsbench_s4
from avpipe.pipeline.datasets.registry import find, load_dataset, register
from avpipe.pipeline.manifest import MIXED, Dataset

_SUBSETS = (avsbench_s4, avsbench_ms3, avsbench_avss)


def _holds_a_subset(root: Path) -> bool:
    return any(find(subset.NAME, root) is not None for subset in _SUBSETS)


@register("avsbench", markers=tuple(m for subset in _SUBSETS for m in subset.MARKERS), confirm=_holds_a_subset)
def read_avsbench(name: str, root: Path) -> Dataset:
    """Reads all subsets at a root.

    Args:
        name: `avsbench`.
        root: the folder that holds at least one subset.

    Returns:
        Clips and samples of S4, MS3 and AVSS, as far as they are there, in this order. Task and classes are those of
        the subsets where they agree; with AVSS beside a binary subset the task is `mixed` and there are no classes.

    Raises:
        UsageError: a table cannot be read.
    """
    parts = [load_dataset(subset.NAME, root) for subset in _SUBSETS if find(subset.NAME, root) is not None]
    first = parts[0]
    alike = all((part.task, part.classes) == (first.task, first.classes) for part in parts)
    return replace(
        first,
        name=name,
        task=first.task if alike else MIXED,
        classes=first.classes if alike else (),
        clips=tuple(clip for part in parts for clip in part.clips),
        samples=tuple(sample for part in parts for sample in part.samples),
        subsets=tuple(subset for part in parts for subset in part.subsets),
        findings=tuple(finding for part in parts for finding in part.findings),
        spare_media=tuple(path for part in parts for path in part.spare_media),
        mask_files=tuple(path for part in parts for path in part.mask_files),
        left_out=dict(sum((Counter(part.left_out) for part in parts), Counter())),
    )
