"""`avpipe.yaml` in a dataset's folder: defaults for this copy of the data, and how demo data was made.

backbones:
  visual: {model: test_vit, weights: "random:0", image_size: 160}
  audio: {model: test_vit, weights: "random:1"}
  layers: "last:4"
media: {short_clip: repeat, missing_audio: silence}
demo:
  avsbench-ms3: {seed: 0, clips: 60, generator: 1}
  avsbench-s4: {seed: 0, clips: 60, generator: 1}

`media` names policies for short and missing media (docs/policies.md).
Subsets of one dataset lie in one folder, so `demo` has a record for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.media.policies import CHOICES, Policies

FILE_NAME = "avpipe.yaml"

DEMO_NAMES = ("ave", "avsbench-ms3", "avsbench-s4", "avsbench-avss", "llp", "music-avqa")
"""Datasets of which there is demo data."""

_RECORD_KEYS = {"seed": int, "clips": int, "generator": int}
_MODEL_KEYS = {"model": str, "weights": str, "image_size": int}
_KEYS: Mapping[str, Mapping[str, Any]] = {
    "backbones": {"visual": _MODEL_KEYS, "audio": {"model": str, "weights": str}, "layers": str},
    "media": dict.fromkeys(CHOICES, str),
    "demo": dict.fromkeys(DEMO_NAMES, _RECORD_KEYS),
}


def read_overrides(root: Path) -> dict[str, Any]:
    """Reads and checks the `avpipe.yaml` of a dataset's folder.

    Args:
        root: the dataset's folder.

    Returns:
        The file's content, empty where there is no file.

    Raises:
        UsageError: not YAML, a key or a policy that is not known, or a value of the wrong type.
    """
    path = root / FILE_NAME
    if not path.is_file():
        return {}
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a YAML file: {' '.join(str(error).split())}; repair or remove it") from error
    if content is None:
        return {}
    if isinstance(content, dict) and isinstance(content.get("demo"), dict) and "dataset" in content["demo"]:
        raise UsageError(f"{path}: demo data of an older version: remove {root} and its cache, and make them again")
    _check(content, _KEYS, path, "")
    _check_names(content.get("media", {}), path)
    assert isinstance(content, dict)
    return content


def check_backbones(value: object, path: Path) -> None:
    """Checks default backbones that another file (`path`) names in the same form.

    Raises:
        UsageError: a key that is not known, or a value of the wrong type.
    """
    _check(value, _KEYS["backbones"], path, "backbones")


def check_media(value: object, path: Path) -> None:
    """Checks policies that another file (`path`) names in the same form.

    Raises:
        UsageError: a key or a policy that is not known.
    """
    _check(value, _KEYS["media"], path, "media")
    assert isinstance(value, dict)
    _check_names(value, path)


def _check_names(media: Mapping[str, str], path: Path) -> None:
    try:
        Policies(**media)
    except UsageError as error:
        raise UsageError(f"{path}: media: {error}") from error


def _check(value: object, expected: Any, path: Path, where: str) -> None:
    """Compares a value with what is expected there: a type, or a mapping of keys to what is expected below each."""
    if isinstance(expected, type):
        if type(value) is not expected:
            raise UsageError(f"{path}: {where} is {value!r}, expected {_KINDS[expected]}")
        return
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {where or 'the file'} is {value!r}, expected keys: {', '.join(expected)}")
    for key, below in value.items():
        if key not in expected:
            raise UsageError(
                f"{path}: {unknown_name('key', _dotted(where, key), [_dotted(where, k) for k in expected])}"
            )
        _check(below, expected[key], path, _dotted(where, key))


_KINDS = {str: "a text", int: "a whole number"}


def _dotted(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)
