"""Which policies hold: what was given, else the cache's, else the dataset's files', else the defaults."""

from __future__ import annotations

from dataclasses import replace

import pytest

from avpipe.pipeline import progress
from avpipe.pipeline.cache import CacheWriter, open_cache
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import CacheMismatch, UsageError
from avpipe.pipeline.media.decode import MediaSpec
from avpipe.pipeline.media.policies import Policies
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.policies import choose_policies, policies_in

BOTH = ("visual", "audio")


@pytest.fixture
def dataset(toy_events):
    """A function of the policies that the dataset's files name."""
    found = load_dataset("ave", toy_events.root)
    return lambda **media: replace(found, media=media)


@pytest.fixture
def cache(tmp_path):
    """A function of policies and modalities: a cache without clips that was declared with them."""

    def make(*modalities: str, **policies: str):
        fields = MediaSpec(Timeline(), (8, 8), audio=True, policies=Policies(**policies)).fields()
        with CacheWriter.create(tmp_path / "cache", dataset={"name": "ave"}, unit_rows=10) as writer:
            for modality in modalities:
                writer.declare(modality, {"media": fields[modality]}, {})
        return tmp_path / "cache"

    return make


def test_a_new_cache_has_what_was_given_over_what_the_dataset_names(dataset, tmp_path):
    data = dataset(short_clip="repeat", missing_audio="silence")
    assert choose_policies(dataset(), tmp_path / "new", BOTH) == Policies()
    assert choose_policies(data, tmp_path / "new", BOTH) == Policies("repeat", "silence")
    given = {"short_clip": "reject", "missing_audio": None, "missing_video": "blank"}
    assert choose_policies(data, tmp_path / "new", BOTH, given) == Policies("reject", "silence", "blank")
    with pytest.raises(UsageError, match="did you mean 'silence'"):
        choose_policies(data, tmp_path / "new", BOTH, {"missing_audio": "silent"})


def test_a_cache_goes_on_with_its_own_and_says_so_where_the_dataset_names_others(dataset, cache, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(progress, "say", said.append)
    place = cache(*BOTH, short_clip="repeat", missing_video="blank")
    assert policies_in(open_cache(place).specs) == {
        "short_clip": "repeat",
        "missing_audio": "reject",
        "missing_video": "blank",
    }
    assert choose_policies(dataset(), place, BOTH) == Policies("repeat", missing_video="blank")
    assert choose_policies(dataset(short_clip="repeat"), place, BOTH) == Policies("repeat", missing_video="blank")
    assert said == []
    assert choose_policies(dataset(short_clip="mask"), place, BOTH) == Policies("repeat", missing_video="blank")
    assert "was made with short_clip repeat, and goes on so; ave names mask" in said[0]
    # what was given is taken here, and then refused by the comparison of fingerprints, field by field
    assert choose_policies(dataset(), place, BOTH, {"short_clip": "mask"}).short_clip == "mask"


def test_both_modalities_of_a_cache_have_one_policy(dataset, cache):
    place = cache("visual", short_clip="repeat")
    assert choose_policies(dataset(missing_audio="silence"), place, ["audio"]) == Policies("repeat", "silence")
    with pytest.raises(
        CacheMismatch, match=r"visual features made with --short-clip repeat.*leave --short-clip mask out"
    ):
        choose_policies(dataset(), place, ["audio"], {"short_clip": "mask"})
    assert choose_policies(dataset(), place, ["audio"], {"missing_audio": "silence"}).missing_audio == "silence"


def test_imported_features_and_fields_of_earlier_versions_have_no_policies(tmp_path):
    with CacheWriter.create(tmp_path / "cache", dataset={"name": "ave"}, unit_rows=10) as writer:
        writer.declare("visual", {"imported": {"from": "somewhere"}}, {})
        writer.declare("audio", {"media": {"short_clip": "of another version"}}, {})
    assert policies_in(open_cache(tmp_path / "cache").specs) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("media: {missing_sound: reject}", "unknown key 'media.missing_sound': did you mean 'media.missing_audio'?"),
        ("media: {short_clip: repat}", "media: unknown policy for short clip 'repat': did you mean 'repeat'?"),
        ("media: {short_clip: 3}", "media.short_clip is 3, expected a text"),
        ("media: repeat", "media is 'repeat', expected keys: short_clip, missing_audio, missing_video"),
    ],
)
def test_files_with_other_keys_or_names_are_refused(tmp_path, text, words):
    (tmp_path / "v.mp4").write_bytes(b"x")
    (tmp_path / "t.csv").write_text("clip,media,split,segments,events\na,v.mp4,train,2,x@0-1\n")
    (tmp_path / "t.yaml").write_text(f"table: t.csv\n{text}\n")
    with pytest.raises(UsageError) as caught:
        load_dataset(str(tmp_path / "t.yaml"))
    assert words in str(caught.value)
    (tmp_path / "avpipe.yaml").write_text(f"{text}\n")
    with pytest.raises(UsageError) as caught:
        load_dataset(str(tmp_path / "t.csv"))
    assert words in str(caught.value)
    assert "avpipe.yaml" in str(caught.value)


def test_an_avpipe_yaml_goes_before_the_table_s_own_file(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"x")
    (tmp_path / "t.csv").write_text("clip,media,split,segments,events\na,v.mp4,train,2,x@0-1\n")
    (tmp_path / "t.yaml").write_text("table: t.csv\nmedia: {missing_audio: silence, short_clip: repeat}\n")
    (tmp_path / "avpipe.yaml").write_text("media: {short_clip: reject}\n")
    assert load_dataset(str(tmp_path / "t.yaml")).media == {"missing_audio": "silence", "short_clip": "reject"}
