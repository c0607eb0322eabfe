"""Presets: settings of a known run by name, each a YAML file in this folder with its commands on top.

    preset = load_preset("mettle-ave")

A preset of the user's own is such a file anywhere. A new one here is one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.pipeline.errors import UsageError, shown, unknown_name

FOLDER = Path(__file__).parent
SUFFIX = ".yaml"
_KEYS = ("title", "dataset", "settings")


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings with a name.

    Attributes:
        name: of the file, without its ending.
        path: the file.
        title: what it is, in a line.
        dataset: the dataset that it is for; "" where it does not say.
        settings: settings of the training, not checked yet; see `config.TrainConfig`.
    """

    name: str
    path: Path
    title: str
    dataset: str
    settings: dict[str, Any]


def preset_names() -> list[str]:
    """Names of the presets that ship with avpipe."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def load_preset(name: str) -> Preset:
    """Reads a preset.

    Args:
        name: one of `preset_names()`, or the path of a file that ends in `.yaml` or `.yml`.

    Raises:
        UsageError: there is none of that name, the file cannot be read, or it has unknown keys; the nearest is named.
    """
    if name in preset_names():
        path = FOLDER / f"{name}{SUFFIX}"
    elif name.endswith((SUFFIX, ".yml")):
        path = Path(name)
    else:
        known = preset_names()
        raise unknown_name("preset", name, known, listing=f"known: {', '.join(known)}, or a YAML file")
    content = _content(path)
    for key in content:
        if key not in _KEYS:
            raise unknown_name(f"key in preset {path}", str(key), _KEYS)
    for key in ("title", "dataset"):
        if not isinstance(content.get(key, ""), str):
            raise UsageError(f"preset {path}: {key} is {shown(content[key])}, expected a text")
    settings = content.get("settings", {})
    if not isinstance(settings, dict):
        raise UsageError(f"preset {path}: settings is {shown(settings)}, expected lines such as `epochs: 50`")
    return Preset(
        path.stem, path, content.get("title", ""), content.get("dataset", ""), {str(k): v for k, v in settings.items()}
    )


def _content(path: Path) -> Mapping[Any, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(
            f"preset {path} cannot be read ({error.strerror}): name a YAML file, or one of {', '.join(preset_names())}"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"preset {path} is no YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"preset {path} holds {type(content).__name__}, expected keys: {', '.join(_KEYS)}")
    return content
