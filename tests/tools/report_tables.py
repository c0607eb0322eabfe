"""Scores, curves, layers and costs of a made-up report, under the names that real reports have."""

from __future__ import annotations

from typing import Any

LAYERS = (
    ("visual", None, 0.58),
    ("visual", "blocks.3", 0.80),
    ("visual", "blocks.7", 0.77),
    ("visual", "blocks.11", 0.69),
    ("audio", None, 0.61),
    ("audio", "blocks.3", 0.815),
    ("audio", "blocks.7", 0.79),
    ("audio", "blocks.11", 0.72),
)
COSTS = (
    ("extraction", "clips", 200, "", "each decoded and run through the backbones once"),
    ("extraction", "backbone", 74.2, "s", "the frozen backbones"),
    ("extraction", "decode", 31.0, "s", "decoding, in processes of its own beside the rest"),
    ("cache", "visual/blocks.3", 51_200_000, "bytes", "float16, rows of 65 x 64"),
    ("cache", "visual/frames", 138_240_000, "bytes", "uint8, rows of 96 x 96 x 3"),
    ("cache", "audio/samples", 64_000_000, "bytes", "int16, rows of 16000"),
    ("training", "trainable parameters", 412_345, "", ""),
    ("training", "steps", 28.9, "s", "all epochs"),
    ("training", "peak memory", 912.5, "MiB", "of the process, features in memory included"),
    ("evaluation", "predicting and scoring", 1.31, "s", "test"),
    ("report", "importance of layers", 4.02, "s", ""),
)


def layer(modality: str, tap: str | None, score: float) -> dict[str, Any]:
    return {"modality": modality, "tap": tap, "score": score, "cost": 0.812 - score}


def protocol(name: str, metrics: list[str]) -> dict[str, Any]:
    rows = [
        ("mettle (both)", "this", 0, 0.812),
        ("linear (both)", "run", 0, 0.744),
        ("linear (both)", "run", 1, 0.731),
        ("mettle (audio)", "run", 0, 0.612),
        ("majority class", "constant", None, 0.408),
    ]
    return {"name": name, "metrics": metrics, "rows": [row(*values, metrics) for values in rows]}


def row(label: str, kind: str, seed: int | None, value: float, metrics: list[str], group: str = "") -> dict[str, Any]:
    """One line of the table of scores; runs of one `group` (else of one label) differ by their seed alone."""
    return {
        "label": label,
        "kind": kind,
        "seed": seed,
        "group": None if kind == "constant" else group or label,
        "run": None if kind == "constant" else f"ave-{label}-{seed}",
        "values": {metric: value - 0.05 * place for place, metric in enumerate(metrics)},
    }


def epoch(number: int, score: str) -> dict[str, Any]:
    return {
        "epoch": number,
        "train_loss": 1.9 * 0.78**number + 0.1,
        score: None if number == 3 else 0.82 - 0.5 * 0.62**number - (0.02 if number > 7 else 0),
        "lr": 0.001 * (1 - number / 13),
        "train_seconds": 2.2 + 0.1 * (number % 3),
        "val_seconds": 0.31,
        "peak_rss_mib": 840.5,
    }
