"""Media of clips out of the cache: found for each unit without looking through the whole cache again."""

from types import SimpleNamespace

import cache_toy as toy
import numpy as np
import pytest

from avpipe.pipeline.cache import Cache, UnitWork, open_cache
from avpipe.stages.clip_media import MediaSource

CLIPS = toy.clips(12)


@pytest.fixture
def looked(monkeypatch):
    """How often the whole cache was looked through."""
    found, clips = [], Cache.clips
    monkeypatch.setattr(Cache, "clips", lambda *args: found.append(args) or clips(*args))
    return found


def _works(path):
    """Each unit, as if a layer of it were to be made from stored frames."""
    with toy.begin(path) as writer:
        plan = writer.plan(CLIPS, [toy.FRAMES, toy.BLOCK])
    return [UnitWork(work.unit, work.clips, (toy.BLOCK,)) for work in plan.pending]


def test_stored_frames_of_all_units_are_found_at_one_look(tmp_path, looked):
    path = tmp_path / "c"
    toy.extract(path, CLIPS, [toy.FRAMES])
    works = _works(path)
    source = MediaSource(SimpleNamespace(cache=path))
    looked.clear()
    for work in works:
        source.begin(work)
        for clip in work.clips:
            found = source.media(work, clip, None)
            expected = [toy.value(clip.id, toy.FRAMES, segment) for segment in range(clip.segments)]
            np.testing.assert_array_equal(found.values["visual"], expected)
            assert found.masks["visual"].all()
    assert len(works) > 3
    assert len(looked) == 1


def test_what_another_process_has_stored_since_is_found(tmp_path, looked):
    path = tmp_path / "c"
    toy.extract(path, CLIPS[:6], [toy.FRAMES])
    source = MediaSource(SimpleNamespace(cache=path))
    source.begin(_works(path)[0])
    toy.extract(path, CLIPS, [toy.FRAMES])
    work = _works(path)[-1]
    assert work.clips[0].id not in source._stored
    source.begin(work)
    clip = work.clips[0]
    frames = source.media(work, clip, None).values["visual"]
    np.testing.assert_array_equal(frames[0], toy.value(clip.id, toy.FRAMES, 0))
    assert open_cache(path).rows([clip.id])[0] == clip.start
