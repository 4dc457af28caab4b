"""Names of ours beside other projects that know the same datasets, whoever comes first."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from mask2former.config import get_config
from mask2former.data import datasets, register
from mask2former.data.agreement.class_order import match_classes
from mask2former.data.datasets import catalog
from mask2former.data.datasets.common import require_registered

ROOT = Path(__file__).resolve().parents[3]
VIDEO = "ytvis_2019_train"
IMAGES = ("ade20k_full_sem_seg_val", "coco_2017_val_panoptic_with_sem_seg", "ade20k_instance_train")


@pytest.fixture
def ours(empty_catalogs: None) -> None:
    """The catalogs as importing the package leaves them."""
    datasets._register_images("datasets")
    datasets.register_ytvis("datasets", lazily=True)


def theirs() -> list:
    return ["theirs"]


def register_theirs(name: str) -> None:
    """What other projects do when they are imported."""
    DatasetCatalog.register(name, theirs)
    MetadataCatalog.get(name).set(thing_classes=["mine"], evaluator_type="mine", json_file="a.json")


def assert_theirs(name: str) -> None:
    assert DatasetCatalog.get(name) == ["theirs"]
    assert MetadataCatalog.get(name).as_dict() == {
        "name": name,
        "thing_classes": ["mine"],
        "evaluator_type": "mine",
        "json_file": "a.json",
    }
    with pytest.raises(AssertionError, match="already registered"):
        DatasetCatalog.register(name, list)
    with pytest.raises(AssertionError, match="cannot be set"):
        MetadataCatalog.get(name).thing_classes = ["other"]


# When names are ours


def test_videos_wait_until_they_are_asked_for(ours):
    assert {name for name in DatasetCatalog if name.startswith(("ytvis", "ovis"))} == set()
    assert "ade20k_panoptic_val" in DatasetCatalog and VIDEO in catalog.names()
    require_registered(VIDEO)
    assert VIDEO in DatasetCatalog and "ovis_train" not in DatasetCatalog
    datasets.register_video_datasets()
    assert "ovis_train" in DatasetCatalog and "ytvis_2021_test" in DatasetCatalog


def test_detectron2s_own_lookups_find_them(ours):
    assert len(MetadataCatalog.get("ytvis_2021_val").thing_classes) == 40
    assert "ytvis_2021_val" not in DatasetCatalog  # still free
    with pytest.raises(FileNotFoundError, match=r"ytvis_2021/valid\.json is missing"):
        DatasetCatalog.get("ytvis_2021_val")
    assert "ytvis_2021_val" in DatasetCatalog
    with pytest.raises(KeyError, match="ytvis_2018_val"):
        DatasetCatalog.get("ytvis_2018_val")


def test_unknown_names_have_near_ones_among_those_that_wait(ours):
    with pytest.raises(ValueError, match="near names: .*ytvis_2019_val"):
        require_registered("ytvis_2018_val")


# Who else has them


@pytest.mark.parametrize("name", [VIDEO, *IMAGES])
def test_theirs_comes_later(ours, name, caplog):
    catalog.take(name)
    before = MetadataCatalog.get(name)
    assert before.get("evaluator_type") and not caplog.records
    register_theirs(name)
    assert [r.getMessage() for r in caplog.records] == [
        f"{name} is registered by another project, in place of our dataset"
    ]
    datasets.register_all()
    assert_theirs(name)
    assert MetadataCatalog.get(name) is before  # models may hold it


@pytest.mark.parametrize("name", [VIDEO, *IMAGES])
def test_theirs_comes_first(empty_catalogs, name, caplog):
    register_theirs(name)
    datasets.register_all()
    require_registered(name)
    assert_theirs(name)
    assert not caplog.records


def test_theirs_comes_between(ours, caplog):
    """After the import, before the name is asked for."""
    register_theirs(VIDEO)
    datasets.register_video_datasets()
    assert_theirs(VIDEO)
    assert not caplog.records


@pytest.mark.parametrize("name", [VIDEO, *IMAGES])
def test_their_metadata_comes_before_they_register(ours, name):
    """With one value that happens to be ours."""
    kind = MetadataCatalog.get(name).evaluator_type
    MetadataCatalog.get(name).set(thing_classes=["mine"], evaluator_type=kind)
    MetadataCatalog.get(name).json_file = "a.json"
    DatasetCatalog.register(name, theirs)
    assert MetadataCatalog.get(name).as_dict() == {
        "name": name,
        "thing_classes": ["mine"],
        "evaluator_type": kind,
        "json_file": "a.json",
    }


def test_metadata_of_theirs_alone(ours):
    """They set what they know about a dataset that we load."""
    metadata = MetadataCatalog.get(VIDEO)
    metadata.thing_classes = ["mine"]
    metadata.thing_classes = ["mine"]
    assert metadata.evaluator_type == "ytvis" and type(copy.deepcopy(metadata)) is type(metadata)
    assert pickle.loads(pickle.dumps(metadata)) == metadata
    with pytest.raises(AssertionError, match="cannot be set"):
        metadata.thing_classes = ["third"]
    catalog.take(VIDEO)
    assert metadata.thing_classes == ["mine"]


def test_metadata_of_detectron2s_datasets(empty_catalogs):
    """The changes of the published project to it give way as well."""
    for split in ("train", "val"):
        DatasetCatalog.register(f"ade20k_sem_seg_{split}", theirs)
        MetadataCatalog.get(f"ade20k_sem_seg_{split}").set(stuff_classes=["wall"])
    MetadataCatalog.get("coco_2017_val_panoptic").thing_classes = ["mine"]
    datasets.register_all()
    assert MetadataCatalog.get("coco_2017_val_panoptic").thing_classes == ["mine"]
    metadata = MetadataCatalog.get("ade20k_sem_seg_val")
    assert len(metadata.stuff_colors) == 150 and metadata.stuff_classes == ["wall"]
    metadata.stuff_colors = [[0, 0, 0]]
    assert metadata.stuff_colors == [[0, 0, 0]]
    with pytest.raises(AssertionError, match="cannot be set"):
        metadata.stuff_classes = ["floor"]
    with pytest.raises(AssertionError, match="already registered"):
        DatasetCatalog.register("ade20k_sem_seg_val", list)


def test_the_published_way_to_change_metadata(ours):
    metadata = MetadataCatalog.get("coco_2017_train_panoptic")
    del metadata.thing_classes
    metadata.set(thing_classes=["mine"])
    assert metadata.thing_classes == ["mine"]


def test_names_that_are_set_without_registering(ours):
    DatasetCatalog[IMAGES[0]] = theirs
    assert MetadataCatalog.get(IMAGES[0]).as_dict() == {"name": IMAGES[0]}
    assert DatasetCatalog.get(IMAGES[0]) == ["theirs"]


def test_removed_names_can_be_registered_again(ours):
    DatasetCatalog.remove(IMAGES[0])
    MetadataCatalog.remove(IMAGES[0])
    register_theirs(IMAGES[0])
    assert_theirs(IMAGES[0])


def test_loading_theirs(ours, shapes_root):
    """detectron2's loader of instances sets the metadata to what it finds in the json."""
    name = "ade20k_instance_train"
    images = shapes_root / "shapes" / "images" / "train"
    json_file = shapes_root / "shapes" / "annotations" / "instances_train.json"
    register_coco_instances(name, {}, str(json_file), str(images))
    assert len(DatasetCatalog.get(name)) == 10
    assert len(MetadataCatalog.get(name).thing_classes) == 6
    assert type(MetadataCatalog.get(name)) is Metadata


def test_custom_datasets_take_names_and_keep_them(ours, shapes_root):
    shapes = shapes_root / "shapes"
    sem_seg = {"image_root": shapes / "images/train", "sem_seg_root": shapes / "sem_seg_train"}
    arguments = {key: str(path) for key, path in sem_seg.items()}
    register("ade20k_full_sem_seg_val", "sem_seg", classes=["a", "b"], **arguments)
    assert MetadataCatalog.get("ade20k_full_sem_seg_val").stuff_classes == ["a", "b"]
    with pytest.raises(AssertionError, match="already registered"):
        DatasetCatalog.register("ade20k_full_sem_seg_val", theirs)


def test_an_order_of_classes_stays_ours(ours):
    """What brings datasets to one order of classes gives way as well."""
    name, other = "ytvis_2019_val", "ytvis_2021_val"
    cfg = get_config()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "VideoMaskFormer", 40
    cfg.MODEL.CLASSES.NAMES = MetadataCatalog.get(name).thing_classes[::-1]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (name,), ()
    match_classes(cfg)
    assert MetadataCatalog.get(name).thing_classes == cfg.MODEL.CLASSES.NAMES
    cfg.MODEL.CLASSES.NAMES = cfg.MODEL.CLASSES.NAMES[::-1]
    match_classes(cfg)
    assert MetadataCatalog.get(name).thing_classes == cfg.MODEL.CLASSES.NAMES
    assert other not in DatasetCatalog
    register_theirs(name)
    assert_theirs(name)


# Two projects in one process

PLUGIN = """
def plugin():
    from detectron2.data import DatasetCatalog, MetadataCatalog
    for year in (2019, 2021):
        for split in ("train", "val", "test"):
            name = f"ytvis_{year}_{split}"
            DatasetCatalog.register(name, lambda: [])
            MetadataCatalog.get(name).set(thing_classes=["a", "b"], evaluator_type="plugin")
"""
OURS = """
import mask2former
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
assert not [name for name in DatasetCatalog if name.startswith(("ytvis", "ovis"))] or {plugin}
"""
CONFIG = """
cfg = get_cfg()
mask2former.add_maskformer2_config(cfg)
mask2former.add_maskformer2_video_config(cfg)
assert "ovis_train" in DatasetCatalog and "ytvis_2019_train" in DatasetCatalog
"""
CHECK = """
cfg.DATASETS.TRAIN = ("ytvis_2019_train",)
assert DatasetCatalog.get("ytvis_2019_train") == []
assert MetadataCatalog.get("ytvis_2019_train").thing_classes == ["a", "b"]
assert mask2former.VideoMaskFormer.common_args.__func__ and len(DatasetCatalog) > 30
"""


PLACES = ["before", "after import", "after config", "after import of video"]


@pytest.mark.parametrize(
    "place", [PLACES[0], *(pytest.param(p, marks=pytest.mark.slow) for p in PLACES[1:])]
)
def test_two_projects_in_one_process(place: str) -> None:
    video = "import mask2former_video\nassert 'ovis_val' in DatasetCatalog\n"
    parts = ["", OURS.format(plugin=place == "before"), CONFIG, video]
    parts[PLACES.index(place)] += "\nplugin()\n"
    script = "\n".join([PLUGIN, *parts, CHECK])
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, check=True)
