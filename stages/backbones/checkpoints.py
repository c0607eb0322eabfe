"""Weights files: read without running anything in them, and refused in words that say what they are. No torch here."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from avpipe.pipeline.errors import UsageError
from avpipe.stages.backbones.contract import BackboneChoice

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How torch checkpoints begin that are no zip: a pickled magic number."""

Loaded = TypeVar("Loaded")


def option(choice: BackboneChoice) -> str:
    """The option that gives the weights of this modality."""
    return f"--{choice.modality}-weights"


def check_file(path: Path, choice: BackboneChoice) -> None:
    """Refuses what cannot be a weights file, without reading it.

    Raises:
        UsageError: a folder, a device, an empty file.
    """
    if path.is_dir():
        raise UsageError(f"weights {path} of {choice.model} is a folder: give a file in it with {option(choice)} FILE")
    if not path.is_file():
        raise UsageError(f"weights {path} of {choice.model} is no regular file: give one with {option(choice)} FILE")
    if path.stat().st_size == 0:
        raise UsageError(f"weights file {path} of {choice.model} is empty: give another with {option(choice)} FILE")


def read(path: Path, choice: BackboneChoice, load: Callable[[], Loaded]) -> Loaded:
    """What `load` makes of a weights file, silently.

    Args:
        path: the file.
        choice: for which it is read.
        load: reads it as safetensors, or with torch's `weights_only=True`, which makes no objects.

    Raises:
        UsageError: it is none, or a checkpoint with other objects than tensors.
    """
    check_file(path, choice)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load()
    except Exception as error:
        raise UsageError(f"weights file {path} {_what_it_is(path, choice, error)}") from error


def _what_it_is(path: Path, choice: BackboneChoice, error: Exception) -> str:
    again = f"give another with {option(choice)} FILE"
    if not _is_torch_checkpoint(path):
        return f"is no safetensors file and no torch checkpoint of plain tensors ({type(error).__name__}): {again}"
    if not (objects := _objects(path, error)):
        return f"is a torch checkpoint that is damaged or holds no tensors by name ({type(error).__name__}): {again}"
    return (
        f"is a torch checkpoint that holds more than tensors ({objects}), as training leaves them; it is not loaded, "
        "since that would run code of the file. Where you trust it, make a plain file of its tensors, with "
        '`safetensors.torch.save_file(torch.load(FILE, weights_only=False)["state_dict"], "plain.safetensors")` or '
        f"as its own training code loads it, and give that with {option(choice)} plain.safetensors"
    )


def _is_torch_checkpoint(path: Path) -> bool:
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                return any(name.rpartition("/")[2] == "data.pkl" for name in archive.namelist())
        except (zipfile.BadZipFile, OSError):
            return False
    with path.open("rb") as file:
        return file.read(len(_LEGACY)) == _LEGACY


def _objects(path: Path, error: Exception) -> str:
    """Names of the objects in a torch checkpoint that are no tensors, read off without making them."""
    from torch.serialization import get_unsafe_globals_in_checkpoint

    try:
        names = sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # the older kind cannot be listed
        said = str(error)
        return "of kinds that cannot be listed" if "pickle" in said or "GLOBAL" in said else ""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
