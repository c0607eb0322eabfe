"""Which epoch of a run is the best, by the records of its epochs."""

from __future__ import annotations

from typing import Any


def best_epoch(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The epoch with the highest validation score, the earliest of equals; the last one where some have no score."""
    if not history:
        return None
    if not _validated(history):
        return history[-1]
    key = score_key(history[0])
    return max(history, key=lambda record: (record[key], -record["epoch"]))


def selected_by(history: list[dict[str, Any]]) -> str:
    """By what `best_epoch` chooses, in words."""
    if not _validated(history):
        return "last epoch: no validation sample with features"
    return f"{score_key(history[0]).replace('_', ' ')}, highest"


def _validated(history: list[dict[str, Any]]) -> bool:
    """Whether every epoch has a score. Some have none where a run went on with a cache that had changed."""
    return all(record[score_key(record)] is not None for record in history)


def score_key(record: dict[str, Any]) -> str:
    """Key of the validation score in an epoch's record."""
    return next(key for key in record if key.startswith("val_") and key != "val_seconds")


def in_short(record: dict[str, Any]) -> str:
    """Loss and score of an epoch, in a few words."""
    key = score_key(record)
    score = "" if record[key] is None else f", {key.replace('_', ' ')} {record[key]:.4f}"
    return f"loss {record['train_loss']:.4f}{score}"
