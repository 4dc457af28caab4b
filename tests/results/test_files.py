"""Result files of images: entries worked out by hand, read back by other tools."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO

from mask2former.evaluation import pq_compute, read_panoptic_png
from mask2former.results.files import PredictionFiles

# Things 0 and 2, stuff 1 and 3, by the convention of the published model.
PANOPTIC = {
    "name": "harbour",
    "stuff_classes": ["boat", "sky", "gull", "sea"],
    "thing_classes": ["boat", "gull"],
    "thing_dataset_id_to_contiguous_id": {50: 0, 70: 2},
    "stuff_dataset_id_to_contiguous_id": {50: 0, 60: 1, 70: 2, 80: 3},
}
SEPARATED = {
    "stuff_classes": ["things", "sky", "sea"],
    "thing_classes": ["boat", "gull"],
    "thing_dataset_id_to_contiguous_id": {50: 0, 70: 1},
    "stuff_dataset_id_to_contiguous_id": {0: 0, 60: 1, 80: 2},
}
THINGS = {
    "thing_classes": ["boat", "gull"],
    "thing_dataset_id_to_contiguous_id": {50: 0, 70: 1},
}
IDS = torch.tensor([[1, 1, 300], [0, 2, 2]], dtype=torch.int32)
MASKS = torch.tensor([[[0, 1, 1], [0, 1, 0]], [[0, 0, 0], [1, 0, 0]]], dtype=torch.bool)


def read(folder: Path, kind: str) -> Any:
    return json.loads((folder / f"{kind}.json").read_text())


def instances(scores: tuple[float, float] = (0.75, 0.25), **fields: Any) -> Instances:
    boxes = Boxes(torch.tensor([[1.0, 0.0, 3.0, 2.0], [0.0, 1.0, 1.0, 2.0]]))
    more = {"pred_boxes": boxes, "pred_classes": torch.tensor([0, 0])} | fields
    return Instances((2, 3), scores=torch.tensor(scores), pred_masks=MASKS, **more)


def segments(*categories: int) -> list[dict[str, Any]]:
    classes = zip((1, 300, 2), categories, (False, True, True))
    return [{"id": i, "category_id": c, "isthing": t} for i, c, t in classes]


def test_instances(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path / "new" / "folder", Metadata(**THINGS))
    files.add("a.jpg", {"instances": instances(pred_classes=torch.tensor([1, 0]))})
    files.add("b.jpg", {"instances": instances()})
    assert files.write() == [tmp_path / "new" / "folder" / "instances.json"]
    results = read(tmp_path / "new" / "folder", "instances")
    assert [r["image_id"] for r in results] == [1, 1, 2, 2]
    assert [r["file_name"] for r in results] == ["a.jpg", "a.jpg", "b.jpg", "b.jpg"]
    assert [r["category_id"] for r in results] == [70, 50, 50, 50]
    assert [r["score"] for r in results] == [0.75, 0.25] * 2
    assert [r["bbox"] for r in results[:2]] == [[1, 0, 2, 2], [0, 1, 1, 1]]
    for result, mask in zip(results, MASKS):
        np.testing.assert_array_equal(mask_util.decode(result["segmentation"]), mask)


def test_boxes_are_made_of_masks_where_there_are_none(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path, Metadata(**THINGS))
    prediction = instances()
    prediction.remove("pred_boxes")
    files.add("a.jpg", {"instances": prediction})
    files.write()
    assert [r["bbox"] for r in read(tmp_path, "instances")] == [[1, 0, 2, 2], [0, 1, 1, 1]]


@pytest.mark.parametrize(("threshold", "kept"), [(0.0, 2), (0.25, 2), (0.3, 1), (0.8, 0)])
def test_threshold(tmp_path: Path, threshold: float, kept: int) -> None:
    files = PredictionFiles(tmp_path, Metadata(**THINGS), score_threshold=threshold)
    files.add("a.jpg", {"instances": instances()})
    files.write()
    assert len(read(tmp_path, "instances")) == kept


def test_pycocotools_reads_the_instances(tmp_path: Path) -> None:
    truth = {
        "images": [{"id": 7, "height": 2, "width": 3}],
        "categories": [{"id": 50, "name": "boat"}, {"id": 70, "name": "gull"}],
        "annotations": [],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    files = PredictionFiles(tmp_path, Metadata(**THINGS))
    files.add("a.jpg", {"instances": instances()}, image_id=7)
    files.write()
    results = COCO(tmp_path / "truth.json").loadRes(str(tmp_path / "instances.json"))
    assert results.getAnnIds(imgIds=[7], catIds=[50]) == [1, 2]
    for i, mask in enumerate(MASKS, start=1):
        np.testing.assert_array_equal(results.annToMask(results.anns[i]), mask)


def test_panoptic(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path, Metadata(**PANOPTIC))
    files.add("folder/a.jpg", {"panoptic_seg": (IDS, segments(3, 2, 0))}, image_id="x")
    files.add("b.png", {"panoptic_seg": (torch.zeros(1, 4, dtype=torch.int32), [])}, image_id=5)
    files.write()
    content = read(tmp_path, "panoptic")
    assert content["images"] == [
        {"id": "x", "file_name": "folder/a.jpg", "height": 2, "width": 3},
        {"id": 5, "file_name": "b.png", "height": 1, "width": 4},
    ]
    first, second = content["annotations"]
    assert first["image_id"] == "x" and second == {
        "image_id": 5,
        "file_name": "000002.png",
        "segments_info": [],
    }
    assert first["segments_info"] == [
        {"id": 1, "category_id": 80, "area": 2},
        {"id": 300, "category_id": 70, "area": 1},
        {"id": 2, "category_id": 50, "area": 2},
    ]
    written = read_panoptic_png(tmp_path / "panoptic" / first["file_name"])
    np.testing.assert_array_equal(written, IDS)
    assert content["categories"] == [
        {"id": 50, "name": "boat", "isthing": 1},
        {"id": 60, "name": "sky", "isthing": 0},
        {"id": 70, "name": "gull", "isthing": 1},
        {"id": 80, "name": "sea", "isthing": 0},
    ]


def test_panoptic_files_score_100_against_themselves(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path, Metadata(**PANOPTIC))
    files.add("a.jpg", {"panoptic_seg": (IDS, segments(3, 2, 0))})
    (path,) = files.write()
    assert pq_compute(path, path)["All"] == {"pq": 1, "sq": 1, "rq": 1, "n": 3}


def test_segment_without_a_pixel(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path, Metadata(**PANOPTIC))
    files.add("a.jpg", {"panoptic_seg": (IDS.clamp(max=2), segments(3, 2, 0))})
    files.write()
    infos = read(tmp_path, "panoptic")["annotations"][0]["segments_info"]
    assert [info["area"] for info in infos] == [2, 0, 3]


def test_things_and_stuff_counted_separately(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path, Metadata(**SEPARATED))
    files.add("a.jpg", {"panoptic_seg": (IDS, segments(1, 1, 0))})
    files.write()
    content = read(tmp_path, "panoptic")
    infos = content["annotations"][0]["segments_info"]
    assert [info["category_id"] for info in infos] == [60, 70, 50]
    assert [tuple(c.values()) for c in content["categories"]] == [
        (0, "things", 0),
        (50, "boat", 1),
        (60, "sky", 0),
        (70, "gull", 1),
        (80, "sea", 0),
    ]


@pytest.mark.parametrize(
    ("entries", "ids"),
    [
        (PANOPTIC, [50, 60]),
        (THINGS, [50, 70]),
        ({"stuff_classes": ["sky", "sea"]}, [0, 1]),
        ({"stuff_classes": ["sky", "sea"], "sem_seg_labels": [9, 4]}, [9, 4]),
    ],
)
def test_semantic(tmp_path: Path, entries: dict[str, Any], ids: list[int]) -> None:
    files = PredictionFiles(tmp_path, Metadata(**entries))
    labels = np.array([[1, -1, 0], [1, 1, 0]])
    files.add("a.jpg", {"sem_seg": torch.from_numpy(labels)})
    assert files.write() == [tmp_path / "semantic.json"]
    results = read(tmp_path, "semantic")
    assert [(r["image_id"], r["file_name"]) for r in results] == [(1, "a.jpg")] * 2
    assert [r["category_id"] for r in results] == ids
    for label, result in enumerate(results):
        np.testing.assert_array_equal(mask_util.decode(result["segmentation"]), labels == label)


def test_pixels_of_low_semantic_scores_are_left_out(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path, Metadata(stuff_classes=["sky", "sea"]), label_threshold=0.6)
    files.add("a.jpg", {"sem_seg": torch.tensor([[[0.9, 0.5]], [[0.1, 0.5]]])})
    files.write()
    (result,) = read(tmp_path, "semantic")
    assert result["category_id"] == 0
    np.testing.assert_array_equal(mask_util.decode(result["segmentation"]), [[1, 0]])


def test_labels_beyond_255(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(300)]
    files = PredictionFiles(tmp_path, Metadata(stuff_classes=names))
    files.add("a.jpg", {"sem_seg": torch.tensor([[255, 299]])})
    files.write()
    assert [r["category_id"] for r in read(tmp_path, "semantic")] == [255, 299]


def test_one_file_a_kind(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path, Metadata(**PANOPTIC))
    prediction = {"panoptic_seg": (IDS, segments(3, 2, 0)), "instances": instances()}
    files.add("a.jpg", prediction | {"sem_seg": torch.zeros(2, 3)})
    assert [path.name for path in files.write()] == [
        "instances.json",
        "panoptic.json",
        "semantic.json",
    ]
    assert PredictionFiles(tmp_path, Metadata(**PANOPTIC)).write() == []


def test_a_class_that_the_dataset_lacks(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path, Metadata(**PANOPTIC))
    message = "class 1 is not among the 2 thing classes of harbour"
    with pytest.raises(ValueError, match=message):
        files.add("a.jpg", {"instances": instances(pred_classes=torch.tensor([0, 1]))})
    with pytest.raises(ValueError, match=message):
        files.add("b.jpg", {"panoptic_seg": (IDS, segments(3, 1, 0))})


def test_an_image_id_comes_once(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path, Metadata(**THINGS))
    files.add("a.jpg", {}, image_id=4)
    with pytest.raises(ValueError, match="image_id 4 came before"):
        files.add("b.jpg", {}, image_id=4)
