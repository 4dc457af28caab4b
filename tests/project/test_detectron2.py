"""detectron2's own tools with our models: what projects on it are written with."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2 import model_zoo as their_zoo
from detectron2.config import CfgNode, LazyCall, LazyConfig, get_cfg, instantiate
from detectron2.data import (
    DatasetCatalog,
    DatasetMapper,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data.detection_utils import annotations_to_instances, read_image
from detectron2.engine import DefaultPredictor, DefaultTrainer
from detectron2.evaluation import COCOEvaluator, SemSegEvaluator, inference_on_dataset
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.projects.deeplab import add_deeplab_config, build_lr_scheduler
from torch import nn

from mask2former import Predictor, add_maskformer2_config, model_zoo
from mask2former.data.datasets.builtin import register_shapes
from mask2former.data.synthetic import write_shapes
from mask2former.engine import build_optimizer
from mask2former.evaluation import InstanceSegEvaluator
from mask2former.modeling import (
    D2SwinTransformer,
    HungarianMatcher,
    MaskFormer,
    MaskFormerHead,
    MSDeformAttnPixelDecoder,
    MultiScaleMaskedTransformerDecoder,
    SetCriterion,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a small shapes dataset, registered in place of the usual one."""
    root = tmp_path_factory.mktemp("datasets")
    write_shapes(root, seed=5, train=4, val=3, size=64, workers=1)
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    for name in [name for name in DatasetCatalog.data if name.startswith("shapes_")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_shapes(str(root))
    yield root
    for catalog, data in zip((DatasetCatalog, MetadataCatalog), before, strict=True):
        catalog.data.clear()
        catalog.data.update(data)


def make_cfg(task: str, folder: Path) -> CfgNode:
    """A config as projects on detectron2 build one, without our reader of files."""
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_maskformer2_config(cfg)
    cfg.merge_from_file(str(ROOT / f"configs/shapes/{task}/maskformer2_lite0.yaml"))
    mask_former, head = cfg.MODEL.MASK_FORMER, cfg.MODEL.SEM_SEG_HEAD
    mask_former.HIDDEN_DIM = head.CONVS_DIM = head.MASK_DIM = 32
    mask_former.DEC_LAYERS, mask_former.NUM_OBJECT_QUERIES = 2, 10
    mask_former.TRAIN_NUM_POINTS = 64
    cfg.MODEL.DEVICE, cfg.MODEL.TIMM.PRETRAINED = "cpu", ""
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.CROP.ENABLED = 64, (64,), False
    cfg.MODEL.MASK_ON, cfg.INPUT.MASK_FORMAT = True, "bitmask"  # detectron2's mapper reads these
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.OUTPUT_DIR = str(folder)
    return cfg


# Evaluation


class KnowingHead(nn.Module):
    """Predicts the ground truth of the images of a dataset, which come in order."""

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        self.records = iter(DatasetCatalog.get(name))
        self.num_classes = num_classes

    def forward(self, features: Any, mask: Any = None) -> dict[str, torch.Tensor]:
        record = next(self.records)
        if "annotations" in record:
            objects = annotations_to_instances(record["annotations"], (64, 64), "bitmask")
            classes, masks = objects.gt_classes, objects.gt_masks.tensor
        else:
            labels = torch.from_numpy(read_image(record["sem_seg_file_name"], "L")[:, :, 0].copy())
            classes = labels[labels != 255].unique().long()
            masks = labels == classes[:, None, None]
        logits = 20 * nn.functional.one_hot(classes, self.num_classes + 1).float()
        return {"pred_logits": logits[None], "pred_masks": 20.0 * (2.0 * masks[None] - 1)}


def test_detectron2s_evaluator_of_instances(shapes: Path, tmp_path: Path) -> None:
    name = "shapes_val_instance"
    model = build_model(make_cfg("instance", tmp_path)).eval()
    scores = []
    theirs = COCOEvaluator(name, ("bbox", "segm"), False, str(tmp_path), use_fast_impl=False)
    for evaluator in (theirs, InstanceSegEvaluator(name, ("bbox", "segm"), False, str(tmp_path))):
        model.sem_seg_head = KnowingHead(name, 6)
        loader = build_detection_test_loader(make_cfg("instance", tmp_path), name)
        scores.append(inference_on_dataset(model, loader, evaluator))
    for task in ("bbox", "segm"):
        assert scores[0][task]["AP"] > 99.9
        for metric, value in scores[0][task].items():
            np.testing.assert_allclose(scores[1][task][metric], value, atol=1e-6, err_msg=metric)


def test_detectron2s_evaluator_of_semantic_scores(shapes: Path, tmp_path: Path) -> None:
    name = "shapes_val_sem_seg"
    model = build_model(make_cfg("semantic", tmp_path)).eval()
    model.sem_seg_head = KnowingHead(name, 10)
    loader = build_detection_test_loader(make_cfg("semantic", tmp_path), name)
    evaluator = SemSegEvaluator(name, False, str(tmp_path))
    scores = inference_on_dataset(model, loader, evaluator)["sem_seg"]
    assert scores["pACC"] > 99.9 and scores["mIoU"] > 99.9


# Prediction


def test_default_predictor(shapes: Path, tmp_path: Path) -> None:
    cfg = make_cfg("panoptic", tmp_path)
    torch.manual_seed(0)
    model = build_model(cfg)
    cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    torch.save(model.state_dict(), cfg.MODEL.WEIGHTS)
    photo = str(next((shapes / "shapes" / "images" / "val").iterdir()))
    image = read_image(photo, "BGR")[:50]
    results = DefaultPredictor(cfg)(image)
    assert results["sem_seg"].shape == (10, 50, 64)
    assert results["instances"].pred_masks.shape[1:] == (50, 64)
    assert results["panoptic_seg"][0].shape == (50, 64)
    ours = Predictor(cfg)(image)
    torch.testing.assert_close(results["sem_seg"], ours["sem_seg"])
    torch.testing.assert_close(results["instances"].scores, ours["instances"].scores)
    assert results["panoptic_seg"][1] == ours["panoptic_seg"][1]


# Training


def test_default_trainer(shapes: Path, tmp_path: Path) -> None:
    """With detectron2's mapper, loader, checkpoints and hooks."""
    cfg = make_cfg("instance", tmp_path)
    cfg.DATASETS.TEST = ()
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.AMP.ENABLED = 2, 2, False

    class Trainer(DefaultTrainer):
        @classmethod
        def build_train_loader(cls, cfg: CfgNode) -> Any:
            return build_detection_train_loader(cfg, mapper=DatasetMapper(cfg, is_train=True))

        @classmethod
        def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Any:
            return build_optimizer(cfg, model)

        @classmethod
        def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Any) -> Any:
            return build_lr_scheduler(cfg, optimizer)

    trainer = Trainer(cfg)
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.resume_or_load(resume=False)
    trainer.train()
    after = trainer.model.state_dict()
    assert not torch.equal(
        before["sem_seg_head.predictor.query_feat.weight"],
        after["sem_seg_head.predictor.query_feat.weight"],
    )
    assert torch.load(tmp_path / "model_final.pth")["iteration"] == 1
    again = Trainer(cfg)
    again.resume_or_load(resume=True)
    assert again.start_iter == 2
    assert all(torch.equal(again.model.state_dict()[name], value) for name, value in after.items())


# LazyConfig


def lazy_model() -> Any:
    """A whole model, with the published names of arguments."""
    widths = {"res2": 16, "res3": 32, "res4": 64, "res5": 128}
    features = {
        name: LazyCall(ShapeSpec)(channels=width, stride=2**i)
        for i, (name, width) in enumerate(widths.items(), 2)
    }
    return LazyCall(MaskFormer)(
        backbone=LazyCall(D2SwinTransformer)(
            embed_dim=16,
            depths=[2, 2, 2, 2],
            num_heads=[1, 2, 2, 4],
            window_size=4,
            drop_path_rate=0.1,
        ),
        sem_seg_head=LazyCall(MaskFormerHead)(
            input_shape=features,
            num_classes=3,
            ignore_value=255,
            loss_weight=1.0,
            pixel_decoder=LazyCall(MSDeformAttnPixelDecoder)(
                input_shape=features,
                transformer_dropout=0.0,
                transformer_nheads=4,
                transformer_enc_layers=1,
                conv_dim=32,
                mask_dim=16,
                norm="GN",
                transformer_in_features=["res3", "res4", "res5"],
                common_stride=4,
            ),
            transformer_in_feature="multi_scale_pixel_decoder",
            transformer_predictor=LazyCall(MultiScaleMaskedTransformerDecoder)(
                in_channels=32,
                mask_classification=True,
                num_classes="${..num_classes}",
                hidden_dim=32,
                num_queries="${...num_queries}",
                nheads=4,
                dim_feedforward=32,
                dec_layers=2,
                pre_norm=False,
                mask_dim=16,
                enforce_input_project=False,
            ),
        ),
        criterion=LazyCall(SetCriterion)(
            num_classes="${..sem_seg_head.num_classes}",
            matcher=LazyCall(HungarianMatcher)(
                cost_class=2.0, cost_mask=5.0, cost_dice=5.0, num_points=64
            ),
            weight_dict={"loss_ce": 2.0, "loss_mask": 5.0, "loss_dice": 5.0, "loss_ce_0": 1.0},
            eos_coef=0.1,
            losses=["labels", "masks"],
            num_points=64,
            oversample_ratio=3.0,
            importance_sample_ratio=0.75,
        ),
        num_queries=6,
        object_mask_threshold=0.0,
        overlap_threshold=0.0,
        metadata=LazyCall(MetadataCatalog.get)(name="shapes_val_instance"),
        size_divisibility=32,
        sem_seg_postprocess_before_inference=True,
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
        semantic_on=True,
        panoptic_on=False,
        instance_on=True,
        test_topk_per_image=5,
    )


def test_lazy_config(shapes: Path, tmp_path: Path) -> None:
    config = lazy_model()
    LazyConfig.save(config, str(tmp_path / "model.yaml"))
    assert "mask2former.modeling" in (tmp_path / "model.yaml").read_text()
    LazyConfig.apply_overrides(config, ["num_queries=7", "sem_seg_head.num_classes=6"])
    model = instantiate(config)
    assert model.sem_seg_head.predictor.query_feat.weight.shape == (7, 32)
    cfg = make_cfg("instance", tmp_path)
    records = DatasetCatalog.get("shapes_train_instance")[:2]
    batch = [DatasetMapper(cfg, is_train=True)(record) for record in records]
    losses = model(batch)
    assert set(losses) == {"loss_ce", "loss_mask", "loss_dice", "loss_ce_0"}
    sum(losses.values()).backward()
    with torch.no_grad():
        results = model.eval()([{"image": batch[0]["image"], "height": 30, "width": 40}])
    assert results[0]["sem_seg"].shape == (6, 30, 40)
    assert copy.deepcopy(model).state_dict().keys() == model.state_dict().keys()


def test_lazy_config_with_an_unknown_argument() -> None:
    config = lazy_model()
    config.sem_seg_head.transformer_predictor.num_query = 6
    with pytest.raises(
        TypeError, match="MultiScaleMaskedTransformerDecoder has no argument num_query; nearest: nu"
    ):
        instantiate(config)


# The model zoo


def test_the_zoo_has_the_functions_of_detectron2s() -> None:
    name = "coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"
    assert {n for n in their_zoo.__all__ if not hasattr(model_zoo, n)} == set()
    assert Path(model_zoo.get_config_file(name)).is_file()
    cfg = model_zoo.get_config(name)
    assert isinstance(cfg, CfgNode) and cfg.MODEL.META_ARCHITECTURE == "MaskFormer"
