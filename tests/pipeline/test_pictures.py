from avpipe.pipeline.datasets.pictures import in_time, numbered, one_per_segment


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
