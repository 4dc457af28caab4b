"""What registrations share: names that are not registered, and folders of label maps."""

import pytest
from detectron2.data import DatasetCatalog

from mask2former.data.datasets.common import require_registered
from mask2former.data.datasets.semantic import register_semantic


def test_an_unknown_name_is_refused_with_near_ones(empty_catalogs) -> None:
    DatasetCatalog.register("fruit_train", lambda: [])
    require_registered("fruit_train")
    message = r"there is no dataset named 'fruit_trian'; near names: fruit_train"
    with pytest.raises(ValueError, match=message):
        require_registered("fruit_trian")
    with pytest.raises(ValueError, match="near names: none"):
        require_registered("zzzz")


def test_label_maps_are_matched_by_name_and_not_by_order(empty_catalogs, tmp_path) -> None:
    for name in ("images/1.jpg", "images/2.jpg", "labels/2.png", "labels/3.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    images, labels = str(tmp_path / "images"), str(tmp_path / "labels")
    register_semantic("maps", image_root=images, sem_seg_root=labels, hint="")
    expected = {"file_name": f"{images}/2.jpg", "sem_seg_file_name": f"{labels}/2.png"}
    assert DatasetCatalog.get("maps") == [expected]
