"""Measuring this machine. `store`: how fast a cache is written and read, beside plain files and other Zarr readers."""
