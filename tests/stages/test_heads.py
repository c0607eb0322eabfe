import pytest
import torch

from avpipe.stages.distill import Distilled
from avpipe.stages.heads.mask import MaskHead, mask_loss, to_mask_size
from avpipe.stages.heads.mask.fusion import GuideFusion

B, T, D = 2, 5, 16
BOTH = ("audio", "visual")
VIT = {"blocks.0": (4, 6, 8), "blocks.1": (4, 6, 12)}
SWIN = {"layers.0.blocks.1": (8, 8, 4), "layers.1.blocks.0": (4, 4, 8), "layers.1.blocks.1": (4, 4, 8)} | {
    "layers.2.blocks.0": (2, 2, 12)
}
"""Rows, columns and channels by tap."""


def distilled(seed=0, modalities=BOTH, meta_tokens=3):
    make = torch.Generator().manual_seed(seed)
    return {
        m: Distilled(
            torch.randn(B, T, D, generator=make, requires_grad=True),
            torch.randn(B, T, meta_tokens, D, generator=make, requires_grad=True),
        )
        for m in modalities
    }


def mask_head(modalities=BOTH, taps=None, prefix=1, mask_size=(64, 96), classes=1):
    torch.manual_seed(0)
    taps = VIT if taps is None else taps
    shapes = {tap: (prefix + rows * columns, channels) for tap, (rows, columns, channels) in taps.items()}
    grids = {tap: (rows, columns) for tap, (rows, columns, _) in taps.items()} or {"": (4, 6)}
    return MaskHead(shapes, grids, prefix, mask_size, modalities, width=D, dropout=0.0, classes=classes)


def visual_tokens(taps=None, prefix=1):
    make = torch.Generator().manual_seed(2)
    return {
        tap: torch.randn(B, T, prefix + rows * columns, channels, generator=make).half()
        for tap, (rows, columns, channels) in (VIT if taps is None else taps).items()
    }


def opened(module):
    """The module with the gates of its fusions, which start at zero, away from it."""
    for fusion in module.modules():
        if isinstance(fusion, GuideFusion):
            for layer in (fusion.back, fusion.gate):
                torch.nn.init.normal_(layer.weight, std=0.3)
    return module


@pytest.mark.parametrize(
    ("mask_size", "shape"), [((64, 96), (16, 24)), ((16, 24), (8, 12)), ((65, 96), (32, 48)), ((64, 190), (32, 48))]
)
def test_mask_head_reaches_a_quarter_of_the_mask(mask_size, shape):
    assert mask_head(mask_size=mask_size)(visual_tokens(), distilled()).shape == (B, T, *shape)


@pytest.mark.parametrize("names", [SWIN, list(SWIN)[:1], list(SWIN)[2:], list(SWIN)[1:3], list(SWIN)[::3]])
def test_any_taps_will_do(names):
    """Stages of a Swin, several taps of one, a single tap: each is used, and every weight learns."""
    taps = {name: SWIN[name] for name in names}
    head, tokens = opened(mask_head(taps=taps, prefix=0, mask_size=(64, 64))), visual_tokens(taps, prefix=0)
    logits = head(tokens, distilled())
    assert logits.shape == (B, T, 16, 16)
    logits.square().mean().backward()
    without = [name for name, weight in head.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []
    for tap in taps:
        with torch.no_grad():
            assert (head({**tokens, tap: -tokens[tap]}, distilled()) - logits).abs().max() > 1e-3


def test_grids_that_do_not_double():
    taps = {"a": (7, 5, 4), "b": (4, 3, 8)}
    head = mask_head(taps=taps, mask_size=(56, 40))
    assert head(visual_tokens(taps), distilled()).shape == (B, T, 14, 10)
    taps = {"a": (7, 5, 4)}
    assert mask_head(taps=taps, mask_size=(56, 40))(visual_tokens(taps), distilled()).shape == (B, T, 14, 10)


def test_several_classes():
    one, many = mask_head(), mask_head(classes=20)
    logits = many(visual_tokens(), distilled())
    assert logits.shape == (B, T, 20, 16, 24)
    background = float(logits.detach().softmax(dim=2)[:, :, 0].mean())
    assert background == pytest.approx(0.9, abs=0.03)  # at the start
    assert one.up.to_logits.weight.shape[:2] == (1, 16)
    wide = MaskHead({}, {"": (4, 4)}, 0, (64, 64), ("audio",), width=64, dropout=0.0, classes=71)
    assert wide.up.to_logits.weight.shape[:2] == (71, 64)  # not narrower than the decoder before so many classes


def test_mask_head_drops_prefix_tokens_and_keeps_the_grid():
    head, tokens = mask_head().eval(), visual_tokens()
    changed = {tap: x.clone() for tap, x in tokens.items()}
    for x in changed.values():
        x[:, :, 0] += 5
    torch.testing.assert_close(head(changed, distilled()), head(tokens, distilled()))
    for patch in (1 * 6 + 4, 2 * 6 + 0):  # row 1, column 4 and row 2, column 0 of 4 x 6
        changed = {**tokens, "blocks.0": tokens["blocks.0"].clone()}
        changed["blocks.0"][:, :, 1 + patch] *= -1
        with torch.no_grad():
            moved = (head(changed, distilled()) - head(tokens, distilled())).abs().mean(dim=(0, 1))
        assert int(torch.nn.functional.avg_pool2d(moved[None], 4).argmax()) == patch


def test_mask_head_lets_sound_in_where_it_should():
    head, inputs = opened(mask_head()), distilled()
    before = head(visual_tokens(), inputs)
    before[0, 2].square().sum().backward()
    for one in inputs.values():
        for grad in (one.vector.grad, one.top.grad):
            reached = grad.flatten(2).abs().sum(-1) > 0
            assert reached.tolist() == [[t == 2 for t in range(T)], [False] * T]


@pytest.mark.parametrize("taps", [VIT, SWIN])
def test_sound_is_the_identity_at_the_start(taps):
    head, tokens = mask_head(taps=taps), visual_tokens(taps)
    torch.testing.assert_close(head(tokens, distilled(0)), head(tokens, distilled(1)), rtol=0, atol=0)
    with torch.no_grad():
        opened(head)
        assert (head(tokens, distilled(0)) - head(tokens, distilled(1))).abs().max() > 1e-3


def test_visual_alone_and_audio_alone():
    alone = opened(mask_head(("visual",)))(visual_tokens(), distilled(modalities=("visual",)))
    assert alone.shape == (B, T, 16, 24)
    head, inputs = opened(mask_head(("audio",), taps={}, prefix=0)), distilled(modalities=("audio",))
    blind = head({}, inputs)
    assert blind.shape == (B, T, 16, 24)
    assert (blind[0, 0] - blind[1, 1]).abs().max() > 1e-4  # sound decides
    assert blind[0, 0].std() > 1e-4  # positions differ


def test_mask_loss_asks_for_the_mask_and_for_silence():
    truth = torch.zeros(2, 8, 8)
    truth[0, 2:5, 2:6] = 1
    right = (truth * 2 - 1) * 12
    assert mask_loss(right, truth, 1.0) < 0.01
    assert mask_loss(-right, truth, 1.0) > 5
    false_alarm = right.clone()
    false_alarm[1, :2] = 12
    extra = mask_loss(false_alarm, truth, 1.0) - mask_loss(false_alarm, truth, 0.0)
    assert extra == pytest.approx((1 - 1 / 17) / 2, abs=1e-3)  # dice of the silent frame: 16 wrong pixels


def test_to_mask_size_is_bilinear():
    grown = to_mask_size(torch.tensor([[[0.0, 4.0]]]), (2, 4))
    assert grown[0].tolist() == [[0, 1, 3, 4]] * 2
