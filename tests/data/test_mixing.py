"""Videos and images in one training set: their share, and their classes."""

import itertools

import pytest
from detectron2.data import MetadataCatalog

from mask2former.data.mixing import mix_clips, take_over_classes


def _videos(count: int) -> list[dict]:
    return [{"file_names": ["a"], "annotations": []} for _ in range(count)]


def _images(count: int) -> list[dict]:
    return [{"file_name": "a", "annotations": []} for _ in range(count)]


@pytest.mark.parametrize(("videos", "images", "ratio"), [(5, 50, 0.5), (50, 5, 0.2), (7, 7, 0.9)])
def test_images_have_the_share_that_was_asked_for(videos: int, images: int, ratio: float) -> None:
    records, sampler = mix_clips(_videos(videos) + _images(images), ratio)
    assert len(records) == videos + images
    drawn = list(itertools.islice(sampler, 6000))
    assert sum(i >= videos for i in drawn) / 6000 == pytest.approx(ratio, abs=0.03)
    assert set(drawn) == set(range(videos + images))


@pytest.mark.parametrize("ratio", [-1, 0.5])
def test_one_kind_alone_is_drawn_as_usual(ratio: float) -> None:
    for records in (_videos(3), _images(3)):
        assert mix_clips(records, ratio) == (records, None)


def test_minus_1_takes_both_as_they_are() -> None:
    records = _videos(2) + _images(3)
    assert mix_clips(records, -1) == (records, None)


def test_0_and_1_leave_one_kind_out() -> None:
    records = _videos(2) + _images(3)
    assert mix_clips(records, 0) == (_videos(2), None)
    assert mix_clips(records, 1) == (_images(3), None)


def test_another_ratio_is_refused() -> None:
    with pytest.raises(ValueError, match=r"RATIO: expected 0 to 1, or -1, got 1\.5"):
        mix_clips(_videos(1), 1.5)


def test_classes_are_matched_by_name_and_others_left_out(empty_catalogs) -> None:
    MetadataCatalog.get("clips").thing_classes = ["dog", "car"]
    MetadataCatalog.get("photos").thing_classes = ["car", "cup", "dog"]
    clips = [{"file_names": ["a"], "annotations": [{"category_id": 1}]}]
    photos = [
        {"file_name": "b", "annotations": [{"category_id": i} for i in (0, 1, 2)]},
        {"file_name": "c", "annotations": [{"category_id": 1}]},
    ]
    joined = take_over_classes(["clips", "photos"], [clips, photos])
    expected = {"file_name": "b", "annotations": [{"category_id": 1}, {"category_id": 0}]}
    assert joined == [*clips, expected]
    assert photos[0]["annotations"][0] == {"category_id": 0}  # untouched


def test_equal_classes_join_records_as_they_are(empty_catalogs) -> None:
    for name in ("clips", "photos"):
        MetadataCatalog.get(name).thing_classes = ["dog"]
    assert take_over_classes(["clips", "photos"], [_videos(1), _images(2)]) == (
        _videos(1) + _images(2)
    )


def test_datasets_without_a_common_class_are_refused(empty_catalogs) -> None:
    MetadataCatalog.get("clips").thing_classes = ["dog"]
    MetadataCatalog.get("photos").thing_classes = ["cup"]
    with pytest.raises(ValueError, match="photos has no class of clips, whose classes are dog"):
        take_over_classes(["clips", "photos"], [_videos(1), _images(1)])
