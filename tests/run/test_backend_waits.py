"""Functions of a backend that wait for descriptors, for times, and in spite of cancellations."""

import asyncio
import os
import socket
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from trioflow._core import backend as _backend
from ..conftest import Virtual


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The read end and the write end of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_wait_readable_is_false_after_its_deadline_even_if_data_is_ready(backend: str, pipe: tuple[int, int]) -> None:
    """`wait_readable` is False after its deadline even if data is ready, so that an endless writer can be ended."""
    read_end, write_end = pipe
    os.write(write_end, b"x")

    async def look() -> list[bool]:
        wait, now = _backend.current_backend().wait_readable, anyio.current_time()
        return [await wait(read_end), await wait(read_end, now + 60), await wait(read_end, now)]

    assert anyio.run(look, backend=backend) == [True, True, False]


def test_wait_readable_is_false_at_its_deadline_without_data(virtual: Virtual) -> None:
    ends = socket.socketpair()

    async def look() -> list[Any]:
        wait = _backend.current_backend().wait_readable
        return [await wait(ends[0].fileno(), when) or anyio.current_time() for when in (2.0, 5.0)]

    with ends[0], ends[1]:
        assert virtual(look) == [2.0, 5.0]


def test_sleep_until_can_be_cancelled_before_its_time(virtual: Virtual) -> None:
    """`sleep_until` can be cancelled before its time, and returns at once if that is in the past."""

    async def sleep() -> list[float]:
        until = _backend.current_backend().sleep_until
        await until(3.0)
        times = [anyio.current_time()]
        await until(1.0)
        with anyio.move_on_after(2):
            await until(99.0)
            times.append(-1)
        return [*times, anyio.current_time()]

    assert virtual(sleep) == [3.0, 5.0]


def test_outlast_finishes_its_wait_in_a_cancelled_scope(virtual: Virtual) -> None:
    async def three() -> int:
        await anyio.sleep(3)
        return 3

    async def outlast() -> list[Any]:
        told: list[Any] = []
        with anyio.move_on_after(1):
            told += [await _backend.current_backend().outlast(three), anyio.current_time()]
            await anyio.sleep(1)
            told.append("not cancelled")
        return [*told, anyio.current_time()]

    assert virtual(outlast) == [3, 3.0, 3.0]


@pytest.mark.parametrize("backend", ["asyncio"], indirect=True)
def test_outlast_begins_its_wait_again_after_a_native_cancellation(virtual: Virtual) -> None:
    """`outlast` waits again after `Task.cancel()`, which no shield stops, and returns the value of the last wait."""
    begun: list[float] = []

    async def wait(event: asyncio.Event) -> int:
        begun.append(anyio.current_time())
        await event.wait()
        return len(begun)

    async def outlast() -> list[Any]:
        event = asyncio.Event()
        task = asyncio.create_task(_backend.current_backend().outlast(lambda: wait(event)))
        for _ in range(2):
            await asyncio.sleep(1)
            task.cancel()
        await asyncio.sleep(1)
        event.set()
        return [await task, begun]

    assert virtual(outlast) == [3, [0.0, 1.0, 2.0]]
