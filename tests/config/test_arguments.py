"""Unknown arguments of constructors, and the published names of those that there are."""

import inspect
from pathlib import Path

import detectron2.config
import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.layers import ShapeSpec

from mask2former import data, modeling
from mask2former.config import load_config
from mask2former.config.arguments import (
    _known_arguments,
    checks_names,
    configurable,
    takes,
    unless_default,
)
from mask2former.modeling import BasePixelDecoder, HungarianMatcher, MaskFormer

ROOT = Path(__file__).resolve().parents[2]


class Base:
    @checks_names
    def __init__(self, width: int, *, depth: int = 1) -> None:
        self.size = (width, depth)


class Middle(Base):
    @configurable
    def __init__(self, *, height: int, **more: int) -> None:
        super().__init__(**more)
        self.height = height

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        return {"width": cfg.WIDTH, "height": 2, **cfg.MORE}


class Own(Middle):
    """A class of somebody else."""

    def __init__(self, mine: int, **more: int) -> None:
        super().__init__(**more)


def test_known_arguments_are_passed_on():
    assert Own(1, width=2, height=3, depth=4).size == (2, 4)
    assert Base(5).size == (5, 1)


def test_unknown_ones_are_named_with_those_that_are_known():
    with pytest.raises(
        TypeError, match=r"^Middle has no argument dept; nearest: depth; it takes height, width,"
    ):
        Middle(height=1, width=2, dept=3)
    with pytest.raises(TypeError, match="^Own has no argument a, b; it takes height, width, depth"):
        Own(1, width=2, height=3, a=4, b=5)
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'height'"):
        Middle(width=1)


def test_what_a_from_config_returns_is_checked_too():
    cfg = CfgNode({"WIDTH": 3, "MORE": {}})
    assert Middle(cfg).height == 2
    cfg.MORE["wide"] = 1
    with pytest.raises(TypeError, match="Middle has no argument wide; "):
        Middle(cfg)


MODEL = """backbone sem_seg_head criterion num_queries object_mask_threshold overlap_threshold
    metadata size_divisibility sem_seg_postprocess_before_inference pixel_mean pixel_std"""
HEAD = "input_shape num_classes pixel_decoder loss_weight ignore_value"
PYRAMID = "input_shape conv_dim mask_dim norm"
ENCODER = "transformer_dropout transformer_nheads transformer_enc_layers"
DECODER = """in_channels mask_classification num_classes hidden_dim num_queries nheads
    dim_feedforward dec_layers pre_norm mask_dim enforce_input_project"""
MAPPER = "is_train augmentations image_format"

# The keyword arguments that others give by name.
PUBLISHED = {
    "MaskFormer": f"{MODEL} semantic_on panoptic_on instance_on test_topk_per_image",
    "VideoMaskFormer": f"{MODEL} num_frames",
    "MaskFormerHead": f"{HEAD} transformer_predictor transformer_in_feature",
    "PerPixelBaselineHead": HEAD,
    "PerPixelBaselinePlusHead": (
        f"{HEAD} transformer_predictor transformer_in_feature deep_supervision"
    ),
    "BasePixelDecoder": PYRAMID,
    "TransformerEncoderPixelDecoder": (
        f"{PYRAMID} {ENCODER} transformer_dim_feedforward transformer_pre_norm"
    ),
    "MSDeformAttnPixelDecoder": f"{PYRAMID} {ENCODER} transformer_in_features common_stride",
    "MultiScaleMaskedTransformerDecoder": DECODER,
    "VideoMultiScaleMaskedTransformerDecoder": f"{DECODER} num_frames",
    "StandardTransformerDecoder": f"{DECODER} dropout enc_layers deep_supervision",
    "SetCriterion": """num_classes matcher weight_dict eos_coef losses num_points oversample_ratio
        importance_sample_ratio""",
    "HungarianMatcher": "cost_class cost_mask cost_dice num_points",
    "D2SwinTransformer": """pretrain_img_size patch_size in_chans embed_dim depths num_heads
        window_size mlp_ratio qkv_bias qk_scale drop_rate attn_drop_rate drop_path_rate ape
        patch_norm frozen_stages use_checkpoint""",
    "SemanticSegmentorWithTTA": "model tta_mapper batch_size",
}
MAPPERS = {
    "MaskFormerSemanticDatasetMapper": f"{MAPPER} ignore_label size_divisibility",
    "MaskFormerPanopticDatasetMapper": f"{MAPPER} ignore_label size_divisibility",
    "MaskFormerInstanceDatasetMapper": f"{MAPPER} size_divisibility",
    "COCOPanopticNewBaselineDatasetMapper": "is_train tfm_gens image_format",
    "COCOInstanceNewBaselineDatasetMapper": "is_train tfm_gens image_format",
    "YTVISDatasetMapper": f"{MAPPER} use_instance_mask sampling_frame_num num_classes",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_arguments(name: str):
    cls = getattr(modeling, name)
    init = inspect.unwrap(cls.__init__)
    assert [n for n in PUBLISHED[name].split() if n not in _known_arguments(cls, init)] == []
    with pytest.raises(TypeError, match=f"{name} has no argument unheard_of.*; it takes .*, .*"):
        cls(unheard_of=1)


@pytest.mark.parametrize("name", MAPPERS)
def test_published_arguments_of_mappers(name: str):
    given = {"is_train": True, "image_format": "BGR", "ignore_label": 7, "size_divisibility": 32}
    given |= {"augmentations": [], "tfm_gens": []}
    given |= {"use_instance_mask": True, "sampling_frame_num": 3, "num_classes": 5}
    cls = getattr(data, name)
    mapper = cls(**{argument: given[argument] for argument in MAPPERS[name].split()})
    assert mapper.image_format == "BGR"
    with pytest.raises(TypeError, match="has no argument unheard_of.*; it takes .*, .*"):
        cls(unheard_of=1)


SHAPES = {f"res{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 6)}
BUILT_WITH = {"Head": [SHAPES], "PixelDecoder": [SHAPES], "TransformerDecoder": [32, True]}


@pytest.fixture(scope="module")
def config():
    cfg = load_config(ROOT / "configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml")
    cfg.MODEL.MASK_FORMER.HIDDEN_DIM = cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 32
    cfg.INPUT.IMAGE_SIZE = 48
    return cfg


@pytest.mark.parametrize(
    "name", [n for n in PUBLISHED if n.endswith(("MaskFormer", "MaskFormerHead", "Decoder"))]
)
def test_a_from_config_returns_published_arguments_unless_ours_are_used(name: str, config):
    """So that a subclass may take these alone."""
    more = next((args for suffix, args in BUILT_WITH.items() if name.endswith(suffix)), [])
    published = set(PUBLISHED[name].split()) | {"transformer_dim_feedforward"}
    assert set(getattr(modeling, name).from_config(config, *more)) - published == set()


@pytest.mark.parametrize("name", MAPPERS)
def test_mappers_whose_subclasses_take_the_published_arguments_alone(name: str, config):
    base, names = getattr(data, name), MAPPERS[name].split()
    names += ["sampling_frame_range", "sampling_frame_shuffle"] * (name == "YTVISDatasetMapper")
    scope = {"base": base, "configurable": detectron2.config.configurable}
    taken = ", ".join(n for n in names if n != "use_instance_mask")
    passed = ", ".join(f"{n}={n}" for n in taken.split(", "))
    exec(
        f"class Own(base):\n"
        f"    @configurable\n"
        f"    def __init__(self, *, {taken}, own=1):\n"
        f"        base.__init__(self, {passed})\n",
        scope,
    )
    mapper = scope["Own"](config, True)
    assert mapper.is_train
    if "tfm_gens" in names:  # images are still padded
        image = T.AugInput(np.zeros((8, 8, 3), np.uint8))
        T.AugmentationList(mapper.tfm_gens)(image)
        assert image.image.shape == (48, 48, 3)
    with pytest.raises(TypeError, match="takes|unexpected"):
        scope["Own"](config, True, unheard_of=1)


def test_options_that_are_used_are_returned(config):
    cfg = config.clone()
    cfg.MODEL.MASK_FORMER.TEST.PRECISION, cfg.MODEL.MASK_FORMER.POINT_SEED = "bf16", 3
    found = MaskFormer.from_config(cfg)
    assert (found["precision"], found["point_seed"], "cuda_graphs" in found) == ("bf16", 3, False)
    assert unless_default(Own, width=1, depth=1, height=2) == {"width": 1, "height": 2}
    assert takes(Own, "depth") and not takes(Own, "length")


def test_real_classes_name_the_nearest():
    shapes = {"res2": ShapeSpec(channels=4, stride=4), "res3": ShapeSpec(channels=4, stride=8)}
    with pytest.raises(TypeError, match="BasePixelDecoder has no argument conv_dims; .*conv_dim"):
        BasePixelDecoder(shapes, conv_dims=8, mask_dim=8)
    with pytest.raises(TypeError, match="no argument weight_class; nearest: cost_class; it takes"):
        HungarianMatcher(weight_class=1.0)
    with pytest.raises(TypeError, match="MaskFormer has no argument test_topk; nearest: test_topk"):
        MaskFormer(test_topk=1)
