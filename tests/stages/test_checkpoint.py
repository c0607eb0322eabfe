import json
import os
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from avpipe.pipeline.errors import CorruptionFound, UsageError
from avpipe.stages import checkpoint, distill
from avpipe.stages.config import TrainConfig


def trained(steps, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    step(model, optimizer, steps)
    return model, optimizer


def step(model, optimizer, steps):
    for number in range(steps):
        optimizer.zero_grad()
        model(torch.arange(6.0).view(2, 3) + number).square().sum().backward()
        optimizer.step()


def test_going_on_from_a_checkpoint_equals_not_stopping(tmp_path):
    model, optimizer = trained(5)
    checkpoint.save(tmp_path / "c.safetensors", model, {"epoch": 5, "text": "ä"}, optimizer)
    step(model, optimizer, 3)
    other, other_optimizer = trained(0, seed=1)
    assert checkpoint.restore(tmp_path / "c.safetensors", other, other_optimizer) == {"epoch": 5, "text": "ä"}
    step(other, other_optimizer, 3)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_names_of_tensors(tmp_path):
    model, optimizer = trained(1)
    checkpoint.save(tmp_path / "c", model, {}, optimizer)
    tensors, _ = checkpoint.read(tmp_path / "c")
    assert {"model.0.weight", "model.1.running_mean", "optimizer.0.weight.exp_avg", "optimizer.2.bias.step"} <= {
        *tensors
    }


EARLIER = {
    r"\.meta\.(\d+)": r".distillers.\1.meta",
    r"\.adapt\.(token_bias|to_query|to_key|to_value|back)": r".\1",
}
"""Names of LCD's parameters today, and before meta-tokens stood outside the layers."""


def test_names_of_an_earlier_version_are_read(tmp_path):
    def built(seed):
        torch.manual_seed(seed)
        shapes = {m: {"blocks.0": (9, 16), "blocks.1": (9, 16)} for m in ("audio", "visual")}
        return nn.ModuleDict({"distiller": distill.build("mettle", shapes, TrainConfig(width=16, rank=16))})

    def earlier(name):
        for pattern, before in EARLIER.items():
            name = re.sub(pattern, before, name)
        return name

    model, fresh = built(0), built(1)
    optimizer, other = (torch.optim.AdamW(one.parameters(), lr=0.1) for one in (model, fresh))
    sum(value.square().sum() for value in model.parameters()).backward()
    optimizer.step()
    checkpoint.save(tmp_path / "today", model, {}, optimizer)
    tensors, facts = checkpoint.read(tmp_path / "today")
    moved = {earlier(name): value for name, value in tensors.items()}
    assert "model.distiller.parts.audio.distillers.1.meta" in moved
    assert "optimizer.distiller.parts.visual.distillers.0.to_query.exp_avg" in moved
    save_file(moved, tmp_path / "earlier", metadata={checkpoint.FACTS: json.dumps(facts)})
    checkpoint.restore(tmp_path / "earlier", fresh, other)
    for name, value in model.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name
    states = [[one.state[p]["exp_avg"] for p in m.parameters()] for one, m in ((optimizer, model), (other, fresh))]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "c"
    checkpoint.write_atomic(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_refuses_missing_damaged_and_foreign_files(tmp_path):
    model, optimizer = trained(1)
    path = tmp_path / "c.safetensors"
    with pytest.raises(UsageError, match=r"no checkpoint .*c\.safetensors"):
        checkpoint.restore(path, model)
    checkpoint.save(path, model, {}, optimizer)
    whole = path.read_bytes()
    for bad in (b"", whole[:100], whole[:-8], b"text, not tensors"):
        path.write_bytes(bad)
        with pytest.raises(CorruptionFound, match="not a sound checkpoint"):
            checkpoint.restore(path, model)
    path.write_bytes(whole)
    with pytest.raises(CorruptionFound, match="does not fit"):
        checkpoint.restore(path, nn.Linear(3, 4))
