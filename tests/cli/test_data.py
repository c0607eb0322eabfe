import json

import pytest
from typer.testing import CliRunner

from avpipe.cli.data import app
from avpipe.pipeline.errors import UsageError


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AVPIPE_DATA", raising=False)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_ls_before_and_after_make(invoke):
    before = {entry["name"]: entry for entry in json.loads(invoke("ls", "--json"))}
    assert set(before) == {"ave", "avsbench", "avsbench-avss", "avsbench-ms3", "avsbench-s4", "llp", "music-avqa"}
    assert before["ave"]["official"]["splits"] == {"train": 3339, "val": 402, "test": 402}
    assert not any(entry["found"] for entry in before.values())
    assert before["avsbench"]["looked_in"] == ["data/avsbench"]
    text = invoke("ls")
    assert "looked in data/ave" in text
    assert "YapengTian/AVE-ECCV18" in text

    assert "made: data/avsbench" in invoke("make", "--dataset", "avsbench", "--clips", "3", "--workers", "1")
    assert "already there: data/avsbench" in invoke("make", "--dataset", "avsbench", "--clips", "3")
    after = {entry["name"]: entry for entry in json.loads(invoke("ls", "--json"))}
    for name in ("avsbench", "avsbench-ms3"):
        assert (after[name]["found"], after[name]["demo"], after[name]["root"]) == (True, True, "data/avsbench")
    assert not any(after[name]["found"] for name in ("ave", "avsbench-s4", "avsbench-avss"))


def test_a_subset_is_added_to_the_folder_of_the_others(invoke):
    options = ("--clips", "3", "--workers", "1")
    for subset in ("s4", "avss"):
        assert f"avsbench-{subset}: made: data/avsbench" in invoke("make", "--dataset", f"avsbench-{subset}", *options)
    entries = {entry["name"]: entry for entry in json.loads(invoke("ls", "--json"))}
    assert {name for name, entry in entries.items() if entry["demo"]} == {"avsbench", "avsbench-s4", "avsbench-avss"}
    assert "avsbench-s4: already there: data/avsbench" in invoke("make", "--dataset", "avsbench-s4", *options)


def test_a_folder_that_cannot_be_used_does_not_hide_the_other_datasets(invoke, tmp_path):
    invoke("make", "--dataset", "avsbench", "--clips", "3", "--workers", "1")
    (tmp_path / "data" / "ave" / "AVE_Dataset").mkdir(parents=True)
    (tmp_path / "data" / "ave" / "AVE_Dataset" / "Annotations.txt").touch()
    (tmp_path / "data" / "ave" / "avpipe.yaml").write_text("demo: {dataset: ave, seed: 0, clips: 3}\n")
    entries = {entry["name"]: entry for entry in json.loads(invoke("ls", "--json"))}
    assert "older version: remove data/ave and its cache" in entries["ave"]["problem"]
    assert (entries["avsbench"]["demo"], entries["avsbench"]["problem"]) == (True, None)
    (row,) = (line for line in invoke("ls").splitlines() if line.startswith("ave "))
    assert "unusable" in row
    assert "older version: remove data/ave and its cache" in row


def test_without_a_name_there_is_no_choice_between_subsets(invoke, monkeypatch):
    made = []
    monkeypatch.setattr(
        "avpipe.stages.demo.generate.make_demo", lambda name, folder, **_: made.append((name, str(folder)))
    )
    invoke("make")
    assert made == [("ave", "data/ave"), ("avsbench", "data/avsbench")]
    for named in (("llp",), ("--dataset", "llp"), ("llp", "--dataset", "llp")):
        invoke("make", *named)
    assert made[2:] == [("llp", "data/llp")] * 3
    with pytest.raises(UsageError, match="several datasets are named, 'llp' and 'ave': give one of them"):
        invoke("make", "llp", "--dataset", "ave")


def test_one_folder_cannot_hold_two_datasets(invoke, tmp_path):
    with pytest.raises(UsageError, match="--out here names one folder"):
        invoke("make", "--out", "here")
    assert not (tmp_path / "here").exists()
