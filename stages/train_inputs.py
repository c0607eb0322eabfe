"""Which dataset and which cache a training or evaluation means, and what it needs from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.pipeline import progress
from avpipe.pipeline.datasets import folder, load_dataset, read_mask
from avpipe.pipeline.datasets.origin import folder_meant, known_folder, read_again, refuse_other
from avpipe.pipeline.datasets.own import is_own, task_of
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Dataset, Sample
from avpipe.stages.backbones.wording import in_words
from avpipe.stages.metrics.avss_masks import EVAL_SIZE

if TYPE_CHECKING:
    import torch

    from avpipe.pipeline.cache import Cache
    from avpipe.stages.model.spec import ModelSpec

_WITHOUT_HEAD = {"qa": "questions and answers"}
"""Tasks of data that can be extracted, checked and scored, but not learned yet, and what they are about."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """A dataset (of one subset, where it has several) and the cache of its features."""

    dataset: Dataset
    cache: Cache


def find_inputs(name: str | None, root: Path | None, cache: Path | None, task: str | None = None) -> Inputs:
    """Opens the cache and reads the annotations.

    Args:
        name: dataset; None: the one that the cache was made of.
        root: folder of the dataset; None: where the cache was made from, or else where the dataset is usually found.
        cache: folder of the cache; None: the dataset's folder below the default root, or else the newest cache.
        task: the task of a table of the user's own, where its columns allow several; None: that of its extraction.

    Raises:
        UsageError: something is missing, or the cache is of another dataset.
    """
    from avpipe.pipeline.cache import open_cache
    from avpipe.pipeline.cache.locate import default_root, is_cache, resolve_cache

    if cache is None and name is not None:
        cache = default_root() / folder(name)
        if not is_cache(cache):
            _refuse_early(name, root, task)  # what is wrong with the data has to be said first
            imported = cache.with_name(f"{cache.name}-imported")
            or_those = f", or take the imported ones with --cache {imported}" if is_cache(imported) else ""
            raise UsageError(
                f"no features of {name} yet: {cache} is no cache; run `avpipe extract --dataset {name}`{or_those}"
            )
    opened = open_cache(resolve_cache(cache))
    origin = opened.dataset
    if name is None:
        name, root = str(origin.get("name", "")), root or known_folder(origin)
        progress.say(f"dataset: {name}")
    root = folder_meant(name, root, origin)
    refuse_other(Path(opened.path), origin, name, root)
    held = {clip: rows.segments for clip, rows in opened.clips().items()} if is_own(name) else None
    return Inputs(_one_subset(read_again(name, root, origin, task=task, segments=held)), opened)


def _refuse_early(name: str, root: Path | None, task: str | None) -> None:
    """Checks that a dataset is there and can be learned, as far as that goes without its media."""
    if is_own(name):
        _refuse_headless(name, task_of(name, root, task))
    else:
        _one_subset(load_dataset(name, root, task=task))


def _one_subset(dataset: Dataset) -> Dataset:
    """The dataset itself; where it is one subset of several that there may be, under the subset's name.

    Raises:
        UsageError: there is a choice between subsets, or no head here can learn the data.
    """
    if len(dataset.subsets) > 1:
        names = ", ".join(f"{dataset.name}-{subset}" for subset in dataset.subsets)
        raise UsageError(f"{dataset.name} at {dataset.root} has several subsets: name one with --dataset ({names})")
    _refuse_headless(f"{dataset.name} at {dataset.root}", dataset.task)
    if dataset.subsets and not dataset.name.endswith(f"-{dataset.subsets[0]}"):
        return replace(dataset, name=f"{dataset.name}-{dataset.subsets[0]}")
    return dataset


def _refuse_headless(what: str, task: str) -> None:
    """Checks that there is a head for a task.

    Raises:
        UsageError: there is none in this version.
    """
    if task in _WITHOUT_HEAD:
        raise UsageError(
            f"{what} has {_WITHOUT_HEAD[task]} (task {task}): a head for them is not in this "
            "version. `avpipe extract`, `data check` and `score` work, and a cache stays good for one that has it"
        )


def refuse_other_classes(run: Path, classes: Sequence[str], dataset: Dataset) -> None:
    """Checks that a dataset still has the classes that a run was trained for.

    Raises:
        UsageError: they have changed; names some that did.
    """
    if tuple(classes) != dataset.classes:
        differ = sorted(set(classes) ^ set(dataset.classes))
        shown = ", ".join(map(repr, differ[:3])) + (", ..." if len(differ) > 3 else "")
        what = f"differ in {shown}" if differ else "are in another order"
        raise UsageError(
            f"the classes of run {run} and of {dataset.name} at {dataset.root} {what}: the annotations have changed "
            "since; put them back, or train again"
        )


def learnable(dataset: Dataset) -> tuple[Sample, ...]:
    """Training samples that have something to learn from; of parsing those with weak labels, also an empty set."""
    if dataset.task == "parsing":
        return tuple(sample for sample in dataset.split("train") if sample.labels is not None)
    return labelled(dataset, "train")


def labelled(dataset: Dataset, split: str) -> tuple[Sample, ...]:
    """Samples of a split that have something to score against; of parsing those with dense events."""
    return tuple(sample for sample in dataset.split(split) if _scorable(sample, dataset.task))


def unlabelled(dataset: Dataset, split: str) -> tuple[str, ...]:
    """Ids of the samples of a split that `labelled` leaves out."""
    return tuple(sample.id for sample in dataset.split(split) if not _scorable(sample, dataset.task))


def _scorable(sample: Sample, task: str) -> bool:
    if task == "parsing":
        return sample.audio_events is not None and sample.visual_events is not None
    return sample.events is not None or any(mask is not None for mask in sample.masks or ())


def mask_size_of(dataset: Dataset) -> tuple[int, int]:
    """Height and width at which masks are trained and predicted: those of the first annotated training mask.

    Class maps, whose clips differ in size, have the official size of evaluation.

    Raises:
        UsageError: no sample has one.
    """
    if dataset.task == "semantic":
        return EVAL_SIZE
    for sample in learnable(dataset):
        for file in sample.masks or ():
            if file is not None:
                height, width = read_mask(file).shape
                return int(height), int(width)
    raise UsageError("no training sample has a mask: check the dataset's folder with `avpipe data ls`")


def choose_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` means here.

    Raises:
        UsageError: unknown name, or no such device on this machine.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and (kind == "cpu" or not number.isdigit())):
        raise UsageError(f"--device {name!r} is not known: auto, cpu, cuda or cuda:N")
    if kind == "cuda" and (not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count()):
        raise UsageError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices; use --device cpu")
    return torch.device(name)


def say_missing(what: str, cache: Cache, samples: Sequence[Sample], missing: Sequence[str], consequence: str) -> None:
    """A line about samples whose clips the cache lacks, and one about those of them that are quarantined.

    Args:
        what: which samples.
        cache: the cache.
        samples: all of them.
        missing: ids of those without features.
        consequence: what becomes of these.
    """
    if not missing:
        return
    shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    progress.say(f"{len(missing)} of {len(samples)} {what} samples have no features ({shown}): {consequence}")
    ids = set(missing)
    failed = {entry.clip for entry in cache.quarantined()} & {sample.clip for sample in samples if sample.id in ids}
    if failed:
        progress.say(
            f"{len(failed)} of their clips could not be used; `avpipe quarantine ls --cache {cache.path}` says why"
        )


def say_taps(cache: Cache, model: ModelSpec) -> None:
    """One line per modality: what is trained on."""
    for modality, taps in model.shapes.items():
        spec, adapted = cache.specs[modality], len(model.adapted.get(modality, ()))
        progress.say(f"{modality}: {in_words(spec.fields, spec.request, tuple(taps), adapted=adapted)}")
