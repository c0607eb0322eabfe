import pytest
import torch

from avpipe.stages.distill import Distilled
from avpipe.stages.heads.mask import MaskHead, mask_loss, to_mask_size

B, T, D = 2, 5, 16
BOTH = ("audio", "visual")


def distilled(seed=0, modalities=BOTH, meta_tokens=3):
    make = torch.Generator().manual_seed(seed)
    return {
        m: Distilled(
            torch.randn(B, T, D, generator=make, requires_grad=True),
            torch.randn(B, T, meta_tokens, D, generator=make, requires_grad=True),
        )
        for m in modalities
    }


def mask_head(modalities=BOTH, taps=None, prefix=1, mask_size=(64, 96)):
    torch.manual_seed(0)
    taps = {"blocks.0": (1 + 24, 8), "blocks.1": (1 + 24, 12)} if taps is None else taps
    return MaskHead(taps, (4, 6), prefix, mask_size, modalities, width=D, dropout=0.0)


def visual_tokens():
    make = torch.Generator().manual_seed(2)
    return {
        "blocks.0": torch.randn(B, T, 25, 8, generator=make).half(),
        "blocks.1": torch.randn(B, T, 25, 12, generator=make).half(),
    }


def opened(head):
    """The head with its gates, which start at zero, away from it."""
    for layer in (head.fuse.back, head.fuse.gate):
        torch.nn.init.normal_(layer.weight, std=0.3)
    return head


def test_mask_head_reaches_a_quarter_of_the_mask():
    assert mask_head()(visual_tokens(), distilled()).shape == (B, T, 16, 24)
    assert mask_head(mask_size=(16, 24))(visual_tokens(), distilled()).shape == (B, T, 4, 6)
    assert mask_head(mask_size=(65, 96))(visual_tokens(), distilled()).shape == (B, T, 32, 48)


def test_mask_head_drops_prefix_tokens_and_keeps_the_grid():
    head, tokens = mask_head().eval(), visual_tokens()
    changed = {tap: x.clone() for tap, x in tokens.items()}
    for x in changed.values():
        x[:, :, 0] += 5
    torch.testing.assert_close(head(changed, distilled()), head(tokens, distilled()))
    tokens["blocks.0"][0, 0, 1 + 6 * 1 + 4] *= -1  # patch in row 1, column 4 of 4 x 6
    with torch.no_grad():
        moved = (head(tokens, distilled()) - head(visual_tokens(), distilled()))[0, 0].abs()
    row, column = divmod(int(moved.argmax()), 24)
    assert 3 <= row <= 8
    assert 15 <= column <= 20


def test_mask_head_lets_sound_in_where_it_should():
    head, inputs = opened(mask_head()), distilled()
    before = head(visual_tokens(), inputs)
    before[0, 2].square().sum().backward()
    for one in inputs.values():
        for grad in (one.vector.grad, one.top.grad):
            reached = grad.flatten(2).abs().sum(-1) > 0
            assert reached.tolist() == [[t == 2 for t in range(T)], [False] * T]


def test_sound_is_the_identity_at_the_start():
    torch.testing.assert_close(
        mask_head()(visual_tokens(), distilled(0)), mask_head()(visual_tokens(), distilled(1)), rtol=0, atol=0
    )


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
