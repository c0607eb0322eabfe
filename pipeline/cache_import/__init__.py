"""Features that others have released become taps of a cache: `avpipe cache import`; see docs/importing.md.

| module | what it does |
|---|---|
| `loading` | the dataset that is meant |
| `npy` | rows of an npy array in a file, read as they are asked for |
| `tables` | many clips in one h5, npy or npz file, a clip a row |
| `names` | under which file names and in which rows a clip's features are looked for |
| `sources` | a folder of npy files or a table, as features by clip |
| `axes` | from an array of features to the tokens of each segment |
| `taps` | what is imported as which array, found by looking at some clips |
| `writing` | the features of one clip, into its unit |
| `importer` | the import: plan, units, summary |
"""

from avpipe.pipeline.cache_import.importer import ImportSummary, import_features
from avpipe.pipeline.cache_import.loading import load_for_import
from avpipe.pipeline.cache_import.taps import SourceRequest, parse_source

__all__ = ["ImportSummary", "SourceRequest", "import_features", "load_for_import", "parse_source"]
