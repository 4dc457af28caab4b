"""How a video is cut into windows that share frames."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from ..errors import UserError

DEFAULT_WINDOW = 16  # frames, where the config has no window: a stream may have no end

T = TypeVar("T")


@dataclass(frozen=True)
class Windows:
    """How a clip is cut.

    Windows start `length` - `overlap` frames apart. The last one is moved back so that it is as
    long as the others; only a clip that is shorter than a window makes a shorter one.

    Attributes:
        length: W, frames of a window; 0 for one window of all frames.
        overlap: frames that a window shares with the one before; tracks are linked on them.

    Raises:
        UserError: windows that share no frame, or have none of their own.
    """

    length: int = 0
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.length < 0 or (self.length and not 1 <= self.overlap < self.length):
            raise UserError(
                "expected a window of 0 (the whole clip) or at least 2 frames and an overlap from "
                f"1 to the window's length less 1, got a window of {self.length} frames and an "
                f"overlap of {self.overlap}."
            )

    @classmethod
    def of_stream(
        cls, own_length: int, own_overlap: int, length: int | None, overlap: int | None
    ) -> "Windows":
        """Return the windows of a video that may have no end.

        Args:
            own_length, own_overlap: the config's; a length of 0 becomes `DEFAULT_WINDOW`.
            length, overlap: that are wanted instead; None for the config's, the overlap no more
                than half of a window.

        Raises:
            UserError: as the class.
        """
        if length is None:
            length = own_length or DEFAULT_WINDOW
        if overlap is None:
            overlap = max(1, min(own_overlap, length // 2)) if length else 0
        return cls(length, overlap)

    def cut(self, frames: Iterable[T]) -> Iterator[tuple[int, list[T]]]:
        """Yield the windows of frames that are read once, each after the frames that it shares
        with the one before: their number, and the frames of the window."""
        source, window = iter(frames), list[T]()
        while True:
            wanted = self.length - self.overlap if window else self.length
            new = list(islice(source, wanted or None))
            if not new:
                return
            shared = min(len(window), self.length - len(new)) if self.length else 0
            window = [*window[len(window) - shared :], *new]
            yield shared, window
            if not self.length:
                return
