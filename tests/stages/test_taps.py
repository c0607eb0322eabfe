"""Which arrays are a modality's taps where some are stored in several codecs."""

import json
from pathlib import Path

import numpy as np
import pytest

from avpipe.pipeline import open_cache, progress
from avpipe.pipeline.cache import ArraySpec, CacheWriter
from avpipe.pipeline.errors import UsageError
from avpipe.stages import runs
from avpipe.stages.evaluate import evaluate
from avpipe.stages.taps import choose_taps, every_tap, taps_of
from avpipe.stages.train import TrainOptions, train

SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "epochs=2")


def declared(path, *arrays):
    """A cache that declares arrays `(name, dtype)`, without rows."""
    with CacheWriter.create(path, dataset={"name": "ave"}, unit_rows=60) as writer:
        for modality in {name.split("/")[0] for name, _ in arrays}:
            writer.declare(modality, {"weights": "one"}, {})
        writer.plan([("clip", 2, "")], [ArraySpec(name, (9, 16), dtype) for name, dtype in arrays])
    return open_cache(path)


def test_one_codec_at_a_time(tmp_path):
    cache = declared(
        tmp_path / "cache",
        *(("visual/blocks.3", "float16"), ("visual/blocks.3@float32", "float32")),
        *(("visual/blocks.10@float32", "float32"), ("visual/frames", "uint8")),
        *(("audio/blocks.3@float32", "float32"), ("audio/samples", "int16")),
    )
    assert taps_of(cache, "visual") == ("blocks.3",)  # float16 where it is there
    assert taps_of(cache, "visual", "float32") == ("blocks.3@float32", "blocks.10@float32")
    assert every_tap(cache, ("audio", "visual")) == {"audio": ("blocks.3@float32",), "visual": ("blocks.3",)}
    with pytest.raises(UsageError, match=r"audio features .* not stored as 'float16' \(but as: float32\)"):
        taps_of(cache, "audio", "float16")


def test_a_choice_has_to_be_made_where_float16_is_not(tmp_path):
    cache = declared(tmp_path / "a", ("audio/blocks.3@float32", "float32"), ("audio/blocks.3@float64", "float64"))
    with pytest.raises(UsageError, match=r"stored as float32, float64: say which by codec=float32"):
        taps_of(cache, "audio")
    assert taps_of(cache, "audio", "float64") == ("blocks.3@float64",)
    plain = declared(tmp_path / "b", ("audio/blocks.3", "float32"))  # as caches were written before
    assert taps_of(plain, "audio") == taps_of(plain, "audio", "float32") == ("blocks.3",)
    whole = declared(tmp_path / "c", ("audio/blocks.3@int8", "int8"))
    with pytest.raises(UsageError, match=r"audio/blocks\.3@int8 .* no float array"):
        taps_of(whole, "audio")


def staged(path, blocks, *arrays):
    """A cache of a visual backbone with stages of so many blocks, that holds `arrays`."""
    stages = [{"blocks": count, "width": 16, "grid": [3, 3]} for count in blocks]
    with CacheWriter.create(path, dataset={"name": "ave"}, unit_rows=60) as writer:
        writer.declare("visual", {"backbone": {"stages": stages}, "weights": "one"}, {})
        writer.plan([("clip", 2, "")], [ArraySpec(f"visual/{name}", (9, 16), "float16") for name in arrays])
    return open_cache(path)


def test_taps_by_name_and_count(tmp_path):
    visual = [(f"visual/blocks.{i}@float32", "float32") for i in (1, 3, 10)]
    cache = declared(tmp_path / "cache", *visual, ("audio/blocks.3", "float16"), ("audio/blocks.4", "float16"))

    def chosen(choice, modalities=("audio", "visual")):
        return choose_taps(cache, modalities, "", choice)

    everything = {
        "audio": ("blocks.3", "blocks.4"),
        "visual": ("blocks.1@float32", "blocks.3@float32", "blocks.10@float32"),
    }
    assert chosen("all") == everything
    assert chosen("last:2") == {"audio": everything["audio"], "visual": everything["visual"][1:]}
    assert chosen("blocks.3") == {"audio": ("blocks.3",), "visual": ("blocks.3@float32",)}
    assert chosen("blocks.10@float32, blocks.4") == {"audio": ("blocks.4",), "visual": ("blocks.10@float32",)}
    assert chosen("audio/blocks.3,visual/blocks.10,visual/blocks.1") == {
        "audio": ("blocks.3",),
        "visual": ("blocks.1@float32", "blocks.10@float32"),
    }
    with pytest.raises(UsageError, match=r"last:3: cache .* has 2 audio taps"):
        chosen("last:3")
    assert len(chosen("last:3", ("visual",))["visual"]) == 3
    with pytest.raises(UsageError, match=r"unknown tap 'blocks\.33': did you mean 'blocks\.3'"):
        chosen("blocks.33")
    with pytest.raises(UsageError, match=r"taps=blocks\.10 names no audio tap of cache .* has blocks\.3, blocks\.4"):
        chosen("blocks.10")


def test_taps_at_the_ends_of_stages(tmp_path):
    names = ("layers.0.blocks.0", "layers.0.blocks.1", "layers.2.blocks.5", "layers.2.blocks.4", "layers.3.blocks.1")
    swin = staged(tmp_path / "swin", (2, 2, 6, 2), *names)
    assert choose_taps(swin, ("visual",), "", "stages") == {"visual": (names[1], names[2], names[4])}
    plain = staged(tmp_path / "plain", (12,), *(f"blocks.{i}" for i in (0, 2, 5, 10, 11)))
    assert choose_taps(plain, ("visual",), "", "stages") == {"visual": ("blocks.2", "blocks.5", "blocks.11")}
    unknown = staged(tmp_path / "unknown", (), *(f"blocks.{i}" for i in (3, 4, 5, 6, 7, 8, 9, 10)))
    assert choose_taps(unknown, ("visual",), "", "stages") == {"visual": tuple(f"blocks.{i}" for i in (4, 6, 8, 10))}
    none = staged(tmp_path / "none", (12,), "blocks.0")
    with pytest.raises(UsageError, match=r"none of blocks\.2, blocks\.5, blocks\.8, blocks\.11 \(visual\)"):
        choose_taps(none, ("visual",), "", "stages")


def test_a_run_keeps_to_its_taps(toy_events, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(progress, "say", said.append)
    options = TrainOptions(cache=toy_events.cache, run=tmp_path / "run", overrides=(*SMALL, "taps=last:1"))
    run = train(options)
    assert "visual: toy, 1 of 11 blocks (blocks.10)" in said
    config = runs.RunConfig.load(run)
    assert config.train.taps == "last:1"
    assert {m: list(taps) for m, taps in config.model.shapes.items()} == {
        "audio": ["blocks.10"],
        "visual": ["blocks.10"],
    }
    assert evaluate(run)["metrics"]["accuracy"] >= 0
    train(TrainOptions(run=run, resume=True, overrides=("taps=last:1",)))
    assert said.count("visual: toy, 1 of 11 blocks (blocks.10)") == 2
    with pytest.raises(UsageError, match="was started with taps=last:1"):
        train(TrainOptions(run=run, resume=True, overrides=("taps=all",)))


def test_training_on_another_codec(toy_events, tmp_path):
    """The same values in float32 beside float16: equal losses, other arrays, evaluated on those it was trained on."""
    both = tmp_path / "both"
    source = open_cache(toy_events.cache)
    names = [name for name in source.arrays if name.endswith(("blocks.9", "blocks.10"))]
    arrays = [ArraySpec(n, source.arrays[n].row_shape, "float16") for n in names]
    arrays += [ArraySpec(f"{n}@float32", source.arrays[n].row_shape, "float32") for n in names]
    with CacheWriter.create(both, dataset=dict(source.dataset), unit_rows=60) as writer:
        for modality, spec in source.specs.items():
            writer.declare(modality, spec.fields, {})
        for work in writer.plan([(c.id, c.segments, "") for c in source.clips().values()], arrays).pending:
            with writer.unit(work) as unit:
                for clip in work.clips:
                    values = source.read(source.rows([clip.id]), names)
                    for array in work.arrays:
                        for segment, row in enumerate(values[array.name.partition("@")[0]]):
                            unit.write(array.name, clip.start + segment, row.astype(array.dtype))
                    masks = {m: np.ones(clip.segments, dtype=bool) for m in source.specs}
                    unit.clip_done(clip, masks, {})
                unit.commit()

    def run(name, *settings):
        done = train(TrainOptions(cache=both, run=tmp_path / name, overrides=(*SMALL, *settings)))
        return done, [json.loads(line)["loss"] for line in Path(done, runs.STEPS).read_text().splitlines()]

    (half, losses), (single, others) = run("half"), run("single", "codec=float32")
    assert losses == others
    taps = {name: runs.RunConfig.load(folder).model.shapes["audio"] for name, folder in (("h", half), ("s", single))}
    assert {name: list(found) for name, found in taps.items()} == {
        "h": ["blocks.9", "blocks.10"],
        "s": ["blocks.9@float32", "blocks.10@float32"],
    }
    assert evaluate(half)["metrics"] == evaluate(single)["metrics"]
    with pytest.raises(UsageError, match="not stored as 'int8'"):
        run("none", "codec=int8")
    assert not (tmp_path / "none").exists()
