"""What came of drawing a video, whatever ended it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from ..formats.video.reading import Frame


@dataclass
class DrawnVideo:
    """What came of drawing a video.

    Attributes:
        frames: number of frames written.
        seconds: that it took.
        paths: what was written; empty where there was no frame.
        interrupted: whether it was ended before the video was.
        error: what else ended it, or None.
    """

    frames: int = 0
    seconds: float = 0.0
    paths: list[Path] = field(default_factory=list)
    interrupted: bool = False
    error: Exception | None = None


def until_error(source: Iterable[Frame], errors: list[Exception]) -> Iterator[Frame]:
    """Yield the frames up to an error, which is kept for later."""
    try:
        yield from source
    except (OSError, UserError) as error:
        errors.append(error)
