import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_metrics import quick

from avpipe.pipeline.errors import UsageError
from avpipe.stages.metrics import avqa

OFFICIAL = list(avqa.TYPES)


def test_averages_pool_questions():
    types = ["Audio/Counting"] * 3 + ["Audio/Comparative"] + ["Visual/Location"]
    scores = avqa.accuracies(types, [1, 2, 3, 4, 5], [1, 2, 0, 0, 5])
    assert scores["types"]["Audio/Counting"] == {"accuracy": 2 / 3, "correct": 2, "total": 3}
    assert scores["types"]["Audio/Comparative"] == {"accuracy": 0, "correct": 0, "total": 1}
    assert scores["modalities"]["Audio"] == {"accuracy": 2 / 4, "correct": 2, "total": 4}  # not the mean, 1/3
    assert (scores["accuracy"], scores["protocol"]) == (3 / 5, "music-avqa-official")


def test_absent_types_are_left_out_and_named():
    scores = avqa.accuracies(["Visual/Location"], [0], [0])
    assert list(scores["types"]) == ["Visual/Location"]
    assert list(scores["modalities"]) == ["Visual"]
    assert scores["absent_types"] == [name for name in OFFICIAL if name != "Visual/Location"]
    assert avqa.printed(scores) == [f"{name} Accuracy: 100.00 %" for name in ("Visual Loc", "Visual", "Overall")]


def test_types_of_a_users_own():
    types = ["Sound/Loudness", "Audio/Counting", "free", "", "Sound/Loudness"]
    scores = avqa.accuracies(types, [1, 1, 1, 1, 1], [1, 1, 0, 1, 0])
    assert (scores["protocol"], scores["total"], scores["absent_types"]) == ("avqa-accuracy", 5, [])
    assert list(scores["types"]) == ["Audio/Counting", "Sound/Loudness", "free"]
    assert list(scores["modalities"]) == ["Audio", "Sound"]
    assert avqa.printed(scores)[-2:] == ["free Accuracy: 0.00 %", "Overall Accuracy: 60.00 %"]


def test_questions_are_told_apart_by_place_and_no_answer_is_wrong():
    scorer = avqa.AvqaScorer(["Audio/Counting"] * 3)
    for index, answers in ((2, (-1, 0)), (0, (7, 7)), (1, (7, 8))):
        scorer.add(index, *answers)
    assert scorer.result()["correct"] == 1


def test_refuses_what_cannot_be_scored():
    with pytest.raises(UsageError, match="2 types"):
        avqa.accuracies(["a", "b"], [1], [1])
    with pytest.raises(UsageError, match="no question"):
        avqa.accuracies([], [], [])
    scorer = avqa.AvqaScorer(["a", "b"])
    scorer.add(0, 1, 1)
    with pytest.raises(UsageError, match="1 of 2 questions"):
        scorer.result()


@quick
@given(
    st.lists(st.tuples(st.sampled_from([*OFFICIAL, "Own/Kind"]), st.integers(0, 4), st.integers(0, 4)), min_size=1),
    st.permutations(range(5)),
    st.randoms(use_true_random=False),
)
def test_equals_the_loops_whatever_the_order_and_the_ids(rows, renamed, random):
    scores = avqa.accuracies(*zip(*rows, strict=True))
    for level, key in (("types", lambda name: name), ("modalities", lambda name: name.split("/")[0])):
        for name in {key(row[0]) for row in rows}:
            right = [int(p == t) for kind, p, t in rows if key(kind) == name]
            found = {"accuracy": sum(right) / len(right), "correct": sum(right), "total": len(right)}
            assert scores[level][name] == found
        assert sum(part["total"] for part in scores[level].values()) == scores["total"] == len(rows)
    mixed = [(kind, renamed[p], renamed[t]) for kind, p, t in rows]
    random.shuffle(mixed)
    assert avqa.accuracies(*zip(*mixed, strict=True)) == scores
    perfect = avqa.accuracies([row[0] for row in rows], [row[2] for row in rows], [row[2] for row in rows])
    assert perfect["accuracy"] == 1


def test_adding_one_by_one_is_the_same():
    rng = np.random.default_rng(1)
    types = rng.choice(OFFICIAL, 50).tolist()
    predicted, truth = rng.integers(0, 3, (2, 50))
    scorer = avqa.AvqaScorer(types)
    for index in rng.permutation(50):
        scorer.add(index, int(predicted[index]), int(truth[index]))
    assert scorer.result() == avqa.accuracies(types, predicted, truth)
