"""The shapes dataset: what is drawn, and whether its annotation files agree with it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util

from mask2former.data.categories import load_categories
from mask2former.data.synthetic import images, write_shapes
from mask2former.data.synthetic.scene import Scene, random_backdrop, random_scene, render
from mask2former.data.synthetic.textures import TEXTURES
from mask2former.data.synthetic.things import OUTLINES, Pose, footprint, random_thing

TINY = {"train": 3, "val": 2, "size": 32}


def _tree(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _thing(kind: str, radius: float = 10.0):
    thing = random_thing(np.random.default_rng(0), unit=1.0)
    return replace(thing, kind=kind, radius=radius, aspect=1.0)


# Drawing: values worked out by hand


@pytest.mark.parametrize(
    ("kind", "area"),
    [
        ("disc", np.pi * 9.5**2),
        ("square", 2 * 12.0**2),  # corners at 1.2 radii
        ("triangle", 3 * np.sqrt(3) / 4 * 12.5**2),
        ("star", 10 * 0.5 * 11.5 * 5.2 * np.sin(np.pi / 5)),
        ("ring", np.pi * (10.0**2 - 5.5**2)),
        ("cross", 2 * 20.0 * 6.8 - 6.8**2),
    ],
)
def test_area_is_that_of_the_outline(kind, area):
    where = footprint(_thing(kind), Pose(32.3, 31.8, 0.4), 64, 64)
    assert where.cover.sum() == pytest.approx(area, rel=0.02)
    assert where.mask.sum() == where.area
    assert where.area == pytest.approx(area, rel=0.03)


def test_square_fills_the_pixels_it_covers():
    """Corners at 1.2 radii: turned by 45 degrees, a radius of 5 / 1.2 * sqrt(2) gives side 10."""
    square = _thing("square", radius=5 * np.sqrt(2) / 1.2)
    where = footprint(square, Pose(20.0, 16.0, np.pi / 4), 40, 40)
    mask = np.zeros((40, 40), bool)
    mask[where.rows, where.cols] = where.mask
    rows, cols = np.nonzero(mask)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (11, 20, 15, 24)
    assert mask.sum() == 100


def test_ring_has_a_hole_and_disc_has_none():
    for kind, filled in (("ring", False), ("disc", True)):
        where = footprint(_thing(kind), Pose(20.5, 20.5, 0.0), 41, 41)
        assert where.mask[20 - where.rows.start, 20 - where.cols.start] == filled


@pytest.mark.parametrize("pose", [Pose(-40, 20, 0), Pose(20, -40, 0), Pose(90, 90, 0)])
def test_a_thing_outside_of_the_image_has_an_empty_footprint(pose):
    assert footprint(_thing("disc"), pose, 48, 48).cover.size == 0


def test_the_border_cuts_a_thing():
    where = footprint(_thing("disc"), Pose(0.0, 24.0, 0.0), 48, 48)
    assert where.mask.sum() == pytest.approx(where.area / 2, rel=0.05)


def test_later_things_hide_earlier_ones():
    rng = np.random.default_rng(0)
    scene = Scene(
        backdrop=random_backdrop(rng, 48, 48, 48 / 128),
        things=(_thing("disc", 12), _thing("disc", 6)),
        poses=(Pose(24, 24, 0), Pose(24, 24, 0)),
        light=np.float32([0, -1]),
        grain=0.0,
    )
    _, owner = render(scene, rng)
    assert owner[24, 24] == 2
    assert owner[24, 24 - 9] == 1
    assert owner[0, 0] == 0


# Scenes: invariants


@pytest.mark.parametrize("texture", TEXTURES.values(), ids=TEXTURES)
def test_textures_stay_near_the_range_and_vary(texture):
    image = texture(np.random.default_rng(1), 40, 56, 0.5)
    assert image.shape == (40, 56, 3) and image.dtype == np.float32
    assert np.isfinite(image).all() and image.min() > -0.6 and image.max() < 1.6
    assert image.std() > 0.01


def test_some_scenes_are_empty_and_all_things_can_be_recognised():
    """10 expected of 200; three standard deviations are 9."""
    empty = 0
    for index in range(200):
        rng = np.random.default_rng([3, index])
        scene = random_scene(rng, 32)
        empty += not scene.things
        if index < 40:
            _, owner = render(scene, rng)
            for number, (thing, pose) in enumerate(zip(scene.things, scene.poses), start=1):
                visible = (owner == number).sum()
                assert visible >= 0.25 * footprint(thing, pose, 32, 32).area
                assert visible > 0
    assert 1 <= empty <= 19


def test_every_class_is_in_the_table_and_is_drawn():
    categories = load_categories("shapes")
    assert [c["name"] for c in categories if c["isthing"]] == list(OUTLINES)
    assert [c["name"] for c in categories if not c["isthing"]] == list(TEXTURES)


# Files


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


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(images, "write_annotations", stop)
    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path, workers=1, **TINY)
    assert list(tmp_path.iterdir()) == []


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
