"""The event loops: how to run a function in a new one, and what a benchmark needs inside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

import trio

T = TypeVar("T")

BACKENDS: Final = ("trio", "asyncio", "threads")


class Event(Protocol):
    def set(self) -> Any: ...

    async def wait(self) -> Any: ...


def run(backend: str, main: Callable[[], Awaitable[T]]) -> T:
    """Run `main()` in a new loop of trio or asyncio. "threads" means trio too, where trioflow runs them."""
    if backend != "asyncio":
        return trio.run(main)

    async def as_coroutine() -> T:
        return await main()

    return asyncio.run(as_coroutine())


def event(backend: str) -> Event:
    return trio.Event() if backend == "trio" else asyncio.Event()


async def checkpoint(backend: str) -> None:
    """Let other tasks run."""
    if backend == "trio":
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


async def sleep(backend: str, seconds: float) -> None:
    if backend == "trio":
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


async def beside(
    backend: str, work: Callable[[], Awaitable[Any]], main: Callable[[], Awaitable[Any]]
) -> None:
    """Await `work()` in a task of its own while `main()` runs in this one."""
    if backend == "trio":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await main()
    else:

        async def as_coroutine() -> None:
            await work()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(as_coroutine())
            await main()
