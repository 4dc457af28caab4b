"""What the backbones share: names of features, frozen parts, and stages of transformer blocks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Self

import torch
from detectron2.modeling import Backbone
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ...errors import UserError
from ...overrides import replaceable

STAGE_NAMES = ("res2", "res3", "res4", "res5")


class FreezableBackbone(Backbone):
    """A backbone whose frozen modules, those without a trained parameter, stay as in evaluation."""

    @replaceable
    def train(self, mode: bool = True) -> Self:
        """Set training mode, in which frozen modules drop no paths; return the backbone."""
        super().train(mode)
        for module in self.modules() if mode else ():
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()
        return self

    @property
    def size_divisibility(self) -> int:
        """The largest stride, with which features of neighbouring levels fit each other.

        It is 32 for the usual networks. Images of other sizes work too.
        """
        return max(self._out_feature_strides.values())


class Patches(nn.Sequential):
    """A convolution of square patches that do not overlap, and a norm of its result."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C), zero-padded to whole patches, to (B, H/patch, W/patch, C')."""
        conv, norm = self
        patch = conv.kernel_size[0]
        x = F.pad(x, (0, 0, 0, -x.shape[2] % patch, 0, -x.shape[1] % patch)).permute(0, 3, 1, 2)
        return norm(conv(x.contiguous()).permute(0, 2, 3, 1))


def run_blocks(
    blocks: Iterable[Callable[[Tensor], Tensor]], x: Tensor, checkpointing: bool
) -> Tensor:
    """Apply one block after the other.

    With `checkpointing`, activations are computed again in the backward pass instead of kept.
    """
    for block in blocks:
        if checkpointing and torch.is_grad_enabled():
            x = checkpoint(block, x, use_reentrant=False)
        else:
            x = block(x)
    return x


class StagedBackbone(FreezableBackbone):
    """Stages of blocks over maps (B, H, W, C), whose outputs are res2 to res5.

    Each stage has half the resolution and twice the channels of the one before. A norm that a
    subclass names `norm0` to `norm3` follows the output of that stage. Subclasses define
    `embed(images)`, from (B, H, W, 3) to the first stage's input, and `parts()`, the list of each
    stage with what leads from its output to the next one's input, None for the last.

    Args:
        patch_size: stride of res2.
        embed_dim: channels of res2.
        drop_path: drop path rate of the last block; it rises linearly from 0 at the first.
        out_features: the stages that are returned.
        depths: blocks of each stage.
        **by_stage: other arguments that have one entry for each stage.

    Attributes:
        dims: channels of each stage.
        drop_paths: drop path rates of the blocks of each stage.

    Raises:
        UserError: stages that do not exist, or arguments of unequal length.
    """

    def __init__(
        self,
        patch_size: int,
        embed_dim: int,
        drop_path: float,
        out_features: Sequence[str],
        depths: Sequence[int],
        **by_stage: Sequence[int],
    ):
        super().__init__()
        lists = [list(values) for values in (depths, *by_stage.values())]
        if len({len(values) for values in lists}) > 1 or len(depths) > len(STAGE_NAMES):
            raise UserError(
                f"{type(self).__name__}: depths, {' and '.join(by_stage)} need one entry for each "
                f"of at most {len(STAGE_NAMES)} stages, got {', '.join(map(str, lists))}."
            )
        names = STAGE_NAMES[: len(depths)]
        if not out_features or not set(out_features) <= set(names):
            raise UserError(
                f"{type(self).__name__}: out_features must be some of {list(names)}, "
                f"got {list(out_features)}."
            )
        self.dims = [embed_dim * 2**i for i in range(len(depths))]
        rates = torch.linspace(0, drop_path, sum(depths), dtype=torch.float64, device="cpu")
        self.drop_paths = [stage.tolist() for stage in rates.split(list(depths))]
        self._out_features = [name for name in names if name in out_features]
        self._out_feature_channels = dict(zip(names, self.dims))
        self._out_feature_strides = {name: patch_size * 2**i for i, name in enumerate(names)}

    def freeze_unused(
        self, stages: Sequence[nn.Module], merges: Sequence[nn.Module | None]
    ) -> None:
        """Freeze what no output depends on, which distributed training would wait for.

        Args:
            stages: the modules of all stages.
            merges: what follows each of them, if anything does.
        """
        names = list(self._out_feature_strides)
        last = names.index(self._out_features[-1])
        norms = [
            getattr(self, f"norm{i}", None)
            for i, name in enumerate(names)
            if name not in self._out_features
        ]
        for module in (*norms, *stages[last + 1 :], *merges[last:]):
            if module is not None:
                module.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalised images (B, 3, H, W) to {name: (B, C, H/stride, W/stride)}, rounded up.

        Raises:
            ValueError: images without four axes.
        """
        if images.dim() != 4:
            raise ValueError(
                f"{type(self).__name__}: images must be (B, C, H, W), got {tuple(images.shape)}."
            )
        x, features = self.embed(images.permute(0, 2, 3, 1)), {}
        for i, (name, (stage, merge)) in enumerate(zip(self._out_feature_strides, self.parts())):
            x = stage(x)
            if name in self._out_features:
                norm = getattr(self, f"norm{i}", None)
                out = x if norm is None else norm(x)
                features[name] = out.permute(0, 3, 1, 2).contiguous()
            x = x if merge is None else merge(x)
        return features
