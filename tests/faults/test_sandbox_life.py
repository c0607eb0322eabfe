"""The life of decoder processes: they start, are replaced, are closed, and die with whatever they belong to."""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import psutil
import pytest
import stub_decoders
from watching import alive

from avpipe.pipeline.errors import EnvironmentLacking, UsageError
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media import decoder_process
from avpipe.pipeline.media.decode import MediaSpec
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.pipeline.timeline import Timeline

SPEC = MediaSpec(Timeline(), (32, 32), audio=True)
GOOD = Clip("good", 1)
STUBS = "import stub_decoders\n\ndef decode(clip, spec):\n    return stub_decoders.decode(clip, spec)\n"


def importable(name, source, folder, monkeypatch):
    """Makes a module of decoders that children can import too."""
    (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def pool():
    with DecodePool(SPEC, deadline_seconds=1.0, decode=stub_decoders.decode) as pool:
        yield pool


def test_a_child_that_was_stopped_between_clips_is_replaced(pool, monkeypatch):
    monkeypatch.setattr(decoder_process, "TAKE_UP_SECONDS", 0.5)
    pid = int(pool.submit(GOOD).result(20).provenance["pid"])
    os.kill(pid, signal.SIGSTOP)
    assert int(pool.submit(GOOD).result(20).provenance["pid"]) != pid
    assert not alive([pid])


def test_a_child_killed_between_clips_is_replaced(pool):
    pid = int(pool.submit(GOOD).result(20).provenance["pid"])
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert int(pool.submit(GOOD).result(20).provenance["pid"]) != pid


def test_start_up_and_queue_do_not_count(tmp_path, monkeypatch):
    nap = f"import os, time\ntime.sleep(1.1 * (os.getppid() == {os.getpid()}))\n"  # in children only
    slow = importable("slow_to_import", nap + STUBS, tmp_path, monkeypatch)
    with DecodePool(SPEC, deadline_seconds=1.0, decode=slow.decode) as pool:
        futures = [pool.submit(Clip("slow", 1)) for _ in range(2)]  # 1.2 s in all
        assert all(future.result(20).frames is not None for future in futures)


def test_children_that_cannot_start_are_no_fault_of_a_clip(tmp_path, monkeypatch):
    broken = importable("soon_broken", STUBS, tmp_path, monkeypatch)
    with DecodePool(SPEC, decode=broken.decode) as pool:
        pool.submit(GOOD).result(20)
        Path(broken.__file__).write_text("raise SystemExit(9)")
        pool.submit(Clip("exit", 1)).exception(20)  # so that a new child is needed
        with pytest.raises(EnvironmentLacking, match="end before they take up a clip"):
            pool.submit(GOOD).result(20)


def test_workers_run_side_by_side():
    with DecodePool(SPEC, workers=2, decode=stub_decoders.decode) as pool:
        futures = [pool.submit(Clip("slow", 1)) for _ in range(4)]
        assert len({future.result(20).provenance["pid"] for future in futures}) == 2


@pytest.mark.alone
def test_closing_ends_children_and_cancels_what_waits():
    with DecodePool(SPEC, decode=stub_decoders.decode) as pool:
        pid = int(pool.submit(GOOD).result(20).provenance["pid"])
        busy, waiting = pool.submit(Clip("hang", 1)), pool.submit(GOOD)
        while not busy.running():
            time.sleep(0.01)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert not psutil.pid_exists(pid)
    for future in (busy, waiting):
        with pytest.raises(CancelledError):
            future.result(5)
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(GOOD)
    pool.close()


def test_a_thread_may_make_it_and_end():
    made = []
    thread = threading.Thread(target=lambda: made.append(DecodePool(SPEC, decode=stub_decoders.decode).__enter__()))
    thread.start()
    thread.join()
    try:
        pid = made[0].submit(GOOD).result(20).provenance["pid"]
        time.sleep(0.3)
        assert made[0].submit(GOOD).result(20).provenance["pid"] == pid  # it did not die with the thread that asked
    finally:
        made[0].close()


PARENT = """
import multiprocessing, sys, time
sys.path.insert(0, sys.argv[1])
import stub_decoders
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import MediaSpec
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.pipeline.timeline import Timeline

def work():
    with DecodePool(MediaSpec(Timeline(), (32, 32), True), workers=2, decode=stub_decoders.decode) as pool:
        for future in [pool.submit(Clip("slow", 1)) for _ in range(4)]:
            print(future.result().provenance["pid"], flush=True)
        hanging = [pool.submit(Clip("hang-with-gil", 1)), pool.submit(Clip("hang", 1))]
        print("hanging", flush=True)
        hanging[0].result()

if __name__ == "__main__":
    if sys.argv[2] == "daemon":
        process = multiprocessing.get_context("spawn").Process(target=work, daemon=True)
        process.start()
        process.join()
    else:
        work()
"""


@contextlib.contextmanager
def parent(tmp_path, kind):
    """A process with a pool of two hanging children. Yields it and their process ids."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script), str(Path(stub_decoders.__file__).parent), kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)
    try:
        pids = set()
        for line in process.stdout:
            if line.strip() == "hanging":
                break
            pids.add(int(line))
        time.sleep(0.3)
        yield process, pids
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["plain", "daemon"])
def test_children_die_with_their_parent(tmp_path, kind):
    with parent(tmp_path, kind) as (process, pids):
        assert len(pids) == 2
        assert alive(pids, seconds=0) == pids
        family = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        assert pids <= family
        for pid in {process.pid, *(family - pids if kind == "daemon" else ())}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not alive(family)


def test_ctrl_c_reaches_the_parent_alone(tmp_path):
    with parent(tmp_path, "plain") as (process, pids):
        assert process.pid not in {os.getpgid(pid) for pid in pids}
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1  # the script's own
        assert not alive(pids)


def test_what_we_say_on_stderr_is_heard(capfd):
    with DecodePool(SPEC, decode=stub_decoders.decode) as pool:
        pool.submit(Clip("noise", 1)).result(20)
    assert capfd.readouterr().err == "a line of ours"


def test_settings_are_checked():
    with pytest.raises(UsageError, match="0 decode workers"):
        DecodePool(SPEC, workers=0)
