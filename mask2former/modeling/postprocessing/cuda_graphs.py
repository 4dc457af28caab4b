"""CUDA graphs: a model's kernels on a GPU are launched together instead of one by one from Python.

At batch sizes of one or two an image costs more launching than computing. Results are the same.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Outputs = dict[str, Tensor]

_WARM_UPS = 3  # before a graph is made: kernels are chosen and compiled in the first calls


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    images: Tensor
    outputs: Outputs


class GraphedFunction:
    """Record what a function of one tensor does on a GPU, and replay it for the same shape.

    A recording holds the memory of a whole call and reads weights at their addresses: they may be
    changed in place, but not be replaced (`clear` forgets all recordings).

    Args:
        function: images -> tensors by name, which neither synchronises nor copies to the GPU
            once it has been called.
        max_recordings: recordings kept; the least recently used goes.
    """

    def __init__(self, function: Callable[[Tensor], Outputs], max_recordings: int = 4):
        self._function = function
        self._max_recordings = max_recordings
        self._recordings: OrderedDict[tuple, _Recording] = OrderedDict()

    def __call__(self, images: Tensor) -> Outputs:
        """Return the function's outputs, copied out of the recording."""
        kind = images.device.type
        precision = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        key = (images.device, images.dtype, *precision, *images.shape)
        recording = self._recordings.pop(key, None)
        if recording is None:
            while len(self._recordings) >= self._max_recordings:
                self._recordings.popitem(last=False)
            recording = self._record(images)
        self._recordings[key] = recording
        recording.images.copy_(images)
        recording.graph.replay()
        return {name: tensor.clone() for name, tensor in recording.outputs.items()}

    def clear(self) -> None:
        """Forget all recordings, and give their memory back."""
        self._recordings.clear()

    def _record(self, images: Tensor) -> _Recording:
        images = images.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._function(images)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._function(images)
        return _Recording(graph, images, outputs)
