"""Where the weights of HTS-AT and CLAP come from: the hub, a folder as transformers writes it, a file. No torch."""

from __future__ import annotations

import json
from pathlib import Path

from avpipe.pipeline.errors import EnvironmentLacking, UsageError
from avpipe.stages.backbones import hub
from avpipe.stages.backbones.checkpoints import check_file
from avpipe.stages.backbones.contract import BackboneChoice

CHECKPOINT = "HTSAT_AudioSet_Saved_1.ckpt"


def check(choice: BackboneChoice, repository: str) -> None:
    """Refuses weights that are known to be lacking, without loading any.

    Args:
        choice: the model asked for.
        repository: that the hub has of it; "" where it has none.

    Raises:
        UsageError: what was given is no weights file, or no folder of a CLAP model.
        EnvironmentLacking: the hub has none, or is out of reach.
    """
    if choice.seed is not None:
        return
    if choice.weights != "pretrained":
        weights_file(Path(choice.weights), choice)
    elif not repository:
        raise EnvironmentLacking(
            f"no hub has the weights of {choice.model}: download {CHECKPOINT}, to which the README of "
            "RetroCirce/HTS-Audio-Transformer on GitHub leads, and give it with --audio-weights FILE; or ask for "
            "random ones with --audio-weights random:SEED"
        )
    elif why := hub.lacking(repository):
        raise _out_of_reach(choice.model, repository, why)


def _out_of_reach(model: str, repository: str, why: str) -> EnvironmentLacking:
    return EnvironmentLacking(
        f"pretrained weights of {model} cannot be had here ({why}): download config.json and {hub.FILES[0]} of "
        f"{repository} on a machine with internet access and give their folder with --audio-weights FOLDER, or ask "
        "for random weights with --audio-weights random:SEED"
    )


def fetch(choice: BackboneChoice, repository: str) -> Path:
    """File of the pretrained weights: in the hub's cache on this machine, or downloaded into it.

    Raises:
        EnvironmentLacking: as `check`.
    """
    check(choice, repository)
    found = hub.cached(repository)
    if found is not None:
        return found
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        try:
            return Path(hf_hub_download(repository, hub.FILES[0]))
        except EntryNotFoundError:
            return Path(hf_hub_download(repository, hub.FILES[1]))
    except Exception as error:
        raise _out_of_reach(choice.model, repository, type(error).__name__) from error


def weights_file(path: Path, choice: BackboneChoice) -> Path:
    """The weights file that was given, or that lies in the folder that was given.

    Raises:
        UsageError: there is none.
    """
    if not path.is_dir():
        check_file(path, choice)
        return path
    give = "give that of a CLAP model, or a file, with --audio-weights"
    try:
        kind = json.loads((path / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"weights folder {path} has no readable config.json: {give}") from error
    if kind not in ("clap", "clap_audio_model"):
        raise UsageError(f"weights folder {path} holds a model of type {kind!r}: {give}")
    for name in hub.FILES:
        if (path / name).is_file():
            return path / name
    raise UsageError(f"weights folder {path} has neither {' nor '.join(hub.FILES)}: {give}")
