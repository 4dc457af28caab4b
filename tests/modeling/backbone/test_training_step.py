"""Whole models with the backbones that have configs here: a step of training at an odd size."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances

from mask2former import load_config
from mask2former.engine.optimizer import build_optimizer

COCO, ADE = "configs/coco/panoptic-segmentation", "configs/ade20k/semantic-segmentation"
INSTANCE = "configs/coco/instance-segmentation"
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.MASK_FORMER.DEC_LAYERS", 2),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", 1, "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", 64),
    *("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 5, "MODEL.MASK_FORMER.DIM_FEEDFORWARD", 64),
]
DAT = [
    *("MODEL.DAT.EMBED_DIM", 16, "MODEL.DAT.NUM_HEADS", [1, 2, 4, 4]),
    *("MODEL.DAT.GROUPS", [-1, -1, 2, 4], "MODEL.DAT.DEPTHS", [2, 2, 2, 2]),
]
TIMM = ["MODEL.TIMM.PRETRAINED", "", "MODEL.TIMM.NAME"]


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (f"{INSTANCE}/dat/maskformer2_dat_tiny_bs16_50ep.yaml", DAT),
        (f"{COCO}/timm/maskformer2_convnext_tiny_bs16_50ep.yaml", [*TIMM, "test_convnext"]),
        (f"{ADE}/timm/maskformer2_dinov2_small_bs16_160k.yaml", [*TIMM, "test_vit"]),
    ],
)
def test_a_step_of_training(config, options):
    torch.manual_seed(0)
    cfg = load_config(config, [*SMALL, *options])
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)
    masks = torch.zeros(2, 53, 77, dtype=torch.bool)
    masks[0, :20], masks[1, 30:] = True, True
    target = Instances((53, 77), gt_classes=torch.tensor([1, 3]), gt_masks=masks)
    image = torch.randint(0, 256, (3, 53, 77), dtype=torch.uint8)
    losses = model([{"image": image, "instances": target, "height": 53, "width": 77}])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    before = [p.detach().clone() for p in model.backbone.parameters()]
    assert all(p.grad is not None for p in model.backbone.parameters())
    optimizer.step()
    pairs = list(zip(before, model.backbone.parameters()))
    assert sum(not torch.equal(a, b) for a, b in pairs) > 0.8 * len(pairs)


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
@pytest.mark.parametrize(
    "base", [f"{COCO}/dat/*_50ep", f"{INSTANCE}/dat/*_50ep", f"{ADE}/dat/*_160k"]
)
def test_configs_of_dat_have_its_sizes(base, size):
    cfg = load_config(base.replace("*", f"maskformer2_dat_{size}_bs16") + ".yaml").MODEL.DAT
    published = {
        "tiny": (96, [2, 2, 6, 2], [3, 6, 12, 24], [-1, -1, 3, 6]),
        "small": (96, [2, 2, 18, 2], [3, 6, 12, 24], [-1, -1, 3, 6]),
        "base": (128, [2, 2, 18, 2], [4, 8, 16, 32], [-1, -1, 4, 8]),
    }
    assert published[size] == (cfg.EMBED_DIM, cfg.DEPTHS, cfg.NUM_HEADS, cfg.GROUPS)
