"""How far the decoders of video frames differ from PyAV, file by file.

    python benchmarks/decoder_agreement.py FOLDER

Prints the mean absolute difference of 4 pictures of 64 x 64 pixels, of 255; `pyav` where PyAV had to step in.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from avpipe.pipeline.errors import AvpipeError, InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import MediaSpec, decode_clip
from avpipe.pipeline.media.readers import READERS
from avpipe.pipeline.timeline import Timeline

OTHERS = [name for name in READERS if name != "pyav"]


def frames(path: Path, decoder: str) -> tuple[np.ndarray, str]:
    """Four pictures of the first second, and who decoded them."""
    spec = MediaSpec(Timeline(segment_seconds=0.25), (64, 64), audio=False, decoder=decoder)
    found = decode_clip(Clip(path.name, 4, video=path), spec)
    assert found.frames is not None
    return found.frames.astype(int), found.provenance["frames"].split()[0]


def row(path: Path) -> str:
    """What each decoder says of a file."""
    right, _ = frames(path, "pyav")
    cells = []
    for decoder in OTHERS:
        try:
            theirs, who = frames(path, decoder)
            cells.append(f"{np.abs(theirs - right).mean():.2f}" if who == decoder else who)
        except AvpipeError as error:
            cells.append(type(error).__name__)
    return "  ".join(f"{cell:>10}" for cell in [*cells, path.name])


def main(folder: Path) -> None:
    """Prints the table."""
    print("  ".join(f"{cell:>10}" for cell in [*OTHERS, "file"]))
    for path in sorted(folder.iterdir()):
        try:
            print(row(path))
        except InputRejected:
            continue  # no video


if __name__ == "__main__":
    main(Path(sys.argv[1]))
