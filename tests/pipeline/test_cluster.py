"""What Dask's workers print: of the end of a run nothing."""

from __future__ import annotations

import logging

import pytest
from distributed.comm.core import CommClosedError

from avpipe.pipeline import cluster


@pytest.fixture
def worker_log(caplog, monkeypatch):
    logger = logging.getLogger("distributed.worker")
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(cluster.signal, "signal", lambda *_: None)
    cluster.dask_setup(None)
    return logger


@pytest.mark.parametrize(("error", "said"), [(CommClosedError("in <TCP>"), 0), (OSError("no route to host"), 1)])
def test_a_heartbeat_that_meets_a_closed_connection_is_not_printed(worker_log, caplog, error, said):
    try:
        raise error
    except OSError:
        worker_log.exception("Failed to communicate with scheduler during heartbeat.")
    assert len(caplog.records) == said


def test_other_lines_of_a_worker_are_printed(worker_log, caplog):
    worker_log.error("out of memory")
    assert [record.getMessage() for record in caplog.records] == ["out of memory"]
