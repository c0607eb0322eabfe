"""Where the features of a run are kept while it reads them: on disk, in memory or on the GPU.

The choice never changes a result: batches are equal, bit for bit, wherever they come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from avpipe.pipeline.errors import UsageError, unknown_name

RESIDENCIES = ("auto", "disk", "ram", "gpu")
AUTO_SHARE = 0.5
"""Share of the free memory that `auto` may fill: a model, its optimizer and other programs need some too."""
ASKED_SHARE = 0.9
"""Share that may be filled where somebody asks for it by name."""
UNLIMITED = 2**60
"""Limits of a control group from here on mean that there is none."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A place for the features.

    Attributes:
        place: `disk`, `ram` or `gpu`.
        why: the reason, in words and numbers.
    """

    place: str
    why: str


def choose(wanted: str, need: int, device: torch.device) -> Choice:
    """Decides where features are kept.

    Args:
        wanted: `auto`, `disk`, `ram` or `gpu`.
        need: size of the features, bytes.
        device: where the model computes.

    Raises:
        UsageError: an unknown name, or features that do not fit where they were asked for.
    """
    if wanted not in RESIDENCIES:
        raise unknown_name("residency", wanted, RESIDENCIES)
    if wanted == "disk":
        return Choice("disk", "as asked")
    if wanted != "auto":
        return Choice(wanted, _asked(wanted, need, device))
    return _auto(need, device)


def refuse_too_large(need: int, what: str) -> None:
    """Checks that buffers fit into memory.

    Raises:
        UsageError: they do not.
    """
    if need > ASKED_SHARE * (free := free_ram()):
        raise UsageError(f"{what} take {_mib(need)}, {_mib(free)} of memory are free: use a smaller batch=")


def free_ram() -> int:
    """Memory that can be filled without swapping, bytes: what the machine has free, or less in a control group."""
    limits = [free for group in _groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")) if (free := _room(group))]
    return min([int(psutil.virtual_memory().available), *limits])


def free_gpu(device: torch.device) -> int:
    """Free memory of a CUDA device, bytes."""
    return int(torch.cuda.mem_get_info(device)[0])


def _asked(wanted: str, need: int, device: torch.device) -> str:
    if wanted == "gpu" and device.type != "cuda":
        raise UsageError(f"residency gpu needs training on a GPU, not on {device}: use --residency ram, disk or auto")
    free, what = (free_gpu(device), f"memory of {device}") if wanted == "gpu" else (free_ram(), "memory")
    if need > ASKED_SHARE * free:
        raise UsageError(
            f"residency {wanted}: {_mib(need)} of features do not fit into {_mib(free)} of free {what} (at most "
            f"{ASKED_SHARE:.0%} of it may be filled): use --residency disk, or --residency auto, which finds what fits"
        )
    return f"as asked, {_share(need, free)} of {_mib(free)} of free {what}"


def _auto(need: int, device: torch.device) -> Choice:
    tried: list[str] = []
    places = [("gpu", f"memory of {device}", free_gpu(device))] if device.type == "cuda" else []
    for place, what, free in (*places, ("ram", "memory", free_ram())):
        why = f"{_share(need, free)} of {_mib(free)} of free {what}"
        if need <= AUTO_SHARE * free:
            return Choice(place, "; ".join([*tried, why]))
        tried.append(f"{why}, more than {AUTO_SHARE:.0%}")
    return Choice("disk", "; ".join(tried))


def _share(need: int, free: int) -> str:
    return f"{need / max(1, free):.1%}"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _groups(membership: Path, mount: Path) -> list[Path]:
    """Folders of the control groups that limit this process's memory, each with those above it."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = mount / "memory" if controllers else mount
        inner = top / group.lstrip("/")
        # Inside a container the path may be that of the host, while the mount shows the container's own group.
        found += [folder for folder in (inner, *inner.parents) if folder.is_relative_to(top)]
    return found


def _room(group: Path) -> int | None:
    """Bytes that a control group may still fill, files in the page cache counted as free; None without a limit."""
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        try:
            allowed = int((group / limit).read_text())
            held = int((group / used).read_text())
            facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such file, or the word "max"
            continue
        if allowed < UNLIMITED:
            files = sum(int(facts.get(f"{kind}_file", 0)) for kind in ("active", "inactive"))
            return max(1, allowed - held + files)
    return None
