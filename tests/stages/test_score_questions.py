"""Predictions of answers by the numbers that MUSIC-AVQA gives its questions, and answers that are no answers."""

import json

import numpy as np
import pytest

from avpipe.pipeline.datasets import manifest_of
from avpipe.pipeline.errors import UsageError
from avpipe.stages.scoring import score

ANSWERS = ("yes", "no", "two", "yes")


@pytest.fixture
def scored(tmp_path):
    def run(source, numbers=(7, 5, 9, 3), **arrays):
        rows = [
            {"video_id": f"0000000{n}", "question_id": number, "type": '["Audio", "Counting"]', "anser": answer}
            | {"question_content": "How many?", "templ_values": "[]"}
            for n, (number, answer) in enumerate(zip(numbers, ANSWERS, strict=True))
        ]
        (tmp_path / "json_update").mkdir(exist_ok=True)
        (tmp_path / "json_update" / "avqa-test.json").write_text(json.dumps(rows))
        if arrays:
            np.savez(tmp_path / source, **arrays)
        return score("music-avqa", tmp_path / source, root=tmp_path)

    return run


def test_question_ids_name_questions_where_each_has_its_own(scored, tmp_path):
    (tmp_path / "p.csv").write_text("question_id,answer\n3,yes\n9,no\n7,yes\n5,no\n")
    assert scored("p.csv")["metrics"]["correct"] == 3
    classes = manifest_of("music-avqa")["classes"]
    ids = np.array([classes.index(word) for word in ("yes", "no", "yes", "no")])
    assert scored("p.npz", predicted=ids, question_id=np.array([3, 9, 7, 5]))["metrics"]["correct"] == 3
    for numbers, why in (((7, 5, 7, 3), "7 is that of several"), ((7, None, 9, 3), "not every question has one")):
        with pytest.raises(UsageError, match=rf"apart \({why}.*'test:0'.*official order"):
            scored("p.csv", numbers)
    (tmp_path / "p.csv").write_text("question_id,answer\n3,yes\n3,no\n")
    with pytest.raises(UsageError, match="'test:3' is predicted twice"):
        scored("p.csv")
    (tmp_path / "p.csv").write_text("question_id,answer\n4,yes\n")
    with pytest.raises(UsageError, match="line 2: no question of split test has question_id 4"):
        scored("p.csv")
    (tmp_path / "p.csv").write_text("id,answer\n3,yes\n")
    with pytest.raises(UsageError, match="numbers of questions belong in a column `question_id`"):
        scored("p.csv")


def test_an_answer_of_thousands_of_digits_is_no_answer(scored, tmp_path):
    (tmp_path / "p.csv").write_text(f"answer\n{'9' * 5000}\nno\ntwo\nyes\n")
    found = scored("p.csv")
    assert (found["metrics"]["correct"], found["unknown_answers"]) == (3, 1)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.json", "[" * 100_000, "nested too deep"),
        ("p.jsonl", '{"answer":' + "[" * 100_000, "nested too deep"),
        ("p.jsonl", '{"answer": "yes", "answer": "no"}', "'answer' is there twice"),
        ("p.csv", "answer,id,answer\nyes,a,no\n", "'answer' is there twice"),
        ("p.csv", f"id,answer\n{'x' * 5000},yes\n", r"\.\.\. \(5000 characters\)"),
    ],
)
def test_tables_that_cannot_be_read_say_so_in_a_line(scored, tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        scored(name)
    assert len(str(caught.value)) < 700
