"""Trainings on a GPU, where there is one: precisions, memory, and runs that go on."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mask2former.config import load_config
from mask2former.engine import build_model
from mask2former.engine.auto_batch import fit_batch, made_up_batch
from mask2former.errors import UserError
from mask2former.predict import VideoPredictor
from tests.engine.resume.runs import CONFIG, FIRST, ROOT, SMALL, STEPS, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@contextmanager
def room_for(gib: float) -> Iterator[None]:
    """Leave a process so much of the GPU's memory."""
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(gib * 2**30 / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_precisions_learn_alike(shapes: Path, tmp_path: Path, dtype: str) -> None:
    opts: dict[str, Any] = {"MODEL__DEVICE": "cuda"}
    exact = train(tmp_path / "fp32", stops_in=0, **opts)
    opts |= {"SOLVER__AMP__ENABLED": True, "SOLVER__AMP__DTYPE": dtype, "TEST__LOSS": True}
    opts |= {"SOLVER__EMA__ENABLED": True, "TEST__BEST__METRIC": "panoptic_seg/PQ"}
    run = train(tmp_path / "run", **opts)
    assert len(run.losses) == STEPS and run.losses[-1] < run.losses[0]
    assert run.losses[0] == pytest.approx(exact.losses[0], rel=0.05)  # a match may be another one
    kept = torch.load(tmp_path / "run/model_best.pth")["model"]
    assert all(torch.isfinite(value).all() for value in kept.values())


def test_resumed_runs_draw_the_same_random_numbers(shapes: Path, tmp_path: Path) -> None:
    """Dropout and points are the GPU's; its sums differ in their last digits in every run."""
    opts = {"MODEL__DEVICE": "cuda"}
    straight = train(tmp_path / "straight", **opts)
    first = train(tmp_path / "parts", stops_in=FIRST - 1, **opts)
    torch.cuda.manual_seed(1)
    second = train(tmp_path / "parts", resume=True, **opts)
    assert first.images + second.images == straight.images
    losses = first.losses + second.losses
    assert losses[: FIRST + 1] == pytest.approx(straight.losses[: FIRST + 1], rel=1e-2)


def cfg_for(*opts: Any) -> Any:
    words = {**SMALL, "MODEL.DEVICE": "cuda", "DATASETS.TRAIN": "()", "DATASETS.TEST": "()"}
    return load_config(CONFIG, [*(str(x) for pair in words.items() for x in pair), *map(str, opts)])


def test_largest_batch_that_fits() -> None:
    """Half of the memory of a step of 16 has room for fewer, and that many pass."""
    cfg = cfg_for("SOLVER.AUTO_BATCH", True, "SOLVER.IMS_PER_BATCH", 16, "INPUT.IMAGE_SIZE", 256)
    model = build_model(cfg).train()
    assert fit_batch(cfg, model, None).SOLVER.ACCUMULATE == 1
    torch.cuda.reset_peak_memory_stats()
    sum(model(made_up_batch(cfg, 16)).values()).backward()
    needed = torch.cuda.max_memory_allocated() / 2**30
    model.zero_grad(set_to_none=True)
    with room_for(needed / 2):
        parts = fit_batch(cfg, model, None).SOLVER.ACCUMULATE
        assert 2 <= parts <= 8
        sum(model(made_up_batch(cfg, 16 // parts)).values()).backward()
        with pytest.raises(torch.OutOfMemoryError) as error:
            model(made_up_batch(cfg, 16))
    assert "256x256 (width x height), 10 objects" in "".join(error.value.__notes__)
    room = room_for(torch.cuda.memory_allocated() / 2**30 + 0.01)
    with room, pytest.raises(UserError, match="not even one image of 256x256"):
        fit_batch(cfg, model, None)


def test_videos_have_one_precision() -> None:
    """What streams through the predictor and what an evaluation scores come from float16."""
    config = ROOT / "configs/shapes/video/maskformer2_lite0.yaml"
    cfg = load_config(config, ["MODEL.DEVICE", "cuda", "MODEL.TIMM.PRETRAINED", ""])
    torch.manual_seed(0)
    predictor = VideoPredictor(cfg, "", window=0)
    dtypes = []
    layer = predictor.model.sem_seg_head.predictor.class_embed
    layer.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    frames = [np.full((128, 128, 3), 40 * i, np.uint8) for i in range(3)]
    assert len(list(predictor(frames))) == 3
    clip = [torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in frames]
    predictor.model([{"image": clip, "height": 128, "width": 128}])
    assert set(dtypes) == {torch.float16}
