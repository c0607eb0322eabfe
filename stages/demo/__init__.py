"""Demo data and the demo run.

Lifecycle of demo data: a layout (`ave`, `ms3`) plans every clip as a `scenes.Scene`, a pure function of the seed;
`render` turns a scene into pictures, maps of what is where, and sound; `encode` writes media files; `generate` runs it
all and publishes the folder.
"""
