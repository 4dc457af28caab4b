"""The config keys that this project adds to detectron2's, and reading of config files.

Every key is explained in docs/configuration.md. The defaults are those of the published code, also
where all published configs set another value.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, get_cfg

from .backbones import backbone_keys
from .custom import drop_inherited_num_classes
from .masks import mask_keys
from .merge import merge_keys, merge_opts
from .yaml_reader import read_chain

__all__ = [
    "add_maskformer2_config",
    "add_maskformer2_video_config",
    "get_config",
    "load_config",
    "merge_file",
]


def load_config(path: str | os.PathLike[str], opts: Sequence[Any] = ()) -> CfgNode:
    """Reads a config file without running anything that it may contain.

    Args:
        path: yaml file, which may build on others through ``_BASE_``.
        opts: ``KEY VALUE KEY VALUE ...``, set after the file.

    Returns:
        all keys, those of detectron2 and DeepLab included; not frozen.

    Raises:
        FileNotFoundError: the file or one of its bases is not there.
        ValueError: the file cannot be read, holds a tag that asks for code, a key that does not
            exist or a value of the wrong type; says where, and what was expected.
    """
    cfg = get_config()
    merge_file(cfg, path)
    merge_opts(cfg, opts)
    drop_inherited_num_classes(cfg, opts)
    return cfg


def get_config() -> CfgNode:
    """Returns the defaults of all keys: detectron2's, DeepLab's and those added here.

    Add keys of your own to the result before ``merge_file`` meets them.
    """
    # Imported here since it loads detectron2's modeling, which who only adds keys can do without.
    from detectron2.projects.deeplab import add_deeplab_config

    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_maskformer2_config(cfg)
    add_maskformer2_video_config(cfg)
    return cfg


def merge_file(cfg: CfgNode, path: str | os.PathLike[str]) -> None:
    """Sets what a config file says in ``cfg``; raises as ``load_config`` does."""
    for source, keys in read_chain(path):
        merge_keys(cfg, keys, source)
        drop_inherited_num_classes(cfg, keys)


def add_maskformer2_config(cfg: CfgNode) -> None:
    """Adds the keys of the image model, those of the video model apart, to ``cfg`` in place.

    May be called before or after the ``add_*_config`` of other projects, and again: a key that is
    there already keeps its value.
    """
    _add_input(cfg.INPUT)
    _add_datasets(cfg.DATASETS)
    _add_solver(cfg.SOLVER)
    _add_sem_seg_head(cfg.MODEL.SEM_SEG_HEAD)
    _add_mask_former(_child(cfg.MODEL, "MASK_FORMER"))
    for backbone, defaults in backbone_keys().items():
        _fill(_child(cfg.MODEL, backbone), defaults)
    for (parent, name), defaults in mask_keys().items():
        _fill(_child(cfg[parent], name), defaults)
    # Ours: least share of the weights in MODEL.WEIGHTS that must fit the model.
    _fill(cfg.MODEL, {"WEIGHTS_MIN_MATCH": 0.75})


def add_maskformer2_video_config(cfg: CfgNode) -> None:
    """Adds the keys of training on clips to ``cfg`` in place; as harmless to repeat."""
    defaults = {
        "SAMPLING_FRAME_NUM": 2,  # frames of a training clip, T
        "SAMPLING_FRAME_RANGE": 20,  # the others lie within +- this of a reference frame
        "SAMPLING_FRAME_SHUFFLE": False,  # True: in random order instead of the order of time
        "AUGMENTATIONS": [],  # any of "brightness", "contrast", "saturation", "rotation"
    }
    _fill(cfg.INPUT, defaults)
    # Ours: clips made of images, where DATASETS.TRAIN has data sets of images.
    pseudo_clip = {
        # Share of the clips where there are videos too; -1: by the numbers of both.
        "RATIO": -1.0,
        # The most that the camera leaves the image by: degrees, factor, share of the sides.
        "ROTATION": 10.0,
        "SCALE": 1.2,
        "SHIFT": 0.1,
    }
    _fill(_child(cfg.INPUT, "PSEUDO_CLIP"), pseudo_clip)


def _add_input(node: CfgNode) -> None:
    defaults = {
        # Names a published recipe: mask_former_{semantic,panoptic,instance} or
        # coco_{panoptic,instance}_lsj.
        "DATASET_MAPPER_NAME": "mask_former_semantic",
        "COLOR_AUG_SSD": False,  # brightness, contrast, saturation and hue as in SSD
        # Not a divisor: above 0, images are padded right and below to a square of this side.
        "SIZE_DIVISIBILITY": -1,
        # Large-scale jitter: side of the square, range of the scale.
        "IMAGE_SIZE": 1024,
        "MIN_SCALE": 0.1,
        "MAX_SCALE": 2.0,
        # Ours: drop targets of which the crop left nothing (published: kept, with empty masks).
        "DROP_EMPTY_TARGETS": False,
        # Ours: the mask_former_* recipes heed RANDOM_FLIP (published: they flip horizontally
        # whatever it says).
        "OBEY_RANDOM_FLIP": False,
    }
    _fill(node, defaults)
    # The most of a crop that one class may fill; from DeepLab's config, where that is added.
    _fill(node.CROP, {"SINGLE_CATEGORY_MAX_AREA": 1.0})


def _add_datasets(node: CfgNode) -> None:
    # Ours: data sets of one's own, a list of {name, task, image root, annotations}.
    _fill(node, {"CUSTOM": []})


def _add_solver(node: CfgNode) -> None:
    defaults = {
        "OPTIMIZER": "ADAMW",  # or "SGD"
        "BACKBONE_MULTIPLIER": 0.1,  # of the learning rate, for the backbone
        "WEIGHT_DECAY_EMBED": 0.0,  # of nn.Embedding
        "LOG_PERIOD": 20,  # ours: iterations between two progress lines, also in metrics.json
    }
    _fill(node, defaults)


def _add_sem_seg_head(node: CfgNode) -> None:
    defaults = {
        "MASK_DIM": 256,  # channels of the mask features and mask embeddings
        "PIXEL_DECODER_NAME": "BasePixelDecoder",
        "TRANSFORMER_ENC_LAYERS": 0,  # encoder layers inside the pixel decoder
        "DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": ["res3", "res4", "res5"],
        # Without effect, as published: there are 4 points and MASK_FORMER.NHEADS heads.
        "DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS": 4,
        "DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS": 8,
    }
    _fill(node, defaults)


def _add_mask_former(node: CfgNode) -> None:
    _add_losses(node)
    _add_transformer_decoder(node)
    _add_inference(_child(node, "TEST"))
    # Batches are padded to a multiple of this; below 0, of what the backbone asks for.
    _fill(node, {"SIZE_DIVISIBILITY": 32})


def _add_losses(node: CfgNode) -> None:
    defaults = {
        "DEEP_SUPERVISION": True,  # losses on the predictions of every decoder layer
        "NO_OBJECT_WEIGHT": 0.1,  # of the no-object class in the cross-entropy
        # Weights of the losses and of the matching cost alike.
        "CLASS_WEIGHT": 1.0,
        "DICE_WEIGHT": 1.0,
        "MASK_WEIGHT": 20.0,
        # Points per mask, P, in the matching cost and the mask losses; see PointRend.
        "TRAIN_NUM_POINTS": 12544,
        "OVERSAMPLE_RATIO": 3.0,
        "IMPORTANCE_SAMPLE_RATIO": 0.75,
        # Ours: from 0 on, the points of each image come from a generator with this seed, so that
        # runs spread over processes agree with runs in one. -1: from torch's global generator.
        "POINT_SEED": -1,
        # Ours: leave ignored, void and crowd pixels out of the mask losses (published: negatives).
        "IGNORE_VOID": False,
        # Ours: where a clip's objects have their class from, "last_frame" (published: an object
        # that is absent there trains as no-object) or "any_frame".
        "CLIP_LABEL": "last_frame",
    }
    _fill(node, defaults)


def _add_transformer_decoder(node: CfgNode) -> None:
    defaults = {
        "TRANSFORMER_DECODER_NAME": "MultiScaleMaskedTransformerDecoder",
        "TRANSFORMER_IN_FEATURE": "res5",
        "NUM_OBJECT_QUERIES": 100,  # Q
        "HIDDEN_DIM": 256,
        "NHEADS": 8,
        "DIM_FEEDFORWARD": 2048,
        "DROPOUT": 0.1,
        "ENC_LAYERS": 0,  # of StandardTransformerDecoder only
        "DEC_LAYERS": 6,  # the masked decoders count the prediction before the first layer too
        "PRE_NORM": False,
        "ENFORCE_INPUT_PROJ": False,  # a 1x1 convolution even where the widths agree
    }
    _fill(node, defaults)


def _add_inference(node: CfgNode) -> None:
    defaults = {
        "SEMANTIC_ON": True,
        "INSTANCE_ON": False,
        "PANOPTIC_ON": False,
        "OBJECT_MASK_THRESHOLD": 0.0,  # panoptic: least class probability of a query
        "OVERLAP_THRESHOLD": 0.0,  # panoptic: least visible share of a query's mask
        "SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE": False,  # resize masks before they are merged
        # Ours: "bf16" for autocast to bfloat16, the pixel decoder included, which pays where the
        # processor computes in it (published: float32, the pixel decoder always so).
        "PRECISION": "fp32",
        # Ours: image models on a GPU replay what an image of the same size did.
        "CUDA_GRAPHS": False,
        "BOUNDARY_METRICS": False,  # ours: evaluate boundary AP and boundary IoU as well
        # Ours: videos are cut into windows of so many frames (0, published: one of the whole clip),
        # of which each shares so many with the one before.
        "VIDEO_WINDOW": 0,
        "VIDEO_OVERLAP": 4,
        # Ours: what scores of tracks heed beside the class (published: nothing): how sure their
        # masks are, and the IoU from which on a track counts less than a better one.
        "VIDEO_MASK_QUALITY": False,
        "VIDEO_DUPLICATE_IOU": 1.0,
    }
    _fill(node, defaults)


def _child(node: CfgNode, name: str) -> CfgNode:
    """Returns ``node[name]``, made first where it is not there."""
    if name not in node:
        setattr(node, name, CfgNode())  # by attribute: refused where the config is frozen
    return node[name]


def _fill(node: CfgNode, defaults: dict[str, Any]) -> None:
    """Adds the keys of ``defaults`` that ``node`` lacks."""
    for key, value in defaults.items():
        if key not in node:
            setattr(node, key, value)
