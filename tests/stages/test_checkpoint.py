import os

import pytest
import torch
from torch import nn

from avpipe.pipeline.errors import CorruptionFound, UsageError
from avpipe.stages import checkpoint


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
