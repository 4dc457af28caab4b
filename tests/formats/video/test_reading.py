"""Reading and writing of videos: what comes back, times, rotation, and files that are broken."""

import itertools
import re
import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mask2former.formats.video import reading as video_io
from mask2former.formats.video.reading import Frame, VideoSource, open_source
from mask2former.formats.video.writing import FolderWriter, VideoFileWriter, open_writer

av = pytest.importorskip("av")

RATE = Fraction(12)
SIZE = (48, 64)


def picture(t: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The left half says by its brightness which frame it is; the right half is red."""
    image = np.zeros((*size, 3), np.uint8)
    image[:, : size[1] // 2] = 20 + 20 * t
    image[:, size[1] // 2 :, 0] = 200
    return image


def number(image: np.ndarray) -> int:
    """Which frame a picture was before it was compressed."""
    return round((float(image[:, 2 : image.shape[1] // 2 - 8].mean()) - 20) / 20)


def write(path: Path, frames: int = 8, size=SIZE, times=None, rate: Fraction = RATE) -> Path:
    writer = open_writer(path, rate)
    for t in range(frames):
        seconds = t / float(rate) if times is None else times[t]
        writer.write(picture(t, size), Frame(picture(t, size), seconds, f"frame {t}"))
    assert writer.close() == path
    return path


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


# Folders


def fill(folder: Path, frames: int = 4) -> Path:
    folder.mkdir()
    for t in range(frames):
        Image.fromarray(picture(t)).save(folder / f"{t:03d}.png")
    (folder / "notes.txt").write_text("")
    (folder / ".hidden.png").write_text("")
    return folder


def test_folders_in_the_order_of_their_names(tmp_path: Path):
    source = open_source(fill(tmp_path / "frames"))
    assert (source.length, source.rate) == (4, 10)
    frames = list(source)
    assert [frame.name for frame in frames] == ["000.png", "001.png", "002.png", "003.png"]
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert np.array_equal(frames[2].image, picture(2))


def test_a_damaged_frame_of_a_folder_stops_or_is_skipped_by_name(tmp_path: Path, caplog):
    folder = fill(tmp_path / "frames")
    damaged = folder / "001.png"
    damaged.write_bytes(damaged.read_bytes()[:50])
    frames = iter(open_source(folder))
    assert next(frames).name == "000.png"
    with pytest.raises(ValueError, match=re.escape(str(damaged))):
        next(frames)
    names = [frame.name for frame in open_source(folder, "skip")]
    assert names == ["000.png", "002.png", "003.png"]
    assert str(damaged) in caplog.text


def test_a_frame_of_another_size_is_named(tmp_path: Path):
    folder = fill(tmp_path / "frames")
    Image.fromarray(picture(2, (20, 30))).save(folder / "002.png")
    message = "002.png is 30x20, the frames before it are 64x48 (width x height)"
    with pytest.raises(ValueError, match=re.escape(message)):
        list(open_source(folder))


# What cannot be read


def test_nothing_there(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        open_source(tmp_path / "none.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected a folder of frames, it has no image"):
        open_source(tmp_path / "empty")
    with pytest.raises(ValueError, match="found no frame in it"):
        list(VideoSource("clip", RATE, None, lambda: iter(())))


@pytest.mark.parametrize("content", [b"", b"no video", bytes(3000)])
def test_files_that_are_no_video(tmp_path: Path, content: bytes):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"clip\.mp4: cannot be read as video"):
        open_source(path)


def test_sound_alone_is_no_video(tmp_path: Path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        samples.sample_rate = 16000
        container.mux(stream.encode(samples))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="the file has no video stream"):
        open_source(path)


def _with_cover(path: Path, codec: str) -> Path:
    """Write a file with a cover picture of 32 x 32 pixels, and a film or sound."""
    with av.open(str(path), "w") as container:
        if codec == "mpeg4":
            main = container.add_stream(codec, rate=12, width=64, height=48)
            frames = [av.VideoFrame.from_ndarray(picture(t), format="rgb24") for t in range(3)]
        else:
            main = container.add_stream(codec, rate=16000)
            frames = [av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.int16), "s16p", "mono")]
            frames[0].sample_rate = 16000
        cover = container.add_stream("mjpeg", rate=1, width=32, height=32, pix_fmt="yuvj420p")
        cover.disposition = av.stream.Disposition.attached_pic
        image = av.VideoFrame.from_ndarray(picture(0, (32, 32)), format="rgb24")
        container.mux([*cover.encode(image), *cover.encode(None)])
        for frame in frames:
            container.mux(main.encode(frame))
        container.mux(main.encode(None))
    return path


def test_a_cover_picture_is_no_film(tmp_path: Path):
    with av.open(str(_with_cover(tmp_path / "clip.mp4", "mpeg4"))) as container:
        film, cover = container.streams.video
        assert cover.width == 32
        for streams in ([film, cover], [cover, film]):
            opened = SimpleNamespace(streams=SimpleNamespace(video=streams))
            assert video_io._video_stream(opened, "clip") is film
    assert [frame.image.shape for frame in open_source(tmp_path / "clip.mp4")] == [(*SIZE, 3)] * 3


def test_sound_with_a_cover_picture_is_no_video(tmp_path: Path):
    path = _with_cover(tmp_path / "song.mp3", "mp3")
    with pytest.raises(ValueError, match=r"song\.mp3: .* the file has sound with a cover"):
        open_source(path)


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path):
    path = tmp_path / "clip.mp4"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(ValueError, match=r"clip\.mp4: .*a pointer of Git LFS.*git lfs pull"):
        open_source(path)


def test_frames_come_in_their_natural_order(tmp_path: Path):
    for t in (1, 2, 10):
        Image.fromarray(picture(t)).save(tmp_path / f"{t}.png")
    assert [frame.name for frame in open_source(tmp_path)] == ["1.png", "2.png", "10.png"]


@pytest.mark.parametrize("version", ["9.2.0", "14.0.1", "13.1.0rc1"])
def test_old_versions_of_pyav_are_named(monkeypatch, tmp_path: Path, version: str):
    path = write(tmp_path / "clip.mp4")
    monkeypatch.setattr(av, "__version__", version)
    with pytest.raises(ImportError, match=f"PyAV 14.1 or newer, {version} is installed: pip"):
        open_source(path)


def test_a_file_cut_short(tmp_path: Path):
    """An mp4 has its index at the end, so that nothing of it can be read; mkv has none."""
    whole = write(tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "clip.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"clip\.mp4: cannot be read as video"):
        open_source(tmp_path / "clip.mp4")
    noise = np.random.default_rng(0).integers(0, 256, (8, *SIZE, 3), np.uint8)
    writer = VideoFileWriter(tmp_path / "clip.mkv", RATE)
    for t, image in enumerate(noise):
        writer.write(image, Frame(image, t / 12, ""))
    writer.close()
    whole = (tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "clip.mkv").write_bytes(whole[: len(whole) // 2])
    frames = list(open_source(tmp_path / "clip.mkv", "skip"))
    assert 0 < len(frames) < 8


def test_damage_in_the_middle_stops_or_is_left_out(tmp_path: Path, caplog):
    writer = VideoFileWriter(tmp_path / "clip.mp4", RATE)
    noise = np.random.default_rng(0).integers(0, 256, (12, *SIZE, 3), np.uint8)
    for t, image in enumerate(noise):
        writer.write(image, Frame(image, t / 12, ""))
    path = writer.close()
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        places = [(p.pos, p.size) for p in packets]
    data = bytearray(path.read_bytes())
    for pos, size in places[4:6]:
        data[pos : pos + size] = b"\xff" * size
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"clip\.mp4: damaged or truncated"):
        list(open_source(path))
    frames = list(open_source(path, "skip"))
    assert 4 <= len(frames) < 12
    assert "left out" in caplog.text


def test_cameras_that_are_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(video_io.sys, "platform", "linux")
    with pytest.raises(FileNotFoundError, match="camera 93: there is no /dev/video93"):
        open_source("93")
    monkeypatch.setattr(video_io.sys, "platform", "win32")
    with pytest.raises(ValueError, match="can be read on Linux and macOS, not on win32"):
        open_source("0")


def test_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file in the place of the device."""
    path = write(tmp_path / "clip.mp4")
    real = av.open
    asked = []

    def fake(device, **options):
        asked.append((device, options))
        return real(str(path))

    monkeypatch.setattr(video_io.sys, "platform", "darwin")
    monkeypatch.setattr(av, "open", fake)
    source = open_source("1")
    assert len(list(source)) == 8
    assert source.length is None
    assert asked == [("1", {"format": "avfoundation"})]


def test_without_pyav(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = write(tmp_path / "clip.mp4")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ImportError, match="video needs PyAV: pip install av"):
        open_source(path)


# Writing


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
