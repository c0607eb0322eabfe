"""Which arrays are a modality's taps where some are stored in several codecs."""

import json
from pathlib import Path

import numpy as np
import pytest

from avpipe.pipeline import open_cache
from avpipe.pipeline.cache import ArraySpec, CacheWriter
from avpipe.pipeline.errors import UsageError
from avpipe.stages import runs
from avpipe.stages.evaluate import evaluate
from avpipe.stages.taps import every_tap, taps_of
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
