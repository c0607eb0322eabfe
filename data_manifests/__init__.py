"""Facts about each dataset, one YAML file each: classes, splits, timeline, layout, licence, how to get it.

The keys: `name`, `title`, `folder` (below `$AVPIPE_DATA` or `data/`; datasets with the same folder share a cache),
`task`, `classes` (official order), `counts` (see below), `timeline` (`segments` of a full clip, `segment_seconds`,
`frame_position`), `layout` (folders and files), `metric` (name of the default protocol), `backbones` (defaults),
`media` (default policies for short and missing media, where they are not those of all datasets),
`licence`, `citation`, `get`.

`counts` has `clips`, `samples`, `splits` (samples by split) and what else can be counted: `masks` (files), `parts`
(clips by part), `rows` (of tables of dense labels), `events` (rows that name a video, by modality and split), `videos`
(clips by split), `types` (test questions by type). Counts of other releases are in `releases`, by name. LLP has the
names in `known_rows` and `first_release_rows`, MUSIC-AVQA the printed names in `question_types`, S4 its `categories`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any


def names() -> tuple[str, ...]:
    """Names of all dataset manifests, sorted."""
    found = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml")))


@cache
def load(name: str) -> Mapping[str, Any]:
    """The manifest of one dataset; not to be changed by who gets it.

    Args:
        name: one of `names()`.

    Raises:
        KeyError: there is no such manifest.
    """
    import yaml

    if name not in names():
        raise KeyError(name)
    text = (files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")
    manifest = yaml.safe_load(text)
    assert isinstance(manifest, dict), name
    return manifest
