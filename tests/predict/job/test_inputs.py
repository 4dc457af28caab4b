"""What a job is given: files, folders, globs, lists, archives, videos."""

import io
import logging
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.errors import UserError
from mask2former.formats.images import read_image
from mask2former.predict.job.inputs import _Names, find_items
from mask2former.predict.job.items import IMAGE, UNREADABLE, VIDEO, Manifest, write_manifest
from tests.predict.job.tiny import write_photos


def names(*inputs: object, **more: bool) -> list[str]:
    return [item.name for item in find_items(list(map(str, inputs)), **more)]


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def test_folders_with_all_below_in_natural_order(tmp_path: Path) -> None:
    write_photos(tmp_path, 1)
    write_photos(tmp_path / "b" / "c", 11)
    (tmp_path / "b" / "notes.txt").touch()
    (tmp_path / "b" / ".hidden.png").touch()
    (tmp_path / "clip.mp4").touch()
    assert names(tmp_path) == ["0", "clip", *(f"b/c/{i}" for i in range(11))]
    kinds = {item.name: item.kind for item in find_items([tmp_path])}
    assert kinds["clip"] == VIDEO and kinds["0"] == IMAGE


def test_globs_and_lists(tmp_path: Path) -> None:
    write_photos(tmp_path, 3)
    (tmp_path / "inner.txt").write_text(f"{tmp_path}/2.png\n")
    (tmp_path / "list.txt").write_text(f"# two\n{tmp_path}/1.png\n\n@{tmp_path}/inner.txt\n")
    assert names(f"{tmp_path}/[01].png", f"@{tmp_path}/list.txt") == ["0", "1", "2"]


def test_a_path_comes_once_and_a_name_gets_a_number(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_photos(tmp_path / folder, 1)
    (tmp_path / "b" / "0.JPG").touch()
    (tmp_path / "0_2.png").touch()
    files = [*sorted((tmp_path / "a").iterdir()), *sorted((tmp_path / "b").iterdir())]
    found = names(*files, *files, tmp_path / "a", tmp_path / "0_2.png")
    assert found == ["0", "0_2", "0_3", "0_2_2"]


def test_archives_are_read_in_any_order(tmp_path: Path) -> None:
    files = {"a/1.png": png(1), "a/1.json": b"{}", "a/1.seg.png": png(2), "2.jpg": png(3)}
    archive = write_tar(tmp_path / "shard-0.tar", files)
    items = list(find_items([archive]))
    assert [item.name for item in items] == ["shard-0/a/1", "shard-0/a/1_2", "shard-0/2"]
    assert [item.file_name for item in items] == [
        f"{archive}/{name}" for name in ("a/1.png", "a/1.seg.png", "2.jpg")
    ]
    for item, value in reversed(list(zip(items, (1, 2, 3)))):
        assert (read_image(item.source(tmp_path)) == value).all()


def test_names_in_archives_stay_in_the_folder(tmp_path: Path) -> None:
    bad = ("../../up.png", "/etc/passwd.png", "a/../../b.png", "..png", "c.png/x.png", "c.png")
    archive = write_tar(tmp_path / "x.tar", dict.fromkeys(bad, png(0)))
    for name in names(archive):
        path = os.path.normpath(os.path.join("/out/labels", name + ".png"))
        assert path.startswith("/out/labels/x/")
    assert "x/c" in names(archive) and "x/c_png/x" in names(archive)


def test_damaged_archives(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "x.tar", {f"{i}.png": png(i) for i in range(4)})
    archive.write_bytes(archive.read_bytes()[:2500])
    *whole, last = find_items([archive])
    assert [item.name for item in whole] == ["x/0", "x/1"]
    assert last.kind == UNREADABLE and "expected a tar archive that is whole" in last.error
    packed = write_tar(tmp_path / "y.tar.gz", {"0.png": png(0)}, "w:gz")
    with pytest.raises(UserError, match=r"y\.tar\.gz: a compressed archive .* unpack it"):
        names(packed)


def test_models_for_video_take_folders_of_frames(tmp_path: Path) -> None:
    for folder in ("one", "two/deep"):
        write_photos(tmp_path / "clips" / folder, 2)
    found = list(find_items([tmp_path / "clips"], for_video=True))
    assert [item.name for item in found] == ["clips/one", "clips/two/deep"]
    assert {item.kind for item in found} == {VIDEO}


@pytest.mark.parametrize("given", ["nowhere", "*.nothing", "@nowhere.txt", "empty"])
def test_inputs_that_name_nothing(given: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=given.strip("@*")):
        names(given)


def test_the_manifest_gives_its_shards_back(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 5)
    (tmp_path / "photos" / "1.mp4").touch()
    write_tar(tmp_path / "photos" / "x.tar", {"a.png": png(0), "b.png": png(1)})
    items = list(find_items([tmp_path / "photos"]))
    counts = write_manifest(tmp_path / "manifest", items, 3)
    manifest = Manifest(tmp_path / "manifest", counts[0])
    assert counts == (8, 4, 1) and len(manifest) == 4
    shards = [manifest[i] for i in range(4)]
    assert [[item.name for item in shard] for shard in shards] == [
        ["0"],
        ["1"],
        ["1_2", "2", "3"],
        ["4", "x/a", "x/b"],
    ]
    assert [item.kind for item in shards[1]] == [VIDEO]
    assert [item.index for shard in shards for item in shard] == list(range(8))
    assert [len(shard) for shard in shards] == [manifest.count(i) for i in range(4)]
    for read, item in zip((i for shard in shards for i in shard), items):
        assert read.source(tmp_path) == item.source(tmp_path) and read.name == item.name


def test_a_list_in_itself(tmp_path: Path) -> None:
    write_photos(tmp_path, 1)
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.txt").write_text(f"{tmp_path}/0.png\n@{tmp_path}/{other}.txt\n")
    with pytest.raises(UserError, match=r"^@.*a\.txt: the list is in itself$"):
        names(f"@{tmp_path}/a.txt")
    (tmp_path / "b.txt").write_text(f"{tmp_path}/0.png\r\n\r\n# {tmp_path}/none.png\r\n")
    assert names(f"@{tmp_path}/b.txt", f"@{tmp_path}/a.txt") == ["0"]


def test_an_archive_with_a_name_twice_under_two_paths(tmp_path: Path, monkeypatch) -> None:
    path = write_tar(tmp_path / "a.tar", {"x.png": png(1)})
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("x.png")
        member.size = len(png(2))
        archive.addfile(member, io.BytesIO(png(2)))
    monkeypatch.chdir(tmp_path)
    items = list(find_items(["a.tar", str(path), "./a.tar"]))
    assert [item.name for item in items] == ["a/x", "a/x_2"]
    assert [int(read_image(item.source(tmp_path), "RGB").max()) for item in items] == [1, 2]


def test_numbers_behind_a_name_are_not_tried_from_the_start(monkeypatch) -> None:
    class Counting(set):
        asked = 0

        def __contains__(self, name: object) -> bool:
            Counting.asked += 1
            return super().__contains__(name)

    found = _Names()
    monkeypatch.setattr(found, "_used", Counting())
    given = [found.unused("image" if i % 2 else "Image") for i in range(1000)]
    assert len({name.lower() for name in given}) == 1000 and given[-1] == "image_1000"
    assert Counting.asked < 3000


def test_folders_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        write_photos(tmp_path / name, 1)
    scan = os.scandir

    def refuse(path: str) -> object:
        if path == str(tmp_path / "a"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr("mask2former.formats.names.logger", logging.getLogger("names_test"))
    assert names(tmp_path) == ["b/0"]
    assert f"A folder is left out: [Errno 13] Permission denied: '{tmp_path}/a'" in caplog.text
