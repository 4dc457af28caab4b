"""Short trainings on drawn images, straight and in two parts, for tests of resuming.

As a script under torchrun: ``runs.py DATASETS OUTPUT [KEY VALUE ...]``.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import get_event_storage

from mask2former.config import load_config
from mask2former.data.datasets.builtin import register_shapes
from mask2former.engine import Trainer, launch

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "configs/shapes/panoptic/maskformer2_lite0.yaml"
STEPS, FIRST = 20, 7
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.TIMM.PRETRAINED": "",
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.DEC_LAYERS": 2,
    "MODEL.MASK_FORMER.DROPOUT": 0.1,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 10,
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 32,
    "INPUT.IMAGE_SIZE": 64,
    "INPUT.MIN_SIZE_TEST": 64,
    "DATALOADER.NUM_WORKERS": 2,
    "DATALOADER.ASPECT_RATIO_GROUPING": True,
    "DATASETS.TEST": "('shapes_val_panoptic',)",
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.MAX_ITER": STEPS,
    "SOLVER.CHECKPOINT_PERIOD": FIRST,
    "TEST.EVAL_PERIOD": FIRST,
    "SEED": 5,
}


class RecordingTrainer(Trainer):
    """Keeps every loss and the images of every step, and may stop itself as a signal does."""

    stops_in: int | None = None

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.losses: list[float] = []
        self.images: list[str] = []
        self.model.register_forward_pre_hook(self._note)

    def _note(self, model: Any, inputs: Any) -> None:
        if model.training:
            self.images += [Path(x["file_name"]).stem for x in inputs[0]]

    def run_step(self) -> None:
        if self.iter == self.stops_in:
            os.kill(os.getpid(), signal.SIGTERM)
        super().run_step()
        self.losses.append(get_event_storage().latest()["total_loss"][0])


def use_shapes(root: Path) -> None:
    """Register the shapes of a folder in place of the usual ones."""
    for name in [name for name in DatasetCatalog.data if name.startswith("shapes_")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_shapes(str(root))


def train(
    output: Path | str, *, resume: bool = False, stops_in: int | None = None, **opts: Any
) -> RecordingTrainer:
    """Train as SMALL and ``opts`` say (``__`` for a dot), until iteration ``stops_in``.

    Of several trainings in a process, the first has another state of Python's generator, which no
    loss depends on: rich draws from it when imported, after seeding and before a state is restored.
    """
    words = {**SMALL, **{k.replace("__", "."): v for k, v in opts.items()}, "OUTPUT_DIR": output}
    cfg = load_config(CONFIG, [str(word) for pair in words.items() for word in pair])
    seed_all_rng(cfg.SEED + comm.get_rank() + 100 * resume)  # as a new process, or not even so
    trainer = RecordingTrainer(cfg)
    trainer.stops_in = stops_in
    trainer.resume_or_load(resume=resume)
    try:
        trainer.train()
    except SystemExit as stop:
        assert stops_in is not None and stop.code == 143
    return trainer


def main(args: argparse.Namespace) -> None:
    """Write the losses and images of this process, straight and in two parts."""
    use_shapes(Path(args.datasets))
    opts = dict(zip(args.opts[::2], args.opts[1::2], strict=True))
    straight = train(f"{args.output}/straight", **opts)
    first = train(f"{args.output}/parts", stops_in=FIRST - 1, **opts)
    second = train(f"{args.output}/parts", resume=True, **opts)
    report = {
        "straight": [straight.losses, straight.images],
        "parts": [first.losses + second.losses, first.images + second.images],
    }
    Path(args.output, f"process{comm.get_rank()}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    arguments = {"datasets": sys.argv[1], "output": sys.argv[2], "opts": sys.argv[3:]}
    launch(main, argparse.Namespace(**arguments), device="cpu")
