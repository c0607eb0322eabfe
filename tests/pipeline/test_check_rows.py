"""Damaged annotations in copies of the demo layouts: each row is found by file and line, and nothing else is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from checked import found, look_at
from plant import POINTER

Lines = list[str]
Edit = Callable[[Lines], None]

AVE = "AVE_Dataset/Annotations.txt"
AVE_TRAIN, AVE_TEST = "AVE_Dataset/trainSet.txt", "AVE_Dataset/testSet.txt"
S4, MS3, AVSS = "Single-source/s4_meta_data.csv", "Multi-sources/ms3_meta_data.csv", "metadata.csv"
LLP, LLP_HEARD = "data/AVVP_train.csv", "data/AVVP_eval_audio.csv"
AVQA = "json_update/avqa-train.json"
HTML = "<!DOCTYPE html>\n<html><body>not found</body></html>\n"


def put(line: int, column: int, value: str, mark: str = ",") -> Edit:
    """Changes one field of a line; lines from 1, columns from 0."""

    def edit(lines: Lines) -> None:
        fields = lines[line - 1].split(mark)
        fields[column] = value
        lines[line - 1] = mark.join(fields)

    return edit


def drop(line: int) -> Edit:
    return lambda lines: lines.__delitem__(line - 1)


def again(line: int, at: int) -> Edit:
    """Writes a line once more, as line `at`."""
    return lambda lines: lines.insert(at - 1, lines[line - 1])


def shift(mark: str = ",") -> Edit:
    """Shifts the header by a column."""

    def edit(lines: Lines) -> None:
        first, *rest = lines[0].split(mark)
        lines[0] = mark.join([*rest, first])

    return edit


def short(line: int, mark: str = ",") -> Edit:
    """Takes the last field off a line."""
    return lambda lines: lines.__setitem__(line - 1, lines[line - 1].rpartition(mark)[0])


def whole(text: str) -> Edit:
    """Puts another text in place of all lines."""
    return lambda lines: lines.__setitem__(slice(None), text.split("\n"))


def whole_line(line: int, text: str) -> Edit:
    """Puts another text in place of a line."""
    return lambda lines: lines.__setitem__(line - 1, text)


def rewrite(path: Path, edit: Edit) -> None:
    lines = path.read_text().split("\n")
    edit(lines)
    path.write_text("\n".join(lines))


FAULTS = [
    # AVE's own Set files follow in `test_a_row_of_ave_that_is_wrong_everywhere`
    ("ave", AVE, put(2, 0, "Bagpipes", "&"), "unknown-class", 2),
    ("ave", AVE, put(2, 4, "12", "&"), "past-the-end", 2),
    ("ave", AVE, put(3, 3, "-1", "&"), "broken-row", 3),
    ("ave", AVE, lambda lines: (put(3, 3, "9", "&")(lines), put(3, 4, "1", "&")(lines)), "reversed-event", 3),
    ("ave", AVE, short(3, "&"), "broken-row", 3),
    ("ave", AVE, again(1, 3), "doubled-header", 3),
    ("ave", AVE, again(2, 3), "duplicate-row", 3),
    ("ave", AVE, shift("&"), "wrong-header", 1),
    ("ave", AVE, whole(HTML), "unusable", None),
    ("ave", AVE_TEST, again(1, 2), "duplicate-row", 2),
    ("avsbench-s4", S4, drop(1), "missing-header", 1),
    ("avsbench-s4", S4, again(1, 2), "doubled-header", 2),
    ("avsbench-s4", S4, shift(), "wrong-header", 1),
    ("avsbench-s4", S4, put(1, 0, "id"), "wrong-header", 1),
    ("avsbench-s4", S4, whole_line(1, "start,name,category,split"), "wrong-header", 1),
    ("avsbench-s4", S4, whole(POINTER), "unusable", None),
    ("avsbench-s4", S4, again(2, 4), "duplicate-id", 4),
    ("avsbench-s4", S4, put(3, 2, "bagpipes"), "unknown-class", 3),
    ("avsbench-s4", S4, put(3, 3, "training"), "unknown-split", 3),
    ("avsbench-s4", S4, short(3), "broken-row", 3),
    ("avsbench-s4", S4, whole(""), "unusable", None),
    ("avsbench-ms3", MS3, put(2, 1, "dev"), "unknown-split", 2),
    ("avsbench-ms3", MS3, lambda lines: lines.insert(2, f"{lines[1].split(',')[0]},test"), "duplicate-id", 3),
    ("avsbench-avss", AVSS, whole_line(1, "uid,vid,s_min,s_sec,a_obj,split,label"), "wrong-header", 1),
    ("avsbench-avss", AVSS, put(2, 6, "v3"), "unknown-part", 2),
    ("avsbench-avss", AVSS, again(2, 3), "duplicate-id", 3),
    ("avsbench-avss", "label2idx.json", whole('{"background": 0}'), "class-list", "label2idx.json"),
    ("llp", LLP, put(2, 1, "Bagpipes", "\t"), "unknown-class", 2),
    ("llp", LLP, put(2, 1, "Dog,Dog", "\t"), "doubled-label", 2),
    ("llp", LLP, again(2, 3), "duplicate-id", 3),
    ("llp", LLP_HEARD, put(2, 0, "ABCDEFGHIJK_0_10", "\t"), "unmatched-row", 2),
    ("llp", LLP_HEARD, put(2, 2, "14", "\t"), "past-the-end", 2),
    ("llp", LLP_HEARD, put(2, 1, "x", "\t"), "broken-row", 2),
    ("llp", LLP_HEARD, again(2, 3), "duplicate-row", 3),
    ("llp", LLP_HEARD, drop(1), "missing-header", 1),
    ("llp", LLP_HEARD, shift("\t"), "wrong-header", 1),
    ("llp", LLP_HEARD, whole_line(1, "filename\toffset\tonset\tevent_labels"), "wrong-header", 1),
    ("music-avqa", AVQA, whole("[{"), "unusable", None),
]


@pytest.mark.parametrize(
    ("name", "table", "edit", "kind", "where"), FAULTS, ids=[f"{f[0]}-{f[3]}-{f[4]}" for f in FAULTS]
)
def test_a_broken_row_is_found_by_its_line(copy_of, name, table, edit, kind, where):
    root = copy_of(name)
    rewrite(root / table, edit)
    place = where if isinstance(where, str) else table if where is None else f"{table} line {where}"
    report = look_at(name, root, quick=True)
    also = {("weak-differs", place) for place in _lines_of_weak_labels(root)}  # what follows from a lost dense event
    assert found(report) - also == {(kind, place)}


def _lines_of_weak_labels(root: Path) -> set[str]:
    return {f"data/AVVP_{split}_pd.csv line {line}" for split in ("val", "test") for line in (2, 3)}


@pytest.mark.parametrize(("value", "kind"), [("Bagpipes", "unknown-class"), ("ave/x", "unknown-class")])
def test_a_row_of_ave_that_is_wrong_everywhere(copy_of, value, kind):
    root = copy_of("ave")
    row = (root / AVE_TRAIN).read_text().split("\n")[0]
    line = (root / AVE).read_text().split("\n").index(row) + 1
    rewrite(root / AVE, put(line, 0, value, "&"))
    rewrite(root / AVE_TRAIN, put(1, 0, value, "&"))
    assert found(look_at("ave", root, quick=True)) == {(kind, f"{AVE} line {line}"), (kind, f"{AVE_TRAIN} line 1")}


def test_a_row_of_ave_without_a_split_is_found(copy_of):
    root = copy_of("ave")
    row = (root / AVE_TRAIN).read_text().split("\n")[0]
    rewrite(root / AVE_TRAIN, drop(1))
    line = (root / AVE).read_text().split("\n").index(row) + 1
    assert found(look_at("ave", root, quick=True)) == {("no-split", f"{AVE} line {line}")}


def test_an_id_that_leads_elsewhere_is_found_and_its_video_left_over(copy_of):
    root = copy_of("avsbench-s4")
    rewrite(root / S4, put(2, 0, "../../escape"))
    report = look_at("avsbench-s4", root, quick=True)
    assert ("bad-id", f"{S4} line 2") in found(report)
    assert report.faults == 1


CHANGES = [
    ({"anser": "banana"}, "unknown-answer"),
    ({"type": '["Smell", "Counting"]'}, "unknown-type"),
    ({"type": '["Audio"'}, "broken-row"),
    ({"templ_values": "[oops"}, "broken-row"),
    ({"templ_values": '["violin", "cello", "flute"]'}, "broken-row"),
    ({"video_id": "a/b"}, "bad-id"),
    ({"anser": None}, "broken-row"),
]


@pytest.mark.parametrize(("change", "kind"), CHANGES, ids=[f"{k}-{next(iter(c))}" for c, k in CHANGES])
def test_a_question_that_cannot_be_used_is_found(copy_of, change, kind):
    root = copy_of("music-avqa")
    rows = json.loads((root / AVQA).read_text())
    at = next(n for n, row in enumerate(rows) if sum(r["video_id"] == row["video_id"] for r in rows) > 1)
    rows[at] = {key: value for key, value in (rows[at] | change).items() if value is not None}
    text = json.dumps(rows, indent=1)
    (root / AVQA).write_text(text)
    line = 1 + [number for number, row in enumerate(text.split("\n"), 1) if row == " {"][at] - 1
    report = look_at("music-avqa", root, quick=True)
    assert found(report) == {(kind, f"{AVQA} line {line}")}


def test_a_video_that_questions_name_and_that_is_not_there_is_found(copy_of):
    root = copy_of("music-avqa")
    rows = json.loads((root / AVQA).read_text())
    (root / AVQA).write_text(json.dumps([*rows, {**rows[0], "video_id": "99999999", "question_id": 10**6}]))
    assert found(look_at("music-avqa", root, quick=True)) == {("missing-file", "video/99999999.mp4")}


def test_a_table_cut_short_is_found(copy_of):
    root = copy_of("avsbench-s4")
    rewrite(root / S4, drop(4))
    report = look_at("avsbench-s4", root, quick=True)
    assert ("count", ".") in found(report)
    assert report.faults == 1


def test_a_table_that_is_not_there_is_found(copy_of):
    root = copy_of("llp")
    (root / LLP_HEARD).unlink()
    assert ("missing-table", LLP_HEARD) in found(look_at("llp", root, quick=True))


def test_a_byte_order_mark_and_other_ends_of_lines_are_fine(copy_of):
    root = copy_of("avsbench-s4")
    text = (root / S4).read_bytes().replace(b"\n", b"\r\n")
    (root / S4).write_bytes(b"\xef\xbb\xbf" + text + b"\r\n")
    assert found(look_at("avsbench-s4", root, quick=True)) == set()
