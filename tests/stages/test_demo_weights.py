"""The weights that ship with avpipe: what they are, that they load, and that the script that makes them runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, demo_weights, facts_of, load
from avpipe.stages.backbones.timm_weights import hash_tensors

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "demo_backbones" / "pretrain.py"
MODALITIES = ("visual", "audio")


def choice_of(modality: str, weights: str = "demo") -> BackboneChoice:
    return BackboneChoice(modality, "test_vit", weights, 160 if modality == "visual" else None)


def test_both_files_together_take_at_most_4_mb() -> None:
    assert sum(demo_weights.file(modality).stat().st_size for modality in MODALITIES) <= 4_000_000


@pytest.mark.parametrize("modality", MODALITIES)
def test_record_names_the_tensors_and_how_they_were_made(modality: str) -> None:
    record = demo_weights.record("test_vit", modality)
    assert record["sha256"] == hash_tensors(load_file(demo_weights.file(modality)))
    assert {"seed", "inputs", "epochs", "epochs_log", "kinds_seed"} <= set(record)
    first, last = record["epochs_log"][0], record["epochs_log"][-1]
    assert last["epoch"] == record["epochs"]
    assert last["loss"] < 0.7 * first["loss"]


@pytest.mark.parametrize("modality", MODALITIES)
def test_they_load_and_differ_from_random_ones(modality: str) -> None:
    shape = (2, 160, 160, 3) if modality == "visual" else (2, 16_000)
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 255, shape).astype(np.uint8 if modality == "visual" else np.int16)
    found = {}
    for weights in ("demo", "random:0"):
        choice = choice_of(modality, weights)
        facts = facts_of(choice, Timeline())
        backbone = load(choice, facts, ("blocks.2", "blocks.5"), "cpu")
        found[weights] = backbone.features(batch)["blocks.5"]
        if weights == "demo":
            assert backbone.weights_sha256 == demo_weights.record("test_vit", modality)["sha256"]
    assert np.isfinite(found["demo"]).all()
    assert not np.allclose(found["demo"], found["random:0"], atol=0.1)


def test_positions_follow_the_length_of_a_segment(tmp_path: Path) -> None:
    """Sound of another length is a picture of another width: positions change along time and nowhere else."""
    own = load_file(demo_weights.file("audio"))["pos_embed"]
    assert own.shape == (1, 1 + 8 * 6, 64)
    for seconds, columns in ((0.5, 2), (2.0, 12)):
        timeline, choice = Timeline(segment_seconds=seconds), choice_of("audio")
        facts = facts_of(choice, timeline)
        backbone = load(choice, facts, ("blocks.5",), "cpu")
        found = backbone._model.model.pos_embed
        assert facts.grids["blocks.5"] == (8, columns)
        assert torch.equal(found[:, :1], own[:, :1])
        rows, old = found[0, 1:].view(8, columns, 64), own[0, 1:].view(8, 6, 64)
        nearest = torch.cdist(rows.mean(1), old.mean(1)).argmin(1)
        assert nearest.tolist() == list(range(8))  # bands stay bands
    save_file({**load_file(demo_weights.file("audio")), "pos_embed": own[:, :47]}, tmp_path / "w.safetensors")
    choice = choice_of("audio", str(tmp_path / "w.safetensors"))
    with pytest.raises(UsageError, match="its 46 positions are neither a square nor 8 rows, which pictures"):
        load(choice, facts_of(choice, Timeline()), ("blocks.5",), "cpu")


def test_request_holds_the_tensors_hash_and_no_path() -> None:
    request = choice_of("visual").request()
    assert request["sha256"] == demo_weights.record("test_vit", "visual")["sha256"]
    assert "mtime_ns" not in request


def test_another_model_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--weights demo is for test_vit, not for vit_base_patch16_224"):
        BackboneChoice("visual", "vit_base_patch16_224", "demo").request()


@pytest.mark.parametrize("front_end", ["ast", "audiomae", "lavish"])
def test_audio_weights_go_with_the_pictures_that_they_learned(front_end: str) -> None:
    choice = BackboneChoice("audio", "test_vit", "demo", front_end=front_end)
    with pytest.raises(UsageError, match=f"--audio-front-end logmel, not with {front_end}: leave --audio-front-end"):
        facts_of(choice, Timeline())
    facts_of(BackboneChoice("audio", "test_vit", "demo", front_end="logmel"), Timeline())
    if front_end == "lavish":  # the same weights as a file
        choice = BackboneChoice("audio", "test_vit", str(demo_weights.file("audio")), front_end=front_end)
        with pytest.raises(UsageError, match="its pictures have 1 channels: --audio-front-end lavish takes weights of"):
            load(choice, facts_of(choice, Timeline()), ("blocks.5",), "cpu")


@pytest.mark.parametrize("modality", ["visual", pytest.param("audio", marks=pytest.mark.slow)])
def test_the_script_trains_and_writes(tmp_path: Path, modality: str) -> None:
    options = ["--inputs", "40", "--held-out", "20", "--epochs", "1", "--batch", "20", "--workers", "1"]
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--modality", modality, *options]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    record = json.loads((tmp_path / "weights.json").read_text())[modality]
    assert record["sha256"] == hash_tensors(load_file(tmp_path / f"{modality}.safetensors"))
    assert record["epochs_log"][-1]["presence_map"] > 0
