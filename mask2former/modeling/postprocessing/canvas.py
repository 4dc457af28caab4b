"""Masks from the size that they are predicted at to the size of the output."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ...ops.masks import resize

Size = tuple[int, int]  # H, W in pixels

# Mask pixels (maps x rows x width) of a block: on CPUs such that it stays in the cache, and that
# what is computed from it takes little memory beside results of 32 bits; of 16 twice as many.
_PIXELS_PER_BLOCK = {"cpu": 2**19}
_PIXELS_PER_BLOCK_ELSEWHERE = 16 * 2**20
_MIN_ROWS = 4  # fewer take more calls for the same output


@dataclass(frozen=True)
class Canvas:
    """The sizes (H, W) that an image passes through.

    Attributes:
        padded: the batch's canvas, which predictions cover.
        image: the part of it, at its top left, that the image fills.
        output: the size wanted.
    """

    padded: Size
    image: Size
    output: Size

    def resize_to_output(self, mask_logits: Tensor) -> Tensor:
        """Bring (N, h, w) predictions over the padded canvas to (N, *output), as published:
        resized to the canvas, cropped to the image, resized again."""
        return resize(self.crop(resize(mask_logits, self.padded)), self.output)

    def crop(self, maps: Tensor) -> Tensor:
        """Cut maps (N, *padded) to the image."""
        return maps[:, : self.image[0], : self.image[1]]

    def blocks(self, mask_logits: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Do the same as `resize_to_output`, a few rows of the output at a time.

        Rows and columns are resized independently of each other. So a block's rows are weighted
        sums of the few rows of the predictions that it shows, whose columns are resized before.

        Args:
            mask_logits: (N, h, w), of any floating type, or what has that shape, a device, and
                gives such a tensor for `[:, rows]`.

        Yields:
            the rows of the output, top to bottom, and their maps (N, rows, output width), float32.
            Equal to those of `resize_to_output` up to rounding.
        """
        resized = ResizedRows(self, mask_logits)
        for rows in self.row_blocks(mask_logits):
            yield rows, resized[rows]

    def row_blocks(self, mask_logits: Tensor) -> Iterator[slice]:
        """Yield the rows of the blocks of predictions, see `blocks`."""
        count, output_width = mask_logits.shape[0], self.output[1]
        budget = _PIXELS_PER_BLOCK.get(mask_logits.device.type, _PIXELS_PER_BLOCK_ELSEWHERE)
        if getattr(mask_logits, "dtype", None) in (torch.bfloat16, torch.float16):
            budget *= 2
        step = max(_MIN_ROWS, budget // max(1, count * output_width))
        for start in range(0, self.output[0], step):
            yield slice(start, min(start + step, self.output[0]))


class ResizedRows:
    """What `Canvas.resize_to_output` returns, of which `[rows]` computes some, asked for in order.

    The arguments are those of `Canvas.blocks`.
    """

    def __init__(self, canvas: Canvas, mask_logits: Tensor):
        count, height, _ = mask_logits.shape
        heights = (canvas.padded[0], canvas.image[0], canvas.output[0])
        self.count = count
        self.weights, self.sources = _row_weights(height, *heights, mask_logits.device)
        self.columns = _ResizedColumns(canvas, mask_logits)

    def __getitem__(self, rows: slice) -> Tensor:
        """Return some rows, (N, rows, output width), float32."""
        first, last = self.sources[rows.start][0], self.sources[rows.stop - 1][1]
        shown = self.columns.rows(first, last)
        return torch.bmm(self.weights[rows, first:last].expand(self.count, -1, -1), shown)


class _ResizedColumns:
    """The rows of predictions, (N, h, w), with columns of the output's size.

    Each is resized once, if rows are asked for in order.
    """

    def __init__(self, canvas: Canvas, mask_logits: Tensor):
        self.canvas = canvas
        self.mask_logits = mask_logits
        self.kept: Tensor | None = None
        self.first = self.last = 0  # of those kept, and one after the last

    def rows(self, first: int, last: int) -> Tensor:
        """Return some rows, (N, last - first, output width), float32."""
        parts = []
        if self.kept is not None and first < self.last:
            parts.append(self.kept[:, first - self.first : last - self.first])
        new = max(first, self.last)
        if new < last:
            parts.append(self._resize(self.mask_logits[:, new:last].float()))
        self.kept = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        self.first, self.last = first, last
        return self.kept

    def _resize(self, maps: Tensor) -> Tensor:
        height, canvas = maps.shape[1], self.canvas
        widths = [(height, size[1]) for size in (canvas.padded, canvas.image, canvas.output)]
        return Canvas(*widths).resize_to_output(maps)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _row_weights(
    height: int, padded: int, image: int, output: int, device: torch.device
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Return how much each row of the output, (H, height), has of each row of the predictions, and
    the first row that it has something of and the one after the last."""
    unit_columns = torch.eye(height)[:, :, None]  # each is 1 in one row
    one_wide = Canvas((padded, 1), (image, 1), (output, 1))
    weights = one_wide.resize_to_output(unit_columns)[:, :, 0].T.contiguous()
    used = (weights != 0).int()
    first, last = used.argmax(1), height - used.flip(1).argmax(1)
    return weights.to(device, non_blocking=True), list(zip(first.tolist(), last.tolist()))
