"""In which order tasks go on that are ready in the same turn of the loop: chosen here, on both backends.

trio promises no order. When a turn begins, it sorts its batch of tasks and has it shuffled, if tests want to know the
order: this is how Hypothesis makes runs of trio repeatable, and private. asyncio calls back in the order in which
callbacks were scheduled, which is promised; so what is not the step of a task keeps its place, and tasks change theirs
among each other. In a real program sockets and threads, whose order nobody knows, do that.

The order does not depend on where objects are in memory, as that of cancelled tasks does on both backends: tasks are
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
"""The name of tasks that go first in the turn in which they begin, whatever its order is."""


class Turns:
    """The order of tasks in each turn of one run.

    Args:
        seeds: for turns with these numbers, what determines their order.
        ranks: for jobs with these names, their ranks: lower ones go first, others have 0.
        first: for turns with these numbers, the names of the jobs that go first.
        every: determines the order in all turns; None to change nothing but the above.

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
        self.names: Final[dict[int, str]] = {}  # of the jobs whose bodies tasks run, by the ids of these
        self.called_first = False  # a task of this name has been started, and has not gone on
        self.chosen: Final[dict[int, list[str | None]]] = {}  # in turns with another order: who went first, and next

    def order(self, tasks: list[Any]) -> None:
        """Put the tasks of the next turn, of which there are several, into their order."""
        self.number = number = self.number + 1
        names = self.names
        seed = self._every if self._every is not None else self._seeds.get(number)
        if seed is not None:
            before = list(tasks)
            keys = {id(task): _mixed(seed, number, place) for place, task in enumerate(tasks)}
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

    # ---- what trio calls in place of its `random.Random`

    def shuffle(self, tasks: list[Any]) -> None:
        """Put a batch of trio's into its order."""
        if len(tasks) > 1:
            self.order(tasks)

    def random(self) -> float:
        """Return a number that changes no order."""
        return 1.0

    def uniform(self, low: float, high: float) -> float:
        """Return where clocks begin that are not virtual."""
        return low


def _name_of(task: Any) -> str:
    return str(task.get_name() if isinstance(task, asyncio.Task) else task.name)


def _mixed(seed: int, number: int, place: int) -> int:
    """Return 64 bits that depend on all three: the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    bits = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + place * 0x8CB92BA72F3D8DD7) & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return bits ^ (bits >> 31)


@contextlib.contextmanager
def ordered(turns: Turns, backend: str) -> Generator[dict[str, Any]]:
    """Give options for one run on virtual time whose tasks go on in this order, to be made within the block.

    Raises:
        RuntimeError: this version of trio shuffles its tasks in another way.

    """
    if backend == "asyncio":

        def make_loop() -> VirtualTimeEventLoop:
            loop = VirtualTimeEventLoop()
            loop._before_turn = _Ready(turns).order
            return loop

        yield {"loop_factory": make_loop}
        return
    import trio.testing

    inside = _inside_of_trio()
    before = inside._r, inside._ALLOW_DETERMINISTIC_SCHEDULING
    inside._r, inside._ALLOW_DETERMINISTIC_SCHEDULING = turns, True
    try:
        yield {"clock": trio.testing.MockClock(autojump_threshold=0)}  # `virtual_options` has an order of its own
    finally:
        inside._r, inside._ALLOW_DETERMINISTIC_SCHEDULING = before


def _inside_of_trio() -> Any:
    import trio._core._run as inside

    if not (hasattr(inside, "_r") and hasattr(inside, "_ALLOW_DETERMINISTIC_SCHEDULING")):
        raise RuntimeError(
            "this version of trio orders its tasks in another way than trio 0.32 to 0.35, so that no run can be "
            "repeated: explore on asyncio, with backends=('asyncio',), or with one of these versions"
        )
    return inside


def due_before(limit: float, backend: str) -> frozenset[tuple[object, float]]:
    """Return what an event loop waits for until a time before this one, timers or scopes, and these times."""
    if backend == "trio":
        deadlines: Any = _inside_of_trio().GLOBAL_RUN_CONTEXT.runner.deadlines
        deadlines._prune()  # of those of scopes that have been left, as trio does now and then
        return frozenset((scope, at) for at, _, scope in deadlines._heap if at < limit)
    loop: Any = asyncio.get_running_loop()
    timers = (timer for timer in loop._scheduled if timer.when() < limit and not timer.cancelled())
    return frozenset((_scope_of(timer) or timer, timer.when()) for timer in timers)


def _scope_of(timer: Any) -> object:
    """Return the scope whose deadline a timer of asyncio is; None if it is another one."""
    owner = getattr(timer._callback, "__self__", None)
    return owner if isinstance(owner, anyio.CancelScope) else None


class _Ready:
    """Orders the tasks in the queue of an asyncio loop."""

    def __init__(self, turns: Turns) -> None:
        self._turns: Final = turns
        self._numbers: Final[weakref.WeakKeyDictionary[Any, int]] = weakref.WeakKeyDictionary()
        self._next = 0

    def order(self, ready: Any) -> None:
        """Order the handles that are steps of tasks; the others keep their places."""
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
