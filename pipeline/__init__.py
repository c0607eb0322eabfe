"""The data engine: manifests, media, the feature cache and its ledger. Nothing in here imports torch.

Importing this package is cheap: `open_cache` is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache, open_cache

__all__ = ["Cache", "open_cache"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from avpipe.pipeline import cache

        return getattr(cache, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
