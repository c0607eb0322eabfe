from avpipe.pipeline.datasets.pictures import numbered, one_per_segment


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
