"""What the meta-architectures share."""

import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from detectron2.data import Metadata
from detectron2.modeling import build_backbone, build_sem_seg_head
from detectron2.structures import ImageList
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ...checkpoints.renames import rename_when_loading
from ...classes import metadata_of
from ...config.arguments import unless_default
from ...errors import UserError
from ...ops.memory import give_back
from ...overrides import is_replaced
from ..backbone.folding import speed_up_convolutions
from ..criterion.build import build_criterion
from ..criterion.criterion import SetCriterion
from ..criterion.totals import StepTotals, mean_masks
from ..transformer_decoder.pilot import shown_to_pilots
from .heads import check_decoder, handed_over, takes_aux_outputs

PRECISIONS = ("fp32", "bf16", "fp16")


class BaseModel(nn.Module):
    """What all models share: backbone, head, criterion, and the preparation of images.

    Args:
        backbone: maps images (B, 3, H, W) to features by name.
        sem_seg_head: maps features to predictions.
        criterion: the training loss; has `weight_dict`.
        size_divisibility: batches are padded to a multiple of this; below 0, of what the
            backbone asks for.
        pixel_mean, pixel_std: of each channel, in the units and channel order of the images.
        pad_value: of the padding's pixels, 0..255; below 0, as published, the mean.
        precision: of eval, "fp32", or "bf16" or "fp16" for autocast to one of those; the latter on
            CUDA only.
        metadata: of the training set, or made of MODEL.CLASSES.

    Raises:
        UserError: another precision.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        sem_seg_head: nn.Module,
        criterion: nn.Module,
        size_divisibility: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        pad_value: float = -1.0,
        precision: str = "fp32",
        metadata: Metadata | None = None,
    ):
        super().__init__()
        if precision not in PRECISIONS:
            raise UserError(
                f"MODEL.MASK_FORMER.TEST.PRECISION is {precision!r}; it must be one of auto, "
                f"{', '.join(PRECISIONS)}."
            )
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self.criterion = criterion
        if size_divisibility < 0:
            size_divisibility = backbone.size_divisibility
        self.size_divisibility = size_divisibility
        self.pad_value = pad_value
        self.precision = precision
        self.metadata = metadata
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            values = torch.as_tensor(values, dtype=torch.float32)
            self.register_buffer(name, values.view(-1, 1, 1), persistent=False)
        for module in (self, backbone):
            rename_when_loading(module)

    @classmethod
    def common_args(cls, cfg) -> dict:
        """Read the arguments of this class from a config."""
        precision = cfg.MODEL.MASK_FORMER.TEST.PRECISION
        backbone = speed_up_convolutions(build_backbone(cfg))
        sem_seg_head = speed_up_convolutions(build_sem_seg_head(cfg, backbone.output_shape()))
        return {
            "backbone": backbone,
            "sem_seg_head": sem_seg_head,
            "size_divisibility": cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            **unless_default(cls, pad_value=cfg.MODEL.MASK_FORMER.PAD_VALUE),
            # The default of a class is what was published.
            **({} if precision == "auto" else unless_default(cls, precision=precision)),
            "metadata": metadata_of(cfg, next(iter(cfg.DATASETS.TRAIN), None)),
        }

    @property
    def device(self) -> torch.device:
        """Where the model lives and inputs are moved to."""
        return self.pixel_mean.device

    def preprocess(self, images: Sequence[Tensor]) -> ImageList:
        """Normalise images (3, H, W) and pad them to one canvas, with zeros or `pad_value`."""
        moved = [x.to(self.device, non_blocking=True) for x in images]  # does not wait for a GPU
        if self.pad_value >= 0:
            padded = ImageList.from_tensors(moved, self.size_divisibility, self.pad_value)
            padded.tensor = (padded.tensor - self.pixel_mean) / self.pixel_std
            return padded
        normed = [(x - self.pixel_mean) / self.pixel_std for x in moved]
        return ImageList.from_tensors(normed, self.size_divisibility)

    def extract(self, images: Tensor) -> dict[str, Tensor]:
        """Return the backbone's features of a canvas (B, 3, H, W), by name."""
        if _channels_last_pays(images):
            images = images.contiguous(memory_format=torch.channels_last)
        with self._lower_precision():
            features = self.backbone(images)
        give_back(features.values())
        return features

    def _lower_precision(self) -> AbstractContextManager:
        """Autocast in eval, if the precision asks for it; else keep the mode of the caller."""
        kind = self.device.type
        if self.training or self.precision == "fp32":
            return nullcontext()
        if self.precision == "fp16":
            return torch.autocast(kind, torch.float16) if kind == "cuda" else nullcontext()
        return torch.autocast(kind, torch.bfloat16)

    def divided_by_step(self, parts: Sequence[list[dict]]) -> AbstractContextManager | None:
        """Return a context in which the losses of ``parts``, all batches that this process has in a
        step, add up to those of one batch; None where that is not known of this model.

        Every process has to call this.
        """
        return None

    def weigh(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the criterion's losses times their weights, without those that have none."""
        weights = self.criterion.weight_dict
        return {name: value * weights[name] for name, value in losses.items() if name in weights}


class SegmentationModel(BaseModel):
    """A model whose queries find masks: the head predicts masks and classes together.

    Args:
        num_queries: Q; kept for code that reads it.
        point_seed: from 0 on, fixes the points of an image's losses whatever else is in its
            batch; they still differ from iteration to iteration.

    The others are those of `BaseModel`; `sem_seg_head` maps features to `pred_logits`,
    `pred_masks` and `aux_outputs`.

    Raises:
        UserError: the head's decoder is for images and the model for clips, or the reverse.
    """

    def __init__(self, *, num_queries: int, point_seed: int = -1, **common):
        super().__init__(**common)
        check_decoder(self, getattr(self.sem_seg_head, "predictor", None))
        self.num_queries = num_queries
        self.point_seed = point_seed

    @classmethod
    def common_args(cls, cfg) -> dict:
        """Read the arguments of this class from a config."""
        args = super().common_args(cfg)
        return {
            **args,
            "criterion": build_criterion(cfg, args["sem_seg_head"].num_classes),
            "num_queries": cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES,
            **unless_default(cls, point_seed=cfg.MODEL.MASK_FORMER.POINT_SEED),
        }

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """Run backbone and head on a canvas (B, 3, H, W); without auxiliary outputs in eval."""
        return self.decode(handed_over(self.extract(images), self.sem_seg_head))

    def decode(
        self, features: dict[str, Tensor], aux_outputs: bool | None = None
    ) -> dict[str, Tensor]:
        """Return the head's outputs, the auxiliary ones in training only, or as asked for."""
        wanted = self.training if aux_outputs is None else aux_outputs
        with self._lower_precision():
            if wanted or not takes_aux_outputs(self.sem_seg_head):
                return self.sem_seg_head(features)
            return self.sem_seg_head(features, aux_outputs=False)

    def losses(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        """Return the weighted losses of a batch with targets, by name; also in eval."""
        images = self.canvas_of(batched_inputs)
        targets = self.targets_of(batched_inputs, images)
        if self.training:
            with shown_to_pilots(self.sem_seg_head, targets):
                outputs = self.predict(images.tensor)
        else:
            outputs = self.decode(self.extract(images.tensor), aux_outputs=True)
        return self.weigh(self.criterion(outputs, targets))

    def divided_by_step(self, parts: Sequence[list[dict]]) -> AbstractContextManager | None:
        if not isinstance(self.criterion, SetCriterion) or self.criterion.has_other_losses():
            return None
        labels = [labels for part in parts for labels in self.labels_of(part)]
        masks = mean_masks([len(x) for x in labels], self.device)
        return self.criterion.divided_by(StepTotals(labels, masks))

    def canvas_of(self, batched_inputs: list[dict]) -> ImageList:
        """Return the images of a batch, or all frames of its clips, on one canvas."""
        raise NotImplementedError

    def labels_of(self, batched_inputs: list[dict]) -> list[Tensor]:
        """Return the classes (N,) of the targets of every input, which the criterion gets."""
        images = self.canvas_of(batched_inputs)
        return [x["labels"] for x in self.targets_of(batched_inputs, images)]

    def prepare_targets(self, targets: list, images: ImageList) -> list[dict]:
        """Return the criterion's targets on the canvas, one dict an image or clip."""
        raise NotImplementedError

    def annotations(self, batched_inputs: list[dict]) -> list:
        """Return what a `prepare_targets` of a subclass gets of a batch, as published."""
        raise NotImplementedError

    def targets_of(self, batched_inputs: list[dict], images: ImageList) -> list[dict]:
        """Return the targets of a batch, with the options that `prepare_targets` has of inputs.

        Raises:
            UserError: a `prepare_targets` of a subclass does not return one target an input, and
                inputs have options.
        """
        if not is_replaced(self, "prepare_targets"):
            return self.prepare_targets(batched_inputs, images)
        targets = self.prepare_targets(self.annotations(batched_inputs), images)
        options = [self.target_options(x, images) for x in batched_inputs]
        if not any(options):
            return targets
        if len(targets) != len(options):
            raise ValueError(
                f"{type(self).__name__}.prepare_targets returns {len(targets)} targets of "
                f"{len(options)} inputs: MODEL.MASK_FORMER.IGNORE_VOID and POINT_SEED need one of "
                "each; turn them off."
            )
        return [option | target for option, target in zip(options, targets)]

    def target_options(self, x: dict, images: ImageList) -> dict:
        """Return what the target of an input has beyond labels and masks: `ignore`, pixels that do
        not count, on the canvas; `seed`, from its name and the iteration, where seeds are on."""
        options: dict = {}
        if (ignore := x.get("ignore")) is not None:
            ignore = ignore if isinstance(ignore, Tensor) else torch.stack(list(ignore))
            options["ignore"] = pad_to_canvas(ignore.to(self.device), images, True)
        if self.point_seed >= 0:
            name = x.get("image_id", x.get("video_id", x.get("file_name", "")))
            text = f"{self.point_seed} {_current_iteration()} {name}"
            options["seed"] = zlib.crc32(text.encode())
        return options


def _current_iteration() -> int:
    """Return the trainer's iteration, 0 outside training."""
    try:
        return get_event_storage().iter
    except AssertionError:  # detectron2's way of saying that there is none
        return 0


def _channels_last_pays(images: Tensor) -> bool:
    """Tell whether channels last are faster for convolutions, and safe: in training on one thread,
    PyTorch 2.14's fallback for strided 1x1 convolutions that are not `ops.linear`'s, as a backbone
    from elsewhere may have, writes past its memory then."""
    many_threads = torch.get_num_threads() > 1
    return images.device.type == "cpu" and (many_threads or not torch.is_grad_enabled())


def mask_tensor(masks) -> Tensor:
    """Return masks as a bool tensor (N, H, W), from a tensor or detectron2's BitMasks.

    Raises:
        UserError: they are neither.
    """
    tensor = getattr(masks, "tensor", masks)
    if not isinstance(tensor, Tensor):
        raise UserError(
            "gt_masks: expected a tensor (N, H, W) or BitMasks, got "
            f'{type(masks).__name__}. Set INPUT.MASK_FORMAT to "bitmask", or use a mapper of '
            "mask2former.data."
        )
    return tensor.bool()


def pad_to_canvas(masks: Tensor, images: ImageList, value: bool = False) -> Tensor:
    """Pad masks (..., h, w) right and below to the canvas (..., H, W) of the images."""
    height, width = images.tensor.shape[-2:]
    pad = (0, width - masks.shape[-1], 0, height - masks.shape[-2])
    return nn.functional.pad(masks, pad, value=value)
