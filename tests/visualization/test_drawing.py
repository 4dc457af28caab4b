"""What is drawn of predictions: colours and names worked out by hand, thresholds, errors."""

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.utils.colormap import colormap

from mask2former.painting import Region
from mask2former.visualization import choose_kind, draw, drawing, semantic_labels

IMAGE = np.full((3, 4, 3), 90, np.uint8)
SKY, SEA = [10, 20, 200], [0, 250, 250]
METADATA = Metadata(
    stuff_classes=["boat", "sky", "gull", "sea"],
    stuff_colors=[[9, 9, 9], SKY, [8, 8, 8], SEA],
    thing_classes=["boat", "gull"],
    thing_dataset_id_to_contiguous_id={5: 0, 7: 2},
)


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> list[Region]:
    """The regions that are painted, in their order."""
    regions: list[Region] = []
    monkeypatch.setattr(drawing, "paint", lambda image, new, quick: regions.extend(new))
    return regions


def mask(*rows: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows])


def instances(**fields: Any) -> dict[str, Any]:
    """A small boat and a large gull, and what else is said."""
    boat, gull = mask("#...", "....", "...."), mask("...#", "####", ".###")
    result = Instances((3, 4))
    result.pred_masks = torch.from_numpy(np.stack([boat, gull]))
    result.pred_classes = torch.tensor([0, 2])
    for name, value in fields.items():
        result.set(name, value)
    return {"instances": result}


def test_panoptic(painted: list[Region]) -> None:
    ids = torch.tensor([[1, 2, 2, 3], [1, 2, 2, 3], [4, 3, 3, 3]], dtype=torch.int32)
    classes = {1: (0, True), 2: (3, False), 3: (2, True), 4: (1, False)}
    segments = [{"id": i, "category_id": c, "isthing": t} for i, (c, t) in classes.items()]
    draw(IMAGE, {"panoptic_seg": (ids, segments)}, METADATA)
    assert [region.name for region in painted] == ["sea", "sky", "gull", "boat"]
    for region, i in zip(painted, (2, 4, 3, 1), strict=True):
        np.testing.assert_array_equal(region.mask, ids.numpy() == i)
    np.testing.assert_array_equal(painted[0].colour, np.array(SEA) / 255)
    np.testing.assert_array_equal(painted[1].colour, np.array(SKY) / 255)
    assert not np.array_equal(painted[2].colour, painted[3].colour)


def test_instances_large_ones_first(painted: list[Region]) -> None:
    draw(IMAGE, instances(scores=torch.tensor([0.914, 0.5])), METADATA)
    assert [region.name for region in painted] == ["gull 50%", "boat 91%"]
    np.testing.assert_array_equal(painted[0].mask, mask("...#", "####", ".###"))


def test_instances_of_ground_truth_show_no_score(painted: list[Region]) -> None:
    draw(IMAGE, instances(), METADATA, threshold=0.9)
    assert [region.name for region in painted] == ["gull", "boat"]


def test_masks_may_be_numbers(painted: list[Region]) -> None:
    masks = torch.tensor([[[0.4, 0.6]]])
    result = Instances((1, 2), pred_masks=masks, pred_classes=torch.tensor([0]))
    draw(IMAGE[:1, :2], {"instances": result}, METADATA)
    np.testing.assert_array_equal(painted[0].mask, [[False, True]])


def test_threshold_leaves_out_instances_below(painted: list[Region]) -> None:
    prediction = instances(scores=torch.tensor([0.25, 0.75]))
    for threshold, names in [
        (0.25, ["gull 75%", "boat 25%"]),
        (0.5, ["gull 75%"]),
        (0.75, ["gull 75%"]),
        (0.8, []),
    ]:
        painted.clear()
        draw(IMAGE, prediction, METADATA, threshold=threshold)
        assert [region.name for region in painted] == names


def test_many_objects_use_all_colours(painted: list[Region]) -> None:
    result = Instances((3, 4))
    result.pred_masks = torch.ones(100, 3, 4, dtype=torch.bool)
    result.pred_classes = torch.zeros(100, dtype=torch.int64)
    draw(IMAGE, {"instances": result}, METADATA)
    colours = {tuple(colour) for colour in colormap(rgb=True, maximum=1)}
    assert {tuple(region.colour) for region in painted} == colours


def test_semantic_labels_of_scores() -> None:
    scores = torch.tensor([[[0.5, 0.2]], [[0.3, 0.7]], [[0.4, 0.1]]])  # fractions 0.417 and 0.7
    assert semantic_labels(scores).tolist() == [[0, 1]]
    assert semantic_labels(scores, 0.4).tolist() == [[0, 1]]
    assert semantic_labels(scores, 0.5).tolist() == [[-1, 1]]
    labels = torch.tensor([[2, -1]], dtype=torch.uint8)
    assert semantic_labels(labels, 0.9).tolist() == labels.tolist()


def test_semantic(painted: list[Region]) -> None:
    labels = torch.tensor([[1, 1, 3, 255], [1, 300, 3, -1], [1, 1, 3, -1]])
    draw(IMAGE, {"sem_seg": labels}, METADATA)
    assert [region.name for region in painted] == ["sky", "sea", "255", "300"]
    np.testing.assert_array_equal(painted[0].mask, mask("##..", "#...", "##.."))
    np.testing.assert_array_equal(painted[1].colour, np.array(SEA) / 255)
    assert sum(region.mask.sum() for region in painted) == 10


@pytest.mark.parametrize("kind", ["panoptic", "instance", "semantic"])
def test_nothing_predicted_leaves_the_image_as_it_is(kind: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    none = Instances((400, 400))
    none.pred_masks = torch.zeros(0, 400, 400, dtype=torch.bool)
    none.pred_classes, none.scores = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    prediction = {
        "panoptic_seg": (torch.zeros(400, 400, dtype=torch.int32), []),
        "instances": none,
        "sem_seg": torch.full((400, 400), -1),
    }
    np.testing.assert_array_equal(draw(image, prediction, METADATA, kind), image)


def test_pixels_of_a_result_change() -> None:
    image = np.full((400, 400, 3), 90, np.uint8)
    ids = torch.zeros(400, 400, dtype=torch.int32)
    ids[100:200] = 1
    segments = [{"id": 1, "category_id": 3, "isthing": False}]
    picture = draw(image, {"panoptic_seg": (ids, segments)}, METADATA)
    changed = (picture != 90).any(-1)
    assert changed[100:200].all() and not changed[:100].any() and not changed[200:].any()
    assert (picture[100, :] == SEA).all()


def test_the_richest_kind_is_chosen() -> None:
    everything = {"sem_seg": 0, "instances": 0, "panoptic_seg": 0}
    assert choose_kind(everything) == "panoptic"
    assert choose_kind({"sem_seg": 0, "instances": 0}) == "instance"
    assert choose_kind({"sem_seg": 0}) == "semantic"
    assert choose_kind(everything, "semantic") == "semantic"


@pytest.mark.parametrize(
    ("prediction", "kind", "message"),
    [
        ({"sem_seg": 0}, "instance", "cannot draw instance: the model gives semantic. Turn"),
        ({}, None, "cannot draw anything: the model gives nothing"),
        ({"sem_seg": 0}, "depth", "cannot draw depth: the model gives semantic"),
    ],
)
def test_kinds_that_are_not_there(prediction: dict, kind: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_kind(prediction, kind)


# Frames of a video: an object's colour is that of its id, whatever else is in the frame

FRAME = (260, 300)
TOYS = Metadata(
    thing_classes=["dog", "cat"], stuff_classes=["dog", "cat", "sky"], stuff_colors=[[9, 8, 7]] * 3
)


def draw_frame(prediction: dict[str, Any], **options: Any) -> np.ndarray:
    return draw(np.zeros((*FRAME, 3), np.uint8), prediction, TOYS, tracked=True, **options)


def tracks(*items: tuple[int, int, float]) -> dict:
    """Of (id, first column of 40, score), 10 pixels below the top."""
    found = Instances(FRAME)
    found.pred_masks = torch.zeros(len(items), *FRAME, dtype=torch.bool)
    for i, (_, x, _) in enumerate(items):
        found.pred_masks[i, 10 + i : -10, x : x + 40] = True
    found.pred_classes = torch.zeros(len(items), dtype=torch.int64)
    found.scores = torch.tensor([item[2] for item in items])
    found.track_ids = torch.tensor([item[0] for item in items])
    return {"instances": found}


def border(picture: np.ndarray, x: int) -> list[int]:
    """The colour of the left border of what starts in column x."""
    return picture[-20, x].tolist()


def test_colours_stay_with_ids() -> None:
    first = draw_frame(tracks((1, 0, 0.9), (2, 100, 0.9)))
    second = draw_frame(tracks((2, 200, 0.9), (5, 0, 0.9), (1, 100, 0.9)))
    assert border(first, 0) == border(second, 100)
    assert border(first, 100) == border(second, 200)
    colours = {tuple(border(first, 0)), tuple(border(first, 100)), tuple(border(second, 0))}
    assert len(colours) == 3 and (0, 0, 0) not in colours


def test_low_scores_of_tracks_are_left_out() -> None:
    picture = draw_frame(tracks((1, 0, 0.4), (2, 100, 0.9)), threshold=0.5)
    assert border(picture, 0) == [0, 0, 0]
    assert border(picture, 100) != [0, 0, 0]


def test_segments_things_by_id_and_stuff_by_class() -> None:
    ids = torch.zeros(FRAME, dtype=torch.int32)
    ids[:, :100], ids[:, 100:200], ids[:, 200:] = 7, 3, 4
    infos = [
        {"id": 3, "isthing": True, "category_id": 0},
        {"id": 4, "isthing": True, "category_id": 0},
        {"id": 7, "isthing": False, "category_id": 2},
    ]
    picture = draw_frame({"panoptic_seg": (ids, infos)})
    assert picture[0, 50].tolist() == [9, 8, 7]
    assert picture[0, 150].tolist() != picture[0, 250].tolist()
    same = draw_frame(tracks((3, 100, 1.0)))
    assert border(same, 100) == picture[0, 150].tolist()


def test_semantic_labels_of_a_frame() -> None:
    labels = torch.full(FRAME, -1)
    labels[:, :100] = 2
    picture = draw_frame({"sem_seg": labels})
    assert picture[0, 50].tolist() == [9, 8, 7]
    assert picture[0, 200].tolist() == [0, 0, 0]


def test_names_of_tracks_have_ids(painted: list[Region]) -> None:
    draw_frame(tracks((7, 0, 0.914)))
    assert [region.name for region in painted] == ["7 dog 91%"]
