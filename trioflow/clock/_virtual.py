"""Virtual time: a clock that jumps to the next deadline as soon as nothing can run, on both backends."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import math
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple, cast, final

import anyio

from .._core.api.kinds import short_repr

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def run_virtual(async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts, backend: str = "trio") -> T:
    """Run an async function under virtual time and return its value.

    Each call has a clock of its own, which starts at 0.0.

    Args:
        async_fn: the function, which is called in an event loop of its own.
        *args: its positional arguments.
        backend: ``"trio"`` or ``"asyncio"``.

    Returns:
        The value of ``async_fn``.

    Raises:
        ValueError: there is no such backend.
        TypeError: ``async_fn`` is not a function, or the backend not a name.
        RuntimeError: an event loop is running in this thread already.
        BaseException: the exception of ``async_fn``, unwrapped.

    >>> import anyio
    >>> from trioflow.testing import run_virtual
    >>> async def patience(limit: float) -> bool:
    ...     with anyio.move_on_after(limit) as scope:
    ...         await anyio.sleep(60)
    ...     return scope.cancelled_caught
    >>> run_virtual(patience, 59.5), run_virtual(patience, 60.5)
    (True, False)
    """
    if not callable(async_fn):
        raise TypeError(f"async_fn={short_repr(async_fn)}: give an async function")
    options = virtual_options(backend)
    if backend == "trio":
        import trio

        return trio.run(async_fn, *args, **options)  # anyio.run drops trio's options before 4.14 (anyio#1162)
    return anyio.run(async_fn, *args, backend=backend, backend_options=options)


def virtual_options(backend: str) -> dict[str, Any]:
    """Return the ``backend_options`` that put one run on virtual time.

    They are for a scheduler's ``run``, and for `anyio.run`; before 4.14, anyio drops them for trio. Get new options for
    each run: those for trio hold the clock itself, which would go on from the end of the last run.

    Args:
        backend: ``"trio"`` or ``"asyncio"``.

    Returns:
        For trio, a ``clock``: a `trio.testing.MockClock` that jumps as soon as nothing can run. For asyncio, a
        ``loop_factory``: `VirtualTimeEventLoop`.

    Raises:
        ValueError: there is no such backend.
        TypeError: it is not a name.

    >>> import anyio, trio
    >>> from trioflow.testing import virtual_options
    >>> trio.run(trio.sleep, 3600, **virtual_options("trio"))
    >>> anyio.run(anyio.sleep, 3600, backend="asyncio", backend_options=virtual_options("asyncio"))
    """
    if not isinstance(cast("object", backend), str):
        raise TypeError(f"backend={short_repr(backend)}: choose 'trio' or 'asyncio'")
    if backend == "trio":
        from ._trio import in_order  # imported here, so that users of asyncio need not pay for it

        return {"clock": in_order()}
    if backend == "asyncio":
        return {"loop_factory": VirtualTimeEventLoop}
    raise ValueError(f"backend={short_repr(backend)}: there is no virtual time for it; choose 'trio' or 'asyncio'")


@final
class VirtualTimeEventLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose clock jumps to the next timer instead of waiting for it.

    ``loop.time()`` starts at 0.0, and stands still while anything is ready to run. While a timer's callback runs, it is
    exactly that timer's ``when``; no timer fires early. Timers of one time fire in the order in which they were set.
    This loop does for asyncio what ``MockClock(autojump_threshold=0)`` does for trio. On Windows it cannot run
    subprocesses, like any selector loop.

    >>> import asyncio
    >>> from trioflow.testing import VirtualTimeEventLoop
    >>> with asyncio.Runner(loop_factory=VirtualTimeEventLoop) as runner:
    ...     runner.run(asyncio.sleep(0.25))
    ...     runner.get_loop().time()
    0.25
    """

    # Private fields of asyncio, unchanged since 3.4. There is no public way to get the next deadline (the timeout of
    # select() is rounded, and cut off at a day), to set the resolution, or to choose the order of what is ready.
    _scheduled: list[asyncio.TimerHandle]  # a heap, the earliest first; when select() is called, that is not cancelled
    _clock_resolution: float  # a timer fires when its time is below now + this
    _ready: Any  # a deque of handles: what is called in the next turn

    def __init__(self) -> None:
        """Make a loop whose clock starts at 0.0."""
        self._before_turn: Callable[[Any], None] | None = None  # called with the queue; an exploration orders it
        self._numbers = itertools.count()
        super().__init__(_AutojumpSelector(self._begin_turn, self._autojump))
        self._set_time(0.0)

    def time(self) -> float:
        """Return the virtual time, in seconds since the loop was made."""
        return self._now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Call a function at this time, after those that were set for it before."""
        instant = _Instant(when)
        instant.number = next(self._numbers)
        return super().call_at(instant, callback, *args, context=context)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the default executor's threads in real time, however long they take.

        `asyncio.Runner` allows 300 seconds, which would pass at once here: the threads would be abandoned, with a
        RuntimeWarning.

        Args:
            timeout: ignored.
        """
        await super().shutdown_default_executor()

    def _begin_turn(self) -> None:
        if self._before_turn is not None:
            self._before_turn(self._ready)

    def _autojump(self) -> bool:
        """Move the clock to the earliest timer; return False if that one is never due (``sleep_forever``)."""
        when = self._scheduled[0].when()
        if when == math.inf:
            return False
        self._set_time(float(when))
        return True

    def _set_time(self, now: float) -> None:
        # The resolution is one rounding step of the time itself. With more, a timer would fire early. With less, adding
        # it to `now` changes nothing: the timer due now would never fire, and the loop would spin
        # (python/cpython#116342).
        self._now = now
        self._clock_resolution = math.ulp(now)


class _Instant(float):
    """The time of a timer. It is less than an equal one with a higher number."""

    __slots__ = ("number",)
    number: int

    def __lt__(self, other: float) -> bool:
        if isinstance(other, _Instant) and other == self:
            return self.number < other.number
        return super().__lt__(other)


class _AutojumpSelector(selectors.DefaultSelector):
    """The platform's selector, except that it moves a clock where it would wait for a timer."""

    def __init__(self, begin_turn: Callable[[], None], autojump: Callable[[], bool]) -> None:
        super().__init__()
        self._begin_turn = begin_turn
        self._autojump = autojump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the ready descriptors. Really wait only if nothing is ready and there is no timer to jump to."""
        self._begin_turn()
        if timeout is None:
            return super().select(None)
        ready = super().select(0)  # I/O that has happened takes precedence over time that has not passed
        if ready or timeout <= 0 or self._autojump():
            return ready
        return super().select(timeout)
