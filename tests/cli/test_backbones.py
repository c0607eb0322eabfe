"""`avpipe backbones`: names, shapes and bytes of what can be chosen."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from avpipe.cli.backbones import app
from avpipe.pipeline.errors import UsageError
from avpipe.stages import backbones
from avpipe.stages.job import Wish, choose_backbones, resolve

AVPIPE = Path(sys.executable).with_name("avpipe")
SWIN, HTSAT = "swinv2_large_window12_192", "htsat"


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def taps(model: str, *options: str) -> dict:
    return json.loads(invoke("taps", model, *options, "--json"))


def test_ls_has_every_model_that_can_be_chosen():
    found = json.loads(invoke("ls", "--json"))
    assert [one["name"] for one in found] == backbones.model_names()
    by_name = {one["name"]: one for one in found}
    vit = by_name["test_vit"]
    assert vit["modalities"] == ["visual", "audio"]
    assert (vit["blocks"], vit["stages"], vit["widths"], vit["image_size"]) == (6, [6], [64], [160, 160])
    assert vit["weights"] == ["r160_in1k", "demo"]
    assert by_name["vit_small_patch16_224"]["weights"][0] == "augreg_in21k_ft_in1k"
    assert by_name["stub"]["weights"] == []
    swin, htsat = by_name[SWIN], by_name[HTSAT]
    assert (swin["blocks"], swin["stages"], swin["widths"]) == (24, [2, 2, 18, 2], [192, 384, 768, 1536])
    assert (htsat["blocks"], htsat["stages"], htsat["widths"]) == (12, [2, 2, 6, 2], [96, 192, 384, 768])
    assert (htsat["modalities"], htsat["image_size"], htsat["weights"]) == (["audio"], None, [])


def test_ls_finds_by_part_of_the_name_by_glob_modality_and_family():
    names = lambda *given: [one["name"] for one in json.loads(invoke("ls", *given, "--json"))]  # noqa: E731
    assert "test_vit" in names("est_vi")
    assert names("test_vit") == ["test_vit", "test_vit2", "test_vit3", "test_vit4"]
    assert names("test_vi?") == ["test_vit"]
    assert names("TEST_VIT") == names("test_vit")
    assert names("EVA02_BASE*") == names("eva02_base*") != []
    assert names("nothing") == []
    assert HTSAT in names("--modality", "audio")
    assert HTSAT not in names("--modality", "visual")
    assert names("--family", "stub") == ["stub"]
    text = invoke("ls", "test_vit*")
    assert text.splitlines()[-1] == "4 backbones"
    assert "160x160" in text
    with pytest.raises(UsageError, match="did you mean 'audio'"):
        invoke("ls", "--modality", "audi")
    with pytest.raises(UsageError, match="did you mean 'stub'"):
        invoke("ls", "--family", "stubb")


@pytest.mark.parametrize(
    ("model", "blocks", "every", "ends", "widest"),
    [(SWIN, 24, 6857, 1659, (2304, 192)), (HTSAT, 12, 3736, 1475, (4096, 96))],
)
def test_taps_of_the_papers_pair(model, blocks, every, ends, widest):
    """The table of published shapes: every block, and stage ends alone, in thousands of bytes per frame."""
    found = taps(model)
    assert [found["totals"][key]["taps"] for key in ("all", "stage_ends")] == [blocks, 4]
    assert [round(found["totals"][key]["bytes"] / 1000) for key in ("all", "stage_ends")] == [every, ends]
    first = found["taps"][0]
    assert (first["name"], first["tokens"], first["channels"]) == ("layers.0.blocks.0", *widest)
    assert [(one["grid"][0] * one["grid"][1], one["stage"]) for one in found["taps"] if one["stage_end"]] == [
        (widest[0] >> 2 * stage, stage) for stage in range(4)
    ]
    text = invoke("taps", model, "--layers", "stages")
    for what in (f"all ({blocks} taps)", "stage ends (4 taps)", "--layers stages (4 taps)"):
        assert what in text
    assert text.count(f"({every} kB)") == 1
    assert text.count(f"({ends} kB)") == 2
    assert text.count("stage end, chosen") == 4


def test_taps_are_what_an_extraction_stores(tiny_ave, tmp_path):
    from avpipe.pipeline.datasets import load_dataset

    dataset = load_dataset("ave", tiny_ave.root)
    job = resolve(
        dataset,
        choose_backbones(dataset, {m: Wish("test_vit", "random:0") for m in ("visual", "audio")}),
        cache=tmp_path / "cache",
        layers="stages",
        dtype="float32",
        decoder="decord",
        device="cpu",
        batch=None,
        deadline_seconds=60.0,
    )
    stored = {array.name: array for array in job.arrays()}
    for modality in ("visual", "audio"):
        found = taps("test_vit", "--modality", modality, "--layers", "stages", "--dtype", "float32")
        chosen = [one for one in found["taps"] if one["chosen"]]
        assert len(chosen) == found["totals"]["chosen"]["taps"] == 4
        for one in chosen:
            array = stored[f"{modality}/{one['name']}@float32"]
            assert array.row_shape == (one["tokens"], one["channels"])
            assert array.row_bytes == one["bytes"]
            assert stored[f"{array.name}.stats"].row_bytes == one["statistics_bytes"]


def test_options_change_what_is_said():
    assert taps("test_vit", "--image-size", "32")["taps"][0]["tokens"] == 5
    longer = taps("test_vit", "--modality", "audio", "--segment-seconds", "2")
    assert longer["taps"][0]["tokens"] > taps("test_vit", "--modality", "audio")["taps"][0]["tokens"]
    assert longer["segment_seconds"] == 2
    assert taps("test_vit", "--audio-window", "segment")["modality"] == "audio"
    assert taps(HTSAT)["modality"] == "audio"
    assert taps(HTSAT)["sample_rate"] == 32_000
    assert taps(HTSAT, "--audio-window", "clip")["window_segments"] == 10
    text = invoke("taps", "test_vit", "--layers", "last:2")
    assert "frames of 160 x 160 pixels, 1 prefix token;" in text
    assert text.count("chosen") == 2
    assert "stage end" not in text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("tst_vit",), "did you mean 'test_vit'"),
        (("nix",), "avpipe backbones ls"),
        (("test_vit", "--layers", "blocks.9"), "unknown layer 'blocks.9'.* 6 blocks, blocks.0 to blocks.5"),
        (("test_vit", "--dtype", "float15"), "did you mean 'float16'"),
        (("test_vit", "--modality", "visuel"), "did you mean 'visual'"),
        (("test_vit", "--image-size", "33"), "33"),
        ((HTSAT, "--modality", "visual"), "htsat has no visual form: give --modality audio"),
        ((HTSAT, "--segment-seconds", "12"), "a segment of 12.0 s is longer than what htsat hears"),
    ],
)
def test_what_cannot_be_told_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        invoke("taps", *given)


def test_a_pattern_that_finds_nothing_offers_the_nearest(avpipe_here):
    done = avpipe_here("backbones", "ls", "swimv2_large")
    assert done.stdout == "0 backbones\n"
    assert "near are: swinv2_large" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_traceback():
    """`avpipe ... | head -1`: the output is longer than a pipe holds, so that writing ends before it is through."""
    command = [str(AVPIPE), "backbones", "ls", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "[\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141  # as of `yes | head`


def test_torch_is_not_imported(avpipe):
    done = avpipe("backbones", "ls", "test", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert "test_vit" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "avpipe.stages.backbones.catalogue" in imported
    assert not imported & {"torch", "timm", "transformers"}
