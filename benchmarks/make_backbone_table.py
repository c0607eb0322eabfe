"""Writes `data_manifests/backbones.json`: what avpipe must know of each timm model without importing torch.

    python benchmarks/make_backbone_table.py

Every model is built on the meta device, so no weights are loaded and no memory is used; it takes a minute or two.
Models with a convolutional stem in front of their patches are left out.
"""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed

from avpipe.stages.backbones.timm_table import KINDS

TABLE = Path(__file__).parent.parent / "data_manifests" / "backbones.json"
MODULES = ("vision_transformer", "deit", "eva", "swin_transformer", "swin_transformer_v2")


def describe(name: str, norms: list[Any]) -> dict[str, Any] | None:
    """Facts of one architecture, or None where it is of no kind that avpipe loads; adds to `norms`."""
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
    kind = KINDS.get(type(model).__name__)
    if kind is None or not isinstance(model.patch_embed, PatchEmbed):
        return None
    configs = {full.partition(".")[2]: timm.get_pretrained_cfg(full) for full in timm.list_pretrained(name)}
    stages = list(model.layers) if kind.startswith("swin") else [model]
    return {
        "kind": kind,
        "blocks": [len(stage.blocks) for stage in stages],
        "widths": [stage.blocks[0].dim for stage in stages] if kind.startswith("swin") else [model.embed_dim],
        "patch": list(model.patch_embed.patch_size),
        "image": list(model.patch_embed.img_size),
        "prefix_tokens": getattr(model, "num_prefix_tokens", 0),
        "norm": _number(norms, model.pretrained_cfg["mean"], model.pretrained_cfg["std"]),
        "default_tag": model.pretrained_cfg.get("tag") or "",
        "tags": {tag: _number(norms, config.mean, config.std) for tag, config in configs.items()},
    }


def _number(norms: list[Any], mean: Any, std: Any) -> int:
    """Place of a mean and deviation in the list of all, which is put there if it is new."""
    pair = [list(mean), list(std)]
    if pair not in norms:
        norms.append(pair)
    return norms.index(pair)


def main() -> None:
    """Describes every model that this timm has, one line each."""
    names = sorted({name for module in MODULES for name in timm.list_models(module=module)})
    norms: list[Any] = []
    facts = {name: found for name in names if (found := describe(name, norms))}
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
    head = f'{{"timm": "{timm.__version__}", "norms": {json.dumps(norms)}, "models": {{\n'
    TABLE.write_text(head + ",\n".join(lines) + "\n}}\n")
    print(f"{len(facts)} models, {TABLE.stat().st_size:,} bytes: {TABLE}")


if __name__ == "__main__":
    main()
