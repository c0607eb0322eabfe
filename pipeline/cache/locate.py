"""Finding the cache that a command means."""

from __future__ import annotations

import os
from pathlib import Path

from avpipe.pipeline import progress
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.errors import UsageError


def default_root() -> Path:
    """Where caches live: `$AVPIPE_CACHE`, or `./cache`."""
    return Path(os.environ.get("AVPIPE_CACHE") or "cache")


def newest_cache() -> Path:
    """The cache at the default root: the root itself, or else the one below it that was written to last.

    Raises:
        UsageError: there is none; says what was looked for.
    """
    root = default_root()
    if is_cache(root):
        return root
    below = [path for path in root.iterdir() if is_cache(path)] if root.is_dir() else []
    if not below:
        raise UsageError(
            f"no cache found: looked for {root} and for folders in it that hold ledger/cache.json; "
            "make one with `avpipe extract --dataset NAME`, or name one with --cache or $AVPIPE_CACHE"
        )
    return max(below, key=_last_written)


def resolve_cache(option: Path | None) -> Path:
    """The cache that `--cache` names, or else the newest one, which is then named on stderr.

    Args:
        option: value of `--cache`, None where it was not given.
    """
    if option is not None:
        if not is_cache(option):
            raise UsageError(
                f"{option} is no cache: {Layout(option).cache_document} is missing; `avpipe extract` makes one"
            )
        return option
    path = newest_cache()
    progress.say(f"cache: {path}")
    return path


def is_cache(path: Path) -> bool:
    """Whether a folder is a cache, sound or damaged."""
    return Layout(path).cache_document.exists() or Layout(path).has_documents()


def _last_written(path: Path) -> float:
    layout = Layout(path)
    return max(
        (p.stat().st_mtime for p in (layout.records, layout.plan, layout.cache_document) if p.exists()), default=0.0
    )
