"""Prompts for SAM: points, boxes, or a grid of points over the whole image."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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
        ValueError: prompts of another form, a grid without points or thresholds out of range.
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
                if len(prompt) != length:
                    raise ValueError(
                        f"SamPrompts: {name} have {length} numbers each, got {list(prompt)}."
                    )
        rates = (self.min_iou, self.min_stability, self.max_overlap)
        if self.grid < 1 or not all(0 <= rate <= 1 for rate in rates):
            raise ValueError(
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
            ValueError: one lies outside, or a box has no area; names it.
        """
        height, width = size
        limits = f"the image is {width} wide and {height} high"
        for x, y in self.points:
            if not (0 <= x < width and 0 <= y < height):
                raise ValueError(f"the point {x:g},{y:g} lies outside of the image: {limits}")
        for x0, y0, x1, y1 in self.boxes:
            box = f"the box {x0:g},{y0:g},{x1:g},{y1:g}"
            if not (x0 < x1 and y0 < y1):
                raise ValueError(f"{box} has no area: expected x0,y0,x1,y1 with x0 < x1, y0 < y1")
            if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
                raise ValueError(f"{box} does not lie inside the image: {limits}")

    def grid_points(self, size: tuple[int, int]) -> Tensor:
        """Return the grid's points (grid^2, 2) as x, y, at the centres of equal cells of (H, W)."""
        steps = (torch.arange(self.grid) + 0.5) / self.grid
        y, x = torch.meshgrid(steps * size[0], steps * size[1], indexing="ij")
        return torch.stack([x, y], -1).flatten(0, 1)
