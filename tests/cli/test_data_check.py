import json
import shutil

import pytest
from plant import POINTER
from typer.testing import CliRunner

from avpipe.cli.data import app
from avpipe.pipeline.errors import UsageError
from avpipe.stages.demo.generate import make_demo


@pytest.fixture(scope="session")
def one_ave(tmp_path_factory):
    root = tmp_path_factory.mktemp("check") / "data" / "ave"
    make_demo("ave", root, clips=3, workers=1)
    return root


@pytest.fixture
def data(one_ave, tmp_path, monkeypatch):
    """A working folder with demo data in `data/ave`."""
    shutil.copytree(one_ave, tmp_path / "data" / "ave")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AVPIPE_DATA", raising=False)
    return tmp_path / "data"


def invoke(*arguments, code=0):
    result = CliRunner().invoke(app, ("check", *arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def test_whole_data_are_checked_and_found_right(data):
    text = invoke("--workers", "1")
    assert text.startswith("ave: data/ave (demo data)\n")
    assert text.splitlines()[-1] == "1 dataset: nothing wrong"
    assert "3 files looked at in " in text


def test_a_fault_makes_the_exit_code_3_and_is_printed(data):
    videos = sorted((data / "ave" / "AVE_Dataset" / "AVE").glob("*.mp4"))
    videos[0].unlink()
    videos[1].write_text(POINTER)
    text = invoke("--dataset", "ave", "--quick", code=3)
    assert text.splitlines()[:-3] == invoke("ave", "--quick", code=3).splitlines()[:-3]
    with pytest.raises(UsageError, match="several datasets are named, 'llp' and 'ave': give one of them"):
        invoke("llp", "--dataset", "ave")
    assert f"fault: missing-file (1)\n  {videos[0].relative_to(data.parent)}: no such file" in text
    assert f"fault: pointer-file (1)\n  {videos[1].relative_to(data.parent)}: a " in text
    assert text.splitlines()[-1] == "1 dataset: 2 faults; nothing was changed"


def test_json_has_everything(data):
    table = data / "ave" / "AVE_Dataset" / "Annotations.txt"
    table.write_text(table.read_text() + "Bagpipes&ABCDEFGHIJK&good&0&10\n")
    (report,) = json.loads(invoke("--quick", "--json", code=3))
    assert list(report) == ["name", "root", "demo", "counts", "findings", "leakage", "files", "seconds"]
    assert report["counts"][0] == {"what": "clips", "found": 3, "official": 3}
    (finding,) = report["findings"]
    assert (finding["kind"], finding["level"]) == ("unknown-class", "fault")
    assert finding["where"] == "data/ave/AVE_Dataset/Annotations.txt line 5"
    assert list(finding) == ["kind", "where", "what", "done", "level"]
    assert report["leakage"] == {"recordings": 3, "shared": 0, "pairs": {}, "parts": {}}


def test_only_the_first_of_a_kind_are_printed_unless_all_are_wanted(data):
    for number in range(25):
        (data / "ave" / "AVE_Dataset" / "AVE" / f"left{number:02d}.mp4").write_bytes(b"x")
    text = invoke("--quick")
    assert "note: stray-file (25)" in text
    assert "left19.mp4" in text
    assert "left20.mp4" not in text
    assert "and 5 more: --all prints them" in text
    assert "left24.mp4" in invoke("--quick", "--all")


def test_leakage_is_printed_and_is_no_fault(data):
    base = data / "ave" / "AVE_Dataset"
    row = (base / "trainSet.txt").read_text().splitlines()[0].split("&")
    other = "&".join(["Clock" if row[0] != "Clock" else "Bark", row[1], "good", "0", "10"])
    for name in ("Annotations.txt", "testSet.txt"):
        (base / name).write_text((base / name).read_text() + other + "\n")
    text = invoke("--quick")
    assert f"leakage: train/test share 1 recording: {row[1]}\n" in text
    assert "1 of 3 recordings are in more than one split" in text


def test_what_is_not_there_is_a_usage_error(data):
    with pytest.raises(UsageError, match="dataset 'llp' not found"):
        invoke("--dataset", "llp")
    with pytest.raises(UsageError, match="no dataset found in"):
        invoke("--root", str(data))


MINE = "clip,media,split,events,labels\na,a.mp4,train,x@0-1,x\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--dataset", "ave", "release=first"), "unknown setting of ave 'release'"),
        (("--dataset", "ave", "--task", "foo"), "the task of ave is events, not foo"),
        (("--dataset", "mine.csv", "--task", "foo"), "unknown task of a table 'foo'"),
        (("--dataset", "mine.csv", "segments=x"), "segments is 'x', expected a whole number"),
        (("--dataset", "mine.csv"), "name one with --task"),
        (("--dataset", "mine.yaml"), "there is no table"),
    ],
)
def test_a_request_that_is_wrong_is_no_fault_of_the_data(data, arguments, says):
    (data.parent / "mine.csv").write_text(MINE)
    (data.parent / "mine.yaml").write_text("table: other.csv\n")
    with pytest.raises(UsageError, match=says):
        invoke(*arguments)


def test_a_table_that_cannot_be_read_is_a_fault_of_the_data(data):
    (data.parent / "mine.csv").write_text("clip,split\n")
    text = invoke("--dataset", "mine.csv", code=3)
    assert "fault: unusable (1)\n  mine.csv line 1: has no column media" in text


def test_a_set_file_that_is_not_there_costs_its_split_and_the_rest_is_looked_at(data):
    base = data / "ave" / "AVE_Dataset"
    (base / "testSet.txt").unlink()
    video = base / "AVE" / f"{(base / 'trainSet.txt').read_text().split('&')[1]}.mp4"
    video.unlink()
    (report,) = json.loads(invoke("--dataset", "ave", "--quick", "--json", code=3))
    told = [(finding["kind"], finding["where"]) for finding in report["findings"]]
    assert told == [
        ("missing-table", str((base / "testSet.txt").relative_to(data.parent))),
        ("missing-file", str(video.relative_to(data.parent))),
    ]


def test_every_dataset_that_is_found_is_checked_subset_by_subset(data):
    (data / "avsbench" / "Multi-sources").mkdir(parents=True)
    (data / "avsbench" / "Multi-sources" / "ms3_meta_data.csv").write_text("video_id,split\njlhuZfcw61w,train\n")
    row = "_19NVGk6Zt8_0,_19NVGk6Zt8_0,0,0,guitar,train,v1m"
    (data / "avsbench" / "metadata.csv").write_text(f"vid,uid,s_min,s_sec,a_obj,split,label\n{row}\n")
    names = [report["name"] for report in json.loads(invoke("--quick", "--json", code=3))]
    assert names == ["ave", "avsbench-avss", "avsbench-ms3"]
    both = json.loads(invoke("--dataset", "avsbench", "--quick", "--json", code=3))
    assert [report["name"] for report in both] == names[1:]


def test_a_table_of_ones_own_names_its_rows_and_what_they_share(data):
    videos = [path.relative_to(data.parent) for path in sorted((data / "ave" / "AVE_Dataset" / "AVE").glob("*.mp4"))]
    rows = [f"a,{videos[0]},train,x@0-3", f"b,{videos[1]},train,x@9-3", f"c,{videos[0]},test,x@1-2"]
    (data.parent / "mine.csv").write_text("\n".join(["clip,media,split,events", *rows]))
    (report,) = json.loads(invoke("--dataset", "mine.csv", "--json", code=3))
    # The file of the row that is left out is no stray; the third file of the folder is one.
    assert [(f["kind"], f["where"].rpartition("/")[2]) for f in report["findings"]] == [
        ("bad-event", "mine.csv line 3"),
        ("no-split", "mine.csv"),
        ("stray-file", videos[2].name),
        ("leakage", "mine.csv"),
    ]
    assert report["leakage"]["pairs"] == {"train/test": [str(videos[0])]}
    assert invoke("mine.csv", "--quick", code=3).startswith(f"mine.csv: {data.parent}\n")
