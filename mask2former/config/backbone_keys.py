"""The config keys of the backbones that this project adds, with their defaults; see keys.py."""

from collections.abc import Mapping
from typing import Any

# Each table maps nodes of the config to keys and defaults.
Keys = Mapping[str, Mapping[str, Any]]

_FEATURES = ["res2", "res3", "res4", "res5"]

BACKBONE_KEYS: Keys = {
    "MODEL.SWIN": {
        "PRETRAIN_IMG_SIZE": 224,  # side of the images of the pretraining; read with APE only
        "PATCH_SIZE": 4,
        "EMBED_DIM": 96,
        "DEPTHS": [2, 2, 6, 2],
        "NUM_HEADS": [3, 6, 12, 24],
        "WINDOW_SIZE": 7,
        "MLP_RATIO": 4.0,
        "QKV_BIAS": True,
        "QK_SCALE": None,  # None: (channels of a head) ** -0.5
        "DROP_RATE": 0.0,
        "ATTN_DROP_RATE": 0.0,
        "DROP_PATH_RATE": 0.3,
        "APE": False,  # absolute position embedding
        "PATCH_NORM": True,
        "OUT_FEATURES": _FEATURES,
        "USE_CHECKPOINT": False,  # save memory by computing activations again in the backward pass
        # Ours: 1 freezes the patch embedding, n the first n - 1 stages too. BACKBONE.FREEZE_AT
        # is not read, as in the published code.
        "FREEZE_AT": 0,
    },
    # Ours: the backbone D2DAT; the defaults are those of DAT-T.
    "MODEL.DAT": {
        "EMBED_DIM": 96,
        "DEPTHS": [2, 2, 6, 2],
        "NUM_HEADS": [3, 6, 12, 24],
        # Groups of heads that sample keys of their own; -1: a stage of shifted windows instead.
        "GROUPS": [-1, -1, 3, 6],
        "WINDOW_SIZE": 7,
        "MLP_RATIO": 4.0,
        # Maximal movement of a sampled key, in halves of the distance between pixels.
        "OFFSET_RANGE_FACTOR": 2.0,
        # Side of the images of the pretraining, a multiple of 32; fits the tables of positions.
        "PRETRAIN_IMG_SIZE": 224,
        "DROP_PATH_RATE": 0.2,
        "OUT_FEATURES": _FEATURES,
        "OUT_NORM": False,  # a LayerNorm behind each stage, as in Swin
        "USE_CHECKPOINT": False,  # as MODEL.SWIN's
    },
    # Ours: the backbone build_timm_backbone.
    "MODEL.TIMM": {
        "NAME": "",  # of the model in timm
        # Of the features, as in timm's features_only; [] for those of strides 4, 8, 16 and 32, or
        # for the last block of a plain ViT.
        "OUT_INDICES": [],
        # "", "timm" (timm's own download), a file, or "package:NAME" for a file inside an
        # installed package.
        "PRETRAINED": "",
        "NORMALIZE": "config",  # or "timm", for the mean and std that the model was trained with
        "FREEZE_BN": False,  # keep the statistics and weights of all batch norms as they are
        # 1 freezes the stem, n the first n - 1 stages (of a plain ViT: blocks) too, -1 everything
        # but the feature pyramid of a plain ViT.
        "FREEZE_AT": 0,
        # The learning rate falls by this factor from each layer to the one before it.
        "LAYER_DECAY": 1.0,
        "DROP_PATH_RATE": 0.0,  # of the last block; rises linearly from 0 at the first
        "USE_CHECKPOINT": False,  # as MODEL.SWIN's
        "PYRAMID_DIM": 256,  # channels of the features that are made of a plain ViT's last ones
    },
    # Ours: EoMT, a ViT of timm (MODEL.TIMM.NAME) whose last blocks see the queries. As many as
    # MODEL.MASK_FORMER.DEC_LAYERS - 1: the prediction after the last one counts too.
    "MODEL.EOMT": {
        # Sides (H, W) of the images that the position table is for; those of others are resized.
        "IMAGE_SIZE": [640, 640],
        # Where the ViT differs from MODEL.TIMM.NAME; 0 and -1: it does not.
        "PATCH_SIZE": 0,  # a power of 2; 0: the one that is nearest to the model's
        "EMBED_DIM": 0,
        "DEPTH": 0,
        "NUM_HEADS": 0,
        "MLP_RATIO": 0.0,
        "NORM_EPS": 0.0,
        "REGISTERS": -1,  # tokens beside the class token
        "UPSCALE_BLOCKS": 2,  # each doubles the resolution of the patches for the masks
        # Queries see their mask only, with a probability that falls from 1 to 0 over training,
        # block by block. False: the probabilities of the checkpoint stay, in training too.
        "MASK_ANNEALING": True,
    },
    # A timm model whose features take the place of the patches' pixels, "" for none; the keys as
    # those of MODEL.TIMM, whose NORMALIZE, FREEZE_BN and USE_CHECKPOINT hold for it too.
    "MODEL.EOMT.STEM": {
        "NAME": "",
        "OUT_INDICES": [],  # the finest feature has PATCH_SIZE as its stride
        "PRETRAINED": "",
    },
}
