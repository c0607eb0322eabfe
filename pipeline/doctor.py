"""Facts about this machine that explain most troubles: versions, decoders, GPU, memory, disk."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("avpipe", "torch", "timm", "numpy", "zarr", "decord", "av", "torchcodec", "soundfile"),
    *("dask", "distributed", "safetensors", "typer"),
)
DECODERS = {"decord": "decord", "pyav": "av", "torchcodec": "torchcodec", "soundfile": "soundfile"}
_FURTHER_CHECKS = {  # what importing alone does not tell
    "torchcodec": "torchcodec.ffmpeg_major_version or exit('FFmpeg with its shared libraries is lacking: apt-get "
    "install ffmpeg')"
}
GPU_PROBE = (
    "import torch; print(', '.join(f'{torch.cuda.get_device_name(i)} "
    "({torch.cuda.get_device_properties(i).total_memory / 2**30:.0f} GiB)' for i in range(torch.cuda.device_count())))"
)
PROBE_BYTES = 64 * 2**20
PROBE_SECONDS = 60


def examine(folder: Path) -> dict[str, Any]:
    """Looks at this machine.

    Args:
        folder: where caches would go; its file system is measured with one file of 64 MiB.

    Returns:
        JSON-ready: `python`, `platform`, `packages`, `decoders`, `gpu`, `cores`, `memory_bytes`, `disk`, `lacking`.
    """
    decoders = {name: _import_works(module) for name, module in DECODERS.items()}
    lacking = [] if decoders["decord"] == "ok" or decoders["pyav"] == "ok" else ["a video decoder: pip install av"]
    disk = _disk(folder)
    lacking += [disk["error"]] if "error" in disk else []
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "decoders": decoders,
        "gpu": _gpu(),
        "cores": cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disk": disk,
        "lacking": lacking,
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _import_works(module: str) -> str:
    """Imports in a child, so that a broken native library cannot take this process with it."""
    code = f"import {module}; {_FURTHER_CHECKS.get(module, '')}"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer within {PROBE_SECONDS} s"
    if done.returncode == 0:
        return "ok"
    if "ModuleNotFoundError" in done.stderr:
        return "not installed"
    return (done.stderr.strip().splitlines() or [f"died with exit code {done.returncode}"])[-1]


def _gpu() -> str:
    try:
        done = subprocess.run([sys.executable, "-c", GPU_PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return f"torch gave no answer within {PROBE_SECONDS} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["torch cannot be imported"])[-1]
    return done.stdout.strip() or "none"


def _disk(folder: Path) -> dict[str, Any]:
    """Free bytes, and the speed of writing with fsync and of reading back from memory."""
    existing = folder.resolve()
    while not existing.exists():
        existing = existing.parent
    facts: dict[str, Any] = {"folder": str(existing), "free_bytes": shutil.disk_usage(existing).free}
    block = os.urandom(2**20)
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            begun = time.perf_counter()
            for _ in range(PROBE_BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            facts["write_fsync_mb_s"] = round(PROBE_BYTES / 1e6 / (time.perf_counter() - begun), 1)
            file.seek(0)
            begun = time.perf_counter()
            while file.read(len(block)):
                pass
            facts["read_warm_mb_s"] = round(PROBE_BYTES / 1e6 / (time.perf_counter() - begun), 1)
    except OSError as error:
        facts["error"] = f"{existing} cannot be written: {error.strerror}"
    return facts
