"""Say in errors of memory which inputs they came up with."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from ...ops.memory import is_out_of_memory

Forward = Callable[..., Any]


def name_inputs(forward: Forward) -> Forward:
    """Add a note with the inputs' names, sizes and numbers of objects to errors of memory; for use
    as a decorator of a model's `forward`."""

    @wraps(forward)
    def named(self: Any, batched_inputs: list[dict], *args: Any, **kwargs: Any) -> Any:
        try:
            return forward(self, batched_inputs, *args, **kwargs)
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                error.add_note("out of memory with " + "; ".join(map(_describe, batched_inputs)))
            raise

    return named


def _describe(x: dict) -> str:
    """Return the name of an input, its size, that of its output and its number of objects."""
    images = x["image"] if isinstance(x["image"], list | tuple) else [x["image"]]
    height, width = images[0].shape[-2:]
    text = f"{x.get('file_name', 'an input')}: {width}x{height} (width x height)"
    if len(images) > 1:
        text += f", {len(images)} frames"
    if "height" in x and (x["height"], x["width"]) != (height, width):
        text += f", results of {x['width']}x{x['height']}"
    instances = x.get("instances")
    if instances is not None and not isinstance(instances, list):
        text += f", {len(instances)} objects"
    return text
