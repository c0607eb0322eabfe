"""Rules of event localisation: weak labels, the two-head decision, and what both leave of a run."""

import json

import numpy as np
import pytest
import torch

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages.config import TrainConfig
from avpipe.stages.evaluate import evaluate
from avpipe.stages.features import FeatureBatch
from avpipe.stages.heads.event import Crossed, EventOutput, video_loss
from avpipe.stages.heads.event_cmbs import TwoHead
from avpipe.stages.heads.event_losses import event_loss, two_head_loss
from avpipe.stages.metrics import ave
from avpipe.stages.model import ModelSpec, build_model
from avpipe.stages.scoring import score
from avpipe.stages.tasks import EventsTask
from avpipe.stages.train import TrainOptions, train

CLASSES = 4  # background is 3
HEADS = ("temporal", "linear", "cmbs")


def events(*labels):
    return [Sample(str(i), f"c{i}", "train", events=tuple(row)) for i, row in enumerate(labels)]


def batch(indices, valid=None, tokens=None):
    shown = torch.ones(len(indices), 4, dtype=torch.bool) if valid is None else torch.tensor(valid)
    return FeatureBatch(tuple(indices), tokens or {}, torch.ones_like(shown), shown)


def output_of(head, seed=0, samples=3) -> EventOutput:
    make = torch.Generator().manual_seed(seed)
    if head != "cmbs":
        return torch.randn(samples, 4, CLASSES, generator=make)
    relevance, gate = torch.randn(samples, 4, generator=make), torch.rand(samples, 4, generator=make)
    return TwoHead(relevance, gate, *(torch.randn(samples, CLASSES - 1, generator=make) for _ in range(2)))


def weak_task(head, *labels, **settings):
    return EventsTask(events(*labels), CLASSES, TrainConfig(head=head, supervision="weak", **settings))


@pytest.mark.parametrize("head", HEADS)
def test_weak_training_does_not_read_labels_of_segments(head):
    output = Crossed(output_of(head), output_of(head, 1))
    shown = batch([0, 1, 2])
    first = weak_task(head, (0, 0, 3, 3), (3, 1, 1, 3), (3, 3, 3, 3)).loss(output, shown)
    other = weak_task(head, (3, 0, 3, 3), (1, 1, 1, 1), (3, 3, 3, 3)).loss(output, shown)
    assert first == other
    changed = weak_task(head, (0, 0, 3, 3), (3, 2, 2, 3), (3, 3, 3, 3)).loss(output, shown)
    assert changed != first


@pytest.mark.parametrize("head", HEADS)
def test_pairs_with_different_events_are_background(head):
    own, crossed = output_of(head), output_of(head, 1)
    task = weak_task(head, (0, 0, 3, 3), (3, 1, 1, 3), (1, 1, 3, 3), crossed=0.5)
    valid = [[True, True, True, False], [True] * 4, [True] * 4]
    found = task.loss(Crossed(own, crossed), batch([0, 1, 2], valid))
    wanted = torch.eye(CLASSES)[[0, 1, 1]]
    # The sound comes from the clip before: of 2 for 0 (apart), of 0 for 1 (apart), of 1 for 2 (the same event).
    nothing = torch.full((3, 4), CLASSES - 1)
    nothing[0, 3] = nothing[1, 3] = nothing[2] = -100
    loss, shown = two_head_loss if head == "cmbs" else event_loss, torch.tensor(valid)
    torch.testing.assert_close(found, video_loss(own, wanted, shown) + 0.5 * loss(crossed, nothing))
    torch.testing.assert_close(task.loss(own, batch([0, 1, 2], valid)), video_loss(own, wanted, shown))


SPEC = ModelSpec("events", CLASSES, {"audio": {"a": (3, 8)}, "visual": {"v": (5, 8)}})
ALONE = ModelSpec("events", CLASSES, {"audio": {"a": (3, 8)}})


def model_of(spec, **settings):
    torch.manual_seed(0)
    return build_model(spec, TrainConfig(method="linear", width=16, **settings))


@pytest.mark.parametrize("head", HEADS)
def test_models_cross_pairs_in_weak_training_alone(head):
    make = torch.Generator().manual_seed(2)
    tokens = {"audio": {"a": torch.randn(3, 4, 3, 8, generator=make)}}
    tokens["visual"] = {"v": torch.randn(3, 4, 5, 8, generator=make)}
    shown = batch([0, 1, 2], tokens=tokens)
    model = model_of(SPEC, head=head, supervision="weak", dropout=0.0)
    found = model(shown)
    assert isinstance(found, Crossed)
    moved = {**tokens, "audio": {"a": tokens["audio"]["a"].roll(1, 0)}}
    model.eval()
    for given, wanted in ((tokens, found.own), (moved, found.crossed)):
        alone = model(batch([0, 1, 2], tokens=given))
        assert not isinstance(alone, Crossed)
        torch.testing.assert_close(alone, wanted)
    for other in (
        model_of(SPEC, head=head),
        model_of(SPEC, head=head, supervision="weak", crossed=0.0),
        model_of(ALONE, head=head, supervision="weak"),
    ):
        assert not isinstance(other(shown), Crossed)
    single = {m: {tap: x[:1] for tap, x in taps.items()} for m, taps in tokens.items()}
    assert not isinstance(model.train()(batch([0], tokens=single)), Crossed)


def test_two_head_predictions_are_the_official_decision():
    task = EventsTask(events((0, 1, 2, 3), (2, 1, 3), (3, 3, 3, 3)), CLASSES, TrainConfig(head="cmbs"))
    output = output_of("cmbs")
    output.relevance[0] = torch.tensor([0.0, 1e-9, -1e-9, 2e-7])  # one half in float32, three times
    output.category[1] = torch.tensor([1.0, 1.0, 0.0])  # a tie goes to the lowest id
    found = task.predictions(output, batch([0, 1, 2]))
    assert [len(one) for one in found] == [4, 3, 4]
    official = ave.decide_two_head(output.relevance.numpy(), output.category.numpy(), background=CLASSES - 1)
    for scores, decided in zip(found, official, strict=True):
        assert (ave.decide(scores) == decided[: len(scores)]).all()
    assert official[0].tolist()[:3] == [CLASSES - 1] * 3
    assert official[0, 3] != CLASSES - 1
    arrays = task.arrays(found)
    again = ave.decide_two_head(arrays["event_logit"][:4][None], arrays["class_logit"][:1], background=CLASSES - 1)
    assert (again[0] == official[0]).all()
    assert task.score(found)["protocol"] == "ave-two-head"


@pytest.fixture(scope="module")
def two_head_run(toy_events, tmp_path_factory):
    run = tmp_path_factory.mktemp("two-head") / "run"
    settings = ("head=cmbs", "supervision=weak", "width=16", "rank=16", "epochs=2")
    return train(TrainOptions(cache=toy_events.cache, root=toy_events.root, run=run, overrides=settings))


def test_two_head_runs_are_scored_the_same_by_score(two_head_run, toy_events):
    result = evaluate(two_head_run)
    assert result["protocol"] == "ave-two-head"
    assert set(result["other_protocols"]) == {"ave-two-head-batch16"}
    again = score("ave", two_head_run / "predictions-test.npz", root=toy_events.root)
    for key in ("protocol", "metrics", "other_protocols"):
        assert again[key] == result[key]
    stored = np.load(two_head_run / "predictions-test.npz")
    assert (stored["predicted"] == stored["scores"].argmax(-1)).all()
    assert stored["class_logit"].shape == (8, 28)
    assert json.loads((two_head_run / "metrics.json").read_text()) == result


def test_two_heads_that_disagree_with_the_classes_are_refused(two_head_run, toy_events, tmp_path):
    evaluate(two_head_run, "val")
    arrays = dict(np.load(two_head_run / "predictions-val.npz"))
    arrays["event_logit"] = -arrays["event_logit"]
    np.savez(tmp_path / "turned.npz", **arrays)
    with pytest.raises(UsageError, match="'event_logit' and 'predicted' disagree about segment"):
        score("ave", tmp_path / "turned.npz", root=toy_events.root, split="val")
