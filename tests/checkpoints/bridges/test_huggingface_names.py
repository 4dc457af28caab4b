"""Names of weights and classes, and configs, between ours and Hugging Face's Mask2Former."""

import json

import pytest
import torch

from mask2former.checkpoints.bridges import convert
from mask2former.checkpoints.bridges.huggingface import from_huggingface, to_huggingface
from mask2former.checkpoints.bridges.huggingface_config import (
    from_huggingface_config,
    to_huggingface_config,
)
from mask2former.classes import Classes
from tests.checkpoints.bridges.small_huggingface import BACKBONES, small_config

transformers = pytest.importorskip("transformers")


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
