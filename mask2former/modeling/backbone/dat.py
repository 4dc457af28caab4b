"""DAT, the Vision Transformer with Deformable Attention, as a detectron2 backbone.

Source: Vision Transformer with Deformable Attention, Xia et al. 2022.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import zip_longest

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from ...config.arguments import configurable
from ...errors import UserError
from ...layers import LinearSequential
from ..registries import BACKBONE_REGISTRY
from .dat_attention import LocalAttention, SampledKeyAttention, named_norm
from .stages import STAGE_NAMES, Patches, StagedBackbone, run_blocks

_OFFSET_KERNELS = (9, 7, 5, 3)  # of the convolutions that key positions come from, by stage
_PATCH = 4


class DATStage(nn.Module):
    """Blocks of one resolution: attention and an MLP, each after a LayerNorm and in a residual.

    Args:
        dim: channels.
        hidden: width of the MLPs.
        attns: attention of every block, from (B, H, W, C) to the same shape.
        drop_paths: drop path rate of every block.
        checkpointing: compute activations again in the backward pass instead of keeping them.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        attns: Sequence[nn.Module],
        drop_paths: Sequence[float],
        checkpointing: bool,
    ):
        super().__init__()
        self.checkpointing = checkpointing
        self.layer_norms = nn.ModuleList(named_norm(dim) for _ in range(2 * len(attns)))
        self.mlps = nn.ModuleList(_mlp(dim, hidden) for _ in attns)
        self.attns = nn.ModuleList(attns)
        self.drop_paths = nn.ModuleList(StochasticDepth(rate, mode="row") for rate in drop_paths)

    def _block(self, i: int, x: Tensor) -> Tensor:
        drop_path = self.drop_paths[i]
        x = x + drop_path(self.attns[i](self.layer_norms[2 * i](x)))
        return x + drop_path(self.mlps[i](self.layer_norms[2 * i + 1](x)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        blocks = [partial(self._block, i) for i in range(len(self.attns))]
        return run_blocks(blocks, x, self.checkpointing)


def _mlp(dim: int, hidden: int) -> nn.Sequential:
    layers = OrderedDict(
        linear1=nn.Linear(dim, hidden), act=nn.GELU(), linear2=nn.Linear(hidden, dim)
    )
    return nn.Sequential(OrderedDict(chunk=LinearSequential(layers)))


@BACKBONE_REGISTRY.register()
class D2DAT(StagedBackbone):
    """DAT that emits the outputs of its stages as res2 to res5.

    Every first block attends inside windows. Every second one attends to sampled keys in stages
    that have groups, else inside shifted windows.

    Images of any size work. Maps are zero-padded to whole windows and patches; the mask of shifted
    windows does not depend on the size; and the tables of relative positions, made for the
    pretraining's size, are read at displacements relative to the map, as published.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        groups: Sequence[int] = (-1, -1, 3, 6),
        window: int = 7,
        mlp_ratio: float = 4.0,
        offset_range: float = 2.0,
        pretrain_img_size: int = 224,
        drop_path: float = 0.2,
        out_features: Sequence[str] = STAGE_NAMES,
        out_norm: bool = False,
        checkpointing: bool = False,
    ):
        """Build the network; the defaults are those of DAT-T.

        Args:
            in_channels: channels of the images.
            embed_dim: channels of res2; they double from stage to stage.
            depths: blocks of each stage.
            num_heads: attention heads of each stage.
            groups: of the sampled keys in each stage; below 1 where windows are shifted instead.
            window: side of the attention windows in pixels of the maps.
            mlp_ratio: width of the MLPs over that of the stage.
            offset_range: see `SampledKeyAttention`.
            pretrain_img_size: side of the images of the pretraining, a multiple of 32.
            drop_path: drop path rate of the last block; it rises linearly from 0 at the first.
            out_features: the stages that are returned, of res2 to res5.
            out_norm: whether a LayerNorm follows each returned stage, norm0 to norm3.
            checkpointing: compute activations again in the backward pass instead of keeping them.

        Raises:
            UserError: stages that do not exist, not four entries, or widths that do not split.
        """
        super().__init__(
            _PATCH,
            embed_dim,
            drop_path,
            out_features,
            depths=depths,
            num_heads=num_heads,
            groups=groups,
        )
        if pretrain_img_size < 32 or pretrain_img_size % 32:
            raise UserError(
                "MODEL.DAT.PRETRAIN_IMG_SIZE must be a positive multiple of 32, the side of the "
                f"images that the weights were trained on, got {pretrain_img_size}."
            )
        conv = nn.Conv2d(in_channels, embed_dim, _PATCH, stride=_PATCH)
        self.patch_proj = Patches(conv, named_norm(embed_dim))
        self.stages = nn.ModuleList()
        for i, dim in enumerate(self.dims):
            side, heads = pretrain_img_size // (_PATCH * 2**i), num_heads[i]
            keys = (groups[i], side, _OFFSET_KERNELS[i], offset_range)
            attns = [
                SampledKeyAttention(dim, heads, *keys)
                if j % 2 and groups[i] > 0
                else LocalAttention(dim, window, heads, shifted=j % 2 == 1, side=side)
                for j in range(depths[i])
            ]
            self.stages.append(
                DATStage(dim, int(dim * mlp_ratio), attns, self.drop_paths[i], checkpointing)
            )
        self.down_projs = nn.ModuleList(
            Patches(nn.Conv2d(dim, 2 * dim, 2, stride=2, bias=False), named_norm(2 * dim))
            for dim in self.dims[:-1]
        )
        for i, (name, dim) in enumerate(zip(STAGE_NAMES, self.dims)):
            if out_norm and name in out_features:
                self.add_module(f"norm{i}", nn.LayerNorm(dim))
        self.freeze_unused(self.stages, self.down_projs)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        dat = cfg.MODEL.DAT
        return {
            "in_channels": input_shape.channels,
            "embed_dim": dat.EMBED_DIM,
            "depths": dat.DEPTHS,
            "num_heads": dat.NUM_HEADS,
            "groups": dat.GROUPS,
            "window": dat.WINDOW_SIZE,
            "mlp_ratio": dat.MLP_RATIO,
            "offset_range": dat.OFFSET_RANGE_FACTOR,
            "pretrain_img_size": dat.PRETRAIN_IMG_SIZE,
            "drop_path": dat.DROP_PATH_RATE,
            "out_features": dat.OUT_FEATURES,
            "out_norm": dat.OUT_NORM,
            "checkpointing": dat.USE_CHECKPOINT,
        }

    def embed(self, images: Tensor) -> Tensor:
        """Map images (B, H, W, 3) to patches (B, H/4, W/4, C)."""
        return self.patch_proj(images)

    def parts(self) -> list[tuple[nn.Module, nn.Module | None]]:
        """Return the stages, each with the projection behind it."""
        return list(zip_longest(self.stages, self.down_projs))
