"""The demo's own pretrained weights, which ship with avpipe: two tiny ViTs, one for frames, one for log-mel pictures.

They learned pictures and sounds of random kinds of objects, none of which is in demo data. `weights/weights.json`
records how they were made; `benchmarks/demo_backbones/pretrain.py` makes them again.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from avpipe.pipeline.errors import UsageError

MODEL = "test_vit"
KEYWORD = "demo"
"""What `--weights` takes for them."""
FOLDER = Path(str(files("avpipe.stages.backbones"))) / "weights"


def record(model: str, modality: str) -> dict[str, Any]:
    """How the weights were made; `sha256` is that of their tensors.

    Raises:
        UsageError: they are another model's.
    """
    if model.partition(".")[0] != MODEL:
        raise UsageError(f"--weights demo is for {MODEL}, not for {model}: give `pretrained`, a file, or `random:SEED`")
    made: dict[str, Any] = json.loads((FOLDER / "weights.json").read_text(encoding="utf-8"))[modality]
    return made


def file(modality: str) -> Path:
    """The safetensors file of a modality."""
    return FOLDER / f"{modality}.safetensors"
