"""How a user's own table is read: a YAML file in place of the table, and `key=value` settings over it.

    table: clips.csv            the table, relative to this file; the only key that must be there
    task: events                events, parsing, segmentation or qa; needed where the columns fit several
    segments: 10                most segments of a clip; a longer clip is cut
    segment_seconds: 1.0        length of a segment
    frame_position: 0.5         where in a segment its frame is taken, 0 (start) to 1 (end)
    classes: [Dog, Cat]         fixes the order of the classes; others are faults then
    backbones: {...}            default backbones, as in avpipe.yaml
    media: {short_clip: repeat} policies for short and missing media, as in avpipe.yaml
    title: My clips             for the reader

`segments`, `segment_seconds` and `frame_position` are `key=value` settings too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avpipe.pipeline.datasets.overrides import check_backbones, check_media
from avpipe.pipeline.errors import UsageError, shown, unknown_name
from avpipe.pipeline.timeline import Timeline

TABLES = (".csv", ".parquet")
YAMLS = (".yaml", ".yml")
OPTIONS = ("segments", "segment_seconds", "frame_position")
DEFAULTS = {"segment_seconds": "1", "frame_position": "0.5"}
"""Settings that a table has unless others are given, as `options` of its Dataset has them."""
_KEYS = ("table", "task", *OPTIONS, "classes", "backbones", "media", "title")
_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.005, 3600.0


@dataclass(frozen=True, slots=True)
class OwnSettings:
    """How a table is read.

    Attributes:
        table: the table, CSV or Parquet.
        task: `events`, `parsing`, `segmentation` or `qa`; None: what its columns fit.
        segments: most segments of a clip, None for no limit.
        segment_seconds: length of a segment, seconds.
        frame_position: where in a segment its frame is taken, 0 to 1.
        classes: classes in a fixed order; empty: those of the rows, sorted.
        backbones: default backbones, as in `avpipe.yaml`.
        media: policies for short and missing media, as in `avpipe.yaml`.
    """

    table: Path
    task: str | None = None
    segments: int | None = None
    segment_seconds: float = 1.0
    frame_position: float = 0.5
    classes: tuple[str, ...] = ()
    backbones: dict[str, Any] = field(default_factory=dict)
    media: dict[str, str] = field(default_factory=dict)

    @property
    def timeline(self) -> Timeline:
        """The clock of the clips."""
        return Timeline(self.segment_seconds, self.frame_position)

    def options(self) -> dict[str, str]:
        """What decides segments, as text: read with these, the table gives the same again."""
        found = {name: str(getattr(self, name)).removesuffix(".0") for name in DEFAULTS}
        return found if self.segments is None else {"segments": str(self.segments), **found}


def read_settings(file: Path, task: str | None, options: Mapping[str, str]) -> OwnSettings:
    """Settings of a table or of the YAML file that names one.

    Args:
        file: the file that the user named; it exists.
        task: the task that the user named, over that of the file.
        options: `key=value` settings, over those of the file.

    Raises:
        UsageError: unknown keys (the nearest name is offered) or impossible values.
    """
    for name in options:
        if name not in OPTIONS:
            raise unknown_name(f"setting of {file.name}", name, OPTIONS)
    settings = _from_yaml(file) if file.suffix.lower() in YAMLS else OwnSettings(file)
    settings = replace(settings, task=task or settings.task)
    return replace(settings, **{name: _number(name, value, "settings") for name, value in options.items()})


def _from_yaml(file: Path) -> OwnSettings:
    content = _mapping(file)
    for key in content:
        if key not in _KEYS:
            raise unknown_name(f"key in {file}:", str(key), _KEYS)
    for key in ("table", "task", "title"):
        if key in content and not isinstance(content[key], str):
            raise UsageError(f"{file}: {key} is {shown(content[key])}, expected a text")
    if "table" not in content:
        raise UsageError(f"{file} names no table: add a line such as `table: clips.csv`")
    table = file.parent / content["table"]
    if table.suffix.lower() not in TABLES:
        raise UsageError(
            f"{file}: table is {shown(content['table'])}, expected a file that ends in {' or '.join(TABLES)}"
        )
    try:
        there = table.is_file()
    except OSError:  # too long, for one
        there = False
    if not there:
        raise UsageError(f"{file}: there is no table {shown(content['table'])}; its path is relative to the YAML file")
    check_backbones(content.get("backbones", {}), file)
    check_media(content.get("media", {}), file)
    return OwnSettings(
        table,
        content.get("task"),
        classes=_classes(content.get("classes", []), file),
        backbones=dict(content.get("backbones", {})),
        media=dict(content.get("media", {})),
        **{name: _number(name, content[name], str(file)) for name in OPTIONS if name in content},
    )


def _mapping(file: Path) -> dict[Any, Any]:
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file} holds {type(content).__name__}, expected keys: {', '.join(_KEYS)}")
    return content


def _classes(value: object, file: Path) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UsageError(f"{file}: classes is {shown(value)}, expected a list of names")
    for name in value:
        if not isinstance(name, str) or not name.strip():  # YAML takes `no` and `1` for something else
            raise UsageError(f"{file}: class {shown(name)} is no text: put quotes around it")
    names = tuple(name.strip() for name in value)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{file}: classes names {twice[0]!r} twice")
    return names


def _number(name: str, value: object, where: str) -> Any:
    """A setting's value from text or YAML: an int for `segments`, else a float."""
    kind = "a whole number above 0" if name == "segments" else "a number"
    try:
        number = float(str(value).strip()) if not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if name == "segments" and number.is_integer() and number > 0:
        return int(number)
    if name == "segment_seconds":
        kind = f"seconds from {_SHORTEST_SECONDS:g} to {_LONGEST_SECONDS:g}"
        if _SHORTEST_SECONDS <= number <= _LONGEST_SECONDS:
            return number
    if name == "frame_position":
        kind = "a number from 0 to 1"
        if 0 <= number <= 1:
            return number
    raise UsageError(f"{where}: {name} is {shown(value)}, expected {kind}")
