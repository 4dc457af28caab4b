"""Track files: what an entry says, for all kinds of results, and what is left at the end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Instances

from mask2former.results.files import PredictionFiles, TrackFile

SIZE = (6, 8)
TOYS = Metadata(
    name="toys",
    thing_classes=["ball", "car"],
    stuff_classes=["ball", "car", "floor"],
    thing_dataset_id_to_contiguous_id={11: 0, 22: 1},
    stuff_dataset_id_to_contiguous_id={11: 0, 22: 1, 33: 2},
)


def mask(columns: slice) -> torch.Tensor:
    result = torch.zeros(SIZE, dtype=torch.bool)
    result[:, columns] = True
    return result


def written(path: Path, *frames: tuple, metadata: Metadata = TOYS) -> list[dict]:
    tracks = TrackFile(path, metadata)
    for frame in frames:
        tracks.add(*frame)
    tracks.close()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return json.loads(path.read_text())


def test_tracked_instances(tmp_path: Path) -> None:
    found = Instances(SIZE)
    found.pred_masks = torch.stack([mask(slice(0, 3)), mask(slice(5, 8))])
    found.pred_classes = torch.tensor([1, 0])
    found.scores = torch.tensor([0.5, 0.75])
    found.track_ids = torch.tensor([4, 9])
    entries = written(
        tmp_path / "new" / "tracks.json",
        (0.0, {"instances": found}),
        (0.5, {"instances": found[[]]}),
        (1.0, {"instances": found[1:]}),
    )
    assert [entry["frame"] for entry in entries] == [0, 0, 2]
    assert [entry["seconds"] for entry in entries] == [0, 0, 1]
    assert [entry["track_id"] for entry in entries] == [4, 9, 9]
    assert [entry["category_id"] for entry in entries] == [22, 11, 11]
    assert [entry["category"] for entry in entries] == ["car", "ball", "ball"]
    assert [entry["score"] for entry in entries] == [0.5, 0.75, 0.75]
    assert entries[0]["bbox"] == [0, 0, 3, 6]
    assert np.array_equal(mask_util.decode(entries[0]["segmentation"]), found.pred_masks[0].numpy())


def test_tracked_segments(tmp_path: Path) -> None:
    ids = torch.zeros(SIZE, dtype=torch.int32)
    ids[:, :3], ids[:, 3:6] = 5, 2
    infos = [
        {"id": 2, "isthing": False, "category_id": 2},
        {"id": 5, "isthing": True, "category_id": 1},
    ]
    floor, car = written(tmp_path / "t.json", (0.0, {"panoptic_seg": (ids, infos)}))
    assert (floor["track_id"], floor["category_id"], floor["isthing"]) == (2, 33, False)
    assert (car["track_id"], car["category_id"], car["isthing"]) == (5, 22, True)
    assert mask_util.decode(car["segmentation"])[:, :3].all()
    assert mask_util.area(floor["segmentation"]) == 18


def test_semantic_results_of_frames(tmp_path: Path) -> None:
    labels = torch.full(SIZE, -1)
    labels[:, 2:4] = 2
    (entry,) = written(tmp_path / "t.json", (0.0, {"sem_seg": labels}))
    assert entry["category"] == "floor" and "track_id" not in entry
    assert mask_util.area(entry["segmentation"]) == 12


def test_nothing_seen_is_an_empty_list_and_nothing_kept_no_file(tmp_path: Path) -> None:
    assert written(tmp_path / "t.json", (0.0, {})) == []
    tracks = TrackFile(tmp_path / "t.json", TOYS)
    tracks.close(keep=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("entries", "category_id"),
    [
        ({"sem_seg_labels": [9, 4, 7]}, 7),
        ({"thing_classes": ["ball"], "thing_dataset_id_to_contiguous_id": {11: 0}}, 2),
    ],
)
def test_frames_have_the_ids_that_images_have(
    tmp_path: Path, entries: dict[str, Any], category_id: int
) -> None:
    """Of semantic datasets, and of those with ids for their things alone."""
    metadata = Metadata(stuff_classes=["ball", "car", "floor"], **entries)
    labels = torch.full(SIZE, 2)
    (entry,) = written(tmp_path / "t" / "t.json", (0.0, {"sem_seg": labels}), metadata=metadata)
    assert (entry["category_id"], entry["category"]) == (category_id, "floor")
    files = PredictionFiles(tmp_path, metadata)
    files.add("a.jpg", {"sem_seg": labels})
    files.write()
    results = json.loads((tmp_path / "semantic.json").read_text())
    assert [r["category_id"] for r in results] == [category_id]
