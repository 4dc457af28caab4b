"""A small model and its conversions to Hugging Face's Mask2Former and back, compared."""

import pytest
import torch

import mask2former
from mask2former.checkpoints.bridges import convert
from mask2former.checkpoints.bridges.check import compare_huggingface
from mask2former.checkpoints.bridges.huggingface_config import to_huggingface_config
from mask2former.checkpoints.loading import load_into
from mask2former.checkpoints.storage.weights_io import load_weights, save_weights
from mask2former.config import get_config

transformers = pytest.importorskip("transformers")
BACKBONES = ["swin", "resnet"]


def small_config(backbone, full=False):
    """The model of the COCO configs, with fewer layers unless it is to be ``full``."""
    cfg = get_config()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "MaskFormer"
    cfg.MODEL.BACKBONE.NAME = {"swin": "D2SwinTransformer", "resnet": "build_resnet_backbone"}[
        backbone
    ]
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    head, former = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    head.NAME, head.PIXEL_DECODER_NAME = "MaskFormerHead", "MSDeformAttnPixelDecoder"
    head.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    former.TRANSFORMER_IN_FEATURE = "multi_scale_pixel_decoder"
    head.CONVS_DIM, head.NORM = 256, "GN"
    former.DROPOUT = 0.0
    head.NUM_CLASSES, head.TRANSFORMER_ENC_LAYERS, former.DEC_LAYERS = 133, 6, 10
    if not full:
        head.NUM_CLASSES, head.TRANSFORMER_ENC_LAYERS, former.DEC_LAYERS = 5, 2, 4
        head.CONVS_DIM = head.MASK_DIM = former.HIDDEN_DIM = 64
        former.NUM_OBJECT_QUERIES, former.DIM_FEEDFORWARD = 12, 96
        if backbone == "swin":
            cfg.MODEL.SWIN.DEPTHS, cfg.MODEL.SWIN.NUM_HEADS = [2, 2, 1, 2], [1, 2, 4, 8]
            cfg.MODEL.SWIN.EMBED_DIM = 24
        else:
            cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.INPUT.FORMAT = "RGB"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    return cfg


def randomise(model):
    """Fills weights so that every one of them counts; new models have zeros in many places."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(1 + 0.2 * noise.abs())
            elif tensor.dim() <= 1:
                tensor.copy_(0.1 * noise + name.endswith("weight"))
            else:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
    return model


def assert_parity(model, folder):
    torch.manual_seed(1)
    for difference in compare_huggingface(model, folder, torch.randn(2, 3, 64, 96)):
        assert difference.scale > 1
        assert difference.largest < 1e-4, difference


def check_ours_to_huggingface(cfg, tmp_path):
    model = randomise(convert.build_on_cpu(cfg))
    save_weights(model.state_dict(), tmp_path / "ours.pth")
    converted, _ = convert.ours_to_huggingface(str(tmp_path / "ours.pth"), tmp_path / "hf", cfg)
    assert_parity(model, tmp_path / "hf")
    _, problems = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert not any(problems.values())
    return converted


def check_huggingface_to_ours(cfg, tmp_path):
    config, _ = to_huggingface_config(cfg)
    theirs = transformers.Mask2FormerForUniversalSegmentation(
        transformers.Mask2FormerConfig.from_dict(config)
    )
    randomise(theirs).save_pretrained(tmp_path / "hf")
    convert.huggingface_to_ours(tmp_path / "hf", tmp_path / "ours.safetensors")
    made = mask2former.load_config(tmp_path / "ours.yaml")
    model = convert.build_on_cpu(made)
    load_into(model, load_weights(tmp_path / "ours.safetensors")[0], min_match=1.0)
    assert_parity(model, tmp_path / "hf")
