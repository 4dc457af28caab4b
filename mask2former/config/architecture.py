"""Which model a config is for."""

from detectron2.config import CfgNode

_OURS = ("MaskClassifier", "MaskFormer", "VideoMaskFormer")


def meta_architecture(cfg: CfgNode) -> str:
    """Return MODEL.META_ARCHITECTURE, or where that is a subclass of ours, the name of ours.

    A class is known once the module that registers it has been imported.
    """
    from detectron2.modeling import META_ARCH_REGISTRY  # only here: configs are read without models

    name = cfg.MODEL.META_ARCHITECTURE
    found = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None
    bases = getattr(found, "__mro__", ())
    return next((base.__name__ for base in bases if base.__name__ in _OURS), name)
