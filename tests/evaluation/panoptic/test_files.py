"""PQ of files: published answers, agreement of one process with several, every error."""

import json
import shutil

import numpy as np
import pytest

from mask2former.evaluation.panoptic.files import pq_compute
from mask2former.formats.label_maps import write_panoptic_png


def test_published_answer(shared):
    folder = shared / "data" / "eval" / "pq_team"
    result = pq_compute(
        folder / "gt.json", folder / "pred.json", folder / "gt", folder / "pred", num_workers=1
    )
    everything = result["All"]
    assert everything["pq"] == pytest.approx(0.76855503, abs=5e-9)
    assert everything["sq"] == pytest.approx(0.77691737, abs=5e-9)
    assert everything["rq"] == pytest.approx(0.98888889, abs=5e-9)
    assert everything["n"] == 6
    assert result["Things"]["pq"] == pytest.approx(0.70243608, abs=5e-9)
    assert result["Stuff"]["pq"] == pytest.approx(0.78177882, abs=5e-9)
    by_default = pq_compute(folder / "gt.json", str(folder / "pred.json"))
    assert by_default == result


def test_real_ground_truth_as_prediction(shared):
    folder = shared / "data" / "panoptic2"
    json_file, pngs = folder / "panoptic.json", folder / "panoptic"
    result = pq_compute(json_file, json_file, pngs, pngs)
    assert [result[group]["pq"] for group in ("All", "Things", "Stuff")] == [1, 1, 1]


@pytest.fixture
def dataset(tmp_path):
    """70 images of 8 x 8 in COCO's format, half of them predicted well."""
    rng = np.random.default_rng(0)
    annotations = {"gt": [], "pred": []}
    for image_id in range(70):
        small = rng.integers(0, 4, (2, 2))
        maps = {"gt": np.kron(small, np.ones((4, 4), int))}
        maps["pred"] = np.roll(maps["gt"], image_id % 2, axis=1)
        for whose, segment_map in maps.items():
            name = f"{image_id:03d}.png"
            write_panoptic_png(tmp_path / whose / name, segment_map * 70_000)
            segments = [
                {"id": int(i) * 70_000, "category_id": int(i), "iscrowd": int(i == 3)}
                for i in np.unique(segment_map[segment_map > 0])
            ]
            annotations[whose].append(
                {"image_id": image_id, "file_name": name, "segments_info": segments}
            )
    categories = [{"id": i, "isthing": int(i > 1)} for i in (1, 2, 3)]
    gt = {"annotations": annotations["gt"], "categories": categories}
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "pred.json").write_text(json.dumps({"annotations": annotations["pred"]}))
    return tmp_path


def test_several_processes_agree_with_one(dataset):
    files = (dataset / "gt.json", dataset / "pred.json")
    alone = pq_compute(*files, num_workers=1)
    together = pq_compute(*files, num_workers=2)
    assert 0 < alone["All"]["pq"] < 1
    assert together["All"] == pytest.approx(alone["All"])
    assert {k: v["tp"] for k, v in together["per_class"].items()} == {
        k: v["tp"] for k, v in alone["per_class"].items()
    }


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_errors_name_the_image(dataset, num_workers):
    def change(value):
        value["annotations"][40]["segments_info"].append({"id": 5, "category_id": 1})

    edit(dataset / "pred.json", change)
    with pytest.raises(ValueError, match=r"image 40 \(040.png\): .*segment id 5 is in the json"):
        pq_compute(dataset / "gt.json", dataset / "pred.json", num_workers=num_workers)


def test_other_images_than_the_ground_truth(dataset):
    def change(value):
        value["annotations"][3]["image_id"] = 1003
        del value["annotations"][40:53]

    edit(dataset / "pred.json", change)
    with pytest.raises(
        ValueError,
        match=r"missing: 3, 40, .* 48 and 4 more; not in the ground truth: 1003$",
    ):
        pq_compute(dataset / "gt.json", dataset / "pred.json")


def test_more_images_than_the_ground_truth(dataset):
    edit(dataset / "gt.json", lambda value: value["annotations"].pop())
    with pytest.raises(ValueError, match="missing: none; not in the ground truth: 69$"):
        pq_compute(dataset / "gt.json", dataset / "pred.json")


def test_two_predictions_for_an_image(dataset):
    edit(dataset / "pred.json", lambda v: v["annotations"].append(v["annotations"][0]))
    with pytest.raises(ValueError, match="more than one prediction"):
        pq_compute(dataset / "gt.json", dataset / "pred.json")


def test_ids_may_be_numbers_or_digits(dataset):
    def change(value):
        for annotation in value["annotations"]:
            annotation["image_id"] = f"{annotation['image_id']:06d}"

    before = pq_compute(dataset / "gt.json", dataset / "pred.json")
    edit(dataset / "pred.json", change)
    assert pq_compute(dataset / "gt.json", dataset / "pred.json") == before


@pytest.mark.parametrize(
    ("name", "key", "found"),
    [
        ("gt", "categories", ", but this looks like a file without categories"),
        ("pred", "annotations", " with 'annotations'"),
    ],
)
def test_json_of_another_kind(dataset, name, key, found):
    edit(dataset / f"{name}.json", lambda value: value.pop(key))
    with pytest.raises(ValueError, match=f"{name}.json: expected COCO panoptic json{found}"):
        pq_compute(dataset / "gt.json", dataset / "pred.json")


def test_missing_and_broken_pngs(dataset):
    png = dataset / "pred" / "005.png"
    png.write_bytes(png.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"005.png: damaged or truncated"):
        pq_compute(dataset / "gt.json", dataset / "pred.json", num_workers=1)
    png.unlink()
    with pytest.raises(FileNotFoundError, match=r"005.png"):
        pq_compute(dataset / "gt.json", dataset / "pred.json", num_workers=1)
    shutil.rmtree(dataset / "gt")
    with pytest.raises(FileNotFoundError, match=r"000.png"):
        pq_compute(dataset / "gt.json", dataset / "pred.json", num_workers=1)
