import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from avpipe.pipeline.datasets import load_dataset, manifest_of
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Question

SHARED = Path(__file__).parents[2].parent / "shared"
REAL = SHARED / "annotations" / "music_avqa"
GOLDEN = SHARED / "golden" / "avqa"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="the real annotation files are not here")


def row(**changed: object) -> dict[str, object]:
    """A row of a file; keys given as None are left out."""
    good = {
        "video_id": "00000093",
        "question_id": 12,
        "type": '["Audio-Visual", "Existential"]',
        "question_content": "Is the <Object> in the video always playing?",
        "templ_values": '["violin"]',
        "question_deleted": 0,
        "anser": "no",
    }
    return {key: value for key, value in {**good, **changed}.items() if value is not None}


def write(root: Path, folder: str = "json_update", **splits: list[object]) -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        rows = splits.get(split, [row(question_id=1)])
        (root / folder / f"avqa-{split}.json").write_text(json.dumps(rows, indent=2))
    return root


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Datasets of the real files by release."""
    base = tmp_path_factory.mktemp("avqa")
    for folder in ("json", "json_update"):
        (base / folder).mkdir()
        for split in ("val", "test"):
            name = f"avqa-{split}.json.gz"
            (base / folder / name).write_bytes((REAL / folder / name).read_bytes())
    for kind, folder in (("balance", "balance_full_set"), ("bias", "bias_set")):
        (base / "data" / folder).mkdir(parents=True)
        text = gzip.decompress((REAL / f"v2_test_{kind}.json.gz").read_bytes())
        (base / "data" / folder / f"test_{kind}.json").write_bytes(text)
    releases = ("update", "first", "v2-balance", "v2-bias")
    return {release: load_dataset("music-avqa", base, options={"release": release}) for release in releases}


@needs_real
@pytest.mark.parametrize("release", ["update", "first", "v2-balance", "v2-bias"])
def test_real_counts(real, release):
    dataset, manifest = real[release], manifest_of("music-avqa")
    counts = manifest["counts"] if release == "update" else manifest["releases"][release]
    assert dataset.options == {"release": release}
    for split, videos in counts["videos"].items():
        samples = dataset.split(split)
        assert len(samples) == counts["splits"][split]
        assert len({sample.clip.partition("@")[0] for sample in samples}) == videos
    assert Counter(sample.question.type for sample in dataset.split("test")) == counts["types"]
    missing = [finding.where for finding in dataset.findings if finding.kind == "missing-table"]
    assert len(missing) == 3 - len(counts["videos"])
    assert len({sample.id for sample in dataset.samples}) == len(dataset.samples)
    assert not [finding for finding in dataset.findings if finding.kind not in ("missing-table", "repeated-question")]


@needs_real
def test_real_answers_are_the_official_numbers(real):
    golden = np.load(GOLDEN / "predictions.npz")
    expected = json.loads((GOLDEN / "expected.json").read_text())
    assert list(real["update"].classes) == expected["answers"]
    for name, release, split in (
        ("test_updated", "update", "test"),
        ("test_first_release", "first", "test"),
        ("val_updated", "update", "val"),
    ):
        answers = [sample.question.answer for sample in real[release].split(split)]
        assert np.array_equal(answers, golden[f"{name}__answer"])


@needs_real
def test_real_ids_that_occur_twice_are_named_and_not_merged(real):
    repeated = [finding for finding in real["first"].findings if finding.kind == "repeated-question"]
    assert Counter("test" if "avqa-test" in finding.where else "val" for finding in repeated) == {"test": 55, "val": 27}
    assert all(finding.level == "note" for finding in repeated)
    assert not [finding for finding in real["update"].findings if finding.kind == "repeated-question"]


@needs_real
def test_val_and_test_share_videos_which_are_clips_once(real):
    dataset = real["update"]
    clips = {split: {sample.clip for sample in dataset.split(split)} for split in ("val", "test")}
    assert len(clips["val"] & clips["test"]) == 2296
    assert len(dataset.clips) == len({clip.id for clip in dataset.clips}) == len(clips["val"] | clips["test"])
    assert sum(sample.clip.isdecimal() for sample in dataset.split("test")) == 7365
    assert len({sample.question.template for sample in dataset.split("test")}) == 33


@needs_real
def test_rows_of_the_second_version(real):
    clips = {clip.id: clip for clip in real["v2-balance"].clips}
    mixed = [clip for clip in clips.values() if "@" in clip.id]
    assert sum("@" in sample.clip for sample in real["v2-balance"].samples) == 226
    assert len(mixed) == 226
    clip = clips["sa00006547@00008531"]
    assert (clip.video.name, clip.audio.name) == ("sa00006547.mp4", "00008531.mp4")
    flipped = next(clip for clip in clips.values() if clip.id.endswith("_flip"))
    assert flipped.source == flipped.id.removesuffix("_flip")


def test_rows_become_samples_by_position(tmp_path, touch):
    rows = [
        row(),
        row(video_id="sa00000001", anser="yes", templ_values='["piano"]'),
        row(question_content="Is there a voiceover? ", templ_values="[]"),
    ]
    write(tmp_path, test=rows)
    touch(tmp_path / "video" / "00000093.mp4")
    dataset = load_dataset("music-avqa", tmp_path)
    first, second, third = dataset.split("test")
    assert [sample.id for sample in (first, second, third)] == ["test:0", "test:1", "test:2"]
    assert first.question == Question(
        "Is the <Object> in the video always playing?",
        ("violin",),
        "Audio-Visual/Existential",
        dataset.classes.index("no"),
        12,
    )
    assert first.question.text == "Is the violin in the video always playing?"
    assert (second.clip, third.clip) == ("sa00000001", "00000093")
    assert [clip.id for clip in dataset.clips] == ["00000093", "sa00000001"]
    assert dataset.clips[0].media() == (tmp_path / "video" / "00000093.mp4",)
    assert (dataset.clips[0].segments, dataset.task, dataset.timeline.segment_seconds) == (60, "qa", 1.0)
    assert [(finding.kind, finding.level) for finding in dataset.findings] == [("repeated-question", "note")] * 2


@pytest.mark.parametrize(
    ("broken", "kind", "fault"),
    [
        (row(anser="violon"), "unknown-answer", "unknown answer 'violon'"),
        (row(anser=["no"]), "unknown-answer", "unknown answer"),
        (row(anser=None), "broken-row", "no key anser"),
        (row(anser=None, video_id=None), "broken-row", "no key video_id, anser"),
        (row(type='["Audio-Visual", "Existential"'), "broken-row", "expected two words as JSON"),
        (row(type='["Audio-Visual"]'), "broken-row", "expected two words as JSON"),
        (row(type='["Audio", "Temporal"]'), "unknown-type", "unknown type 'Audio/Temporal'"),
        (row(templ_values="[violin]"), "broken-row", "expected a list of words as JSON"),
        (row(templ_values="[1]"), "broken-row", "expected a list of words as JSON"),
        (row(templ_values="[]"), "broken-row", "0 values for 1 placeholders"),
        (row(templ_values='["violin", "piano"]'), "broken-row", "2 values for 1 placeholders"),
        (row(video_id="../00000093"), "bad-id", "no video id"),
        (row(video_id=93), "bad-id", "93 is no video id"),
        (row(question_content=7), "broken-row", "no text"),
        ("a text", "broken-row", "not a row but str"),
    ],
)
def test_broken_rows_are_named_by_line_and_cost_nobody_a_place(tmp_path, broken, kind, fault):
    write(tmp_path, test=[row(question_id=1), broken, row(question_id=2, anser="yes")])
    dataset = load_dataset("music-avqa", tmp_path)
    assert [sample.id for sample in dataset.split("test")] == ["test:0", "test:2"]
    (finding,) = dataset.findings
    assert (finding.kind, finding.level) == (kind, "fault")
    assert finding.where == f"{tmp_path / 'json_update' / 'avqa-test.json'} line 11"
    assert fault in finding.what


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"video_id": 1},\n', "broken JSON at line 2 column 1"),
        ('[{"video_id": 1}\n{}]', "broken JSON at line 2 column 1 \\(expecting ',' or ']'\\)"),
        ("{}", "expecting a list"),
        ("[] []", "extra data"),
        ("", "broken JSON at line 1"),
        ("[1, 2]", "a list, but not of questions"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_a_file_that_is_no_list_of_questions_is_refused_with_its_line(tmp_path, text, says):
    write(tmp_path)
    for path in (tmp_path / "json_update").iterdir():
        path.write_text(text)
    with pytest.raises(UsageError, match=rf"avqa-(train|val|test)\.json .*{says}"):
        load_dataset("music-avqa", tmp_path)


def test_a_damaged_archive_costs_its_split(tmp_path):
    write(tmp_path)
    plain = tmp_path / "json_update" / "avqa-val.json"
    whole = gzip.compress(plain.read_bytes())
    plain.unlink()
    packed = tmp_path / "json_update" / "avqa-val.json.gz"
    packed.write_bytes(whole)
    assert len(load_dataset("music-avqa", tmp_path).split("val")) == 1
    for content in (whole[:-9], b"no gzip", whole[:20] + b"\0" * 30):
        packed.write_bytes(content)
        dataset = load_dataset("music-avqa", tmp_path)
        (finding,) = dataset.findings
        assert (finding.kind, finding.where, finding.level) == ("unusable", str(packed), "fault")
        assert finding.what.startswith("cannot be read")
        assert [len(dataset.split(split)) > 0 for split in ("train", "val", "test")] == [True, False, True]


def test_which_release_is_read(tmp_path):
    for folder, answer in (("json_update", "two"), ("json", "one"), (".", "zero")):
        write(tmp_path, folder, test=[row(anser=answer)])
    (tmp_path / "data" / "bias_set").mkdir(parents=True)
    (tmp_path / "data" / "bias_set" / "test_bias.json").write_text(json.dumps([row(anser="ten", question_id=None)]))

    def read(**options: str) -> tuple[str, str]:
        dataset = load_dataset("music-avqa", tmp_path, options=options)
        return dataset.options["release"], dataset.classes[dataset.split("test")[0].question.answer]

    assert read() == read(release="update") == ("update", "two")
    assert read(release="first") == ("first", "one")
    assert read(release="v2-bias") == ("v2-bias", "ten")
    for name in ("train", "val", "test"):
        (tmp_path / "json_update" / f"avqa-{name}.json").unlink()
    assert read() == ("first", "one")
    for name in ("train", "val", "test"):
        (tmp_path / "json" / f"avqa-{name}.json").unlink()
    assert read() == ("update", "zero")
    assert read(release="first") == ("first", "zero")  # at the root nothing says which release it is
    with pytest.raises(UsageError, match=r"does not hold release v2-balance .*balance_full_set/test_balance\.json"):
        read(release="v2-balance")
    with pytest.raises(UsageError, match="unknown release 'frist': did you mean 'first'"):
        read(release="frist")
    with pytest.raises(UsageError, match="unknown setting of music-avqa 'relese'"):
        read(relese="first")


@pytest.mark.parametrize(
    ("count", "digits", "places"),
    [
        (60, 6, list(range(60))),
        (58, 4, [*range(58), 57, 57]),  # at one a second, so the last is repeated
        (120, 8, list(range(1, 120, 2))),  # at two a second
        (10, 8, [place for place in range(10) for _ in range(6)]),
    ],
)
def test_pictures_of_every_second(tmp_path, touch, count, digits, places):
    write(tmp_path)
    files = [tmp_path / "frames" / "00000093" / f"{number:0{digits}}.jpg" for number in range(1, count + 1)]
    touch(*files, tmp_path / "audio" / "00000093.wav")
    (clip,) = load_dataset("music-avqa", tmp_path).clips
    assert clip.frames == tuple(files[place] for place in places)
    assert clip.audio == tmp_path / "audio" / "00000093.wav"


def test_not_found_names_some_of_the_files(tmp_path):
    with pytest.raises(UsageError) as caught:
        load_dataset("music-avqa", tmp_path)
    assert "none of the annotation files (json_update/avqa-train.json" in str(caught.value)
    assert "video/<video_id>.mp4" in str(caught.value)
