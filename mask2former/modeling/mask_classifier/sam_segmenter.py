"""Segment Anything as a source of masks without classes, and the prompts that it takes.

Source: Segment Anything, Kirillov et al. 2023. The model itself is transformers', see `load_sam`.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms

from ...errors import UserError
from ...ops.masks import mask_boxes
from ..postprocessing.canvas import Canvas
from .sam_weights import load_sam

PIXEL_MEAN, PIXEL_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # RGB
_PROMPTS_PER_CHUNK = 64
_MASKS_PER_CHUNK = 16  # at the size of the image


@dataclass(frozen=True)
class SamPrompts:
    """Prompts in pixels of the image; without points and boxes, a grid over the whole image.

    Attributes:
        points: (x, y) each; each gives one mask, the best of SAM's three.
        boxes: (x0, y0, x1, y1) each; each gives one mask.
        grid: points along each side of the grid.
        min_iou: masks of the grid whose IoU SAM itself estimates lower are left out; in 0..1.
        min_stability: so are those whose areas at two thresholds have a lower ratio; in 0..1.
        max_overlap: of masks of the grid whose boxes have a higher IoU, the best stays; in 0..1.

    Source of the grid and its defaults: Segment Anything, Kirillov et al. 2023, appendix B; without
    its crops.

    Raises:
        UserError: prompts of another form, a grid without points or thresholds out of range.
    """

    points: Sequence[Sequence[float]] = ()
    boxes: Sequence[Sequence[float]] = ()
    grid: int = 32
    min_iou: float = 0.88
    min_stability: float = 0.95
    max_overlap: float = 0.7

    def __post_init__(self) -> None:
        for name, length in (("points", 2), ("boxes", 4)):
            for prompt in getattr(self, name):
                plain = prompt.tolist() if hasattr(prompt, "tolist") else prompt
                given = list(plain) if isinstance(plain, Collection) else [plain]
                if len(given) != length or not all(isinstance(x, Real) for x in given):
                    raise UserError(
                        f"SamPrompts: {name} have {length} numbers each, got {given!r:.80}."
                    )
        rates = (self.min_iou, self.min_stability, self.max_overlap)
        if self.grid < 1 or not all(0 <= rate <= 1 for rate in rates):
            raise UserError(
                "SamPrompts: expected a grid of 1 or more points and min_iou, min_stability "
                f"and max_overlap in 0 to 1, got {self.grid} and {rates}."
            )

    @property
    def automatic(self) -> bool:
        """Whether the grid replaces prompts."""
        return not self.points and not self.boxes

    def check(self, size: tuple[int, int]) -> None:
        """Compare the prompts with the size (H, W) of the image.

        Raises:
            UserError: one lies outside, or a box has no area; names it.
        """
        height, width = size
        limits = f"the image is {width} wide and {height} high"
        for x, y in self.points:
            if not (0 <= x < width and 0 <= y < height):
                raise UserError(f"the point {x:g},{y:g} lies outside of the image: {limits}")
        for x0, y0, x1, y1 in self.boxes:
            box = f"the box {x0:g},{y0:g},{x1:g},{y1:g}"
            if not (x0 < x1 and y0 < y1):
                raise UserError(f"{box} has no area: expected x0,y0,x1,y1 with x0 < x1, y0 < y1")
            if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
                raise UserError(f"{box} does not lie inside the image: {limits}")

    def grid_points(self, size: tuple[int, int]) -> Tensor:
        """Return the grid's points (grid^2, 2) as x, y, at the centres of equal cells of (H, W)."""
        steps = (torch.arange(self.grid) + 0.5) / self.grid
        y, x = torch.meshgrid(steps * size[0], steps * size[1], indexing="ij")
        return torch.stack([x, y], -1).flatten(0, 1)


class SamSegmenter(nn.Module):
    """Make masks without classes from points, boxes or a grid.

    Args:
        model: as `load_sam` reads it; not trained here.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.image_size = int(model.config.vision_config.image_size)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> Self:
        """Read the weights in a folder; see `load_sam`."""
        return cls(load_sam(folder))

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor, prompts: SamPrompts) -> tuple[Tensor, Tensor]:
        """Segment one image.

        Args:
            image: (3, H, W), RGB, in 0..255.
            prompts: in pixels of the image.

        Returns:
            masks (N, H, W), bool, and SAM's own estimate of their IoU (N,), in 0..1; of a grid the
            best first, else in the order of the prompts.

        Raises:
            UserError: a prompt lies outside the image.
        """
        output = (image.shape[-2], image.shape[-1])
        device = next(self.model.parameters()).device
        factor = self.image_size / max(output)
        height, width = (max(1, round(side * factor)) for side in output)
        resized = F.interpolate(
            image[None].float().to(device), (height, width), mode="bilinear", antialias=True
        )
        mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
        side = self.image_size
        canvas = F.pad((resized - mean) / std, (0, side - width, 0, side - height))
        return self.segment(
            self.embed(canvas), prompts, Canvas((side, side), (height, width), output)
        )

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Return the encoder's output (B, C, S/16, S/16) for normalised canvases (B, 3, S, S).

        Raises:
            UserError: canvases of another size, as the encoder's position tables fit one only.
        """
        side = self.image_size
        if tuple(images.shape[-2:]) != (side, side):
            raise UserError(
                f"SAM's encoder takes {side}x{side} pixels, got {tuple(images.shape[-2:])} "
                "(height, width): set INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST, and in training "
                f"IMAGE_SIZE, to {side}, and MODEL.MASK_FORMER.SIZE_DIVISIBILITY to -1."
            )
        return self.model.get_image_embeddings(images)

    @torch.no_grad()
    def segment(
        self, embedding: Tensor, prompts: SamPrompts, canvas: Canvas
    ) -> tuple[Tensor, Tensor]:
        """Do as `forward`, from an embedding (1, C, h, w); prompts are in pixels of the output."""
        prompts.check(canvas.output)
        if prompts.automatic:
            logits, scores = self._from_grid(embedding, prompts, canvas)
        else:
            logits, scores = self._from_prompts(embedding, prompts, canvas)
        masks = [
            canvas.resize_to_output(part) > 0
            for part in logits.split(_MASKS_PER_CHUNK)
            if len(part)
        ]
        empty = torch.zeros(0, *canvas.output, dtype=torch.bool, device=logits.device)
        return torch.cat([empty, *masks]), scores.clamp(0, 1)

    def _from_prompts(
        self, embedding: Tensor, prompts: SamPrompts, canvas: Canvas
    ) -> tuple[Tensor, Tensor]:
        """Return one mask a prompt, points before boxes: logits (N, h, w) and scores (N,)."""
        found = []
        if prompts.points:
            points = _to_canvas(torch.tensor(prompts.points, dtype=torch.float32), canvas)
            for part in points.split(_PROMPTS_PER_CHUNK):
                logits, scores = self._ask(embedding, points=part)
                scores, best = scores.max(1)
                found.append((logits[torch.arange(len(best)), best], scores))
        if prompts.boxes:
            boxes = torch.tensor(prompts.boxes, dtype=torch.float32).view(-1, 2, 2)
            for part in _to_canvas(boxes, canvas).flatten(1).split(_PROMPTS_PER_CHUNK):
                logits, scores = self._ask(embedding, boxes=part)
                found.append((logits[:, 0], scores[:, 0]))
        return torch.cat([x for x, _ in found]), torch.cat([x for _, x in found])

    def _from_grid(
        self, embedding: Tensor, prompts: SamPrompts, canvas: Canvas
    ) -> tuple[Tensor, Tensor]:
        """Return the good masks of all points of the grid, the best of those that overlap."""
        points = _to_canvas(prompts.grid_points(canvas.output), canvas)
        kept = [
            _good_ones(*self._ask(embedding, points=part), prompts, canvas)
            for part in points.split(_PROMPTS_PER_CHUNK)
        ]
        logits, scores = torch.cat([x for x, _ in kept]), torch.cat([x for _, x in kept])
        boxes = mask_boxes(_within(logits, canvas) > 0)
        chosen = nms(boxes, scores, prompts.max_overlap)
        return logits[chosen], scores[chosen]

    def _ask(
        self, embedding: Tensor, points: Tensor | None = None, boxes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return logits (P, M, h, w) and scores (P, M) for points (P, 2) on the canvas, with M = 3
        masks from part to whole, or for boxes (P, 4), with M = 1."""
        device = embedding.device
        if points is not None:
            asked = {"input_points": points[None, :, None].to(device)}
            asked["input_labels"] = torch.ones(1, len(points), 1, dtype=torch.int64, device=device)
        else:
            asked = {"input_boxes": boxes[None].to(device)}
        out = self.model(image_embeddings=embedding, multimask_output=points is not None, **asked)
        return out.pred_masks[0], out.iou_scores[0]


def _to_canvas(points: Tensor, canvas: Canvas) -> Tensor:
    """Convert points (..., 2) from pixels of the output to pixels of the canvas."""
    (height, width), (rows, columns) = canvas.image, canvas.output
    return points * torch.tensor([width / columns, height / rows])


def _within(logits: Tensor, canvas: Canvas) -> Tensor:
    """Return the part of logits (..., h, w) that shows the image, without the padding."""
    height, width = (
        -(-side * n // whole)  # rounded up
        for side, n, whole in zip(canvas.image, logits.shape[-2:], canvas.padded)
    )
    return logits[..., :height, :width]


def _good_ones(
    logits: Tensor, scores: Tensor, prompts: SamPrompts, canvas: Canvas
) -> tuple[Tensor, Tensor]:
    """Return those of logits (P, M, h, w) and scores (P, M) that pass the thresholds, in one row.

    Stability is measured on SAM's own small masks, where the source measures it on large ones.
    """
    logits, scores = logits.flatten(0, 1), scores.flatten()
    within = _within(logits, canvas)
    inner, outer = ((within > t).flatten(1).sum(1) for t in (1, -1))
    good = (scores >= prompts.min_iou) & (inner >= prompts.min_stability * outer)
    good &= (within > 0).flatten(1).any(1)
    return logits[good], scores[good]
