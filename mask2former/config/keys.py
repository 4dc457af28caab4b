"""The config keys that this project adds to detectron2's, with their defaults.

Every key is explained in docs/configuration.md. The defaults are those of the published code, also
where all published configs set another value. Keys and values that the published code does not have
are marked "ours".
"""

import copy
from collections.abc import Callable

from detectron2.config import CfgNode

from .backbone_keys import BACKBONE_KEYS, Keys
from .training_keys import TRAINING_KEYS

# As MODEL.SEM_SEG_HEAD.NUM_CLASSES: mask2former.data.register_custom takes it from the data.
CLASSES_FROM_DATA = -1

# What `add_maskformer2_video_config` calls: packages above this one add to it.
called_for_video: list[Callable[[], None]] = []

_IMAGE_KEYS: Keys = {
    "INPUT": {
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
        # Ours: the mask_former_* recipes respect RANDOM_FLIP (published: they flip horizontally
        # whatever it says).
        "OBEY_RANDOM_FLIP": False,
        # Ours: the largest image that is read, in pixels; 0 for Pillow's own limit (179 million).
        "MAX_PIXELS": 0,
        # Ours: photos are turned as their EXIF tag says, where the size of the annotations does
        # not say that they were made on the stored pixels. False: never.
        "EXIF_ROTATION": True,
    },
    # Maximal fraction of a crop that one class may fill; DeepLab's config has this key too.
    "INPUT.CROP": {"SINGLE_CATEGORY_MAX_AREA": 1.0},
    # Ours: custom datasets, a list of {name, task, image root, annotations}.
    # BOXES_AS_MASKS: objects of custom datasets that have a box and no mask get the box as mask.
    "DATASETS": {"CUSTOM": [], "BOXES_AS_MASKS": False},
    "SOLVER": {
        "OPTIMIZER": "ADAMW",  # or "SGD"
        "BACKBONE_MULTIPLIER": 0.1,  # of the learning rate, for the backbone
        "WEIGHT_DECAY_EMBED": 0.0,  # of nn.Embedding
        "LOG_PERIOD": 20,  # ours: iterations between two progress lines, also in metrics.json
    },
    # Ours: what people see of a training.
    "TRAINING": {
        "REPORT": True,  # report.html in OUTPUT_DIR, at every evaluation and at the end
        "PROGRESS": "line",  # or "bar"
        "TRACKERS": [],  # any of "mlflow", "wandb"
    },
    # Ours: minimal fraction of the weights in MODEL.WEIGHTS that must fit the model.
    "MODEL": {"WEIGHTS_MIN_MATCH": 0.75},
    # Ours: the classes in the order of the model's outputs, so that they travel with the config;
    # filled by mask2former.data.register_custom where NAMES is empty.
    "MODEL.CLASSES": {
        "NAMES": [],  # datasets whose classes are in another order are mapped to this one
        "THING_IDS": [],  # positions in NAMES of those that are things
        "COLORS": [],  # [red, green, blue] of each, 0 to 255; or none
    },
    "MODEL.SEM_SEG_HEAD": {
        "MASK_DIM": 256,  # channels of the mask features and mask embeddings
        "PIXEL_DECODER_NAME": "BasePixelDecoder",
        "TRANSFORMER_ENC_LAYERS": 0,  # encoder layers inside the pixel decoder
        "DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": ["res3", "res4", "res5"],
        # Without effect, as published: there are 4 points and MASK_FORMER.NHEADS heads.
        "DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS": 4,
        "DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS": 8,
    },
    "MODEL.MASK_FORMER": {
        # Losses.
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
        # Transformer decoder.
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
        # Batches are padded to a multiple of this; below 0, of what the backbone asks for.
        "SIZE_DIVISIBILITY": 32,
        # Ours: the pixels of that padding, 0 to 255; below 0, as published, the mean.
        "PAD_VALUE": -1.0,
    },
    # Ours: queries that are shown the targets while training (MP-Former).
    "MODEL.MASK_FORMER.PILOT": {
        "QUERIES": 0,  # of each image; 0: none
        "LABEL_NOISE": 0.2,  # fraction of them that are shown a random class
        "POINT_NOISE": 0.2,  # points of their masks that are turned over, as a fraction of the area
    },
    "MODEL.MASK_FORMER.TEST": {
        "SEMANTIC_ON": True,
        "INSTANCE_ON": False,
        "PANOPTIC_ON": False,
        # Ours: "labels" for the best class of every pixel instead of the scores of all classes.
        "SEMANTIC_OUTPUT": "scores",
        "OBJECT_MASK_THRESHOLD": 0.0,  # panoptic: minimal class probability of a query
        "OVERLAP_THRESHOLD": 0.0,  # panoptic: minimal visible fraction of a query's mask
        "SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE": False,  # resize masks before they are merged
        # Ours: "fp32", "bf16" for autocast to bfloat16, the pixel decoder included, which pays if
        # the processor computes in it, or "fp16" for autocast on CUDA, without the pixel decoder.
        # "auto", as published: fp32 of images, fp16 of videos.
        "PRECISION": "auto",
        # Ours: image models on a GPU replay what an image of the same size did.
        "CUDA_GRAPHS": False,
        # Ours: from 1 on, semantic scores are those of windows of so many pixels along the longer
        # side of an image, averaged where they overlap.
        "SEMANTIC_WINDOW": 0,
        # Ours: no image is padded to a canvas that it does not have alone (published: all images of
        # a batch to the largest).
        "BATCH_BY_SIZE": False,
        "BOUNDARY_METRICS": False,  # ours: evaluate boundary AP and boundary IoU as well
        # Ours: videos are cut into windows of so many frames (0, published: one of the whole clip),
        # of which each shares so many with the one before.
        "VIDEO_WINDOW": 0,
        "VIDEO_OVERLAP": 4,
        # Ours: what the scores of tracks respect beside the class (published: nothing): how sure
        # their masks are, and the IoU from which on a track counts less than a better one.
        "VIDEO_MASK_QUALITY": False,
        "VIDEO_DUPLICATE_IOU": 1.0,
    },
}

# Ours: those of `MaskClassifier`, which names masks that are given.
_MASK_KEYS: Keys = {
    "MODEL.MASK_CLASSIFIER": {
        # Parts that are not trained: any of "backbone", "pixel_decoder", "decoder". The
        # decoder's class branch and what makes its queries are always trained.
        "FREEZE": [],
        "MASKS_PER_CHUNK": 64,  # masks worked on at a time; bounds memory, not the result
    },
    # The backbone build_sam_backbone.
    "MODEL.SAM": {
        "WEIGHTS": "",  # a folder with config.json and model.safetensors of SAM
    },
    "INPUT.MASK_PROPOSALS": {
        "JITTERED": 1,  # changed copies of each ground-truth mask, in training
        "MADE_UP": 0.5,  # regions that are no object, for each ground-truth mask
        # A mask has the class of the object that it overlaps most, if their IoU is this or
        # more; else it is no-object.
        "IOU_THRESHOLD": 0.5,
        "MAX_MASKS": 64,  # of an image in training; those beyond are left out at random
        # COCO results json with further masks of the training images, such as SAM's.
        "TRAIN_FILE": "",
        # The same with the masks to name in evaluation; "": the ground truth's.
        "TEST_FILE": "",
    },
}

_VIDEO_KEYS: Keys = {
    "INPUT": {
        "SAMPLING_FRAME_NUM": 2,  # frames of a training clip, T
        "SAMPLING_FRAME_RANGE": 20,  # the others lie within +- this of a reference frame
        "SAMPLING_FRAME_SHUFFLE": False,  # True: in random order instead of the order of time
        "AUGMENTATIONS": [],  # any of "brightness", "contrast", "saturation", "rotation"
    },
    # Ours: clips made of images, where DATASETS.TRAIN has datasets of images.
    "INPUT.PSEUDO_CLIP": {
        # Fraction of the clips where there are videos too; -1: by the numbers of both.
        "RATIO": -1.0,
        # Maximal movement of the camera: degrees, factor, fraction of the sides.
        "ROTATION": 10.0,
        "SCALE": 1.2,
        "SHIFT": 0.1,
    },
}


def add_maskformer2_config(cfg: CfgNode) -> None:
    """Add the keys of the image model, those of the video model apart, to ``cfg`` in place.

    May be called before or after the ``add_*_config`` of other projects, and again: a key that is
    there already keeps its value.
    """
    for keys in (_IMAGE_KEYS, TRAINING_KEYS, BACKBONE_KEYS, _MASK_KEYS):
        _add(cfg, keys)


def add_maskformer2_video_config(cfg: CfgNode) -> None:
    """Add the keys of training on clips to ``cfg`` in place; may be called again.

    The datasets of videos are registered, too, where nobody has registered their names.
    """
    add_video_keys(cfg)
    for call in called_for_video:
        call()


def add_video_keys(cfg: CfgNode) -> None:
    """Add the keys of training on clips to ``cfg`` in place."""
    _add(cfg, _VIDEO_KEYS)


def _add(cfg: CfgNode, keys: Keys) -> None:
    """Add the nodes and keys that ``cfg`` lacks."""
    for path, defaults in keys.items():
        node = cfg
        for name in path.split("."):
            if name not in node:
                setattr(node, name, CfgNode())  # by attribute: refused where the config is frozen
            node = node[name]
        for name, value in defaults.items():
            if name not in node:
                setattr(node, name, copy.deepcopy(value))
