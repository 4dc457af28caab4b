"""How many images fit: on CUDA by a stand-in that runs out of memory, on a CPU by what is said."""

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from torch import nn

from mask2former.config import get_config, load_config
from mask2former.engine import build_model
from mask2former.engine.auto_batch import fit_batch, largest_size, largest_that_fits, made_up_batch
from mask2former.errors import UserError
from tests.engine.resume.runs import ROOT
from tests.modeling.small import tiny_model

CUDA = torch.device("cuda")


class Limited(nn.Module):
    """Has room for so many images, and a batch norm that each call changes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.room = room
        self.tried: list[int] = []

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        self.tried.append(len(batch))
        loss = self.norm(torch.stack([x["image"] for x in batch]).float()).mean() + torch.rand(())
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return {"loss": loss}


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_config()
    cfg.SOLVER.AUTO_BATCH = True
    cfg.SOLVER.IMS_PER_BATCH = 12
    cfg.INPUT.DATASET_MAPPER_NAME = "coco_panoptic_lsj"
    cfg.INPUT.IMAGE_SIZE = 32
    return cfg


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the search see a GPU of 100 bytes, of which a step takes 40 at most."""
    used = {
        "empty_cache": None,
        "reset_peak_memory_stats": None,
        "mem_get_info": (100, 100),
        "memory_allocated": 0,
        "max_memory_allocated": 40,
        "get_device_name": "a GPU",
    }
    for name, value in used.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, v=value: v)


@pytest.mark.parametrize(
    ("room", "tried", "parts"),
    [(12, [12], 1), (5, [12, 6, 4], 3), (1, [12, 6, 4, 3, 2, 1], 12)],
)
def test_the_largest_part_that_fits(
    cfg: CfgNode, gpu: None, room: int, tried: list[int], parts: int
) -> None:
    model = Limited(room)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    found = fit_batch(cfg, model, None, CUDA)
    assert model.tried == tried
    assert parts == found.SOLVER.ACCUMULATE and found.SOLVER.IMS_PER_BATCH == 12
    assert torch.equal(torch.rand(3), expected)
    assert model.norm.num_batches_tracked == 0 and not model.norm.running_mean.any()
    assert model.norm.weight.grad is None


def test_one_image_that_does_not_fit(cfg: CfgNode, gpu: None) -> None:
    with pytest.raises(UserError, match=r"not even one image of 32x32 .* fits into a GPU"):
        fit_batch(cfg, Limited(0), None, CUDA)


def test_the_optimizer_needs_room_as_well(
    cfg: CfgNode, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 6 weights of 8 bytes beside the peak of 40, of which 90 of 100 may be used
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda *_: 42)
    assert fit_batch(cfg, Limited(12), None, CUDA).SOLVER.ACCUMULATE == 1
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda *_: 43)
    with pytest.raises(UserError, match="not even one"):
        fit_batch(cfg, Limited(12), None, CUDA)


def test_other_errors_are_not_taken_for_it(cfg: CfgNode, gpu: None) -> None:
    model = Limited(12)
    model.norm = nn.BatchNorm2d(4)
    with pytest.raises(RuntimeError, match="running_mean"):
        fit_batch(cfg, model, None, CUDA)


def test_a_cpu_says_what_it_needs(cfg: CfgNode, messages: pytest.LogCaptureFixture) -> None:
    model = Limited(12)
    assert fit_batch(cfg, model, None) == cfg
    assert model.tried == [1]
    assert "a step of 12 images at once" in messages.text
    cfg.SOLVER.AUTO_BATCH = False
    assert fit_batch(cfg, model, None) is cfg and model.tried == [1]


def test_divisors() -> None:
    assert largest_that_fits(10, lambda n: n <= 4) == 2
    assert largest_that_fits(7, lambda n: n < 7) == 1
    assert largest_that_fits(7, lambda n: False) == 0


def test_the_batch_has_the_largest_size(cfg: CfgNode) -> None:
    assert largest_size(cfg) == (32, 32)
    cfg.INPUT.DATASET_MAPPER_NAME = "mask_former_semantic"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (40, 60), 90
    assert largest_size(cfg) == (60, 90)
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", (48, 64)
    batch = made_up_batch(cfg, 3)
    assert len(batch) == 3 and batch[0]["image"].shape == (3, 48, 64)
    targets = batch[0]["instances"]
    assert len(targets) == 50 and targets.gt_masks.any(2).any(1).all()


def test_a_real_model_takes_the_batch(cfg: CfgNode) -> None:
    model = tiny_model().train()
    cfg.INPUT.IMAGE_SIZE = 64
    losses = model(made_up_batch(cfg, 2))
    assert losses and all(value.isfinite() for value in losses.values())


@pytest.mark.parametrize(
    ("name", "opts"),
    [
        ("mask-classification", ()),
        (
            "semantic",
            ("MODEL.META_ARCHITECTURE", "SemanticSegmentor",
             "MODEL.SEM_SEG_HEAD.NAME", "PerPixelBaselineHead"),
        ),
        ("video", ("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MAX_SIZE_TRAIN", 64)),
    ],
)  # fmt: skip
def test_models_of_every_kind_take_the_batch(name: str, opts: tuple[Any, ...]) -> None:
    cfg = load_config(
        ROOT / f"configs/shapes/{name}/maskformer2_lite0.yaml",
        [str(x) for x in ("MODEL.DEVICE", "cpu", "MODEL.TIMM.PRETRAINED", "", *opts)],
    )
    cfg.INPUT.IMAGE_SIZE, cfg.INPUT.CROP.SIZE = 64, [64, 64]
    losses = build_model(cfg).train()(made_up_batch(cfg, 1))
    assert losses and all(value.isfinite() and value > 0 for value in losses.values())
