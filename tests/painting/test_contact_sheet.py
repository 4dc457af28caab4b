"""The page of pictures: what links to what, odd names, atomic writing."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from PIL import Image

from mask2former.painting import ContactSheet

PICTURE = np.zeros((4, 6, 3), np.uint8)


class Page(HTMLParser):
    """What a browser makes of a page: its images, tags and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.folder = path.parent
        self.images: list[dict[str, str]] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.captions: list[str] = []
        self.in_caption = False
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "a":
            self.links.append(dict(attrs)["href"])
        if tag == "figcaption":
            self.captions.append("")
        self.in_caption = tag == "figcaption"

    def handle_endtag(self, tag: str) -> None:
        self.in_caption = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.in_caption:
            self.captions[-1] += data

    def files(self) -> list[bytes]:
        assert self.links == [image["src"] for image in self.images]
        return [unquote_to_bytes(link) for link in self.links]


def test_rows_and_columns(tmp_path: Path) -> None:
    sheet = ContactSheet(tmp_path / "new" / "folder", "Pictures", ["Input", "Ground truth"])
    sheet.add("a", {"Input": PICTURE, "Ground truth": PICTURE + 9})
    sheet.add("b", {"Input": PICTURE})
    index = sheet.write("of a test")
    assert index == tmp_path / "new" / "folder" / "index.html"
    page = Page(index)
    assert page.files() == [b"a_input.jpg", b"a_ground_truth.jpg", b"b_input.jpg"]
    assert page.captions == ["Input: a", "Ground truth", "Input: b", "Ground truth"]
    assert "of a test" in page.text and "Pictures" in page.text
    with Image.open(index.parent / "a_ground_truth.jpg") as picture:
        assert picture.size == (6, 4)
        np.testing.assert_allclose(np.asarray(picture), 9, atol=2)
    assert "repeat(2," in index.read_text()


def test_repeated_names_get_files_of_their_own(tmp_path: Path) -> None:
    sheet = ContactSheet(tmp_path, "", ["Input"])
    for value, name in enumerate(["a", "a_2", "a", "a"]):
        sheet.add(name, {"Input": PICTURE + 60 * value})
    files = Page(sheet.write()).files()
    assert files == [b"a_input.jpg", b"a_2_input.jpg", b"a_3_input.jpg", b"a_4_input.jpg"]
    for value, file in enumerate(files):
        with Image.open(tmp_path / os.fsdecode(file)) as picture:
            np.testing.assert_allclose(np.asarray(picture), 60 * value, atol=2)


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "\"quoted\" & 'quoted'",
        "100%25 #1?x=y",
        "a b",
        "räv 狐",
        os.fsdecode(b"no \xff unicode"),
        "../outside",
    ],
)
def test_odd_names(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "sheet"
    sheet = ContactSheet(folder, name, ["Input"])
    sheet.add(name, {"Input": PICTURE})
    page = Page(sheet.write(name))
    (written,) = page.files()
    assert {os.fsencode(path.name) for path in folder.iterdir()} == {written, b"index.html"}
    assert list(tmp_path.iterdir()) == [folder]
    shown = name.encode(errors="replace").decode()
    assert page.captions == [f"Input: {shown}"] and page.images[0]["alt"] == f"Input: {shown}"
    assert page.text.count(shown) == 4  # two titles, note and caption
    assert "script" not in page.tags


@pytest.mark.parametrize("letter", ["a", "ü"])
def test_long_names_fit_the_file_system(tmp_path: Path, letter: str) -> None:
    name = letter * (250 // len(letter.encode()))
    sheet = ContactSheet(tmp_path, "", ["Input", "Ground truth"])
    for _ in range(3):
        sheet.add(name, {"Input": PICTURE, "Ground truth": PICTURE})
    page = Page(sheet.write())
    assert len({*page.files()}) == 6 and page.captions[0] == f"Input: {name}"
    for file in page.files():
        assert len(file) <= 255 and (tmp_path / os.fsdecode(file)).is_file()


def test_files_are_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = ContactSheet(tmp_path, "", ["Input"])
    sheet.add("a", {"Input": PICTURE})
    sheet.write("the first")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(part: Path, target: Path) -> None:
        raise OSError(f"disk full, {target} keeps what it was")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match=r"disk full, .*b_input\.jpg"):
        sheet.add("b", {"Input": PICTURE})
    with pytest.raises(OSError, match=r"disk full, .*index\.html"):
        sheet.write("the second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        message = rf"folder '{re.escape(str(folder))}' cannot be written \(.+\); choose another"
        with pytest.raises(OSError, match=message):
            ContactSheet(folder, "", [])


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # the tests may be run by root
    with pytest.raises(PermissionError, match=r"cannot be written \(Permission denied\)"):
        ContactSheet(tmp_path, "", [])
