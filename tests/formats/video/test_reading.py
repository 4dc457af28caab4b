"""Reading of videos: folders of frames, cameras, and files that are broken or no video."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mask2former.formats.video import reading as video_io
from mask2former.formats.video.reading import Frame, VideoSource, open_source
from mask2former.formats.video.writing import VideoFileWriter
from tests.formats.video.films import RATE, SIZE, picture, write

av = pytest.importorskip("av")


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


def test_frames_come_in_their_natural_order(tmp_path: Path):
    for t in (1, 2, 10):
        Image.fromarray(picture(t)).save(tmp_path / f"{t}.png")
    assert [frame.name for frame in open_source(tmp_path)] == ["1.png", "2.png", "10.png"]


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


def test_without_pyav(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = write(tmp_path / "clip.mp4")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ImportError, match="video needs PyAV: pip install av"):
        open_source(path)
