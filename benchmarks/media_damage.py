"""What becomes of damaged media in avpipe, in bare decord and in bare PyAV: seeded damage, 60 copies of a clip a seed.

    python benchmarks/media_damage.py                        # every kind of clip, three seeds, a Markdown table
    python benchmarks/media_damage.py h264 mp3 --seeds 0 --json

A third of the copies has five flipped bits, a third a zeroed block of 64 to 4,096 bytes, a third is cut, anywhere in
the file. Wrong: a picture whose mean absolute difference from that of the sound file is above 1 % of 255, or sound
whose error, as root mean square, is above 1 % of that of the sound file. A sign: an exception, a flag, or a mask that
says it is absent. Every file is read in a process of its own; one that crashes or hangs counts as stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from damage import sound, video
from damage.clips import CLIPS, make_clip
from damage.outcome import OUTCOMES, isolated, tally


def rows(kind: str, seeds: list[int], count: int) -> Iterator[dict[str, str | int]]:
    """One row for each reader of this kind of clip: how many copies came to which end."""
    with tempfile.TemporaryDirectory() as folder:
        made = kind.removesuffix(" sound")
        clip = make_clip(Path(folder) / f"clip{CLIPS[made].suffix}", made)
        part = video if kind in video.KINDS else sound
        readers = video.READERS if part is video else sound.readers(kind)
        for name, read in readers.items():
            found = tally(isolated(read), clip, part.differ, seeds, count)
            yield {"clip": kind, "reader": name, **{end: found[end] for end in OUTCOMES}}


def main() -> None:
    """Prints the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=[*video.KINDS, *sound.KINDS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--count", type=int, default=60, help="damaged copies a seed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = (row for kind in options.kinds for row in rows(kind, options.seeds, options.count))
    if options.json:
        print(json.dumps({"seeds": options.seeds, "copies": options.count, "rows": list(found)}, indent=1))
        return
    copies = options.count * len(options.seeds)
    print(f"{copies} damaged copies of each clip, seeds {options.seeds}\n")
    print("| Clip | Reader | unaffected | a sign | of these, output right | crashed or hung | **wrong, no sign** |")
    print("|---|---|---|---|---|---|---|")
    for row in found:
        unaffected, wrong, right, silent, stopped = (int(row[end]) for end in OUTCOMES)
        print(f"| {row['clip']} | {row['reader']} | {unaffected} | {wrong + right} | {right} | {stopped} ", end="")
        print(f"| **{silent}** ({silent / copies:.1%}) |", flush=True)


if __name__ == "__main__":
    main()
