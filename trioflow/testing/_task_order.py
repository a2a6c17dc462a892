"""Control over the order of resumed tasks in an iteration of the event loop, on both backends.

trio promises no order. With a private option, which Hypothesis uses to make runs of trio repeatable, trio sorts its
ready tasks in each iteration, and shuffles them with a replaceable random generator. asyncio promises to call callbacks
in the order that they were scheduled. So steps of tasks are permuted only among themselves, as the unpredictable
timing of sockets and threads permutes them in real programs. All other callbacks keep their positions.

Tasks are numbered as they appear, so that the order does not depend on memory addresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import weakref
from collections.abc import Generator, Sequence
from typing import Any, Final

import anyio

from ..clock import VirtualTimeEventLoop
from ._fault_plans import Change

FIRST_TASK_NAME: Final = "trioflow explore: from outside"


class TaskOrder:
    """The order of resumed tasks in each iteration of a run.

    Args:
        changes: the changes of the order in a plan.
        order_seed: a seed for a random order in all iterations, or None for the usual order in iterations without a
            seed.

    Attributes:
        iteration: the number of the last iteration. Only iterations with several ready tasks are counted.
        job_names: the names of jobs, by the ids of the tasks that run them.
        is_first_task_pending: whether a task with `FIRST_TASK_NAME` was started and has not resumed yet.
        chosen_orders: for each iteration that a seed has reordered, the names of the jobs in their new order, with None
            for tasks that run no job.

    """

    def __init__(
        self, changes: Sequence[Change] = (), order_seed: int | None = None
    ) -> None:
        turns = [change for change in changes if change.kind == "turn"]
        self._seeds_by_iteration: Final = {
            change.at: int(change.value) for change in turns
        }
        self._ranks: Final = {
            change.name: change.value for change in changes if change.kind == "rank"
        }
        self._first_by_iteration: Final = {
            change.at: change.name for change in changes if change.kind == "first"
        }
        self._order_seed: Final = order_seed
        self.iteration = 0
        self.job_names: Final = dict[int, str]()
        self.is_first_task_pending = False
        self.chosen_orders: Final = dict[int, list[str | None]]()

    def sort_tasks(self, tasks: list[Any]) -> None:
        """Sort the tasks of the next iteration. Call this only if there are several."""
        self.iteration = iteration = self.iteration + 1
        names = self.job_names
        seed = self._order_seed
        if seed is None:
            seed = self._seeds_by_iteration.get(iteration)
        if seed is not None:
            previous = list(tasks)
            numbers = random.Random(seed + (iteration << 32))
            tasks.sort(key=lambda _: numbers.random())
            if tasks != previous:
                self.chosen_orders[iteration] = [names.get(id(task)) for task in tasks]
        if self._ranks:
            tasks.sort(key=lambda task: self._ranks.get(names.get(id(task), ""), 0))
        first = self._first_by_iteration.get(iteration)
        if first is not None:
            tasks.sort(key=lambda task: names.get(id(task)) != first)
        if self.is_first_task_pending:
            tasks.sort(key=lambda task: _task_name(task) != FIRST_TASK_NAME)
            self.is_first_task_pending = _task_name(tasks[0]) != FIRST_TASK_NAME

    # ---- the interface that trio calls in place of its `random.Random`

    # trio shuffles each batch: https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_core/_run.py#L2836.

    def shuffle(self, tasks: list[Any]) -> None:
        """Sort the ready tasks of trio, if there are several."""
        if len(tasks) > 1:
            self.sort_tasks(tasks)

    def random(self) -> float:
        """Return a number that keeps trio from reversing the ready tasks."""
        return 1.0

    def uniform(self, low: float, high: float) -> float:
        """Return the lower limit. trio calls this to choose the start time of its system clock."""
        return low


def _task_name(task: Any) -> str:
    if isinstance(task, asyncio.Task):
        return task.get_name()
    return str(task.name)


@contextlib.contextmanager
def set_task_order(task_order: TaskOrder, backend: str) -> Generator[dict[str, Any]]:
    """Make tasks resume in the order of `task_order` in the body of the `with` statement.

    Yields:
        The backend options for a run on virtual time, which must be started in the body.

    Raises:
        RuntimeError: this version of trio has no private option for the order.

    """
    if backend == "asyncio":

        def make_loop() -> VirtualTimeEventLoop:
            loop = VirtualTimeEventLoop()
            loop._before_iteration = _ReadyQueueSorter(task_order).sort_handles
            return loop

        yield {"loop_factory": make_loop}
        return
    import trio.testing

    trio_run = _trio_internals()
    previous = trio_run._r, trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    trio_run._r = task_order
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    try:
        # Not `virtual_options`, which sets another order.
        yield {"clock": trio.testing.MockClock(autojump_threshold=0)}
    finally:
        trio_run._r, trio_run._ALLOW_DETERMINISTIC_SCHEDULING = previous


def _trio_internals() -> Any:
    import trio._core._run as trio_run

    if not (
        hasattr(trio_run, "_r") and hasattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING")
    ):
        raise RuntimeError(
            "this version of trio orders its tasks differently from trio 0.32 to 0.35, so runs cannot be "
            "repeated: explore on asyncio, with backends=('asyncio',), or use one of these versions"
        )
    return trio_run


def timers_before(limit: float, backend: str) -> frozenset[tuple[object, float]]:
    """Return the pending timers and cancel scopes of the event loop that expire before `limit`, with their times."""
    if backend == "trio":
        deadlines: Any = _trio_internals().GLOBAL_RUN_CONTEXT.runner.deadlines
        # Removes the deadlines of closed scopes, as trio does from time to time:
        # https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_core/_run.py#L318.
        deadlines._prune()
        return frozenset((scope, at) for at, _, scope in deadlines._heap if at < limit)
    loop: Any = asyncio.get_running_loop()
    timers = (
        timer
        for timer in loop._scheduled
        if timer.when() < limit and not timer.cancelled()
    )
    return frozenset((_timer_scope(timer) or timer, timer.when()) for timer in timers)


def _timer_scope(timer: Any) -> object:
    """Return the cancel scope that an asyncio timer belongs to, or None for any other timer."""
    owner = getattr(timer._callback, "__self__", None)
    return owner if isinstance(owner, anyio.CancelScope) else None


class _ReadyQueueSorter:
    def __init__(self, task_order: TaskOrder) -> None:
        self._task_order: Final = task_order
        self._numbers: Final = weakref.WeakKeyDictionary[Any, int]()
        self._next_number: Final = itertools.count()

    def sort_handles(self, ready: Any) -> None:
        """Sort the handles that are steps of tasks among each other. All other handles keep their positions."""
        if len(ready) < 2:
            return
        indices: list[int] = []
        handles: dict[Any, Any] = {}
        numbers = self._numbers
        for index, handle in enumerate(ready):
            task = getattr(handle._callback, "__self__", None)
            if isinstance(task, asyncio.Task) and task not in handles:
                numbers.setdefault(task, next(self._next_number))
                indices.append(index)
                handles[task] = handle
        if len(indices) > 1:
            tasks = sorted(handles, key=numbers.__getitem__)
            self._task_order.sort_tasks(tasks)
            for index, task in zip(indices, tasks, strict=True):
                ready[index] = handles[task]
