"""The published mapper classes: built from a config and from their published arguments."""

import numpy as np
import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import transforms as T
from detectron2.projects.deeplab import add_deeplab_config
from PIL import Image

import mask2former
from mask2former import add_maskformer2_config
from mask2former.data.loaders import build_mapper
from mask2former.data.mappers import MAPPERS, DatasetMapper
from mask2former.data.published_mappers import annotations_by_object

CLASSES = {
    "mask_former_semantic": mask2former.MaskFormerSemanticDatasetMapper,
    "mask_former_panoptic": mask2former.MaskFormerPanopticDatasetMapper,
    "mask_former_instance": mask2former.MaskFormerInstanceDatasetMapper,
    "coco_panoptic_lsj": mask2former.COCOPanopticNewBaselineDatasetMapper,
    "coco_instance_lsj": mask2former.COCOInstanceNewBaselineDatasetMapper,
}


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_maskformer2_config(cfg)
    return cfg


def _state(mapper: DatasetMapper) -> dict:
    return vars(mapper) | {"augmentations": str(mapper.augmentations)}


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("name", MAPPERS)
def test_a_class_does_what_its_name_in_the_config_does(cfg, name: str, is_train: bool) -> None:
    cfg.INPUT.SIZE_DIVISIBILITY, cfg.MODEL.MASK_FORMER.IGNORE_VOID = 320, True
    cfg.INPUT.DATASET_MAPPER_NAME = name
    expected = build_mapper(cfg, is_train)
    cfg.INPUT.DATASET_MAPPER_NAME = "mask_former_semantic"  # which a class does not respect
    mapper = CLASSES[name](cfg, is_train)
    assert isinstance(mapper, DatasetMapper)
    assert _state(mapper) == _state(expected)


@pytest.mark.parametrize("name", ["mask_former_semantic", "mask_former_panoptic"])
def test_published_arguments_with_labels(name: str) -> None:
    flip = T.RandomFlip()
    mapper = CLASSES[name](
        False, augmentations=[flip], image_format="BGR", ignore_label=65, size_divisibility=512
    )
    assert (mapper.target, mapper.augmentations) == (MAPPERS[name][0], [flip])
    assert (mapper.is_train, mapper.image_format) == (False, "BGR")
    assert (mapper.ignore_label, mapper.pad_to) == (65, (512, 512))


def test_published_arguments_of_the_instance_mapper() -> None:
    mapper = CLASSES["mask_former_instance"](augmentations=[], image_format="RGB")
    assert (mapper.target, mapper.pad_to, mapper.drop) == ("instance", None, "none")
    with pytest.raises(TypeError, match="size_divisor"):
        CLASSES["mask_former_instance"](augmentations=[], image_format="RGB", size_divisor=32)


@pytest.mark.parametrize("name", ["coco_panoptic_lsj", "coco_instance_lsj"])
def test_published_arguments_of_the_lsj_mappers(name: str) -> None:
    chain = [T.ResizeScale(0.1, 2.0, 64, 64), T.FixedSizeCrop((64, 64))]
    mapper = CLASSES[name](True, tfm_gens=chain, image_format="RGB")
    assert (mapper.target, mapper.augmentations) == (MAPPERS[name][0], chain)
    assert set(mapper.extras) == set(MAPPERS[name][2])


@pytest.mark.parametrize("name", CLASSES)
def test_published_attributes_may_be_read_and_set(cfg, name: str) -> None:
    mapper = CLASSES[name](cfg, True)
    assert (mapper.tfm_gens, mapper.img_format) == (mapper.augmentations, mapper.image_format)
    assert mapper.size_divisibility == (mapper.pad_to[0] if mapper.pad_to else -1)
    flip = T.RandomFlip()
    mapper.tfm_gens, mapper.img_format, mapper.size_divisibility = [flip], "BGR", 64
    assert (mapper.augmentations, mapper.image_format, mapper.pad_to) == ([flip], "BGR", (64, 64))
    mapper.size_divisibility = -1
    assert mapper.pad_to is None


def test_published_attributes_of_the_mapper_of_videos() -> None:
    mapper = mask2former.YTVISDatasetMapper(
        augmentations=[], image_format="RGB", sampling_frame_num=3, sampling_frame_range=7
    )
    names = ("sampling_frame_num", "sampling_frame_range", "sampling_frame_shuffle")
    assert [getattr(mapper, name) for name in names] == [3, 7, False]
    mapper.sampling_frame_num, mapper.sampling_frame_shuffle = 5, True
    assert (mapper.num_frames, mapper.shuffle) == (5, True)


def test_annotations_of_published_loaders_of_videos() -> None:
    """A list for each frame, of the objects that are in it."""

    def seen(number: int, counts: str, **more: int) -> dict:
        return {"id": number, "category_id": number - 1, "segmentation": counts, **more}

    frames = [[], [seen(1, "a"), seen(2, "b", iscrowd=1)], [seen(2, "c", iscrowd=1)]]
    assert annotations_by_object(frames) == [
        {"id": 1, "category_id": 0, "iscrowd": 0, "segmentations": [None, "a", None]},
        {"id": 2, "category_id": 1, "iscrowd": 1, "segmentations": [None, "b", "c"]},
    ]


def test_the_mapper_of_videos_takes_them(cfg, tmp_path) -> None:
    file = str(tmp_path / "frame.png")
    Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(file)
    segmentation = {"segmentation": [[0, 0, 8, 0, 8, 8, 0, 8]], "iscrowd": 0}
    frame = [{"id": 4, "category_id": 2, **segmentation}]
    record = {"file_names": [file] * 2, "length": 2, "video_id": 1, "height": 32, "width": 48}
    mapper = mask2former.YTVISDatasetMapper(augmentations=[], image_format="RGB")
    result = mapper(record | {"annotations": [frame, frame]})
    for instances in result["instances"]:
        assert instances.gt_classes.tolist() == [2] and instances.gt_masks.tensor.sum() == 64
