"""Mending the ledger's documents: each from its twin, or the twin from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.pipeline.cache import durable, twins
from avpipe.pipeline.cache.documents import unseal
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.lock import WriterFolder, exclusive
from avpipe.pipeline.errors import CorruptionFound


@dataclass(frozen=True)
class Mended:
    """What became of the ledger's documents.

    Attributes:
        mended: documents and twins that were put back.
        lost: documents of which no sound copy is left, with what that means.
    """

    mended: tuple[str, ...]
    lost: tuple[str, ...]


def mend_documents(layout: Layout, spares: Mapping[Path, bytes]) -> Mended:
    """Puts back every ledger document that is damaged or lost from its twin, and every twin from its document.

    Needs no sound ledger: it is run before one can be read.

    Args:
        layout: paths of the cache.
        spares: further copies of some documents, by path.
    """
    folder = WriterFolder(layout)
    mended, lost = [], []
    try:
        with exclusive(layout.planner_lock):
            for path in sorted({*twins.documents_of(layout), *twins.documents_with_twins(layout), *spares}):
                places = (path, layout.twin(path))
                found = [_sound(layout, path, place) for place in places]
                good, why = _choose([data for data in found if data is not None], spares.get(path))
                if good is None:
                    lost.append(f"{path}: {why}")
                    continue
                for place, data in zip(places, found, strict=True):
                    if data != good:
                        durable.make_folder(place.parent)
                        durable.replace(place, good, folder.fresh("mended.json"))
                        mended.append(str(place))
    finally:
        folder.close()
    return Mended(tuple(mended), tuple(lost))


def _choose(sound: list[bytes], spare: bytes | None) -> tuple[bytes | None, str]:
    """Which bytes are the document's; None, and why, where nobody can know."""
    if spare is not None and (spare in sound or not sound):
        return spare, ""
    if not sound:
        return None, "neither it nor its twin is sound"
    if len({*sound}) > 1:
        return None, "it and its twin are both whole, and say different things: one of them is another cache's"
    return sound[0], ""


def _sound(layout: Layout, path: Path, place: Path) -> bytes | None:
    """The bytes at `place` if they are the sound document that belongs at `path`."""
    try:
        data = place.read_bytes()
        content = unseal(data, place)
    except (OSError, CorruptionFound):
        return None
    return data if _home_of(layout, content) == path else None


def _home_of(layout: Layout, content: dict[str, Any]) -> Path | None:
    """Where a document belongs, by what it says."""
    try:
        if "sequence" in content:
            return layout.record(content["unit"], content["sequence"])
        if "first_unit" in content:
            return layout.plan_document(content["first_unit"])
        if "row_shape" in content:
            return layout.array_declaration(content["name"])
        if "fingerprint" in content:
            return layout.spec(content["modality"])
        return layout.cache_document if "unit_rows" in content else None
    except (TypeError, ValueError, AttributeError):
        return None
