"""Datasets in their layouts on disk: found, parsed and checked, without reading any media.

    dataset = load_dataset("ave")
    dataset.split("train")

A new dataset is one file here with a function under `@register`, and one YAML file in `data_manifests/`.
"""

from __future__ import annotations

from avpipe.pipeline.datasets import ave as _ave  # noqa: F401  (registers itself)
from avpipe.pipeline.datasets import avsbench as _avsbench  # noqa: F401  (its subsets register themselves, too)
from avpipe.pipeline.datasets import llp as _llp  # noqa: F401
from avpipe.pipeline.datasets import music_avqa as _music_avqa  # noqa: F401
from avpipe.pipeline.datasets.masks import read_mask, read_semantic_mask, stray_values
from avpipe.pipeline.datasets.overrides import FILE_NAME, read_overrides
from avpipe.pipeline.datasets.registry import (
    DEFAULT_FOLDER,
    candidates,
    find,
    folder,
    load_dataset,
    locate,
    longest_clip,
    manifest_of,
    names,
    register,
)

__all__ = [
    "DEFAULT_FOLDER",
    "FILE_NAME",
    "candidates",
    "find",
    "folder",
    "load_dataset",
    "locate",
    "longest_clip",
    "manifest_of",
    "names",
    "read_mask",
    "read_overrides",
    "read_semantic_mask",
    "register",
    "stray_values",
]
