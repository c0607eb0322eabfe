"""The decode pool against decoders that crash, hang, raise, swell and answer with something else."""

import os
import pickle
import re
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import stub_decoders
from watching import alive

from avpipe.pipeline.errors import EnvironmentLacking, InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import MediaSpec, decode_clip
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.pipeline.timeline import Timeline

MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media"
SPEC = MediaSpec(Timeline(), (32, 32), audio=True)
GOOD = Clip("good", 1)


@pytest.fixture(scope="module")
def pool():
    with DecodePool(SPEC, deadline_seconds=1.0, decode=stub_decoders.decode) as pool:
        yield pool


def rejection(future):
    with pytest.raises(InputRejected) as caught:
        future.result(20)
    return caught.value


DIED = r"the decoder process died "
LATE = "no answer from the decoder within 1 s"
OTHER = r"the decoder gave what was not asked for "


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        ("segfault", DIED + r"\(signal 11, SIGSEGV\)"),
        ("exit", DIED + r"\(exit status 3\)"),
        ("closed", DIED + r"\(it closed its socket\)"),
        ("half-then-exit", DIED + r"\(exit status 3\)"),
        ("hang", LATE),
        ("hang-with-gil", LATE),
        ("hang-without-gil", LATE),
        ("hang-in-re", LATE),
        ("stop", LATE),
        ("half-then-stop", LATE),
        ("half-then-trickle", LATE),
        ("garbage", OTHER + r"\(other bytes than an answer\)"),
        ("short", OTHER + r"\(frames: uint8 \[1, 31, 32, 3\], not uint8 \[1, 32, 32, 3\]\)"),
        ("float", OTHER + r"\(frames: float64 \[1, 32, 32, 3\], not uint8 \[1, 32, 32, 3\]\)"),
        ("no-clip", "the decoder returned a dict, not a decoded clip"),
        ("raise", r"the decoder raised ValueError: odd thing, in two lines \(stub_decoders.py:\d+\)"),
        ("raise-at-length", r"ValueError: x{500} \.\.\. \(stub_decoders.py:\d+\)"),
        ("system-exit", "the decoder raised SystemExit: 5"),
        ("interrupt", "the decoder raised KeyboardInterrupt"),
        ("odd", r"the decoder raised Odd: \(its message cannot be had\)"),
    ],
)
def test_trouble_costs_its_clip_alone(pool, clip, reason):
    before, bad, after = pool.submit(GOOD), pool.submit(Clip(clip, 1)), pool.submit(GOOD)
    error = rejection(bad)
    assert error.stage == "decode"
    assert repr(clip) in str(error)
    assert re.search(reason, str(error)), str(error)
    assert before.result(20).frames.shape == after.result(20).frames.shape == (1, 32, 32, 3)


@pytest.mark.parametrize(("clip", "least", "most"), [("hang", 1.0, 5.0), ("raise", 0.0, 0.9)])
def test_a_rejection_says_what_it_has_cost(pool, clip, least, most):
    """Seconds that a decoder was at it, kept where the error travels to another process."""
    pool.submit(GOOD).result(20)
    error = rejection(pool.submit(Clip(clip, 1)))
    assert least < error.seconds < most
    assert pickle.loads(pickle.dumps(error)).seconds == error.seconds


def test_errors_on_purpose_pass_through(pool):
    error = rejection(pool.submit(Clip("reject", 1)))
    assert (error.reason, error.stage, error.hint) == ("bad bytes", "frames", "fetch it again")
    with pytest.raises(EnvironmentLacking, match="no decoder here"):
        pool.submit(Clip("lacking", 1)).result(20)
    first, second = pool.submit(GOOD).result(20), pool.submit(GOOD).result(20)
    assert first.provenance == second.provenance  # none of them cost the child


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        ("swell", "not enough memory to decode it"),
        ("swell-at-once", "not enough memory to decode it"),
        ("swell-in-c", r"died \(signal 11, SIGSEGV\)"),
    ],
)
def test_ten_gigabytes_are_not_had(clip, reason):
    with DecodePool(SPEC, memory_limit_bytes=2**29, decode=stub_decoders.decode) as pool:
        first = pool.submit(GOOD).result(20)
        error = rejection(pool.submit(Clip(clip, 1)))
        assert re.search(reason, str(error)), str(error)
        assert "raise the memory limit" in error.hint
        assert "--decode-memory" in error.hint
        assert pool.submit(GOOD).result(20).provenance != first.provenance


def test_a_deadline_that_was_missed_names_the_file_and_the_option(pool, tmp_path):
    error = rejection(pool.submit(Clip("hang", 1, video=tmp_path / "a b.mp4")))
    assert error.reason == f"clip 'hang' ('{tmp_path}/a b.mp4'): {LATE}"
    assert "raise --deadline" in error.hint


def test_a_picture_larger_than_the_memory_is_not_called_damaged(tmp_path):
    path = tmp_path / "large.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"preset": "ultrafast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 4096, 3072, "yuv420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame(4096, 3072, "yuv420p")))
        container.mux(stream.encode())
    spec = MediaSpec(Timeline(0.2), (32, 32), audio=False, decoder="pyav")
    with DecodePool(spec, memory_limit_bytes=140 << 20) as pool:
        error = rejection(pool.submit(Clip("large", 2, video=path)))
    assert (error.stage, "not enough memory to decode it" in error.reason) == ("decode", True), error


def test_the_limit_is_on_by_default():
    with DecodePool(SPEC, decode=stub_decoders.decode) as pool:
        assert "memory" in str(rejection(pool.submit(Clip("swell-at-once", 1))))


def test_a_child_that_leaks_is_replaced_before_a_clip_pays_for_it(tmp_path):
    """Twenty clips leak 40 MB each, where 300 MB are to be had. None runs out of memory and is tried again."""
    with DecodePool(SPEC, memory_limit_bytes=300 * 2**20, decode=stub_decoders.decode) as pool:
        leaking = [pool.submit(Clip("leak", 1, video=tmp_path / "tried")) for _ in range(20)]
        children = [future.result(20).provenance["pid"] for future in leaking]
    assert 4 <= len(set(children)) <= 10
    assert len((tmp_path / "tried").read_text()) == 20


def test_what_earlier_clips_have_broken_is_tried_again_in_a_fresh_child(pool, tmp_path):
    fails_once = tmp_path / "tried"
    pool.submit(GOOD).result(20)
    assert pool.submit(Clip("crash-once", 1, video=fails_once)).result(20).frames is not None
    assert len(fails_once.read_text()) == 2
    assert "SIGSEGV" in str(rejection(pool.submit(Clip("segfault", 1))))
    assert "SIGSEGV" in str(rejection(pool.submit(Clip("segfault", 1))))  # a fresh child, which has the last word


def test_a_decoder_that_forks_answers_once(pool):
    futures = [pool.submit(Clip("fork", 1)), *(pool.submit(Clip(f"good {n}", 1)) for n in range(3))]
    assert len({future.result(20).provenance["pid"] for future in futures}) == 1


def test_what_a_decoder_has_started_ends_with_it(pool, tmp_path):
    note = tmp_path / "pid"
    assert "no answer" in str(rejection(pool.submit(Clip("start-another", 1, video=note))))
    assert not alive([int(note.read_text())])


def test_the_deadline_covers_opening(pool, tmp_path):
    os.mkfifo(tmp_path / "no writer")  # as a drive that does not answer
    assert "no answer" in str(rejection(pool.submit(Clip("hang-in-open", 1, video=tmp_path / "no writer"))))


def test_no_core_files_and_first_in_the_row_when_memory_runs_out(pool):
    pid = int(pool.submit(GOOD).result(20).provenance["pid"])
    assert psutil.Process(pid).rlimit(psutil.RLIMIT_CORE) == (0, 0)
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) > own


@pytest.mark.skipif(not MEDIA.is_dir(), reason="no folder of odd media beside the repository")
def test_every_odd_file_gives_a_result_or_one_reason(capfd):
    """Whether it is the right one: `test_media_shared.py`."""
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
        else:
            assert outcome.frames.shape == (3, 32, 32, 3)
    assert capfd.readouterr().err == ""
    assert sum(not isinstance(outcome, InputRejected) for outcome in outcomes.values()) > 60
    pancake = Clip("pancake", 3, video=MEDIA / "decord_flipping_a_pancake.mkv")
    here = decode_clip(pancake, wants["video"])  # same pixels whichever process decodes
    assert np.array_equal(here.frames, outcomes["decord_flipping_a_pancake.mkv", "video"].frames)
