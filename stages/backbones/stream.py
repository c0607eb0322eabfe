"""In which type a backbone hands tokens from block to block.

Under autocast that is float32 in a ViT, whose positions are float32; a Swin's merges may bring it down to the type of
the matrix products, stage by stage, and differently on a CPU and a GPU. So it is looked up in a pass over one picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from avpipe.stages.backbones.contract import BackboneFacts
from avpipe.stages.backbones.precision import autocast


@torch.no_grad()
def stream_types(
    facts: BackboneFacts, model: nn.Module, device: torch.device, run: Callable[[], Any]
) -> Mapping[str, torch.dtype]:
    """Type of every tap before it is stored, by name.

    Args:
        facts: of the backbone.
        model: all of it, in evaluation mode; goes to the device unless it computes in float32.
        device: the types of autocast depend on it.
        run: runs the model on something there.
    """
    found = dict.fromkeys(facts.taps, torch.float32)
    if facts.precision == "float32":
        return found

    def note(name: str, output: Any) -> None:
        found[name] = (output[0] if isinstance(output, tuple) else output).dtype

    blocks = {name: model.to(device).get_submodule(name) for name in facts.taps}
    hooks = [
        block.register_forward_hook(lambda module, given, output, name=name: note(name, output))
        for name, block in blocks.items()
    ]
    with autocast(facts.precision, device):
        run()
    for hook in hooks:
        hook.remove()
    return found
