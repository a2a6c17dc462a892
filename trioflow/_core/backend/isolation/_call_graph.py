"""What asyncio's tools read of workers' tasks from outside the process: their names, and the task that awaits them.

`python -m asyncio pstree` and samplers (Python 3.14) read memory: the C field with a task's name, and the edges of the
call graph. They cannot call `AsyncioNamedTask.get_name`, which computes a name when asked for.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any, Final, cast

HAS_CALL_GRAPH: Final = hasattr(asyncio, "future_add_to_awaited_by")
"""Whether asyncio has a call graph, and tools that read it: since Python 3.14."""
CHECK_SECONDS: Final = 0.05
"""The time, in seconds, between two checks of the same worker by `StoredNames`."""


def add_edge(task: Any, host_task: Any) -> None:
    """Record in asyncio's call graph that `host_task`, which awaits a run, awaits a worker's `task`."""
    if HAS_CALL_GRAPH:
        cast(Any, asyncio).future_add_to_awaited_by(task, host_task)


def remove_edge(task: Any, host_task: Any) -> None:
    """Remove the edge again, which refers to `host_task`: that may be a worker's task, too, and must be as it was."""
    if HAS_CALL_GRAPH:
        cast(Any, asyncio).future_discard_from_awaited_by(task, host_task)


class StoredNames:
    """Stores the labels of jobs that wait for long in the C field of their tasks.

    A label takes up to 5 µs, and the loop one more iteration for each callback, so neither is spent on a job that waits
    only briefly. A worker is watched until two checks have found it in the same job, and again when that job has ended.
    """

    __slots__ = ("_context", "_loop", "_timer", "_watched")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._loop = loop
        self._context = context
        self._timer: asyncio.TimerHandle | None = None  # runs if and only if there are watched workers
        # The state of each watched worker, with its job at the last check; before the first check, with the state.
        self._watched: list[tuple[Any, Any]] = []

    def watch(self, state: Any) -> None:
        self._watched.append((state, state))
        if self._timer is None:
            self._timer = self._loop.call_later(CHECK_SECONDS, self._check, context=self._context)

    def _check(self) -> None:
        """Store the names of the watched workers whose job is that of the last check."""
        watched, self._watched, self._timer = self._watched, [], None
        for state, last_job in watched:
            worker = state.worker
            if worker.task_snapshot is state:  # otherwise the worker has left
                if worker.job is last_job:
                    state.store_name()
                else:
                    self._watched.append((state, worker.job))
        if self._watched:
            self._timer = self._loop.call_later(CHECK_SECONDS, self._check, context=self._context)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._watched.clear()
