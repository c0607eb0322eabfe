"""The feature cache: plain Zarr v3 arrays beside a ledger that knows what is committed, and what it was made with.

`docs/cache-format.md` describes the files. In short: every array has one shard file per unit (a range of rows); a unit
is committed when a sealed record names its files and their hashes; what no record names does not exist.

| module | what it does |
|---|---|
| `layout` | paths, array specs |
| `documents` | sealed JSON documents, `zarr.json` |
| `durable`, `lock`, `lease` | file operations that last; locks; which writer works on which unit |
| `records`, `ledger`, `ledger_facts`, `ledger_files`, `spec` | what the ledger says |
| `compact`, `generations`, `compact_encode`, `_decode`, `_check`, `_spare` | the ledger as Parquet |
| `planner` | which clips go to which unit |
| `writer`, `unit`, `joining`, `shard`, `stream`, `values`, `content` | writing |
| `recover` | finishing what dead writers left |
| `reader`, `clips` | what readers see |
| `reading`, `pieces`, `crew`, `sources`, `files`, `copying`, `zarr_path`, `filesystem` | how rows are read |
| `verify`, `shardcheck`, `summary`, `locate` | looking after it |
"""

from avpipe.pipeline.cache.clips import ClipRows
from avpipe.pipeline.cache.layout import ArraySpec
from avpipe.pipeline.cache.locate import default_root, is_cache, newest_cache, resolve_cache
from avpipe.pipeline.cache.planner import Plan
from avpipe.pipeline.cache.reader import Cache, open_cache
from avpipe.pipeline.cache.records import PlannedClip, Quarantined, UnitWork
from avpipe.pipeline.cache.spec import Spec
from avpipe.pipeline.cache.summary import progress_of
from avpipe.pipeline.cache.unit import UnitWriter
from avpipe.pipeline.cache.verify import Fault, VerifyReport, verify
from avpipe.pipeline.cache.writer import CacheWriter

__all__ = [
    "ArraySpec",
    "Cache",
    "CacheWriter",
    "ClipRows",
    "Fault",
    "Plan",
    "PlannedClip",
    "Quarantined",
    "Spec",
    "UnitWork",
    "UnitWriter",
    "VerifyReport",
    "default_root",
    "is_cache",
    "newest_cache",
    "open_cache",
    "progress_of",
    "resolve_cache",
    "verify",
]
