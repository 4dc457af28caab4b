"""What test_distributed.py runs under torchrun, as a script: FOLDER [KEY VALUE ...].

All runs share one start, since that takes longer than they do.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2.structures import BitMasks, Instances
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from mask2former.config import load_config
from mask2former.engine import build_model, launch
from mask2former.engine.defaults import setup
from mask2former.engine.distributed import wrap_model
from mask2former.engine.selection.average import WeightAverage
from mask2former.engine.selection.scores import scored
from mask2former.engine.step import LossNotFiniteError, TrainStep
from tests.engine.stub import SignalledTrainer, StubTrainer, make_cfg

CONFIG = "configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"


def tiny_model() -> nn.Module:
    """A MaskFormer of the published kind, small, without batch statistics or dropout."""
    small = {
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": "",
        "MODEL.RESNETS.DEPTH": 18,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
        "MODEL.RESNETS.NORM": "FrozenBN",
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
        "MODEL.SEM_SEG_HEAD.MASK_DIM": 32,
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 5,
        "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1,
        "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
        "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 32,
        "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 10,
        "MODEL.MASK_FORMER.DEC_LAYERS": 3,
        "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 112,
        "MODEL.MASK_FORMER.POINT_SEED": 0,
    }
    path = Path(__file__).resolve().parents[3] / CONFIG
    torch.manual_seed(0)
    return build_model(load_config(path, [word for pair in small.items() for word in pair]))


def images() -> list[dict[str, Any]]:
    """Four images of 64x64 with 1, 3, 2 and 3 random rectangles: 3 for one process, 6 for two."""
    generator = torch.Generator().manual_seed(5)
    batch = []
    for index, count in enumerate((1, 3, 2, 3)):
        masks = torch.zeros(count, 64, 64, dtype=torch.bool)
        for mask in masks:
            top, left = torch.randint(0, 40, (2,), generator=generator).tolist()
            mask[top : top + 20, left : left + 24] = True
        classes = torch.randint(0, 5, (count,), generator=generator)
        instances = Instances((64, 64), gt_classes=classes, gt_masks=BitMasks(masks).tensor)
        image = torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8)
        name = f"{index}.jpg"
        batch.append({"image": image, "instances": instances, "file_name": name, "image_id": index})
    return batch


def write_mean_losses(folder: Path) -> None:
    """Writes the means over the processes of the losses, each on its share of the images."""
    rank, processes = comm.get_rank(), comm.get_world_size()
    losses = wrap_model(tiny_model())(images()[rank::processes])
    values = torch.stack([loss.detach() for loss in losses.values()])
    dist.all_reduce(values)
    if comm.is_main_process():
        means = dict(zip(losses, (values / processes).tolist(), strict=True))
        (folder / "losses.json").write_text(json.dumps(means))


def stop_and_resume(folder: Path, opts: list[str], args: argparse.Namespace) -> None:
    """Trains until process 1, and it alone, gets a signal in iteration 4; then to the end."""
    cfg = make_cfg(folder, *opts)
    setup(cfg, args)
    stopped = (SignalledTrainer if comm.get_rank() == 1 else StubTrainer)(cfg)
    try:
        stopped.train()
    except SystemExit as stop:
        code = stop.code
    saved = sorted(path.name for path in folder.glob("*.pth"))
    resumed = StubTrainer(cfg)
    resumed.resume_or_load(resume=True)
    resumed.train()
    report = {
        "code": code,
        "local": [comm.get_local_rank(), comm.get_local_size()],
        "saved": saved,
        "start": resumed.start_iter,
        "seen": resumed.model.module.seen,
    }
    (folder / f"process{comm.get_rank()}.json").write_text(json.dumps(report))


def write_steps_in_parts(folder: Path) -> None:
    """Writes the gradients of one step on two images a process, as one batch and in two parts."""
    batch = images()[comm.get_rank() :: 2]
    for parts in (1, 2):
        model = wrap_model(tiny_model())
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        with EventStorage():
            TrainStep(model, [batch], optimizer, accumulate=parts).run_step()
        gradients = {name: p.grad for name, p in model.module.named_parameters()}
        if comm.is_main_process():
            torch.save(gradients, folder / f"parts{parts}.pth")


class FailingTrainer(StubTrainer):
    """Has a loss that is not finite in iteration 4 of process 1 alone, which keeps it slowly."""

    def run_step(self) -> None:
        if self.iter == 4 and comm.get_rank() == 1:
            forward = self._trainer._forward
            self._trainer._forward = lambda batch: {n: x / 0 for n, x in forward(batch).items()}
        super().run_step()

    def _keep_failure(self, error: LossNotFiniteError) -> str:
        time.sleep(2 * comm.get_rank())
        return super()._keep_failure(error)


def fail_in_one(folder: Path) -> None:
    """Writes how each process ends, and whether the step was kept by then."""
    kept = folder / "failing" / "failure" / "failure.json"
    try:
        FailingTrainer(make_cfg(folder / "failing", "SOLVER.IMS_PER_BATCH", 4)).train()
    except FloatingPointError as error:
        report = [str(error), kept.is_file()]
    (folder / f"failure{comm.get_rank()}.json").write_text(json.dumps(report))


class Statistics(nn.Module):
    """A batch norm, whose mean after one step is 0.1 of its inputs'."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


def write_statistics(folder: Path) -> None:
    """Writes which statistics the parts of an evaluation see, after a step on other data each."""
    cfg = make_cfg(folder, "SOLVER.EMA.ENABLED", True, "TEST.EMA", "beside")
    model = wrap_model(Statistics())
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    average = WeightAverage(model.module, optimizer, decay=0.5, warmup=0.0)
    model(torch.tensor([[10.0], [20.0]]) * (1 + comm.get_rank())).sum().backward()
    optimizer.step()
    trained = mean_of(model)
    seen = scored(lambda _, scored_one: {"fit": mean_of(scored_one)}, cfg, model, average.model)
    report = {"trained": trained, "seen": seen}
    (folder / f"statistics{comm.get_rank()}.json").write_text(json.dumps(report))


def mean_of(model: nn.Module) -> float:
    return getattr(model, "module", model).norm.running_mean.item()


def main(args: argparse.Namespace) -> None:
    folder = Path(args.folder)
    stop_and_resume(folder, args.opts, args)
    write_mean_losses(folder)
    write_steps_in_parts(folder)
    write_statistics(folder)
    fail_in_one(folder)


if __name__ == "__main__":
    launch(main, argparse.Namespace(folder=sys.argv[1], opts=sys.argv[2:]), device="cpu")
