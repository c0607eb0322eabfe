from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avpipe.pipeline.datasets import read_mask, read_semantic_mask, stray_values
from avpipe.pipeline.datasets.masks import palette
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


GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "avss" / "palette_and_resize.npz"
IDS = np.random.default_rng(1).integers(0, 71, (20, 30), np.uint8)


@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden vectors beside the repository")
def test_colours_are_the_official_ones(tmp_path):
    golden = np.load(GOLDEN)
    assert np.array_equal(palette(), golden["palette"])
    for colours, ids in (("colour_image", "class_map"), ("unknown_colour_image", "unknown_colour_class_map")):
        assert np.array_equal(read_semantic_mask(save(tmp_path / "m.png", golden[colours])), golden[ids])


@pytest.mark.parametrize("kind", ["ids", "colours", "ids with a palette", "colours with a palette"])
def test_masks_of_class_ids_in_every_form(tmp_path, kind):
    picture = Image.fromarray(palette()[IDS] if kind == "colours" else IDS)
    if "palette" in kind:
        entries = palette() if kind.startswith("colours") else np.arange(71 * 3, dtype=np.uint8)[::-1].reshape(71, 3)
        picture.putpalette(entries.tobytes())
    picture.save(tmp_path / "m.png")
    mask = read_semantic_mask(tmp_path / "m.png")
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, IDS)
    assert stray_values(tmp_path / "m.png", semantic=True) == ()


@pytest.mark.parametrize("kind", ["ids", "colours"])
def test_a_mask_is_squashed_as_it_is_read(tmp_path, kind):
    path = save(tmp_path / "m.png", palette()[IDS] if kind == "colours" else IDS)
    rows, columns = (np.arange(8) * 40 + 20) // 16, (np.arange(12) * 60 + 30) // 24  # the pixel at each middle
    assert np.array_equal(read_semantic_mask(path, (8, 12)), IDS[rows[:, None], columns])


def test_a_grey_palette_means_ids_though_its_greys_are_colours_of_classes(tmp_path):
    ids = np.zeros((4, 4), np.uint8)
    ids[1:3, 1:3] = 64  # (64, 64, 64) is the colour of class 56
    picture = Image.fromarray(ids).convert("P")
    assert picture.getpalette()[64 * 3 : 64 * 3 + 3] == [64, 64, 64]
    picture.save(tmp_path / "m.png")
    assert np.array_equal(read_semantic_mask(tmp_path / "m.png"), ids)
    picture.point(lambda value: value * 2).save(tmp_path / "n.png")  # (128, 128, 128) is that of class 7
    assert stray_values(tmp_path / "n.png", semantic=True) == (128,)
    entries = np.zeros((256, 3), np.uint8)
    entries[128] = palette()[5]  # an index above the classes, which has the colour of one
    picture = Image.fromarray(ids * 2)
    picture.putpalette(entries.tobytes())
    picture.save(tmp_path / "n.png")
    assert np.array_equal(read_semantic_mask(tmp_path / "n.png"), ids // 64 * 5)
    assert stray_values(tmp_path / "n.png", semantic=True) == ()


def test_ids_beyond_the_classes_are_refused_and_named(tmp_path):
    ids = IDS.copy()
    ids[0, :3] = (71, 255, 71)
    path = save(tmp_path / "m.png", ids)
    assert stray_values(path, semantic=True) == (71, 255)
    with pytest.raises(UsageError, match="holds 71, 255: class ids are 0 to 70"):
        read_semantic_mask(path)


def test_colours_of_no_class_are_background_and_named(tmp_path):
    colours = palette()[IDS]
    colours[3, 4], colours[5, 6] = (1, 2, 3), (128, 128, 127)
    path = save(tmp_path / "m.png", colours)
    expected = IDS.copy()
    expected[3, 4] = expected[5, 6] = 0
    assert np.array_equal(read_semantic_mask(path), expected)
    assert stray_values(path, semantic=True) == (0x010203, 0x80807F)


@pytest.mark.parametrize(
    ("values", "strays"),
    [([0, 1], ()), ([0, 255], ()), ([255], ()), ([0, 1, 255], (1,)), ([0, 7, 254], (7, 254)), ([2], (2,))],
)
def test_stray_values_of_binary_masks(tmp_path, values, strays):
    assert stray_values(save(tmp_path / "m.png", np.array([values], np.uint8))) == strays


@pytest.mark.parametrize("read", [read_semantic_mask, lambda path: stray_values(path, semantic=True)])
def test_what_is_no_mask_of_ids_is_refused(tmp_path, read):
    with pytest.raises(UsageError, match="is missing"):
        read(tmp_path / "none.png")
    with pytest.raises(UsageError, match="mode 'I;16'"):
        read(save(tmp_path / "deep.png", np.zeros((4, 4), np.uint16)))
