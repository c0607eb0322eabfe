"""Where features are kept: what fits, what is said, what is refused before anything is read."""

import pytest
import torch

from avpipe.pipeline import open_cache
from avpipe.pipeline.errors import UsageError
from avpipe.stages import residency
from avpipe.stages.feature_store import FeatureStore
from avpipe.stages.features import ClipFeatures, every_tap
from avpipe.stages.loader import BatchReader
from avpipe.stages.residency import choose

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIB = 2**30


@pytest.fixture
def free(monkeypatch):
    """Says how much is free: `free(ram, gpu)` in GiB."""

    def say(ram, gpu=0.0):
        monkeypatch.setattr(residency, "free_ram", lambda: int(ram * GIB))
        monkeypatch.setattr(residency, "free_gpu", lambda device: int(gpu * GIB))

    return say


@pytest.mark.parametrize(
    ("device", "need", "place", "why"),
    [
        (CPU, 2, "ram", "20.0% of 10,240.0 MiB of free memory"),
        (CPU, 6, "disk", "60.0% of 10,240.0 MiB of free memory, more than 50%"),
        (CUDA, 2, "gpu", "33.3% of 6,144.0 MiB of free memory of cuda"),
        (CUDA, 4, "ram", "66.7% of 6,144.0 MiB of free memory of cuda, more than 50%; 40.0% of 10,240.0 MiB of free"),
        (CUDA, 6, "disk", "100.0% of 6,144.0 MiB of free memory of cuda, more than 50%; 60.0% of 10,240.0 MiB"),
    ],
)
def test_auto_takes_the_fastest_that_fits_and_says_why(free, device, need, place, why):
    free(10, 6)
    choice = choose("auto", need * GIB, device)
    assert choice.place == place
    assert choice.why.startswith(why)


def test_what_is_asked_for_is_taken_or_refused_with_numbers(free):
    free(10, 6)
    assert choose("disk", 100 * GIB, CPU).place == "disk"
    assert choose("ram", 8 * GIB, CPU).place == "ram"
    assert choose("gpu", 5 * GIB, CUDA).place == "gpu"
    with pytest.raises(UsageError, match=r"residency ram: 9,728\.0 MiB .* 10,240\.0 MiB of free memory.*90%"):
        choose("ram", int(9.5 * GIB), CPU)
    with pytest.raises(UsageError, match=r"residency gpu: 5,836\.8 MiB .* 6,144\.0 MiB of free memory of cuda"):
        choose("gpu", int(5.7 * GIB), CUDA)
    with pytest.raises(UsageError, match="needs training on a GPU, not on cpu"):
        choose("gpu", 1, CPU)
    with pytest.raises(UsageError, match="unknown residency 'rma': did you mean 'ram'"):
        choose("rma", 1, CPU)


def test_what_does_not_fit_is_refused_before_it_is_read(toy_events, free, monkeypatch):
    cache = open_cache(toy_events.cache)
    monkeypatch.setattr(cache, "read", lambda *_: pytest.fail("it was read"))
    free(0.0001)
    with pytest.raises(UsageError, match="residency ram"):
        FeatureStore(cache, every_tap(cache, ("audio",)), list(cache.clips()), residency="ram")
    assert FeatureStore(cache, every_tap(cache, ("audio",)), list(cache.clips())).residency == "disk"


def test_batches_that_do_not_fit_are_refused(toy_events, free):
    cache = open_cache(toy_events.cache)
    store = FeatureStore(cache, every_tap(cache, ("audio",)), list(cache.clips()), residency="disk")
    data = ClipFeatures(store, ())
    free(0.001)  # a segment has 576 bytes: 9 tokens of 16 channels in two taps
    with pytest.raises(UsageError, match=r"3 batches of 99 samples take 1\.6 MiB, 1\.0 MiB .* smaller batch="):  # noqa: SIM117
        with BatchReader(store, 99, CPU).batches(data, []):
            pass
    with BatchReader(store, 9, CPU).batches(data, []) as batches:
        assert list(batches) == []


def test_a_control_group_limits_what_is_free(tmp_path):
    """Version 2 with a limit above, version 1, and no limit at all."""
    inner = tmp_path / "box" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "membership").write_text("0::/box/inner\n")
    assert residency._groups(tmp_path / "membership", tmp_path) == [inner, inner.parent, tmp_path]
    for name, content in {"max": "max", "current": "5", "stat": "anon 5\n"}.items():
        (inner / f"memory.{name}").write_text(content)
    assert residency._room(inner) is None
    for name, content in {
        "max": "1000",
        "current": "700",
        "stat": "anon 300\ninactive_file 250\nactive_file 150",
    }.items():
        (inner.parent / f"memory.{name}").write_text(content)
    assert residency._room(inner.parent) == 1000 - 700 + 400
    one = tmp_path / "memory" / "box"
    one.mkdir(parents=True)
    (tmp_path / "membership").write_text("4:cpu,memory:/box\n3:pids:/box\n")
    assert residency._groups(tmp_path / "membership", tmp_path) == [one, one.parent]
    for name, content in {"limit_in_bytes": "50", "usage_in_bytes": "60", "stat": ""}.items():
        (one / f"memory.{name}").write_text(content)
    assert residency._room(one) == 1  # a full group has no room, which is not the same as no limit
    (one / "memory.limit_in_bytes").write_text(str(2**63 - 4096))
    assert residency._room(one) is None
    assert residency._groups(tmp_path / "nothing", tmp_path) == []
    assert 0 < residency.free_ram() < 2**50
