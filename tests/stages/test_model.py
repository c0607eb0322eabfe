"""What a model is built for, told from a cache: the grid that the mask decoder needs."""

from types import SimpleNamespace

import pytest

from avpipe.pipeline.errors import UsageError
from avpipe.stages.model import describe


def described(tokens, **backbone):
    """The grid for one visual tap with so many tokens, one of them before the patches."""
    spec = SimpleNamespace(imported=False, fields={"backbone": {"prefix_tokens": 1, **backbone}})
    cache = SimpleNamespace(path="c", specs={"visual": spec})
    return describe(cache, {"visual": {"blocks.0": (tokens, 8)}}, "segmentation", 2, (32, 48)).grids["blocks.0"]


def test_the_grid_of_patches_comes_from_the_cache():
    stages = [{"blocks": 2, "width": 8, "grid": [2, 3]}]
    assert described(7, stages=stages) == (2, 3)
    with pytest.raises(UsageError, match=r"has 8 tokens, not 1 \+ 2 x 3: .* needs taps of whole patch grids"):
        described(8, stages=stages)


def test_a_cache_that_does_not_know_its_grid_is_to_be_made_again():
    with pytest.raises(UsageError, match="was made by an earlier version; run `avpipe extract` into another cache"):
        described(7, grid=[2, 3])
