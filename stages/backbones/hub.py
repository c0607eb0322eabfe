"""Hugging Face's hub: whether it can give a model's weights here, found out before anything is built. No torch.

Its own clients try again for most of a minute before they give up, with a line on the terminal for each try; here one
request with a short time-out decides.
"""

from __future__ import annotations

import os
from pathlib import Path

FILES = ("model.safetensors", "pytorch_model.bin")
"""What the weights of a repository are called."""
SECONDS = 5.0
"""How long the hub may take to answer; `HF_HUB_ETAG_TIMEOUT` sets another time."""


def cached(repository: str) -> Path | None:
    """The weights file of a repository in the cache of this machine."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(repository, name) for name in FILES)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def lacking(repository: str) -> str:
    """Why the weights of a repository cannot be had here; empty where they are cached, or the hub has the repository.

    `HF_HUB_OFFLINE`, `HF_ENDPOINT` (a mirror), `HF_HOME` and a token hold as for every client of the hub.
    """
    if cached(repository):
        return ""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    seconds = constants.HF_HUB_ETAG_TIMEOUT if "HF_HUB_ETAG_TIMEOUT" in os.environ else SECONDS
    try:
        get_hf_file_metadata(hf_hub_url(repository, "config.json"), timeout=seconds)
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set, and they are not in the cache of this machine"
    except GatedRepoError:
        return f"{repository} asks for consent on {constants.ENDPOINT}, and for a token (HF_TOKEN)"
    except RepositoryNotFoundError:
        return f"{constants.ENDPOINT} shows no {repository}"
    except Exception as error:
        return f"{constants.ENDPOINT} does not answer: {type(error).__name__}"
    return ""
