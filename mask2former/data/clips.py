"""The mapper of clips: samples frames of a video, or makes a clip of a photo.

All frames of a clip are augmented alike, since each starts from the same state of the random number
generators; so this holds for every augmentation, whatever it draws.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation
from detectron2.structures import BitMasks, Instances

from ..config.arguments import configurable, unless_default
from ..errors import UserError
from ..formats.images import read_annotated, read_image
from ..formats.segmentations import describe
from ..overrides import alias_of
from .agreement.num_classes import check_classes
from .augmentation import Drift, clip_from_config
from .geometry import FrameFiles, Geometry, draw, to_planes
from .published_mappers import annotations_by_object
from .targets import ignore_map, instance_targets, padding_mask

Augmentations = Sequence[T.Augmentation | T.Transform]
Size = tuple[int, int]  # H, W in pixels
Annotation = Mapping[str, Any]  # of an object, in a video over all frames

ABSENT = -1  # as an id

DRIFT = Drift()  # by default


class ClipMapper:
    """Map a record of a video, or of an image with instances, to a clip.

    A video's record is that of ``datasets.ytvis.VideoLoader``. For training, T of its frames are
    drawn: a reference frame, uniformly, and the others, with replacement, from those not farther
    than the range; where there are no others, the reference frame is repeated. Of an image, T views
    are made that differ by a drift of the camera.

    The result is the record without its annotations, and

    - "image": T tensors (C, H, W) uint8 in [0, 255]; for inference ``FrameFiles`` that gives them;
    - "file_names": T paths; "length": frames of the video; "height", "width": of its files;
    - "instances" in training: T ``Instances`` with a row for each object that is annotated, and no
      crowd, in one of the frames: ``gt_ids`` (N,) int64, -1 where it is not visible;
      ``gt_classes`` (N,) int64, K where it is not annotated; ``gt_masks`` BitMasks; ``gt_boxes``;
    - "ignore" in training, if wanted: T (H, W) bool, True in crowds and outside of the image.

    Args:
        is_train: whether to draw frames and make targets.
        augmentations: of detectron2; drawn once for a clip.
        image_format: channels, "RGB" or "BGR".
        sampling_frame_num: T.
        sampling_frame_range: the largest distance of a frame from the reference frame.
        sampling_frame_shuffle: put frames in random order and not in that of time.
        num_classes: K.
        drift: the motion in clips of images.
        ignore_void: whether to give "ignore".
        exif_rotation: see `read_photo`.

    Raises:
        FileNotFoundError: on a call, a file is missing.
        UserError: on a call, a file or annotation cannot be used; names it.
    """

    @configurable
    def __init__(
        self,
        is_train: bool = True,
        *,
        augmentations: Augmentations,
        image_format: str,
        sampling_frame_num: int = 2,
        sampling_frame_range: int = 5,
        sampling_frame_shuffle: bool = False,
        num_classes: int = 40,
        drift: Drift = DRIFT,
        ignore_void: bool = False,
        exif_rotation: bool = True,
    ) -> None:
        if sampling_frame_num < 1 or sampling_frame_range < 0:
            raise UserError(
                "INPUT: expected SAMPLING_FRAME_NUM >= 1 and SAMPLING_FRAME_RANGE >= 0, got "
                f"{sampling_frame_num} and {sampling_frame_range}"
            )
        self.is_train = is_train
        self.augmentations = list(augmentations)
        self.image_format = image_format
        self.num_frames = sampling_frame_num
        self.frame_range = sampling_frame_range
        self.shuffle = sampling_frame_shuffle
        self.num_classes = num_classes
        self.drift = drift
        self.ignore_void = ignore_void
        self.exif_rotation = exif_rotation

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        settings = {
            "is_train": is_train,
            "image_format": cfg.INPUT.FORMAT,
            "sampling_frame_num": cfg.INPUT.SAMPLING_FRAME_NUM,
            "sampling_frame_range": cfg.INPUT.SAMPLING_FRAME_RANGE,
            "sampling_frame_shuffle": cfg.INPUT.SAMPLING_FRAME_SHUFFLE,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            **unless_default(
                cls,
                ignore_void=cfg.MODEL.MASK_FORMER.IGNORE_VOID,
                exif_rotation=cfg.INPUT.EXIF_ROTATION,
            ),
        }
        if not is_train:
            return settings | {"augmentations": build_augmentation(cfg, is_train=False)}
        pseudo = cfg.INPUT.PSEUDO_CLIP
        return settings | {
            "augmentations": clip_from_config(cfg),
            **unless_default(cls, drift=Drift(pseudo.ROTATION, pseudo.SCALE, pseudo.SHIFT)),
        }

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Map one record, which stays as it is; see the class."""
        result = dict(record)
        annotations = result.pop("annotations", None) or []
        if annotations and not isinstance(annotations[0], Mapping):
            annotations = annotations_by_object(annotations)
        is_video = "file_names" in record
        paths = record["file_names"] if is_video else [record["file_name"]]
        result["length"] = len(paths)
        if not self.is_train:
            return result | {"file_names": paths} | self._lazy_frames(record, paths)
        try:
            if is_video:
                return result | self._video_clip(record, annotations)
            return result | self._image_clip(record, annotations)
        except UserError as error:
            name = f"video {record['video_id']}" if is_video else record["file_name"]
            raise UserError(f"{name}: {error}") from error

    def _lazy_frames(self, record: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
        size = (record.get("height"), record.get("width"))
        if "height" not in record:
            size = read_image(paths[0], exif_rotation=self.exif_rotation).shape[:2]
        geometry = draw(self.augmentations, np.broadcast_to(np.uint8(0), (*size, 3)))
        frames = FrameFiles(paths, geometry, self.image_format, self.exif_rotation)
        return {"image": frames, "height": size[0], "width": size[1]}

    def _video_clip(
        self, record: Mapping[str, Any], annotations: Sequence[Annotation]
    ) -> dict[str, Any]:
        paths = record["file_names"]
        chosen = self._sample_frames(len(paths))
        crowds, objects = _split_crowd(annotations)
        tracks = [
            track
            for track in objects
            if any(_is_annotated(track["segmentations"][i]) for i in chosen)
        ]
        self._check_classes(tracks)
        states = random.getstate(), np.random.get_state()  # noqa: NPY002 (as detectron2)
        frames = {}
        for i in sorted(set(chosen)):  # a repeated frame is made once
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            image = self._read(record, paths[i])
            geometry = draw(self.augmentations, image)
            masks, crowd = (
                [track["segmentations"][i] for track in group] for group in (tracks, crowds)
            )
            image = geometry.apply_image(image)
            frames[i] = self._finish_frame(image, geometry, tracks, masks, crowd)
        height, width = geometry.size
        return _join([frames[i] for i in chosen]) | {
            "file_names": [paths[i] for i in chosen],
            "height": height,
            "width": width,
        }

    def _sample_frames(self, length: int) -> list[int]:
        """Draw the T frames of a clip, as published but for videos of one frame, which failed."""
        reference = random.randrange(length)
        low, high = max(0, reference - self.frame_range), reference + self.frame_range + 1
        others = [i for i in range(low, min(high, length)) if i != reference] or [reference]
        drawn = np.random.choice(others, self.num_frames - 1)  # noqa: NPY002 (as detectron2)
        chosen = sorted([reference, *drawn.tolist()])
        if self.shuffle:
            random.shuffle(chosen)
        return chosen

    def _image_clip(
        self, record: Mapping[str, Any], annotations: Sequence[Annotation]
    ) -> dict[str, Any]:
        path = record["file_name"]
        image = self._read(record, path)
        crowds, objects = _split_crowd(annotations)
        self._check_classes(objects)
        masks, crowd = ([a.get("segmentation") for a in group] for group in (objects, crowds))
        base = draw(self.augmentations, image)
        whole = base.apply_image(image)
        frames = []
        for pose in self.drift.draw(self.num_frames, whole.shape[:2]):
            geometry = Geometry([*base.transforms, pose], base.size)
            image = pose.apply_image(whole)
            frames.append(self._finish_frame(image, geometry, objects, masks, crowd))
        height, width = base.size
        return _join(frames) | {
            "file_names": [path] * self.num_frames,
            "height": height,
            "width": width,
            "length": self.num_frames,
            "video_id": record.get("image_id", path),
        }

    def _finish_frame(
        self,
        image: np.ndarray,
        geometry: Geometry,
        tracks: Sequence[Annotation],
        masks: Sequence[Any],
        crowd: Sequence[Any],
    ) -> dict[str, Any]:
        """Return the keys of the clip for one frame: its tensor and its targets."""
        size = (image.shape[0], image.shape[1])
        annotated = [  # with the row instead of the class
            {"id": track.get("id", row), "category_id": row, "segmentation": mask}
            for row, (track, mask) in enumerate(zip(tracks, masks))
            if _is_annotated(mask)
        ]
        targets = instance_targets(annotated, geometry, size, size)
        bitmaps = np.zeros((len(tracks), *size), bool)
        bitmaps[targets.classes] = targets.masks
        ids = np.full(len(tracks), ABSENT)
        classes = np.full(len(tracks), self.num_classes)
        for annotation in annotated:
            row = annotation["category_id"]
            classes[row] = tracks[row]["category_id"]
            if bitmaps[row].any():
                ids[row] = annotation["id"] if isinstance(annotation["id"], int) else row
        instances = Instances(size)
        instances.gt_ids = torch.from_numpy(ids)
        instances.gt_classes = torch.from_numpy(classes)
        instances.gt_masks = BitMasks(torch.from_numpy(bitmaps))
        instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        frame = {"image": to_planes(image, size, 0), "instances": instances}
        if self.ignore_void:
            regions = [{"category_id": 0, "segmentation": m} for m in crowd if _is_annotated(m)]
            void = instance_targets(regions, geometry, size, size).masks
            outside = padding_mask(geometry, size, size)
            frame["ignore"] = torch.from_numpy(ignore_map(targets.masks, void, outside))
        return frame

    def _read(self, record: Mapping[str, Any], path: str) -> np.ndarray:
        return read_annotated(record, path, self.image_format, exif_rotation=self.exif_rotation)

    def _check_classes(self, tracks: Sequence[Annotation]) -> None:
        classes = [track["category_id"] for track in tracks]
        check_classes(classes, self.num_classes, lambda i: describe(tracks[i], i))


class YTVISDatasetMapper(ClipMapper):
    """The published mapper of videos. ``use_instance_mask`` is for old calls; it is True."""

    sampling_frame_num = alias_of("num_frames")
    sampling_frame_range = alias_of("frame_range")
    sampling_frame_shuffle = alias_of("shuffle")

    @configurable
    def __init__(
        self, is_train: bool = True, *, use_instance_mask: bool = True, **settings: Any
    ) -> None:
        ClipMapper.__init__(self, is_train, **settings)
        self.use_instance_mask = use_instance_mask


class CocoClipDatasetMapper(YTVISDatasetMapper):
    """The published mapper of images to clips, which augmented each view on its own."""


def _join(frames: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Turn a dict for each frame into one of lists."""
    return {key: [frame[key] for frame in frames] for key in frames[0]}


def _split_crowd(annotations: Sequence[Annotation]) -> tuple[list[Annotation], list[Annotation]]:
    """Return those of crowds, and the others."""
    crowds = [a for a in annotations if a.get("iscrowd", 0)]
    return crowds, [a for a in annotations if not a.get("iscrowd", 0)]


def _is_annotated(mask: Any) -> bool:
    """Return whether an object is annotated: neither None nor a list without polygons."""
    return mask is not None and len(mask) > 0
