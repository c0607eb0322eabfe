"""Verification of a cache that is being made and written to: what is not finished yet is no fault."""

from __future__ import annotations

import threading
import time

import cache_toy as toy

from avpipe.pipeline.cache import verify
from avpipe.pipeline.cache.locate import is_cache


def test_no_fault_while_others_write(tmp_path):
    path, ended, errors = tmp_path / "c", threading.Event(), []

    def write():
        try:
            for count in range(2, 26, 2):
                toy.extract(path, toy.clips(count), toy.VISUAL)
            toy.extract(path, toy.clips(24), toy.ARRAYS)
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    writer, reports = threading.Thread(target=write), []
    writer.start()
    deadline = time.monotonic() + 60
    while not (ended.is_set() and reports) and time.monotonic() < deadline:
        if is_cache(path):
            reports.append(verify(path))
    writer.join()
    assert not errors, errors
    assert len(reports) > 5
    assert [report.faults for report in reports if not report.ok] == []
    toy.assert_sound(path, toy.clips(24))
