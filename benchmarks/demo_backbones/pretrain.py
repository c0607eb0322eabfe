"""Pretrains the demo's two tiny backbones from nothing, and writes them with a summary of how they were made.

    OMP_NUM_THREADS=1 python benchmarks/demo_backbones/pretrain.py --out stages/backbones/weights --measure-every 1

Visual: which kind covers each patch (cross-entropy on patch tokens) and which kinds are in the picture (class token).
Audio: which kinds sound in a second (class token, and again the mean of the patch tokens). Kinds, pictures and sounds
come from `kinds.py` and `data.py`: the demo's kinds and clips are not among them. They are painted and heard by the
demo's own camera and microphone, so it is the same world with other things in it. Accuracy is
measured on fresh pictures and sounds of the same random kinds. On one machine with the same number of threads a seed
gives the same weights.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import data
import numpy as np
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of
from avpipe.stages.backbones.timm_model import make_front_end
from avpipe.stages.backbones.timm_weights import hash_tensors

MODEL = "test_vit"
CHUNK = 500
HELD_OUT = 1_000
BACKDROP_WEIGHT = 0.3
"""Weight of patches without an object, which are six of seven."""


class Student(nn.Module):
    """The backbone and the heads that are thrown away afterwards."""

    def __init__(self, modality: str) -> None:
        super().__init__()
        choice = BackboneChoice(modality, MODEL, "random:0", data.SIDE if modality == "visual" else None)
        facts = facts_of(choice, Timeline(1.0, 0.5))
        self.front = make_front_end(facts)
        self.backbone = timm.create_model(
            MODEL, num_classes=0, img_size=facts.input_size, in_chans=3 if modality == "visual" else 1
        )
        self.from_class = nn.Linear(self.backbone.embed_dim, data.KINDS)
        self.from_patches = nn.Linear(self.backbone.embed_dim, data.KINDS + (modality == "visual"))
        self.modality = modality

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits from the class token [B, KINDS] and from patch tokens [B, N, 1 + KINDS] or their mean [B, KINDS]."""
        tokens = self.backbone.forward_features(inputs)
        patches = tokens[:, self.backbone.num_prefix_tokens :]
        return self.from_class(tokens[:, 0]), self.from_patches(
            patches if self.modality == "visual" else patches.mean(1)
        )

    def loss(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Visual: target patch labels [B, h, w]; audio: kinds present, bool [B, KINDS]."""
        from_class, from_patches = self(inputs)
        if self.modality == "visual":
            weight = torch.ones(1 + data.KINDS)
            weight[0] = BACKDROP_WEIGHT
            dense = functional.cross_entropy(from_patches.flatten(0, 1), target.flatten().long(), weight)
            return dense + 4 * _presence_loss(from_class, kinds_of(target))
        return 4 * (_presence_loss(from_class, target) + _presence_loss(from_patches, target))


def _presence_loss(logits: Tensor, present: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, present.float())


def kinds_of(patches: Tensor) -> Tensor:
    """Kinds that cover a patch somewhere, bool [B, KINDS]."""
    return functional.one_hot(patches.flatten(1).long(), data.KINDS + 1).amax(dim=1)[:, 1:].bool()


def augmented(modality: str, batch: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Every other batch of pictures mirrored, sounds louder or softer, at random."""
    if modality == "visual":
        return (batch.flip(2), target.flip(2)) if float(torch.rand(())) < 0.5 else (batch, target)
    return batch * torch.exp(torch.rand(len(batch), 1) * 1.4 - 0.7), target


@torch.inference_mode()
def measure(student: Student, inputs: Tensor, target: Tensor) -> dict[str, float]:
    """Mean average precision of the kinds present, and for pictures the share of right patches."""
    student.eval()
    parts = [student(student.front(part)) for part in inputs.split(250)]
    student.train()
    present = kinds_of(target) if student.modality == "visual" else target
    found = {"presence_map": mean_average_precision(torch.cat([p[0] for p in parts]), present)}
    if student.modality == "visual":
        right = torch.cat([p[1] for p in parts]).argmax(-1) == target.flatten(1)
        objects = target.flatten(1) > 0
        found |= {
            "patch_accuracy": float(right.float().mean()),
            "object_patch_accuracy": float(right[objects].float().mean()),
        }
    return {key: round(value, 4) for key, value in found.items()}


def mean_average_precision(scores: Tensor, present: Tensor) -> float:
    """Average precision of each kind over the inputs, mean over the kinds."""
    order = scores.argsort(dim=0, descending=True)
    hits = present.gather(0, order).float()
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)[:, None]
    return float(((precision * hits).sum(0) / hits.sum(0).clamp_min(1)).mean())


def make(modality: str, seed: int, count: int, workers: int) -> tuple[Tensor, Tensor]:
    """`count` inputs with their targets, in chunks that do not depend on the number of workers."""
    seeds = [(seed * 1_000 + chunk, min(CHUNK, count - start)) for chunk, start in enumerate(range(0, count, CHUNK))]
    todo = (data.MAKERS[modality], *zip(*seeds, strict=True))
    if workers == 1:
        parts = list(map(*todo))
    else:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            parts = list(pool.map(*todo))
    inputs, targets = zip(*parts, strict=True)
    return torch.from_numpy(np.concatenate(inputs)), torch.from_numpy(np.concatenate(targets))


def train(modality: str, args: argparse.Namespace) -> tuple[Student, dict[str, Any]]:
    """Trains one backbone; the record holds the settings and a line per epoch."""
    begun = time.monotonic()
    held_out = make(modality, args.seed + 500, args.held_out, args.workers)
    inputs, target = make(modality, args.seed, args.inputs, args.workers)
    print(f"{modality}: {len(inputs)} inputs made in {time.monotonic() - begun:.0f} s", flush=True)
    torch.manual_seed(args.seed)
    student = Student(modality)
    optimizer = torch.optim.AdamW(student.parameters(), lr=args.lr, weight_decay=0.05, fused=True)
    steps, step, epochs = args.epochs * -(-len(inputs) // args.batch), 0, []
    for epoch in range(1, args.epochs + 1):
        total, start = 0.0, time.monotonic()
        for chosen in torch.randperm(len(inputs)).split(args.batch):
            rate = args.lr * min((step + 1) / (0.05 * steps), 0.5 * (1 + math.cos(math.pi * step / steps)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch, wanted = augmented(modality, inputs[chosen], target[chosen])
            loss = student.loss(student.front(batch), wanted)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            total, step = total + float(loss.detach()) * len(chosen), step + 1
        record = {"epoch": epoch, "loss": round(total / len(inputs), 4), "seconds": round(time.monotonic() - start, 1)}
        if epoch % args.measure_every == 0 or epoch == args.epochs:
            record |= measure(student, *held_out)
            save_file(student.backbone.state_dict(), args.out / f"{modality}.safetensors")
        epochs.append(record)
        print(f"{modality}: {record}", flush=True)
    settings = {key: getattr(args, key) for key in ("seed", "inputs", "held_out", "epochs", "batch", "lr")}
    return student, {"model": MODEL, **settings, "threads": torch.get_num_threads(), "epochs_log": epochs}


def main() -> None:
    """Trains both and writes `<modality>.safetensors` and `weights.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--modality", choices=["visual", "audio"], action="append")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--held-out", type=int, default=HELD_OUT)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--measure-every", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    summary = args.out / "weights.json"
    for modality in args.modality or ["visual", "audio"]:
        student, record = train(modality, args)
        records = json.loads(summary.read_text()) if summary.exists() else {}
        sha256 = hash_tensors(student.backbone.state_dict())
        records[modality] = {"sha256": sha256, **record, "kinds": data.KINDS, "kinds_seed": data.KINDS_SEED}
        summary.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
