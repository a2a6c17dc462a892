"""`await scheduler.room(n)`: who adds jobs without end waits until few of them have not settled."""

import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any
import anyio
import pytest
from trioflow import Job, JobNotDone, JobState, Scheduler, current_scheduler
from ..bodies import fail_now, nothing
from ..conftest import Virtual

Feed = Callable[[], Awaitable[None]]


async def feed(
    number: int, count: int, seconds: float, seen: list[int], running: list[int]
) -> None:
    async def body() -> None:
        running[0] += 1
        seen.append(running[0])
        await anyio.sleep(seconds)
        running[0] -= 1

    scheduler = current_scheduler()
    for _ in range(count):
        await scheduler.room(number)
        scheduler.add(Job(body))


@pytest.mark.parametrize("feeders", [1, 3])
@pytest.mark.parametrize("keep_jobs", [True, False])
def test_no_more_jobs_are_there_than_the_number_however_many_tasks_add(
    virtual: Virtual, feeders: int, keep_jobs: bool
) -> None:
    """The tasks that wait for room are jobs themselves: none waits for another."""
    seen, running = list[int](), [0]
    jobs = [Job(feed, 4, 10, 1, seen, running) for _ in range(feeders)]
    forever = Job(anyio.sleep_forever, forever=True)
    assert virtual(Scheduler(forever, jobs, keep_jobs=keep_jobs).co_run)
    assert len(seen) == 10 * feeders
    assert max(seen) == 4


def test_tasks_go_on_in_the_order_that_they_came_and_a_cancelled_one_leaves_nothing(
    virtual: Virtual,
) -> None:
    order = list[str]()

    async def main() -> None:
        async with Scheduler() as scheduler, anyio.create_task_group() as tasks:

            async def ask(name: str, limit: int, scope: anyio.CancelScope) -> None:
                with scope:
                    await scheduler.room(limit)
                    order.append(name)
                    scheduler.add(Job(anyio.sleep, 10))

            for seconds in (10, 10):
                scheduler.add(Job(anyio.sleep, seconds))
            scopes = [anyio.CancelScope() for _ in range(4)]
            for scope, (name, limit) in zip(
                scopes, [("a", 1), ("b", 2), ("c", 2), ("d", 2)], strict=True
            ):
                tasks.start_soon(ask, name, limit, scope)
                await anyio.sleep(1)
            scopes[1].cancel()
            await anyio.sleep(1)
            assert not order
            room: Any = scheduler._room
            assert len(room._turns) == 3
        left = [*room._turns], [*room._unsettled_jobs]
        assert left == ([], [])

    virtual(main)
    assert order == ["a", "c", "d"]


def test_the_first_of_those_that_wait_is_cancelled_and_the_next_goes_on(
    virtual: Virtual,
) -> None:
    waited = list[float]()

    async def main() -> None:
        async with Scheduler() as scheduler, anyio.create_task_group() as tasks:
            scheduler.add(Job(anyio.sleep, 50))
            scheduler.add(Job(anyio.sleep, 10))
            first = anyio.CancelScope()

            async def ask_first() -> None:
                with first:
                    await scheduler.room(1)

            tasks.start_soon(ask_first)
            await anyio.sleep(20)
            tasks.start_soon(scheduler.room, 2)
            await anyio.sleep(1)
            started = anyio.current_time()
            first.cancel()
            await scheduler.room(2)
            waited.append(anyio.current_time() - started)

    virtual(main)
    assert waited == [0]


@pytest.mark.parametrize("word", ["drain", "cancel"])
def test_a_run_that_ends_refuses(virtual: Virtual, word: str) -> None:
    found = list[str]()

    async def main() -> None:
        scheduler = Scheduler(Job(anyio.sleep, 10), Job(anyio.sleep, 20))
        async with anyio.create_task_group() as tasks:

            async def ask(limit: int) -> None:
                with pytest.raises(JobNotDone) as error:
                    await scheduler.room(limit)
                found.append(str(error.value))

            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(1)
            tasks.start_soon(ask, 1)
            await anyio.sleep(1)
            getattr(scheduler, word)()
            tasks.start_soon(ask, 5)

    virtual(main)
    assert len(found) == 2
    assert all("takes no more jobs" in text for text in found)


def test_a_drain_ends_the_wait_for_room_although_nothing_settles(
    virtual: Virtual,
) -> None:
    """The wait lasted until another job settled, and a drained run did not end whose only job it kept waiting."""
    ended_at = list[float]()

    async def fill() -> None:
        try:
            await current_scheduler().room(1)
        finally:
            ended_at.append(anyio.current_time())

    async def drain_later(scheduler: Scheduler) -> None:
        await anyio.sleep(1)
        scheduler.drain()

    async def main() -> None:
        feeder = Job(fill)
        scheduler = Scheduler(feeder, Job(nothing, required=feeder), timeout=100)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain_later, scheduler)
            assert not await scheduler.co_run()
        assert feeder.state is JobState.CANCELLED

    virtual(main)
    assert ended_at == [1]


def test_without_a_run_there_is_no_room(backend: str) -> None:
    async def main() -> None:
        scheduler = Scheduler(Job(nothing), label="s")
        with pytest.raises(JobNotDone, match="'s' is idle: it has no run to wait for"):
            await scheduler.room(1)
        await scheduler.co_run()
        for _ in range(2):
            with pytest.raises(JobNotDone, match=r"room\(\) of 's': its run is ending"):
                await scheduler.room(9)
        for number, error in ((0, ValueError), (True, TypeError), (1.5, TypeError)):
            wrong: Any = number
            with pytest.raises(error, match=r"of 's': give a whole number, 1 or more"):
                await scheduler.room(wrong)

    anyio.run(main, backend=backend)


def test_another_thread_is_refused(backend: Any) -> None:
    errors = list[str]()
    scheduler = Scheduler(Job(anyio.sleep, 0.2), label="s")

    async def ask() -> None:
        with pytest.raises(RuntimeError) as error:
            await scheduler.room(1)
        errors.append(str(error.value))

    def start() -> None:
        threads = threading.Thread(target=anyio.run, args=(ask,))
        threads.start()
        threads.join()

    scheduler.add(Job(anyio.to_thread.run_sync, start))
    assert scheduler.run(backend=backend)
    assert "thread" in errors[0]


def test_a_second_run_has_room_of_its_own_and_failures_make_room(
    virtual: Virtual,
) -> None:
    async def fill() -> None:
        for _ in range(5):
            await current_scheduler().room(2)
            current_scheduler().add(Job(fail_now))

    scheduler = Scheduler(Job(fill), log=False)
    for _ in range(2):
        assert not virtual(scheduler.co_run)
        assert len(scheduler) == 6
        assert scheduler._room is None


def test_what_is_tried_again_counts_again(virtual: Virtual) -> None:
    async def main() -> None:
        tries = [0]

        async def flaky() -> None:
            tries[0] += 1
            await anyio.sleep(10)
            if tries[0] == 1:
                raise OSError

        async with Scheduler(log=False) as scheduler:
            job = scheduler.add(Job(flaky))
            keeps = scheduler.add(Job(anyio.sleep, 30))
            await scheduler.room(2)
            job.try_again()
            await scheduler.room(2)
            assert tries == [2]
            assert not keeps.is_settled()

    virtual(main)


def test_a_job_that_holds_the_only_slot_is_named(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    async def fill() -> None:
        for _ in range(2):
            await current_scheduler().room(1)
            current_scheduler().add(Job(nothing, label="next"))

    feeder = Job(fill, label="feeder")
    assert not virtual(Scheduler(feeder, jobs_window=1, timeout=10).co_run)
    assert "'feeder' waits for room() until the end of 'next'" in caplog.text


def test_a_chain_of_jobs_that_wait_for_room_does_not_grow(virtual: Virtual) -> None:
    """Each job that had ever waited for room was kept, although `keep_jobs=False` drops it."""
    links = list[weakref.ref[Any]]()

    async def link() -> None:
        scheduler = current_scheduler()
        await scheduler.room(3)
        if len(links) < 50:
            links.append(weakref.ref(scheduler.add(Job(link))))

    async def main() -> None:
        async with Scheduler(keep_jobs=False) as scheduler:
            scheduler.add(Job(link))
            await anyio.sleep(1)
            gc.collect()
            assert len(links) == 50
            assert [each() for each in links if each() is not None] == []

    virtual(main)


def test_a_run_inside_a_job_leaves_nothing_of_its_room_on_the_job(
    virtual: Virtual,
) -> None:
    """Each such run left its scheduler on the jobs around it until they settled."""
    left = list[Any]()

    async def ask() -> None:
        await current_scheduler().room(2)

    async def outer() -> None:
        inner = list[weakref.ref[Any]]()
        for _ in range(3):
            scheduler = Scheduler(Job(ask))
            inner.append(weakref.ref(scheduler))
            assert await scheduler.co_run()
        del scheduler
        gc.collect()
        left.extend(each() for each in inner if each() is not None)

    assert virtual(Scheduler(Job(outer)).co_run)
    assert left == []
