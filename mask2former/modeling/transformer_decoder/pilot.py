"""Queries that are shown the true classes and masks while training, and that inference never sees.

Source: MP-Former, Zhang et al. 2023, section 3 (mask-piloted training). In every decoder layer a
pilot query attends inside the mask of its target, with points turned over at random, instead of the
mask that it predicted before, and it starts from the embedding of its target's class, at times of a
wrong one. It is assigned to its target without matching. Pilots and the other queries do not see
each other, nor do two pilots of one target.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import UserError
from ...ops.masks import cells_inside

Targets = Sequence[dict[str, Tensor]]


class Pilots(NamedTuple):
    """How many pilots there are, and what they are shown.

    Attributes:
        queries: P, pilots of an image, 0 for none. They go round its targets, in random order; of
            more targets than pilots, some have none.
        label_noise: fraction of the pilots that get a random class, in 0..1.
        point_noise: how many points of a mask are turned over, as a fraction of its area, in 0..1.
    """

    queries: int = 0
    label_noise: float = 0.2
    point_noise: float = 0.2

    @classmethod
    def of(cls, cfg: CfgNode) -> Self:
        """Read MODEL.MASK_FORMER.PILOT."""
        pilot = cfg.MODEL.MASK_FORMER.PILOT
        return cls(pilot.QUERIES, pilot.LABEL_NOISE, pilot.POINT_NOISE)


NO_PILOTS = Pilots()


@dataclass(eq=False)
class PilotBatch:
    """The pilots of a batch, P for each image or clip.

    Attributes:
        queries: (B, P, C).
        masks: of the targets of every image, (N, H, W), for clips (N, T, H, W), bool.
        chosen: of every image, the targets (P,) that its pilots are shown, on the CPU; of one
            without targets none, whose pilots idle.
        point_noise: see `Pilots`.
        predictions: of the pilots after each layer, as the decoder returns them.
    """

    queries: Tensor
    masks: list[Tensor]
    chosen: list[Tensor]
    point_noise: float
    predictions: list[dict[str, Tensor]] = field(default_factory=list)
    _inside: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    _among: Tensor | None = None

    def join(
        self, queries: Tensor, position: Tensor, attend: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Put the pilots behind other queries, for a layer.

        Args:
            queries: (B, Q, C).
            position: of the queries, (1, Q, C); pilots have none.
            attend: where the queries may look, (B, 1, Q, T*h*w), bool.
            size: (h, w) of the level.

        Returns:
            the same for the Q + P queries, and which of them may look at which,
            (B, 1, Q + P, Q + P).
        """
        if self._among is None:
            self._among = self._groups(queries.shape[1])
        joined = torch.cat([queries, self.queries.to(queries.dtype)], 1)
        position = F.pad(position, (0, 0, 0, self.queries.shape[1]))
        return joined, position, torch.cat([attend, self._cells(size)], 2), self._among

    def split(self, queries: Tensor) -> Tensor:
        """Keep the pilots among joined queries, and return the others."""
        others, self.queries = queries.split(
            [queries.shape[1] - self.queries.shape[1], self.queries.shape[1]], 1
        )
        return others

    @torch.no_grad()
    def among_tokens(
        self, allowed: Tensor | None, tokens: int, first: int, size: tuple[int, int]
    ) -> Tensor:
        """Say what pilots see, and what sees them, where they are tokens beside all others.

        Args:
            allowed: which tokens see which, (B, 1, N, N), bool; None where all do; changed.
            tokens: N: other queries, the pilots, tokens without a place, and the h*w patches.
            first: index of the first pilot.
            size: (h, w) of the patches.

        Returns:
            the same, but that pilots see their set, patches of their mask and the tokens without a
            place, and that nothing else sees pilots.
        """
        batch, count = self.queries.shape[:2]
        if allowed is None:
            allowed = self.queries.new_ones(batch, 1, tokens, tokens, dtype=torch.bool)
        if self._among is None:
            self._among = self._groups(0)
        here = slice(first, first + count)
        allowed[..., here] = False
        allowed[:, :, here, :first] = False
        allowed[:, :, here, here] = self._among
        allowed[:, :, here, tokens - size[0] * size[1] :] = self._cells(size)
        return allowed

    def keep(self, predictions: dict[str, Tensor]) -> None:
        """Keep the predictions of a layer for the losses."""
        self.predictions.append(predictions)

    @torch.no_grad()
    def _groups(self, num_queries: int) -> Tensor:
        """Return which queries may look at which: the others, and each set of pilots of all
        targets, at themselves."""
        count = self.queries.shape[1]
        group = torch.full((len(self.masks), num_queries + count), -1)
        for row, masks in zip(group, self.masks):
            row[num_queries:] = torch.arange(count) // max(len(masks), 1)
        group = group.to(self.queries.device, non_blocking=True)
        return (group[:, :, None] == group[:, None])[:, None]

    @torch.no_grad()
    def _cells(self, size: tuple[int, int]) -> Tensor:
        """Return the cells (B, 1, P, T*h*w) that pilots attend to: those of their masks, but for as
        many random ones as make up the noise's fraction of the mask."""
        if size not in self._inside:
            self._inside[size] = torch.stack(
                [self._pooled(b, size) for b in range(len(self.masks))]
            )
        cells = self._inside[size]
        probability = self.point_noise * cells.float().mean(-1, keepdim=True)
        cells = cells ^ (torch.rand(cells.shape, device=cells.device) < probability)
        return (cells | ~cells.any(-1, keepdim=True))[:, None]

    def _pooled(self, index: int, size: tuple[int, int]) -> Tensor:
        """Return the cells (P, T*h*w) of the masks of an image's pilots; all for those that idle.

        The paper resizes bilinearly, by which small masks vanish on coarse levels.
        """
        masks, chosen = self.masks[index], self.chosen[index]
        if not len(chosen):
            frames = masks.shape[1] if masks.dim() == 4 else 1
            return masks.new_ones(self.queries.shape[1], frames * size[0] * size[1])
        coverage = F.adaptive_avg_pool2d(masks.float(), size).flatten(1)
        return cells_inside(coverage)[chosen.to(masks.device, non_blocking=True)]


class PilotQueries(nn.Embedding):
    """The embeddings of classes that pilots start from, and how they are drawn.

    Args:
        num_classes: K, without no-object.
        hidden_dim: C.
        options: how many there are, and their noise.

    Attributes:
        shown: the pilots of the batch that the decoder is to run, or None.

    Raises:
        UserError: a number out of range.
    """

    def __init__(self, num_classes: int, hidden_dim: int, options: Pilots):
        count, *noise = options
        if count < 1 or not all(0 <= x <= 1 for x in noise):
            raise UserError(
                "MODEL.MASK_FORMER.PILOT: QUERIES must be at least 0, LABEL_NOISE and POINT_NOISE "
                f"in 0..1; got {count}, {noise[0]} and {noise[1]}."
            )
        super().__init__(num_classes, hidden_dim)
        self.options = options
        self.shown: PilotBatch | None = None

    @contextmanager
    def show(self, targets: Targets) -> Iterator[None]:
        """Make the decoder run pilots of the targets in a block; they are as for the criterion."""
        chosen = [self._choose(len(target["labels"])) for target in targets]
        queries = self(self._labels(targets, chosen))
        masks = [target["masks"] for target in targets]
        self.shown = PilotBatch(queries, masks, chosen, self.options.point_noise)
        try:
            yield
        finally:
            self.shown = None

    def _choose(self, num_targets: int) -> Tensor:
        """Return targets (P,), each once before any comes again; none (0,) of none."""
        if num_targets == 0:
            return torch.empty(0, dtype=torch.int64)
        count = self.options.queries
        return torch.randperm(num_targets).repeat(-(-count // num_targets))[:count]

    @torch.no_grad()
    def _labels(self, targets: Targets, chosen: Sequence[Tensor]) -> Tensor:
        """Return the classes (B, P) that pilots start from, some of them at random."""
        device, size = self.weight.device, (len(chosen), self.options.queries)
        labels = torch.randint(self.num_embeddings, size, device=device)
        is_true = torch.rand(size, device=device) >= self.options.label_noise
        for row, kept, target, index in zip(labels, is_true, targets, chosen):
            if len(index):
                row.copy_(torch.where(kept, target["labels"][index.to(device)], row))
        return labels


def shown_to_pilots(head: nn.Module, targets: Targets) -> AbstractContextManager:
    """Return a context in which a head's decoder runs pilots of the targets, if it has any."""
    pilot = getattr(getattr(head, "predictor", head), "pilot", None)
    return pilot.show(targets) if isinstance(pilot, PilotQueries) else nullcontext()


def check_pilots(cfg: CfgNode, model: nn.Module) -> None:
    """Raise a UserError where a config asks for pilots and the model has no place for them."""
    count = cfg.MODEL.get("MASK_FORMER", {}).get("PILOT", {}).get("QUERIES", 0)
    if count and not any(isinstance(module, PilotQueries) for module in model.modules()):
        raise UserError(
            f"MODEL.MASK_FORMER.PILOT.QUERIES is {count}: only MultiScaleMaskedTransformerDecoder "
            "and VideoMultiScaleMaskedTransformerDecoder, with their own forward, and EoMTHead "
            "train with pilot queries; set it to 0, or choose one of these."
        )
