"""The optimizer, with the published learning rate and weight decay of every parameter."""

import itertools
import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.projects import deeplab
from detectron2.solver.build import maybe_add_gradient_clipping, reduce_param_groups
from torch import nn

from ..errors import UserError

# The base is that of batch and instance norms, synchronised and lazy ones included.
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_POSITION_TABLES = ("relative_position_bias_table", "rpe_table", "pos_embed")
_CLIP_TYPES = ("full_model", "value", "norm")
_SCHEDULES = ("WarmupPolyLR", "WarmupMultiStepLR", "WarmupCosineLR")
_WARMUPS = ("linear", "constant")


class ParameterSetting(NamedTuple):
    """What the optimizer does with one parameter."""

    name: str
    parameter: nn.Parameter
    lr: float
    weight_decay: float


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer that ``cfg.SOLVER`` describes.

    The published code makes one group per parameter; here the parameters of equal learning rate and
    weight decay share a group, which lets PyTorch update them together. Optimizer states that were
    saved with one group per parameter are regrouped when they are loaded.

    Args:
        cfg: read are OPTIMIZER ("ADAMW" or "SGD"), BASE_LR, BACKBONE_MULTIPLIER, MOMENTUM (SGD),
            the WEIGHT_DECAY keys and CLIP_GRADIENTS. CLIP_TYPE "full_model" scales all gradients
            together so that their global L2 norm is at most CLIP_VALUE; the other types are
            detectron2's.
        model: not wrapped in DistributedDataParallel, which would change the names.

    Raises:
        UserError: for an unknown OPTIMIZER or CLIP_TYPE, or where nothing is left to train.
    """
    solver = cfg.SOLVER
    settings = list(
        parameter_settings(
            model,
            base_lr=solver.BASE_LR,
            backbone_multiplier=solver.BACKBONE_MULTIPLIER,
            weight_decay=solver.WEIGHT_DECAY,
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
            weight_decay_embed=solver.WEIGHT_DECAY_EMBED,
        )
    )
    if not settings:
        raise UserError(f"{type(model).__name__} has no parameter that requires a gradient")
    groups = reduce_param_groups(
        [{"params": [s.parameter], "lr": s.lr, "weight_decay": s.weight_decay} for s in settings]
    )
    positions = {setting.parameter: i for i, setting in enumerate(settings)}
    order = [positions[parameter] for group in groups for parameter in group["params"]]
    optimizer = _make_optimizer(cfg, groups)
    optimizer.register_load_state_dict_pre_hook(partial(_regroup_saved_state, order=order))
    return optimizer


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
    """Build detectron2's schedule of the learning rate, or DeepLab's, that ``cfg.SOLVER`` names.

    Raises:
        UserError: an unknown LR_SCHEDULER_NAME or WARMUP_METHOD, or STEPS that do not ascend or are
            at the very end.
    """
    solver = cfg.SOLVER
    for key, known in (("LR_SCHEDULER_NAME", _SCHEDULES), ("WARMUP_METHOD", _WARMUPS)):
        if solver[key] not in known:
            raise UserError(f"SOLVER.{key} must be one of {', '.join(known)}, not {solver[key]!r}")
    try:
        return deeplab.build_lr_scheduler(cfg, optimizer)
    except ValueError as error:
        raise UserError(
            "SOLVER.STEPS: expected ascending iterations from 1 on, none of them MAX_ITER "
            f"{solver.MAX_ITER}, got {tuple(solver.STEPS)}"
        ) from error


def parameter_settings(
    model: nn.Module,
    *,
    base_lr: float,
    backbone_multiplier: float,
    weight_decay: float,
    weight_decay_norm: float,
    weight_decay_embed: float,
) -> Iterator[ParameterSetting]:
    """Yield the learning rate and weight decay of each trained parameter, in model order.

    Modules with "backbone" in their dotted name learn at ``base_lr * backbone_multiplier``, times
    what the method ``lr_scales`` of a module around says of a parameter: it returns factors by the
    names of that module's parameters. Biases decay like weights; position tables of backbones do
    not decay; norms and embeddings have rates of their own. A shared parameter counts where it is
    met first; frozen ones are left out.
    """
    seen: set[nn.Parameter] = set()
    scales = _lr_scales(model)
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            decay = weight_decay
            if isinstance(module, _NORMS):
                decay = weight_decay_norm
            elif isinstance(module, nn.Embedding):
                decay = weight_decay_embed
            elif any(table in name for table in _POSITION_TABLES):
                decay = 0.0
            lr = base_lr * backbone_multiplier if "backbone" in module_name else base_lr
            full_name = f"{module_name}.{name}" if module_name else name
            yield ParameterSetting(full_name, parameter, lr * scales.get(full_name, 1.0), decay)


def _lr_scales(model: nn.Module) -> dict[str, float]:
    """Return the factors of learning rates that modules ask for, by parameter."""
    scales: dict[str, float] = {}
    for prefix, module in model.named_modules():
        if callable(getattr(module, "lr_scales", None)):
            own = module.lr_scales().items()
            scales |= {f"{prefix}.{name}" if prefix else name: scale for name, scale in own}
    return scales


def _make_optimizer(cfg: CfgNode, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    solver, clip = cfg.SOLVER, cfg.SOLVER.CLIP_GRADIENTS
    if solver.OPTIMIZER not in ("ADAMW", "SGD"):
        raise UserError(f'SOLVER.OPTIMIZER must be "ADAMW" or "SGD", not "{solver.OPTIMIZER}"')
    if clip.ENABLED and clip.CLIP_TYPE not in _CLIP_TYPES:
        raise UserError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE must be one of {', '.join(_CLIP_TYPES)}, "
            f'not "{clip.CLIP_TYPE}"'
        )
    is_positive = 0 < clip.CLIP_VALUE < math.inf and clip.NORM_TYPE > 0
    if clip.ENABLED and clip.CLIP_TYPE != "full_model" and not is_positive:
        raise UserError(
            f"SOLVER.CLIP_GRADIENTS: CLIP_VALUE and NORM_TYPE must be above 0 with CLIP_TYPE "
            f"{clip.CLIP_TYPE!r}, not {clip.CLIP_VALUE} and {clip.NORM_TYPE}; ENABLED False turns "
            "clipping off"
        )
    by_parameter = clip.ENABLED and clip.CLIP_TYPE != "full_model"
    # detectron2 clips inside step(), where a fused optimizer still sees the scaled gradients of AMP
    fused = not by_parameter and _can_fuse(groups)
    optimizer_class: Any = torch.optim.AdamW if solver.OPTIMIZER == "ADAMW" else torch.optim.SGD
    if by_parameter:
        optimizer_class = maybe_add_gradient_clipping(cfg, optimizer_class)
    extra = {} if solver.OPTIMIZER == "ADAMW" else {"momentum": solver.MOMENTUM}
    optimizer = optimizer_class(groups, lr=solver.BASE_LR, fused=fused or None, **extra)
    if clip.ENABLED and clip.CLIP_TYPE == "full_model" and clip.CLIP_VALUE > 0:
        optimizer.register_step_pre_hook(partial(_clip_all, max_norm=clip.CLIP_VALUE))
    return optimizer


def _can_fuse(groups: list[dict[str, Any]]) -> bool:
    parameters = itertools.chain.from_iterable(group["params"] for group in groups)
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)


def _clip_all(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any, *, max_norm: float) -> None:
    """Scale all gradients of ``optimizer`` so that their joint L2 norm is at most ``max_norm``."""
    # A GradScaler leaves the division by its scale to a fused optimizer, and says so here.
    scale = getattr(optimizer, "grad_scale", None)
    parameters = itertools.chain.from_iterable(g["params"] for g in optimizer.param_groups)
    limit = max_norm if scale is None else max_norm * scale
    torch.nn.utils.clip_grad_norm_(parameters, limit)


def _regroup_saved_state(
    optimizer: torch.optim.Optimizer, state: dict[str, Any], *, order: list[int]
) -> dict[str, Any] | None:
    """Turn a state with one group per parameter into one with the groups of ``optimizer``.

    Args:
        order: for each parameter of ``optimizer``, group after group, its position in the model.
    """
    saved = state["param_groups"]
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    one_each = len(saved) == len(order) and all(len(group["params"]) == 1 for group in saved)
    if not one_each or sizes == [1] * len(order):
        return None  # saved with these groups; PyTorch reports it where they do not fit
    by_index, groups, start = {}, [], 0
    for index, position in enumerate(order):
        key = saved[position]["params"][0]
        if key in state["state"]:
            by_index[index] = state["state"][key]
    for group, size in zip(optimizer.param_groups, sizes, strict=True):
        kept = {k: v for k, v in saved[order[start]].items() if k not in ("foreach", "fused")}
        groups.append({**group, **kept, "params": list(range(start, start + size))})
        start += size
    return {**state, "state": by_index, "param_groups": groups}
