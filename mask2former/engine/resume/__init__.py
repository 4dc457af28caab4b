"""What a run needs, beside weights and optimizer, to go on where it stopped."""

from .run_state import RunState

__all__ = ["RunState"]
