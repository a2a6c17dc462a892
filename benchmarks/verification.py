"""The check that a rival works: it is timed only after a correct run of a small graph."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

from . import graphs, loops
from .bodies import Body
from .rivals import Rival

REHEARSAL_SIZE = 250


class WrongRival(Exception):
    """A rival left jobs out, or ran them twice, too early, or too many at once."""


class Witness:
    """Checks one run: every job once, each after all that it requires, no more at once than the window allows."""

    def __init__(self, graph: graphs.Graph, window: int | None) -> None:
        self._graph, self._window = graph, window
        self._begun, self._ended = bytearray(graph.size), bytearray(graph.size)
        self._running = 0
        self._lock = threading.Lock()
        self.faults: list[str] = []

    def begin(self, job: int) -> None:
        with self._lock:
            if self._begun[job]:
                self.faults.append(f"job {job} ran twice")
            if not all(
                self._ended[requirement]
                for requirement in self._graph.requirements[job]
            ):
                self.faults.append(f"job {job} ran before what it requires had ended")
            self._begun[job] = 1
            self._running += 1
            if self._window is not None and self._running > self._window:
                self.faults.append(
                    f"{self._running} jobs ran in a window of {self._window}"
                )

    def end(self, job: int) -> None:
        with self._lock:
            self._running -= 1
            self._ended[job] = 1

    def close(self) -> list[str]:
        """Check for jobs that did not run, and return all faults."""
        left = self._graph.size - sum(self._ended)
        return (
            [*self.faults, f"{left} jobs were not run to their ends"]
            if left
            else self.faults
        )

    def body(self, backend: str) -> Body:
        """Return a body that reports to this witness when it begins and ends, some turns of the loop later."""

        async def watched(job: int) -> None:
            self.begin(job)
            for _ in range(job % 3):
                await loops.checkpoint(backend)
            self.end(job)

        def watched_in_thread(job: int) -> None:
            self.begin(job)
            self.end(job)

        return watched_in_thread if backend == "threads" else watched


@functools.cache
def verify(rival: Rival, shape: str, window: int | None) -> None:
    """Run a small graph and check it.

    Raises:
        WrongRival: the rival did not do what it should.

    """
    graph = graphs.make(shape, REHEARSAL_SIZE)
    witness = Witness(graph, window)
    runner = rival.build(graph, witness.body(rival.backend), window)
    run_to_end(rival.backend, runner)
    faults = witness.close()
    if faults:
        raise WrongRival(
            f"{rival.name} on {rival.backend}, {shape}, window {window}: "
            + "; ".join(faults[:5])
        )


def run_to_end(backend: str, runner: Callable[[], object]) -> None:
    """Run what a rival has built in a new loop."""
    if backend == "threads":
        runner()
    else:
        loops.run(backend, runner)  # type: ignore[arg-type]
