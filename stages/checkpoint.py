"""Checkpoints as safetensors files: weights and optimizer state as flat tensors, facts as JSON in the header.

Tensor names: `model.<parameter>`, `optimizer.<parameter>.<state>`, and `rng.<device type>` for the state of torch's
random numbers. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avpipe.pipeline.errors import CorruptionFound, UsageError

FACTS = "avpipe"
_LCD = r"(distiller\.parts\.\w+)"
_MOVED = (
    (re.compile(_LCD + r"\.distillers\.(\d+)\.meta\b"), r"\1.meta.\2"),
    (
        re.compile(_LCD + r"\.distillers\.(\d+)\.(token_bias|to_query|to_key|to_value|back)\b"),
        r"\1.distillers.\2.adapt.\3",
    ),
)
"""Parameters of LCD that earlier versions named otherwise, and their names today; the formulas are the same."""


def write_atomic(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Puts `data` (or its pieces) at `path`, synced to disk: after a crash there is the old file or the new one, never
    a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.writelines((data,) if isinstance(data, bytes) else data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save(
    path: Path,
    model: nn.Module,
    facts: dict[str, Any],
    optimizer: torch.optim.Optimizer | None = None,
    *,
    random: bool = False,
) -> None:
    """Writes a checkpoint, atomically.

    Args:
        path: where to.
        model: its parameters and buffers are stored.
        facts: JSON-ready facts, such as the epoch.
        optimizer: its state is stored as well, for going on.
        random: the state of torch's random numbers is stored as well, on the CPU and on the model's device.
    """
    from safetensors.torch import save as to_bytes

    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    if optimizer is not None:
        for name, parameter in model.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}.{key}"] = value
    if random:
        tensors["rng.cpu"] = torch.get_rng_state()
        if (device := _device_of(model)).type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    flat = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomic(path, to_bytes(flat, metadata={FACTS: json.dumps(facts)}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a checkpoint, on the CPU.

    Raises:
        UsageError: no such file.
        CorruptionFound: not a checkpoint, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UsageError(f"there is no checkpoint {path}: name a folder that `avpipe train` has finished an epoch in")
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[FACTS])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118  (not a mapping)
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise CorruptionFound(f"{path} is not a sound checkpoint of avpipe ({error}): train again") from error


def restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """Puts a checkpoint's weights into `model`, and returns its facts.

    With `optimizer` its state is put there, and torch's random numbers go on from where they were stored, if they were.

    Raises:
        UsageError: no such file.
        CorruptionFound: damaged, or made for another model.
    """
    tensors, facts = _read_today(path)
    weights = _weights(tensors)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        why = textwrap.shorten(" ".join(str(error).splitlines()[1:]), 160)
        raise CorruptionFound(
            f"{path} does not fit the model of its run ({why}): restore the file, or train again"
        ) from error
    if optimizer is not None:
        _restore_optimizer(optimizer, model, tensors)
        _restore_random(_device_of(model), tensors)
    return facts


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint by parameter, on the CPU, under the names of today. Errors as `read`."""
    return _weights(_read_today(path)[0])


def _read_today(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    stored, facts = read(path)
    return {_name_today(name): value for name, value in stored.items()}, facts


def _weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}


def _name_today(name: str) -> str:
    for pattern, today in _MOVED:
        name = pattern.sub(today, name)
    return name


def _restore_random(device: torch.device, tensors: dict[str, Tensor]) -> None:
    if "rng.cpu" in tensors:
        torch.set_rng_state(tensors["rng.cpu"])
    if "rng.cuda" in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors["rng.cuda"], device)


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _restore_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Gives each parameter its state back; torch knows parameters by their place in the groups, we by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    places = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    state = {}
    for place, name in enumerate(places):
        start = f"optimizer.{name}."
        own = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        if own:
            state[place] = own
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
