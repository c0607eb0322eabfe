"""How opening a cache scales with its number of clips: seconds and memory of each way to know what it holds.

    python benchmarks/ledger_scale.py                     # 10^4, 10^5 and 10^6 clips
    python benchmarks/ledger_scale.py --clips 1000 --json

The records are synthetic (60 clips of 10 segments in a unit, 14 arrays), the code that writes and reads them is
avpipe's own; there are no shard files. Each way runs in a process of its own; look at the CPU time where others use the
machine too:

    json       open the ledger from its JSON documents
    compact    write a generation of the compacted ledger
    open       open the ledger when there is one
    load       the generation alone, as Python objects
    columnar   the generation as Arrow columns, with what opening needs: every clip's last unit and the content hash
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from avpipe.pipeline.cache.compact import compact, load
from avpipe.pipeline.cache.documents import seal
from avpipe.pipeline.cache.generations import parquet_files
from avpipe.pipeline.cache.layout import ArraySpec, Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.ledger_files import refuse
from avpipe.pipeline.cache.records import CommittedClip, CommittedFile, Record
from avpipe.pipeline.cache.spec import Spec
from avpipe.pipeline.cache.twins import documents_of

CLIPS, SEGMENTS = 60, 10
ARRAYS = [
    *(ArraySpec(f"visual/blocks.{block}", (197, 768), "float16") for block in range(6, 12)),
    *(ArraySpec(f"audio/blocks.{block}", (197, 768), "float16") for block in range(6, 12)),
    ArraySpec("visual/frames", (224, 224, 3), "uint8"),
    ArraySpec("audio/samples", (16_000,), "int16"),
]
LINE = "{clips:>9,} {way:9} {seconds:8.2f} s {cpu_seconds:8.2f} s of CPU {held_mb:8.0f} MB held {peak_mb:8.0f} MB peak"
PLANNED_AT_ONCE = 1000
"""Units of one plan document."""
PROVENANCE = {"frames": "decord 0.6.0", "audio": "pyav 16.0.1", "torch": "2.9.1", "device": "cpu", "dtype": "float32"}


def make(layout: Layout, count: int) -> None:
    """Writes the ledger of a cache of `count` clips."""
    rows, units = CLIPS * SEGMENTS, -(-count // CLIPS)
    for folder in (layout.arrays, layout.plan, layout.records, layout.temporaries):
        folder.mkdir(parents=True)
    info = {"format": 1, "unit_rows": rows, "created": time.time(), "dataset": {"name": "synthetic"}}
    layout.cache_document.write_bytes(seal(info))
    for modality in ("visual", "audio"):
        layout.spec(modality).write_bytes(seal(Spec.of(modality, {"weights": "none"}, {}).as_json()))
    for array in ARRAYS:
        layout.array_declaration(array.name).write_bytes(seal(array.as_json()))
    plan = []
    for unit in range(units):
        numbers = range(unit * CLIPS, min(count, (unit + 1) * CLIPS))
        names = [f"{xxhash.xxh64_hexdigest(number.to_bytes(8))[:11]}_{number:07d}" for number in numbers]
        plan.append([[name, unit * rows + i * SEGMENTS, SEGMENTS] for i, name in enumerate(names)])
        layout.record(unit, 0).write_bytes(seal(_record(unit, plan[-1]).as_json()))
    for first in range(0, units, PLANNED_AT_ONCE):
        document = {"first_unit": first, "units": plan[first : first + PLANNED_AT_ONCE]}
        layout.plan_document(first).write_bytes(seal(document))
    for path in documents_of(layout):
        twin = layout.twin(path)
        twin.parent.mkdir(parents=True, exist_ok=True)
        twin.hardlink_to(path)


def _record(unit: int, planned: list[list[Any]]) -> Record:
    writer = f"node17-{4000 + unit % 8}-{unit % 8:08x}"
    masks = {"visual": "1" * SEGMENTS, "audio": "1" * SEGMENTS}
    clips = [
        CommittedClip(
            id=name,
            start=start,
            segments=segments,
            signature=f"{xxhash.xxh32_intdigest(name.encode())} {1700000000000000000 + start}",
            masks=masks if start % 170 else {**masks, "audio": "1" * (SEGMENTS - 1) + "0"},
            provenance=PROVENANCE,
            content=xxhash.xxh3_128_intdigest(name.encode()),
        )
        for name, start, segments in planned
    ]
    files = [_file(array, unit, writer, number) for number, array in enumerate(ARRAYS)]
    work = {"decode": 31.25 + unit % 7, "backbone": 28.5, "write": 0.75}
    return Record(unit, 0, writer, 1.7e9 + unit, 1.7e9 + unit + 60.5, work, tuple(clips), (), tuple(files))


def _file(array: ArraySpec, unit: int, writer: str, number: int) -> CommittedFile:
    name = f"{unit}-{array.modality}.{array.tap}"
    digest = xxhash.xxh3_128_hexdigest(name.encode())
    size = CLIPS * SEGMENTS * (array.row_bytes + 4)
    return CommittedFile(array.name, f"{writer}/{number:04d}-{name}", array.shard_key(unit), size, digest, digest[::-1])


def from_columns(layout: Layout) -> dict[str, Any]:
    """What a ledger of columns would keep, and what it would work out when it is opened."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = parquet_files(layout, 1)[0].read_bytes()
    xxhash.xxh3_128_hexdigest(data)
    table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False).combine_chunks()
    column = table.column("clips").chunk(0)
    clips = column.flatten()
    ids = clips.field("id").dictionary_encode()
    units = np.repeat(table.column("unit").to_numpy(), column.value_lengths().to_numpy())
    home = np.full(len(ids.dictionary), -1, np.int64)
    np.maximum.at(home, ids.indices.to_numpy(), units)
    words = np.frombuffer(clips.field("content").buffers()[1], ">u4").reshape(-1, 4).sum(axis=0, dtype=np.uint64)
    total = sum(int(word) << shift for word, shift in zip(words, (96, 64, 32, 0), strict=True)) % (1 << 128)
    return {"table": table, "ids": ids, "home": home, "content_hash": f"{total:032x}"}


WAYS: dict[str, Callable[[Layout], Any]] = {
    "json": lambda layout: Ledger(layout, compacted=False),
    "compact": lambda layout: compact(layout, Ledger(layout)),
    "open": Ledger,
    "load": lambda layout: load(layout, refuse),
    "columnar": from_columns,
}


def _measure(way: str, layout: Layout) -> dict[str, float]:
    if way in ("compact", "load", "columnar"):
        import pyarrow.parquet  # noqa: F401  # its import is a fixed cost, measured apart
    before = _resident()
    start, start_cpu = time.perf_counter(), time.process_time()
    result = WAYS[way](layout)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    held = _resident() - before
    assert result
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "held_mb": held, "peak_mb": peak}


def _resident() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main() -> None:
    """Measures each way for each number of clips."""
    parser = argparse.ArgumentParser(description="Seconds and memory of opening a cache, by number of clips.")
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(_measure(options.measure[0], Layout(Path(options.measure[1])))))
        return
    rows = []
    for count in options.clips:
        with tempfile.TemporaryDirectory() as folder:
            layout = Layout(Path(folder, "cache"))
            make(layout, count)
            for way in WAYS:
                command = [sys.executable, __file__, "--measure", way, str(layout.root)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                rows.append({"clips": count, "way": way, **json.loads(done.stdout)})
                if not options.json:
                    print(LINE.format(**rows[-1]))
            sizes = {path.name: path.stat().st_size / 1e6 for path in parquet_files(layout, 1)}
            documents = sum(path.stat().st_size for path in layout.records.iterdir()) / 1e6
            rows[-1] |= {"parquet_mb": sum(sizes.values()), "json_mb": documents}
            if not options.json:
                print(f"{count:>9,} {documents:.1f} MB of records as JSON, {sizes} MB")
    if options.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
