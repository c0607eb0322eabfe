"""The `avpipe extract` command that adds what a cache lacks, ready to paste."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.pipeline.datasets.own import is_own
from avpipe.stages.backbones import BackboneChoice
from avpipe.stages.taps import USUAL_CODEC

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache


def adding_command(
    cache: Cache, modality: str, wanted: Sequence[str], *, name: str = "", root: str | Path = "", codec: str = ""
) -> str:
    """The command that adds layers of one modality to a cache, with the backbone that the cache was made with.

    Args:
        cache: the cache; its features of the modality come from a backbone.
        modality: `visual` or `audio`.
        wanted: options that say which layers, such as `("--layers", "stages")`.
        name: dataset whose clips get them; "": the one that the cache was begun with.
        root: its folder; "": the one that the cache notes.
        codec: storage type; "": the usual one.
    """
    origin, choice = cache.dataset, BackboneChoice.from_request(cache.specs[modality].request)
    name, root = name or str(origin.get("name", "NAME")), str(root or origin.get("root", ""))
    if is_own(name):  # a table is named with its folder
        name, root = str(Path(root) / name), ""
    usual = BackboneChoice(modality, choice.model)
    options = {
        "--dataset": name,
        "--root": root,
        "--cache": str(cache.path),
        "--modality": modality,
        f"--{modality}": choice.model,
        f"--{modality}-weights": choice.weights,
        "--image-size": str(choice.image_size or ""),
        "--audio-front-end": choice.front_end or "",
        "--audio-window": choice.window if choice.window != usual.window else "",
        "--precision": choice.precision if choice.precision != usual.precision else "",
        "--dtype": codec if codec != USUAL_CODEC else "",
    }
    given = [word for option, value in options.items() if value for word in (option, value)]
    return shlex.join(["avpipe", "extract", *given, *wanted])
