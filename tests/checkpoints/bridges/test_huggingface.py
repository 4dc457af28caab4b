"""Hugging Face's Mask2Former: the same outputs in both directions, and refusals."""

import json

import pytest
import torch

from mask2former.checkpoints.bridges import convert
from mask2former.checkpoints.bridges.huggingface import from_huggingface, to_huggingface
from mask2former.checkpoints.bridges.huggingface_config import (
    from_huggingface_config,
    to_huggingface_config,
)
from mask2former.checkpoints.loading import CheckpointMismatchError
from mask2former.checkpoints.storage.weights_io import save_weights
from mask2former.errors import UserError
from tests.checkpoints.bridges.small_huggingface import (
    BACKBONES,
    assert_parity,
    check_huggingface_to_ours,
    check_ours_to_huggingface,
    randomise,
    small_config,
)

# Agreement of the outputs


@pytest.mark.parametrize("backbone", BACKBONES)
def test_ours_to_huggingface(backbone, tmp_path):
    check_ours_to_huggingface(small_config(backbone), tmp_path)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_huggingface_to_ours(backbone, tmp_path):
    check_huggingface_to_ours(small_config(backbone), tmp_path)


@pytest.mark.parametrize(
    ("backbone", "keys"),
    [
        ("swin", {"MASK_FORMER.PRE_NORM": True}),
        ("swin", {"SWIN.WINDOW_SIZE": 12, "SWIN.QKV_BIAS": False}),
        ("resnet", {"RESNETS.DEPTH": 50, "RESNETS.RES2_OUT_CHANNELS": 256}),
        (
            "resnet",
            {
                "RESNETS.DEPTH": 50,
                "RESNETS.RES2_OUT_CHANNELS": 64,
                "RESNETS.WIDTH_PER_GROUP": 16,
            },
        ),
        ("resnet", {"RESNETS.NORM": "BN"}),
        ("swin", {"SEM_SEG_HEAD.COMMON_STRIDE": 2, "MASK_FORMER.DEEP_SUPERVISION": False}),
    ],
)
def test_variants(backbone, keys, tmp_path):
    cfg = small_config(backbone)
    cfg.merge_from_list([item for key, value in keys.items() for item in (f"MODEL.{key}", value)])
    check_ours_to_huggingface(cfg, tmp_path)


@pytest.mark.slow
def test_strides_in_the_first_convolution(tmp_path):
    cfg = small_config("resnet")
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 50, 256
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = True
    check_ours_to_huggingface(cfg, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_full_size(backbone, tmp_path):
    check_ours_to_huggingface(small_config(backbone, full=True), tmp_path)
    check_huggingface_to_ours(small_config(backbone, full=True), tmp_path)


def test_a_wrong_conversion_shows(tmp_path):
    cfg = small_config("swin")
    model = randomise(convert.build_on_cpu(cfg))
    save_weights(model.state_dict(), tmp_path / "ours.pth")
    convert.ours_to_huggingface(str(tmp_path / "ours.pth"), tmp_path / "hf", cfg)
    with torch.no_grad():
        model.sem_seg_head.predictor.level_embed.weight[0] += 0.01
    with pytest.raises(AssertionError, match="logits"):
        assert_parity(model, tmp_path / "hf")


# Errors


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SEM_SEG_HEAD.PIXEL_DECODER_NAME", "BasePixelDecoder"),
        ("MASK_FORMER.TRANSFORMER_DECODER_NAME", "StandardTransformerDecoder"),
        ("MASK_FORMER.ENFORCE_INPUT_PROJ", True),
        ("SWIN.APE", True),
        ("SWIN.PATCH_SIZE", 2),
        ("BACKBONE.NAME", "build_timm_backbone"),
    ],
)
def test_models_that_hugging_face_has_not_are_refused(key, value):
    cfg = small_config("swin")
    cfg.merge_from_list([f"MODEL.{key}", value])
    with pytest.raises(ValueError, match=f"MODEL.{key}.*{value}"):
        to_huggingface_config(cfg)


def test_bottlenecks_of_another_width_are_refused():
    cfg = small_config("resnet")
    cfg.MODEL.RESNETS.DEPTH = 50
    with pytest.raises(ValueError, match="WIDTH_PER_GROUP.* a quarter of RES2_OUT_CHANNELS, 16"):
        to_huggingface_config(cfg)


def test_widths_that_would_need_a_projection_are_refused():
    cfg = small_config("swin")
    cfg.MODEL.MASK_FORMER.HIDDEN_DIM = 32
    with pytest.raises(ValueError, match="CONVS_DIM is 64.*HIDDEN_DIM is 32"):
        to_huggingface_config(cfg)


def test_other_weights_and_configs_are_refused():
    with pytest.raises(ValueError, match="no counterpart for bert"):
        from_huggingface({"bert.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="no counterpart for roi_heads"):
        to_huggingface({"roi_heads.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="expected model_type mask2former, got 'detr'"):
        from_huggingface_config({"model_type": "detr"}, {})


def test_folders_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a folder with config\.json"):
        convert.read_folder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor"):
        convert.read_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    save_weights({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"config\.json: expected a json file"):
        convert.read_folder(tmp_path)


def test_folders_in_parts_are_read_and_their_index_stays_inside(tmp_path):
    save_weights({"a": torch.ones(1)}, tmp_path / "one.safetensors")
    save_weights({"b": torch.zeros(1)}, tmp_path / "two.safetensors")
    (tmp_path / "config.json").write_text("{}")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    assert set(convert.read_folder(tmp_path)[0]) == {"a", "b"}
    for name in ("../one.safetensors", "..", ""):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(UserError, match="outside of its folder"):
            convert.read_folder(tmp_path)
    for content in ({}, {"weight_map": 3}, {"weight_map": {"a": 3}}, {"weight_map": {"a": []}}):
        index.write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"index\.json: expected weight_map"):
            convert.read_folder(tmp_path)


def test_a_config_of_another_model_is_refused(tmp_path):
    cfg = small_config("resnet")
    model = convert.build_on_cpu(cfg)
    save_weights(model.state_dict(), tmp_path / "ours.pth")
    cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES = 7
    with pytest.raises(CheckpointMismatchError, match=r"query_feat\.weight: \(12, 64\)"):
        convert.ours_to_huggingface(str(tmp_path / "ours.pth"), tmp_path / "hf", cfg)
    assert not (tmp_path / "hf").exists()
