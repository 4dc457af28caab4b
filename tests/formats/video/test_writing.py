"""Videos that are written: what comes back, times, rotation, and files that are not completed."""

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest

from mask2former.formats.video.reading import Frame, open_source
from mask2former.formats.video.writing import FolderWriter, VideoFileWriter, open_writer
from tests.formats.video.films import RATE, SIZE, number, picture, write

pytest.importorskip("av")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_what_is_written_comes_back(tmp_path: Path, suffix: str):
    source = open_source(write(tmp_path / f"clip{suffix}"))
    frames = list(source)
    assert source.rate == RATE
    assert source.length == 8
    assert [number(frame.image) for frame in frames] == list(range(8))
    assert all(frame.image.shape == (*SIZE, 3) for frame in frames)
    assert np.abs(frames[0].image[5:-5, 40:60].astype(int) - (200, 0, 0)).max() < 25
    assert [frame.seconds for frame in frames] == pytest.approx(
        [t / 12 for t in range(8)], abs=2e-3
    )
    assert [path.name for path in tmp_path.iterdir()] == [f"clip{suffix}"]


def test_variable_rates_stay(tmp_path: Path):
    times = [0.0, 0.1, 0.15, 0.4, 1.0, 1.01, 1.5, 2.0]
    path = write(tmp_path / "clip.mp4", times=times)
    assert [f.seconds for f in open_source(path)] == pytest.approx(times, abs=1e-3)


def test_times_that_do_not_grow_are_mended(tmp_path: Path):
    times = [0.0, 0.5, 0.5, 0.2, 1.0, 1.5, 2.0, 2.5]
    found = [f.seconds for f in open_source(write(tmp_path / "clip.mp4", times=times))]
    assert all(a < b for a, b in itertools.pairwise(found))


def test_odd_sizes_get_a_row_or_column_more(tmp_path: Path):
    (frame, *_) = open_source(write(tmp_path / "clip.mp4", size=(47, 63)))
    assert frame.image.shape == (48, 64, 3)


def test_rotation_is_that_of_the_file(tmp_path: Path):
    """A phone that was held upright writes this matrix into the header of the track."""
    path = write(tmp_path / "clip.mp4")
    data = path.read_bytes()
    one = 1 << 16
    identity = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    by_90 = struct.pack(">9i", 0, one, 0, -one, 0, 0, SIZE[0] * one, 0, 1 << 30)
    start = data.index(identity, data.index(b"tkhd"))
    path.write_bytes(data[:start] + by_90 + data[start + len(by_90) :])
    (frame, *_) = open_source(path)
    assert frame.image.shape == (SIZE[1], SIZE[0], 3)
    # Clockwise by 90 degrees: what was to the right is below.
    assert frame.image[40:60, 5:-5, 0].mean() > 150
    assert frame.image[5:25, 5:-5, 0].mean() < 60


def test_a_file_has_its_name_when_it_is_complete(tmp_path: Path):
    path = tmp_path / "new" / "clip.mp4"
    writer = VideoFileWriter(path, RATE)
    writer.write(picture(0), Frame(picture(0), 0.0, ""))
    assert not path.exists()
    assert writer.close() == path
    assert writer.close() == path  # again does no harm
    assert [p.name for p in path.parent.iterdir()] == ["clip.mp4"]
    assert path.stat().st_mode & 0o400


def test_without_a_frame_there_is_no_file(tmp_path: Path):
    for writer in (VideoFileWriter(tmp_path / "clip.mp4", RATE), FolderWriter(tmp_path / "drawn")):
        assert writer.close() is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_completed_leaves_nothing(tmp_path: Path):
    class FullDisk:
        def encode(self, frame: None) -> None:
            raise OSError("no space left")

    writer = VideoFileWriter(tmp_path / "clip.mp4", RATE)
    writer.write(picture(0), Frame(picture(0), 0.0, ""))
    writer._stream = FullDisk()
    with pytest.raises(OSError, match="no space left"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_folders_take_names_of_files_and_count_others(tmp_path: Path):
    writer = open_writer(tmp_path / "drawn", RATE)
    for name in ("a.png", "frame 1", "b.tif"):
        writer.write(picture(0), Frame(picture(0), 0.0, name))
    assert writer.close() == tmp_path / "drawn"
    assert {p.name for p in (tmp_path / "drawn").iterdir()} == {"a.jpg", "000001.jpg", "b.jpg"}


def test_outputs_that_make_no_sense(tmp_path: Path):
    with pytest.raises(ValueError, match="expected a video file"):
        open_writer(tmp_path / "clip.png", RATE)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="it is another file"):
        open_writer(tmp_path / "file", RATE)
