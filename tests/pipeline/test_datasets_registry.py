import sys
from pathlib import Path
from subprocess import run

import pytest

from avpipe import data_manifests
from avpipe.pipeline import datasets
from avpipe.pipeline.errors import UsageError

HEADER = "Category&VideoID&Quality&StartTime&EndTime\n"


def make_ave(root: Path, video: str = "aaaaaaaaaaa") -> Path:
    base = root / "AVE_Dataset"
    base.mkdir(parents=True)
    row = f"Bark&{video}&good&2&5\n"
    (base / "Annotations.txt").write_text(HEADER + row)
    for split, text in (("train", row), ("val", ""), ("test", "")):
        (base / f"{split}Set.txt").write_text(text)
    return root


def test_every_dataset_has_a_complete_manifest():
    subsets = {"avsbench-avss", "avsbench-ms3", "avsbench-s4"}
    assert set(datasets.names()) == {"ave", "avsbench", *subsets, "llp", "music-avqa"}
    for name in datasets.names():
        manifest = datasets.manifest_of(name)
        assert sum(manifest["counts"]["splits"].values()) == manifest["counts"]["samples"]
        assert manifest["name"] == name
        assert manifest["timeline"]["segments"] in (5, 10, 60)
        assert manifest["task"] in ("events", "parsing", "segmentation", "semantic", "qa")
        assert len(set(manifest["classes"])) == len(manifest["classes"])
        assert all(isinstance(name, str) for name in manifest["classes"])  # YAML takes a bare no for false
        assert all(
            manifest[key] for key in ("title", "task", "classes", "layout", "metric", "licence", "citation", "get")
        )


def test_manifest_names_are_the_files():
    assert data_manifests.names() == datasets.names()
    with pytest.raises(KeyError):
        data_manifests.load("nothing")


def test_unknown_dataset_names_the_nearest():
    with pytest.raises(UsageError, match=r"'avsbnch'.*'avsbench'"):
        datasets.load_dataset("avsbnch")


def test_subsets_share_a_folder():
    subsets = ["avsbench", "avsbench-s4", "avsbench-ms3", "avsbench-avss"]
    assert {datasets.folder(name) for name in subsets} == {"avsbench"}
    timelines = [datasets.manifest_of(name)["timeline"] for name in subsets]
    assert {(t["segment_seconds"], t["frame_position"]) for t in timelines} == {(1.0, 0.9375)}  # one cache, one clock
    assert [datasets.longest_clip(name) for name in (*subsets, "ave", "my own")] == [10, 10, 10, 10, 10, 0]
    assert datasets.folder("ave") == "ave"


def test_root_then_variable_then_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AVPIPE_DATA", raising=False)
    make_ave(tmp_path / "data" / "ave", "in_data____")
    assert datasets.locate("ave") == Path("data/ave")
    monkeypatch.setenv("AVPIPE_DATA", str(tmp_path / "elsewhere"))
    assert datasets.locate("ave") == Path("data/ave")  # the variable's folder does not have it
    make_ave(tmp_path / "elsewhere" / "ave", "in_variable")
    assert datasets.load_dataset("ave").clips[0].id == "in_variable"
    make_ave(tmp_path / "mine", "given______")
    assert datasets.load_dataset("ave", tmp_path / "mine").clips[0].id == "given______"


def test_not_found_says_where_what_and_how(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVPIPE_DATA", str(tmp_path / "elsewhere"))
    (tmp_path / "data" / "ave").mkdir(parents=True)
    assert datasets.find("ave") is None
    with pytest.raises(UsageError) as caught:
        datasets.load_dataset("ave")
    message = str(caught.value)
    assert f"{tmp_path}/elsewhere/ave: no such folder" in message
    assert f"{tmp_path}/data/ave: no AVE_Dataset/Annotations.txt and no Annotations.txt" in message
    assert "AVE_Dataset/AVE/<11-character id>.mp4" in message
    assert "YapengTian/AVE-ECCV18" in message
    assert "avpipe data make --dataset ave" in message


@pytest.mark.parametrize(
    "name", ["ave", "avsbench", "avsbench-s4", "avsbench-ms3", "avsbench-avss", "llp", "music-avqa"]
)
def test_every_dataset_says_what_it_looked_for(tmp_path, name):
    with pytest.raises(UsageError) as caught:
        datasets.load_dataset(name, tmp_path)
    manifest = datasets.manifest_of(name)
    for text in (str(tmp_path), *manifest["layout"], manifest["get"], f"avpipe data make --dataset {name}"):
        assert text in str(caught.value)


def test_given_root_is_not_replaced_by_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_ave(tmp_path / "data" / "ave")
    with pytest.raises(UsageError, match="missing: no such folder"):
        datasets.load_dataset("ave", tmp_path / "missing")


def test_overrides_replace_backbones_one_by_one(tmp_path):
    root = make_ave(tmp_path / "ave")
    before = datasets.load_dataset("ave", root).backbones
    assert before["visual"] == {"model": "swinv2_large_window12_192"}
    (root / "avpipe.yaml").write_text("backbones:\n  visual: {model: test_vit, weights: 'random:0', image_size: 160}\n")
    after = datasets.load_dataset("ave", root).backbones
    assert after["visual"] == {"model": "test_vit", "weights": "random:0", "image_size": 160}
    assert (after["audio"], after["layers"]) == (before["audio"], before["layers"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("backbone: {}", "'backbone': did you mean 'backbones'"),
        ("backbones: {visal: {model: x}}", "'backbones.visal': did you mean 'backbones.visual'"),
        ("backbones: {visual: {modle: x}}", "'backbones.visual.modle': did you mean 'backbones.visual.model'"),
        ("backbones: {visual: test_vit}", "backbones.visual is 'test_vit', expected keys: model"),
        ("backbones: {visual: {image_size: big}}", "backbones.visual.image_size is 'big', expected a whole number"),
        ("backbones: [", "not a YAML file"),
        ("- a", "the file is"),
    ],
)
def test_bad_overrides_are_refused_by_name(tmp_path, text, says):
    root = make_ave(tmp_path / "ave")
    (root / "avpipe.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        datasets.load_dataset("ave", root)
    assert says in str(caught.value)
    assert str(root / "avpipe.yaml") in str(caught.value)


def test_yaml_tags_are_not_run(tmp_path):
    root = make_ave(tmp_path / "ave")
    (root / "avpipe.yaml").write_text(f"backbones: !!python/object/apply:os.mkdir ['{tmp_path / 'ran'}']\n")
    with pytest.raises(UsageError, match="not a YAML file"):
        datasets.load_dataset("ave", root)
    assert not (tmp_path / "ran").exists()


def test_listing_datasets_imports_nothing_heavy():
    code = (
        "import sys; from avpipe.pipeline import datasets; datasets.find('ave'); "
        "sys.exit(', '.join({'torch', 'PIL', 'av', 'zarr', 'pyarrow'} & set(sys.modules)))"
    )
    assert run([sys.executable, "-c", code], capture_output=True, text=True).stderr == "\n"
