"""asyncio's own tools, which the libraries for it are made of: a job that is cut off leaves them as a task does."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any
import pytest
from .ways import DONE, TIMED_OUT, times, with_service

pytestmark = pytest.mark.libraries


@pytest.mark.timeout(
    240, method="thread"
)  # a wait for a condition that stays locked cannot be cancelled
def test_timeouts_leave_a_condition_usable() -> None:
    async def main() -> None:
        condition = asyncio.Condition()

        async def work(number: int) -> None:
            if number < 30:
                async with condition:
                    await asyncio.wait_for(condition.wait(), 1000)
            for _ in range(40):
                async with condition:
                    await asyncio.sleep(0.002)

        timeouts = [0.1 + 0.001 * number for number in range(30)]
        assert await times(work, [*timeouts, *[None] * 4]) == {TIMED_OUT: 30, DONE: 4}
        assert not condition.locked()

    asyncio.run(main())


async def write(number: int, saved: list[int]) -> None:
    """Work without end; save at the end, as a consumer that flushes its buffer."""
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.01)
        saved.append(number)


async def gather(saved: list[int]) -> None:
    await asyncio.gather(write(1, saved), write(2, saved))


async def wait_for(saved: list[int]) -> None:
    await asyncio.wait_for(write(1, saved), 1000)


async def group(saved: list[int]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(write(1, saved))
        group.create_task(write(2, saved))


async def end_a_task(saved: list[int]) -> None:
    task = asyncio.create_task(write(1, saved))
    try:
        await asyncio.Event().wait()
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("body", [gather, wait_for, group, end_a_task])
def test_tasks_that_a_job_awaits_save_what_they_have(
    body: Callable[[list[int]], Awaitable[None]],
) -> None:
    saved: list[int] = []

    async def main() -> None:
        assert await times(lambda _: body(saved), [0.1]) == {TIMED_OUT: 1}
        assert sorted(saved) == [1, 2][: len(saved) or 1]

    asyncio.run(main())


def test_the_buffer_of_a_service_is_sent_at_its_end() -> None:
    sent: list[int] = []

    async def producer(*, task_status: Any) -> None:
        buffer: list[int] = []
        try:
            task_status.started(buffer)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            sent.extend(buffer)

    async def produce(buffer: list[int], number: int) -> None:
        buffer.append(number)

    asyncio.run(with_service(producer, 4, produce))
    assert sorted(sent) == [0, 1, 2, 3]


class CountingSelector(selectors.DefaultSelector):
    """A selector that counts the turns of its loop."""

    turns = 0

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        return super().select(timeout)


def test_a_job_that_waits_for_its_tasks_after_a_timeout_sleeps() -> None:
    selector = CountingSelector()

    async def clean_up_long() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.5)

    async def body(number: int) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(clean_up_long())

    async def main() -> None:
        assert await times(body, [0.1]) == {TIMED_OUT: 1}

    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selector)
    ) as runner:
        runner.run(main())
    assert selector.turns < 100
