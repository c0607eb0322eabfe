"""What a report says: scores beside controls, clips hardest first, media as stored, and what is lacking."""

import base64
import hashlib
import importlib
import io
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import yaml
from PIL import Image

from avpipe.pipeline import open_cache
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import CacheMismatch, EnvironmentLacking, UsageError
from avpipe.stages import checkpoint, runs
from avpipe.stages.backbones import front_ends
from avpipe.stages.distill import Looks
from avpipe.stages.evaluate import evaluate
from avpipe.stages.features import FeatureBatch
from avpipe.stages.report import attention, make_report, media, samples
from avpipe.stages.report.details import details, plan
from avpipe.stages.report.document import build, finite, without_home
from avpipe.stages.report.scored import is_scored, read_metrics
from avpipe.stages.report.sound_grid import over_segment
from avpipe.stages.report.sources import open_sources
from avpipe.stages.train import TrainOptions, train

SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2")


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AVPIPE_DATA", raising=False)
    monkeypatch.delenv("AVPIPE_CACHE", raising=False)


def made(run, clips=24, split="test", beside=None, cache=None, root=None):
    sources = open_sources(run, split, cache, root, "cpu")
    return sources, build(sources, clips=clips, beside=beside, device="cpu")


def picture(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def drawn(text, *shape):
    """Maps of one tap."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)


def copied(run, to):
    """A copy that keeps times, as a move would."""
    shutil.copytree(run, to, copy_function=shutil.copy2)
    return to


def test_events(event_run, toy_events):
    data = made(event_run)[1].data
    json.dumps(data, allow_nan=False)
    metrics = json.loads((event_run / "metrics.json").read_text())
    (protocol,) = data["scores"]["protocols"]
    ours, constant = protocol["rows"]
    assert (data["scores"]["main"], protocol["name"]) == ("accuracy", "ave-segment-accuracy")
    assert (ours["kind"], ours["label"], ours["values"]) == (
        "this",
        "mettle (both)",
        {"accuracy": metrics["metrics"]["accuracy"]},
    )
    assert constant["kind"] == "constant"
    assert constant["values"]["accuracy"] == metrics["baselines"]["majority_class"]["accuracy"]
    labels = {sample.id: list(sample.events) for sample in load_dataset("ave", toy_events.root).split("test")}
    assert {clip["id"]: clip["truth"] for clip in data["clips"]} == labels
    for clip in data["clips"]:
        assert clip["score"] == np.mean(np.equal(clip["truth"], clip["predicted"]))
        assert all(1 / 29 <= chance <= 1 for chance in clip["certainty"])
    ranks = [clip["score"] for clip in data["clips"]]
    assert ranks == sorted(ranks)
    assert np.mean(ranks) == pytest.approx(metrics["metrics"]["accuracy"])
    counts = np.array(data["confusion"]["counts"])
    assert counts.sum() == 80
    assert np.trace(counts) == metrics["metrics"]["correct"]
    background = data["confusion"]["classes"].index("background")
    truth = [label for row in labels.values() for label in row]
    assert counts.sum(axis=1)[background] == truth.count(28)
    assert (counts.sum(axis=0) + counts.sum(axis=1)).all()
    assert data["layers"]["base"] == metrics["metrics"]["accuracy"]
    assert [row["tap"] for row in data["layers"]["rows"]] == [None, "blocks.9", "blocks.10"] * 2
    spread = 100 * max(row["spread"] for row in data["layers"]["rows"])
    assert (
        f"The mean over 3 fixed exchanges of clips (standard deviation of a score over them: at most {spread:.1f}"
        in (data["layers"]["how"])
    )
    without = build(open_sources(event_run, "test", None, None, "cpu"), clips=0, beside=(), device="cpu", layers=False)
    assert without.data["layers"] is None
    assert any("--no-layers" in note for note in without.data["notes"])
    assert [record["epoch"] for record in data["curves"]["epochs"]] == [1, 2, 3, 4]
    assert data["curves"]["score"] in data["curves"]["epochs"][0]
    assert data["spec"]["visual"]["fields"]["backbone"]["stages"][0]["grid"] == [4, 4]
    stored = sum(cost["value"] for cost in data["costs"] if cost["group"] == "cache" and "/" in cost["name"])
    assert stored == open_cache(toy_events.cache).summary()["bytes"]
    assert "The cache has no stored frames and no stored sound." in data["notes"]


def test_attention_of_a_run_without_media(event_run):
    sources, document = made(event_run)
    found = dict(details(sources, document.viewer, document.planned))
    assert len(found) == 8
    detail = found[0]
    assert [detail[key] for key in ("video", "audio", "frames", "spectrogram", "masks")] == [None] * 5
    visual = detail["attention"]["visual"]
    assert (visual["grids"], visual["taps"]) == ([[4, 4]] * 2, ["blocks.9", "blocks.10"])
    assert [one["key"] for one in visual["mechanisms"]] == ["kept", "adapted"]
    parts = document.viewer.model.distiller.parts["visual"].distillers
    assert list(visual["gate"].values()) == pytest.approx(
        [float(one.gate.detach().abs().mean()) for one in parts], rel=1e-3
    )
    assert min(visual["gate"].values()) > 0
    maps = np.stack([drawn(one, 10, 2, 16) for one in visual["maps"]], axis=1)
    assert (maps.max(axis=-1) == 255).all()
    data, index = document.viewer.data, document.planned[0].index
    with torch.no_grad():
        weights = document.viewer.model.distiller.looks(data.batch([index]).tokens)["visual"].weights["blocks.10"][0]
    share = np.array(visual["prefix_share"])[:, 1]
    np.testing.assert_allclose(share, weights[..., :1].sum(-1), atol=1e-4)
    grid = weights[..., 1:]
    np.testing.assert_allclose(maps[:, 1] / 255, grid / grid.max(-1, keepdim=True).values, atol=0.003)


def test_masks(mask_run, toy_masks):
    sources, document = made(mask_run, clips=3)
    data = document.data
    metrics = json.loads((mask_run / "metrics.json").read_text())
    assert [one["name"] for one in data["scores"]["protocols"]] == [
        "avsbench-batch4",
        "avsbench-batch1",
        "avsbench-set",
    ]
    for one in data["scores"]["protocols"]:
        assert [row["kind"] for row in one["rows"]] == ["this", "constant"]
        official = one["name"] == metrics["protocol"]
        ours = metrics["metrics"] if official else metrics["other_protocols"][one["name"]]
        assert one["rows"][0]["values"] == {"miou": ours["miou"], "fscore": ours["fscore"]}
    assert data["confusion"] is None
    assert [clip["detail"] for clip in data["clips"]].count(True) == len(document.planned) == 3
    assert "mean IoU" in data["layers"]["how"].replace("Mean", "mean")
    every = [value for clip in data["clips"] for value in clip["iou"]]
    assert np.mean(every) == pytest.approx(metrics["other_protocols"]["avsbench-set"]["miou"], abs=1e-5)
    stored = np.load(mask_run / "predictions-test.npz")
    for one, (place, detail) in zip(document.planned, details(sources, document.viewer, document.planned), strict=True):
        index = stored["ids"].tolist().index(data["clips"][place]["id"])
        assert (one.place, one.index) == (place, index)
        masks = detail["masks"]
        assert masks["size"] == [32, 32]
        logits = stored["logits"][5 * index : 5 * index + 5].astype(np.float64)
        for t, file in enumerate(sources.samples[index].masks):
            assert (picture(masks["truth"][t]) == np.asarray(Image.open(file))).all()
            np.testing.assert_allclose(picture(masks["predicted"][t]), 255 / (1 + np.exp(-logits[t])), atol=0.51)


def test_media_of_the_clips(media_run):
    sources, document = made(media_run, clips=2)
    cache = sources.cache
    assert [one.place for one in document.planned] == [0, 3]
    layers = "weights random:0, 2 of 6 blocks (blocks.4, blocks.5), float32"
    assert document.data["run"]["backbones"] == {
        "audio": f"test_vit, {layers}, window segment, front end logmel",
        "visual": f"test_vit, {layers}",
    }
    for place, detail in details(sources, document.viewer, document.planned):
        clip = sources.samples[_index(document, place)].clip
        assert base64.b64decode(detail["video"]["data"]) == sources.clips[clip].video.read_bytes()
        assert detail["audio"] is None
        assert detail["frame_size"] == [32, 32]
        raw = cache.read(cache.rows([clip]), ["visual/frames", "audio/samples"])
        shown = np.stack([picture(frame) for frame in detail["frames"]]).astype(int)
        assert np.abs(shown - raw["visual/frames"]).mean() < 8
        assert len(detail["spectrogram"]) == 10
        assert set(detail["attention"]) == {"audio", "visual"}
        json.dumps(finite(detail), allow_nan=False)


def _index(document, place):
    return next(one.index for one in document.planned if one.place == place)


def test_stored_media_where_there_is_no_playable_video(media_run, tmp_path):
    root = tmp_path / "ave"
    shutil.copytree(media_run.parent / "data" / "ave", root)
    kept = [sample.clip for sample in load_dataset("ave", root).split("test")]
    folder = root / "AVE_Dataset" / "AVE"
    (folder / f"{kept[0]}.mp4").unlink()
    (folder / f"{kept[1]}.mp4").write_text("not found")
    (folder / f"{kept[2]}.mp4").write_bytes(bytes(media.VIDEO_BYTES + 1))
    sources, document = made(media_run, clips=100, root=root)
    notes = [note for note in document.data["notes"] if note.startswith("Shown from stored frames and sound")]
    assert sorted(note.split(" clips ")[1].split(" (")[0] for note in notes) == [
        "whose video cannot be opened",
        "whose video file is missing",
        "whose video is larger than 4 MiB",
    ]
    assert kept[0] in next(note for note in notes if "missing" in note)
    found = dict(details(sources, document.viewer, document.planned))
    assert len(found) == 4
    lacking = [place for place, detail in found.items() if detail["video"] is None]
    assert len(lacking) == 3
    for place in lacking:
        clip = sources.samples[_index(document, place)].clip
        sound, rate = soundfile.read(io.BytesIO(base64.b64decode(found[place]["audio"]["data"])), dtype="int16")
        raw = sources.cache.read(sources.cache.rows([clip]), ["audio/samples"])["audio/samples"]
        assert rate == 16_000
        assert (sound == raw.ravel()).all()
        assert len(found[place]["frames"]) == 10


def test_a_video_that_hangs_its_reader_is_shown_from_the_cache(media_run, tmp_path, monkeypatch):
    hang = "import time\nfrom avpipe.pipeline.media.codecs import probe_clip\nBAD = {!r}\ndef asked(clip, spec):\n"
    hang += "    if clip.id == BAD: time.sleep(1000)\n    return probe_clip(clip, spec)\n"
    sources = open_sources(media_run, "test", None, None, "cpu")
    bad = sources.samples[1].clip
    (tmp_path / "hanging_probe.py").write_text(hang.format(bad))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("avpipe.pipeline.media.codecs.probe_clip", importlib.import_module("hanging_probe").asked)
    monkeypatch.setattr(media, "PROBE_SECONDS", 1.0)
    planned, notes = plan(sources, [0, 1, 2, 3], [0, 1, 2, 3])
    assert [bool(one.video) for one in planned] == [True, False, True, True]
    what = f"1 of 4 clips whose video hangs or crashes FFmpeg ({sources.samples[1].id})"
    assert notes == [f"Shown from stored frames and sound: {what}."]


def test_the_budget_holds(media_run, tmp_path):
    root = tmp_path / "ave"
    shutil.copytree(media_run.parent / "data" / "ave", root)
    sources = made(media_run, clips=0, root=root)[0]
    order = [0, 1, 2, 3]
    large = sources.clips[sources.samples[1].clip].video
    with large.open("ab") as file:
        file.write((3_000_000).to_bytes(4, "big") + b"free" + bytes(3_000_000 - 8))
    everything, notes = plan(sources, order, order)
    assert [(one.place, one.index, bool(one.video)) for one in everything] == [(i, i, True) for i in order]
    assert notes == []
    maps = 2 * 2 * (5 + 49)  # of two taps, by two mechanisms, on the tokens of frame and sound
    stored = 10 * (32 * 32 * 3 * 0.15 + 16_000 * 2 * 0.7 + maps) * 4 / 3  # of a clip
    some, notes = plan(sources, order, [3, 2, 1, 0], budget=int(4 * stored) + 10)
    assert [(one.place, bool(one.video)) for one in some] == [(3, True), (2, True), (1, False), (0, True)]
    assert notes == [
        "Shown from stored frames and sound: 1 of 4 clips whose video would take the page beyond 1 MiB of media "
        f"({sources.samples[1].id})."
    ]
    few, notes = plan(sources, order, order, budget=int(2.5 * stored))
    assert [one.place for one in few] == [0, 1]
    assert notes[0].startswith("Details are shown of 2 clips, not of 4:")


def test_details_go_to_the_hardest_and_evenly_to_the_rest():
    clips = [{"held": True} for _ in range(100)]
    assert samples.choose(clips, 4) == [0, 1, 50, 99]
    chosen = samples.choose(clips, 24)
    assert chosen[:12] == list(range(12))
    assert len(set(chosen)) == 24
    assert chosen[-1] == 99
    gaps = np.diff(chosen[12:])
    assert gaps.max() - gaps.min() <= 1
    assert samples.choose(clips, 0) == []
    assert samples.choose(clips, 1) == [0]
    assert sorted(samples.choose(clips, 1000)) == list(range(100))
    clips[0]["held"] = False
    assert samples.choose(clips, 2) == [1, 99]
    assert samples.choose(clips, 99) == list(range(1, 100))
    assert samples.choose(clips, 100) == [*range(1, 100), 0]


def test_the_spectrogram_shows_a_tone_where_it_is():
    time = np.arange(16_000) / 16_000
    tone = (np.sin(2 * np.pi * 1000 * time) * 32767).astype(np.int16)
    backbone = {"preprocess": {"front_end": front_ends.spec("logmel")}, "input_size": [128, 96]}
    silent, loud = (picture(one) for one in media.spectrograms(np.stack([0 * tone, tone]), backbone))
    assert (silent == 0).all()
    bands = loud.mean(axis=1)
    mel = 2595 * np.log10(1 + np.array([1000, 8000]) / 700)
    assert abs((127 - bands.argmax()) - mel[0] / mel[1] * 128) < 2  # low frequencies at the bottom
    assert 240 < bands.max() <= 255
    assert media.spectrograms(np.stack([tone]), {"preprocess": {}}) is None


def test_a_pixel_is_on_where_the_metric_has_it_on():
    half = np.float32(0.5)
    chance = np.array([0, half, np.nextafter(half, 0), np.nextafter(half, 1), 0.501, 0.25, 1], np.float32)
    levels = media.levels(chance)
    assert ((levels > 127) == (chance > 0.5)).all()
    assert levels.tolist() == [0, 127, 127, 128, 128, 64, 255]


def test_layers_off_the_grid_are_named():
    weights = {tap: torch.rand(1, 3, 2, n) for tap, n in (("early", 64), ("late", 17), ("last", 17))}
    looks = Looks((("kept", "k"), ("adapted", "a")), weights, {"late": 0.25, "early": 0.5})
    model = SimpleNamespace(distiller=SimpleNamespace(looks=lambda *given: {"visual": looks, "audio": looks}))
    batch = FeatureBatch((0,), {}, torch.ones(1, 3), torch.ones(1, 3))
    backbones = {"visual": {"stages": [{"grid": [4, 4]}], "prefix_tokens": 1}, "audio": {}}
    found = attention.maps(model, batch, backbones)
    assert (list(found), found["visual"]["taps"], found["visual"]["gate"]) == (
        ["visual"],
        ["late", "last"],
        {"late": 0.25},
    )
    assert [drawn(one, 3, 2, 16).shape for one in found["visual"]["maps"]] == [(3, 2, 16)] * 2
    notes = attention.lacking(model, batch, backbones)
    assert [note.split(":")[0] for note in notes] == [
        "No attention is shown of visual early",
        "No attention is shown of audio early, late, last",
    ]
    assert attention.maps(SimpleNamespace(distiller=None), batch, backbones) is None
    assert attention.lacking(SimpleNamespace(distiller=None), batch, backbones) == []


def test_every_tap_has_its_own_grid():
    """Swin's taps shrink from stage to stage; each map is that of its own tokens."""
    sizes = {"layers.0.blocks.1": (4, 4), "layers.1.blocks.1": (2, 2)}
    weights = {tap: torch.rand(1, 3, 2, rows * columns) for tap, (rows, columns) in sizes.items()}
    looks = Looks((("kept", "k"), ("adapted", "a")), weights, {})
    model = SimpleNamespace(distiller=SimpleNamespace(looks=lambda *given: {"visual": looks}))
    stages = [{"blocks": 2, "width": 8, "grid": list(size)} for size in sizes.values()]
    backbones = {"visual": {"stages": stages, "prefix_tokens": 0}}
    batch = FeatureBatch((0,), {}, torch.ones(1, 3), torch.ones(1, 3))
    found = attention.maps(model, batch, backbones)["visual"]
    assert (found["taps"], found["grids"]) == (list(sizes), [[4, 4], [2, 2]])
    for tap, text in zip(sizes, found["maps"], strict=True):
        one = weights[tap][0].numpy()
        shown = drawn(text, *one.shape) / 255
        np.testing.assert_allclose(shown, one / one.max(axis=-1, keepdims=True), atol=0.003)
    assert attention.lacking(model, batch, backbones) == []


def front(time_axis="columns", chunks=1, kind="segment", samples=320_000):
    window = {"kind": kind, "seconds": 10.0, "samples": samples, "segment_seconds": 1.0}
    window |= {"time_axis": time_axis, "chunks": chunks}
    return {"preprocess": {"front_end": {"sample_rate": 32_000}, "window": window}}


def test_a_repeated_segment_is_looked_at_once():
    """What lies at the same moment of each repeat is added up, in its frequency, and nothing is lost."""
    maps = np.zeros((1, 2, 40))  # 2 frequencies; columns of a quarter of a second
    maps[0, 1, 2::4] = 1  # at 0.5 to 0.75 s of every repeat
    found = over_segment(maps, front())
    assert found.shape == (1, 2, 4)
    np.testing.assert_allclose(found[0], [[0, 0, 0, 0], [0, 0, 10, 0]])
    np.testing.assert_allclose(over_segment(maps.swapaxes(1, 2), front("rows")), found)
    folded = maps.reshape(1, 2, 4, 10).swapaxes(1, 2).reshape(1, 8, 10)  # 4 stretches of 2.5 s, one below the other
    np.testing.assert_allclose(over_segment(folded, front(chunks=4)), found)
    uneven = over_segment(np.ones((1, 16, 256)), front())  # HTS-AT's first stage: 25.6 columns a second
    assert uneven.shape == (1, 16, 26)
    np.testing.assert_allclose(uneven.sum(), 16 * 256)
    silent = over_segment(maps, front(samples=160_000))  # padding behind 5 s
    np.testing.assert_allclose(silent[0, 1], [0, 0, 5, 0])


def test_grids_that_are_the_segments_own_stay():
    maps = np.arange(6.0).reshape(1, 2, 3)
    assert over_segment(maps, front(kind="clip")) is maps
    assert over_segment(maps, {"preprocess": {"front_end": {"kind": "logmel"}}}) is maps
    lavish = {"preprocess": {"front_end": {"kind": "lavish", "time_axis": "rows"}}}
    assert (over_segment(maps, lavish) == maps.swapaxes(1, 2)).all()


def test_the_home_folder_is_not_told(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    value = {
        "a": ["/home/ann/x", "gone from /home/ann.", "/home/anna/x", "/srv/home/ann/x", "at /home/ann: no"],
        "b": 1,
    }
    told = ["~/x", "gone from ~.", "/home/anna/x", "/srv/home/ann/x", "at ~: no"]
    assert without_home(value) == {"a": told, "b": 1}
    monkeypatch.setenv("HOME", "/")
    assert without_home(value) == value


def test_a_split_is_scored_where_it_was_not_since_the_training(event_run, tmp_path):
    run = copied(event_run, tmp_path / "run")
    made(run, split="val")
    assert json.loads((run / "metrics-val.json").read_text())["split"] == "val"
    (run / "metrics.json").write_text("{")
    assert made(run)[0].metrics["metrics"]["segments"] == 80
    scored = (run / "metrics.json").stat().st_mtime_ns
    made(run)
    assert (run / "metrics.json").stat().st_mtime_ns == scored
    later = scored + 10**9
    os.utime(run / runs.BEST, ns=(later, later))  # as in a copy that does not keep times
    made(run)
    assert (run / "metrics.json").stat().st_mtime_ns == scored
    tensors, facts = checkpoint.read(run / runs.BEST)
    checkpoint.save(run / runs.BEST, _Weights(tensors), facts | {"epoch": 77})
    os.utime(run / runs.BEST, ns=(scored - 10**9,) * 2)  # other weights that look older than the scores
    assert made(run)[0].metrics["epoch"] == 77
    assert (run / "metrics.json").stat().st_mtime_ns > scored
    (run / runs.BEST).unlink()
    with pytest.raises(UsageError, match="is missing, though epochs were finished"):
        made(run)


class _Weights:
    """Tensors of a checkpoint, to be saved again."""

    def __init__(self, tensors):
        self._tensors = {name.removeprefix("model."): value for name, value in tensors.items()}

    def state_dict(self):
        return self._tensors


def test_what_counts_as_scored(event_run, tmp_path):
    run = copied(event_run, tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["checkpoint"] == hashlib.sha256((run / runs.BEST).read_bytes()).hexdigest()
    assert is_scored(run, "test")
    assert not is_scored(run, "val")
    for key in ("seconds", "epoch", "missing_samples", "baselines", "samples", "protocol", "modality"):
        (run / "metrics.json").write_text(json.dumps({k: v for k, v in metrics.items() if k != key}))
        assert not is_scored(run, "test"), key
        with pytest.raises(UsageError, match=f"{key}.*avpipe evaluate"):
            read_metrics(run, "test")
    del metrics["checkpoint"]  # as earlier versions wrote it: then times decide
    (run / "metrics.json").write_text(json.dumps(metrics))
    shown = [run / name for name in ("metrics.json", "predictions-test.npz", runs.BEST)]
    for seconds, scored in ((0, True), (10, False)):
        for file, when in zip(shown, (50, 50, 50 + seconds), strict=True):
            os.utime(file, (when, when))
        assert is_scored(run, "test") is scored
    metrics["checkpoint"] = "0" * 64
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert not is_scored(run, "test")


def test_runs_beside(event_run, toy_events, mask_run, make_toy, tmp_path):
    folder = tmp_path / "runs"
    run = copied(event_run, folder / "ours")
    twin = copied(event_run, folder / "twin")
    config = (twin / runs.CONFIG).read_text()
    (twin / runs.CONFIG).write_text(config.replace("seed: 0", "seed: 5").replace("dropout: 0.1", "dropout: 0.2"))
    copied(mask_run, folder / "masks")
    (copied(event_run, folder / "unscored") / "metrics.json").unlink()
    foreign = copied(event_run, folder / "foreign")
    about = json.loads((foreign / runs.ENVIRONMENT).read_text())
    (foreign / runs.ENVIRONMENT).write_text(json.dumps(about | {"content_hash": "0" * 32}))
    (copied(event_run, folder / "broken") / runs.CONFIG).write_text("dataset: [")
    fewer = copied(event_run, folder / "fewer")
    (fewer / "metrics.json").write_text((fewer / "metrics.json").read_text().replace('"samples": 8', '"samples": 7'))
    data = made(run)[1].data
    rows = [(row["kind"], row["run"], row["seed"], row["label"]) for row in data["scores"]["protocols"][0]["rows"]]
    assert rows[:2] == [("this", "ours", 0, "mettle (both)"), ("run", "twin", 5, "mettle (both), dropout=0.2")]
    assert [row[0] for row in rows[2:]] == ["constant"]
    left = " ".join(note for note in data["notes"] if note.startswith("Not shown beside this run"))
    for name, why in (
        ("unscored", "not scored on test"),
        ("foreign", "other features"),
        ("broken", "cannot be read"),
        ("fewer", "on 7 samples, not on 8"),
    ):
        assert f"{name} ({why}" in left or (name in left and why in left), left
    assert "masks" not in left
    named = made(run, beside=[foreign, run])[1].data
    assert [row["run"] for row in named["scores"]["protocols"][0]["rows"]] == ["ours", "foreign", None]
    assert "On other features than this run: foreign." in named["notes"]
    with pytest.raises(UsageError, match="is on avsbench-ms3"):
        made(run, beside=[folder / "masks"])
    with pytest.raises(UsageError, match="not scored on test"):
        made(run, beside=[folder / "unscored"])
    with pytest.raises(UsageError, match="is no run folder"):
        made(run, beside=[tmp_path])


def test_without_cache_or_dataset(make_toy, tmp_path, fill_cache):
    toy = make_toy["events"](tmp_path / "toy")
    run = train(TrainOptions(cache=toy.cache, run=tmp_path / "run", overrides=(*SMALL, "epochs=1")))
    evaluate(run)
    away = tmp_path / "away"
    toy.cache.rename(away)
    document = made(run)[1]
    assert any("is gone" in note and "--cache" in note for note in document.data["notes"])
    assert (document.data["layers"], len(document.data["clips"])) == (None, 8)
    assert document.data["spec"]["audio"]["fields"] == {}
    assert document.data["run"]["backbones"]["audio"] == "a backbone that is not known, 2 taps (blocks.9, blocks.10)"
    assert document.planned == []  # neither video nor stored media nor masks
    assert [clip["detail"] for clip in document.data["clips"]] == [False] * 8
    assert any(
        note.startswith("Without their video: 8 of 8 clips whose video file is missing")
        for note in document.data["notes"]
    )
    assert made(run, cache=away)[1].data["layers"] is not None
    toy.root.rename(tmp_path / "elsewhere")
    document = made(run)[1]
    assert document.data["clips"] == []
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert document.data["scores"]["protocols"][0]["rows"][0]["values"]["accuracy"] == metrics["accuracy"]
    assert any("is gone" in note and "--root" in note for note in document.data["notes"])
    with pytest.raises(UsageError, match="not found"):
        made(run, root=toy.root)
    tokens = {"clip": {"visual": np.zeros((10, 17, 16)), "audio": np.zeros((10, 9, 16))}}
    fill_cache(tmp_path / "other", {"name": "ave", "root": str(toy.root)}, tokens, weights="two")
    with pytest.raises(CacheMismatch):
        made(run, cache=tmp_path / "other")


def test_another_copy_of_the_dataset_never_replaces_the_scores(make_toy, tmp_path, monkeypatch):
    toy = make_toy["events"](tmp_path / "toy")
    run = train(TrainOptions(cache=toy.cache, run=tmp_path / "run", overrides=(*SMALL, "epochs=1")))
    unscored = copied(run, tmp_path / "unscored")
    evaluate(run)
    before = [(run / name).read_bytes() for name in ("metrics.json", "predictions-test.npz")]
    elsewhere = toy.root.rename(tmp_path / "elsewhere")
    other = tmp_path / "data" / "ave"
    shutil.copytree(elsewhere, other)
    for file in (other / "AVE_Dataset").glob("*.txt"):
        file.write_text(file.read_text().replace("clip0000", "clip9999"))
    document = made(run)[1]  # the working folder has another dataset of that name at data/ave
    assert (document.data["clips"], document.data["confusion"], document.data["layers"]) == ([], None, None)
    assert any("is gone" in note and "data/ave has other samples" in note for note in document.data["notes"])
    document = made(run, root=other)[1]
    assert document.data["clips"] == []
    assert "Labels and predictions are of different samples, so no clip is shown." in document.data["notes"]
    assert [(run / name).read_bytes() for name in ("metrics.json", "predictions-test.npz")] == before
    with pytest.raises(UsageError, match=r"not scored on test.*avpipe evaluate"):
        made(unscored)
    assert not (unscored / "metrics.json").exists()
    shutil.rmtree(other)
    shutil.copytree(elsewhere, other)
    assert len(made(run)[1].data["clips"]) == 8  # the same samples in the usual place
    assert [(run / name).read_bytes() for name in ("metrics.json", "predictions-test.npz")] == before


def test_runs_are_grouped_by_all_settings_but_the_seed(event_run, tmp_path):
    run = copied(event_run, tmp_path / "runs" / "ours")

    def beside(name, **settings):
        path = copied(event_run, tmp_path / "runs" / name)
        config = yaml.safe_load((path / runs.CONFIG).read_text())
        config["train"] |= settings
        (path / runs.CONFIG).write_text(yaml.safe_dump(config))

    others = {"lr": 0.1, "batch": 3, "epochs": 9, "dropout": 0.3}
    beside("seed", seed=1)
    beside("many", **others, warmup=0.2)
    beside("more", **others, weight_decay=0.2, seed=2)
    beside("twin", **others, weight_decay=0.2, seed=3)
    rows = {row["run"]: row for row in made(run)[1].data["scores"]["protocols"][0]["rows"]}
    assert rows["seed"]["group"] == rows["ours"]["group"]
    assert rows["twin"]["group"] == rows["more"]["group"]
    assert len({rows[name]["group"] for name in ("ours", "many", "more")}) == 3
    assert rows["more"]["label"] == "mettle (both), epochs=9, batch=3, lr=0.1, weight_decay=0.2, and 1 more"
    assert rows[None]["group"] is None


def test_settings_without_effect_are_left_out(event_run, tmp_path):
    run = copied(event_run, tmp_path / "runs" / "ours")
    for name, changed in (
        ("same", {"dice": 0.2, "smoothing": 0.3}),
        ("rank", {"method": "linear", "rank": 4, "lr": 0.1}),
    ):
        config = yaml.safe_load((copied(event_run, tmp_path / "runs" / name) / runs.CONFIG).read_text())
        config["train"] |= changed
        (tmp_path / "runs" / name / runs.CONFIG).write_text(yaml.safe_dump(config))
    data = made(run)[1].data
    rows = {row["run"]: row for row in data["scores"]["protocols"][0]["rows"]}
    assert (rows["same"]["label"], rows["same"]["group"]) == ("mettle (both)", rows["ours"]["group"])
    assert (rows["rank"]["label"], rows["rank"]["group"] != rows["ours"]["group"]) == ("linear (both), lr=0.1", True)
    assert "dice" not in data["settings"]
    assert "rank" in data["settings"]


def test_two_decisions_have_no_certainty(toy_events, tmp_path):
    run = train(TrainOptions(cache=toy_events.cache, run=tmp_path / "run", overrides=(*SMALL, "epochs=1", "head=cmbs")))
    clips = made(run)[1].data["clips"]
    assert all("predicted" in clip and "certainty" not in clip for clip in clips)


def test_masks_and_videos_without_the_cache(media_run, mask_run, tmp_path):
    for run, what in ((media_run, "video"), (mask_run, "masks")):
        evaluate(run)
        copy = copied(run, tmp_path / what)
        config = (copy / runs.CONFIG).read_text().splitlines()
        places = [f"cache: {tmp_path / 'gone'}" if line.startswith("cache: ") else line for line in config]
        (copy / runs.CONFIG).write_text("\n".join(places))
        sources, document = made(copy, clips=1)
        ((place, detail),) = details(sources, document.viewer, document.planned)
        assert place == 0
        assert [key for key, value in detail.items() if value is not None] == [what]


def test_missing_samples_are_listed_and_shown_last(make_toy, tmp_path):
    toy = make_toy["events"](tmp_path / "toy", lacking=(33,))
    run = train(TrainOptions(cache=toy.cache, run=tmp_path / "run", overrides=(*SMALL, "epochs=1")))
    document = made(run, clips=7)[1]
    (missing,) = [clip for clip in document.data["clips"] if not clip["held"]]
    assert missing["id"] == json.loads((run / "metrics.json").read_text())["missing_samples"][0]
    assert not missing["detail"]
    told = "`avpipe quarantine ls` tells of clips that could not be used."
    assert f"1 of 8 samples has no features; it scores as nothing found. {told}" in document.data["notes"]
    assert made(run, clips=8)[1].planned[-1].index == 1


def test_the_page(event_run, tmp_path):
    run = copied(event_run, tmp_path / "<script>alert(1)</script>".replace("/", "_"))
    done = make_report(run, clips=2)
    assert done.path == run / "report.html"
    text = done.path.read_text(encoding="utf-8")
    assert done.bytes == done.path.stat().st_size
    assert (done.clips, done.details, done.videos) == (8, 2, 0)
    assert "<script>alert(1)" not in text
    assert make_report(run, clips=2, split="val").path == run / "report-val.html"
    assert not list(run.glob(".*.tmp"))
    for wrong in (run, tmp_path / "no" / "report.html"):
        with pytest.raises((UsageError, EnvironmentLacking), match="name a"):
            make_report(run, out=wrong)
    with pytest.raises(UsageError, match="is no run folder"):
        make_report(tmp_path / "nothing")
    with pytest.raises(UsageError, match="did you mean 'test'"):
        make_report(run, split="tets")


def test_an_interrupted_page_leaves_the_old_one(event_run, tmp_path, monkeypatch):
    run = copied(event_run, tmp_path / "run")
    before = make_report(run, clips=1).path.read_bytes()

    def broken(*args):
        yield "half"
        raise KeyboardInterrupt

    monkeypatch.setattr("avpipe.stages.report.page.render", broken)
    with pytest.raises(KeyboardInterrupt):
        make_report(run, clips=1)
    assert (run / "report.html").read_bytes() == before
    assert not list(run.glob(".*"))
