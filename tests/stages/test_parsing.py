"""Video parsing: the head's pooling, a loss that reads weak labels alone, and the task's decisions and scores."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Event, Sample
from avpipe.stages.baselines import frequent_classes
from avpipe.stages.config import TrainConfig
from avpipe.stages.distill import Distilled
from avpipe.stages.features import FeatureBatch
from avpipe.stages.heads.parsing import HybridAttention, ParsingHead, ParsingOutput, parsing_loss
from avpipe.stages.metrics import llp
from avpipe.stages.tasks import Parsed, ParsingTask, build_task

BOTH = ("audio", "visual")
SAMPLES = (
    Sample(
        "a", "a", "test", labels=(0, 2), audio_events=(Event(0, 0, 3),), visual_events=(Event(2, 1, 2),), segments=4
    ),
    Sample("b", "b", "test", labels=(1,), audio_events=(), visual_events=(Event(1, 2, 1), Event(1, 0, 2)), segments=2),
)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def head(modalities=BOTH, classes=3, dropout=0.0):
    torch.manual_seed(1)
    return ParsingHead(modalities, 8, classes, dropout=dropout).eval()


def distilled(generator, modalities=BOTH, segments=5, clips=2):
    return {m: Distilled(torch.randn(clips, segments, 8, generator=generator), torch.empty(0)) for m in modalities}


def everywhere(clips=2, segments=5):
    return torch.ones(clips, segments, dtype=torch.bool)


def batch(indices, valid):
    valid = torch.tensor(valid)
    return FeatureBatch(tuple(indices), {}, torch.ones_like(valid), valid)


def output(generator, clips, segments, classes=3, modalities=2):
    made = torch.rand(clips, segments, modalities, classes, generator=generator)
    return ParsingOutput(made, made.amax(dim=(1, 2)), made.amax(dim=1))


def attended(layer, query, keys):
    """Attention with one head, written out."""
    weights, biases = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((query, keys, keys), weights, biases, strict=True))
    return layer.out_proj(torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1) @ v)


@torch.no_grad()
def test_hybrid_attention_is_the_published_layer(generator):
    torch.manual_seed(2)
    layer = HybridAttention(8, 0.0).eval()
    for x in (layer.norm_attention.weight, layer.norm_forward.bias, layer.own.in_proj_bias, layer.other.in_proj_bias):
        x.normal_(generator=generator)
    x, other = torch.randn(2, 2, 5, 8, generator=generator)
    y = layer.norm_attention(x + attended(layer.own, x, x) + attended(layer.other, x, other))
    wanted = layer.norm_forward(y + layer.narrow(functional.relu(layer.widen(y))))
    torch.testing.assert_close(layer(x, other, ~everywhere()), wanted)
    alone = layer.norm_attention(x + attended(layer.own, x, x))
    wanted = layer.norm_forward(alone + layer.narrow(functional.relu(layer.widen(alone))))
    torch.testing.assert_close(layer(x, None, ~everywhere()), wanted)


@torch.no_grad()
def test_pooling_is_the_weighted_sum_over_time_and_modalities(generator):
    model, made = head(), distilled(generator)
    found = model(made, everywhere(), everywhere())
    a, v = (made[m].vector for m in BOTH)
    x = torch.stack([model.attention(a, v, ~everywhere()), model.attention(v, a, ~everywhere())], dim=2)
    p, in_time, between = (layer(x) for layer in (model.classify, model.over_time, model.over_modalities))
    for clip, klass in np.ndindex(2, 3):
        together = 0.0
        for modality in range(2):
            weights = in_time[clip, :, modality, klass].exp()
            own = sum(
                w * c.sigmoid() for w, c in zip(weights / weights.sum(), p[clip, :, modality, klass], strict=True)
            )
            assert found.modality[clip, modality, klass] == pytest.approx(float(own), rel=1e-5)
            for t in range(5):
                share = between[clip, t].softmax(dim=0)[modality, klass]
                together += float(weights[t] / weights.sum() * share * p[clip, t, modality, klass].sigmoid())
        assert found.video[clip, klass] == pytest.approx(min(together, 1.0), rel=1e-5)
    torch.testing.assert_close(found.segment, p.sigmoid())


@torch.no_grad()
def test_padding_and_segments_without_content_get_no_weight(generator):
    model, made = head(), distilled(generator)
    present, valid = everywhere(), everywhere()
    present[0, 3:], valid[0, 3:], valid[0, 1] = False, False, False
    found = model(made, present, valid)
    for distil in made.values():
        distil.vector[0, 3:] += 10 * torch.randn(2, 8, generator=generator)
    moved = model(made, present, valid)
    torch.testing.assert_close(moved.video, found.video)
    torch.testing.assert_close(moved.segment[0, :3], found.segment[0, :3])
    longer = {m: Distilled(distil.vector[:1, :3], torch.empty(0)) for m, distil in made.items()}
    alone = model(longer, present[:1, :3], valid[:1, :3])
    torch.testing.assert_close(alone.modality[0], found.modality[0])
    model.over_time.weight.zero_()  # equal weights: the mean over segments that count
    found = model(made, present, valid)
    torch.testing.assert_close(found.modality[0], found.segment[0, [0, 2]].mean(dim=0))
    valid[0] = False  # then over those that are present
    found = model(made, present, valid)
    torch.testing.assert_close(found.modality[0], found.segment[0, :3].mean(dim=0))


@torch.no_grad()
@pytest.mark.parametrize("modality", BOTH)
def test_one_modality_alone(generator, modality):
    found = head((modality,))(distilled(generator, (modality,)), everywhere(), everywhere())
    torch.testing.assert_close(found.video, found.modality[:, 0])
    task = ParsingTask(SAMPLES, 3, TrainConfig(modality=modality))
    longest = ParsingOutput(found.segment[:, :4], found.video, found.modality)
    second, first = task.predictions(longest, batch([1, 0], [[True] * 4] * 2))
    seen = BOTH.index(modality)
    assert (first.segment[:, seen] == found.segment[1, :4, 0].numpy()).all()
    assert (first.segment.shape, second.segment.shape) == ((4, 2, 3), (2, 2, 3))
    sure = Parsed(np.where(first.segment > 0, np.float32(1), 0), np.ones(3, np.float32))
    maps = task.decide(sure)
    assert maps[seen].all()
    assert not maps[1 - seen].any()


def test_the_loss_is_the_published_sum(generator):
    found, labels = output(generator, 2, 5), torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    counted = torch.tensor([True, True])
    terms = (found.video, labels), (found.modality[:, 0], labels), (found.modality[:, 1], 0.9 * labels + 0.1 * 0.5)
    wanted = sum(functional.binary_cross_entropy(p, y) for p, y in terms)
    torch.testing.assert_close(parsing_loss(found, labels, BOTH, 0.1, counted), wanted)
    plain = sum(functional.binary_cross_entropy(p, labels) for p, _ in terms)
    torch.testing.assert_close(parsing_loss(found, labels, BOTH, 0.0, counted), plain)
    first = parsing_loss(found, labels, BOTH, 0.1, torch.tensor([True, False]))
    assert first == pytest.approx(float(sum(functional.binary_cross_entropy(p[0], y[0]) for p, y in terms)), rel=1e-5)
    sure = ParsingOutput(found.segment, torch.zeros(2, 3), found.modality)
    assert torch.isfinite(parsing_loss(sure, labels, BOTH, 0.1, counted))
    nothing = ParsingOutput(*(x.clone().requires_grad_() for x in (found.segment, found.video, found.modality)))
    parsing_loss(nothing, labels, BOTH, 0.1, torch.tensor([False, False])).backward()
    assert (nothing.video.grad == 0).all()


def test_a_stand_in_does_not_learn_the_label_of_its_clip(generator):
    made = output(generator, 2, 4)
    found = ParsingOutput(made.segment, made.video.requires_grad_(), made.modality.requires_grad_())
    asked = batch([0, 1], [[True] * 4] * 2)
    silent = {"audio": torch.tensor([[False] * 4, [True] * 4]), "visual": torch.ones(2, 4, dtype=torch.bool)}
    usual = ParsingTask(SAMPLES, 3).loss(found, asked)
    assert ParsingTask(SAMPLES, 3).loss(found, replace(asked, real=dict.fromkeys(BOTH, asked.valid))) == usual
    ParsingTask(SAMPLES, 3).loss(found, replace(asked, real=silent)).backward()
    learned = found.modality.grad.abs().sum(dim=2) > 0
    assert learned.tolist() == [[place != BOTH.index("audio") for place in range(2)], [True, True]]
    assert found.video.grad.abs().sum(dim=1).gt(0).all()


def test_training_reads_weak_labels_alone(generator):
    weak = [replace(sample, audio_events=None, visual_events=None) for sample in SAMPLES]
    other = [replace(sample, audio_events=(Event(1, 0, 2),), visual_events=()) for sample in SAMPLES]
    found, asked = output(generator, 2, 4), batch([1, 0], [[True] * 4] * 2)
    losses = [ParsingTask(samples, 3).loss(found, asked) for samples in (SAMPLES, weak, other)]
    assert losses[0] == losses[1] == losses[2]
    changed = [replace(SAMPLES[0], labels=(0,)), SAMPLES[1]]
    assert ParsingTask(changed, 3).loss(found, asked) != losses[0]
    labels = torch.tensor([[0.0, 1, 0], [1, 0, 1]])
    wanted = parsing_loss(found, labels, BOTH, 0.3, torch.tensor([True, True]))
    assert ParsingTask(weak, 3, TrainConfig(smoothing=0.3)).loss(found, asked) == wanted
    alone = parsing_loss(found, labels, BOTH, 0.1, torch.tensor([True, False]))
    assert ParsingTask(weak, 3).loss(found, batch([1, 0], [[True] * 4, [False] * 4])) == alone


def test_decisions_pass_the_gate_and_scores_are_official():
    task = ParsingTask(SAMPLES, 3)
    heard, seen = task.truth(0)
    assert heard.tolist() == [[True, True, True, False], [False] * 4, [False] * 4]
    assert seen.tolist() == [[False] * 4, [False] * 4, [False, True, False, False]]
    assert task.truth(1)[1].tolist() == [[False] * 2, [True, True], [False] * 2]  # a reversed event marks nothing
    segment = np.full((4, 2, 3), 0.5, np.float32)
    segment[2, 0, 0] = 0.49
    maps = task.decide(Parsed(segment, np.array([0.5, 0.49, 0.6], np.float32)))
    assert maps[0].tolist() == [[True, True, False, True], [False] * 4, [True] * 4]
    assert maps[1].tolist() == [[True] * 4, [False] * 4, [True] * 4]
    perfect = []
    for index, sample in enumerate(SAMPLES):
        truth = np.stack(task.truth(index)).astype(np.float32)  # [2, C, T]
        perfect.append(Parsed(truth.transpose(2, 0, 1), truth.any(axis=(0, 2)).astype(np.float32)))
        assert len(perfect[-1].segment) == sample.segments
    scores = task.score(perfect)
    assert (scores["protocol"], scores["videos"]) == ("llp-official", 2)
    assert all(scores[name] == 1 for name in llp.METRICS)
    mixed = [Parsed(segment, np.ones(3, np.float32)), task.blank(1)]
    scores = task.score(mixed)
    assert 0 < scores["segment_type_av"] < 1
    assert task.metric == "segment_type_av"
    assert task.validate(iter(mixed)) == pytest.approx(scores["segment_type_av"])
    values = [task.values(index, one) for index, one in enumerate(mixed)]
    assert np.mean(values) == pytest.approx(scores["segment_type_av"])


def test_constant_answers():
    task = ParsingTask(SAMPLES, 3)
    training = [Sample(str(i), "c", "train", labels=labels) for i, labels in enumerate([(2,), (2, 0), (0, 1, 2), ()])]
    usual, nothing = task.baselines(training, ("dog", "cat", "bird"))
    assert (usual.name, usual.about) == ("frequent_classes", {"classes": ["dog", "bird"]})
    for index, prediction in enumerate(usual.predictions):
        heard, seen = task.decide(prediction)
        assert heard.all(axis=1).tolist() == seen.any(axis=1).tolist() == [True, False, True]
        assert heard.shape == (3, SAMPLES[index].segments)
    assert (nothing.name, nothing.about) == ("nothing", {})
    assert not any(np.any(task.decide(one)) for one in nothing.predictions)


def test_frequent_classes_fit_the_weak_labels_best():
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.random((12, 4)) < rng.random(4)
        labels[:, 0] |= ~labels.any(axis=1)
        samples = [Sample(str(i), "c", "train", labels=tuple(np.flatnonzero(row))) for i, row in enumerate(labels)]
        chosen = np.isin(np.arange(4), frequent_classes(samples, 4))
        truth = labels[:, :, None]

        def fit(answer, truth=truth):
            maps = np.broadcast_to(answer[None, :, None], truth.shape)
            return llp.summary(llp.video_scores(maps, maps, truth, truth))["segment_type_av"]

        order = np.argsort(-labels.sum(axis=0), kind="stable")
        candidates = [np.isin(np.arange(4), order[: count + 1]) for count in range(4)]
        assert fit(chosen) == pytest.approx(max(map(fit, candidates)))


def test_a_sample_without_any_label_is_named():
    bare = Sample("x_0_10", "x", "train", audio_events=(), segments=10)
    with pytest.raises(UsageError, match="'x_0_10' has no labels of its clip"):
        build_task("parsing", [bare], classes=3, mask_size=(0, 0), config=TrainConfig())
