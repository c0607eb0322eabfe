"""Subsets of demo data in one folder: added whole, recorded each, and nothing half-made after an interruption."""

from __future__ import annotations

import fcntl
import os
import threading

import numpy as np
import pytest
import yaml

from avpipe.pipeline.datasets import find, load_dataset, overrides, read_overrides
from avpipe.pipeline.errors import UsageError
from avpipe.stages.demo import avsbench, avss, generate, publish
from avpipe.stages.demo.generate import LAYOUTS, make_demo

SUBSETS = ("avsbench-ms3", "avsbench-s4", "avsbench-avss")


def files_of(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def dull_media():
    """Black pictures and silence, quickly made: what is in the files does not matter here."""

    class Camera:
        def __init__(self, scene):
            self._shape = (scene.height, scene.width)

        def picture(self, time):
            return np.zeros((*self._shape, 3), np.uint8), np.zeros(self._shape, np.uint8)

    with pytest.MonkeyPatch.context() as patch:
        for module in (avsbench, avss):
            patch.setattr(module, "Camera", Camera)
            patch.setattr(module, "soundtrack", lambda scene, rate: np.zeros(scene.seconds * rate, np.float32))
        patch.setattr(avsbench, "write_mp4", lambda path, *_: path.write_bytes(b"video"))
        yield


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """A folder with all subsets, made one after the other, and its files."""
    out = tmp_path_factory.mktemp("all") / "avsbench"
    for name in SUBSETS:
        assert make_demo(name, out, seed=1, clips=3, workers=1)
    return out, files_of(out)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The files of MS3 alone."""
    out = tmp_path_factory.mktemp("one") / "avsbench"
    make_demo("avsbench-ms3", out, seed=1, clips=3, workers=1)
    return files_of(out)


@pytest.fixture
def root(tmp_path, one):
    """A folder of the test's own with MS3 in it."""
    for name, content in one.items():
        path = tmp_path / "avsbench" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "avsbench"


def test_records_may_name_what_there_is():
    assert set(overrides.DEMO_NAMES) == set(LAYOUTS)


def test_all_subsets_in_one_folder(every, one):
    out, files = every
    assert [path.name for path in out.parent.iterdir()] == ["avsbench"]
    record = {"seed": 1, "clips": 3, "generator": generate.GENERATOR}
    content = read_overrides(out)
    assert content["demo"] == dict.fromkeys(SUBSETS, record)
    assert content["backbones"] == yaml.safe_load(one["avpipe.yaml"])["backbones"]
    assert {name: files[name] for name in one if name != "avpipe.yaml"} == {
        name: content for name, content in one.items() if name != "avpipe.yaml"
    }
    dataset = load_dataset("avsbench", out)
    assert (dataset.subsets, dataset.task, dataset.notes) == (("s4", "ms3", "avss"), "mixed", ())
    assert len(dataset.clips) == 9


def test_a_subset_that_is_there_is_left_alone(every):
    out, files = every
    for name in (*SUBSETS, "avsbench"):
        assert not make_demo(name, out, seed=1, clips=3)
    with pytest.raises(UsageError, match=r"other demo data of avsbench-s4 \(seed 1 there, 2 asked\)"):
        make_demo("avsbench-s4", out, seed=2, clips=3)
    assert files_of(out) == files


def test_subsets_keep_their_own_seed_and_the_users_backbones(root):
    content = read_overrides(root)
    content["backbones"]["layers"] = "last:2"
    (root / "avpipe.yaml").write_text(yaml.safe_dump(content))
    make_demo("avsbench-s4", root, seed=7, clips=4, workers=1)
    after = read_overrides(root)
    assert after["backbones"] == content["backbones"]
    assert {name: record["seed"] for name, record in after["demo"].items()} == {"avsbench-ms3": 1, "avsbench-s4": 7}


def test_a_subset_that_was_removed_can_be_made_with_another_seed(root):
    (root / "Multi-sources").rename(root.parent / "elsewhere")
    assert make_demo("avsbench-ms3", root, seed=2, clips=3, workers=1)
    assert read_overrides(root)["demo"]["avsbench-ms3"]["seed"] == 2


def test_nothing_of_the_users_is_replaced(root):
    before = files_of(root)
    (root / "v2").mkdir()
    (root / "v2" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="has v2 already"):
        make_demo("avsbench-avss", root, clips=3, workers=1)
    assert files_of(root) == {**before, "v2/thesis.txt": b"years of work"}
    with pytest.raises(UsageError, match="is no demo data of ave"):
        make_demo("ave", root, clips=3)
    (root / "avpipe.yaml").write_text(yaml.safe_dump({"backbones": {"layers": "all"}}))
    with pytest.raises(UsageError, match="is no demo data of avsbench-s4"):
        make_demo("avsbench-s4", root, clips=3)


def test_demo_data_of_an_older_version_says_what_to_do(root):
    (root / "avpipe.yaml").write_text(yaml.safe_dump({"demo": {"dataset": "avsbench", "seed": 1, "clips": 3}}))
    with pytest.raises(UsageError, match=r"older version: remove .*avsbench and its cache"):
        make_demo("avsbench-s4", root, clips=3)


class Killed(BaseException):
    """Ends a run at a chosen step, without any clean-up that a killed process would not do."""


@pytest.mark.parametrize("step", range(9))
def test_a_run_that_is_killed_while_it_publishes_is_finished_by_the_next(root, every, monkeypatch, step):
    """AVSS has five entries, moved by five renames; before them two for sealing, after them the record."""
    monkeypatch.setattr(publish.shutil, "rmtree", _until(publish.shutil.rmtree, [step - 8]))
    left = [step]
    with monkeypatch.context() as patch:
        patch.setattr(publish.Path, "rename", _until(publish.Path.rename, left))
        patch.setattr(publish.Path, "replace", _until(publish.Path.replace, left))
        with pytest.raises(Killed):
            make_demo("avsbench-avss", root, seed=1, clips=3, workers=1)
    monkeypatch.undo()
    assert load_dataset("avsbench", root).notes == ()  # readable at every step, without what is not whole
    assert (find("avsbench-avss", root) is not None) == (step > 6)
    made = make_demo("avsbench-s4", root, seed=1, clips=3, workers=1)  # whatever is made next finishes it
    assert made
    assert ("avsbench-avss" in read_overrides(root)["demo"]) == (step > 0)
    assert make_demo("avsbench-avss", root, seed=1, clips=3, workers=1) == (step == 0)
    assert {name: content for name, content in files_of(root).items() if name != "avpipe.yaml"} == {
        name: content for name, content in every[1].items() if name != "avpipe.yaml"
    }
    assert [path.name for path in root.parent.iterdir()] == ["avsbench"]


def _until(function, left):
    def counted(*arguments, **options):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return function(*arguments, **options)

    return counted


def test_a_folder_that_is_removed_while_it_is_half_moved_is_made_anew(root, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(publish.Path, "rename", _until(publish.Path.rename, [4]))
        with pytest.raises(Killed):
            make_demo("avsbench-avss", root, seed=1, clips=3, workers=1)
    root.rename(root.parent / "gone")
    assert make_demo("avsbench-avss", root, seed=1, clips=3, workers=1)
    assert load_dataset("avsbench", root).notes == ()
    assert sorted(path.name for path in root.parent.iterdir()) == ["avsbench", "gone"]


def test_two_processes_do_not_make_subsets_at_once(root):
    beside = root.parent / ".avsbench.making"
    beside.mkdir()
    with (beside / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is making demo data"):
            make_demo("avsbench-s4", root, clips=3)


def test_a_lock_that_was_removed_before_it_was_taken_keeps_nobody_out_and_is_not_trusted(tmp_path, monkeypatch):
    """The holder goes and a third process comes, between opening the lock and taking it."""
    out, beside = tmp_path / "avsbench", tmp_path / ".avsbench.making"
    flock, third = fcntl.flock, []

    def late(file, how):
        if not third:
            (beside / ".lock").unlink()
            third.append((beside / ".lock").open("w"))
            flock(third[0], fcntl.LOCK_EX)
        flock(file, how)

    monkeypatch.setattr(publish.fcntl, "flock", late)
    with pytest.raises(UsageError, match="another process is making demo data"), publish.workshop(out):
        pass
    third[0].close()
    with publish.workshop(out) as folder:
        assert folder.is_dir()
    assert not beside.exists()


def test_a_workshop_that_another_process_removes_meanwhile_is_made_anew(tmp_path, monkeypatch):
    out, beside = tmp_path / "avsbench", tmp_path / ".avsbench.making"
    function, done = publish.Path.open, []

    def late(path, *arguments, **options):
        if path.parent == beside and not done:
            done.append(beside.rmdir())
        return function(path, *arguments, **options)

    monkeypatch.setattr(publish.Path, "open", late)
    with publish.workshop(out) as folder:
        assert folder.is_dir()
    assert done
    assert not beside.exists()


def test_many_at_once_are_never_two_in_the_workshop(tmp_path):
    """Threads stand for processes here: a file that is opened twice is locked as if by two."""
    entered, faults = [], []

    def work():
        for _ in range(100):
            try:
                with publish.workshop(tmp_path / "avsbench"):
                    os.close(os.open(tmp_path / "inside", os.O_CREAT | os.O_EXCL))
                    entered.append(1)
                    (tmp_path / "inside").unlink()
            except UsageError as error:
                faults.extend([error] if "another process" not in str(error) else [])
            except OSError as error:
                faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entered
    assert not faults
