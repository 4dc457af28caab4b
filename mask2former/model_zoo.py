"""The published models, ready to build; what can be looked up about them is in published.py."""

from torch import nn

from .checkpoints.checkpointer import Checkpointer
from .checkpoints.published import (
    WEIGHTS_DIR_VARIABLE,
    Entry,
    available,
    get_checkpoint_file,
    get_checkpoint_url,
    get_config,
    get_config_file,
    get_entry,
)
from .modeling.build import build_model

# The one list outside of an __init__: this module is a public surface, as detectron2's model_zoo.
__all__ = [
    "WEIGHTS_DIR_VARIABLE",
    "Entry",
    "available",
    "get",
    "get_checkpoint_file",
    "get_checkpoint_url",
    "get_config",
    "get_config_file",
    "get_entry",
]


def get(name: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """Build a model of the zoo.

    Args:
        name: of a config of the package, with or without ``.yaml``.
        trained: loads the published weights; else the model starts from random ones.
        device: such as "cpu" or "cuda:1"; None for the config's, or the CPU where there is no CUDA.

    Returns:
        the model in training mode, as after building; call ``.eval()`` for inference.

    Raises:
        UserError: there is no such config or published model.
        FileNotFoundError: ``trained``, and the weights are unavailable.
    """
    weights = get_checkpoint_file(name) if trained else None
    cfg = get_config(name, trained)
    if device is not None:
        cfg.MODEL.DEVICE = device
    model = build_model(cfg)
    if weights is not None:
        Checkpointer(model).load(weights)
    return model
