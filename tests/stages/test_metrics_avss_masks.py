import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_metrics import quick

from avpipe.pipeline.datasets.masks import colours_to_classes, palette
from avpipe.pipeline.errors import UsageError
from avpipe.stages.metrics import avss_masks


@quick
@given(height=st.integers(1, 40), width=st.integers(1, 40), rows=st.integers(1, 30), columns=st.integers(1, 30))
def test_each_pixel_comes_from_the_middle_of_its_place(height, width, rows, columns):
    mask = np.arange(height * width).reshape(height, width)
    ours = avss_masks.resize_to_eval(mask, (rows, columns))
    assert (ours.shape, ours.dtype) == ((rows, columns), mask.dtype)
    for found, old, new in ((ours[:, 0] // width, height, rows), (ours[0] % width, width, columns)):
        place, border = np.divmod((2 * np.arange(new) + 1) * old, 2 * new)
        assert ((found == place) | ((border == 0) & (found == place - 1))).all()  # a middle on a border: either side
    assert (ours == ours[:, :1] // width * width + ours[:1] % width).all()


def test_bool_masks_and_colours_keep_their_type():
    mask = np.eye(8, dtype=bool)
    small = avss_masks.resize_to_eval(mask, (4, 4))
    assert small.dtype == np.bool_
    assert (small == np.eye(4, dtype=bool)).all()
    colours = palette()[:64].reshape(8, 8, 3)
    by_colour = colours_to_classes(avss_masks.resize_to_eval(colours, (4, 4)))
    assert (by_colour == avss_masks.resize_to_eval(np.arange(64).reshape(8, 8), (4, 4))).all()
    with pytest.raises(UsageError, match=r"\(0, 4\)"):
        avss_masks.resize_to_eval(np.zeros((0, 4)))


def test_training_takes_the_middle_square():
    mask = np.repeat(np.arange(30)[None], 10, axis=0)
    assert avss_masks.crop_for_training(mask, 10)[0].tolist() == list(range(10, 20))
    assert avss_masks.crop_for_training(mask.T, 10)[:, 0].tolist() == list(range(10, 20))
