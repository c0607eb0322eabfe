"""Where meta-tokens are injected, what is stored for that, and what a cache is refused for."""

import shlex

import pytest

from avpipe.pipeline import open_cache
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of
from avpipe.stages.config import TrainConfig, defaults_for, from_dict
from avpipe.stages.model import injection_in_words, model_spec, reading
from avpipe.stages.places import find_places, layers_for

MASKS = {"task": "segmentation", "classes": 1, "mask_size": (32, 32)}


def facts(model, modality="visual"):
    return facts_of(BackboneChoice(modality, model, "random:0"), Timeline())


def segment(**settings) -> TrainConfig:
    return from_dict({"stage": "segment", "taps": "all", **settings}, defaults_for("segmentation"))


@pytest.mark.parametrize(
    ("model", "at", "injected", "resume"),
    [
        ("vit_base_patch16_224", "stages", {"blocks.3": 768, "blocks.6": 768, "blocks.9": 768}, "blocks.2"),
        ("vit_base_patch16_224", "last:2", {"blocks.10": 768, "blocks.11": 768}, "blocks.9"),
        ("vit_base_patch16_224", "blocks.11, blocks.0", {"blocks.0": 768, "blocks.11": 768}, ""),
        (
            "swinv2_large_window12_192",
            "stages",  # each takes what the stage before it gives, before it is merged
            {"layers.1.blocks.0": 192, "layers.2.blocks.0": 384, "layers.3.blocks.0": 768},
            "layers.0.blocks.1",
        ),
        ("swinv2_large_window12_192", "layers.2.blocks.1", {"layers.2.blocks.1": 768}, "layers.2.blocks.0"),
    ],
)
def test_places_of_a_backbone(model, at, injected, resume):
    places = find_places(facts(model), at)
    assert list(places.injected.items()) == list(injected.items())  # in order of depth
    assert places.resume == resume


def test_blocks_that_are_not_there():
    vit = facts("vit_base_patch16_224")
    with pytest.raises(UsageError, match=r"unknown block in inject_at 'block\.9': did you mean 'blocks\.9'\?"):
        find_places(vit, "block.9")
    with pytest.raises(UsageError, match="inject_at 'last:13': the model has 12 blocks"):
        find_places(vit, "last:13")


def test_layers_for_segment():
    both = {"visual": facts("swinv2_large_window12_192"), "audio": facts("htsat", "audio")}
    ends = ["layers.0.blocks.1", "layers.1.blocks.1", "layers.2.blocks.17", "layers.3.blocks.1"]
    assert layers_for("segment", both, "semantic") == {"visual": ",".join(ends), "audio": "last:1"}
    more = layers_for("segment", both, "segmentation", "layers.2.blocks.4")["visual"]
    assert more.split(",") == [*ends[:2], "layers.2.blocks.3", *ends[2:]]
    frames = layers_for("segment", both, "mixed", "layers.0.blocks.0")  # runs from the stored frames
    assert frames["visual"].split(",") == ends
    with pytest.raises(UsageError, match="unknown purpose of --for 'segments': did you mean 'segment'"):
        layers_for("segments", both, "segmentation")
    with pytest.raises(UsageError, match="--for segment is for data with masks, this is events"):
        layers_for("segment", both, "events")


def test_rerun_reads_what_it_does_not_compute(toy_masks):
    cache, config = open_cache(toy_masks.cache), segment(inject_at="blocks.10")
    spec = model_spec(cache, config, **MASKS)
    assert (spec.injected, spec.resume) == ({"blocks.10": 16}, "blocks.9")
    assert reading(spec, config).taps == {"visual": ("blocks.9", "blocks.10"), "audio": ("blocks.10",)}
    assert injection_in_words(spec, config).endswith(
        "blocks.10; the visual backbone runs again, from cached blocks.9 on"
    )
    spec = model_spec(cache, config := segment(inject_at="blocks.0"), **MASKS)
    assert (spec.injected, spec.resume) == ({"blocks.0": 16}, "")
    read = reading(spec, config)
    assert (read.taps["visual"], read.media) == (("blocks.10",), ("visual",))  # the top tap is distilled
    spec = model_spec(cache, config := segment(inject_at="blocks.10", taps="blocks.10"), **MASKS)
    assert list(spec.shapes["visual"]) == ["blocks.10"]  # what it resumes from need not be decoded
    assert reading(spec, config).taps["visual"] == ("blocks.9", "blocks.10")


def test_side_and_none_read_the_decoders_taps(toy_masks):
    cache = open_cache(toy_masks.cache)
    spec = model_spec(cache, config := segment(inject="side", inject_at="blocks.10"), **MASKS)
    assert (spec.injected, spec.resume) == ({"blocks.10": 16}, "")
    assert reading(spec, config).taps["visual"] == ("blocks.9", "blocks.10")
    assert "before blocks.10; nothing runs" in injection_in_words(spec, config)
    spec = model_spec(cache, segment(inject="none"), **MASKS)
    assert (spec.injected, spec.resume) == ({}, "")


def test_a_layer_that_is_there_to_resume_from_is_not_the_decoders(toy_masks):
    cache = open_cache(toy_masks.cache)
    spec = model_spec(cache, from_dict({}, defaults_for("segmentation")), **MASKS)
    assert {m: list(taps) for m, taps in spec.shapes.items()} == {"audio": ["blocks.10"], "visual": ["blocks.10"]}


@pytest.mark.parametrize(
    ("settings", "why", "wanted"),
    [
        ({}, "lacks visual/blocks.2,", ["--for", "segment", "--inject-at", "stages"]),
        ({"inject_at": "last:3"}, "lacks visual/blocks.7,", ["--for", "segment", "--inject-at", "last:3"]),
        ({"inject": "side"}, "lacks visual/blocks.2,", ["--layers", "blocks.2,blocks.5,blocks.7"]),
    ],
)
def test_a_cache_that_lacks_layers_is_refused_with_the_command(toy_masks, settings, why, wanted):
    cache = open_cache(toy_masks.cache)
    cache.specs["visual"].request.update(modality="visual", model="vit_tiny", weights="/odd file.pt", image_size=64)
    with pytest.raises(UsageError) as refused:
        model_spec(cache, segment(**settings), **MASKS, name="avsbench-ms3", root="/some data")
    assert why in str(refused.value)
    assert shlex.split(str(refused.value).split("`")[1]) == [
        *("avpipe", "extract", "--dataset", "avsbench-ms3", "--root", "/some data", "--cache", str(toy_masks.cache)),
        *("--modality", "visual", "--visual", "vit_tiny", "--visual-weights", "/odd file.pt", "--image-size", "64"),
        *wanted,
    ]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"inject": "side", "inject_at": "blocks.0"}, "inject=side: no cached layer lies before blocks.0"),
        (
            {"inject": "side", "inject_at": "blocks.10", "taps": "blocks.10"},
            r"unless it reads visual/blocks\.9, too: add taps=blocks\.9,blocks\.10",
        ),
        (
            {"inject_at": "blocks.10", "taps": "blocks.9"},
            r"unless it reads visual/blocks\.10, too: add taps=blocks\.9,blocks\.10",
        ),
    ],
)
def test_injections_without_effect(toy_masks, settings, why):
    with pytest.raises(UsageError, match=why):
        model_spec(open_cache(toy_masks.cache), segment(**settings), **MASKS)
