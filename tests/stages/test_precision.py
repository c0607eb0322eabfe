"""Autocast and `torch.compile`: tokens stay close to those of float32, and taps stay what they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm_small import CASES, frames
from torch._dynamo.exc import TorchDynamoException

from avpipe.pipeline.errors import EnvironmentLacking, UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of
from avpipe.stages.backbones.precision import compiled


def difference(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest relative difference of a tap."""
    assert list(found) == list(expected)
    return max(float(np.linalg.norm(found[tap] - expected[tap]) / np.linalg.norm(expected[tap])) for tap in expected)


def test_bfloat16_moves_tokens_a_little_and_gives_float32() -> None:
    case = CASES["ViT"]
    exact, near = (case.load(precision=precision).features(frames(case.size)) for precision in ("float32", "bfloat16"))
    assert {str(tokens.dtype) for tokens in near.values()} == {"float32"}
    assert 1e-4 < difference(near, exact) < 3e-2


def test_precision_is_part_of_the_facts_and_its_name_is_checked() -> None:
    half = BackboneChoice("visual", "test_vit", "random:0", precision="bfloat16")
    assert facts_of(half, Timeline()).fields()["precision"] == "bfloat16"
    for modality in ("visual", "audio"):
        with pytest.raises(UsageError, match="did you mean 'bfloat16'"):
            facts_of(BackboneChoice(modality, "test_vit", "random:0", precision="bfloat"), Timeline())


def test_float16_is_refused_on_a_cpu() -> None:
    with pytest.raises(UsageError, match="float16 is for GPUs; on a CPU give bfloat16"):
        CASES["ViT"].load(precision="float16")


def test_a_compiler_that_fails_is_said_to_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*inputs: torch.Tensor) -> None:
        raise TorchDynamoException("no working C++ compiler\nand much more")

    monkeypatch.setattr(torch, "compile", lambda module, **options: fails)
    with pytest.raises(EnvironmentLacking, match=r"fails here \(no working C\+\+ compiler\): leave out --compile"):
        compiled(torch.nn.Identity())(torch.zeros(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT", "mixed RoPE", "Swin-V2"])
def test_compiled_models_give_the_same_taps(name: str) -> None:
    """Compiling takes a minute or so; hooks see what they saw, and every call has its own inputs' tokens."""
    case = CASES[name]
    taps = tuple(case.facts().taps)[:3]
    expected = case.load(taps=taps).features(frames(case.size))
    model = case.load(taps=taps, compiled=True)
    assert difference(model.features(frames(case.size)), expected) < 1e-5
    turned = model.features(frames(case.size)[::-1].copy())
    assert difference({tap: tokens[::-1] for tap, tokens in turned.items()}, expected) < 1e-5
