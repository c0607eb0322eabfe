"""Imported features in stage two, and what the rest of avpipe says where only extracted ones will do."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from features_toy import Toy

from avpipe.pipeline.cache import verify
from avpipe.pipeline.cache_import import SourceRequest, import_features, parse_source
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import CacheMismatch, UsageError
from avpipe.stages.evaluate import evaluate
from avpipe.stages.extract import extract
from avpipe.stages.job import Wish, choose_backbones, resolve
from avpipe.stages.repair import repair_cache
from avpipe.stages.report import make_report
from avpipe.stages.train import TrainOptions, train

SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "lr=0.01", "dropout=0")


def released_like_ave(root: Path, folder: Path) -> list[SourceRequest]:
    """`audio_feature.h5` and `visual_feature.h5` in which an event shows."""
    rows = [line.split("&") for line in (root / "AVE_Dataset" / "Annotations.txt").read_text().splitlines()]
    kinds = sorted({row[0] for row in rows})
    rng = np.random.default_rng(0)
    heard = rng.normal(size=(len(rows), 10, 128)).astype(np.float32)
    seen = rng.normal(size=(len(rows), 10, 7, 7, 32)).astype(np.float32)
    for number, (kind, _, _, start, end) in enumerate(rows):
        place = slice(8 * kinds.index(kind), 8 * kinds.index(kind) + 8)
        heard[number, int(start) : int(end), place] += 3
        seen[number, int(start) : int(end), :, :, place] += 3
    for name, values in (("audio", heard), ("visual", seen)):
        with h5py.File(folder / f"{name}_feature.h5", "w") as file:
            file["avadataset"] = values
    return [
        SourceRequest("audio", "vggish", folder / "audio_feature.h5"),
        SourceRequest("visual", "vgg19", folder / "visual_feature.h5"),
    ]


@pytest.fixture(scope="module")
def imported(toy_events, tmp_path_factory) -> Path:
    """A cache of features as AVE's authors release them."""
    base = tmp_path_factory.mktemp("imported")
    sources = released_like_ave(toy_events.root, base)
    assert import_features(load_dataset("ave", toy_events.root), base / "c", sources).clips == 40
    return base / "c"


def trained(toy: Toy, cache: Path, run: Path, method: str, modality: str = "both") -> None:
    """Trains, and asserts that the features were of use."""
    options = TrainOptions(cache=cache, method=method, modality=modality, run=run, overrides=(*SMALL, "epochs=8"))
    train(options)
    truth = [label for sample in load_dataset("ave", toy.root).split("test") for label in sample.events]
    most = max(truth.count(label) for label in set(truth)) / len(truth)
    assert evaluate(run)["metrics"]["accuracy"] > most + 0.1


def test_stage_two_runs_on_imported_features(toy_events, imported, tmp_path):
    trained(toy_events, imported, tmp_path / "run", "linear")


def test_training_without_extracted_features_points_to_imported_ones(toy_events, imported, tmp_path, monkeypatch):
    monkeypatch.setenv("AVPIPE_CACHE", str(tmp_path))
    shutil.copytree(imported, tmp_path / "ave-imported")
    with pytest.raises(UsageError, match=r"no features of ave yet: .* imported ones with --cache .*/ave-imported"):
        train(TrainOptions(dataset="ave", root=toy_events.root))


@pytest.mark.slow
def test_every_method_and_modality_runs_on_imported_features(toy_events, imported, tmp_path):
    trained(toy_events, imported, tmp_path / "mettle", "mettle")
    for modality in ("audio", "visual"):
        trained(toy_events, imported, tmp_path / modality, "mettle", modality)
    make_report(tmp_path / "mettle")
    page = (tmp_path / "mettle" / "report.html").read_text()
    assert "audio and visual features were imported as others have released them" in page


def test_nothing_is_extracted_into_a_cache_of_imported_features(imported, toy_events):
    dataset = load_dataset("ave", toy_events.root)
    wishes = {"audio": Wish("test_vit", "random:0")}
    job = resolve(
        dataset,
        choose_backbones(dataset, wishes),
        cache=imported,
        layers="last:1",
        dtype="float16",
        decoder="decord",
        device="cpu",
        batch=None,
        deadline_seconds=60.0,
    )
    with pytest.raises(CacheMismatch, match="holds imported audio features, and extracted ones"):
        extract(dataset, job)


def test_a_repair_says_that_imported_features_cannot_be_made_again(imported, tmp_path):
    cache = Path(shutil.copytree(imported, tmp_path / "c"))
    shard = next((cache / "visual" / "vgg19").glob("c.*"))
    damaged = bytearray(shard.read_bytes())
    damaged[100] ^= 1
    shard.write_bytes(damaged)
    report = repair_cache(cache)
    assert report.failed
    assert all("was imported: no media give it again" in why for why in report.failed.values())
    assert not verify(cache).ok


def test_the_mask_decoder_refuses_imported_pictures(toy_masks, tmp_path):
    dataset = load_dataset("avsbench", toy_masks.root)
    for name in ("v", "a"):
        (tmp_path / name).mkdir()
        for clip in dataset.clips:
            np.save(tmp_path / name / f"{clip.id.rpartition('/')[2]}.npy", np.zeros((5, 4, 8)))
    sources = [parse_source("visual", f"res={tmp_path / 'v'}"), parse_source("audio", f"vggish={tmp_path / 'a'}")]
    assert import_features(dataset, tmp_path / "c", sources).quarantined == ()
    with pytest.raises(UsageError, match="were imported, and nothing says how their tokens lie on the picture"):
        train(TrainOptions(cache=tmp_path / "c", run=tmp_path / "run"))
