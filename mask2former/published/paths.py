"""Where the published import paths lead: one table, which `import_hook` makes importable.

A block is a module of the published packages. A line is a module of ours (a leading "." stands for
mask2former) or of detectron2, and the names that lead there: to the same object or, in `published`,
to one that is called as published; `theirs=ours` where it has another name here. A "!" is before
names that cannot be had, and what to use instead.
"""

from functools import cache
from typing import NamedTuple

_TABLE = """
mask2former.maskformer_model
    .modeling MaskFormer HungarianMatcher SetCriterion

mask2former.test_time_augmentation
    .modeling SemanticSegmentorWithTTA

mask2former.data.dataset_mappers
    .data COCOInstanceNewBaselineDatasetMapper COCOPanopticNewBaselineDatasetMapper
    .data MaskFormerInstanceDatasetMapper MaskFormerPanopticDatasetMapper
    .data MaskFormerSemanticDatasetMapper

mask2former.data.dataset_mappers.coco_instance_new_baseline_dataset_mapper
    .data COCOInstanceNewBaselineDatasetMapper
    .published.datasets build_transform_gen convert_coco_poly_to_mask

mask2former.data.dataset_mappers.coco_panoptic_new_baseline_dataset_mapper
    .data COCOPanopticNewBaselineDatasetMapper
    .published.datasets build_transform_gen

mask2former.data.dataset_mappers.mask_former_instance_dataset_mapper
    .data MaskFormerInstanceDatasetMapper

mask2former.data.dataset_mappers.mask_former_panoptic_dataset_mapper
    .data MaskFormerPanopticDatasetMapper MaskFormerSemanticDatasetMapper

mask2former.data.dataset_mappers.mask_former_semantic_dataset_mapper
    .data MaskFormerSemanticDatasetMapper

mask2former.data.datasets.register_ade20k_full
    .data.datasets.builtin register_all_ade20k_full=register_ade20k_full
    ! ADE20K_SEM_SEG_FULL_CATEGORIES: mask2former.data.categories.load_categories("ade20k_full")

mask2former.data.datasets.register_ade20k_instance
    .published.datasets ADE_CATEGORIES
    .data.datasets.builtin register_all_ade20k_instance=register_ade20k

mask2former.data.datasets.register_ade20k_panoptic
    .published.datasets ADE20K_150_CATEGORIES
    .data.datasets.builtin register_all_ade20k_panoptic=register_ade20k
    ! register_ade20k_panoptic load_ade20k_panoptic_json: mask2former.data.register
    ! get_metadata: detectron2's MetadataCatalog

mask2former.data.datasets.register_coco_panoptic_annos_semseg
    .data.datasets.builtin register_all_coco_panoptic_annos_sem_seg=register_coco_panoptic
    ! register_coco_panoptic_annos_sem_seg load_coco_panoptic_json: mask2former.data.register
    ! get_metadata: detectron2's MetadataCatalog

mask2former.data.datasets.register_coco_stuff_10k
    .published.datasets COCO_CATEGORIES=COCO_STUFF_10K_CATEGORIES
    .data.datasets.builtin register_all_coco_stuff_10k=register_coco_stuff_10k

mask2former.data.datasets.register_mapillary_vistas
    .data.datasets.builtin register_all_mapillary_vistas=register_mapillary_vistas
    ! MAPILLARY_VISTAS_SEM_SEG_CATEGORIES: that of register_mapillary_vistas_panoptic

mask2former.data.datasets.register_mapillary_vistas_panoptic
    .published.datasets MAPILLARY_VISTAS_SEM_SEG_CATEGORIES
    .data.datasets.builtin register_all_mapillary_vistas_panoptic=register_mapillary_vistas
    ! register_mapillary_vistas_panoptic: mask2former.data.register
    ! get_metadata: detectron2's MetadataCatalog
    ! load_mapillary_vistas_panoptic_json: mask2former.data.register

mask2former.evaluation.instance_evaluation
    .evaluation InstanceSegEvaluator

mask2former.modeling.criterion
    .published.losses dice_loss dice_loss_jit=dice_loss calculate_uncertainty
    .published.losses sigmoid_ce_loss sigmoid_ce_loss_jit=sigmoid_ce_loss
    .published.misc is_dist_avail_and_initialized nested_tensor_from_tensor_list
    detectron2.projects.point_rend.point_features point_sample
    detectron2.projects.point_rend.point_features get_uncertain_point_coords_with_randomness

mask2former.modeling.matcher
    .modeling HungarianMatcher
    .published.losses batch_dice_loss batch_dice_loss_jit=batch_dice_loss
    .published.losses batch_sigmoid_ce_loss batch_sigmoid_ce_loss_jit=batch_sigmoid_ce_loss
    detectron2.projects.point_rend.point_features point_sample

mask2former.modeling.backbone.swin
    .modeling SwinTransformer=D2SwinTransformer
    ! SwinTransformerBlock BasicLayer: mask2former.layers.SwinBlock, which takes maps (B, H, W, C)
    ! WindowAttention: mask2former.layers.WindowAttention, which takes maps (B, H, W, C)
    ! Mlp window_partition window_reverse: those of timm or torchvision

mask2former.modeling.meta_arch.mask_former_head
    .modeling MaskFormerHead
    .modeling.meta_arch.heads build_pixel_decoder build_transformer_decoder

mask2former.modeling.meta_arch.per_pixel_baseline
    .modeling PerPixelBaselineHead PerPixelBaselinePlusHead
    .modeling.meta_arch.heads build_pixel_decoder build_transformer_decoder

mask2former.modeling.pixel_decoder.fpn
    .modeling.meta_arch.heads build_pixel_decoder
    ! TransformerEncoderOnly: mask2former.layers.TransformerEncoder, batch first

mask2former.modeling.pixel_decoder.msdeformattn
    .modeling.meta_arch.heads build_pixel_decoder
    .published.deform_attn MSDeformAttn
    .published.deformable_encoder MSDeformAttnTransformerEncoder
    .published.deformable_encoder MSDeformAttnTransformerEncoderLayer
    .published.layers _get_clones=get_clones _get_activation_fn=get_activation_fn

mask2former.modeling.pixel_decoder.ops
mask2former.modeling.pixel_decoder.ops.modules
    .published.deform_attn MSDeformAttn

mask2former.modeling.pixel_decoder.ops.modules.ms_deform_attn
    .published.deform_attn MSDeformAttn MSDeformAttnFunction ms_deform_attn_core_pytorch

mask2former.modeling.pixel_decoder.ops.functions
    .published.deform_attn MSDeformAttnFunction

mask2former.modeling.pixel_decoder.ops.functions.ms_deform_attn_func
    .published.deform_attn MSDeformAttnFunction ms_deform_attn_core_pytorch
    ! MSDA: MSDeformAttnFunction of the same module; there is no compiled operator

mask2former.modeling.transformer_decoder.mask2former_transformer_decoder
    .published.decoders MultiScaleMaskedTransformerDecoder
    .published.layers SelfAttentionLayer CrossAttentionLayer FFNLayer
    .published.layers _get_activation_fn=get_activation_fn
    .layers MLP PositionEmbeddingSine
    .modeling TRANSFORMER_DECODER_REGISTRY

mask2former.modeling.transformer_decoder.maskformer_transformer_decoder
    .modeling StandardTransformerDecoder TRANSFORMER_DECODER_REGISTRY
    .modeling.meta_arch.heads build_transformer_decoder
    .layers MLP PositionEmbeddingSine
    ! Transformer: mask2former.layers.transformer, batch first

mask2former.modeling.transformer_decoder.position_encoding
    .layers PositionEmbeddingSine

mask2former.modeling.transformer_decoder.transformer
    .published.layers _get_clones=get_clones _get_activation_fn=get_activation_fn
    ! Transformer: TransformerEncoder and TransformerDecoder of mask2former.layers, batch first
    ! TransformerEncoder: mask2former.layers.TransformerEncoder, batch first
    ! TransformerDecoder: mask2former.layers.TransformerDecoder, batch first
    ! TransformerEncoderLayer TransformerDecoderLayer: mask2former.layers.transformer, batch first

mask2former.utils
mask2former.utils.memory
    detectron2.utils.memory retry_if_cuda_oom

mask2former.utils.misc
    .published.misc NestedTensor nested_tensor_from_tensor_list is_dist_avail_and_initialized
    ! _onnx_nested_tensor_from_tensor_list: nested_tensor_from_tensor_list of the same module

mask2former_video.config
    .config add_maskformer2_video_config

mask2former_video.video_maskformer_model
    .modeling VideoMaskFormer
    .modeling VideoHungarianMatcher=HungarianMatcher VideoSetCriterion=SetCriterion
    detectron2.utils.memory retry_if_cuda_oom

mask2former_video.data_video
    . YTVISDatasetMapper CocoClipDatasetMapper YTVISEvaluator
    . build_detection_train_loader build_detection_test_loader get_detection_dataset_dicts

mask2former_video.data_video.augmentation
    ! build_augmentation: mask2former.data.ClipMapper, which treats the frames of a clip alike
    ! ResizeShortestEdge RandomFlip: detectron2's, with mask2former.data.ClipMapper

mask2former_video.data_video.build
    . build_detection_train_loader build_detection_test_loader get_detection_dataset_dicts
    detectron2.data.build filter_images_with_only_crowd_annotations

mask2former_video.data_video.dataset_mapper
    . YTVISDatasetMapper CocoClipDatasetMapper
    ! filter_empty_instances ytvis_annotations_to_instances: mask2former.data.ClipMapper

mask2former_video.data_video.ytvis_eval
    . YTVISEvaluator
    .evaluation.results instances_to_coco_json_video=results_of_clip

mask2former_video.data_video.datasets
mask2former_video.data_video.datasets.builtin
    .published.datasets register_ytvis_instances
    .published.datasets _get_ytvis_2019_instances_meta=ytvis_2019_metadata
    .published.datasets _get_ytvis_2021_instances_meta=ytvis_2021_metadata
    ! register_all_ytvis_2019: mask2former.data.datasets.register_video_datasets
    ! register_all_ytvis_2021: mask2former.data.datasets.register_video_datasets

mask2former_video.data_video.datasets.ytvis
    .published.datasets register_ytvis_instances YTVIS_CATEGORIES_2019 YTVIS_CATEGORIES_2021
    .published.datasets _get_ytvis_2019_instances_meta=ytvis_2019_metadata
    .published.datasets _get_ytvis_2021_instances_meta=ytvis_2021_metadata
    ! load_ytvis_json: mask2former.data.datasets.ytvis.VideoLoader, which lists objects

mask2former_video.data_video.datasets.ytvis_api
mask2former_video.data_video.datasets.ytvis_api.ytvos
    ! YTVOS: mask2former.data.datasets.ytvis.VideoLoader

mask2former_video.data_video.datasets.ytvis_api.ytvoseval
    ! YTVOSeval: mask2former.evaluation.evaluate_ytvis, or YTVISEvaluator beside it

mask2former_video.modeling
    .published.decoders VideoMultiScaleMaskedTransformerDecoder

mask2former_video.modeling.criterion
    .modeling VideoSetCriterion=SetCriterion
    .published.losses dice_loss dice_loss_jit=dice_loss calculate_uncertainty
    .published.losses sigmoid_ce_loss sigmoid_ce_loss_jit=sigmoid_ce_loss
    .published.misc is_dist_avail_and_initialized
    detectron2.projects.point_rend.point_features point_sample
    detectron2.projects.point_rend.point_features get_uncertain_point_coords_with_randomness

mask2former_video.modeling.matcher
    .modeling VideoHungarianMatcher=HungarianMatcher
    .published.losses batch_dice_loss batch_dice_loss_jit=batch_dice_loss
    .published.losses batch_sigmoid_ce_loss batch_sigmoid_ce_loss_jit=batch_sigmoid_ce_loss
    detectron2.projects.point_rend.point_features point_sample

mask2former_video.modeling.transformer_decoder
    .published.decoders VideoMultiScaleMaskedTransformerDecoder

mask2former_video.modeling.transformer_decoder.position_encoding
    .layers PositionEmbeddingSine3D

mask2former_video.modeling.transformer_decoder.video_mask2former_transformer_decoder
    .published.decoders VideoMultiScaleMaskedTransformerDecoder
    .published.layers SelfAttentionLayer CrossAttentionLayer FFNLayer
    .published.layers _get_activation_fn=get_activation_fn
    .layers MLP PositionEmbeddingSine3D
    .modeling TRANSFORMER_DECODER_REGISTRY

mask2former_video.utils
mask2former_video.utils.memory
    detectron2.utils.memory retry_if_cuda_oom

mask2former_video.utils.misc
    .published.misc NestedTensor nested_tensor_from_tensor_list is_dist_avail_and_initialized
    ! _onnx_nested_tensor_from_tensor_list: nested_tensor_from_tensor_list of the same module
"""


class PublishedModule(NamedTuple):
    """What one published module has.

    Attributes:
        names: where each name leads, "module:name".
        instead: what to use in place of each name that cannot be had.
    """

    names: dict[str, str]
    instead: dict[str, str]


@cache
def published_modules() -> dict[str, PublishedModule]:
    """Read the table."""
    modules: dict[str, PublishedModule] = {}
    for line in filter(None, _TABLE.splitlines()):
        if not line.startswith(" "):
            module = modules.setdefault(line, PublishedModule({}, {}))
            continue
        first, *rest = line.split()
        if first == "!":
            names, _, advice = line.partition("!")[2].partition(":")
            module.instead.update(dict.fromkeys(names.split(), advice.strip()))
            continue
        where = "mask2former" + first.rstrip(".") if first.startswith(".") else first
        for theirs, _, ours in (name.partition("=") for name in rest):
            module.names[theirs] = f"{where}:{ours or theirs}"
    return modules
