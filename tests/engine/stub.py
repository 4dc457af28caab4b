"""A trainer of a very small model on numbers, for tests of everything around the model."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, build_detection_test_loader
from detectron2.data import build_detection_train_loader as build_loader
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from torch import nn

from mask2former.config import get_config
from mask2former.config.loading import merge_opts
from mask2former.engine import Trainer

SIZE = 12
DATA = [{"index": i, "x": float(i % 5) - 2} for i in range(SIZE)]

if "stub" not in DatasetCatalog:
    DatasetCatalog.register("stub", lambda: DATA)


@META_ARCH_REGISTRY.register()
class StubModel(nn.Module):
    """Fits y = 2 x + 1; remembers the items it was trained on."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.backbone = nn.Linear(1, 1)
        self.norm = nn.BatchNorm1d(1)
        self.seen: list[int] = []

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        x = torch.tensor([[item["x"]] for item in batch])
        y = self.backbone(x)
        if not self.training:
            return [{"error": (y - 2 * x - 1).abs().item()}]
        self.seen += [item["index"] for item in batch]
        loss = (y - 2 * x - 1).square().mean() + 0 * self.norm.weight.sum() * self.norm.bias.sum()
        return {"loss_ce": loss, "loss_mask": 2 * loss, "loss_mask_0": 3 * loss}


class StubEvaluator(DatasetEvaluator):
    """Mean error over the data of all processes."""

    def reset(self) -> None:
        self.errors: list[float] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        self.errors += [output["error"] for output in outputs]

    def evaluate(self) -> dict[str, Any] | None:
        errors = [error for errors in comm.gather(self.errors) for error in errors]
        if not comm.is_main_process():
            return None
        return {"fit": {"error": sum(errors) / len(errors), "n": len(errors), "error-one": 0.0}}


class StubTrainer(Trainer):
    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        return build_loader(
            DATA,
            mapper=None,
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            aspect_ratio_grouping=False,
        )

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        return build_detection_test_loader(DATA, mapper=lambda item: item)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, name: str, output_folder: str | None = None) -> Any:
        return StubEvaluator()


def make_cfg(folder: Path | str, *opts: Any) -> CfgNode:
    """A config of ten iterations of two items each; ``opts`` are KEY VALUE pairs."""
    cfg = get_config()
    cfg.OUTPUT_DIR = str(folder)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "StubModel"
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("stub",)
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.BASE_LR = 0.05
    cfg.SOLVER.BACKBONE_MULTIPLIER = 1.0
    cfg.SOLVER.MAX_ITER = 10
    cfg.SOLVER.STEPS = (8,)
    cfg.SOLVER.CHECKPOINT_PERIOD = 3
    cfg.SOLVER.LOG_PERIOD = 2
    cfg.TRAINING.REPORT = False  # takes longer than these trainings
    merge_opts(cfg, opts)
    return cfg


class SignalledTrainer(StubTrainer):
    """Sends a signal to its process in the middle of an iteration."""

    number = signal.SIGTERM
    at_iter = 4

    def run_step(self) -> None:
        if self.iter == self.at_iter:
            os.kill(os.getpid(), self.number)
        super().run_step()
