"""Attention inside (shifted) windows, and the Swin Transformer block made of it.

Source: Swin Transformer, Liu et al. 2021, section 3.2. Maps are channels last, (B, H, W, C).
"""

from collections import OrderedDict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from .linear import LinearSequential, check_heads, linear_of

# Added to the attention logits between pixels that only the cyclic shift brought together.
_APART = -100.0


def _relative_position_index(window: int) -> Tensor:
    """Return the row of the bias table for every pair of pixels of a window, int64 (w*w, w*w)."""
    y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    dy = y.flatten()[:, None] - y.flatten() + window - 1
    dx = x.flatten()[:, None] - x.flatten() + window - 1
    return dy * (2 * window - 1) + dx


def _shift_masks(window: int, shift: int) -> Tensor:
    """Return what to add to the attention logits in the windows of a cyclically shifted map.

    Only windows of the last row and of the last column hold pixels from opposite borders, so four
    masks serve maps of every size.

    Returns:
        (2, 2, w*w, w*w): the first index is 1 in the last row, the second in the last column.
    """
    wrapped = torch.arange(window) >= window - shift
    apart = wrapped[:, None] != wrapped  # two rows, or two columns, of a window
    shape = (window, window, window, window)  # y, x of the query; y, x of the key
    masks = torch.stack([torch.zeros_like(apart), apart])
    rows = masks[:, None, :, None, :, None].expand(2, 2, *shape)
    columns = masks[None, :, None, :, None, :].expand(2, 2, *shape)
    return _APART * (rows | columns).flatten(4, 5).flatten(2, 3).float()


class WindowAttention(nn.Module):
    """Self-attention among the pixels of a window, with a learned bias by relative position.

    Args:
        dim: channels, divisible by num_heads.
        window: side of a window in pixels.
        num_heads: attention heads.
        shift: pixels by which the windows are shifted down and right; 0 for none.
        qkv_bias: whether the query, key and value projections have a bias.
        qk_scale: factor of the dot products; (dim / num_heads) ** -0.5 if not given.
        attn_drop: probability of dropping an attention weight while training.
        drop: probability of dropping an output channel while training.
    """

    relative_position_index: Tensor
    shift_masks: Tensor | None
    # The attributes that are the two projections; subclasses name them as published weights do.
    projections: ClassVar[tuple[str, str]] = ("qkv", "proj")

    def __init__(
        self,
        dim: int,
        window: int,
        num_heads: int,
        shift: int = 0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        drop: float = 0.0,
    ):
        super().__init__()
        check_heads(self, dim, num_heads)
        self.window = window
        self.num_heads = num_heads
        self.shift = shift
        self.qk_scale = qk_scale
        self.attn_drop = attn_drop
        self.relative_position_bias_table = nn.Parameter(
            torch.empty((2 * window - 1) ** 2, num_heads)
        )
        self.register_buffer("relative_position_index", _relative_position_index(window))
        masks = _shift_masks(window, shift) if shift else None
        self.register_buffer("shift_masks", masks, persistent=False)
        to_qkv, to_output = self.projections
        self.add_module(to_qkv, nn.Linear(dim, 3 * dim, bias=qkv_bias))
        self.add_module(to_output, nn.Linear(dim, dim))
        self.proj_drop = nn.Dropout(drop)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def position_bias(self) -> Tensor:
        """Return what to add to the attention logits, (M, w*w, w*w)."""
        bias = F.embedding(self.relative_position_index, self.relative_position_bias_table)
        return bias.permute(2, 0, 1).contiguous()

    def attend(self, windows: Tensor, bias: Tensor) -> Tensor:
        """Map windows (G, w*w, C), with a bias (M, w*w, w*w) of the logits, or one for each window,
        (G, M, w*w, w*w), to (G, w*w, C)."""
        to_qkv, to_output = (getattr(self, name) for name in self.projections)
        qkv = linear_of(to_qkv, windows).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.transpose(1, 3).unbind(2)  # (G, M, w*w, C/M) each
        out = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=(bias[None] if bias.dim() == 3 else bias).to(query.dtype),
            dropout_p=self.attn_drop if self.training else 0.0,
            scale=self.qk_scale,
        )
        return self.proj_drop(linear_of(to_output, out.transpose(1, 2).flatten(2)))

    def _attend_inside(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attend inside every window of x (B, R, w, S, w*C), R by S of them; the same shape.

        Rows of windows have one axis with their channels: some runtimes take five axes at most.
        """
        windows = x.transpose(2, 3)  # (B, R, S, w, w*C)
        pixels = windows.flatten(0, 2).unflatten(2, (self.window, -1)).flatten(1, 2)
        return self.attend(pixels, bias).view(windows.shape).transpose(2, 3)

    def _attend_shifted(self, x: Tensor, bias: Tensor, masks: Tensor) -> Tensor:
        """Attend like `_attend_inside`; the last row and column have masks of their own."""
        rows = []
        for last_row, row in enumerate(x.tensor_split([-1], dim=1)):
            parts = []
            for last_column, part in enumerate(row.tensor_split([-1], dim=3)):
                parts.append(self._attend_inside(part, bias + masks[last_row, last_column]))
            rows.append(torch.cat(parts, dim=3))
        return torch.cat(rows, dim=1)

    def _attend_exported(self, x: Tensor, bias: Tensor, masks: Tensor) -> Tensor:
        """Do the same without parts: a program for any size may not split off the last window,
        before which there may be none."""
        batch, rows, _, columns = x.shape[:4]
        last_row, last_column = (torch.arange(n) == n - 1 for n in (rows, columns))
        which = last_row[:, None] * 2 + last_column * 1
        by_window = masks.flatten(0, 1).index_select(0, which.flatten())[:, None] + bias
        return self._attend_inside(x, by_window.repeat(batch, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C), zero-padded to whole windows, to (B, H, W, C); H and W are any."""
        (height, width), window, shift = x.shape[1:3], self.window, self.shift
        # Written so that whole windows can be seen in sizes that are symbols.
        bottom, right = ((n + window - 1) // window * window - n for n in (height, width))
        x = F.pad(x, (0, 0, 0, right, 0, bottom))
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
        channels, bias = x.shape[3], self.position_bias()
        x = x.flatten(2).unflatten(2, (-1, window * channels)).unflatten(1, (-1, window))
        if self.shift_masks is None:
            x = self._attend_inside(x, bias)
        elif torch.compiler.is_exporting():
            x = self._attend_exported(x, bias, self.shift_masks)
        else:
            x = self._attend_shifted(x, bias, self.shift_masks)
        x = x.flatten(3).unflatten(3, (-1, channels)).flatten(1, 2)
        if shift:
            x = x.roll((shift, shift), (1, 2))
        return first_pixels(x, height, width)


def first_pixels(x: Tensor, height: int, width: int) -> Tensor:
    """Cut maps (B, H, W, C), padded right and below, to (B, height, width, C)."""
    if torch.compiler.is_exporting():  # for any size: a slice would differ where nothing is cut
        rows, columns = (torch.arange(n, device=x.device) for n in (height, width))
        return x.index_select(1, rows).index_select(2, columns)
    return x[:, :height, :width]


class SwinBlock(nn.Module):
    """Window attention and an MLP, each after a LayerNorm and inside a residual.

    Args:
        dim: channels.
        window: side of a window in pixels.
        shift: pixels by which the windows are shifted down and right; 0 for none.
        mlp_ratio: width of the MLP over `dim`.
        drop: dropout probability of the MLP.
        drop_path: probability of dropping a residual branch of an image while training.
        **attention: other arguments of `WindowAttention`.
    """

    def __init__(
        self,
        dim: int,
        window: int,
        shift: int,
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
        drop_path: float = 0.0,
        **attention: Any,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, shift=shift, drop=drop, **attention)
        self.drop_path = StochasticDepth(drop_path, mode="row")
        self.norm2 = nn.LayerNorm(dim)
        hidden = int(dim * mlp_ratio)
        self.mlp = LinearSequential(
            OrderedDict(
                fc1=nn.Linear(dim, hidden),
                act=nn.GELU(),
                drop1=nn.Dropout(drop),
                fc2=nn.Linear(hidden, dim),
                drop2=nn.Dropout(drop),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C); H and W are any."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
