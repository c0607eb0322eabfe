"""A user's own table: formats, settings, tasks, and what is said of rows that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Dataset, Event

HEAD = "clip,media,split,segments,"


@pytest.fixture
def table(tmp_path):
    """Writes a table and reads it; media named v.mp4 exist, and `segments` says how long they are."""
    (tmp_path / "v.mp4").write_bytes(b"x")

    def read(text: str | bytes, name: str = "mine.csv", **options) -> Dataset:
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(data)
        return load_dataset(str(tmp_path / name), **options)

    return read


def kinds(dataset: Dataset) -> list[tuple[str, str]]:
    """Kind and line of every finding on a line."""
    return [(f.kind, f.where.rpartition("line ")[2]) for f in dataset.findings if " line " in f.where]


def only(dataset: Dataset):
    (sample,) = dataset.samples
    return sample


def test_events_in_seconds_become_a_class_per_segment(table):
    row = 'a,v.mp4,train,8,"a, b@0-1.5;x@y-z@2-3.4;a, b@3.5-6;long@6.9-7.4"'
    found = table(f"{HEAD}events\n{row}\nb,v.mp4,val,3,\nc,v.mp4,test,2,cat@0-2\n")
    assert (found.task, found.classes) == ("events", ("a, b", "cat", "long", "x@y-z", "background"))
    names = [found.classes[c] for c in found.samples[0].events]
    #        0       1 (half)   2        3 (half)  4       5       6 (0.1 s)     7 (0.4 s)
    assert names == ["a, b", "a, b", "x@y-z", "a, b", "a, b", "a, b", "background", "background"]
    assert found.samples[1].events == (4, 4, 4)
    assert [(c.id, c.segments, c.video.name) for c in found.clips[:1]] == [("a", 8, "v.mp4")]
    assert [f.kind for f in found.findings] == ["short-event"]
    assert [f.level for f in found.findings] == ["note"]


def test_a_segment_shared_half_and_half_is_of_the_class_that_is_there_first(table):
    found = table(f"{HEAD}events\na,v.mp4,train,4,b@0-1.5;a@1.5-4\n")
    assert [found.classes[c] for c in only(found).events] == ["b", "b", "a", "a"]
    parts = table(f"{HEAD}events\na,v.mp4,train,2,b@0-0.2;b@0.3-0.5;a@1-1.3;a@1.2-1.4\n")
    assert [parts.classes[c] for c in only(parts).events] == ["background", "background"]  # overlap counts once


@pytest.mark.parametrize(
    ("row", "kind", "words"),
    [
        ("a,v.mp4,train,4,x@2-1", "bad-event", "ends before it begins"),
        ("a,v.mp4,train,4,x@-1-2", "bad-event", "begins before the clip"),
        ("a,v.mp4,train,4,x@1-4.6", "bad-event", "goes on after 4 s"),
        ("a,v.mp4,train,4,x@0-2;y@1-3", "bad-event", "'x' and 'y' are both in segment 1"),
        ("a,v.mp4,train,4,x 1-3", "bad-event", "class@onset-offset"),
        ("a,v.mp4,train,4,x@1:00-2:00", "bad-event", "class@onset-offset"),
        ("a,v.mp4,Train,4,x@1-2", "unknown-split", "did you mean 'train'"),
        ("a,v.mp4,,4,x@1-2", "unknown-split", "''"),
        (",v.mp4,train,4,x@1-2", "bad-id", "no id"),
        ("../a,v.mp4,train,4,x@1-2", "bad-id", "'../a'"),
        ("a\tb,v.mp4,train,4,x@1-2", "bad-id", "cannot be"),
        ("ok,v.mp4,train,4,x@1-2", "duplicate-id", "line 2 already"),
        ("a,,train,4,x@1-2", "broken-row", "no media"),
        ("a,http://x.y/z.mp4,train,4,x@1-2", "broken-row", "an address"),
        ("a,v.mp4,train,0,x@1-2", "broken-row", "'0'"),
        ("a,v.mp4,train,2.5,x@1-2", "broken-row", "'2.5'"),
        ("a,v.mp4,train,4,x@1-2,more", "broken-row", "6 fields instead of 5"),
        ("a,v.mp4,train,4", "broken-row", "4 fields instead of 5"),
        ('a,v.mp4,train,4,"x@1-2', "broken-row", "quotes that do not match: a row is one line"),
        ('"a\nx",v.mp4,train,4,x@1-2', "broken-row", "a line break within quotes: a row is one line"),
        ('x",v.mp4,train,4,x@1-2', "broken-row", "a quote within a field"),
        (f"a,v.mp4,train,4,{'x' * 150_000}@2-1", "bad-event", "ends before it begins"),
        (f"a,{'v' * 256}.mp4,train,4,x@1-2", "broken-row", "media is no path"),
    ],
)
def test_a_bad_row_is_named_and_stops_no_other(table, row, kind, words):
    found = table(f"{HEAD}events\nok,v.mp4,train,4,x@1-2\n{row}\nlast,v.mp4,val,4,x@1-4.4\n")
    assert [sample.id for sample in found.samples] == ["ok", "last"]
    assert [clip.id for clip in found.clips] == ["ok", "last"]
    (finding,) = [f for f in found.findings if f.level == "fault"]
    assert (finding.kind, finding.where.rpartition(" line ")[2]) == (kind, "3")
    assert words in finding.what
    assert len(str(finding)) < 700


def test_text_of_any_make_is_read_and_lines_are_counted_in_the_file(table):
    text = "\ufeff Clip ,MEDIA,split,segments,events,mine\r\n\r\n-ü.1,v.mp4,train,4,x@1-2,\r\n\r\nb,v.mp4,what,4,,\r\n"
    found = table(text)
    assert [clip.id for clip in found.clips] == ["-ü.1"]
    assert kinds(found) == [("unknown-split", "5")]
    assert [f.what for f in found.findings if f.kind == "unknown-column"] == ["columns that mean nothing here: 'mine'"]


def test_parquet_gives_what_csv_gives(table, tmp_path):
    import pyarrow
    import pyarrow.parquet

    columns = {
        "clip": ["a", "b", None],
        "media": ["v.mp4"] * 3,
        "split": ["train", "val", "test"],
        "segments": [4.0, None, 4.0],
        "labels": [["x", "y"], [], ["x"]],
        "extra": [1, 2, 3],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    found = load_dataset(str(tmp_path / "t.parquet"), segments={"b": 7})
    assert (found.task, found.classes) == ("parsing", ("x", "y"))
    assert [(s.clip, s.labels) for s in found.samples] == [("a", (0, 1)), ("b", ())]
    assert [c.segments for c in found.clips] == [4, 7]
    assert [f.where.rpartition("row ")[2] for f in found.findings if f.kind == "bad-id"] == ["3"]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        load_dataset(str(tmp_path / "bad.parquet"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip;media;split;events\na;v.mp4;train;\n", "separated by ';'"),
        ("video_id,split,events\n", "no column clip, media"),
        (
            "clip,media,split\na,v.mp4,train\n",
            "needs one of events .events., labels .*; .* alone, add an empty column events",
        ),
        ("clip,media,split,events,labels\na,v.mp4,train,,\n", "--task .events, parsing"),
        ("clip,media,split,events,Events\n", "'events' twice"),
        ("", "is empty"),
        ("clip,media,split,events\n", "no row that can be used"),
        ("clip,media,split,segments,events\na,v.mp4,tra,1,\n", "line 2: unknown split 'tra'"),
        ("clip,media,split,events\nä\n".encode("latin-1"), "no UTF-8 text .byte 24"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(table, text, words):
    with pytest.raises(UsageError, match=words):
        table(text)


def test_a_missing_table_and_unknown_names_say_what_there_is(table, tmp_path):
    with pytest.raises(UsageError, match=r"gone\.csv: there is no such file"):
        load_dataset(str(tmp_path / "gone.csv"))
    good = f"{HEAD}events\na,v.mp4,train,4,x@1-2\n"
    with pytest.raises(UsageError, match="did you mean 'events'"):
        table(good, task="event")
    with pytest.raises(UsageError, match="no column for task qa: it needs question and answer"):
        table(good, task="qa")
    with pytest.raises(UsageError, match="did you mean 'segment_seconds'"):
        table(good, options={"segment_second": "1"})
    for name, value in (("segments", "0"), ("segments", "1.5"), ("segment_seconds", "nan"), ("frame_position", "2")):
        with pytest.raises(UsageError, match=f"{name} is '{value}', expected"):
            table(good, options={name: value})


def test_settings_come_from_yaml_and_the_command_has_the_last_word(table, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "t.csv").write_text(
        f"{HEAD}events,labels\na,../v.mp4,train,4,x@1-2,\nb,../v.mp4,val,9,z@0-1,\n"
    )
    yaml = (
        "table: sub/t.csv\ntask: events\ntitle: Mine\nsegments: 5\nsegment_seconds: 0.5\nclasses: [z, x]\n"
        "backbones: {layers: all}\n"
    )
    found = table(yaml, "mine.yaml")
    assert (found.classes, found.task) == (("z", "x", "background"), "events")
    assert (found.timeline.segment_seconds, [c.segments for c in found.clips]) == (0.5, [4, 5])
    assert found.samples[0].events == (2, 2, 1, 1)
    assert found.clips[0].video == tmp_path / "sub" / ".." / "v.mp4"
    assert found.backbones["layers"] == "all"
    assert found.backbones["visual"]["model"].startswith("swin")
    assert found.options == {"segments": "5", "segment_seconds": "0.5", "frame_position": "0.5"}
    assert [f.kind for f in found.findings] == ["cut-clip", "no-split"]
    again = table(yaml, "mine.yaml", options={"segments": "3"}, task="parsing")
    assert ([c.segments for c in again.clips], again.task) == ([3, 3], "parsing")
    (tmp_path / "avpipe.yaml").write_text("backbones: {layers: stages}\n")
    assert table(yaml, "mine.yaml").backbones["layers"] == "stages"


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("task: events\n", "names no table"),
        ("table: t.csv\nsegment: 3\n", "did you mean 'segments'"),
        ("table: none.csv\n", "there is no table"),
        (f"table: {'x' * 300}.csv\n", "there is no table"),
        ("table: t.txt\n", "ends in .csv or .parquet"),
        ("table: t.csv\nclasses: [yes, x]\n", "class True is no text"),
        ("table: t.csv\nclasses: [x, x]\n", "'x' twice"),
        ("table: t.csv\nbackbones: {visuals: {}}\n", "did you mean 'backbones.visual'"),
        ("table: t.csv\nsegments: true\n", "segments is True"),
        ("- a\n", "holds list"),
        ("a: [\n", "not a YAML file"),
        (f"table: {'[' * 2000}{']' * 2000}\n", "not a YAML file: maximum recursion"),
        ("table: t.csv\nclasses: [dog]\n", "no row that can be used"),
    ],
)
def test_a_yaml_file_that_cannot_be_used_says_why(table, tmp_path, yaml, words):
    (tmp_path / "t.csv").write_text(f"{HEAD}events\na,v.mp4,train,4,x@1-2\n")
    with pytest.raises(UsageError, match=words):
        table(yaml, "mine.yaml")


def test_parsing_keeps_weak_labels_apart_from_what_is_heard_and_seen(table):
    head = f"{HEAD}labels,audio_events,visual_events\n"
    train = "a,v.mp4,train,4,x;y ;x,x@0-2;y@1-3,x@1-1.2"
    found = table(f"{head}{train}\nb,v.mp4,test,4,x,x@0-1;y@0-1,\nc,v.mp4,val,4,,x@0-1;x@2-4,\n")
    first, second, third = found.samples
    assert (first.labels, first.audio_events, first.visual_events) == ((0, 1), (Event(0, 0, 2), Event(1, 1, 3)), ())
    assert third.audio_events == (Event(0, 0, 1), Event(0, 2, 4))
    assert second.labels == (0,)
    assert kinds(found) == [("short-event", "2"), ("labels-differ", "3"), ("labels-differ", "4")]
    told = table(f"{head}a,v.mp4,train,4,x;y,,\nb,v.mp4,test,4,x,,\nc,v.mp4,val,4,,,\n")
    assert [(s.labels, s.audio_events, s.visual_events) for s in told.samples] == [
        ((0, 1), None, None),  # nobody looked for events in a row for training
        ((0,), (), ()),
        ((), (), ()),
    ]
    assert kinds(told) == [("no-events", "3")]
    both = table("clip,media,split,segments,events\na,v.mp4,train,4,x@0-2;y@1-3\n", task="parsing")
    assert only(both).audio_events == only(both).visual_events == (Event(0, 0, 2), Event(1, 1, 3))
    weak = table(f"{HEAD}labels\na,v.mp4,test,4,x\n")
    assert (only(weak).labels, only(weak).audio_events) == ((0,), None)
    assert [f.kind for f in weak.findings] == ["no-split", "no-events"]


def test_questions_may_share_a_clip(table):
    rows = (
        'a,v.mp4,train,4,"How many, <x>?",2,Counting\na,v.mp4,val,4,Where?,left,\na,w.mp4,val,4,Where?,left,\n'
        "b,v.mp4,test,4,Where?,,\nb,v.mp4,test,4,Where?,left,\n"
    )
    found = table(f"{HEAD}question,answer,type\n{rows}")
    assert (found.task, found.classes) == ("qa", ("2", "left"))
    assert [(s.id, s.clip, s.split, s.question.answer, s.question.type) for s in found.samples] == [
        ("0:a", "a", "train", 0, "Counting"),
        ("1:a", "a", "val", 1, "all"),
        ("4:b", "b", "test", 1, "all"),
    ]
    assert found.samples[0].question.text == "How many, <x>?"
    assert [clip.id for clip in found.clips] == ["a", "b"]
    assert kinds(found) == [("duplicate-id", "4"), ("broken-row", "5")]


def test_masks_belong_to_segments_by_their_numbers(table, tmp_path):
    for folder, names in {
        "a": ("x_1.png", "x_3.png", "notes.txt", "x_2.jpg"),
        "zero": ("0.png", "1.png"),
        "more": ("1.png", "01.png", "5.png", "6.png"),
        "none": (),
    }.items():
        (tmp_path / "m" / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / "m" / folder / name).touch()
    rows = "".join(f"{name},v.mp4,train,4,m/{name}\n" for name in ("a", "zero", "more", "none", "gone"))
    found = table(f"{HEAD}masks\n{rows}bare,v.mp4,test,2,\n")
    names = {s.id: [m and m.name for m in s.masks] for s in found.samples}
    assert names == {
        "a": ["x_1.png", None, "x_3.png", None],
        "more": ["01.png", None, None, None],
        "none": [None] * 4,
        "gone": [None] * 4,
        "bare": [None] * 2,
    }
    assert sorted(f.kind for f in found.findings if f.level == "fault") == [
        "bad-mask", "double-mask", "extra-mask", "missing-masks", "missing-masks",
    ]  # fmt: skip
    assert found.classes == ("sounding object",)


def test_sources_say_which_clips_are_of_one_recording(table):
    found = table("clip,media,split,segments,source,events\na,v.mp4,train,4,tape 1,\nb,v.mp4,test,4,,\n")
    assert [clip.source for clip in found.clips] == ["tape 1", "v.mp4"]


def test_what_is_worth_knowing_of_a_table_is_noted(table, tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "1.png").touch()
    head = "clip,media,frames,audio,split,segments,"
    rows = "a,v.mp4,,,train,1,\nb,,f,,val,1,\nc,,,v.mp4,test,1,\nd,v.m4a,,,val,1,\n"
    (tmp_path / "v.m4a").touch()
    notes = [(f.kind, f.where.rpartition("/")[2], f.done) for f in table(f"{head}events\n{rows}").findings]
    assert notes == [
        ("no-events", "mine.csv", "there is nothing to learn"),
        (
            "one-modality",
            "mine.csv line 4",
            "extraction will quarantine it, but with --modality audio or --missing-video blank",
        ),
        (
            "one-modality",
            "mine.csv line 5",
            "extraction will quarantine it, but with --modality audio or --missing-video blank",
        ),
        (
            "one-modality",
            "mine.csv line 3",
            "extraction will quarantine it, but with --modality visual or --missing-audio silence",
        ),
    ]
    assert [f.kind for f in table(f"{head}masks\n{rows}").findings] == ["no-masks", *["one-modality"] * 3]


def test_classes_that_differ_in_case_alone_are_noted(table):
    found = table(f"{HEAD}events\na,v.mp4,train,4,Dog@0-1\nb,v.mp4,val,4,dog@0-1\n")
    assert [f.what for f in found.findings if f.kind == "similar-classes"] == ["'Dog' and 'dog' are two classes"]


def test_a_table_in_its_folder_is_found_by_name_alone(table, tmp_path):
    found = table(f"{HEAD}events\na,v.mp4,train,4,\n")
    assert (found.name, found.root) == ("mine.csv", tmp_path)
    again = load_dataset(found.name, found.root, task=found.task, options=found.options)
    assert again == found
    assert Path(load_dataset("elsewhere/mine.csv", tmp_path).root) == tmp_path
