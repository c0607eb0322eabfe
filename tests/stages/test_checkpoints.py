"""Weights files that are none, or would run code: refused in words, without a word from libraries, nothing run."""

from __future__ import annotations

import argparse
import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, check_weights, facts_of, load
from avpipe.stages.backbones.htsat_weights import load_encoder


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def _zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3")
    return file.getvalue()


def _saved(value: object, **options: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


JUNK = {"random": bytes(range(7, 250)) * 9, "text": b"hi", "gif": b"GIF89a" * 50, "zip": _zipped(b"")[:200]}


def _load_timm(weights: str) -> object:
    choice = BackboneChoice("visual", "test_vit", weights, 64)
    return load(choice, facts_of(choice, Timeline()), ("blocks.0",), "cpu")


LOADS = {"htsat": lambda weights: load_encoder(BackboneChoice("audio", "htsat", weights)), "timm": _load_timm}


def _refusal(path: Path, family: str) -> str:
    """What a load of these weights says."""
    modality = "audio" if family == "htsat" else "visual"
    with pytest.raises(UsageError, match=f"with --{modality}-weights") as caught:
        LOADS[family](str(path))
    return str(caught.value)


@pytest.mark.parametrize("family", ["htsat", "timm"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_junk_is_called_what_it_is(tmp_path, capfd, recwarn, family, suffix):
    hostile = tmp_path / "written"
    for name, content in {**JUNK, "pickle": pickle.dumps(Hostile(hostile))}.items():
        path = tmp_path / f"{name}.{suffix}"
        path.write_bytes(content)
        said = _refusal(path, family)
        assert "no safetensors file and no torch checkpoint of plain tensors" in said
        assert "weights_only=False" not in said
    assert not hostile.exists()
    assert capfd.readouterr() == ("", "")
    assert [str(each.message) for each in recwarn] == []


@pytest.mark.parametrize("family", ["htsat", "timm"])
def test_what_is_no_file(tmp_path, capfd, family):
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.pt").touch()
    found = [_refusal(path, family) for path in (tmp_path / "empty", Path("/dev/null"), tmp_path / "nothing.pt")]
    expected = ["no readable config.json" if family == "htsat" else "is a folder", "no regular file", "is empty"]
    for said, part in zip(found, expected, strict=True):
        assert part in said
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("family", ["htsat", "timm"])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_objects_in_a_checkpoint_are_named_and_not_made(tmp_path, capfd, recwarn, family, legacy):
    written, path = tmp_path / "written", tmp_path / "train.pth"
    value = {"state_dict": {"x": torch.zeros(1)}, "callbacks": Hostile(written)}
    path.write_bytes(_saved(value, _use_new_zipfile_serialization=not legacy))
    said = _refusal(path, family)
    assert "more than tensors (of kinds that cannot be listed)" if legacy else "more than tensors (io.open)" in said
    assert "Where you trust it, make a plain file" in said
    assert not written.exists()
    assert capfd.readouterr() == ("", "")
    assert [str(each.message) for each in recwarn] == []


@pytest.mark.parametrize("family", ["htsat", "timm"])
def test_a_checkpoint_without_names_or_cut_short_needs_no_advice_to_run_it(tmp_path, family):
    (tmp_path / "list.pt").write_bytes(_saved([torch.zeros(1)]))
    (tmp_path / "cut.pt").write_bytes(_zipped(b"\x80\x02}q"))
    for name in ("list.pt", "cut.pt"):
        said = _refusal(tmp_path / name, family)
        assert "is damaged or holds no tensors by name" in said
        assert "weights_only=False" not in said


def test_a_folder_is_refused_before_anything_is_built(tmp_path):
    for choice in (
        BackboneChoice("visual", "test_vit", str(tmp_path)),
        BackboneChoice("audio", "htsat", str(tmp_path)),
    ):
        with pytest.raises(UsageError, match=f"--{choice.modality}-weights"):
            check_weights(choice, facts_of(choice, Timeline()))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("htsat", "or `random:SEED`"),
        ("clap_htsat_fused", "or `pretrained` or `random:SEED`"),
        ("test_vit", "or `pretrained` or `demo` or `random:SEED`"),
        ("vit_giant_patch14_224", "or `random:SEED`"),
    ],
)
def test_a_missing_file_names_what_there_is_instead(model, expected):
    with pytest.raises(UsageError, match=f"does not exist: give one that does, {expected}, with --audio-weights"):
        BackboneChoice("audio", model, "none.pt").request()


def test_settings_of_a_training_run_are_no_obstacle_to_timm(tmp_path):
    """timm lets `argparse.Namespace` pass, which its own training leaves."""
    (tmp_path / "x.pth").write_bytes(_saved({"model": {"x": torch.zeros(1)}, "args": argparse.Namespace(lr=1)}))
    with pytest.raises(UsageError, match="it lacks"):
        _load_timm(str(tmp_path / "x.pth"))
