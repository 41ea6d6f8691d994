"""Record functions as CUDA graphs: a GPU that launches a step's kernels itself need not wait for the host.

See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs. What is recorded must be free of dynamic shapes
and must not wait for the device. On a CPU, the function is called each time.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import cache

import torch
from torch import Tensor

DEVICES = {"cuda"}  # where graphs gain time
WARM_UP = 2  # calls before a function is recorded; they load and compile kernels and allocate what stays


class NotRecorded(RuntimeError):
    """A function cannot be recorded, or the memory is too small for that; nothing was computed."""


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One stream for all warm-ups and captures, as libraries keep a workspace for each stream."""
    return torch.cuda.Stream(device)


class Graphs:
    """Functions that were recorded, by a key; all of them share the memory of their intermediate results."""

    def __init__(self, device: torch.device) -> None:
        """Record on `device`."""
        self.calls: Counter[Hashable] = Counter()
        self.replays: dict[Hashable, Callable[[], Tensor]] = {}
        self.cuda = device.type == "cuda"
        if self.cuda:
            self.stream, self.pool = _stream(device), torch.cuda.graph_pool_handle()

    def run(self, key: Hashable, function: Callable[[], Tensor]) -> Tensor:
        """Call `function`, or from the third time on replay what it did.

        It must use the same tensors each time. Its result is valid until the next run of any function. Raises
        `NotRecorded`.
        """
        if key not in self.replays and self.calls[key] == WARM_UP:
            self.replays[key] = self._record(function) if self.cuda else function
        if key in self.replays:
            return self.replays[key]()
        result = self._warm_up(function) if self.cuda else function()
        self.calls[key] += 1
        return result

    def _warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        try:
            with torch.cuda.stream(self.stream):
                return function()
        finally:
            current.wait_stream(self.stream)

    def _record(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                result = function()
        except RuntimeError as error:
            # A failed capture leaves the pool open, and then no memory can be freed:
            # https://github.com/pytorch/pytorch/issues/180395. RuntimeError: it is closed.
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), self.pool)
            raise NotRecorded(str(error)) from error
        finally:
            torch.cuda.set_stream(current)  # a failed capture does not restore it

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay
