"""The files of the shapes dataset, images and clips, and whether their annotations agree."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools import mask as mask_util

from mask2former.data.categories import load_categories
from mask2former.data.datasets.ytvis import register_ytvis
from mask2former.data.synthetic import write_shapes, writer
from mask2former.data.synthetic.textures import TEXTURES
from mask2former.data.synthetic.things import OUTLINES

TINY = {"train": 3, "val": 2, "size": 32}
TINY_CLIPS = {"train": 2, "val": 1, "size": 32, "frames": 5}


def _tree(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_every_class_is_in_the_table_and_is_drawn():
    categories = load_categories("shapes")
    assert [c["name"] for c in categories if c["isthing"]] == list(OUTLINES)
    assert [c["name"] for c in categories if not c["isthing"]] == list(TEXTURES)


def _read(root: Path, kind: str, split: str = "train") -> dict:
    return json.loads((root / "shapes" / "annotations" / f"{kind}_{split}.json").read_text())


def test_the_three_forms_of_annotation_agree(shapes_root):
    panoptic, instances = _read(shapes_root, "panoptic"), _read(shapes_root, "instances")
    position = {c["id"]: index for index, c in enumerate(panoptic["categories"])}
    folder = shapes_root / "shapes"
    seen = 0
    for record in panoptic["annotations"]:
        pixels = np.asarray(Image.open(folder / "panoptic_train" / record["file_name"])).astype(int)
        ids = pixels @ (1, 256, 65536)
        semantic = np.asarray(Image.open(folder / "sem_seg_train" / record["file_name"]))
        things = [a for a in instances["annotations"] if a["image_id"] == record["image_id"]]
        assert set(np.unique(ids)) == {s["id"] for s in record["segments_info"]}
        for segment in record["segments_info"]:
            mask = ids == segment["id"]
            assert mask.sum() == segment["area"]
            assert (semantic[mask] == position[segment["category_id"]]).all()
            rows, cols = np.nonzero(mask)
            box = [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1]
            assert segment["bbox"] == [int(v) for v in box]
        masks = [mask_util.decode(thing["segmentation"]).astype(bool) for thing in things]
        for thing, mask in zip(things, masks):
            assert thing["iscrowd"] == 0
            assert (semantic[mask] == position[thing["category_id"]]).all()
            assert len(np.unique(ids[mask])) == 1 and mask.sum() == thing["area"]
        stuff = [s for s in record["segments_info"] if s["category_id"] > 6]
        assert len(record["segments_info"]) == len(things) + len(stuff)
        assert len({s["category_id"] for s in stuff}) == len(stuff)
        seen += len(things)
    assert seen > 10
    assert len({a["id"] for a in instances["annotations"]}) == len(instances["annotations"])


def test_images_have_the_sizes_and_names_of_the_json(shapes_root):
    for split, count in (("train", 10), ("val", 4)):
        records = _read(shapes_root, "instances", split)["images"]
        assert [record["id"] for record in records] == list(range(1, count + 1))
        for record in records:
            path = shapes_root / "shapes" / "images" / split / record["file_name"]
            with Image.open(path) as image:
                assert image.size == (record["width"], record["height"]) == (64, 64)
                assert image.mode == "RGB"


def test_same_seed_same_bytes_for_any_number_of_workers(tmp_path):
    for folder, seed, workers in (("a", 1, 1), ("b", 1, 2), ("c", 2, 1)):
        assert write_shapes(tmp_path / folder, seed=seed, workers=workers, **TINY)
    trees = [_tree(tmp_path / folder) for folder in "abc"]
    assert trees[0] == trees[1]
    # Two sets of annotations, and three files an image; none of them as with the other seed.
    same = {name for name in trees[0] if trees[0][name] == trees[2][name]}
    assert len(trees[0]) == 4 + 3 * 5 + 1
    assert same == set()


def test_training_and_validation_images_differ(tmp_path):
    write_shapes(tmp_path, workers=1, **TINY)
    images_root = tmp_path / "shapes" / "images"
    train, val = (images_root / split / "000001.jpg" for split in ("train", "val"))
    assert train.read_bytes() != val.read_bytes()


def test_a_second_call_does_nothing(tmp_path):
    assert write_shapes(tmp_path, workers=1, **TINY) is True
    marker = tmp_path / "shapes" / "images" / "train" / "000001.jpg"
    marker.write_bytes(b"changed")
    assert write_shapes(tmp_path, workers=2, **TINY) is False
    assert marker.read_bytes() == b"changed"
    assert write_shapes(tmp_path, workers=1, overwrite=True, **TINY) is True
    assert marker.read_bytes() != b"changed"


def test_another_dataset_is_replaced_only_when_asked(tmp_path):
    write_shapes(tmp_path, workers=1, seed=1, **TINY)
    before = _tree(tmp_path)
    with pytest.raises(FileExistsError, match=r"'seed': 1.*'seed': 2.*--overwrite"):
        write_shapes(tmp_path, workers=1, seed=2, **TINY)
    assert _tree(tmp_path) == before
    assert write_shapes(tmp_path, workers=1, seed=2, overwrite=True, **TINY)
    after = _tree(tmp_path)
    assert after.keys() == before.keys() and after != before


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "holiday.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="by something else"):
        write_shapes(tmp_path, workers=1, **TINY)


def test_an_interrupted_run_leaves_what_was_there(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    write_shapes(tmp_path / "full", workers=1, **TINY)
    before = _tree(tmp_path)
    monkeypatch.setattr(writer, "_annotate_images", stop)
    for folder in ("empty", "full"):
        with pytest.raises(KeyboardInterrupt):
            write_shapes(tmp_path / folder, workers=1, overwrite=True, **TINY)
    assert _tree(tmp_path) == before
    assert not list(tmp_path.glob("*/.*")) and not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed has to be 0 or more, not -1"),
        ({"train": 0}, "train has to be 1 or more, not 0"),
        ({"val": 0}, "val has to be 1 or more, not 0"),
        ({"size": 16}, "size has to be 32 to 2048, not 16"),
    ],
)
def test_arguments_out_of_range(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_shapes(tmp_path, **{**TINY, **change})


# Clips


@pytest.fixture(scope="module")
def clips_root(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("datasets")
    write_shapes(path, video=True, seed=2, train=6, val=2, size=48, frames=12, workers=1)
    return path


def _read_clips(root: Path, split: str = "train") -> dict:
    return json.loads((root / "shapes_video" / f"{split}.json").read_text())


def test_annotations_have_one_entry_a_frame(clips_root):
    content = _read_clips(clips_root)
    assert [v["length"] for v in content["videos"]] == [12] * 6
    assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"]) > 6
    shown = 0
    for annotation in content["annotations"]:
        rows = zip(annotation["segmentations"], annotation["bboxes"], annotation["areas"])
        for segmentation, box, area in list(rows):
            assert (segmentation is None) == (box is None) == (area is None)
            if segmentation is not None:
                mask = mask_util.decode(mask_util.frPyObjects(segmentation, 48, 48))
                assert mask.shape == (48, 48) and mask.sum() == area
                ys, xs = np.nonzero(mask)
                assert box == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
                shown += 1
        assert any(annotation["segmentations"])
    assert shown > 50


def test_masks_of_a_frame_do_not_overlap(clips_root):
    content = _read_clips(clips_root)
    for video in content["videos"]:
        objects = [a for a in content["annotations"] if a["video_id"] == video["id"]]
        for frame in range(12):
            masks = [o["segmentations"][frame] for o in objects]
            rles = mask_util.frPyObjects([m for m in masks if m], 48, 48) if any(masks) else []
            masks = [mask_util.decode(rle).astype(int) for rle in rles]
            assert not masks or sum(masks).max() == 1


def test_frames_are_where_the_json_says(clips_root):
    for split, count in (("train", 6), ("val", 2)):
        videos = _read_clips(clips_root, split)["videos"]
        assert len(videos) == count
        for name in videos[-1]["file_names"]:
            with Image.open(clips_root / "shapes_video" / split / "JPEGImages" / name) as image:
                assert image.size == (48, 48)


def test_registered(clips_root, empty_catalogs):
    register_ytvis(str(clips_root))
    records = DatasetCatalog.get("shapes_video_train")
    assert len(records) == 6 and all(Path(r["file_names"][11]).is_file() for r in records)
    classes = {a["category_id"] for r in records for a in r["annotations"]}
    assert classes <= set(range(6)) and len(classes) > 2
    assert MetadataCatalog.get("shapes_video_val").thing_classes[5] == "cross"


def test_missing_clips_name_the_command(tmp_path, empty_catalogs):
    register_ytvis(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"shapes_video.*prepare_shapes.py --video"):
        DatasetCatalog.get("shapes_video_val")


def test_clips_of_the_same_seed_have_the_same_bytes(tmp_path):
    for folder, workers in (("a", 1), ("b", 2)):
        assert write_shapes(tmp_path / folder, video=True, workers=workers, **TINY_CLIPS)
    files = [sorted(p for p in (tmp_path / f).rglob("*") if p.is_file()) for f in "ab"]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]
    assert len(files[0]) == 3 * 5 + 2 + 1
    assert write_shapes(tmp_path / "a", video=True, **TINY_CLIPS) is False


@pytest.mark.parametrize(
    ("change", "message"),
    [({"frames": 0}, "frames has to be 1 or more, not 0"), ({"size": 8}, "size has to be 32 to")],
)
def test_arguments_of_clips_out_of_range(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_shapes(tmp_path, video=True, **{**TINY_CLIPS, **change})


def test_images_have_no_frames(tmp_path):
    with pytest.raises(ValueError, match="frames are for clips only"):
        write_shapes(tmp_path, train=1, val=1, size=32, frames=5)
