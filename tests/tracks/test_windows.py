"""How a video is cut: values by hand."""

import pytest

from mask2former.tracks.windows import Windows


def test_a_window_shares_frames_with_the_one_before_and_the_last_is_moved_back():
    read = []

    def frames():
        for t in range(8):
            read.append(t)
            yield t

    cut = Windows(4, 1).cut(frames())
    assert next(cut) == (0, [0, 1, 2, 3])
    assert read == [0, 1, 2, 3]  # no further
    assert list(cut) == [(1, [3, 4, 5, 6]), (3, [4, 5, 6, 7])]


@pytest.mark.parametrize(
    ("windows", "count", "expected"),
    [
        (Windows(), 3, [(0, [0, 1, 2])]),
        (Windows(4, 2), 3, [(0, [0, 1, 2])]),
        (Windows(2, 1), 3, [(0, [0, 1]), (1, [1, 2])]),
        (Windows(3, 1), 3, [(0, [0, 1, 2])]),
        (Windows(3, 1), 0, []),
        (Windows(), 0, []),
    ],
)
def test_short_clips(windows, count, expected):
    assert list(windows.cut(range(count))) == expected


def test_windows_of_a_stream():
    assert Windows.of_stream(0, 4, None, None) == Windows(16, 4)
    assert Windows.of_stream(8, 6, None, None) == Windows(8, 4)
    assert Windows.of_stream(8, 6, 3, None) == Windows(3, 1)
    assert Windows.of_stream(8, 4, 0, None) == Windows(0, 0)
    with pytest.raises(ValueError, match="got a window of 4 frames and an overlap of 4"):
        Windows.of_stream(0, 4, 4, 4)
