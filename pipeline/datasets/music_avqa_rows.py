"""Rows of MUSIC-AVQA: one question each. `type` and `templ_values` are JSON within a text; the answer is `anser`."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.pipeline.datasets.jsonlist import read_list
from avpipe.pipeline.datasets.text import at_line, gather, is_file_name
from avpipe.pipeline.errors import UnusableAnnotations
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import Question

NEEDED = ("video_id", "type", "question_content", "templ_values", "anser")
"""Keys of a row that must be there; `question_id` is read where a row has one, others are passed over."""
OTHER_SOUND = "unmatch_audio"
"""Key of rows of v2.0 that are about a video with the sound of another one."""
_PLACEHOLDER = re.compile(r"<\w+>")
_SHOWN = 120
"""Characters of a row that a finding shows."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it stands in a file.

    Attributes:
        id: of the sample: split and place in the file, from 0.
        split: the file's split.
        video: id of the video that is seen.
        other_sound: id of the video that is heard in its place, None where it is the same.
        question: what is asked.
    """

    id: str
    split: str
    video: str
    other_sound: str | None
    question: Question

    @property
    def clip(self) -> str:
        """Id of the clip: the video's, and that of the sound where it is another."""
        return self.video if self.other_sound is None else f"{self.video}@{self.other_sound}"


def read_questions(
    path: Path, split: str, classes: tuple[str, ...], types: tuple[str, ...], findings: list[Finding]
) -> tuple[tuple[Asked, ...], int]:
    """Reads the questions of a file.

    Args:
        path: a JSON list of rows, or a gzip of it.
        split: its split.
        classes: the answers that there are.
        types: the types that there are, such as `Audio/Counting`.
        findings: gets one for every row that is broken or odd, with the line on which it starts.

    Returns:
        The questions, and how many rows were left out.

    Raises:
        UnusableAnnotations: the file is no list of rows.
    """
    items = read_list(path)
    if items and not any(isinstance(item, dict) for _, item in items):
        raise UnusableAnnotations(path, "is a list, but not of questions: fetch the file again")
    rows, told = [], []
    for place, (line, item) in enumerate(items):
        row = _parse(item, f"{split}:{place}", split, classes, types)
        if isinstance(row, Asked):
            rows.append(row)
        else:
            left_out = f"row left out: {json.dumps(item, ensure_ascii=False)[:_SHOWN]}"
            told.append(Finding(row[0], at_line(path, line), row[1], left_out))
    findings += gather([*told, *_repeated(path, items)], path, len(items))
    return tuple(rows), len(items) - len(rows)


def _parse(
    item: Any, sample: str, split: str, classes: tuple[str, ...], types: tuple[str, ...]
) -> Asked | tuple[str, str]:
    """The question in a row, or kind and words of what is wrong with it."""
    if not isinstance(item, dict):
        return "broken-row", f"not a row but {type(item).__name__}"
    lacking = [key for key in NEEDED if key not in item]
    if lacking:
        return "broken-row", f"no key {', '.join(lacking)}"
    video, template, answer = item["video_id"], item["question_content"], item["anser"]
    sound = item.get(OTHER_SOUND)
    for name in (video, *([sound] if sound is not None else [])):
        if not (isinstance(name, str) and is_file_name(name)):
            return "bad-id", f"{name!r} is no video id"
    if not isinstance(template, str):
        return "broken-row", f"question_content is {template!r}, no text"
    kind, values = _within(item["type"], 2), _within(item["templ_values"], None)
    if kind is None:
        return "broken-row", f"type is {item['type']!r}, expected two words as JSON"
    if values is None:
        return "broken-row", f"templ_values is {item['templ_values']!r}, expected a list of words as JSON"
    if "/".join(kind) not in types:
        return "unknown-type", f"unknown type {'/'.join(kind)!r}"
    if answer not in classes:
        return "unknown-answer", f"unknown answer {answer!r}"
    holes = len(_PLACEHOLDER.findall(template))
    if holes != len(values):
        return "broken-row", f"{len(values)} values for {holes} placeholders of {template!r}"
    number = item.get("question_id")
    question = Question(
        template, values, "/".join(kind), classes.index(answer), number if type(number) is int else None
    )
    return Asked(sample, split, video, sound if sound != video else None, question)


def _within(value: Any, length: int | None) -> tuple[str, ...] | None:
    """A list of words, itself or as JSON in a text; None where it is neither, or not of `length`."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            return None
    if not (isinstance(value, list) and all(isinstance(word, str) for word in value)):
        return None
    return tuple(value) if length in (None, len(value)) else None


def _repeated(path: Path, items: list[tuple[int, Any]]) -> list[Finding]:
    """Ids of questions that occur more than once, as 55 and 27 do in the first release, with different answers."""
    lines: dict[Any, list[tuple[int, Any]]] = defaultdict(list)
    for line, item in items:
        if isinstance(item, dict) and isinstance(item.get("question_id"), int):
            lines[item["question_id"]].append((line, item.get("anser")))
    findings = []
    for number, rows in lines.items():
        for line, answer in rows[1:]:
            what = f"question_id {number} is that of line {rows[0][0]} too; answers {rows[0][1]!r} and {answer!r}"
            findings.append(Finding("repeated-question", at_line(path, line), what, "both are asked", NOTE))
    return findings
