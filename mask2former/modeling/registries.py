"""Registries in which names of ours give way to those of others.

A registry refuses a name that is there already, so that a project with a changed copy of a part
under its published name could not be imported beside this package.
"""

import logging
from typing import Any

from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
from detectron2.utils.registry import Registry

logger = logging.getLogger(__name__)

_PACKAGE = __name__.partition(".")[0]


class YieldingRegistry(Registry):
    """A registry in which a part of this package leaves its name to one of another project.

    So it does whichever of the two comes first; two of other projects are refused as ever.
    """

    def _do_register(self, name: str, obj: Any) -> None:
        present = self._obj_map.get(name)
        if present is not None and _is_ours(present) != _is_ours(obj):
            logger.warning(
                "%s is %s of another project, in place of ours",
                name, (obj if _is_ours(present) else present).__module__,
            )  # fmt: skip
            if _is_ours(obj):
                return
            del self._obj_map[name]
        super()._do_register(name, obj)


def _is_ours(part: Any) -> bool:
    return part.__module__.partition(".")[0] == _PACKAGE


TRANSFORMER_DECODER_REGISTRY = YieldingRegistry("TRANSFORMER_MODULE")
TRANSFORMER_DECODER_REGISTRY.__doc__ = """
Transformer decoders, built as `cls(cfg, in_channels, mask_classification)` and selected by
MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME.

A decoder's `forward(x, mask_features, mask=None)` returns a dict with `pred_logits` (B, Q, K+1),
`pred_masks` (B, Q, H, W) and, optionally, `aux_outputs`, a list of dicts with the same two keys.
"""

# detectron2's are single objects that everybody holds, so that they change where they are.
for registry in (BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY):
    registry.__class__ = YieldingRegistry
