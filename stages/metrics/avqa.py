"""MUSIC-AVQA: accuracy of answers by question type and modality, all pooled over questions.

Protocol `music-avqa-official`: a question counts when its predicted answer is the one in the annotation. Averages of a
modality and overall pool questions; they are not means of the accuracies of types. Questions are told apart by their
place, not by their id: the first release asks some ids twice, with different answers.

Types are written `modality/kind`, such as `Audio/Counting`. Sets with types of their own are scored in the same way
under the name `avqa-accuracy`; a type without `/` belongs to no modality, and an empty one counts overall only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import UsageError
from avpipe.stages.metrics.common import Received

PROTOCOL = "music-avqa-official"
GENERAL_PROTOCOL = "avqa-accuracy"
TYPES = {
    "Audio/Counting": "Audio Counting",
    "Audio/Comparative": "Audio Cmp",
    "Visual/Counting": "Visual Counting",
    "Visual/Location": "Visual Loc",
    "Audio-Visual/Existential": "AV Ext",
    "Audio-Visual/Counting": "AV counting",
    "Audio-Visual/Location": "AV Loc",
    "Audio-Visual/Comparative": "AV Cmp",
    "Audio-Visual/Temporal": "AV Temporal",
}
"""The nine types in official order, with the names under which the official program prints them."""
MODALITIES = {"Audio": "Audio", "Visual": "Visual", "Audio-Visual": "AV"}
"""The same for modalities."""


def accuracies(types: Sequence[str], predicted: npt.ArrayLike, truth: npt.ArrayLike) -> dict[str, Any]:
    """Accuracies of answers.

    Args:
        types: the type of each question.
        predicted: answer ids `[questions]`; a number that is no answer, such as -1, is wrong.
        truth: answer ids `[questions]`.

    Returns:
        `protocol`; `accuracy` (a fraction), `correct` and `total` over all questions; the same three for each entry of
        `types` and `modalities`, in official order, then by name; `absent_types`, the official types that no question
        has (for official sets).

    Raises:
        UsageError: the numbers of types and answers differ, or there is none.
    """
    ours, theirs = np.asarray(predicted), np.asarray(truth)
    if not (ours.shape == theirs.shape == (len(types),)):
        raise UsageError(f"{len(types)} types, but answers of shapes {ours.shape} and {theirs.shape}: all must agree")
    if not len(types):
        raise UsageError("there is no question to score")
    right = ours == theirs
    names, of_type = np.unique(np.asarray(types, dtype=str), return_inverse=True)
    total, correct = np.bincount(of_type), np.bincount(of_type, weights=right).astype(np.int64)
    counts = {str(name): (int(c), int(n)) for name, c, n in zip(names, correct, total, strict=True)}
    official = set(counts) <= set(TYPES)
    return {
        "protocol": PROTOCOL if official else GENERAL_PROTOCOL,
        **_share(counts.values()),
        "types": {name: _share([counts[name]]) for name in _ordered(counts, TYPES) if name},
        "modalities": {
            modality: _share([pair for name, pair in counts.items() if _modality(name) == modality])
            for modality in _ordered({_modality(name): () for name in counts}, MODALITIES)
            if modality
        },
        "absent_types": [name for name in TYPES if official and name not in counts],
    }


def printed(result: Mapping[str, Any]) -> list[str]:
    """The lines that the official program prints: percent with two decimals, types before their modality."""
    lines = []
    for modality, share in result["modalities"].items():
        own = {name: part for name, part in result["types"].items() if _modality(name) == modality}
        lines += [_line(TYPES.get(name, name), part) for name, part in own.items()]
        lines.append(_line(MODALITIES.get(modality, modality), share))
    lines += [_line(name, part) for name, part in result["types"].items() if not _modality(name)]
    return [*lines, _line("Overall", result)]


class AvqaScorer:
    """Accuracies of answers that come one by one, in any order.

    Args:
        types: the type of each question, in official order.

    Raises:
        UsageError: there is no question.
    """

    def __init__(self, types: Sequence[str]) -> None:
        self.types = tuple(types)
        self._received = Received(len(self.types), "question")
        self._right = np.zeros(len(self.types), dtype=bool)

    def add(self, index: int, predicted: int, truth: int) -> None:
        """Counts one answer.

        Args:
            index: place of the question in official order.
            predicted: answer id; a number that is no answer, such as -1, is wrong.
            truth: answer id.

        Raises:
            UsageError: the place is wrong or taken.
        """
        self._received.take(index)
        self._right[index] = predicted == truth

    def result(self) -> dict[str, Any]:
        """See `accuracies`.

        Raises:
            UsageError: a question was never added.
        """
        self._received.require_all()
        return accuracies(self.types, self._right, np.ones(len(self.types), dtype=bool))


def _share(pairs: Any) -> dict[str, Any]:
    """Accuracy of pooled pairs of correct and total."""
    correct, total = (sum(counts) for counts in zip(*pairs, strict=True))
    return {"accuracy": correct / total, "correct": correct, "total": total}


def _ordered(names: Mapping[str, Any], official: Mapping[str, str]) -> list[str]:
    """Official names first, in their order, then the others by name."""
    return [name for name in official if name in names] + sorted(name for name in names if name not in official)


def _modality(name: str) -> str:
    """What stands before the slash; empty where there is none."""
    return name.partition("/")[0] if "/" in name else ""


def _line(label: str, share: Mapping[str, Any]) -> str:
    return f"{label} Accuracy: {100 * share['correct'] / share['total']:.2f} %"
