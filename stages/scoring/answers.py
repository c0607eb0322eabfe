"""Predictions of answers to questions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Dataset, Sample
from avpipe.stages.metrics import avqa
from avpipe.stages.scoring.names import Once
from avpipe.stages.scoring.npz import Values
from avpipe.stages.scoring.npz_samples import QUESTION_ID, by_position, read_npz
from avpipe.stages.scoring.rules import Load, Rules, choose_protocol, class_places, require_ids, require_numbers
from avpipe.stages.scoring.tables import Row, read_rows

NO_ANSWER = -1
_SHORT_NUMBER = re.compile(r"[0-9]{1,9}")
"""An answer's id in a table; more digits are no id, and python refuses to read very many."""


class AnswersRules(Rules):
    """Predictions are answer ids. A text that is no answer of the dataset is wrong, and counted. See `metrics.avqa`."""

    forms = ("'predicted' [questions], ids or texts of answers", "'scores' [questions, answers]")

    def __init__(self, dataset: Dataset, split: str, source: Path, *, blank_missing: bool) -> None:
        super().__init__(dataset, split, source, blank_missing=blank_missing)
        if self.kind == "folder":
            raise self.refuse_kind()
        self.form = (
            self.choose_form((("scores", "predicted"), ("scores",), ("predicted",))) if self.kind == "npz" else ()
        )
        self.known = class_places(dataset.classes)
        self.unknown: list[str] = []
        questions = [self.samples[place].question for place in self.wanted.scored]
        self.scorer = avqa.AvqaScorer([question.type for question in questions if question is not None])

    def annotated(self, sample: Sample) -> bool:
        """Whether it is a question."""
        return sample.question is not None

    def read(self) -> Iterator[tuple[int, Load]]:
        """See `Rules`."""
        if not self.form:
            yield from self._table()
            return
        axes = {"scores": 1, "predicted": 0}
        for place, arrays in read_npz(self.source, self.wanted, {}, {name: axes[name] for name in self.form}):
            yield place, partial(self._decide, arrays)

    def _decide(self, arrays: dict[str, Values]) -> int:
        decide = {"scores": self._best, "predicted": self._given}
        found = {decide[name](values) for name, values in arrays.items()}
        if len(found) > 1:
            raise UsageError("'scores' and 'predicted' disagree: keep one of the arrays")
        return found.pop()

    def _best(self, scores: Values) -> int:
        require_numbers(scores, "scores")
        if len(scores) != len(self.known):
            raise UsageError(f"array 'scores' has {len(scores)} columns for {len(self.known)} answers")
        return int(np.argmax(scores))

    def _given(self, value: Values) -> int:
        if value.dtype.kind in "US":
            return self._answer(value.item().decode() if value.dtype.kind == "S" else value.item())
        return int(require_ids(value, len(self.known), "predicted"))

    def _answer(self, text: str) -> int:
        """The id of an answer given as text."""
        found = self.known.get(text.strip(), NO_ANSWER)
        if found == NO_ANSWER:
            self.unknown.append(text)
        return found

    def _table(self) -> Iterator[tuple[int, Load]]:
        """Rows `id, answer`, or `question_id, answer`, or `answer` alone in official order."""
        rows = list(read_rows(self.source, ("answer",)))
        names = self.wanted.names
        if "id" in rows[0].values:
            places = [names.place(row.text("id"), row.where) for row in rows]
        elif QUESTION_ID in rows[0].values:
            places = [names.asked(row.whole(QUESTION_ID), row.where) for row in rows]
        else:
            places = by_position(self.wanted, len(rows), str(self.source))
        once = Once(names)
        for place, row in zip(places, rows, strict=True):
            yield once.take(place, row.where), partial(self._cell, row)

    def _cell(self, row: Row) -> int:
        """The answer of a row: an answer's text before an id, since answers may look like numbers."""
        text = row.text("answer")
        if text not in self.known and _SHORT_NUMBER.fullmatch(text) and int(text) < len(self.known):
            return int(text)
        return self._answer(text)

    def add(self, place: int, prediction: Any) -> None:
        """See `Rules`."""
        question = self.samples[place].question
        assert question is not None  # annotated samples have one
        self.scorer.add(self.index[place], prediction, question.answer)

    def blank(self, place: int) -> int:
        """A wrong answer."""
        return NO_ANSWER

    def result(self, protocol: str | None) -> dict[str, Any]:
        """See `Rules`."""
        return choose_protocol(self.scorer.result(), protocol)

    def facts(self) -> dict[str, Any]:
        """`unknown_answers`: how many texts are no answer of the dataset; and the first of them."""
        return {"unknown_answers": len(self.unknown), "unknown_answers_first": sorted(set(self.unknown))[:5]}

    def printed(self, scores: dict[str, Any]) -> list[str]:
        """The lines of the official program, in percent with two decimals."""
        return avqa.printed(scores)
