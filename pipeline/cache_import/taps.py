"""What is imported as which array: its axes and shape are found by looking at some clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avpipe.pipeline.cache.layout import ArraySpec, array_name
from avpipe.pipeline.cache_import.axes import infer_axes, parse_axes, row_shape
from avpipe.pipeline.cache_import.sources import ClipValues, Source, open_source
from avpipe.pipeline.errors import InputRejected, UsageError, unknown_name
from avpipe.pipeline.manifest import Clip, Dataset

DTYPES = ("float16", "float32")
MODALITIES = ("audio", "visual")
TAKEN_NAMES = ("frames", "samples")
"""Names of arrays that hold what backbones are fed."""
STATISTICS = ".stats"
"""How names of arrays end that hold statistics of tokens."""
LOOKED_AT = 15
"""Usable clips whose shapes are compared before the shape of a tap is settled."""


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """One source as the user names it.

    Attributes:
        modality: `audio` or `visual`.
        name: name of the tap, such as `vggish`.
        path: folder or file.
        axes: its axes, "" where the shape tells.
    """

    modality: str
    name: str
    path: Path
    axes: str = ""


@dataclass(frozen=True)
class ImportedTap:
    """One source, and the array that it becomes.

    Attributes:
        source: where the features come from.
        array: the array.
        axes: the axes of a clip's features in the source.
    """

    source: Source
    array: ArraySpec
    axes: str

    def rows_per_segment(self, values: ClipValues, segments: int) -> int:
        """Rows of the source that make one segment of a clip.

        Raises:
            InputRejected: the features of this clip have another shape.
        """
        found = row_shape(values.shape, self.axes, segments)
        if found != self.array.row_shape:
            expected = " x ".join(map(str, self.array.row_shape))
            raise _no_fit(
                f"shape {list(values.shape)} makes {found[0]} x {found[1]} a segment, other clips have {expected}"
            )
        return values.shape[0] // segments


def parse_source(modality: str, text: str) -> SourceRequest:
    """A source from `NAME=PATH`.

    Raises:
        UsageError: it is not of that form.
    """
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise UsageError(f"--{modality} {text!r}: give NAME=PATH, such as --{modality} vggish=feats/vggish")
    return SourceRequest(modality, name, Path(path).expanduser())


def open_taps(
    stack: ExitStack, dataset: Dataset, requests: Sequence[SourceRequest], axes: Sequence[str], dtype: str
) -> list[ImportedTap]:
    """Opens the sources, until `stack` is closed, and finds their shapes.

    Args:
        stack: closes what is opened.
        dataset: its clips are looked at.
        requests: the sources.
        axes: `AXES` for each source with as many axes, or `NAME=AXES` for one.
        dtype: storage type.

    Raises:
        UsageError: a wrong name, path or axes; a source whose shape cannot be told or that fits no clip.
    """
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    if not requests:
        raise UsageError("nothing to import: give --audio NAME=PATH, --visual NAME=PATH or both")
    if not dataset.clips:
        raise UsageError(f"{dataset.name} at {dataset.root} has no clips: are its annotation files empty?")
    named = [(request.modality, request.name) for request in requests]
    for modality, name in named:
        if name in TAKEN_NAMES or "@" in name:
            raise UsageError(f"{name!r} cannot be the name of a tap: choose another, such as {modality}_features")
        if name.endswith(STATISTICS):
            raise UsageError(
                f"{name!r} cannot be the name of a tap: {STATISTICS} is kept for statistics of the tokens of another "
                f"array; choose another, such as {name.replace('.', '_')}"
            )
        if named.count((modality, name)) > 1:
            raise UsageError(f"two sources for {modality}/{name}: give each a name of its own")
    given = _axes_by_name(axes, requests)
    taps = []
    for request in requests:
        source = open_source(request.path, dataset)
        stack.callback(source.close)
        taps.append(_settle(source, request, given, dataset.clips, dtype))
    _require_used(axes, taps)
    return taps


def _axes_by_name(texts: Sequence[str], requests: Sequence[SourceRequest]) -> dict[str, str]:
    """Axes by name of the source, and those for all under "" and their number."""
    found = {}
    for text in texts:
        name, equals, letters = text.rpartition("=")
        parsed = parse_axes(letters)
        if equals and name not in {request.name for request in requests}:
            raise unknown_name("source in --axes", name, [request.name for request in requests])
        found[name or str(len(parsed))] = parsed
    return found


def _require_used(texts: Sequence[str], taps: Sequence[ImportedTap]) -> None:
    for text in texts:
        letters = parse_axes(text.rpartition("=")[2])
        if letters not in {tap.axes for tap in taps}:
            raise UsageError(f"--axes {text}: no source has {len(letters)} axes")


def _settle(
    source: Source, request: SourceRequest, given: dict[str, str], clips: Sequence[Clip], dtype: str
) -> ImportedTap:
    """The array that a source becomes: what most of some clips, spread over all, agree on."""
    array, found = f"{request.modality}/{request.name}", Counter[tuple[str, tuple[int, int]]]()
    reasons = Counter[str]()
    for clip in _spread(clips):
        try:
            with source.open(clip.id) as values:
                axes = given.get(request.name) or given.get(str(len(values.shape)))
                axes = axes or infer_axes(values.shape, f"{array} ({values.label})")
                found[axes, row_shape(values.shape, axes, clip.segments)] += 1
        except InputRejected as error:
            reasons[str(error)] += 1
        if found.total() == LOOKED_AT:
            break
    if not found:
        reason, count = reasons.most_common(1)[0]
        first = f"{count} times: {reason}" if count > 1 else f"for example: {reason}"
        raise UsageError(f"{array}: {request.path} has no usable features of any of {len(clips)} clips; {first}")
    (axes, shape), _ = found.most_common(1)[0]
    return ImportedTap(source, ArraySpec(array_name(request.modality, request.name, dtype), shape, dtype), axes)


def _spread(clips: Sequence[Clip]) -> list[Clip]:
    """All clips, the first few of them spread evenly over the list."""
    order = np.argsort(np.arange(len(clips)) % max(1, len(clips) // LOOKED_AT), kind="stable")
    return [clips[place] for place in order]


def _no_fit(reason: str) -> InputRejected:
    return InputRejected(reason, stage="features")
