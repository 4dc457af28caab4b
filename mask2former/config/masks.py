"""The config keys of `MaskClassifier`, which names masks that are given; all of them are ours."""

from typing import Any

MASK_KEYS: dict[str, dict[str, Any]] = {
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
