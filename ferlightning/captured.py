"""CUDA graphs: the kernels of a step recorded once, then launched all at once."""

import logging
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

log = logging.getLogger(__name__)

WARM_UP = 3
"""Calls before a recording, in which libraries choose algorithms and allocate; the last is watched."""


def constants(parts: Mapping[str, object]) -> dict[str, object]:
    """The numbers, switches and words among the attributes of parts: what a recording would keep as it was."""
    plain = (bool, int, float, str)
    return {f"{name}.{key}": x for name, part in parts.items() for key, x in vars(part).items() if isinstance(x, plain)}


class Captured:
    """A function of a batch on a CUDA device that is recorded as a CUDA graph, and then replayed.

    Launching the hundreds of small kernels of a training step takes the host several times as long as they take the
    GPU. A graph is launched as one, and gives the same results to the bit, random draws included: kernels take the
    state of the device's generator at each replay.

    The first calls run as usual, in a stream of their own. Then the call is recorded with the batch in fixed memory,
    into which later batches of the same names, shapes and types are copied; others run as usual. The results lie in
    fixed memory, too, so they hold until the next call.

    A recording has no Python in it. So a function is refused, with a line in the log, and runs as usual for good, if
    it waits for the device, draws from a generator of the host, or changes ``constants``.

    Args:
        name: of the function, for the log.
        function: of a batch; returns tensors, in any nesting.
        constants: tells what a recording would keep as it was; ``refresh`` discards one that has become wrong.
    """

    def __init__(
        self, name: str, function: Callable[[dict[str, Tensor]], Any], constants: Callable[[], dict[str, object]]
    ) -> None:
        self.name, self.function, self.constants = name, function, constants
        self.stream: Any = None
        self.kind: dict[str, object] = {}
        self.calls = 0
        self.refused = False
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: dict[str, Tensor] = {}
        self.result: Any = None
        self.recorded: dict[str, object] = {}

    def __call__(self, batch: dict[str, Tensor]) -> Any:
        """Run the function, by a replay once it is recorded."""
        kind: dict[str, object] = {name: (x.shape, x.dtype) for name, x in batch.items()}
        if self.refused or (self.graph is not None and kind != self.kind):
            return self.function(batch)
        if self.graph is None:
            self.calls = self.calls + 1 if kind == self.kind else 1
            self.kind = kind
            if self.calls <= WARM_UP:
                return self._warmed_up(batch)
            if not self._record(batch):
                return self.function(batch)
        for name, x in self.batch.items():
            x.copy_(batch[name], non_blocking=True)
        assert self.graph is not None
        self.graph.replay()
        return self.result

    def refresh(self) -> None:
        """Discard a recording of other constants than those of now; the next calls make a new one."""
        if self.graph is not None and self.recorded != self.constants():
            self.graph, self.result, self.calls = None, None, WARM_UP - 1

    def _warmed_up(self, batch: dict[str, Tensor]) -> Any:
        """Run as usual in the stream that will record, so that autograd and libraries prepare for this one."""
        self.stream = self.stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        current, watched = torch.cuda.current_stream(), self.calls == WARM_UP
        before = self.constants() | _host_generators()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream), _waits(watched) as waits:
            result = self.function(batch)
        current.wait_stream(self.stream)
        after = self.constants() | _host_generators()
        changed = [name for name in after if before.get(name) != after[name]]
        if watched and waits:
            self._refuse(f"it waits for the GPU at {waits[0]}")
        elif watched and changed:
            self._refuse(f"it changes {changed[0]}")
        return result

    def _record(self, batch: dict[str, Tensor]) -> bool:
        self.batch = {name: x.clone() for name, x in batch.items()}
        self.recorded = self.constants()
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        torch.cuda.synchronize()
        try:
            with torch.cuda.stream(self.stream):
                graph.capture_begin(pool, capture_error_mode="thread_local")  # a loader's thread may pin memory
                try:
                    self.result = self.function(self.batch)
                finally:
                    graph.capture_end()
        except Exception as error:
            # Of many kinds; what is wrong without a graph, too, is raised again by the next call.
            first: BaseException = error
            while first.__context__ is not None:  # the end of a capture that has failed raises as well
                first = first.__context__
            self._refuse(str(first).partition("\n")[0])
            self._recover(graph, pool)
            return False
        self.graph = graph
        return True

    def _refuse(self, reason: str) -> None:
        self.refused = True
        log.warning("%s runs without a CUDA graph, more slowly: %s", self.name, reason)

    def _recover(self, graph: torch.cuda.CUDAGraph, pool: Any) -> None:
        """Bring allocator and generator out of a failed capture, which leaves both as if it went on."""
        self.failed = graph  # the allocator may ask it again
        self.result = None
        with suppress(Exception):
            torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
        with suppress(Exception), torch.cuda.graph(torch.cuda.CUDAGraph(), stream=self.stream):
            torch.rand(1, device="cuda")


@contextmanager
def _waits(watched: bool) -> Iterator[list[str]]:
    """Collect the places in which the host waits for the device: files with lines."""
    found: list[str] = []
    mode = torch.cuda.get_sync_debug_mode()
    if not watched:
        yield found
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    found += [f"{one.filename}:{one.lineno}" for one in caught if "called a synchronizing" in str(one.message)]


def _host_generators() -> dict[str, object]:
    numbers = np.random.get_state()  # noqa: NPY002
    return {
        "the state of Python's random": random.getstate(),
        "the state of numpy.random": repr(numbers),
        "the state of torch's generator of the CPU": torch.get_rng_state().numpy().tobytes(),
    }
