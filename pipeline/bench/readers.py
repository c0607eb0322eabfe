"""The readers that `bench store` compares. Each fills the same buffers with the same clips."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from avpipe.pipeline.bench.material import SEGMENTS, Material
from avpipe.pipeline.cache import ArraySpec, open_cache
from avpipe.pipeline.cache.crew import Crew
from avpipe.pipeline.cache.files import Check
from avpipe.pipeline.cache.reading import Access

Buffers = Mapping[str, np.ndarray]
"""Array name -> (segments of the clips of one read, *row_shape), C-contiguous."""


class Reader(Protocol):
    """Reads clips into buffers."""

    def read(self, clips: Sequence[int], buffers: Buffers) -> None:
        """Fills buffers with clips, one after the other."""

    def close(self) -> None:
        """Lets go of files and threads."""


class Plain:
    """Plain files without gaps, kept open: the rows of a clip in an array come with one `preadv`.

    That is `readinto` at a place, one system call less than seeking first. Uses the same threads as avpipe's reader.
    """

    def __init__(self, material: Material, threads: int) -> None:
        self._material, self._threads, self._crew = material, threads, Crew(threads)
        units = -(-material.clips // material.unit_clips)
        self._files = {(a.name, u): os.open(material.plain(a, u), os.O_RDONLY)
                       for a in material.arrays for u in range(units)}  # fmt: skip

    def read(self, clips: Sequence[int], buffers: Buffers) -> None:
        """Fills buffers with clips, one after the other."""
        work = [(array, clip, place) for array in self._material.arrays for place, clip in enumerate(clips)]
        bytes_of = {name: buffer.reshape(-1).view(np.uint8).data for name, buffer in buffers.items()}

        def copy(item: tuple[ArraySpec, int, int]) -> None:
            array, clip, place = item
            unit, local = divmod(clip, self._material.unit_clips)
            size = SEGMENTS * array.row_bytes
            target = bytes_of[array.name][place * size : (place + 1) * size]
            if os.preadv(self._files[array.name, unit], [target], local * size) != size:
                raise OSError(f"{self._material.plain(array, unit)} is short")

        self._crew.work(work, copy, self._threads)

    def close(self) -> None:
        """Lets go of files and threads."""
        self._crew.close()
        for descriptor in self._files.values():
            os.close(descriptor)


class Avpipe:
    """avpipe's own reader."""

    def __init__(self, material: Material, threads: int, check: Check, access: Access) -> None:
        self._cache, self._taps = open_cache(material.cache), [array.name for array in material.arrays]
        self._options: dict[str, Any] = {"check": check, "access": access, "threads": threads}

    def read(self, clips: Sequence[int], buffers: Buffers) -> None:
        """Fills buffers with clips, one after the other."""
        rows = self._cache.rows([f"clip{number}" for number in clips])
        self._cache.read(rows, self._taps, buffers, **self._options)

    def close(self) -> None:
        """Lets go of files and threads."""
        self._cache.close()


class ZarrPython:
    """zarr-python, one contiguous selection for each array and clip, straight into the buffer.

    Args:
        pipeline: the codec pipeline: zarr-python's own, or that of zarrs.
    """

    def __init__(self, material: Material, threads: int, pipeline: str) -> None:
        import zarr

        settings = {
            "threading.max_workers": threads,
            "async.concurrency": max(10, threads),
            "codec_pipeline.path": pipeline,
            "codec_pipeline.chunk_concurrent_maximum": threads,
        }
        rows = material.unit_rows
        self._first = {n: n // material.unit_clips * rows + n % material.unit_clips * SEGMENTS
                       for n in range(material.clips)}  # fmt: skip
        self._settings = zarr.config.set(settings)
        self._arrays: dict[str, Any] = {a.name: zarr.open_array(material.cache / a.name, mode="r")
                                        for a in material.arrays}  # fmt: skip
        self._wrap: Any = zarr.core.buffer.default_buffer_prototype().nd_buffer.from_ndarray_like

    def read(self, clips: Sequence[int], buffers: Buffers) -> None:
        """Fills buffers with clips, one after the other."""
        for name, array in self._arrays.items():
            for place, clip in enumerate(clips):
                part = buffers[name][place * SEGMENTS : (place + 1) * SEGMENTS]
                wanted = slice(self._first[clip], self._first[clip] + SEGMENTS)
                array.get_basic_selection((wanted,), out=self._wrap(part))

    def close(self) -> None:
        """Puts zarr-python's settings back."""
        self._settings.__exit__(None, None, None)


class TensorStore:
    """tensorstore: all reads of a call at once, straight into the buffer."""

    def __init__(self, material: Material, threads: int) -> None:
        import tensorstore

        self._library, limit = tensorstore, {"limit": threads}
        context = tensorstore.Context({"data_copy_concurrency": limit, "file_io_concurrency": limit})
        rows = material.unit_rows
        self._first = {n: n // material.unit_clips * rows + n % material.unit_clips * SEGMENTS
                       for n in range(material.clips)}  # fmt: skip
        self._arrays = {array.name: tensorstore.open(self._spec(material, array), read=True, context=context).result()
                        for array in material.arrays}  # fmt: skip

    def read(self, clips: Sequence[int], buffers: Buffers) -> None:
        """Fills buffers with clips, one after the other."""
        waiting = []
        for name, array in self._arrays.items():
            for place, clip in enumerate(clips):
                part = buffers[name][place * SEGMENTS : (place + 1) * SEGMENTS]
                source = array[self._first[clip] : self._first[clip] + SEGMENTS]
                target = self._library.array(part, copy=False, write=True)
                waiting.append(target.write(source.translate_to[0]))
        for future in waiting:
            future.result()

    def close(self) -> None:
        """Lets go of the files."""
        self._arrays = {}

    def _spec(self, material: Material, array: ArraySpec) -> dict[str, Any]:
        path = f"{material.cache / array.name}/"
        return {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}, "recheck_cached_data": False}


_OWN_PIPELINE = "zarr.core.codec_pipeline.BatchedCodecPipeline"
_ZARRS_PIPELINE = "zarrs.ZarrsCodecPipeline"

READERS: dict[str, tuple[str | None, Callable[[Material, int], Reader]]] = {
    "readinto": (None, Plain),
    "avpipe": (None, lambda material, threads: Avpipe(material, threads, "never", "mmap")),
    "avpipe_first": (None, lambda material, threads: Avpipe(material, threads, "first", "mmap")),
    "avpipe_crc": (None, lambda material, threads: Avpipe(material, threads, "always", "mmap")),
    "avpipe_pread": (None, lambda material, threads: Avpipe(material, threads, "never", "pread")),
    "zarr-python": ("zarr", lambda material, threads: ZarrPython(material, threads, _OWN_PIPELINE)),
    "zarrs": ("zarrs", lambda material, threads: ZarrPython(material, threads, _ZARRS_PIPELINE)),
    "tensorstore": ("tensorstore", TensorStore),
}
"""Name -> the package that it needs beside avpipe's own, and how it is opened."""


def installed() -> tuple[list[str], list[str]]:
    """Names of the readers that can be used here, and of those that cannot."""
    here, lacking = [], []
    for name, (package, _) in READERS.items():
        try:
            if package is not None:
                importlib.import_module(package)
            here.append(name)
        except ImportError:
            lacking.append(name)
    return here, lacking
