"""What the evaluators share: outputs that must be there, and gathering over processes."""

from collections.abc import Mapping
from typing import Any, TypeVar

from detectron2.utils import comm

Value = TypeVar("Value")


def required(output: Mapping[str, Any], key: str, flag: str) -> Any:
    """Return an entry of a model's output.

    Raises:
        ValueError: it is missing; names the flag of MODEL.MASK_FORMER.TEST that turns it on.
    """
    if key not in output:
        raise ValueError(
            f"output: expected {key!r}, got {sorted(output)}; set MODEL.MASK_FORMER.TEST.{flag}"
        )
    return output[key]


def gather(value: Value, distributed: bool = True) -> list[Value]:
    """Return the values of all processes on the main one, and [] on the others.

    Args:
        distributed: False returns the value of this process alone.
    """
    if not distributed:
        return [value]
    comm.synchronize()
    return comm.gather(value)
