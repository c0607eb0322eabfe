"""Demo data and the demo run.

Lifecycle of demo data: a layout (`ave`, `ms3`, `s4`, `avss`, `llp`, `avqa`) plans every clip as a `scenes.Scene`, a
pure function of the seed; `render` turns a scene into pictures, maps of what is where, and sound; `encode` writes media
files; `generate` runs it all in worker processes; `publish` puts the folder to its place, whole or not at all. `run` is
`avpipe demo`.
"""
