"""The decode pool against decoders that crash, hang, raise and swell, and against the death of either side."""

import contextlib
import importlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from avpipe.pipeline.errors import EnvironmentLacking, InputRejected, UsageError
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import MediaSpec, decode_clip
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.pipeline.timeline import Timeline

MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media"
SPEC = MediaSpec(Timeline(), (32, 32), audio=True)
GOOD = Clip("good", 1)

STUBS = '''
import ctypes, os, signal, struct, sys, time
import numpy as np
from avpipe.pipeline.errors import EnvironmentLacking, InputRejected
from avpipe.pipeline.media.decode import DecodedClip

def decode(clip, spec):
    """Does what the clip's id says."""
    name = clip.id
    if name == "segfault": ctypes.string_at(0)
    if name == "exit": os._exit(3)
    if name == "hang": time.sleep(1000)
    if name == "hang-with-gil": ctypes.PyDLL(None).sleep(1000)
    if name == "raise": raise ValueError("odd thing")
    if name == "system-exit": sys.exit(5)
    if name == "reject": raise InputRejected("bad bytes", stage="frames", hint="fetch it again")
    if name == "lacking": raise EnvironmentLacking("no decoder here")
    if name == "swell": hog = [np.empty(2**24) for _ in range(80)]
    if name.startswith("half"): os.write(int(sys.argv[1]), struct.pack("!i", 1_000_000) + b"begun")
    if name == "half-then-stop": os.kill(os.getpid(), signal.SIGSTOP)
    if name == "half-then-trickle":
        while True: time.sleep(0.2); os.write(int(sys.argv[1]), b"more")
    if name == "half-then-exit": os._exit(3)
    if name == "slow": time.sleep(0.6)
    if name == "noise": os.write(2, b"a line of ours")
    frames = np.full((1, 32, 32, 3), os.getpid() % 251, np.uint8)
    return DecodedClip(frames, None, {}, {"pid": str(os.getpid())}, 0.0)
'''


def importable(name, source, folder, monkeypatch):
    """Makes a module of decoders that children can import too."""
    (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield importable("stub_decoders", STUBS, tmp_path_factory.mktemp("stubs"), monkeypatch)


@pytest.fixture(scope="module")
def pool(stubs):
    with DecodePool(SPEC, deadline_seconds=1.0, decode=stubs.decode) as pool:
        yield pool


def rejection(future):
    with pytest.raises(InputRejected) as caught:
        future.result(20)
    return caught.value


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        ("segfault", r"the decoder process died \(signal 11\)"),
        ("exit", r"the decoder process died \(exit status 3\)"),
        ("hang", "no answer from the decoder within 1 s"),
        ("hang-with-gil", "no answer from the decoder within 1 s"),
        ("half-then-stop", "no answer from the decoder within 1 s"),
        ("half-then-trickle", "no answer from the decoder within 1 s"),
        ("half-then-exit", r"the decoder process died \(exit status 3\)"),
        ("raise", r"the decoder raised ValueError: odd thing \(stub_decoders.py:\d+\)"),
        ("system-exit", "the decoder raised SystemExit: 5"),
    ],
)
def test_trouble_costs_its_clip_alone(pool, clip, reason):
    before, bad, after = pool.submit(GOOD), pool.submit(Clip(clip, 1)), pool.submit(GOOD)
    error = rejection(bad)
    assert error.stage == "decode"
    assert repr(clip) in str(error)
    assert re.search(reason, str(error)), str(error)
    assert before.result(20).frames.shape == after.result(20).frames.shape == (1, 32, 32, 3)


def test_errors_on_purpose_pass_through(pool):
    error = rejection(pool.submit(Clip("reject", 1)))
    assert (error.reason, error.stage, error.hint) == ("bad bytes", "frames", "fetch it again")
    with pytest.raises(EnvironmentLacking, match="no decoder here"):
        pool.submit(Clip("lacking", 1)).result(20)
    first, second = pool.submit(GOOD).result(20), pool.submit(GOOD).result(20)
    assert first.provenance == second.provenance  # none of them cost the child


def test_memory_limit(stubs):
    with DecodePool(SPEC, memory_limit_bytes=2**29, decode=stubs.decode) as pool:
        assert "memory" in str(rejection(pool.submit(Clip("swell", 1))))
        assert pool.submit(GOOD).result(20).frames is not None


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


def test_workers_run_side_by_side(stubs):
    with DecodePool(SPEC, workers=2, decode=stubs.decode) as pool:
        futures = [pool.submit(Clip("slow", 1)) for _ in range(4)]
        assert len({future.result(20).provenance["pid"] for future in futures}) == 2


@pytest.mark.alone
def test_closing_ends_children_and_cancels_what_waits(stubs):
    with DecodePool(SPEC, decode=stubs.decode) as pool:
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


def test_a_thread_may_make_it_and_end(stubs):
    made = []
    thread = threading.Thread(target=lambda: made.append(DecodePool(SPEC, decode=stubs.decode).__enter__()))
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
def parent(tmp_path, stubs, kind):
    """A process with a pool of two hanging children. Yields it and their process ids."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script), str(Path(stubs.__file__).parent), kind]
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


def alive(pids):
    living = set()
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                living.add(pid)
    return living


@pytest.mark.parametrize("kind", ["plain", "daemon"])
def test_children_die_with_their_parent(tmp_path, stubs, kind):
    with parent(tmp_path, stubs, kind) as (process, pids):
        assert len(pids) == 2
        assert alive(pids) == pids
        family = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        assert pids <= family
        for pid in {process.pid, *(family - pids if kind == "daemon" else ())}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 3
        while alive(family) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not alive(family)


def test_ctrl_c_reaches_the_parent_alone(tmp_path, stubs):
    with parent(tmp_path, stubs, "plain") as (process, pids):
        assert process.pid not in {os.getpgid(pid) for pid in pids}
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1  # the script's own
        assert not alive(pids)


def test_what_we_say_on_stderr_is_heard(stubs, capfd):
    with DecodePool(SPEC, decode=stubs.decode) as pool:
        pool.submit(Clip("noise", 1)).result(20)
    assert capfd.readouterr().err == "a line of ours"


def test_settings_are_checked():
    with pytest.raises(UsageError, match="0 decode workers"):
        DecodePool(SPEC, workers=0)


def sounds(path):
    """Whether FFmpeg hears anything in the first three seconds: some of the files really are silent."""
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.best("audio")):
            wave = frame.to_ndarray().astype(float)
            if np.ptp(wave) > (1e-3 if frame.format.name.startswith("flt") else 10):
                return True
            if frame.time is not None and frame.time > 3:
                break
    return False


@pytest.mark.skipif(not MEDIA.is_dir(), reason="no folder of odd media beside the repository")
def test_every_odd_file_gives_a_result_or_one_reason(capfd):
    paths = sorted(path for path in MEDIA.iterdir() if path.suffix not in (".md", ".json"))
    wants = {"video": MediaSpec(Timeline(), (32, 32), audio=False), "audio": MediaSpec(Timeline(), None, audio=True)}
    outcomes = {}
    for want, spec in wants.items():
        with DecodePool(spec, workers=2, deadline_seconds=20) as pool:
            futures = [(path, pool.submit(Clip(path.name, 3, video=path))) for path in paths]
            for path, future in futures:
                try:
                    outcomes[path.name, want] = future.result(60)
                except InputRejected as error:
                    outcomes[path.name, want] = error
    for (name, want), outcome in outcomes.items():
        if isinstance(outcome, InputRejected):
            assert outcome.stage in ("probe", "frames", "audio"), (name, outcome)  # no crash, no hang
            assert "\n" not in str(outcome)
            assert str(outcome).startswith(str(MEDIA / name))
        elif want == "audio":
            assert outcome.samples.shape == (3, 16_000)
            assert outcome.samples.any() == sounds(MEDIA / name), name
        else:
            assert outcome.frames.shape == (3, 32, 32, 3)
    assert capfd.readouterr().err == ""
    rejected = {key for key, outcome in outcomes.items() if isinstance(outcome, InputRejected)}
    damaged = {
        ("androidx_mkv_full_blocks.mkv", "video"),
        ("androidx_mkv_full_blocks.mkv", "audio"),
        ("androidx_mp3_100kB-garbage-prefix.mp3", "audio"),
        ("androidx_mp4_sample_with_fake_auxiliary_tracks.mp4", "video"),
        ("androidx_mp4_sample_with_invalid_nalu.mp4", "video"),
    }
    lacking = {key for key in rejected if re.search("no (video|audio) track", str(outcomes[key]))}
    assert rejected - lacking == damaged
    assert len(outcomes) - len(rejected) > 60
    pancake = Clip("pancake", 3, video=MEDIA / "decord_flipping_a_pancake.mkv")
    here = decode_clip(pancake, wants["video"])  # same pixels whichever process decodes
    assert np.array_equal(here.frames, outcomes["decord_flipping_a_pancake.mkv", "video"].frames)
