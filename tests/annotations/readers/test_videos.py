"""YouTube-VIS json as tools write it: checker, training and scoring agree."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mask2former.annotations import AnnotationError
from mask2former.annotations.readers.videos import read_videos
from mask2former.evaluation.video.evaluator import YTVISEvaluator, evaluate_ytvis
from tests.annotations import three
from tests.annotations.readers.video_json import (
    FRAMES,
    NAN,
    add,
    as_lists,
    backslashes,
    each,
    in_unit_square,
    mask,
    masks,
    polygon,
    rle,
    sound,
    track,
    video,
    whole,
)
from tests.annotations.three import COUNT, HEIGHT, WIDTH, Refused, Taken

ONE = (1, 1, 1, 1)
LESS = (1, None, 1, 1)
FRAME_1 = "annotation 2, frame 1: "
COCOVID = {"images": [{"id": 1, "video_id": 0, "frame_id": 0}], "annotations": [{"image_id": 1}]}
CASES = {
    "sound": (lambda c: None, Taken((), ONE)),
    "ids as text": (
        each("annotations", lambda a: a.update(video_id=str(a["video_id"]))), Taken((), ONE)
    ),
    "category ids as text": (
        each("annotations", lambda a: a.update(category_id=str(a["category_id"]))), Taken((), ONE)
    ),
    "rle of lists": (each("annotations", as_lists), Taken((), ONE)),
    "rle damaged": (
        masks(polygon(1), rle(1, extra=5, listed=True)), Taken((FRAME_1 + "its RLE cannot",), ONE)
    ),
    "rle of another size": (
        masks(polygon(1), {"size": [4, 4], "counts": [16]}), Taken((FRAME_1,), ONE)
    ),
    "polygon short": (masks(polygon(1), [[1, 2, 3, 4]]), Taken((FRAME_1 + "its polygon",), ONE)),
    "polygon NaN": (masks(polygon(1), [[NAN, *polygon(1)[0][1:]]]), Taken((FRAME_1,), ONE)),
    "polygon flat": (masks(polygon(1)[0], polygon(1)), Taken(("frame 0: the mask is a",), ONE)),
    "mask is text": (masks(polygon(1), "x"), Taken((FRAME_1 + "expected polygons or",), ONE)),
    "empty list": (masks(polygon(1), []), Taken((), ONE)),
    "all damaged": (
        masks("x", [[1, 2]]), Taken(("annotation 2: none of its masks can be used",), LESS)
    ),
    "no masks": (track(1, segmentations=...), Taken(("annotation 2: it has no mask",), LESS)),
    "boxes only": (track(None, segmentations=...), Refused("boxes only, no masks")),
    "in unit square": (each("annotations", in_unit_square), Refused("0 to 1")),
    "too few frames": (masks(polygon(1)), Refused("the 2 frames of video 1, got 1")),
    "too few areas": (track(1, areas=[4]), Refused("areas: expected one for each of the 2 frames")),
    "areas missing": (track(None, areas=...), Taken((), ONE)),
    "areas text": (track(None, areas=["400", "400"]), Taken((), ONE)),
    "areas odd": (track(None, areas=["x", None]), Taken(("computed from the mask",), ONE)),
    "boxes missing": (track(None, bboxes=...), Taken((), ONE)),
    "video not listed": (add("annotations", id=9, video_id=77), Taken(("its video 77",), ONE)),
    "video id missing": (track(1, video_id=None), Refused("annotation 2: has no video_id")),
    "annotation ids twice": (track(None, id=5), Taken(("the id occurs more than once",), ONE)),
    "annotation ids missing": (track(None, id=...), Taken((), ONE)),
    "video twice": (add("videos"), Taken(("is listed twice",), ONE)),
    "two videos of an id": (add("videos", file_names=["x.png"] * 2), Refused("two files have")),
    "length missing": (video(None, length=...), Taken((), ONE)),
    "length text": (video(None, length="2"), Taken((), ONE)),
    "length contradicts": (video(1, length=3), Refused("2 file names and the length 3")),
    "size missing": (video(None, height=..., width=...), Taken(("read from the file",), ONE)),
    "size text": (video(None, height=str(HEIGHT), width=str(WIDTH)), Taken((), ONE)),
    "frames missing": (video(1, file_names=[]), Refused("file_names is []")),
    "one frame for all": (video(1, file_names="v1/0.png"), Refused("file_names is 'v1/0.png'")),
    "backslashes": (each("videos", backslashes), Taken(("was found as",), ONE)),
    "frame gone": (video(0, file_names=["v0/9.png", "v0/1.png"]), Refused("no file 'v0/9.png'")),
    "crowd all": (track(None, iscrowd=1), Refused("crowd")),
    "crowd one": (track(1, iscrowd=1), Taken(("1 crowd",), LESS)),
    "crowd text": (track(None, iscrowd="0"), Taken(("iscrowd is '0': read as 0",), ONE)),
    "crowd null": (track(None, iscrowd=None), Taken(("iscrowd is None",), ONE)),
    "crowd missing": (track(None, iscrowd=...), Taken((), ONE)),
    "class unknown": (track(1, category_id=9), Refused("has the category id 9, which is none of")),
    "class unused": (
        lambda c: c["categories"].append({"id": 9, "name": "cow"}), Taken(("cow",), ONE)
    ),
    "class of two names": (
        lambda c: c["categories"].append({"id": 3, "name": "cow"}), Refused("'cat' and 'cow'")
    ),
    "no class": (lambda c: c.update(categories=[]), Refused("no categories")),
    "no videos": (lambda c: c.update(videos=[]), Refused("there is no image in it")),
    "no objects": (lambda c: c.update(annotations=[]), Refused("no object is left")),
    "annotations null": (lambda c: c.update(annotations=None), Refused("no object is left")),
    "CocoVID": (lambda c: c.update(COCOVID), Refused("looks like CocoVID json")),
    "instances": (
        lambda c: c.update(images=c.pop("videos")), Refused("annotations of images (task instance)")
    ),
    "geojson": (whole(type="x", features=[]), Refused("looks like GeoJSON")),
    "empty": (whole(), Refused("an empty json object")),
}  # fmt: skip
VIDEO = [
    *("MODEL.META_ARCHITECTURE", "VideoMaskFormer", "INPUT.SAMPLING_FRAME_NUM", FRAMES),
    *("INPUT.DATASET_MAPPER_NAME", "coco_instance_lsj"),
]


def write_frames(folder: Path) -> None:
    for i in range(COUNT):
        (folder / f"v{i}").mkdir(parents=True)
        for t in range(FRAMES):
            shade = np.full((HEIGHT, WIDTH, 3), 50 * i + 20 * t, np.uint8)
            Image.fromarray(shade).save(folder / f"v{i}" / f"{t}.png")


@pytest.mark.parametrize(("spoil", "wanted"), CASES.values(), ids=CASES)
def test_three_agree(tmp_path, monkeypatch, capsys, empty_catalogs, spoil, wanted) -> None:
    write_frames(tmp_path / "frames")
    three.spoilt_json(tmp_path / "a.json", sound(), spoil)
    paths = {"image_root": f"{tmp_path}/frames", "annotations": f"{tmp_path}/a.json"}
    answers = three.ask(tmp_path, monkeypatch, capsys, task="video", options=VIDEO, **paths)
    three.judge(answers, wanted, lambda: _score(answers.name))


def _score(name: str) -> float:
    """AP of the squares, of those objects and frames that training gets."""
    evaluator = YTVISEvaluator(name, distributed=False)
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        own = [a for a in record["annotations"] if not a["iscrowd"]]
        tubes = [
            np.stack([mask(record["video_id"]) & bool(frame) for frame in a["segmentations"]])
            for a in own
        ]
        outputs = {
            "pred_scores": [1.0] * len(own),
            "pred_labels": [a["category_id"] for a in own],
            "pred_masks": [torch.from_numpy(tube) for tube in tubes],
        }
        evaluator.process([record], outputs)
    return evaluator.evaluate()["segm"]["AP"]


def test_sound_json_stays_as_it_is() -> None:
    content = sound()
    read = read_videos(content)
    assert len(read.findings) == 0 and content == sound()
    assert read.content["annotations"] == sound()["annotations"]
    assert read.content["videos"] == sound()["videos"]


def test_test_sets_have_no_truth() -> None:
    for spoil in (lambda c: c.update(annotations=None), lambda c: c.pop("annotations")):
        content = sound()
        spoil(content)
        assert not read_videos(content).has_truth


def test_scoring_needs_no_files_but_sizes() -> None:
    content = sound()
    each("videos", lambda v: v.pop("file_names"))(content)
    results = [a | {"score": 1.0} for a in sound()["annotations"]]
    assert evaluate_ytvis(content, results)["AP"] == pytest.approx(100)
    del content["videos"][0]["height"]
    with pytest.raises(ValueError, match="video 0 has no height and width"):
        evaluate_ytvis(content, results)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    | st.sampled_from(["0", "2", 2**70, [], {}, [[]], [rle(), None], [None, polygon(0)]]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["size", "counts", "id"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
PLACES = st.sampled_from(
    [(where, key) for where, entries in sound().items() for key in [None, *entries[0]]]
)


@settings(max_examples=300)
@given(PLACES, VALUES)
def test_no_value_in_any_place_is_more_than_a_finding(place, value) -> None:
    where, key = place
    content = sound()
    if key is None:
        content[where] = value
    else:
        content[where][0][key] = value
    try:
        read = read_videos(content)
        read.findings.raise_refused(but=["all-crowd"])
    except AnnotationError:
        return
    if read.has_truth:
        with suppress(ValueError):  # of sizes that are missing or beyond all memory
            evaluate_ytvis(read, [])
