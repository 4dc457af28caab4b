"""Instance evaluator: detectron2's COCOEvaluator as oracle, ids with gaps, derived ground truth."""

import json

import numpy as np
import pytest
import torch
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances

from mask2former.evaluation.instance.evaluator import InstanceSegEvaluator, instances_of_panoptic
from mask2former.formats.label_maps import write_panoptic_png
from mask2former.formats.rle import encode_masks

CATEGORIES = [{"id": i, "name": name} for i, name in [(3, "cat"), (5, "dog"), (9, "cow")]]
SIZE = (60, 80)


def rectangle(rng):
    mask = np.zeros(SIZE, bool)
    y, x = rng.integers(0, 40, 2)
    mask[y : y + rng.integers(5, 40), x : x + rng.integers(5, 50)] = True
    return mask


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.fixture
def scene(tmp_path):
    """COCO json of 6 images, and noisy outputs for them as a model gives them."""
    rng = np.random.default_rng(3)
    annotations, inputs, outputs = [], [], []
    for image_id in range(6):
        masks = np.stack([rectangle(rng) for _ in range(5)])
        labels = rng.integers(0, 3, 5)
        for mask, label in zip(masks, labels):
            x0, y0, x1, y1 = (int(v) for v in box_of(mask))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": CATEGORIES[label]["id"],
                    "segmentation": encode_masks(mask[None])[0],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": int(mask.sum()),
                    "iscrowd": int(rng.random() < 0.2),
                }
            )
        shifted = np.roll(masks, rng.integers(0, 4), axis=2)
        instances = Instances(SIZE)
        instances.pred_masks = torch.from_numpy(shifted)
        instances.pred_boxes = Boxes([box_of(mask) for mask in shifted])
        instances.scores = torch.from_numpy(rng.random(5))
        instances.pred_classes = torch.from_numpy(np.where(rng.random(5) < 0.8, labels, 0))
        inputs.append({"image_id": image_id, "file_name": f"{image_id}.jpg"})
        outputs.append({"instances": instances})
    images = [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in range(6)]
    gt = {"images": images, "annotations": annotations, "categories": CATEGORIES, "info": {}}
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(gt))
    return path, inputs, outputs


def run(evaluator, inputs, outputs):
    evaluator.reset()
    evaluator.process(inputs[:2], outputs[:2])
    evaluator.process(inputs[2:], outputs[2:])
    return evaluator.evaluate()


def assert_same(got, expected):
    assert list(got) == list(expected)
    for task, scores in expected.items():
        assert got[task] == pytest.approx(scores, nan_ok=True)


def metadata(path, contiguous=(0, 1, 2)):
    ids = {c["id"]: i for c, i in zip(CATEGORIES, contiguous)}
    names = [c["name"] for c in CATEGORIES]
    return {
        "json_file": str(path),
        "thing_classes": names,
        "thing_dataset_id_to_contiguous_id": ids,
    }


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_same_numbers_as_detectron2(scene, register, tmp_path, dtype):
    path, inputs, outputs = scene
    name = register(**metadata(path))
    for output in outputs:
        output["instances"].pred_masks = output["instances"].pred_masks.to(dtype)
    expected = run(COCOEvaluator(name, use_fast_impl=False), inputs, outputs)
    got = run(InstanceSegEvaluator(name, output_dir=tmp_path / "out"), inputs, outputs)
    assert list(got) == ["bbox", "segm"]
    assert 0 < got["segm"]["AP"] < 100
    for task, scores in expected.items():
        common = {key: got[task][key] for key in scores}
        assert common == pytest.approx(scores, nan_ok=True)
    results = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert len(results) == 30
    assert set(results[0]) == {"image_id", "category_id", "score", "segmentation", "bbox"}


def test_contiguous_ids_with_gaps(scene, register):
    path, inputs, outputs = scene
    plain = run(InstanceSegEvaluator(register(**metadata(path))), inputs, outputs)
    gaps = torch.tensor([7, 2, 40])
    for output in outputs:
        output["instances"].pred_classes = gaps[output["instances"].pred_classes]
    name = register(**metadata(path, gaps.tolist()))
    assert_same(run(InstanceSegEvaluator(name), inputs, outputs), plain)
    outputs[0]["instances"].pred_classes[0] = 1
    with pytest.raises(ValueError, match="class 1 is not among the 3 thing classes"):
        run(InstanceSegEvaluator(name), inputs, outputs)


def test_ids_in_order_where_metadata_have_no_map(scene, register):
    path, inputs, outputs = scene
    plain = run(InstanceSegEvaluator(register(**metadata(path))), inputs, outputs)
    bare = run(InstanceSegEvaluator(register(json_file=str(path))), inputs, outputs)
    assert_same(bare, plain)


def test_boxes_are_made_of_masks_where_there_are_none(scene, register):
    path, inputs, outputs = scene
    name = register(**metadata(path))
    expected = run(InstanceSegEvaluator(name), inputs, outputs)
    for output in outputs:
        output["instances"].remove("pred_boxes")
    assert_same(run(InstanceSegEvaluator(name), inputs, outputs), expected)


def test_boxes_alone(scene, register):
    path, inputs, outputs = scene
    for output in outputs:
        output["instances"].remove("pred_masks")
    assert list(run(InstanceSegEvaluator(register(**metadata(path))), inputs, outputs)) == ["bbox"]


def test_no_objects_found(scene, register, caplog):
    path, inputs, outputs = scene
    empty = {"instances": outputs[0]["instances"][:0]}
    evaluator = InstanceSegEvaluator(register(**metadata(path)))
    evaluator.reset()
    evaluator.process(inputs[:1], [empty])
    assert evaluator.evaluate()["segm"]["AP"] == 0
    assert "has 6 images, of which 1 were processed" in caplog.text


def test_boundary_task(scene, register):
    path, inputs, outputs = scene
    evaluator = InstanceSegEvaluator(register(**metadata(path)), ["segm", "boundary"])
    scores = run(evaluator, inputs, outputs)
    assert 0 < scores["boundary"]["AP"] < scores["segm"]["AP"]


def test_without_annotations_results_are_written(scene, register, tmp_path):
    path, inputs, outputs = scene
    gt = json.loads(path.read_text())
    del gt["annotations"]
    path.write_text(json.dumps(gt))
    evaluator = InstanceSegEvaluator(register(**metadata(path)), output_dir=tmp_path / "out")
    assert run(evaluator, inputs, outputs) == {}
    assert (tmp_path / "out" / "coco_instances_results.json").exists()


def test_missing_output_says_what_to_set(scene, register):
    path, inputs, _ = scene
    evaluator = InstanceSegEvaluator(register(**metadata(path)))
    evaluator.reset()
    with pytest.raises(ValueError, match=r"got \['sem_seg'\]; set MODEL.MASK_FORMER.TEST.INSTANCE"):
        evaluator.process(inputs[:1], [{"sem_seg": None}])


def test_things_of_panoptic_data(tmp_path, register):
    segment_map = np.array([[1, 1, 2], [1, 3, 2]])
    write_panoptic_png(tmp_path / "a.png", segment_map)
    segments = [
        {"id": 1, "category_id": 4, "iscrowd": 0},
        {"id": 2, "category_id": 6, "iscrowd": 0},
        {"id": 3, "category_id": 4, "iscrowd": 1},
    ]
    panoptic = {
        "images": [{"id": 11, "height": 2, "width": 3}],
        "categories": [
            {"id": 4, "name": "cat", "isthing": 1},
            {"id": 6, "name": "sky", "isthing": 0},
        ],
        "annotations": [{"image_id": 11, "file_name": "a.png", "segments_info": segments}],
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(panoptic))
    gt = instances_of_panoptic(tmp_path / "panoptic.json", tmp_path)
    assert [c["name"] for c in gt["categories"]] == ["cat"]
    first, crowd = gt["annotations"]
    assert (first["area"], first["bbox"], first["iscrowd"]) == (3, [0, 0, 2, 2], 0)
    assert (crowd["area"], crowd["bbox"], crowd["iscrowd"]) == (1, [1, 1, 1, 1], 1)
    assert first["segmentation"] == encode_masks((segment_map == 1)[None])[0]

    name = register(
        json_file=None,
        panoptic_json=str(tmp_path / "panoptic.json"),
        panoptic_root=str(tmp_path),
        thing_dataset_id_to_contiguous_id={4: 30},
    )
    instances = Instances((2, 3))
    instances.pred_masks = torch.from_numpy(segment_map == 1)[None]
    instances.scores, instances.pred_classes = torch.ones(1), torch.tensor([30])
    evaluator = InstanceSegEvaluator(name)
    evaluator.reset()
    evaluator.process([{"image_id": 11}], [{"instances": instances}])
    assert evaluator.evaluate()["segm"]["AP-cat"] == pytest.approx(100)
