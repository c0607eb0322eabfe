"""`avpipe cache show | verify` and `avpipe status` as a user types them."""

from __future__ import annotations

import json

import cache_toy as toy
import pytest
import typer
from typer.testing import CliRunner

from avpipe.cli.cache import app as cache_app
from avpipe.cli.status import status
from avpipe.pipeline.cache import open_cache

CLIPS = toy.clips(3)


@pytest.fixture
def run():
    program = typer.Typer()
    program.add_typer(cache_app, name="cache")
    program.command("status")(status)

    def invoke(*args, code=0):
        result = CliRunner().invoke(program, [str(arg) for arg in args])
        assert result.exit_code == code, result.output
        return result.stdout

    return invoke


@pytest.fixture
def path(tmp_path):
    toy.extract(tmp_path / "c", CLIPS, reject={CLIPS[1][0]})
    return tmp_path / "c"


def test_show(run, path):
    facts = json.loads(run("cache", "show", "--cache", path, "--json"))
    assert facts["content_hash"] == open_cache(path).content_hash()
    assert (facts["clips"], facts["segments"], facts["quarantined"], facts["units"]) == (2, 6, 1, 2)
    assert facts["arrays"][toy.BLOCK.name]["shape"] == [16, 3, 8]
    shards = list(path.glob("*/*/c.*"))
    assert facts["bytes"] == sum(p.stat().st_size for p in shards)
    text = run("cache", "show", "--cache", path)
    assert facts["content_hash"] in text
    assert toy.BLOCK.name in text


def test_verify_exits_with_5_and_lists_the_fault(run, path):
    assert "no fault" in run("cache", "verify", "--cache", path)
    assert json.loads(run("cache", "verify", "--cache", path, "--json"))["ok"] is True
    shard = path / toy.BLOCK.shard_key(0)
    data = bytearray(shard.read_bytes())
    data[data.index(toy.value(CLIPS[0][0], toy.BLOCK, 0).tobytes())] ^= 1
    shard.write_bytes(data)
    (fault,) = json.loads(run("cache", "verify", "--cache", path, "--json", code=5))["faults"]
    assert (fault["clip"], fault["segment"], fault["array"]) == (CLIPS[0][0], 0, toy.BLOCK.name)
    text = run("cache", "verify", "--cache", path, code=5)
    assert repr(CLIPS[0][0]) in text
    assert str(shard) in text


def test_status(run, path):
    facts = json.loads(run("status", "--cache", path, "--json"))
    assert facts["clips"] == {"planned": 3, "done": 2, "left": 0, "quarantined": 1}
    assert facts["eta_seconds"] == 0
    text = run("status", "--cache", path)
    assert "nothing" in text
    assert "2 of 2 committed" in text
