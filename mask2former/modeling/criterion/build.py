"""The criterion of a config."""

from .criterion import SetCriterion
from .matcher import HungarianMatcher


def build_criterion(cfg, num_classes: int) -> SetCriterion:
    """Build matcher and losses from MODEL.MASK_FORMER; both use the same weights and points."""
    c = cfg.MODEL.MASK_FORMER
    weights = {"loss_ce": c.CLASS_WEIGHT, "loss_mask": c.MASK_WEIGHT, "loss_dice": c.DICE_WEIGHT}
    of_layers = weights_of_layers(cfg, weights)
    if c.PILOT.QUERIES:
        of_layers |= {f"{name}_pilot": weight for name, weight in weights.items()}
    matcher = HungarianMatcher(
        cost_class=c.CLASS_WEIGHT,
        cost_mask=c.MASK_WEIGHT,
        cost_dice=c.DICE_WEIGHT,
        num_points=c.TRAIN_NUM_POINTS,
    )
    return SetCriterion(
        num_classes,
        matcher=matcher,
        weight_dict=of_layers,
        eos_coef=c.NO_OBJECT_WEIGHT,
        losses=["labels", "masks"],
        num_points=c.TRAIN_NUM_POINTS,
        oversample_ratio=c.OVERSAMPLE_RATIO,
        importance_sample_ratio=c.IMPORTANCE_SAMPLE_RATIO,
    )


def weights_of_layers(cfg, weights: dict[str, float]) -> dict[str, float]:
    """Repeat weights by loss name for the auxiliary outputs, if the config supervises them."""
    c = cfg.MODEL.MASK_FORMER
    layers = range(c.DEC_LAYERS - 1) if c.DEEP_SUPERVISION else ()
    return {**weights, **{f"{name}_{i}": w for i in layers for name, w in weights.items()}}
