"""A writer of scalars whose errors do not end the training."""

import logging
from collections.abc import Callable

from detectron2.utils.events import EventWriter

logger = logging.getLogger(__name__)


class LastingWriter(EventWriter):
    """Another writer, of which the first error of a file is a warning, and the next ones nothing.

    It is tried again each time: a full disk may have room later.
    """

    def __init__(self, writer: EventWriter) -> None:
        self.writer = writer
        self._has_failed = False

    def write(self) -> None:
        """Write what is new, where the file takes it."""
        self._try(self.writer.write)

    def close(self) -> None:
        """Close the writer, also where its last lines cannot be written."""
        self._try(self.writer.close)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            error.with_traceback(None)  # TensorBoard raises the same one again, ever longer
            if not self._has_failed:
                name = type(self.writer).__name__
                logger.warning("%s cannot write, and training goes on: %s", name, error)
            self._has_failed = True
