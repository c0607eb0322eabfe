"""Masks beside what they belong to: sizes against frames and other masks, values against the classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from avpipe.pipeline.datasets.check.look import MASK, Look
from avpipe.pipeline.datasets.check.looking import Seen
from avpipe.pipeline.datasets.check.wanted import Wanted
from avpipe.pipeline.datasets.masks import palette, stray_values
from avpipe.pipeline.findings import FAULT, NOTE, Finding
from avpipe.pipeline.manifest import Dataset

_SHOWN = 8
_FORMATS = {".png": ("PNG",), ".jpg": ("JPEG", "MPO"), ".jpeg": ("JPEG", "MPO")}


def strange_values(dataset: Dataset, wanted: Mapping[Path, Wanted], seen: Seen) -> Iterator[Finding]:
    """Masks with values that stand for nothing: grey in a binary mask, classes that there are not."""
    classes = len(dataset.classes)
    colours = set(map(tuple, palette().tolist()))
    for path, look in seen.items():
        if wanted[path].role != MASK or not look.facts:
            continue
        values, drawn = look.facts["values"], [tuple(colour) for colour in look.facts.get("colours", ())]
        if dataset.task != "semantic":
            strange = [] if set(values) <= {0, 255} or set(values) <= {0, 1} else sorted(set(values) - {0, 255})
            if strange:
                yield _values("mask-values", path, look, strange, "a binary mask has 0 and 255, or 0 and 1")
        elif drawn:
            if strange := [colour for colour in drawn if colour not in colours]:
                yield _values("unknown-class", path, look, strange, f"no colour of the {classes} classes")
        elif max(values) >= classes and (strays := stray_values(path, semantic=True)):  # not if read by its colours
            yield _values("unknown-class", path, look, strays, f"the classes are 0 to {classes - 1}")


def _values(kind: str, path: Path, look: Look, strange: Sequence[object], allowed: str) -> Finding:
    shown = ", ".join(map(str, strange[:_SHOWN])) + (f" and {len(strange) - _SHOWN} more" * (len(strange) > _SHOWN))
    other = _other_format(path, look)
    by_content = f"; {other} by content, which changes values" if other else ""
    return Finding(kind, str(path), f"pixels of value {shown}: {allowed}{by_content}")


def sizes(dataset: Dataset, seen: Seen) -> Iterator[Finding]:
    """Masks of another size than their frame or the clip's other masks; frames of another size than the clip's others.

    What is odd is told by the size that most pictures of the clip have.
    """
    frames_of = {clip.id: clip.frames or () for clip in dataset.clips}
    masks_of = {sample.clip: sample.masks or () for sample in dataset.samples}
    everywhere = Counter(_size(seen, mask) for masks in masks_of.values() for mask in masks)
    everywhere.pop(None, None)
    for clip, frames in frames_of.items():
        masks = masks_of.get(clip, ())
        own = Counter(size for path in {*frames, *masks} if (size := _size(seen, path)))
        if not own:
            continue
        usual, count = own.most_common(1)[0]
        if 2 * count <= sum(own.values()) and everywhere:  # as many of one size as of another
            usual = max(own, key=lambda size: everywhere[size])
        for path in dict.fromkeys((*frames, *masks)):
            size = _size(seen, path)
            if path is None or size is None or size == usual:
                continue
            what = f"{size[0]} x {size[1]} pixels, others of the clip {usual[0]} x {usual[1]}"
            is_mask = path in masks
            yield Finding("mask-size" if is_mask else "frame-size", str(path), what, level=FAULT if is_mask else NOTE)


def formats(seen: Seen, strange: Collection[str]) -> Iterator[Finding]:
    """Pictures that are of another format than their names say: they are read all the same.

    Args:
        seen: what was seen.
        strange: places of the findings of `strange_values`, which say it as well.
    """
    for path, look in seen.items():
        if (other := _other_format(path, look)) and str(path) not in strange:
            yield Finding("wrong-format", str(path), f"{other} by content", level=NOTE)


def _other_format(path: Path, look: Look) -> str:
    """The format of a picture, such as `a JPEG`, where its name says another."""
    expected = _FORMATS.get(path.suffix.lower())
    other = expected and look.facts.get("format") not in (None, *expected)
    return f"a {look.facts['format']}" if other else ""


def _size(seen: Seen, path: Path | None) -> tuple[int, int] | None:
    look = seen.get(path) if path is not None else None
    size = look.facts.get("size") if look is not None else None
    return (size[0], size[1]) if size else None
