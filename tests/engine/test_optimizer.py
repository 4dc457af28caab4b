"""Parameter rates against the published counts and by hand; clipping; regrouping of old states."""

import copy
from collections import Counter

import pytest
import torch
from detectron2.config import CfgNode
from torch import nn

from mask2former.config import get_config
from mask2former.engine import build_lr_scheduler, build_optimizer
from mask2former.engine.optimizer import parameter_settings

R50 = "configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"


def make_cfg(**solver: object) -> CfgNode:
    cfg = get_config()
    defaults = {"BASE_LR": 1e-2, "WEIGHT_DECAY": 0.05, "BACKBONE_MULTIPLIER": 0.1}
    for key, value in {**defaults, **solver}.items():
        node = cfg.SOLVER.CLIP_GRADIENTS if key in cfg.SOLVER.CLIP_GRADIENTS else cfg.SOLVER
        setattr(node, key, value)
    return cfg


class Blocks(nn.Module):
    """One parameter of every kind that has rates of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"conv": nn.Conv2d(1, 2, 1), "norm": nn.BatchNorm2d(2)})
        self.backbone.relative_position_bias_table = nn.Parameter(torch.ones(3))
        self.absolute_pos_embed = nn.Parameter(torch.ones(2))
        self.norms = nn.ModuleList([nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.SyncBatchNorm(2)])
        self.level_embed = nn.Parameter(torch.ones(2))
        self.query = nn.Embedding(2, 2)
        self.linear = nn.Linear(2, 2)
        self.tied = nn.Linear(2, 2)
        self.tied.weight = self.linear.weight
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def settings_of(model: nn.Module, **changes: float) -> dict[str, tuple[float, float]]:
    rates = {
        "base_lr": 1.0,
        "backbone_multiplier": 0.1,
        "weight_decay": 0.05,
        "weight_decay_norm": 0.02,
        "weight_decay_embed": 0.01,
    }
    found = parameter_settings(model, **{**rates, **changes})
    return {setting.name: (setting.lr, setting.weight_decay) for setting in found}


def test_rates_by_hand() -> None:
    assert settings_of(Blocks()) == {
        "absolute_pos_embed": (1.0, 0.0),
        "level_embed": (1.0, 0.05),  # a bare parameter, no nn.Embedding
        "backbone.relative_position_bias_table": (0.1, 0.0),
        "backbone.conv.weight": (0.1, 0.05),
        "backbone.conv.bias": (0.1, 0.05),  # biases decay
        "backbone.norm.weight": (0.1, 0.02),
        "backbone.norm.bias": (0.1, 0.02),
        **{f"norms.{i}.{name}": (1.0, 0.02) for i in range(3) for name in ("weight", "bias")},
        "query.weight": (1.0, 0.01),
        "linear.weight": (1.0, 0.05),  # once, though tied.weight is the same
        "linear.bias": (1.0, 0.05),
        "tied.bias": (1.0, 0.05),
    }


class ScaledBackbone(nn.Module):
    """Learns slower in its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        self.rpe_table = nn.Parameter(torch.ones(2))

    def lr_scales(self) -> dict[str, float]:
        return {"first.weight": 0.25}


def test_modules_scale_the_rates_of_their_parameters() -> None:
    model = nn.ModuleDict({"backbone": ScaledBackbone(), "head": nn.Linear(1, 1, bias=False)})
    assert settings_of(model) == {
        "backbone.rpe_table": (0.1, 0.0),
        "backbone.first.weight": (pytest.approx(0.025), 0.05),
        "backbone.last.weight": (0.1, 0.05),
        "head.weight": (1.0, 0.05),
    }
    assert settings_of(model["backbone"])["first.weight"] == (0.25, 0.05)


@pytest.fixture(scope="module")
def r50() -> tuple[CfgNode, nn.Module]:
    """The published R50 model with frozen batch norms, without memory for its weights."""
    from mask2former.config import load_config
    from mask2former.modeling.build import build_model

    cfg = load_config(R50, ["MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        return cfg, build_model(cfg)


def test_published_counts(r50: tuple[CfgNode, nn.Module]) -> None:
    optimizer = build_optimizer(*r50)
    counts = Counter()
    for group in optimizer.param_groups:
        counts[round(group["lr"], 9), group["weight_decay"]] += len(group["params"])
    assert counts == {(1e-4, 0.05): 199, (1e-4, 0.0): 93, (1e-5, 0.05): 53}
    assert len(optimizer.param_groups) == 3


def test_published_rates_of_embeddings(r50: tuple[CfgNode, nn.Module]) -> None:
    rates = settings_of(r50[1], weight_decay_norm=0.0, weight_decay_embed=0.0)
    assert rates["sem_seg_head.pixel_decoder.transformer.level_embed"] == (1.0, 0.05)
    for name in ("level_embed", "query_feat", "query_embed"):
        assert rates[f"sem_seg_head.predictor.{name}.weight"] == (1.0, 0.0)


def test_merged_groups_train_like_single_ones() -> None:
    torch.manual_seed(0)
    merged_model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    single_model = copy.deepcopy(merged_model)
    cfg = make_cfg(WEIGHT_DECAY_NORM=0.0)
    merged = build_optimizer(cfg, merged_model)
    single = one_group_each(cfg, single_model)
    for _ in range(3):
        train_once(merged_model, merged)
        train_once(single_model, single)
    for ours, theirs in zip(merged_model.parameters(), single_model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def one_group_each(cfg: CfgNode, model: nn.Module) -> torch.optim.AdamW:
    """The published layout of groups."""
    rates = settings_of(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
    )
    named = dict(model.named_parameters())
    groups = [
        {"params": [named[name]], "lr": lr, "weight_decay": decay}
        for name, (lr, decay) in rates.items()
    ]
    return torch.optim.AdamW(groups, foreach=False)


def train_once(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.tensor([[1.0, 2.0, -1.0]])).square().sum().backward()
    optimizer.step()


def test_state_with_one_group_each_goes_on_alike() -> None:
    torch.manual_seed(0)
    old_model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    cfg = make_cfg(WEIGHT_DECAY_NORM=0.0)
    old = one_group_each(cfg, old_model)
    for _ in range(3):
        train_once(old_model, old)
    for group in old.param_groups:
        group["lr"] *= 0.5  # as a schedule leaves it
    new_model = copy.deepcopy(old_model)
    new = build_optimizer(cfg, new_model)
    new.load_state_dict(copy.deepcopy(old.state_dict()))
    assert len(new.param_groups) == 2
    assert {group["lr"] for group in new.param_groups} == {0.005}
    train_once(old_model, old)
    train_once(new_model, new)
    for ours, theirs in zip(new_model.parameters(), old_model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_own_state_is_loaded_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    first = build_optimizer(make_cfg(WEIGHT_DECAY_NORM=0.0), model)
    train_once(model, first)
    second = build_optimizer(make_cfg(WEIGHT_DECAY_NORM=0.0), model)
    second.load_state_dict(first.state_dict())
    for parameter in model.parameters():
        torch.testing.assert_close(
            second.state[parameter]["exp_avg"], first.state[parameter]["exp_avg"], rtol=0, atol=0
        )


def sgd_step(gradients: list[list[float]], **solver: object) -> list[torch.Tensor]:
    """Parameters of the two layers of a model after a step at rate 1 from zero."""
    layers = nn.ModuleDict(
        {"backbone": nn.Linear(2, 1, bias=False), "head": nn.Linear(2, 1, False)}
    )
    for layer, gradient in zip(layers.values(), gradients, strict=True):
        nn.init.zeros_(layer.weight)
        layer.weight.grad = torch.tensor([gradient])
    rates = {"BASE_LR": 1.0, "BACKBONE_MULTIPLIER": 0.5, "WEIGHT_DECAY": 0.0, "MOMENTUM": 0.0}
    optimizer = build_optimizer(make_cfg(OPTIMIZER="SGD", **rates, **solver), layers)
    optimizer.step()
    return [layer.weight.detach()[0] for layer in layers.values()]


def test_full_model_clipping_takes_all_groups_together() -> None:
    # Norms 3 and 4 make 5 together; 0.5 is a tenth of it. The backbone's rate is halved.
    backbone, head = sgd_step(
        [[3.0, 0.0], [0.0, 4.0]], ENABLED=True, CLIP_TYPE="full_model", CLIP_VALUE=0.5
    )
    torch.testing.assert_close(backbone, torch.tensor([-0.15, 0.0]))
    torch.testing.assert_close(head, torch.tensor([0.0, -0.4]))


def test_norm_clipping_takes_each_parameter_alone() -> None:
    backbone, head = sgd_step(
        [[3.0, 0.0], [0.0, 4.0]], ENABLED=True, CLIP_TYPE="norm", CLIP_VALUE=0.5
    )
    torch.testing.assert_close(backbone, torch.tensor([-0.25, 0.0]))
    torch.testing.assert_close(head, torch.tensor([0.0, -0.5]))


def test_small_gradients_are_not_clipped() -> None:
    backbone, head = sgd_step(
        [[0.3, 0.0], [0.0, 0.4]], ENABLED=True, CLIP_TYPE="full_model", CLIP_VALUE=0.6
    )
    torch.testing.assert_close(backbone, torch.tensor([-0.15, 0.0]))
    torch.testing.assert_close(head, torch.tensor([0.0, -0.4]))


def test_clipping_sees_through_the_gradient_scale() -> None:
    """Scaled by 1024, a fused optimizer must take the same step as without a scale."""
    model = nn.Linear(2, 1, bias=False)
    cfg = make_cfg(OPTIMIZER="SGD", ENABLED=True, CLIP_TYPE="full_model", CLIP_VALUE=0.5)
    optimizer = build_optimizer(cfg, model)
    model.weight.grad = torch.tensor([[3.0, 4.0]]) * 1024
    before = model.weight.detach().clone()
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(1024.0), torch.tensor(0.0)
    optimizer.step()
    step = (before - model.weight.detach()) / 1e-2
    torch.testing.assert_close(
        step, torch.tensor([[0.3, 0.4]]) + 0.05 * before, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ({"OPTIMIZER": "LION"}, 'OPTIMIZER must be "ADAMW" or "SGD", not "LION"'),
        ({"ENABLED": True, "CLIP_TYPE": "all"}, 'full_model, value, norm, not "all"'),
        ({"ENABLED": True, "CLIP_TYPE": "norm", "CLIP_VALUE": -1.0}, "'norm', not -1.0 and 2.0"),
        ({"ENABLED": True, "CLIP_TYPE": "norm", "NORM_TYPE": 0.0}, "'norm', not 1.0 and 0.0"),
    ],
)
def test_values_that_do_not_exist(solver: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_optimizer(make_cfg(**solver), nn.Linear(1, 1))


def test_nothing_to_train() -> None:
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        build_optimizer(make_cfg(), nn.Linear(1, 1).requires_grad_(False))


def test_poly_schedule_keeps_the_ratio_of_rates() -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(1, 1), "head": nn.Linear(1, 1)})
    cfg = make_cfg(LR_SCHEDULER_NAME="WarmupPolyLR", MAX_ITER=10, WARMUP_ITERS=0)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([1e-3 * 0.5**0.9, 1e-2 * 0.5**0.9])
