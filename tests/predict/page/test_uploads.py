"""What is read of what users send, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from mask2former.errors import UserError
from mask2former.formats.video.reading import open_source
from mask2former.predict.page.uploads import Limits, Photos
from tests.predict.job.test_videos import write_video
from tests.predict.page.conftest import write_photo


def test_photos_and_their_limits(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "photo.png")
    assert Limits(pixels=40 * 32).read_photo(photo).shape == (32, 40, 3)
    with pytest.raises(UserError, match=r"^photo.png: expected 1,279 pixels .* got 40x32: scale"):
        Limits(pixels=40 * 32 - 1).read_photo(photo)
    with pytest.raises(UserError, match=r"^photo.png: expected 100 bytes at most .*--max-upload"):
        Limits(upload=100).read_photo(photo)


def test_a_video_as_a_photo_and_the_reverse(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4")
    with pytest.raises(UserError, match=r"^Cannot read clip.mp4: not an image.*page for videos"):
        Limits().read_photo(video)
    renamed = video.rename(tmp_path / "clip.jpg")
    with pytest.raises(UserError, match=r"^Cannot read clip.jpg: not an image") as raised:
        Limits().read_photo(renamed)
    assert str(tmp_path) not in str(raised.value)
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(UserError, match=r"^text.mp4: cannot be read as video") as raised:
        Limits().open_video(text)


def test_videos_and_their_limits(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", frames=5)
    source = Limits(frames=5).open_video(video)
    assert source.name == "clip.mp4" and len(list(source)) == 5
    with pytest.raises(UserError, match=r"^clip.mp4: expected a video of 4 frames at most"):
        Limits(frames=4).open_video(video)
    with pytest.raises(UserError, match="expected 10 pixels at most"):
        next(iter(Limits(pixels=10).open_video(video)))


def test_a_video_that_lies_about_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "clip.mp4", frames=5)
    lying = replace(open_source(video), length=1)
    monkeypatch.setattr("mask2former.predict.page.uploads.open_source", lambda _: lying)
    frames = iter(Limits(frames=3).open_video(video))
    assert len([next(frames) for _ in range(3)]) == 3
    with pytest.raises(UserError, match="3 frames at most"):
        next(frames)


def test_photos_of_a_folder_and_no_others(tmp_path: Path) -> None:
    write_photo(tmp_path / "10.png")
    write_photo(tmp_path / "9.png")
    (tmp_path / "note.txt").write_text("")
    photos = Photos(tmp_path)
    assert photos.names == ["9.png", "10.png"] and photos["9.png"] == tmp_path / "9.png"
    for name in ("../10.png", "note.txt", str(tmp_path / "9.png"), ""):
        with pytest.raises(UserError, match="there is no photo named"):
            photos[name]
    assert Photos().names == []
    for folder, message in (("none", "there is none"), ("empty", "it has none")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=f"expected a folder of photos, {message}"):
            Photos(tmp_path / folder)
