"""Shared fixtures: small datasets, runs trained on them, and the `avpipe` program in a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from features_toy import Toy, make_events, make_masks, make_parsing

from avpipe.pipeline import open_cache
from avpipe.stages.demo.encode import write_mp4

pytest_plugins = ["side_by_side"]
AVPIPE = Path(sys.executable).with_name("avpipe")
CLASSES = ("Church bell", "Bark", "Helicopter")
SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test downloads; read when the hub's package is imported, later than this


@cache
def _encoded(number: int) -> bytes:
    """The file of a clip: seconds of one colour each, and a tone."""
    rng = np.random.default_rng(number)
    shade = rng.integers(0, 256, (10, 1, 1, 3)).repeat(5, axis=0)
    pictures = np.broadcast_to(shade, (50, 48, 64, 3)).astype(np.uint8)
    tone = np.sin(np.arange(160_000) * (0.05 + 0.01 * (number % 20)), dtype=np.float32)[None] * 0.3
    with TemporaryDirectory() as folder:
        write_mp4(Path(folder) / "clip.mp4", pictures, 5, tone, 16_000)
        return (Path(folder) / "clip.mp4").read_bytes()


class TinyAve:
    """A dataset in AVE's layout: 10 s clips of 64 x 48 pixels at 5 frames a second, sound at 16 kHz."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ids: list[str] = []

    def add(self, count: int) -> None:
        """Appends clips; a third of the ids starts with "-"."""
        media = self.root / "AVE_Dataset" / "AVE"
        media.mkdir(parents=True, exist_ok=True)
        for number in range(len(self.ids), len(self.ids) + count):
            name = f"{'-' if number % 3 == 0 else 'a'}clip{number:06d}"
            (media / f"{name}.mp4").write_bytes(_encoded(number))
            self.ids.append(name)
        rows = [f"{CLASSES[i % 3]}&{name}&good&{i % 4}&{6 + i % 4}" for i, name in enumerate(self.ids)]
        folder = self.root / "AVE_Dataset"
        (folder / "Annotations.txt").write_text("Category&VideoID&Quality&StartTime&EndTime\n" + "\n".join(rows) + "\n")
        for split, part in (("train", 0), ("val", 1), ("test", 2)):
            chosen = [row for i, row in enumerate(rows) if (i % 4 if i % 4 < 3 else 0) == part]
            (folder / f"{split}Set.txt").write_text("\n".join(chosen) + "\n")

    def video(self, name: str) -> Path:
        """The file of a clip."""
        return self.root / "AVE_Dataset" / "AVE" / f"{name}.mp4"


@pytest.fixture(scope="session")
def tiny_ave(tmp_path_factory) -> TinyAve:
    """40 clips; do not change them."""
    dataset = TinyAve(tmp_path_factory.mktemp("tiny") / "ave")
    dataset.add(40)
    return dataset


@pytest.fixture(scope="session")
def new_ave() -> type[TinyAve]:
    """For fixtures that make a dataset of their own: `new_ave(root)`."""
    return TinyAve


@pytest.fixture(scope="session")
def tiny_hash(tiny_ave, tmp_path_factory) -> str:
    """Content hash of `tiny_ave` where one process extracted it with the stub, unbroken."""
    cache = tmp_path_factory.mktemp("unbroken") / "c"
    stub = ("--visual", "stub", "--audio", "stub", "--weights", "random:0")
    command = [AVPIPE, "extract", "--dataset", "ave", "--root", tiny_ave.root, "--cache", cache, *stub]
    subprocess.run(command, check=True, capture_output=True)
    return open_cache(cache).content_hash()


@pytest.fixture
def own_ave(tmp_path) -> TinyAve:
    """6 clips of the test's own."""
    dataset = TinyAve(tmp_path / "data" / "ave")
    dataset.add(6)
    return dataset


@pytest.fixture
def avpipe(tmp_path):
    """Runs `avpipe ARGS...` in `tmp_path`: returns the finished process with its text output."""

    def run(*args: object, check: int | None = 0, env: dict[str, str] | None = None, timeout: float = 240):
        done = subprocess.run(
            [str(AVPIPE), *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check is not None:
            assert done.returncode == check, f"exit {done.returncode}, not {check}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture
def avpipe_here(tmp_path, monkeypatch, capsys):
    """`avpipe` as above, in this process: for what it says and writes, without the start of a process each time."""
    from avpipe.cli.main import run as program
    from avpipe.pipeline import progress

    def run(*args: object, check: int = 0):
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", ["avpipe", *map(str, args)])
            patch.setattr(progress, "_reporter", progress._reporter)
            with pytest.raises(SystemExit) as end:
                program()
        code, (out, errors) = end.value.code or 0, capsys.readouterr()
        assert code == check, f"exit {code}, not {check}\n{out}\n{errors}"
        return subprocess.CompletedProcess(args, code, out, errors)

    return run


@pytest.fixture(scope="session")
def toy_events(tmp_path_factory) -> Toy:
    """Events; do not change it."""
    return make_events(tmp_path_factory.mktemp("events"))


@pytest.fixture(scope="session")
def toy_masks(tmp_path_factory) -> Toy:
    """Masks; do not change it."""
    return make_masks(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="session")
def toy_parsing(tmp_path_factory) -> Toy:
    """Parsing; do not change it."""
    return make_parsing(tmp_path_factory.mktemp("parsing"))


@pytest.fixture(scope="session")
def event_run(toy_events, tmp_path_factory) -> Path:
    """A scored run on events without media; do not change it."""
    return _trained(toy_events.cache, tmp_path_factory.mktemp("events") / "runs" / "ours", "epochs=4")


@pytest.fixture(scope="session")
def mask_run(toy_masks, tmp_path_factory) -> Path:
    """A scored run on masks without media; do not change it."""
    return _trained(toy_masks.cache, tmp_path_factory.mktemp("masks") / "ours", "epochs=2")


@pytest.fixture(scope="session")
def parsing_run(toy_parsing, tmp_path_factory) -> Path:
    """A scored run on parsing without media; do not change it."""
    return _trained(toy_parsing.cache, tmp_path_factory.mktemp("parsing") / "runs" / "ours", *SMALL, "epochs=2")


@pytest.fixture(scope="session")
def media_run(tmp_path_factory) -> Path:
    """A scored run on real media, 4 clips of test: 32-pixel frames, 4 patches, log-mel sound; do not change it."""
    from avpipe.pipeline.datasets import load_dataset
    from avpipe.stages.extract import extract
    from avpipe.stages.job import Wish, choose_backbones, resolve

    base = tmp_path_factory.mktemp("media")
    TinyAve(base / "data" / "ave").add(16)
    dataset = load_dataset("ave", base / "data" / "ave")
    wishes = {m: Wish("test_vit", "random:0", 32 if m == "visual" else None) for m in ("visual", "audio")}
    job = resolve(
        dataset,
        choose_backbones(dataset, wishes),
        cache=base / "cache",
        layers="last:2",
        dtype="float16",
        decoder="decord",
        device="cpu",
        batch=None,
        deadline_seconds=60.0,
    )
    assert extract(dataset, job).left == 0
    return _trained(base / "cache", base / "run", *SMALL, "epochs=1")


def _trained(cache: Path, run: Path, *settings: str) -> Path:
    from avpipe.stages.evaluate import evaluate
    from avpipe.stages.train import TrainOptions, train

    train(TrainOptions(cache=cache, run=run, overrides=settings))
    evaluate(run)
    return run
