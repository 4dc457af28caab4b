"""Archives: members read by themselves, damaged archives, links out of them."""

import io
import tarfile
from pathlib import Path

import pytest

from mask2former.errors import UserError
from mask2former.formats.containers.tar_files import tar_members


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name in ("x/1.txt", "2.txt"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            file.addfile(member, io.BytesIO(name.encode()))
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    return tmp_path / "a.tar"


def test_members_have_their_bytes_and_links_are_none(archive: Path) -> None:
    members = list(tar_members(archive))
    assert [str(member) for member in members] == [f"{archive}/x/1.txt", f"{archive}/2.txt"]
    assert [member.open().read() for member in reversed(members)] == [b"2.txt", b"x/1.txt"]


def test_an_archive_that_was_cut_since(archive: Path) -> None:
    *_, last = tar_members(archive)
    archive.write_bytes(archive.read_bytes()[: last.offset + 2])
    with pytest.raises(UserError, match="2.txt: the archive ends before the file does"):
        last.open()
    with pytest.raises(UserError, match=r"a\.tar: expected a tar archive that is whole"):
        list(tar_members(archive))


@pytest.mark.parametrize("content", [b"", b"no archive" * 100])
def test_what_is_no_archive(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(UserError, match="expected a tar archive"):
        list(tar_members(tmp_path / "a.tar"))


@pytest.mark.parametrize(
    "size", [b"\x80" + b"\xff" * 11, b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7]
)
@pytest.mark.parametrize("kind", [b"0", b"x", b"L"])
def test_lengths_that_no_file_has(kind: bytes, size: bytes, archive: Path) -> None:
    head = bytearray(archive.read_bytes()[:512])
    head[124:136], head[156:157], head[148:156] = size, kind, b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    archive.write_bytes(bytes(head) + archive.read_bytes()[512:])
    with pytest.raises(UserError, match=r"a\.tar"):
        for member in tar_members(archive):
            member.open()
