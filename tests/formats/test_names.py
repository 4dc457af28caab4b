"""Names of files: numbers in them, their length, what follows photos' names in maps' names."""

import os
from pathlib import Path

import pytest

from mask2former.formats.atomic import atomic_path
from mask2former.formats.names import files_below, map_suffix, natural_key, short_name


@pytest.mark.parametrize(
    "ordered",
    [
        ["1.png", "2.png", "10.png"],
        ["a1b2", "a1b10", "a2b1"],
        ["01", "1", "2"],
        ["", "9", "a"],
        ["frame_9/1", "frame_10/1"],
    ],
)
def test_numbers_count_in_the_natural_order(ordered: list[str]) -> None:
    assert sorted({*ordered}, key=natural_key) == ordered


@pytest.mark.parametrize("stem", ["a" * 300, "ü" * 200, "\udcff" * 260, "鳥" * 90])
def test_long_names_are_cut_and_stay_apart(tmp_path: Path, stem: str) -> None:
    one, two = short_name(stem, 9) + "_mask.png", short_name(stem + "b", 9) + "_mask.png"
    assert one != two
    for name in (one, two):
        assert len(os.fsencode(name)) <= 255
        with atomic_path(tmp_path / name) as part:
            part.touch()
        assert (tmp_path / name).is_file()


def test_short_names_stay() -> None:
    assert short_name("a" * 246, 9) == "a" * 246


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "b.png").touch()
    (tmp_path / "root" / ".hidden").mkdir(parents=True)
    for name in ("10.png", "9.png", ".c.png", ".hidden/d.png"):
        (tmp_path / "root" / name).touch()
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "circle").symlink_to(tmp_path / "root")
    found = [str(path.relative_to(tmp_path / "root")) for path in files_below(tmp_path / "root")]
    assert found == ["9.png", "10.png", "linked/deep/b.png"]


@pytest.mark.parametrize(
    ("photos", "maps", "expected"),
    [
        (["1", "2", "3"], ["1_mask", "2_mask", "4_mask"], ("_mask", 2)),
        (["a", "a_1", "b"], ["a_P", "a_1_P", "b_P"], ("_P", 3)),
        (["x/1", "y/2"], ["x/1-labelIds", "y/2-labelIds"], ("-labelIds", 2)),
        (["1"], ["2"], ("", 0)),
        (["1"], ["1"], ("", 0)),
    ],
)
def test_what_follows_the_names_of_photos_is_proposed(photos, maps, expected) -> None:
    assert map_suffix(photos, maps) == expected
