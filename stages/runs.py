"""Run folders: where a training run keeps its settings, its checkpoints and its results.

config.yaml        everything that is needed to build the model again
environment.json   versions, device, fingerprints and content hash of the cache, its weights, how demo data were made
epochs.jsonl       one line per finished epoch
steps.jsonl        one line per step: epoch, step (from 1), loss, lr
best.safetensors   weights of the best epoch by validation, of the last one without validation
last.safetensors   all that is needed to go on: after the last finished epoch, or within the one that is running
start.safetensors  weights that it started from, where it did not start from fresh ones
samples.json       ids of the dataset's samples by split, see `seen`
metrics.json, predictions-<split>.npz   written by `avpipe evaluate`
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avpipe.pipeline.datasets.overrides import read_overrides
from avpipe.pipeline.datasets.own import is_own
from avpipe.pipeline.errors import CacheMismatch, UsageError
from avpipe.stages.checkpoint import write_atomic
from avpipe.stages.config import TrainConfig, from_dict
from avpipe.stages.model import MASK_TASKS, ModelSpec
from avpipe.stages.tasks import AnyTask, build_task

if TYPE_CHECKING:
    import torch

    from avpipe.pipeline.cache import Cache
    from avpipe.pipeline.manifest import Dataset, Sample

CONFIG, ENVIRONMENT, EPOCHS, STEPS = "config.yaml", "environment.json", "epochs.jsonl", "steps.jsonl"
BEST, LAST, START = "best.safetensors", "last.safetensors", "start.safetensors"
SAMPLES = "samples.json"


class EarlierDecoder(UsageError):
    """A run's mask decoder is that of an earlier version. Train again."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What a run trains, on what.

    Attributes:
        dataset: name of the dataset.
        root: folder of the dataset, absolute.
        cache: folder of the cache, absolute.
        classes: class names in order of their ids.
        train: settings.
        model: what the model is built for.
        options: settings with which the dataset was read, see `pipeline.manifest.Dataset`.
        start: run whose weights it started from, and their SHA-256; empty where it started from none.
        preset: name of the preset that the settings were taken from, some perhaps changed; "" where there was none.
    """

    dataset: str
    root: str
    cache: str
    classes: tuple[str, ...]
    train: TrainConfig
    model: ModelSpec
    options: dict[str, str] = field(default_factory=dict)
    preset: str = ""
    start: dict[str, str] = field(default_factory=dict)

    @property
    def table_task(self) -> str | None:
        """The task, where the dataset is a table of the user's own: its columns may allow several."""
        return self.model.task if is_own(self.dataset) else None

    def to_yaml(self) -> str:
        """The content of `config.yaml`."""
        import yaml

        content = {
            "dataset": self.dataset,
            "root": self.root,
            "cache": self.cache,
            "classes": list(self.classes),
            "train": self.train.to_dict(),
            "model": self.model.to_dict(),
            **({"options": self.options} if self.options else {}),
            **({"preset": self.preset} if self.preset else {}),
            **({"start": self.start} if self.start else {}),
        }
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)

    def build_task(self, samples: Sequence[Sample]) -> AnyTask:
        """The rules of the run's task for some samples."""
        return build_task(
            self.model.task,
            samples,
            classes=self.model.classes,
            mask_size=self.model.mask_size,
            config=self.train,
        )

    @classmethod
    def load(cls, run: Path) -> RunConfig:
        """Settings of a run folder.

        Raises:
            UsageError: not a run folder, or its settings cannot be read.
            EarlierDecoder: this version cannot build its model.
        """
        import yaml

        path = run / CONFIG
        if not path.is_file():
            raise UsageError(f"{run} is no run folder: {path} is missing; `avpipe train` makes one and names it")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            if not isinstance(content, Mapping):
                raise ValueError("it holds no settings")
            config = cls(
                str(content["dataset"]),
                str(content["root"]),
                str(content["cache"]),
                tuple(content["classes"]),
                from_dict(content["train"]),
                ModelSpec.from_dict(content["model"]),
                {str(name): str(value) for name, value in content.get("options", {}).items()},
                str(content.get("preset", "")),
                {str(name): str(value) for name, value in content.get("start", {}).items()},
            )
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            why = " ".join(str(error).split())
            raise UsageError(f"{path} cannot be read ({why}): restore the file, or train again") from error
        if config.model.task in MASK_TASKS and not config.model.grids:
            raise EarlierDecoder(f"run {run} was made by an earlier version, with another mask decoder: train again")
        return config


def refuse_taken(wanted: Path) -> None:
    """Checks that a new run may be made at a folder that the user named.

    Raises:
        UsageError: it is a file, or a folder that is not empty.
    """
    if wanted.exists() and not wanted.is_dir():
        raise UsageError(f"--run {wanted} is a file: name a folder")
    if wanted.is_dir() and any(wanted.iterdir()):
        what = "holds a run: go on with it by --resume" if (wanted / CONFIG).exists() else "is not empty: empty it"
        raise UsageError(f"--run {wanted} {what}, or name another folder")


def new_folder(wanted: Path | None, name: str) -> Path:
    """Makes the folder of a new run.

    Args:
        wanted: the folder that the user named; else one below `./runs` is made.
        name: `<dataset>-<stage>-<method>`, put behind the time.

    Raises:
        UsageError: the folder exists and is not empty.
    """
    if wanted is not None:
        refuse_taken(wanted)
        wanted.mkdir(parents=True, exist_ok=True)
        return wanted
    start = time.strftime("%Y%m%d-%H%M%S")
    for attempt in range(1, 1000):
        path = Path("runs") / (f"{start}-{name}" + (f"-{attempt}" if attempt > 1 else ""))
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise UsageError(f"a thousand runs have started at {start} in {Path('runs').absolute()}: name one with --run")


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keeps a second training out of a run folder while the block runs; a killed one keeps nobody out.

    Raises:
        UsageError: another process is training in it.
    """
    descriptor = os.open(run / CONFIG, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another process is training in {run}: wait until it has ended, or stop it") from None
        yield
    finally:
        os.close(descriptor)


def write_start(run: Path, config: RunConfig, environment: Mapping[str, Any]) -> None:
    """Writes `environment.json` and, last, `config.yaml`, which makes the folder a run."""
    write_atomic(run / ENVIRONMENT, json.dumps(environment, indent=2).encode())
    write_atomic(run / CONFIG, config.to_yaml().encode())


def environment_of(cache: Cache, device: torch.device, dataset: Dataset, modalities: Sequence[str]) -> dict[str, Any]:
    """What results may depend on besides the settings: versions, device, identity of features and data.

    `weights` (by modality that is used, as asked for) and `data` (`root`, and `demo`: how demo data were made, or null)
    say it to readers when cache and dataset are gone.
    """
    import torch

    return {
        "avpipe": version("avpipe"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
        "threads": torch.get_num_threads(),
        "cache": str(Path(cache.path).resolve()),
        "fingerprints": {modality: spec.fingerprint for modality, spec in cache.specs.items()},
        "content_hash": cache.content_hash(),
        "weights": asked_weights(cache, modalities),
        "data": {"root": str(dataset.root.resolve()), "demo": demo_record(dataset)},
    }


def asked_weights(cache: Cache, modalities: Sequence[str]) -> dict[str, str | None]:
    """Which weights were asked for, by modality: `pretrained`, `demo`, `random:SEED` or the name of a file."""
    asked = {modality: cache.specs[modality].request.get("weights") for modality in modalities}
    return {modality: None if name is None else Path(str(name)).name for modality, name in asked.items()}


def demo_record(dataset: Dataset) -> dict[str, int] | None:
    """How demo data were made: `seed`, `clips`, `generator`; None for other data."""
    found: dict[str, int] | None = read_overrides(dataset.root).get("demo", {}).get(dataset.name)
    return found


def recorded_environment(run: Path) -> dict[str, Any]:
    """The environment in which a run was started."""
    try:
        found: dict[str, Any] = json.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no facts")
    except (OSError, ValueError) as error:
        raise UsageError(f"{run / ENVIRONMENT} cannot be read ({error}): train again") from error
    return found


def refuse_other_features(run: Path, cache: Cache, modalities: tuple[str, ...]) -> None:
    """Checks that the cache holds what the run was trained on.

    Raises:
        CacheMismatch: a modality's fingerprint is another one.
    """
    known = recorded_environment(run)["fingerprints"]
    for modality in modalities:
        spec = cache.specs.get(modality)
        if spec is None or spec.fingerprint != known.get(modality):
            now = "nothing" if spec is None else f"fingerprint {spec.fingerprint[:12]}"
            raise CacheMismatch(
                f"run {run} was trained on {modality} features with fingerprint {str(known.get(modality))[:12]}, cache "
                f"{cache.path} holds {now}: name the cache that it was trained on with --cache, or train again"
            )
