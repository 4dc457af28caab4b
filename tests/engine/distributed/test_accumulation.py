"""Batches in parts: the same losses and gradients; schedules that follow the batch."""

from typing import Any

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from mask2former.config import get_config
from mask2former.engine.accumulation import in_parts, scale_to_batch
from mask2former.engine.step import TrainStep
from mask2former.modeling.criterion.totals import StepTotals
from tests.engine.distributed.two_processes import images, tiny_model
from tests.engine.stub import StubTrainer, make_cfg


def step_on(batch: Any, parts: int, model: nn.Module) -> tuple[dict[str, float], list[Any]]:
    """The losses of one step and the gradients that it leaves."""
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    step = TrainStep(model, [batch], optimizer, accumulate=parts)
    with EventStorage() as storage:
        step.run_step()
    losses = {name: value for name, (value, _) in storage.latest().items() if "loss" in name}
    return losses, [p.grad for p in model.parameters()]


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("queries", [10, 2])  # two are fewer than some images have objects
def test_parts_add_up_to_the_batch(parts: int, queries: int) -> None:
    found = []
    for count in (1, parts):
        model = tiny_model()
        if queries < 10:
            decoder = model.sem_seg_head.predictor
            for table in (decoder.query_feat, decoder.query_embed):
                table.weight = nn.Parameter(table.weight[:queries].detach())
            decoder.num_queries = queries
        found.append(step_on(images(), count, model))
    (whole, expected), (added, got) = found
    assert whole.keys() == added.keys() and len(whole) == 10
    for name, value in whole.items():
        assert added[name] == pytest.approx(value, rel=1e-5), name
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_unequal_parts_would_not_add_up_by_their_means() -> None:
    """The images have 1, 3, 2 and 3 objects: a mean of the parts' losses is another number."""
    whole, _ = step_on(images(), 1, tiny_model())
    model = tiny_model()
    model.divided_by_step = lambda parts: None
    means, _ = step_on(images(), 2, model)
    for name in ("loss_ce", "loss_mask", "loss_dice"):
        assert abs(means[name] / whole[name] - 1) > 1e-3


def test_weights_of_all_queries_by_hand() -> None:
    weights = torch.tensor([1.0, 3.0, 0.1])
    labels = [torch.tensor([0, 1]), torch.tensor([], dtype=torch.int64), torch.tensor([1] * 6)]
    # Of five queries: 1 + 3 + 3 * 0.1, then 5 * 0.1, then 5 * 3, as one target finds no query.
    total = StepTotals(labels, 1.0).class_weight(5, weights)
    assert total.item() == pytest.approx(4.3 + 0.5 + 15)


def test_a_loss_of_ones_own_is_a_mean_of_the_parts(tmp_path: Any) -> None:
    """The stub's loss is a mean over its batch, so the mean of equal parts is exact."""
    runs = []
    for parts in (1, 4):
        torch.manual_seed(0)
        cfg = make_cfg(tmp_path / str(parts), "SOLVER.ACCUMULATE", parts, "SEED", 3)
        cfg.SOLVER.IMS_PER_BATCH = 4
        trainer = StubTrainer(cfg)
        trainer.data_loader.dataset.sampler._seed = 1
        trainer.train()
        runs.append(trainer.model)
    assert runs[0].seen == runs[1].seen
    torch.testing.assert_close(runs[0].backbone.weight, runs[1].backbone.weight)


@pytest.mark.parametrize(("count", "sizes"), [(1, [6]), (2, [3, 3]), (6, [1] * 6)])
def test_parts_keep_the_order(count: int, sizes: list[int]) -> None:
    parts = in_parts(list(range(6)), count)
    assert [len(part) for part in parts] == sizes
    assert [x for part in parts for x in part] == list(range(6))


@pytest.mark.parametrize("parts", [0, 3, 8])
def test_parts_that_do_not_divide_are_refused_at_the_start(tmp_path: Any, parts: int) -> None:
    cfg = make_cfg(tmp_path, "SOLVER.ACCUMULATE", parts, "SOLVER.IMS_PER_BATCH", 4)
    with pytest.raises(ValueError, match=f"SOLVER.ACCUMULATE is {parts}, which does not divide"):
        StubTrainer(cfg)


def test_a_batch_of_another_loader_that_does_not_divide() -> None:
    with pytest.raises(ValueError, match="is 4, but a process has 6 images in a step"):
        in_parts(list(range(6)), 4)


def test_the_schedule_follows_the_batch(messages: pytest.LogCaptureFixture) -> None:
    cfg = get_config()
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_BATCH, cfg.SOLVER.BASE_LR = 4, 16, 1e-4
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS = 1000, (800, 901), 10
    cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD = 5000, 0
    cfg.freeze()
    scaled = scale_to_batch(cfg)
    assert abs(scaled.SOLVER.BASE_LR / 2.5e-5 - 1) < 1e-9
    assert (scaled.SOLVER.MAX_ITER, scaled.SOLVER.STEPS) == (4000, (3200, 3604))
    assert (scaled.SOLVER.WARMUP_ITERS, scaled.SOLVER.CHECKPOINT_PERIOD) == (40, 20000)
    assert scaled.TEST.EVAL_PERIOD == 0 and scaled.is_frozen()
    assert "for batches of 16 are scaled to 4: BASE_LR 2.5e-05, MAX_ITER 4000" in messages.text
    assert scale_to_batch(scaled) is scaled and cfg.SOLVER.MAX_ITER == 1000


def test_two_rules_for_one_schedule_are_refused() -> None:
    cfg = get_config()
    cfg.SOLVER.REFERENCE_BATCH, cfg.SOLVER.REFERENCE_WORLD_SIZE = 4, 8
    with pytest.raises(ValueError, match="set one of them above 0"):
        scale_to_batch(cfg)
