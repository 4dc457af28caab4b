"""Arrays of what may be tensors."""

from typing import Any

import numpy as np


def as_array(values: Any) -> np.ndarray:
    """Return an array as it is, and a tensor of any device as an array."""
    return values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()
