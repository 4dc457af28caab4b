"""What objects have in common, in whole files."""

from mask2former.annotations import read_instances
from mask2former.annotations.repair import repaired_instances
from tests.annotations.readers.instance_json import added, changed, sound


def test_categories_that_are_refused_make_no_unknown_ones() -> None:
    for content in (
        changed("categories", id=...),
        changed("categories", id=[5]),
        sound() | {"categories": []},
        sound() | {"categories": ["box", "ball"]},
    ):
        assert "class-unknown" not in read_instances(content).findings.counts


def test_what_is_no_id_of_an_object_is_dropped() -> None:
    for value in ([3], {"a": 1}, None, True):
        read = read_instances(changed("annotations", id=value))
        assert len(read.findings) == 0
        assert "id" not in read.content["annotations"][0]
        assert [a["id"] for a in repaired_instances(read.content)["annotations"]] == [1, 2]


def test_ids_that_differ_in_their_type_only_are_one() -> None:
    read = read_instances(added("annotations", id="10"))
    assert read.findings.counts == {"object-id-twice": 1}
    assert [a["id"] for a in repaired_instances(read.content)["annotations"]] == [1, 2, 3]


def test_areas_that_no_float_holds_are_computed() -> None:
    read = read_instances(changed("annotations", area=10**400))
    assert read.findings.counts == {"area-unusable": 1}
    assert repaired_instances(read.content)["annotations"][0]["area"] == 49


def test_sizes_that_are_whole_floats_become_numbers_of_pixels() -> None:
    read = read_instances(changed("images", height=20.0, width="30"))
    assert [type(read.content["images"][0][key]) for key in ("height", "width")] == [int, int]
