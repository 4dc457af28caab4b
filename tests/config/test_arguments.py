"""Unknown arguments of constructors, and the published names of those that there are."""

import inspect

import pytest
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from mask2former import data, modeling
from mask2former.config.arguments import _known_arguments, checks_names, configurable
from mask2former.modeling import BasePixelDecoder, HungarianMatcher, MaskFormer


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


def test_real_classes_name_the_nearest():
    shapes = {"res2": ShapeSpec(channels=4, stride=4), "res3": ShapeSpec(channels=4, stride=8)}
    with pytest.raises(TypeError, match="BasePixelDecoder has no argument conv_dims; .*conv_dim"):
        BasePixelDecoder(shapes, conv_dims=8, mask_dim=8)
    with pytest.raises(TypeError, match="no argument weight_class; nearest: cost_class; it takes"):
        HungarianMatcher(weight_class=1.0)
    with pytest.raises(TypeError, match="MaskFormer has no argument test_topk; nearest: test_topk"):
        MaskFormer(test_topk=1)
