"""The head of EoMT: the last blocks of a ViT, which see queries beside the patches.

Source: Your ViT is Secretly an Image Segmentation Model, Kerssies et al. 2025, section 3.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.convnext import LayerNorm2d

from ...config.arguments import configurable
from ...errors import UserError
from ..backbone.timm_vit import PATCHES, PREFIX, apply_blocks, build_vit, split_index
from ..registries import SEM_SEG_HEADS_REGISTRY
from ..transformer_decoder.pilot import NO_PILOTS, PilotQueries, Pilots


class UpscaleBlock(nn.Module):
    """Double the resolution of a map of some channels."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(dim, dim, 2, stride=2)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = LayerNorm2d(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, 2H, 2W)."""
        return self.norm(self.conv2(F.gelu(self.conv1(x))))


@SEM_SEG_HEADS_REGISTRY.register()
class EoMTHead(nn.Module):
    """Predict classes and masks of queries in the last blocks of a ViT.

    Args:
        input_shape: shapes of the features of a `ViTStart`.
        num_classes: K, without no-object.
        vit: of timm, whole; all but its last blocks and its norm is dropped here.
        num_queries: Q.
        num_blocks: how many blocks see the queries.
        upscale_blocks: each doubles the resolution of the masks, from that of the patches on.
        lr_scales: factors of the learning rate by parameter of the ViT.
        checkpointing: compute activations again in the backward pass instead of keeping them.
        pilots: queries that are shown the targets while training; by default there are none.

    Attributes:
        attn_mask_probs: of each block, the probability that a query sees the patches of its mask
            only; see `set_mask_probs`.

    Raises:
        UserError: the ViT has fewer blocks, no norm, or patches too small for the upscaling.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        num_classes: int,
        vit: Any,
        num_queries: int,
        num_blocks: int,
        upscale_blocks: int = 2,
        lr_scales: Mapping[str, float] | None = None,
        checkpointing: bool = False,
        pilots: Pilots = NO_PILOTS,
    ):
        super().__init__()
        first, dim = split_index(vit, num_blocks), vit.embed_dim
        _check(input_shape, vit, upscale_blocks)
        self.num_classes = num_classes
        self.num_queries = num_queries
        self.checkpointing = checkpointing
        self.blocks = nn.ModuleList(vit.blocks[first:])
        self.norm: nn.Module = vit.norm
        self.rope: Any = getattr(vit, "rope", None)
        for block in vit.blocks[
            first:
        ]:  # queries have no place in the image, as other leading tokens
            if hasattr(block.attn, "num_prefix_tokens"):
                block.attn.num_prefix_tokens = vit.num_prefix_tokens + num_queries
        self.query = nn.Embedding(num_queries, dim)
        self.class_embed = nn.Linear(dim, num_classes + 1)
        self.mask_embed = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim)
        )
        self.upscale = nn.Sequential(*(UpscaleBlock(dim) for _ in range(upscale_blocks)))
        self.pilot = PilotQueries(num_classes, dim, pilots) if pilots.queries else None
        self._lr_scales = _of_last_blocks(lr_scales or {}, first)
        self.attn_mask_probs: Tensor
        self.register_buffer("attn_mask_probs", torch.ones(num_blocks))
        self._probs = [1.0] * num_blocks  # the same, without a transfer from a GPU
        self.register_load_state_dict_post_hook(_take_probs)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        vit = build_vit(cfg)
        return {
            "input_shape": input_shape,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "vit": vit.model,
            "num_queries": cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES,
            "num_blocks": cfg.MODEL.MASK_FORMER.DEC_LAYERS - 1,
            "upscale_blocks": cfg.MODEL.EOMT.UPSCALE_BLOCKS,
            "lr_scales": vit.lr_scales,
            "checkpointing": cfg.MODEL.TIMM.USE_CHECKPOINT,
            "pilots": Pilots.of(cfg),
        }

    def lr_scales(self) -> dict[str, float]:
        """Return the factor of the learning rate by parameter, for those where it is not 1."""
        return dict(self._lr_scales)

    def set_mask_probs(self, probs: Sequence[float]) -> None:
        """Set for each block the probability, 0 to 1, that a query sees its mask only.

        At 0 there are no masks and, in eval, no predictions before the last block.

        Raises:
            ValueError: another number of probabilities.
        """
        if len(probs) != len(self.blocks):
            raise ValueError(f"expected {len(self.blocks)} probabilities, got {len(probs)}")
        self.attn_mask_probs.copy_(torch.tensor(probs))
        self._probs = list(probs)

    def forward(self, features: dict[str, Tensor], *, aux_outputs: bool = True) -> dict:
        """Predict from the tokens of a `ViTStart`.

        Args:
            features: `patches` (B, C, H, W) and `prefix` (B, P, C).
            aux_outputs: also return the predictions before each block.

        Returns:
            `pred_logits` (B, Q, K+1); `pred_masks` (B, Q, s*H, s*W), logits, s = 2**upscale_blocks;
            and, if wanted, `aux_outputs`, a list of dicts with these two. Where pilot queries are
            shown targets, `pilots`, the `PilotBatch` with predictions.
        """
        patches, prefix = features[PATCHES], features[PREFIX]
        size = (patches.shape[-2], patches.shape[-1])
        queries = self.query.weight.expand(patches.shape[0], -1, -1).to(prefix.dtype)
        pilots = self.pilot and self.pilot.shown
        if pilots:
            queries = torch.cat([queries, pilots.queries.to(prefix.dtype)], 1)
        count = queries.shape[1]
        x = torch.cat([queries, prefix, patches.flatten(2).mT], 1)
        rope = self._rope(size, count - self.num_queries)
        predictions = []
        for block, prob in zip(self.blocks, self._probs):
            mask = None
            if aux_outputs or prob > 0:
                predictions.append(self._predict(x, size, count))
            if prob > 0:
                logits = predictions[-1]["pred_masks"][:, : self.num_queries]
                mask = self._attention_mask(logits, x.shape[1], size, prob)
            if pilots:
                mask = pilots.among_tokens(mask, x.shape[1], self.num_queries, size)
            x = apply_blocks([block], x, rope, mask, self.checkpointing)
        predictions.append(self._predict(x, size, count))
        if pilots:
            for prediction in predictions[1:]:
                pilots.keep({k: v[:, self.num_queries :] for k, v in prediction.items()})
            predictions = [{k: v[:, : self.num_queries] for k, v in p.items()} for p in predictions]
        outputs: dict[str, Any] = predictions.pop()
        outputs |= {"aux_outputs": predictions} if aux_outputs else {}
        return outputs | {"pilots": pilots} if pilots else outputs

    def _rope(self, size: tuple[int, int], pilots: int) -> Tensor | None:
        """Return the rotary positions, sines beside cosines, of the patches and of as many tokens
        without a place before them as there are pilots."""
        if self.rope is None:
            return None
        rope: Tensor = self.rope.get_embed(shape=size)
        still = rope.new_zeros(pilots, rope.shape[1])
        still[:, rope.shape[1] // 2 :] = 1
        return torch.cat([still, rope])

    def _predict(self, x: Tensor, size: tuple[int, int], count: int) -> dict[str, Tensor]:
        """Predict from all tokens (B, N, C), of which the first ones, so many, are queries."""
        x = self.norm(x)
        queries = x[:, :count]
        patches = x[:, x.shape[1] - size[0] * size[1] :].mT.unflatten(2, size)
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_embed(queries), self.upscale(patches))
        return {"pred_logits": self.class_embed(queries), "pred_masks": masks}

    def _attention_mask(
        self, mask_logits: Tensor, tokens: int, size: tuple[int, int], prob: float
    ) -> Tensor:
        """Return which tokens see which, (B, 1, N, N), True where they do: queries only the patches
        where their mask logits (B, Q, H', W') are above 0, but with a probability of 1 - prob all
        patches; and everything else everything."""
        with torch.no_grad():
            logits = F.interpolate(mask_logits.float(), size, mode="bilinear")
            seen = logits.flatten(2) > 0  # (B, Q, H*W)
            if prob < 1:
                seen |= torch.rand(seen.shape[:2], device=seen.device)[..., None] >= prob
            batch, queries, patches = seen.shape
            allowed = seen.new_ones(batch, 1, tokens, tokens)
            allowed[:, 0, :queries, tokens - patches :] = seen
        return allowed


def _check(input_shape: dict[str, ShapeSpec], vit: Any, upscale_blocks: int) -> None:
    missing = {PATCHES, PREFIX} - set(input_shape)
    if missing:
        raise UserError(
            f"EoMTHead: expected the features {PATCHES} and {PREFIX} of build_timm_vit_backbone, "
            f"got {', '.join(input_shape)}; set MODEL.BACKBONE.NAME."
        )
    patch = vit.patch_embed.patch_size[0]
    if upscale_blocks < 0 or patch % 2**upscale_blocks:
        raise UserError(
            f"MODEL.EOMT.UPSCALE_BLOCKS: masks of patches of {patch} pixels can be enlarged 0 to "
            f"{patch.bit_length() - 1} times by two, got {upscale_blocks}."
        )
    if not isinstance(vit.norm, nn.LayerNorm):
        raise UserError(
            "EoMTHead: expected a ViT whose last layer is a LayerNorm, as those of DINOv2 and "
            f"DINOv3; got a {type(vit.norm).__name__}: choose another MODEL.TIMM.NAME."
        )


def _of_last_blocks(scales: Mapping[str, float], first: int) -> dict[str, float]:
    """Return the entries of the blocks from `first` on, under the names that they have here."""
    found = {}
    for name, scale in scales.items():
        start, _, rest = name.partition(".")
        index, _, rest = rest.partition(".")
        if start == "blocks" and int(index) >= first:
            found[f"blocks.{int(index) - first}.{rest}"] = scale
    return found


def _take_probs(head: EoMTHead, incompatible_keys: Any) -> None:
    head._probs = head.attn_mask_probs.tolist()
