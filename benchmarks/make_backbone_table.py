"""Writes `data_manifests/backbones.json`: what avpipe must know of each timm ViT without importing torch.

    python benchmarks/make_backbone_table.py

Every architecture is built on the meta device, so no weights are loaded and no memory is used.
"""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer

TABLE = Path(__file__).parent.parent / "data_manifests" / "backbones.json"


def describe(name: str) -> dict[str, Any] | None:
    """Facts of one architecture, or None where it is no plain ViT."""
    with torch.device("meta"):
        model = timm.create_model(name)
    if type(model) is not VisionTransformer:
        return None
    tags = {}
    for full in timm.list_pretrained(name):
        config = timm.get_pretrained_cfg(full)
        tags[full.partition(".")[2]] = {"mean": list(config.mean), "std": list(config.std)}
    return {
        "width": model.embed_dim,
        "depth": len(model.blocks),
        "patch": list(model.patch_embed.patch_size),
        "image": list(model.patch_embed.img_size),
        "prefix_tokens": model.num_prefix_tokens,
        "mean": list(model.pretrained_cfg["mean"]),
        "std": list(model.pretrained_cfg["std"]),
        "default_tag": model.pretrained_cfg.get("tag") or "",
        "tags": tags,
    }


def main() -> None:
    """Describes every ViT that this timm has, one line each."""
    names = sorted({*timm.list_models(module="vision_transformer"), *timm.list_models(module="deit")})
    facts = {name: found for name in names if (found := describe(name))}
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
    head = f'{{"timm": "{timm.__version__}", "models": {{\n'
    TABLE.write_text(head + ",\n".join(lines) + "\n}}\n")
    print(f"{len(facts)} models, {TABLE.stat().st_size:,} bytes: {TABLE}")


if __name__ == "__main__":
    main()
