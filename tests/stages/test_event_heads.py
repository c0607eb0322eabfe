"""Heads of event localisation, and their losses from labels of segments and of videos."""

import pytest
import torch
from torch.nn import functional

from avpipe.stages.config import TrainConfig
from avpipe.stages.distill import Distilled
from avpipe.stages.heads.event import build, cross, segment_loss, video_loss
from avpipe.stages.heads.event_cmbs import TwoHead, best_mean
from avpipe.stages.heads.event_losses import IGNORED, event_loss, softmax_loss, two_head_loss, weak_loss
from avpipe.stages.heads.event_temporal import time_code

B, T, D, C = 2, 5, 16, 29
BOTH = ("audio", "visual")
HEADS = ("temporal", "linear", "cmbs")
PRESENT = torch.ones(B, T, dtype=torch.bool)


def distilled(seed=0, modalities=BOTH):
    make = torch.Generator().manual_seed(seed)
    return {
        m: Distilled(torch.randn(B, T, D, generator=make, requires_grad=True), torch.randn(B, T, 3, D, generator=make))
        for m in modalities
    }


def head_of(name, modalities=BOTH):
    torch.manual_seed(0)
    return build(modalities, C, TrainConfig(head=name, width=D, layers=2, dropout=0.0)).eval()


def of_segments(output):
    """What a head says of single segments, `[B, T, columns]`."""
    return output.relevance[..., None] if isinstance(output, TwoHead) else output


def of_videos(output):
    return torch.cat([output.category, output.activation], dim=1)


@pytest.mark.parametrize("name", HEADS)
def test_heads_see_both_modalities_and_the_segments_they_should(name):
    head, inputs = head_of(name), distilled()
    output = head(inputs, PRESENT)
    assert of_segments(output).shape == (B, T, 1 if name == "cmbs" else C)
    of_segments(output)[0, 2].square().sum().backward()
    seen = [name != "linear" or t == 2 for t in range(T)]
    for one in inputs.values():
        reached = one.vector.grad.abs().sum(-1) > 0
        assert reached.tolist() == [seen, [False] * T]


@pytest.mark.parametrize("name", ["temporal", "cmbs"])
def test_heads_know_the_order_of_segments(name):
    head, inputs = head_of(name), distilled()
    backwards = {m: Distilled(one.vector.flip(1), one.top) for m, one in inputs.items()}
    found, turned = (of_segments(head(x, PRESENT)) for x in (inputs, backwards))
    assert (turned.flip(1) - found).abs().max() > 1e-4
    assert len({tuple(row) for row in time_code(100, D, torch.device("cpu")).tolist()}) == 100


@pytest.mark.parametrize("name", HEADS)
def test_heads_ignore_padding(name):
    head, inputs = head_of(name), distilled()
    present = PRESENT.clone()
    present[1, 3:] = False
    other = {m: Distilled(torch.where(present[..., None], one.vector, 9.0), one.top) for m, one in inputs.items()}
    short = {m: Distilled(one.vector[1:, :3], one.top[1:, :3]) for m, one in inputs.items()}
    found, changed, alone = head(inputs, present), head(other, present), head(short, present[1:, :3])
    torch.testing.assert_close(of_segments(found)[present], of_segments(changed)[present])
    torch.testing.assert_close(of_segments(alone)[0], of_segments(found)[1, :3], rtol=1e-4, atol=1e-5)
    if name == "cmbs":
        torch.testing.assert_close(of_videos(found), of_videos(changed))
        torch.testing.assert_close(of_videos(alone)[0], of_videos(found)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("modality", BOTH)
def test_heads_work_on_one_modality(name, modality):
    head, inputs = head_of(name, (modality,)), distilled(modalities=(modality,))
    output = head(inputs, PRESENT)
    labels = torch.randint(0, C, (B, T), generator=torch.Generator().manual_seed(1))
    segment_loss(output, labels, name).backward()
    assert (inputs[modality].vector.grad.abs().sum(-1) > 0).all()


def test_the_linear_head_is_linear():
    head, first, second = head_of("linear"), distilled(0), distilled(1)
    between = {m: Distilled((first[m].vector + second[m].vector) / 2, first[m].top) for m in BOTH}
    mean = (head(first, PRESENT) + head(second, PRESENT)) / 2
    torch.testing.assert_close(head(between, PRESENT), mean)
    assert head.join.out_features == 2 * D  # 512, as published, at the default width


@pytest.mark.parametrize("opened", BOTH)
def test_a_gate_adds_a_tenth_to_the_other_modality(opened):
    head, other = head_of("cmbs"), {"audio": "visual", "visual": "audio"}[opened]
    with torch.no_grad():
        for m in BOTH:
            head.gate[m].weight.zero_()
            head.gate[m].bias.fill_(-50)
            head.activate[m].bias.zero_()
        head.activate[opened].weight.zero_()  # activations of the other alone are seen
        shut = head(distilled(), PRESENT).activation
        head.gate[other].bias.fill_(50)
        torch.testing.assert_close(head(distilled(), PRESENT).activation, shut)
        head.gate[opened].bias.fill_(50)
        torch.testing.assert_close(head(distilled(), PRESENT).activation, 1.1 * shut)
    assert shut.abs().max() > 0.01


def test_best_mean_takes_the_highest_that_count():
    scores = torch.tensor([[5.0, 1, 9, 2, 4, 3], [7, 8, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])[..., None]
    counted = torch.tensor([[1, 1, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0], [0] * 6], dtype=torch.bool)
    assert best_mean(scores, counted)[:, 0].tolist() == [(5 + 4 + 3 + 2) / 4, 7.5, 0]
    assert best_mean(scores[:, :2], counted[:, :2])[:, 0].tolist() == [3, 7.5, 0]


def test_under_weak_supervision_relevance_knows_the_classes():
    config = {"head": "cmbs", "width": D, "dropout": 0.0}
    heads = []
    for supervision in ("full", "weak"):
        torch.manual_seed(0)
        heads.append(build(BOTH, C, TrainConfig(supervision=supervision, **config)).eval())
    plain, weak = (head(distilled(), PRESENT) for head in heads)
    assert all((a == b).all() for a, b in zip(plain[1:], weak[1:], strict=True))
    with torch.no_grad():
        for m in BOTH:  # one class stands out in every segment, by 5 in each modality
            heads[1].activate[m].weight.zero_()
            heads[1].activate[m].bias.copy_(torch.arange(C - 1) == 3).mul_(5)
    torch.testing.assert_close(heads[1](distilled(), PRESENT).relevance, plain.relevance + 5)


def random_labels():
    labels = torch.randint(0, C, (B, T), generator=torch.Generator().manual_seed(4))
    labels[0, :3] = IGNORED
    return labels


@pytest.mark.parametrize("loss", [event_loss, softmax_loss])
def test_losses_leave_out_ignored_segments(loss):
    logits = torch.randn(B, T, C, generator=torch.Generator().manual_seed(3), requires_grad=True)
    labels = random_labels()
    each = []
    for b, t in (labels != IGNORED).nonzero().tolist():
        chances, right = logits[b, t].softmax(-1), int(labels[b, t])
        others = torch.cat([chances[:right], chances[right + 1 :]])
        sum_of_all = -chances[right].log() - (1 - others).log().sum()
        each.append(-chances[right].log() if loss is event_loss else sum_of_all / C)
    torch.testing.assert_close(loss(logits, labels), torch.stack(each).mean())
    nothing = loss(logits, torch.full((B, T), IGNORED))
    nothing.backward()
    assert nothing == 0
    assert (logits.grad == 0).all()


def two_heads(seed=3):
    make = torch.Generator().manual_seed(seed)
    relevance, gate = torch.randn(B, T, generator=make), torch.rand(B, T, generator=make)
    return TwoHead(relevance, gate, torch.randn(B, C - 1, generator=make), torch.randn(B, C - 1, generator=make))


def test_the_two_head_loss_has_its_four_terms():
    output, labels = two_heads(), torch.full((B, T), C - 1)
    labels[0] = torch.tensor([IGNORED, 7, 7, C - 1, 7])
    event, counted = labels == 7, labels != IGNORED
    relevance = functional.logsigmoid(torch.where(event, output.relevance, -output.relevance))
    gate = torch.where(event, output.gate, 1 - output.gate).log()
    found = -(relevance + gate)[counted].mean()
    for logits in (output.category, output.activation):  # of the first clip alone: the second has no event
        found = found - logits[0].log_softmax(-1)[7]
    torch.testing.assert_close(two_head_loss(output, labels), found)
    assert two_head_loss(output, torch.full((B, T), IGNORED)) == 0


def test_several_events_are_asked_for_by_their_share():
    output, labels = two_heads(), torch.full((B, T), C - 1)
    labels[0] = torch.tensor([3, 3, 3, 9, C - 1])
    one = [two_head_loss(output, torch.where(labels < C - 1, kind, labels)) for kind in (3, 9)]
    torch.testing.assert_close(two_head_loss(output, labels), 0.75 * one[0] + 0.25 * one[1])


def labels_of_videos():
    wanted = torch.zeros(B, C)
    wanted[0, 7] = wanted[1, C - 1] = 1
    return wanted


def test_the_weak_loss_judges_each_class_by_its_best_segments():
    logits = torch.randn(B, T, C, generator=torch.Generator().manual_seed(3))
    counted = PRESENT.clone()
    counted[1, 2:] = False
    first = logits[0].sort(0).values[1:].mean(0).log_softmax(-1)[7]
    second = logits[1, :2].mean(0).log_softmax(-1)[C - 1]
    torch.testing.assert_close(weak_loss(logits, labels_of_videos(), counted), -(first + second) / 2)
    counted[1] = False
    torch.testing.assert_close(weak_loss(logits, labels_of_videos(), counted), -first)


def test_the_weak_two_head_loss_asks_whether_and_which():
    output, wanted = two_heads(), labels_of_videos()
    best = [one.sort(1).values[:, 1:].mean(1) for one in (output.relevance, output.gate)]
    whether = functional.logsigmoid(best[0][0]) + functional.logsigmoid(-best[0][1]) + best[1][0].log()
    whether = whether + (1 - best[1][1]).log()
    which = sum(logits[0].log_softmax(-1)[7] for logits in (output.category, output.activation))
    torch.testing.assert_close(video_loss(output, wanted, PRESENT), -whether / 2 - which)
    assert video_loss(output, wanted, torch.zeros_like(PRESENT)) == 0


def test_crossing_moves_the_sound_on_and_nothing_else():
    inputs, present = distilled(), PRESENT.clone()
    present[1, 3:] = False
    crossed, both = cross(inputs, present)
    assert crossed["visual"] is inputs["visual"]
    assert (crossed["audio"].vector == inputs["audio"].vector[[1, 0]]).all()
    assert both.sum(1).tolist() == [3, 3]
