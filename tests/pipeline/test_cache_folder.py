"""Where a cache's folder cannot be made, the message says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from avpipe.pipeline.cache import CacheWriter
from avpipe.pipeline.errors import EnvironmentLacking


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
def test_a_folder_that_takes_no_folders_is_named():
    with pytest.raises(EnvironmentLacking, match=r"cannot make the folder /proc/x: /proc takes .* another --cache"):
        CacheWriter.create("/proc/x", dataset={}, unit_rows=1)
