"""Which epoch of a run is the best, by the records of its epochs.

Epochs are compared on validation. `select=test` compares them on the very split that is reported, as several published
numbers of the field do; `protocol_name` marks every score of such a run, so that it is never read beside one of a run
that was selected on validation.
"""

from __future__ import annotations

from typing import Any

TEST_SELECTED = "+test-selected"
"""What a protocol's name ends with where the epoch was chosen on test."""
SELECTIONS = ("val", "test", "last")
"""What `selection` may say."""
_LAST = "last epoch"


def best_epoch(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The epoch with the highest score on the split it was compared on, the earliest of equals; the last one where some
    have no score."""
    if not history:
        return None
    if not _validated(history):
        return history[-1]
    key = score_key(history[0])
    return max(history, key=lambda record: (record[key], -record["epoch"]))


def selected_by(history: list[dict[str, Any]]) -> str:
    """By what `best_epoch` chooses, in words."""
    split, _, metric = score_key(history[0]).partition("_")
    if not _validated(history):
        return f"{_LAST}: no {'validation' if split == 'val' else split} sample with features"
    return f"{split} {metric}, highest"


def selection(chosen_by: str) -> str:
    """The split on which an epoch was chosen (`val`, `test`), by the words of `selected_by`; `last` where on none."""
    return "last" if chosen_by.startswith(_LAST) else chosen_by.split(" ")[0]


def protocol_name(protocol: str, selection: str | None) -> str:
    """The protocol's name, marked where the epoch was chosen on test."""
    return protocol + TEST_SELECTED if selection == "test" else protocol


def by_protocol(scores: dict[str, Any], selection: str | None) -> dict[str, Any]:
    """Scores of a metric as `protocol`, `metrics` and, where there are others, `other_protocols`; see `protocol_name`.

    Args:
        scores: numbers, beside them `protocol`, and perhaps the same of `other_protocols` by name.
        selection: the split on which the epoch was chosen, None where that is not known.
    """
    metrics = {key: value for key, value in scores.items() if key not in ("protocol", "other_protocols")}
    found = {"protocol": protocol_name(scores["protocol"], selection), "metrics": metrics}
    if "other_protocols" in scores:
        marked = {protocol_name(name, selection): other for name, other in scores["other_protocols"].items()}
        found["other_protocols"] = {name: {**other, "protocol": name} for name, other in marked.items()}
    return found


def _validated(history: list[dict[str, Any]]) -> bool:
    """Whether every epoch has a score. Some have none where a run went on with a cache that had changed."""
    return all(record[score_key(record)] is not None for record in history)


def score_key(record: dict[str, Any]) -> str:
    """Key of the score by which epochs are compared in an epoch's record: `val_accuracy`, `test_miou` and the like."""
    return next(key for key in record if key.startswith(("val_", "test_")) and not key.endswith("_seconds"))


def in_short(record: dict[str, Any]) -> str:
    """Loss and score of an epoch, in a few words."""
    key = score_key(record)
    score = "" if record[key] is None else f", {key.replace('_', ' ')} {record[key]:.4f}"
    return f"loss {record['train_loss']:.4f}{score}"
