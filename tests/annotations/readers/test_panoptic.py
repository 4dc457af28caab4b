"""COCO panoptic json and maps as tools write them: checker, training and scoring agree."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mask2former.annotations import AnnotationError
from mask2former.annotations.readers.panoptic import read_panoptic
from mask2former.evaluation import SemSegEvaluator
from mask2former.evaluation.panoptic.evaluator import PanopticEvaluator
from mask2former.formats.label_maps import read_panoptic_png, write_panoptic_png
from tests.annotations import three
from tests.annotations.readers.panoptic_json import (
    add,
    as_text,
    every,
    image,
    names,
    segment,
    segment_map,
    sound,
    whole,
    windows_names,
)
from tests.annotations.three import COUNT, HEIGHT, WIDTH, Refused, Taken

CASES = {
    "sound": (lambda c: None, Taken()),
    "ids as text": (as_text, Taken()),
    "area missing": (every(area=...), Taken(("area is None: computed",))),
    "area text": (every(area="400"), Taken()),
    "area stale": (segment(1, 1, area=10), Taken(("the area is 10, the mask has 400",))),
    "iscrowd missing": (every(iscrowd=...), Taken()),
    "iscrowd null": (every(iscrowd=None), Taken(("iscrowd is None: read as 0",))),
    "iscrowd text": (every(iscrowd="0"), Taken(("iscrowd is '0': read as 0",))),
    "iscrowd unclear": (segment(1, 1, iscrowd="maybe"), Refused("[crowd-unclear]")),
    "one crowd": (segment(1, 1, iscrowd=1), Taken(("1 crowd",), (2, 1, 2, 2))),
    "crowd all": (every(iscrowd=1), Refused("crowd")),
    "segment without pixel": (
        add("annotations", 1, "segments_info", id=5),
        Taken(("segment 5: the segment is listed and has no pixel",), (2, 3, 2, 2), 94.444444),
    ),
    "pixels not listed": (
        lambda c: c["annotations"][2]["segments_info"].pop(),
        Refused("segment 70000: the segment has 400 pixels and is not listed"),
    ),
    "segments null": (image(1, segments_info=None), Refused("pixels and is not listed")),
    "segments no list": (image(1, segments_info="x"), Refused("expected a list of segments")),
    "segment id 0": (segment(1, 1, id=0), Refused("id 0 of a segment has to be a number from 1")),
    "segment id missing": (segment(1, 1, id=None), Refused("the id None of a segment")),
    "segment twice": (add("annotations", 1, "segments_info"), Taken(("segment is listed twice",))),
    "segment ids shared": (
        segment(1, 1, id=300), Refused("segment 300: two segments have this id")
    ),
    "category unknown": (
        every(category_id=9), Refused("segment 300: has the category id 9, which is none of the")
    ),
    "image twice": (add("images"), Taken(("image is listed twice",))),
    "annotation twice": (add("annotations"), Taken(("image is annotated twice alike",))),
    "two maps of an image": (
        add("annotations", file_name="1.png"), Refused("with the maps 0.png and 1.png")
    ),
    "two images of an id": (add("images", file_name="9.png"), Refused("0.png and 9.png")),
    "image not listed": (
        lambda c: c["images"].pop(), Taken(("its image 3 is not listed",), (2, 2, 2, None))
    ),
    "image not annotated": (
        lambda c: c["annotations"].pop(), Taken(("no annotation has its panoptic map",), (2, 2, 2))
    ),
    "isthing missing": (
        lambda c: c["categories"][0].pop("isthing"), Refused("has to have isthing 0 or 1, got None")
    ),
    "isthing text": (lambda c: c["categories"][0].update(isthing="1"), Taken()),
    "category twice": (add("categories"), Taken(("listed 2 times alike",))),
    "category ids shared": (add("categories", name="dog"), Refused("this id: 'cat' and 'dog'")),
    "class without a name": (
        lambda c: c["categories"][0].update(name=None), Refused("category 3: the category has no")
    ),
    "no class": (lambda c: c.update(categories=[]), Refused("no categories")),
    "windows names": (windows_names, Taken(("was found as",))),
    "maps of another machine": (
        names("annotations", lambda n: f"D:\\data\\sub\\{n}"), Taken(("was found as",))
    ),
    "map missing": (image(0, file_name="gone.png"), Refused("no file 'gone.png'; tried ")),
    "map nameless": (image(0, file_name=None), Refused("no file_name, that of its PNG")),
    "instances": (
        lambda c: [a.pop("segments_info") for a in c["annotations"]],
        Refused("no panoptic json: its annotations lack segments_info"),
    ),
    "captions": (lambda c: c.update(annotations=[{"caption": "x"}]), Refused("COCO captions")),
    "image info": (lambda c: c.pop("annotations"), Refused("image info of a test set")),
    "geojson": (whole(type="x", features=[]), Refused("looks like GeoJSON")),
    "empty": (whole(), Refused("an empty json object")),
    "no images": (lambda c: c.update(images=[]), Refused("there is no image in it")),
    "no annotations": (lambda c: c.update(annotations=[]), Refused("there are no annotations")),
    "annotations null": (lambda c: c.update(annotations=None), Refused("annotations are null")),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "wanted"), CASES.values(), ids=CASES)
def test_three_agree(tmp_path, monkeypatch, capsys, empty_catalogs, spoil, wanted, request) -> None:
    three.write_photos(tmp_path / "img")
    for i in range(COUNT):
        write_panoptic_png(tmp_path / "png" / f"{i}.png", segment_map(i))
    case = request.node.callspec.id
    if case in ("windows names", "maps of another machine"):
        three.move(tmp_path / "png", [f"{i}.png" for i in range(COUNT)])
    if case == "windows names":
        three.move(tmp_path / "img", [f"{i}.png" for i in range(COUNT)])
    three.spoilt_json(tmp_path / "a.json", sound(), spoil)
    roots = {"image_root": f"{tmp_path}/img", "panoptic_root": f"{tmp_path}/png"}
    options = ["INPUT.DATASET_MAPPER_NAME", "coco_panoptic_lsj"]
    entry = {"task": "panoptic", "annotations": f"{tmp_path}/a.json", **roots, "options": options}
    answers = three.ask(tmp_path, monkeypatch, capsys, **entry)
    three.judge(answers, wanted, lambda: _score(answers.name))


def _score(name: str) -> float:
    """PQ of the maps themselves; IoU of their classes is 100 wherever all three agree."""
    panoptic, semantic = PanopticEvaluator(name), SemSegEvaluator(name, distributed=False)
    for evaluator in (panoptic, semantic):
        evaluator.reset()
    for record in DatasetCatalog.get(name):
        ids = read_panoptic_png(record["pan_seg_file_name"]).astype(np.int64)
        segments = [s for s in record["segments_info"] if (ids == s["id"]).any()]
        scores = torch.zeros(2, *ids.shape)
        for s in segments:
            scores[s["category_id"]][torch.from_numpy(ids == s["id"])] = 1
        panoptic.process([record], [{"panoptic_seg": (torch.from_numpy(ids), segments)}])
        semantic.process([record], [{"sem_seg": scores}])
    assert semantic.evaluate()["sem_seg"]["mIoU"] == 100
    return panoptic.evaluate()["panoptic_seg"]["PQ"]


def test_a_category_is_unknown_once_and_counted() -> None:
    content = sound()
    every(category_id=9)(content)
    with pytest.raises(AnnotationError) as raised:
        read_panoptic(content).findings.raise_refused()
    assert str(raised.value).count("category id 9") == 1
    assert "and 7 more of this kind" in str(raised.value)


def test_maps_of_two_channels_are_refused(tmp_path) -> None:
    Image.new("LA", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.png: expected .*LA"):
        read_panoptic_png(tmp_path / "a.png")


def test_what_detectron2_registered_is_read_by_our_reader(tmp_path, empty_catalogs) -> None:
    from detectron2.data.datasets import register_coco_panoptic

    from mask2former.data.datasets.panoptic import panoptic_metadata
    from mask2former.data.datasets.registered import read_dataset

    (tmp_path / "img").mkdir()
    for i in range(COUNT):
        write_panoptic_png(tmp_path / "png" / f"{i}.png", segment_map(i))
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "img" / f"{i}.jpg")
    content = sound()
    as_text(content)
    every(iscrowd="0", area=...)(content)
    (tmp_path / "a.json").write_text(json.dumps(content))
    paths = [str(tmp_path / part) for part in ("img", "png", "a.json")]
    register_coco_panoptic("theirs", panoptic_metadata(content["categories"]), *paths)
    loaded = read_dataset("theirs")
    assert loaded.findings.counts == {"crowd-form": 8, "area-unusable": 8}
    assert [len(r["segments_info"]) for r in loaded.records] == [2] * COUNT
    assert loaded.records[1]["file_name"].endswith("1.jpg")
    truth = SemSegEvaluator("theirs")._truth
    labels = truth.read(loaded.records[0]["file_name"])
    np.testing.assert_array_equal(labels == 0, segment_map(0) == 70000)
    PanopticEvaluator("theirs")


def test_what_is_written_back_is_sound(tmp_path) -> None:
    from mask2former.annotations.repair import repaired_panoptic

    for i in range(COUNT):
        write_panoptic_png(tmp_path / f"{i}.png", segment_map(i))
    content = sound()
    as_text(content)
    every(area=..., iscrowd="0")(content)
    read = read_panoptic(content, panoptic_root=str(tmp_path))
    fixed = repaired_panoptic(read.content, str(tmp_path))
    again = read_panoptic(fixed)
    assert len(again.findings) == 0
    assert again.content["annotations"] == sound()["annotations"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    | st.sampled_from(["0", "1", 2**70, [], {}, [{}]]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["id", "category_id", "area"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
PLACES = st.sampled_from(
    [(where, key) for where, entries in sound().items() for key in [None, *entries[0]]]
    + [("segments_info", key) for key in sound()["annotations"][0]["segments_info"][0]]
)


@settings(max_examples=300)
@given(PLACES, VALUES)
def test_no_value_in_any_place_is_more_than_a_finding(place, value) -> None:
    where, key = place
    content = sound()
    if key is None:
        content[where] = value
    elif where == "segments_info":
        content["annotations"][0][where][0][key] = value
    else:
        content[where][0][key] = value
    try:
        read = read_panoptic(content)
        read.findings.raise_refused()
    except AnnotationError:
        return
    for entry in read.content["annotations"]:
        assert isinstance(entry["file_name"], str)
        for s in entry["segments_info"]:
            assert s["iscrowd"] in (0, 1) and s["category_id"] in (3, 7) and s["id"] > 0
