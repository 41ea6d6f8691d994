"""Record functions as CUDA graphs: a GPU that launches a step's kernels itself need not wait for the host.

See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs. What is recorded must be free of dynamic shapes
and must not wait for the device. On a CPU, the function is called each time.
"""

from collections import Counter
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

DEVICES = {"cuda"}  # where graphs gain time
WARM_UP = 2  # calls before a function is recorded; they load and compile kernels and allocate what stays


class Graphs:
    """Functions that were recorded, by a key; all of them share the memory of their intermediate results."""

    def __init__(self, device: torch.device) -> None:
        """Record on `device`."""
        self.calls: Counter[Hashable] = Counter()
        self.replays: dict[Hashable, Callable[[], Tensor]] = {}
        self.cuda = device.type == "cuda"
        if self.cuda:  # one stream for warm-up and capture, as libraries keep their workspaces by stream
            self.stream, self.pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def run(self, key: Hashable, function: Callable[[], Tensor]) -> Tensor:
        """Call `function`, or from the third time on replay what it did.

        It must use the same tensors each time. Its result is valid until the next run of any function. Raises
        `RuntimeError` if it cannot be recorded, or the memory is too small for that; then nothing was computed.
        """
        if key not in self.replays and self.calls[key] == WARM_UP:
            self.replays[key] = self._record(function) if self.cuda else function
        if key in self.replays:
            return self.replays[key]()
        self.calls[key] += 1
        if not self.cuda:
            return function()
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = function()
        current.wait_stream(self.stream)
        return result

    def _record(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            result = function()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay
