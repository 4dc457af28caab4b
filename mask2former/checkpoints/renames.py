"""Renaming of weights of older and foreign layouts to the names of a model, by content.

The published code goes by version numbers inside the file, which only a pickled state_dict of
torch has; a plain dict of the same tensors then loses its pixel decoder. Here a name changes
where the model has no such name and has the new one.
"""

import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any

from detectron2.checkpoint.c2_model_loading import convert_basic_c2_names
from torch import nn

from .name_map import NameMap

logger = logging.getLogger(__name__)

Shape = tuple[int, ...]

# Of ResNets: ours are detectron2's names, theirs those of torchvision and timm.
RESNET_NAMES = NameMap(
    [
        ("stem.conv1.weight", "conv1.weight"),
        ("stem.conv1.norm.{p}", "bn1.{p}"),
        ("stem.fc.{p}", "fc.{p}"),
        ("res{s+1}.{b}.conv{n}.weight", "layer{s}.{b}.conv{n}.weight"),
        ("res{s+1}.{b}.conv{n}.norm.{p}", "layer{s}.{b}.bn{n}.{p}"),
        ("res{s+1}.{b}.shortcut.weight", "layer{s}.{b}.downsample.0.weight"),
        ("res{s+1}.{b}.shortcut.norm.{p}", "layer{s}.{b}.downsample.1.{p}"),
    ]
)
_WRAPPERS = ("module.", "_orig_mod.", "model.")  # DistributedDataParallel, torch.compile, Lightning
_PIXEL_DECODER = re.compile(r"(^|\.)pixel_decoder\.")
_CAFFE2 = re.compile(r"_(w|b|s|bn_(s|b|gamma|beta|rm|riv|running_mean|running_var))$")
# What a checkpoint may have, or lack, without loss: buffers that follow from the architecture.
DERIVED = re.compile(r"(num_batches_tracked|attn_mask|relative_position_index|pixel_(mean|std))$")
# The classifier and last norm of ImageNet models as files name them; no backbone uses them.
CLASSIFIER = re.compile(
    r"^(stem\.fc|fc\d*|head|head_dist|classifier|linear|norm|pred|cls_norm|cls_head)\b"
)


def rename_to_fit(
    shapes: Mapping[str, Shape], model: Mapping[str, Shape]
) -> tuple[dict[str, str], list[str]]:
    """Find the name in the model for each name in a checkpoint.

    Args:
        shapes: name -> shape of the checkpoint's weights.
        model: name -> shape of the model's.

    Returns:
        name in the checkpoint -> name in the model (names without a counterpart map to what they
        became on the way, perhaps themselves); and a line on each kind of change that was made.
    """
    new = {name: name for name in shapes}
    notes = []
    for rule in (
        _strip_wrappers,
        _from_caffe2,
        _from_torchvision,
        _insert_pixel_decoder,
        _rename_static_query,
        _add_prefix,
    ):
        changes, note = rule({new[old]: shape for old, shape in shapes.items()}, model)
        if changes:
            new = {old: changes.get(name, name) for old, name in new.items()}
            notes.append(f"{len(changes)} names: {note}")
    return new, notes


def rename_when_loading(module: nn.Module) -> None:
    """Have ``module`` rename old layouts itself, whoever calls its ``load_state_dict``.

    So the loaders of detectron2, of fvcore and of others find the names that `Checkpointer` finds.
    What does not fit in shape is left out, with a warning.
    """
    module.register_load_state_dict_pre_hook(_rename_in_place)


def _rename_in_place(
    module: nn.Module, state_dict: MutableMapping[str, Any], prefix: str, *_: Any
) -> None:
    given = {
        name.removeprefix(prefix): tuple(value.shape)
        for name, value in state_dict.items()
        if name.startswith(prefix) and hasattr(value, "shape")
    }
    own = {n: tuple(v.shape) for n, v in module.state_dict().items() if hasattr(v, "shape")}
    if given.keys() <= own.keys():
        return
    names, notes = rename_to_fit(given, own)
    renamed = {
        old: new for old, new in names.items() if old != new and new in own and new not in given
    }
    for old, new in renamed.items():
        value = state_dict.pop(prefix + old)
        if given[old] == own[new]:
            state_dict[prefix + new] = value
        else:
            logger.warning(
                "%s%s is left out: it is %s in the checkpoint, and %s, which it became, is %s here",
                prefix, old, given[old], new, own[new],
            )  # fmt: skip
    if renamed:
        logger.info("%s renamed weights: %s", type(module).__name__, "; ".join(notes))


Change = tuple[dict[str, str], str]


def _strip_wrappers(shapes: Mapping[str, Shape], model: Mapping[str, Shape]) -> Change:
    for wrapper in _WRAPPERS:
        inside = {n: n.removeprefix(wrapper) for n in shapes if n.startswith(wrapper)}
        if len(inside) > len(shapes) / 2 and not any(name in model for name in inside):
            return inside, f"without the leading '{wrapper}' of a wrapper"
    return {}, ""


def _from_caffe2(shapes: Mapping[str, Shape], model: Mapping[str, Shape]) -> Change:
    if sum(bool(_CAFFE2.search(name)) for name in shapes) <= len(shapes) / 2:
        return {}, ""
    names = dict(zip(shapes, convert_basic_c2_names(list(shapes)), strict=True))
    return {old: new for old, new in names.items() if old != new}, "from Caffe2"


def _from_torchvision(shapes: Mapping[str, Shape], model: Mapping[str, Shape]) -> Change:
    """Rename from the layout of torchvision's and timm's ResNets, which have no stem module."""
    is_torchvision = {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"} <= set(shapes)
    has_detectron2_resnet = any(name.endswith("stem.conv1.weight") for name in model)
    if not is_torchvision or not has_detectron2_resnet or _fitting(shapes, model):
        return {}, ""
    return RESNET_NAMES.names_in_ours(shapes), "from torchvision's ResNet"


def _insert_pixel_decoder(shapes: Mapping[str, Shape], model: Mapping[str, Shape]) -> Change:
    """Rename from MaskFormer's first layout, with the pixel decoder's layers in the head itself.

    The names may be those of the model, or of the head alone.
    """
    within = next((n.partition("pixel_decoder.")[0] for n in model if _PIXEL_DECODER.search(n)), "")
    for head in dict.fromkeys((within, "")):
        inner, predictor = f"{head}pixel_decoder.", f"{head}predictor."
        if any(name.startswith(inner) for name in shapes):
            break
        old = [n for n in shapes if n.startswith(head) and not n.startswith(predictor)]
        if old and (head or any(name.startswith(predictor) for name in shapes)):
            changes = {name: inner + name.removeprefix(head) for name in old}
            return _where_new_fits(changes, model), f"{head}* became {inner}*"
    return {}, ""


def _rename_static_query(shapes: Mapping[str, Shape], model: Mapping[str, Shape]) -> Change:
    """Rename ``static_query``, as published image checkpoints call the queries' content."""
    changes = {n: n.replace("static_query", "query_feat") for n in shapes if "static_query" in n}
    changes = {old: new for old, new in changes.items() if new not in shapes}
    return _where_new_fits(changes, model), "static_query became query_feat"


def _add_prefix(shapes: Mapping[str, Shape], model: Mapping[str, Shape]) -> Change:
    """Rename from a checkpoint of one part of the model, as a backbone's from ImageNet."""
    counts: Counter[str] = Counter()
    for name, shape in model.items():
        for dot in re.finditer(r"\.", name):
            if shapes.get(name[dot.end() :]) == shape:
                counts[name[: dot.end()]] += 1
    prefix, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    if count <= _fitting(shapes, model):
        return {}, ""
    changes = {name: prefix + name for name in shapes}
    new = {old: new for old, new in changes.items() if new in model and old not in model}
    return new, f"put behind '{prefix}'"


def _where_new_fits(changes: dict[str, str], model: Collection[str]) -> dict[str, str]:
    """Return the changes to names of the model, or of a part of it, from names that it lacks."""
    parts = {name[dot.end() :] for name in model for dot in re.finditer(r"^|\.", name)}
    return {old: new for old, new in changes.items() if new in parts and old not in model}


def _fitting(shapes: Mapping[str, Shape], model: Mapping[str, Shape]) -> int:
    """Count the names that the model has in the same shape."""
    return sum(model.get(name) == shape for name, shape in shapes.items())
