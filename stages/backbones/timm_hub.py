"""Pretrained weights of timm's models: whether they can be had, and the models with them."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from avpipe.pipeline.errors import EnvironmentLacking
from avpipe.stages.backbones import hub
from avpipe.stages.backbones.contract import BackboneChoice
from avpipe.stages.backbones.timm_table import Entry


def check_pretrained(choice: BackboneChoice, entry: Entry) -> None:
    """Finds out, without building or downloading anything, whether pretrained weights can be had.

    Raises:
        EnvironmentLacking: they cannot.
    """
    repository = _repository(choice, entry)
    if not entry.tags:
        raise EnvironmentLacking(
            f"no hub has weights of {choice.model}: give a file with --{choice.modality}-weights FILE, or ask for "
            f"random weights with --{choice.modality}-weights random:SEED"
        )
    if repository and (why := hub.lacking(repository)):
        raise _out_of_reach(choice, repository, why)


def _on_hub(choice: BackboneChoice, entry: Entry) -> str:
    """What timm calls the weights."""
    tag = choice.model.partition(".")[2] or entry.default_tag
    return entry.hub.format(tag=tag) or choice.model


def _repository(choice: BackboneChoice, entry: Entry) -> str:
    """The hub's repository of the weights; empty where there is none, or timm knows a plain address instead."""
    if entry.hub:
        return _on_hub(choice, entry).removeprefix("hf_hub:")
    known = timm.get_pretrained_cfg(choice.model)
    return (known.hf_hub_id or "") if known else ""


def _out_of_reach(choice: BackboneChoice, repository: str, why: str) -> EnvironmentLacking:
    file = f"{hub.FILES[0]} of {repository}" if repository else "them"
    return EnvironmentLacking(
        f"pretrained weights of {choice.model} cannot be had here ({why}): download {file} on a machine with internet "
        f"access and give the file with --{choice.modality}-weights FILE, or ask for random weights with "
        f"--{choice.modality}-weights random:SEED"
    )


def create_pretrained(choice: BackboneChoice, entry: Entry, given: dict[str, Any]) -> nn.Module:
    """The model with pretrained weights, downloaded if need be.

    Args:
        choice: the backbone asked for.
        entry: what the table says of the model.
        given: what timm builds it with.

    Raises:
        EnvironmentLacking: they cannot be had here.
    """
    check_pretrained(choice, entry)
    try:
        model: nn.Module = timm.create_model(_on_hub(choice, entry), pretrained=True, **given)
    except Exception as error:
        raise _out_of_reach(choice, _repository(choice, entry), type(error).__name__) from error
    return model
