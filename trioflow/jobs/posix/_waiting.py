"""Wait for a descriptor with a deadline, the same on both backends; and wait through any cancellation."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ..._core.door.kinds import Run

T = TypeVar("T")

Wait = Callable[[int, float], Awaitable[bool]]
"""Waits until a descriptor is readable or the backend's clock has reached a time; returns whether it is readable."""


def readable_on(backend: str) -> Wait:
    """Return the function that waits for a descriptor in the event loop of that backend."""
    return _readable_on_asyncio if backend == "asyncio" else _readable_on_trio


async def _readable_on_trio(descriptor: int, deadline: float) -> bool:
    import trio  # imported here: programs that use asyncio need not pay for it

    if deadline == math.inf:
        await trio.lowlevel.wait_readable(descriptor)
        return True
    with trio.move_on_at(deadline):
        await trio.lowlevel.wait_readable(descriptor)
        return True
    return False


async def _readable_on_asyncio(descriptor: int, deadline: float) -> bool:
    loop = asyncio.get_running_loop()
    if loop.time() >= deadline:  # a descriptor that is always readable would keep the timer from ever being the first
        await asyncio.sleep(0)
        return False
    found: asyncio.Future[bool] = loop.create_future()
    loop.add_reader(descriptor, _answer, found, True)
    timer = None if deadline == math.inf else loop.call_at(deadline, _answer, found, False)
    try:
        return await found
    finally:
        loop.remove_reader(descriptor)
        if timer is not None:
            timer.cancel()


def _answer(found: asyncio.Future[bool], value: bool) -> None:
    if not found.done():
        found.set_result(value)


async def sleep_until(backend: str, deadline: float) -> bool:
    """Wait until the clock of that backend has reached a time, and return True; a cancellation is raised."""
    if backend == "asyncio":
        await asyncio.sleep(max(0, deadline - asyncio.get_running_loop().time()))
    else:
        import trio  # imported here: programs that use asyncio need not pay for it

        await trio.sleep_until(deadline)
    return True


async def outlast(run: Run, wait: Callable[[], Awaitable[T]]) -> T:
    """Await `wait()` until it returns, whatever is cancelled meanwhile, and return its answer.

    The caller raises its own cancellation afterwards. A shield keeps out the cancellations of scopes. A native
    `Task.cancel()` of asyncio gets through the shield and is dropped here.
    """
    while True:
        with run.backend.scope() as scope:
            scope.shield = True
            try:
                return await wait()
            except asyncio.CancelledError:
                continue
