"""What is said where the classes that a checkpoint names are not those of the data."""

import logging
from collections.abc import Mapping
from typing import Any

from ..classes import Classes
from ..errors import UserError

logger = logging.getLogger(__name__)


def compare_classes(
    checkpoint: Mapping[str, Any], classes: Classes | None, path: str, *, resumes: bool
) -> None:
    """Warn where a checkpoint names other classes than the data has; refuse to resume with them.

    Weights are loaded by position all the same, as fine-tuning wants it. A training may be resumed
    where classes were only given other names in their places.

    Args:
        checkpoint: its content.
        classes: of the data; None compares nothing.
        path: of the checkpoint, for messages.
        resumes: whether the state of a training is restored.

    Raises:
        UserError: ``resumes``, and classes have moved or their number is another.
    """
    saved = Classes.from_checkpoint(checkpoint)
    if saved is None or classes is None or saved.names == classes.names:
        return
    difference = classes.difference(saved, "the data", "the checkpoint")
    text = f"{path} has other classes than the data: {difference}"
    if resumes and (classes.moved(saved) or len(classes.names) != len(saved.names)):
        raise UserError(
            f"{text}. A training goes on with the classes that it began with: set "
            f"MODEL.CLASSES.NAMES to {list(saved.names)}, or start anew without --resume"
        )
    logger.warning("%s. Weights keep their positions, whatever the names", text)
