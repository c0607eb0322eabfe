import numpy as np
import pytest
from PIL import Image

from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.frames import image_frames
from avpipe.pipeline.media.pictures import in_time, naming_fault, number_of, numbered, one_per_segment


def test_numbers_order_pictures_whatever_their_digits(tmp_path):
    for name in ("10.jpg", "9.jpg", "clip.mp4_2.png", "0001.PNG", "-x_3.jpeg", "._4.png", "cover.png", "5.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in numbered(tmp_path)] == [
        *("0001.PNG", "clip.mp4_2.png", "-x_3.jpeg", "9.jpg", "10.jpg"),
    ]


def test_a_folder_that_is_none_holds_no_pictures(tmp_path):
    (tmp_path / "file").touch()
    assert numbered(tmp_path / "absent") == numbered(tmp_path / "file") == ()


def test_each_segment_gets_the_picture_at_its_position(tmp_path):
    files = [tmp_path / f"{n}.jpg" for n in range(80)]  # 8 a second for 10 seconds
    assert one_per_segment(files, 10, 0.5) == tuple(files[4::8])
    assert one_per_segment(files, 10, 0.0) == tuple(files[::8])
    assert one_per_segment(files, 10, 1.0) == (*files[8::8], files[79])


def test_as_many_pictures_as_segments_are_taken_as_they_are_and_few_are_repeated(tmp_path):
    files = [tmp_path / f"{n}.jpg" for n in range(5)]
    assert one_per_segment(files, 5, 0.9375) == tuple(files)
    assert one_per_segment(files[:2], 4, 0.5) == (files[0], files[0], files[1], files[1])
    assert one_per_segment([], 4, 0.5) is None


def touched(folder, *names):
    for name in names:
        (folder / name).touch()
    return folder


def names(paths):
    return [path.name for path in paths]


def test_first_number_digits_and_leading_text_do_not_matter(tmp_path):
    for folder, given in {
        "zero": [f"{n}.png" for n in range(12)],
        "one": [f"{n:05}.jpg" for n in range(1, 13)],
        "wide": [f"frame-{n:010}.jpeg" for n in range(98, 103)],
        "avs": [f"-x_1.mp4_{n}.png" for n in range(1, 6)],
        "stepped": [f"{n}.png" for n in range(0, 60, 5)],
    }.items():
        (tmp_path / folder).mkdir()
        assert names(in_time(touched(tmp_path / folder, *given))) == given
    (tmp_path / "single").mkdir()
    assert names(in_time(touched(tmp_path / "single", "7.png"))) == ["7.png"]
    assert in_time(tmp_path / "absent") == ()


def test_a_hole_is_named_and_moves_no_other_picture(tmp_path):
    touched(tmp_path, *(f"x_{n:03}.jpg" for n in (8, 9, 11, 12)))
    assert names(in_time(tmp_path)) == [f"x_{n:03}.jpg" for n in range(8, 13)]
    assert names(numbered(tmp_path)) == [f"x_{n:03}.jpg" for n in (8, 9, 11, 12)]
    assert names(one_per_segment(in_time(tmp_path), 5, 0.5))[3:] == ["x_011.jpg", "x_012.jpg"]


def test_numbers_that_count_no_pictures_are_taken_in_order(tmp_path):
    given = ["0.jpg", "33.jpg", "67.jpg", "100.jpg"]  # milliseconds
    assert names(in_time(touched(tmp_path, *given))) == given


def test_strays_and_second_copies_are_left_out(tmp_path):
    main = [f"v_{n}.png" for n in range(1, 6)]
    touched(tmp_path, *main, "cover_3.png", "thumb2.jpg", "v_2.jpg", "v_4.txt", "notes.md", ".v_5.png.swp", "._v_3.png")
    assert names(in_time(tmp_path)) == main


def test_formats_may_change_on_the_way(tmp_path):
    given = ["1.png", "2.jpg", "3.jpg", "4.webp"]
    assert names(in_time(touched(tmp_path, *given))) == given


def test_numbers_may_stand_in_brackets_and_a_copy_of_a_picture_is_none(tmp_path):
    given = [f"frame ({n:02}).jpg" for n in (1, 2, 4)]
    assert names(in_time(touched(tmp_path, *given, "cover.jpg"))) == [*given[:2], "frame (03).jpg", given[2]]
    assert [number_of(name) for name in (*given, "frame 02).jpg", "frame.jpg")] == [1, 2, 4, None, None]
    (tmp_path / "c").mkdir()
    copies = touched(tmp_path / "c", "1.png", "2.png", "2 (1).png", "2 (2).png")
    assert names(in_time(copies)) == names(numbered(copies)) == ["1.png", "2.png"]


def test_strays_beside_a_series_do_not_take_its_place(tmp_path):
    series = [f"frame (0{n}).jpg" for n in range(1, 5)]
    assert names(in_time(touched(tmp_path, *series, "5.png", "frame (02).png", "cover.jpg", "Thumbs.db"))) == series


def test_time_stamps_in_names_are_taken_in_order(tmp_path):
    given = [f"Bildschirmfoto 2024-05-0{n} um 10.11.1{n}.jpg" for n in range(1, 5)]
    assert names(in_time(touched(tmp_path, *given))) == given


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["5.png", "a.png", "b.png"], "1 of its 3 pictures numbered alike ('5.png'), others not ('a.png')"),
        (["a_1.png", "b_1.png", "a_2.png", "b_2.png"], "two pictures of number 1 in it: 'a_1.png' and 'b_1.png'"),
        (["at 10.11.59.jpg", "at 10.12.00.jpg"], "'at 10.12.00.jpg' comes before 'at 10.11.59.jpg' by its number"),
        (["a.jpeg", "b.jpeg"], "no picture in it has a number at the end of its name, before the suffix: 'a.jpeg'"),
    ],
)
def test_names_that_do_not_tell_an_order_give_no_pictures(tmp_path, given, says):
    assert in_time(touched(tmp_path, *given)) == ()
    assert naming_fault(given).startswith(says)


def test_extraction_names_a_folder_that_gives_no_pictures_what_is_wrong_and_names_that_work(tmp_path):
    folders = {
        "jpeg": ("no picture in it has a number at the end of its name, before the suffix: 'a.jpeg'", "0001.jpg"),
        "empty": ("the folder is empty", "0001.jpg"),
        "heic": ("no pictures in it ('1.heic' is none)", "jpg, jpeg, png"),
        "outer": ("no pictures in it, but in its folder 'inner'", "name that one"),
        "gone": ("no such folder of pictures", "name one that is there"),
        "t.csv": ("a file, where a folder of pictures is expected", "name the folder"),
    }
    for name, picture in {"jpeg": "a.jpeg", "empty": "", "heic": "1.heic", "outer/inner": "1.png"}.items():
        (tmp_path / name).mkdir(parents=True)
        touched(tmp_path / name, *filter(None, [picture]))
    rows = [f"{name},{name},4,train,x@0-1" for name in folders]
    (tmp_path / "t.csv").write_text("\n".join(["clip,frames,segments,split,events", *rows]))
    clips = load_dataset(str(tmp_path / "t.csv")).clips
    assert [clip.id for clip in clips] == list(folders)
    for clip, (reason, hint) in zip(clips, folders.values(), strict=True):
        with pytest.raises(InputRejected) as refused:
            image_frames(clip.frames, clip.segments, size=(8, 8))
        assert refused.value.reason == f"{tmp_path / clip.id}: {reason}"
        assert hint in refused.value.hint


def test_one_picture_is_no_folder(tmp_path):
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "1.png")
    assert (image_frames([tmp_path / "1.png"], 1, size=(8, 8)).pictures == np.uint8(9)).all()
    with pytest.raises(InputRejected, match=r"2\.png: no such file"):
        image_frames([tmp_path / "2.png"], 1, size=(8, 8))


def test_pictures_of_an_official_dataset_that_cannot_be_ordered_are_refused_by_folder(tmp_path):
    rows = [f"Bark&vid{n}clip0_&good&0&10" for n in range(3)]
    (tmp_path / "Annotations.txt").write_text("\n".join(rows) + "\n")
    for n, split in enumerate(("train", "val", "test")):
        (tmp_path / f"{split}Set.txt").write_text(rows[n] + "\n")
        (tmp_path / "video_frames" / f"vid{n}clip0_").mkdir(parents=True)
    touched(tmp_path / "video_frames" / "vid0clip0_", "a_1.jpg", "b_1.jpg")
    clips = {clip.id: clip for clip in load_dataset("ave", tmp_path).clips}
    assert clips["vid0clip0_"].frames == (tmp_path / "video_frames" / "vid0clip0_",)
