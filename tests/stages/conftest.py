"""Fixtures of stage two: makers of small datasets with made-up features, and one thread."""

from __future__ import annotations

import pytest
import torch
from features_toy import fill_cache, make_events, make_masks, make_parsing


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Bits of a sum depend on the number of threads; and idle threads would spin where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_toy():
    """Makers of toys of a test's own: `make_toy["events"](folder, ...)`."""
    return {"events": make_events, "masks": make_masks, "parsing": make_parsing}


@pytest.fixture(name="fill_cache")
def fill_cache_fixture():
    """The function that makes a cache of given tokens."""
    return fill_cache
