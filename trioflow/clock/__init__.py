"""Virtual time: the clocks of simulations and tests, on both backends. Users import them from `trioflow.testing`."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import math
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple, cast, final

import anyio

from .._core.base._text_forms import short_repr

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def run_virtual(
    async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts, backend: str = "trio"
) -> T:
    """Run an async function under virtual time, and return its value.

    Each call has its own event loop and its own clock, which starts at 0.0.

    Args:
        async_fn: the async function.
        *args: its positional arguments.
        backend: ``"trio"`` or ``"asyncio"``.

    Returns:
        The value of ``async_fn``.

    Raises:
        ValueError: ``backend`` is not the name of a backend.
        TypeError: ``async_fn`` cannot be called, or ``backend`` is not a string.
        RuntimeError: an event loop is already running in this thread.
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

        # anyio.run drops trio's options before 4.14 (anyio#1162).
        return trio.run(async_fn, *args, **options)
    return anyio.run(async_fn, *args, backend=backend, backend_options=options)


def virtual_options(backend: str) -> dict[str, Any]:
    """Return the ``backend_options`` that put a single run on virtual time.

    Pass them to the ``run`` of a scheduler, or to `anyio.run`, which ignores them for trio before anyio 4.14. Get new
    options for each run: the options for trio include the clock itself, which would continue from the end of the last
    run.

    Args:
        backend: ``"trio"`` or ``"asyncio"``.

    Returns:
        For trio, a ``clock``: a `trio.testing.MockClock` that jumps as soon as no task can run. For asyncio, a
        ``loop_factory``: `VirtualTimeEventLoop`.

    Raises:
        ValueError: ``backend`` is not the name of a backend.
        TypeError: ``backend`` is not a string.

    >>> import anyio, trio
    >>> from trioflow.testing import virtual_options
    >>> trio.run(trio.sleep, 3600, **virtual_options("trio"))
    >>> anyio.run(anyio.sleep, 3600, backend="asyncio", backend_options=virtual_options("asyncio"))
    """
    if not isinstance(cast("object", backend), str):
        raise TypeError(f"backend={short_repr(backend)}: choose 'trio' or 'asyncio'")
    if backend == "trio":
        # Imported late, because asyncio does not need it.
        from ._trio import make_clock

        return {"clock": make_clock()}
    if backend == "asyncio":
        return {"loop_factory": VirtualTimeEventLoop}
    raise ValueError(
        f"backend={short_repr(backend)}: it has no virtual time; choose 'trio' or 'asyncio'"
    )


@final
class VirtualTimeEventLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose clock jumps to the next timer instead of waiting for it.

    ``loop.time()`` starts at 0.0, and stays the same while any callback is ready. While the callback of a timer runs,
    the time is exactly the timer's ``when()``, because no timer fires early. Timers for the same time fire in the order
    that they were set. This loop does for asyncio what ``MockClock(autojump_threshold=0)`` does for trio. On
    Windows, like any selector loop, it cannot run subprocesses.

    >>> import asyncio
    >>> from trioflow.testing import VirtualTimeEventLoop
    >>> with asyncio.Runner(loop_factory=VirtualTimeEventLoop) as runner:
    ...     runner.run(asyncio.sleep(0.25))
    ...     runner.get_loop().time()
    0.25
    """

    # Private attributes of asyncio, unchanged since Python 3.4. There is no public way to get the next deadline (the
    # timeout of select() is rounded, and limited to a day), to set the resolution, or to reorder the ready callbacks:
    # https://github.com/python/cpython/blob/v3.11.7/Lib/asyncio/base_events.py#L1882.
    _scheduled: list[
        asyncio.TimerHandle
    ]  # a heap, whose first timer is not cancelled when select() is called
    _clock_resolution: float  # a timer fires when its time is less than now + this
    _ready: Any  # a deque of the handles that are called in the next iteration

    def __init__(self) -> None:
        """Create a loop whose clock is at 0.0."""
        # Called with `_ready` before each iteration. An exploration sets this, to reorder tasks.
        self._before_iteration: Callable[[Any], None] | None = None
        self._numbers = itertools.count()
        super().__init__(_AutojumpSelector(self._begin_iteration, self._autojump))
        self._set_time(0.0)

    def time(self) -> float:
        """Return the virtual time, in seconds since the loop was created."""
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Schedule a callback for a time, after all callbacks that were scheduled for the same time earlier."""
        timer_time = _TimerTime(when)
        timer_time.number = next(self._numbers)
        return super().call_at(timer_time, callback, *args, context=context)

    def jump(self, seconds: float) -> None:
        """Move the clock ahead at once, as a function that keeps the loop busy for this time would.

        Timers that come due meanwhile fire in the next iterations of the loop. On trio, call ``MockClock.jump``.

        Args:
            seconds: the seconds, 0 or more.

        Raises:
            ValueError: ``seconds`` is less than 0, or not finite.

        >>> import asyncio
        >>> async def work() -> float:
        ...     asyncio.get_running_loop().jump(60)
        ...     return asyncio.get_running_loop().time()
        >>> run_virtual(work, backend="asyncio")
        60.0
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(
                f"jump({short_repr(seconds)}): give a finite number of seconds, 0 or more"
            )
        self._set_time(self._now + seconds)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait in real time, without a limit, until the threads of the default executor have ended.

        `asyncio.Runner` passes a limit of 300 seconds. Virtual time would jump to that limit immediately, so the
        threads would be abandoned, with a RuntimeWarning.

        Args:
            timeout: ignored.
        """
        await super().shutdown_default_executor()

    def _begin_iteration(self) -> None:
        if self._before_iteration is not None:
            self._before_iteration(self._ready)

    def _autojump(self) -> bool:
        """Move the clock to the earliest timer. Return False if that never fires, as for ``sleep_forever``."""
        if (when := self._scheduled[0].when()) == math.inf:
            return False
        self._set_time(float(when))
        return True

    def _set_time(self, now: float) -> None:
        # The resolution is the distance from the time to the next larger float. With a larger resolution, timers would
        # fire early. With a smaller resolution, `now` plus the resolution would equal `now`. Then a timer that is due
        # would never fire, and the loop would spin (python/cpython#116342).
        self._now = now
        self._clock_resolution = math.ulp(now)


class _TimerTime(float):
    """The time of a timer. Of two equal times, the time with the lower number is less."""

    __slots__ = ("number",)
    number: int

    def __lt__(self, other: float) -> bool:
        if isinstance(other, _TimerTime) and other == self:
            return self.number < other.number
        return super().__lt__(other)


class _AutojumpSelector(selectors.DefaultSelector):
    """The default selector of the platform, except that it moves the clock instead of waiting for a timer."""

    def __init__(
        self, begin_iteration: Callable[[], None], autojump: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._begin_iteration = begin_iteration
        self._autojump = autojump

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the ready file objects. Wait in real time only if none is ready and there is no timer to jump to."""
        self._begin_iteration()
        if timeout is None:
            return super().select(None)
        # I/O that is ready now takes precedence over a jump in time.
        ready = super().select(0)
        if ready or timeout <= 0 or self._autojump():
            return ready
        return super().select(timeout)
