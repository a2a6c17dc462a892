"""Choose the order in which ready tasks resume in the same iteration of the loop, on both backends.

trio promises no order. At the start of an iteration it sorts its batch of tasks and shuffles it, if a test requires
determinism: Hypothesis makes runs of trio repeatable by this private interface. asyncio promises to call callbacks in
the order in which they were scheduled; so callbacks other than steps of tasks keep their places, and tasks are permuted
among each other. In a real program the unpredictable order of sockets and threads has the same effect.

The order is independent of the addresses of objects, unlike the order of cancelled tasks on both backends: tasks are
numbered when they are new.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Generator, Mapping
from typing import Any, Final

import anyio

from ..clock import VirtualTimeEventLoop

GOES_FIRST: Final = "trioflow explore: from outside"
"""The name of tasks that go first in the iteration in which they begin, whatever its order is."""


class Turns:
    """The order of tasks in each iteration of one run.

    Args:
        seeds: seeds for the order in the iterations with these numbers.
        ranks: ranks of jobs by name: lower ones go first, the default is 0.
        first: names of the jobs that go first in the iterations with these numbers.
        every: a seed for the order in all iterations; None to change only the above.

    """

    def __init__(
        self,
        seeds: Mapping[int, int] | None = None,
        ranks: Mapping[str, float] | None = None,
        first: Mapping[int, str] | None = None,
        every: int | None = None,
    ) -> None:
        self._seeds: Final = seeds or {}
        self._ranks: Final = ranks or {}
        self._first: Final = first or {}
        self._every: Final = every
        self.number = 0
        self.names: Final[dict[int, str]] = {}  # names of jobs, by the ids of the tasks that run them
        self.called_first = False  # a GOES_FIRST task was started, and has not resumed yet
        self.chosen: Final[dict[int, list[str | None]]] = {}  # the order in iterations with another order

    def order(self, tasks: list[Any]) -> None:
        """Sort the tasks of the next iteration, of which there are several."""
        self.number = number = self.number + 1
        names = self.names
        seed = self._every if self._every is not None else self._seeds.get(number)
        if seed is not None:
            before = list(tasks)
            keys = {id(task): _mix_bits(seed, number, place) for place, task in enumerate(tasks)}
            tasks.sort(key=lambda task: keys[id(task)])
            if tasks != before:
                self.chosen[number] = [names.get(id(task)) for task in tasks]
        if self._ranks:
            tasks.sort(key=lambda task: self._ranks.get(names.get(id(task), ""), 0))
        if number in self._first:
            tasks.sort(key=lambda task: names.get(id(task)) != self._first[number])
        if self.called_first:
            tasks.sort(key=lambda task: _name_of(task) != GOES_FIRST)
            self.called_first = _name_of(tasks[0]) != GOES_FIRST

    # ---- the interface that trio calls in place of its `random.Random`

    def shuffle(self, tasks: list[Any]) -> None:
        """Sort a batch of trio's tasks."""
        if len(tasks) > 1:
            self.order(tasks)

    def random(self) -> float:
        """Return a number that changes no order."""
        return 1.0

    def uniform(self, low: float, high: float) -> float:
        """Return the start time of clocks that are not virtual."""
        return low


def _name_of(task: Any) -> str:
    return str(task.get_name() if isinstance(task, asyncio.Task) else task.name)


def _mix_bits(seed: int, number: int, place: int) -> int:
    """Return 64 bits that depend on all arguments: the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    bits = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + place * 0x8CB92BA72F3D8DD7) & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return bits ^ (bits >> 31)


@contextlib.contextmanager
def ordered(turns: Turns, backend: str) -> Generator[dict[str, Any]]:
    """Yield the options for one run on virtual time in this order, to be made within the block.

    Raises:
        RuntimeError: this version of trio shuffles its tasks differently.

    """
    if backend == "asyncio":

        def make_loop() -> VirtualTimeEventLoop:
            loop = VirtualTimeEventLoop()
            loop._before_iteration = _Ready(turns).order
            return loop

        yield {"loop_factory": make_loop}
        return
    import trio.testing

    inside = _trio_internals()
    before = inside._r, inside._ALLOW_DETERMINISTIC_SCHEDULING
    inside._r, inside._ALLOW_DETERMINISTIC_SCHEDULING = turns, True
    try:
        yield {"clock": trio.testing.MockClock(autojump_threshold=0)}  # `virtual_options` sets its own order
    finally:
        inside._r, inside._ALLOW_DETERMINISTIC_SCHEDULING = before


def _trio_internals() -> Any:
    import trio._core._run as inside

    if not (hasattr(inside, "_r") and hasattr(inside, "_ALLOW_DETERMINISTIC_SCHEDULING")):
        raise RuntimeError(
            "this version of trio orders its tasks in another way than trio 0.32 to 0.35, so that no run can be "
            "repeated: explore on asyncio, with backends=('asyncio',), or with one of these versions"
        )
    return inside


def due_before(limit: float, backend: str) -> frozenset[tuple[object, float]]:
    """Return the timers or scopes that an event loop waits for before the time `limit`, with their times."""
    if backend == "trio":
        deadlines: Any = _trio_internals().GLOBAL_RUN_CONTEXT.runner.deadlines
        deadlines._prune()  # drop the deadlines of closed scopes, as trio does occasionally
        return frozenset((scope, at) for at, _, scope in deadlines._heap if at < limit)
    loop: Any = asyncio.get_running_loop()
    timers = (timer for timer in loop._scheduled if timer.when() < limit and not timer.cancelled())
    return frozenset((_scope_of(timer) or timer, timer.when()) for timer in timers)


def _scope_of(timer: Any) -> object:
    """Return the scope whose deadline an asyncio timer is; None for another timer."""
    owner = getattr(timer._callback, "__self__", None)
    return owner if isinstance(owner, anyio.CancelScope) else None


class _Ready:
    """Sorts the tasks in the queue of an asyncio loop."""

    def __init__(self, turns: Turns) -> None:
        self._turns: Final = turns
        self._numbers: Final[weakref.WeakKeyDictionary[Any, int]] = weakref.WeakKeyDictionary()
        self._next = 0

    def order(self, ready: Any) -> None:
        """Sort the handles that are steps of tasks; the others keep their places."""
        if len(ready) < 2:
            return
        places: list[int] = []
        steps: dict[Any, Any] = {}
        numbers = self._numbers
        for place, handle in enumerate(ready):
            task = getattr(handle._callback, "__self__", None)
            if isinstance(task, asyncio.Task) and task not in steps:
                if task not in numbers:
                    numbers[task] = self._next
                    self._next += 1
                places.append(place)
                steps[task] = handle
        if len(places) > 1:
            tasks = sorted(steps, key=numbers.__getitem__)
            self._turns.order(tasks)
            for place, task in zip(places, tasks, strict=True):
                ready[place] = steps[task]
