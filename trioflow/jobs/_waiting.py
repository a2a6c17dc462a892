"""To wait for a descriptor with a deadline, alike on both backends; and to wait through whatever is cancelled."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._core._run import Run

Wait = Callable[[int, float], Awaitable[bool]]
"""Waits until a descriptor is readable, or the backend's clock shows a time; tells whether it is readable."""


def readable_on(backend: str) -> Wait:
    """Return what waits until a descriptor is readable, by the event loop of that backend."""
    return _readable_on_asyncio if backend == "asyncio" else _readable_on_trio


async def _readable_on_trio(descriptor: int, deadline: float) -> bool:
    import trio  # here, as users of asyncio need not pay for its import

    if deadline == math.inf:
        await trio.lowlevel.wait_readable(descriptor)
        return True
    with trio.move_on_at(deadline):
        await trio.lowlevel.wait_readable(descriptor)
        return True
    return False


async def _readable_on_asyncio(descriptor: int, deadline: float) -> bool:
    loop = asyncio.get_running_loop()
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


async def outlast(run: Run, wait: Callable[[], Awaitable[bool]]) -> bool:
    """Await `wait()`, again if need be, until it has an answer: no cancellation cuts it.

    Whoever calls has a cancellation of its own to raise afterwards, or asks for one. A shield keeps out those of
    scopes; a native `Task.cancel()` of asyncio gets through it and is dropped here.
    """
    while True:
        with run.backend.scope() as scope:
            scope.shield = True
            try:
                return await wait()
            except asyncio.CancelledError:
                continue
