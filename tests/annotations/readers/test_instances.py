"""COCO instance json as tools write it: each irregularity becomes what the policy says."""

import copy
import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.annotations import POLICY, AnnotationError, read_instances
from mask2former.annotations.repair import repaired_instances
from tests.annotations.readers.instance_json import (
    HEIGHT,
    NAN,
    PAIRS,
    SQUARE,
    WIDTH,
    added,
    changed,
    rle,
    sound,
)


def test_sound_json_stays_as_it_is() -> None:
    read = read_instances(sound())
    assert len(read.findings) == 0
    assert read.content["annotations"] == sound()["annotations"]
    assert read.content["images"] == sound()["images"]
    assert [(c["id"], c["name"]) for c in read.categories] == [(5, "box"), (9, "ball")]
    assert read.annotated == {5: 1, 9: 1}


TAKEN = {
    "crowd as text": (changed("annotations", iscrowd="0"), {"crowd-form": 1}),
    "crowd null": (changed("annotations", iscrowd=None), {"crowd-form": 1}),
    "crowd absent": (changed("annotations", iscrowd=...), {}),
    "image id as text": (changed("annotations", None, image_id="1"), {}),
    "category id as text": (changed("annotations", category_id="5"), {}),
    "doubled ids": (changed("annotations", None, id=3), {"object-id-twice": 1}),
    "no ids": (changed("annotations", None, id=...), {}),
    "no bbox": (changed("annotations", bbox=...), {"box-unusable": 1}),
    "negative bbox": (changed("annotations", bbox=[9, 2, -7, 7]), {"box-unusable": 1}),
    "bbox of text": (changed("annotations", bbox=["2", "2", "7", "7"]), {}),
    "bbox far off": (changed("annotations", bbox=[2, 2, 60, 60]), {"box-contradicts": 1}),
    "no area": (changed("annotations", area=...), {"area-unusable": 1}),
    "area as text": (changed("annotations", area="49"), {}),
    "area NaN": (changed("annotations", area=NAN), {"area-unusable": 1}),
    "size as text": (changed("images", None, height="20", width="30"), {}),
    "flat polygon": (changed("annotations", segmentation=SQUARE), {"polygon-form": 1}),
    "pairs": (changed("annotations", segmentation=[PAIRS]), {"polygon-form": 1}),
    "only pairs": (changed("annotations", segmentation=PAIRS), {"polygon-form": 1}),
    "deeper": (changed("annotations", segmentation=[[SQUARE]]), {"polygon-form": 1}),
    "x and y": (
        changed("annotations", segmentation=[{"x": x, "y": y} for x, y in PAIRS]),
        {"polygon-form": 1},
    ),
    "coordinates of text": (changed("annotations", segmentation=[list(map(str, SQUARE))]), {}),
    "odd polygon": (changed("annotations", segmentation=[[*SQUARE, 5.0]]), {"polygon-odd": 1}),
    "one of two short": (
        changed("annotations", segmentation=[SQUARE, [1, 1, 2, 2]]),
        {"polygon-part-short": 1},
    ),
    "rle": (changed("annotations", segmentation=rle()), {}),
    "rle of lists": (changed("annotations", segmentation=rle(False)), {}),
    "rle in a list": (changed("annotations", segmentation=[rle()]), {"polygon-form": 1}),
    "image twice": (added("images"), {"image-twice": 1}),
    "file under two ids": (added("images", id=3), {"file-twice": 1}),
    "category repeated": (added("categories"), {"class-repeated": 1}),
    "class unused": (added("categories", id=0, name="toys"), {"class-unused": 1}),
    "name of digits": (changed("categories", name=1), {"class-name-number": 1}),
    "colour of text": (changed("categories", color="#2080c0"), {"class-color": 1}),
    "colour null": (changed("categories", color=None), {"class-color-unusable": 1}),
}


@pytest.mark.parametrize(("content", "codes"), TAKEN.values(), ids=TAKEN)
def test_what_has_a_clear_meaning_is_taken(content, codes) -> None:
    read = read_instances(content)
    assert dict(read.findings.counts) == codes
    assert not read.findings.of("refused") and not read.findings.of("left out")
    assert len(read.content["annotations"]) == 2
    for entry in read.content["annotations"]:
        assert entry["iscrowd"] == 0
        assert entry["bbox"] in ([2, 2, 7, 7], [2, 2, 60, 60])
        mask = entry["segmentation"]
        rles = mask_util.frPyObjects(mask, HEIGHT, WIDTH) if isinstance(mask, list) else [mask]
        assert mask_util.area(mask_util.merge(rles)) == 49
    json.dumps(read.content)


LEFT_OUT = {
    "unlisted image": (changed("annotations", image_id=77), "object-of-unlisted-image"),
    "no mask": (changed("annotations", segmentation=...), "mask-missing"),
    "null mask": (changed("annotations", segmentation=None), "mask-missing"),
    "empty list": (changed("annotations", segmentation=[]), "mask-missing"),
    "empty polygon": (changed("annotations", segmentation=[[]]), "mask-missing"),
    "mask of text": (changed("annotations", segmentation="2,2,9,9"), "mask-form"),
    "two points": (changed("annotations", segmentation=[[1, 1, 5, 5]]), "polygon-short"),
    "NaN": (changed("annotations", segmentation=[[NAN, *SQUARE[1:]]]), "polygon-coordinates"),
    "null in it": (changed("annotations", segmentation=[[None, *SQUARE[1:]]]), "polygon-coord"),
    "far away": (changed("annotations", segmentation=[[2e9, *SQUARE[1:]]]), "polygon-coord"),
    "rle too long": (
        changed("annotations", segmentation={"size": [HEIGHT, WIDTH], "counts": [700]}),
        "rle-damaged",
    ),
    "rle of another size": (
        changed("annotations", segmentation={"size": [5, 5], "counts": [25]}),
        "rle-damaged",
    ),
    "rle without counts": (changed("annotations", segmentation={"size": [20, 30]}), "rle-damaged"),
}


@pytest.mark.parametrize(("content", "code"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_one_object_that_cannot_be_used_is_left_out(content, code) -> None:
    read = read_instances(content)
    (finding,) = read.findings.of("left out")
    assert finding.code.startswith(code) and finding.item == "annotation 10"
    assert read.findings.left_out() == {finding.code: 1}
    assert not read.findings.of("refused")
    assert [entry["id"] for entry in read.content["annotations"]] == [20]
    assert read.annotated.total() == 2


def test_an_unused_class_with_the_name_of_another_is_left_out() -> None:
    read = read_instances(added("categories", id=0, name="box"))
    assert [c["id"] for c in read.categories] == [5, 9]
    (finding,) = read.findings
    assert finding.code == "class-name-doubled-unused" and "category 5" in finding.text


REFUSED = {
    "all crowd": (changed("annotations", None, iscrowd=1), "all 2 objects are flagged as crowd"),
    "unclear crowd": (changed("annotations", iscrowd="perhaps"), "iscrowd is 'perhaps'"),
    "two files, one id": (changed("images", 1, id=1), "1.png and 2.png"),
    "no image id": (changed("images", id=None), "the image has no id, or null"),
    "null image id": (changed("annotations", image_id=None), "has no image_id, or null"),
    "unknown category": (changed("annotations", category_id=7), "category id 7, which is none"),
    "doubled name": (changed("categories", 1, name="box"), "'box' is that of the categories 5"),
    "no name": (changed("categories", name=...), "category 5: the category has no name"),
    "no category id": (changed("categories", id=...), "the category 'box' has no id"),
    "boolean name": (changed("categories", name=False), "put the name in quotes"),
    "one id, two names": (added("categories", name="jar"), "'box' and 'jar'"),
    "no image": (sound() | {"images": []}, "there is no image in it"),
    "no category": (sound() | {"categories": []}, "it has no categories"),
    "annotations null": (sound() | {"annotations": None}, "annotations are null"),
    "images null": (sound() | {"images": None}, "a file whose images are null"),
    "image of text": (sound() | {"images": ["a.png"]}, "expected a json object, got text"),
    "unit square": (
        changed("annotations", None, segmentation=[[v / 30 for v in SQUARE]]),
        "0 to 1; expected pixels",
    ),
    "boxes only": (changed("annotations", None, segmentation=[]), "boxes only, no masks"),
    "captions": ({**sound(), "annotations": [{"id": 1, "caption": "a"}]}, "COCO captions"),
    "panoptic": ({**sound(), "annotations": [{"segments_info": []}]}, "COCO panoptic json"),
    "GeoJSON": ({"type": "FeatureCollection", "features": []}, "GeoJSON"),
    "LabelMe": ({"shapes": [], "imagePath": "a.png"}, "LabelMe"),
    "video": ({"videos": [], "categories": []}, "annotations of videos"),
    "empty": ({}, "an empty json object"),
}


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_clear_meaning_is_refused_once(content, words, tmp_path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError) as error:
        read_instances(path).findings.raise_refused()
    assert words in str(error.value) and str(path) in str(error.value)
    assert str(error.value).count(words) == 1


def test_what_is_written_back_is_sound() -> None:
    for content, _ in [*TAKEN.values(), *LEFT_OUT.values()]:
        read = read_instances(content)
        again = read_instances(repaired_instances(read.content))
        assert set(again.findings.counts) <= {"class-unused", "file-twice"}
        assert len(again.content["annotations"]) == len(read.content["annotations"])


def test_every_code_of_the_policy_says_what_it_found() -> None:
    for code, rule in POLICY.items():
        assert rule.outcome in ("taken", "left out", "refused") and rule.text
        assert code == code.lower() and " " not in code


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    | st.sampled_from(["0", "1", "1e999", 2**70, [], {}, [[]], rle()]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["size", "counts", "id", "x", "y"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
PLACES = st.sampled_from(
    [(where, key) for where, entries in sound().items() for key in entries[0]]
    + [(where, None) for where in sound()]
)


@settings(max_examples=400)
@given(PLACES, VALUES)
def test_no_value_in_any_place_is_more_than_a_finding(place, value) -> None:
    where, key = place
    content = copy.deepcopy(sound())
    if key is None:
        content[where] = value
    else:
        content[where][0][key] = value
    try:
        read = read_instances(content)
        read.findings.raise_refused()
    except AnnotationError:
        return
    for entry in read.content["annotations"]:
        mask = entry["segmentation"]
        rles = mask_util.frPyObjects(mask, HEIGHT, WIDTH) if isinstance(mask, list) else [mask]
        mask_util.area(mask_util.merge(rles))
        assert all(np.isfinite(entry["bbox"])) and np.isfinite(entry.get("area", 0))
