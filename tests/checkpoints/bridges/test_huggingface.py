"""Hugging Face's Mask2Former: same outputs with the same weights in both directions."""

import json

import pytest
import torch

import mask2former
from mask2former.checkpoints.bridges import convert
from mask2former.checkpoints.bridges.check import compare_huggingface
from mask2former.checkpoints.bridges.huggingface import from_huggingface, to_huggingface
from mask2former.checkpoints.bridges.huggingface_config import (
    from_huggingface_config,
    to_huggingface_config,
)
from mask2former.checkpoints.loading import CheckpointMismatchError, load_into
from mask2former.checkpoints.storage.weights_io import load_weights, save_weights
from mask2former.classes import Classes
from mask2former.config import get_config
from mask2former.errors import UserError

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


# Names and configs


@pytest.mark.parametrize(
    "name", ["maskformer2_R50_bs16_50ep", "swin/maskformer2_swin_large_IN21k_384_bs16_100ep"]
)
def test_all_published_names_have_a_counterpart_and_return(name, shared):
    table = json.loads((shared / "reference" / "state_dicts.json").read_text())
    shapes = table["shapes"][table["configs"][f"coco/panoptic-segmentation/{name}.yaml"]]
    ours = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    back = from_huggingface(to_huggingface(ours))
    back = {k: t for k, t in back.items() if not k.endswith("num_batches_tracked")}
    index = {key for key in ours if key.endswith("relative_position_index")}
    assert set(ours) - set(back) == index
    assert all(back[key].shape == ours[key].shape for key in back)


def test_what_only_training_needs_stays_behind():
    queries = {"sem_seg_head.predictor.query_feat.weight": torch.ones(2, 3)}
    pilot = {"sem_seg_head.predictor.pilot.weight": torch.ones(4, 3)}
    assert to_huggingface(queries | pilot).keys() == to_huggingface(queries).keys()


def test_names_of_transformers_4_and_5_and_of_its_memory_are_read():
    part = "model.pixel_level_module.encoder."
    old = f"{part}encoder.layers.0.blocks.1.attention"
    new = f"{part}swin.encoder.layers.0.blocks.1"
    halves = {
        "self.query.weight": "attention.q_proj.weight",
        "self.key.weight": "attention.k_proj.weight",
        "self.value.weight": "attention.v_proj.weight",
        "output.dense.bias": "attention.o_proj.bias",
    }
    in_file = from_huggingface({f"{old}.{name}": torch.full((2,), 1.0) for name in halves})
    in_memory = from_huggingface(
        {f"{new}.{name}": torch.full((2,), 1.0) for name in halves.values()}
    )
    assert set(in_file) == set(in_memory)
    assert set(in_file) == {
        "backbone.layers.0.blocks.1.attn.qkv.weight",
        "backbone.layers.0.blocks.1.attn.proj.bias",
    }


@pytest.mark.parametrize("backbone", BACKBONES)
def test_configs_there_and_back(backbone):
    cfg = small_config(backbone)
    cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY = 64
    cfg.INPUT.MIN_SIZE_TEST = 640
    back = from_huggingface_config(*to_huggingface_config(cfg))
    test = cfg.MODEL.MASK_FORMER.TEST
    test.INSTANCE_ON, test.OBJECT_MASK_THRESHOLD, test.OVERLAP_THRESHOLD = True, 0.8, 0.8
    back.MODEL.DEVICE = "cpu"
    if backbone == "swin":
        for key in ("STRIDE_IN_1X1", "OUT_FEATURES"):
            back.MODEL.RESNETS[key] = cfg.MODEL.RESNETS[key]
        back.MODEL.BACKBONE.FREEZE_AT = 0
    assert back == cfg


def test_class_names():
    cfg = small_config("swin")
    config, _ = to_huggingface_config(cfg, ["a", "b", "c", "d", "e"])
    assert config["id2label"]["4"] == "e" and config["label2id"]["a"] == 0
    with pytest.raises(ValueError, match="expected 5 names.*got 2"):
        to_huggingface_config(cfg, ["a", "b"])


def test_class_names_of_config_and_checkpoint():
    cfg = small_config("swin")
    assert convert.classes_of(cfg) is None
    cfg.MODEL.CLASSES.NAMES = ["v", "w", "x", "y", "z"]
    cfg.MODEL.CLASSES.THING_IDS = [1]
    assert convert.classes_of(cfg) == Classes(("v", "w", "x", "y", "z"), (1,))
    entry = {"classes": {"names": ["a", "b", "c", "d", "e"]}}
    assert convert.classes_of(cfg, entry).names == ("a", "b", "c", "d", "e")
    assert convert.classes_of(cfg, {"classes": {"names": ["of another number"]}}).names[0] == "v"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["v", "w", "x", "y", "z"], ["v", "w", "x", "y", "z"]),
        ([], []),
        (["a", "a", "x", "y", "z"], []),
    ],
)
def test_class_names_come_back(names, expected):
    """Those that are placeholders, or occur twice, are left out."""
    config, preprocessor = to_huggingface_config(small_config("swin"), names)
    cfg = from_huggingface_config(config, preprocessor)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 5 and expected == cfg.MODEL.CLASSES.NAMES


def test_the_image_processor_reads_its_file(tmp_path):
    _, preprocessor = to_huggingface_config(small_config("swin"))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    processor = transformers.Mask2FormerImageProcessor.from_pretrained(tmp_path)
    assert processor.image_mean == pytest.approx([0.485, 0.456, 0.406])
    assert (processor.size["shortest_edge"], processor.size_divisor) == (800, 32)


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
