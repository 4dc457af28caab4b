"""Ids over frames of image models: panoptic maps and instances drawn by hand."""

import torch
from detectron2.structures import Instances

from mask2former.modeling.tracking.frame_tracker import FrameTracker

SIZE = (20, 40)
SKY, DOG, CAT = 0, 1, 2


def panoptic(*segments: tuple[int, int, int]) -> dict:
    """Of (id, class, first column of 8); columns without a segment are void."""
    ids = torch.zeros(SIZE, dtype=torch.int32)
    infos = []
    for number, label, x in segments:
        ids[:, x : x + 8] = number
        infos.append({"id": number, "isthing": label != SKY, "category_id": label})
    return {"panoptic_seg": (ids, infos)}


def instances(*items: tuple[int, int, float]) -> dict:
    """Of (class, first column of 8, score)."""
    found = Instances(SIZE)
    found.pred_masks = torch.zeros(len(items), *SIZE, dtype=torch.bool)
    for i, (_, x, _) in enumerate(items):
        found.pred_masks[i, :, x : x + 8] = True
    found.pred_classes = torch.tensor([item[0] for item in items], dtype=torch.int64)
    found.scores = torch.tensor([item[2] for item in items])
    return {"instances": found}


def columns(result: dict) -> dict[int, int]:
    """Id of each tenth of the map."""
    ids, infos = result["panoptic_seg"]
    assert sorted({*ids.unique().tolist()} - {0}) == sorted(info["id"] for info in infos)
    assert ids.dtype == torch.int32
    return {x: int(ids[0, x]) for x in (2, 12, 22, 32)}


def test_segments_keep_their_ids_whatever_the_model_calls_them():
    tracker = FrameTracker(3)
    first = columns(tracker.update(panoptic((1, SKY, 0), (2, DOG, 10), (3, CAT, 20))))
    second = columns(tracker.update(panoptic((1, CAT, 21), (2, DOG, 9), (5, SKY, 0))))
    assert first[12] == second[12]
    assert first[22] == second[22]
    assert first[2] == second[2]
    assert len({first[2], first[12], first[22]}) == 3
    assert first[32] == second[32] == 0


def test_stuff_keeps_its_id_although_it_was_away():
    tracker = FrameTracker(3)
    first = columns(tracker.update(panoptic((1, SKY, 0))))
    for _ in range(30):
        tracker.update(panoptic((1, DOG, 10)))
    assert columns(tracker.update(panoptic((7, SKY, 30))))[32] == first[2]


def test_a_thing_may_be_missed_for_ten_frames():
    for missed, known in ((9, True), (10, False)):
        tracker = FrameTracker(3)
        first = columns(tracker.update(panoptic((1, DOG, 10))))
        for _ in range(missed):
            tracker.update(panoptic())
        assert (columns(tracker.update(panoptic((1, DOG, 12))))[12] == first[12]) == known


def test_instances_of_a_low_score_are_left_out_and_take_no_id():
    tracker = FrameTracker(3, score_threshold=0.5)
    first = tracker.update(instances((DOG, 0, 0.4), (CAT, 20, 0.9)))["instances"]
    assert first.track_ids.tolist() == [1]
    second = tracker.update(instances((CAT, 22, 0.9), (DOG, 0, 0.6)))["instances"]
    assert second.track_ids.tolist() == [1, 2]
    assert second.track_ids.dtype == torch.int64


def test_a_class_that_changes_is_the_same_object():
    tracker = FrameTracker(3)
    first = tracker.update(instances((DOG, 0, 0.9)))["instances"]
    second = tracker.update(instances((CAT, 0, 0.9)))["instances"]
    assert first.track_ids.tolist() == second.track_ids.tolist()


def test_of_two_on_one_mask_the_class_decides():
    tracker = FrameTracker(3)
    first = tracker.update(instances((DOG, 5, 0.9), (CAT, 5, 0.9)))["instances"]
    second = tracker.update(instances((CAT, 5, 0.9), (DOG, 5, 0.9)))["instances"]
    assert second.track_ids.tolist() == first.track_ids.tolist()[::-1]


def test_large_masks_are_compared_by_some_of_their_pixels_and_stay_whole():
    tracker = FrameTracker(3)
    ids = torch.zeros(700, 900, dtype=torch.int32)
    ids[100:400, 100:400] = 1
    infos = [{"id": 1, "isthing": True, "category_id": DOG}]
    for shift in (0, 20):
        moved = torch.roll(ids, shift, 1)
        result, (info,) = tracker.update({"panoptic_seg": (moved, infos)})["panoptic_seg"]
        assert info["id"] == 1
        assert torch.equal(result, moved)


def test_what_is_not_tracked_stays():
    scores = torch.rand(3, *SIZE)
    given = {"sem_seg": scores, **panoptic((4, DOG, 0))}
    result = FrameTracker(3).update(given)
    assert result["sem_seg"] is scores
    assert given["panoptic_seg"][1][0]["id"] == 4  # the input is as it was
    assert int(given["panoptic_seg"][0][0, 0]) == 4
