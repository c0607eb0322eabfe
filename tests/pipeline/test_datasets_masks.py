import numpy as np
import pytest
from PIL import Image

from avpipe.pipeline.datasets import read_mask
from avpipe.pipeline.errors import UsageError

SHAPE = np.zeros((5, 7), bool)
SHAPE[1:4, 2:6] = True


def save(path, values, mode=None):
    picture = Image.fromarray(values)
    if mode == "P":
        picture.putpalette([0, 0, 0, 128, 0, 0] + [255, 255, 255] * 254)
    elif mode:
        picture = picture.convert(mode)
    picture.save(path)
    return path


@pytest.mark.parametrize("on", [1, 255])
@pytest.mark.parametrize("mode", ["L", "P"])
def test_both_codings_of_grey_and_palette(tmp_path, on, mode):
    path = save(tmp_path / "-mask.png", SHAPE.astype(np.uint8) * on, mode)
    with Image.open(path) as written:
        assert written.mode == mode
    mask = read_mask(path)
    assert mask.dtype == bool
    assert np.array_equal(mask, SHAPE)


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA"])
def test_other_modes(tmp_path, mode):
    assert np.array_equal(read_mask(save(tmp_path / "m.png", SHAPE.astype(np.uint8) * 255, mode)), SHAPE)


@pytest.mark.parametrize(("value", "on"), [(0, False), (1, True), (255, True)])
def test_uniform_masks(tmp_path, value, on):
    assert (read_mask(save(tmp_path / "m.png", np.full((4, 4), value, np.uint8))) == on).all()


def test_grey_is_cut_at_the_middle_and_not_dithered(tmp_path):
    values = np.repeat(np.array([[0, 60, 127, 128, 200, 255]], np.uint8), 64, axis=0)
    mask = read_mask(save(tmp_path / "m.png", values))
    assert (mask == [False, False, False, True, True, True]).all()


def test_what_is_no_mask_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is missing"):
        read_mask(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UsageError, match="cannot be read"):
        read_mask(tmp_path / "text.png")
    whole = save(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="cannot be read"):
        read_mask(tmp_path / "cut.png")
    with pytest.raises(UsageError, match="mode 'I;16'"):
        read_mask(save(tmp_path / "deep.png", np.zeros((4, 4), np.uint16)))
