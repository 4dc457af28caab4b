"""Run a video model over clips of any length, in windows that share frames.

Every frame is read, normalised and passed through the backbone once, whatever the overlap; the head
sees one window at a time. So memory depends on the window and the size of the frames, and not on
the length of the clip. The published model has one window: the whole clip.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from detectron2.structures import ImageList
from torch import Tensor

from ..postprocessing.canvas import Canvas

Features = dict[str, Tensor]
Size = tuple[int, int]  # H, W in pixels

# Pixels (frames x height x width) that pass the backbone at a time: more are no faster on CPUs.
_PIXELS_PER_CHUNK = {"cpu": 2**19}
_PIXELS_PER_CHUNK_ELSEWHERE = 2**22


class ClipModel(Protocol):
    """What running a clip needs of a model; `VideoMaskFormer` has it."""

    @property
    def device(self) -> torch.device:
        """Where inputs are moved to."""

    def preprocess(self, images: Sequence[Tensor]) -> ImageList:
        """Normalise frames (3, H, W) and pad them to one canvas."""

    def extract(self, images: Tensor) -> Features:
        """Return the backbone's features of a canvas (T, 3, H, W)."""

    def decode(self, features: Features) -> dict[str, Tensor]:
        """Return the head's outputs for the features of one window."""


@dataclass(frozen=True)
class Windows:
    """How a clip is cut.

    Windows start `length` - `overlap` frames apart. The last one is moved back so that it is as
    long as the others; only a clip that is shorter than a window makes a shorter one.

    Attributes:
        length: W, frames of a window; 0 for one window of all frames.
        overlap: frames that a window shares with the one before; tracks are linked on them.

    Raises:
        ValueError: windows that share no frame, or have none of their own.
    """

    length: int = 0
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.length < 0 or (self.length and not 1 <= self.overlap < self.length):
            raise ValueError(
                "expected a window of 0 (the whole clip) or at least 2 frames and an overlap from "
                f"1 to the window's length less 1, got a window of {self.length} frames and an "
                f"overlap of {self.overlap}."
            )


@dataclass(frozen=True)
class Window:
    """What the model predicts for the T frames of a window.

    Attributes:
        start: index in the clip of its first frame.
        shared: frames at its start that the window before had too.
        class_logits: (Q, K+1).
        mask_logits: (Q, T, h, w), over the padded canvas.
        embeddings: (Q, C), the decoder's queries, by which objects are identified; None where the
            head does not return them as `pred_embeddings`.
        canvas: says what the masks are resized to.
    """

    start: int
    shared: int
    class_logits: Tensor
    mask_logits: Tensor
    embeddings: Tensor | None
    canvas: Canvas

    @property
    def length(self) -> int:
        """T."""
        return self.mask_logits.shape[1]


@torch.no_grad()
def run_windows(
    model: ClipModel,
    frames: Iterable[Tensor],
    windows: Windows,
    output: Size | None = None,
) -> Iterator[Window]:
    """Run a model over the frames of a clip, as they come.

    Args:
        model: in eval mode.
        frames: (3, H, W) each, uint8 or float in 0..255, of one size; read once.
        windows: how to cut.
        output: (H, W) of the masks wanted; that of the frames if not given.

    Raises:
        ValueError: there are no frames, or one has another size than the first.
    """
    kept: Features = {}
    seen = 0
    encoder = _FrameEncoder(model, output)
    frames = iter(frames)
    while True:
        wanted = windows.length - windows.overlap if seen else windows.length
        new, count = encoder.encode(islice(frames, wanted) if wanted else frames)
        if not count:
            break
        room = windows.length - count if windows.length else 0
        kept = _join(kept, new, room)
        length = len(next(iter(kept.values())))
        seen += count
        outputs = model.decode(kept)
        embeddings = outputs.get("pred_embeddings")
        yield Window(
            start=seen - length,
            shared=length - count,
            class_logits=outputs["pred_logits"][0],
            mask_logits=outputs["pred_masks"][0],
            embeddings=None if embeddings is None else embeddings[0],
            canvas=encoder.canvas,
        )
        if not windows.length:
            break
    if not seen:
        raise ValueError("a clip needs at least one frame, got none.")


class _FrameEncoder:
    """Normalises frames and passes them through the backbone, some at a time."""

    def __init__(self, model: ClipModel, output: Size | None):
        self.model = model
        self.output = output
        self.canvas: Canvas | None = None
        self.size: Size | None = None
        self.seen = 0

    def encode(self, frames: Iterable[Tensor]) -> tuple[Features, int]:
        """Return features (T, C, h, w) by name of all frames, and T; {} and 0 without frames."""
        parts, count = [], 0
        frames = self._checked(frames)
        for first in frames:
            pixels = _PIXELS_PER_CHUNK.get(self.model.device.type, _PIXELS_PER_CHUNK_ELSEWHERE)
            step = max(1, pixels // (first.shape[-2] * first.shape[-1]))
            chunk = [first, *islice(frames, step - 1)]
            images = self.model.preprocess(chunk)
            if self.canvas is None:
                padded = tuple(images.tensor.shape[-2:])
                self.canvas = Canvas(padded, self.size, self.output or self.size)
            parts.append(self.model.extract(images.tensor))
            count += len(chunk)
        names = parts[0] if parts else ()
        return {name: torch.cat([part[name] for part in parts]) for name in names}, count

    def _checked(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        for frame in frames:
            size = tuple(frame.shape[-2:])
            self.size = self.size or size
            if size != self.size:
                raise ValueError(
                    f"frame {self.seen} of the clip is {size[0]}x{size[1]} (height x width), those "
                    f"before are {self.size[0]}x{self.size[1]}: expected frames of one size."
                )
            self.seen += 1
            yield frame


def _join(kept: Features, new: Features, room: int) -> Features:
    """Return up to `room` of the last frames kept, followed by the new ones."""
    if not kept or not room:
        return new
    return {name: torch.cat([maps[-room:], new[name]]) for name, maps in kept.items()}
