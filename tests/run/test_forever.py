"""Forever jobs: when they start, what they may still take in, when and how the run ends them."""

import contextlib
import itertools
from collections.abc import Callable
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import Job, Scheduler, Service, StopReason
from ..bodies import (
    CANCELLED,
    SUCCEEDED,
    at_once,
    fail,
    nap,
    nothing,
    serve,
    timed,
    turns,
    unwind,
)
from ..conftest import Virtual


def endless(**options: Any) -> Job[None]:
    return Job(anyio.sleep_forever, forever=True, **options)


# --- the last turns
def test_forever_job_receives_messages_that_are_already_in_a_channel(
    virtual: Virtual,
) -> None:
    """When all other jobs have settled, a forever job has turns of the loop to receive what was sent."""
    send, receive = anyio.create_memory_object_stream[int](99)
    got: list[int] = []

    async def listen() -> None:
        async for number in receive:
            got.append(number)

    with send, receive:
        tell = Job(at_once, lambda: [send.send_nowait(number) for number in range(8)])
        assert virtual(Scheduler(tell, Job(listen, forever=True)).co_run) is True
    assert got == list(range(8))


def test_jobs_added_by_a_forever_job_in_its_last_turns_prolong_the_run(
    virtual: Virtual,
) -> None:
    added = Job(nap, 5)

    async def add() -> None:
        await anyio.sleep(1)
        await turns(4)
        scheduler.add(added)
        await anyio.sleep_forever()

    forever = Job(add, forever=True)
    scheduler = Scheduler(Job(nap, 1), forever)
    assert virtual(timed, scheduler) == (True, 6)
    assert (added.state, forever.finished_at) == (SUCCEEDED, 6)


def test_forever_jobs_end_with_the_body_of_a_block_that_has_added_nothing_else(
    virtual: Virtual,
) -> None:
    """A server had an end if there was a job of any request, and hung at its shutdown if there was none."""

    async def main() -> None:
        async with scheduler:
            scheduler.add(Service(serve))
            scheduler.add(forever)
            await anyio.sleep(1)

    scheduler, forever = Scheduler(timeout=99), endless()
    virtual(main)
    assert (forever.state, forever.finished_at) == (CANCELLED, 1)


def test_last_turns_of_a_forever_job_count_from_the_last_settled_job(
    virtual: Virtual,
) -> None:
    """If a job is added in the last turns of a forever job, its turns start again; once only 2 were left."""
    send, receive = anyio.create_memory_object_stream[int](99)
    got: list[int] = []

    async def listen() -> None:
        await turns(12)
        scheduler.add(
            Job(at_once, lambda: [send.send_nowait(number) for number in range(8)])
        )
        async for number in receive:
            got.append(number)
            await anyio.lowlevel.checkpoint()

    with send, receive:
        scheduler = Scheduler(Job(nothing), Job(listen, forever=True))
        assert virtual(scheduler.co_run) is True
    assert got[:4] == [0, 1, 2, 3]


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_forever_jobs_that_pass_something_on_each_have_their_turn(
    virtual: Virtual, depth: int
) -> None:
    """As long as one of them moves, at any depth, the others may have something to take in: here six in a row."""
    got: list[int] = []

    async def main() -> bool:
        streams = [anyio.create_memory_object_stream[int](1) for _ in range(7)]

        async def pass_on(number: int) -> None:
            async for value in streams[number][1]:
                got.append(number)
                await streams[number + 1][0].send(value)

        with contextlib.ExitStack() as stack:
            for stream in itertools.chain(*streams):
                stack.enter_context(stream)
            watchers: list[Any] = [
                Job(pass_on, number, forever=not depth) for number in reversed(range(6))
            ]
            for level in reversed(range(depth)):
                watchers = [Scheduler(watchers, forever=not level)]
            return await Scheduler(
                watchers, Job(at_once, lambda: streams[0][0].send_nowait(1))
            ).co_run()

    assert virtual(main) is True
    assert got == list(range(6))


def test_a_run_does_not_wait_for_forever_jobs_that_sleep(virtual: Virtual) -> None:
    """A forever job that only polls has nothing to take in: the run ends in fewer turns than the 16 of others."""
    counted = 0

    async def count() -> None:
        nonlocal counted
        while True:
            await anyio.lowlevel.checkpoint()
            counted += 1

    async def main() -> int:
        async with anyio.create_task_group() as tasks:
            before = 0

            async def last() -> None:
                nonlocal before
                tasks.start_soon(count)
                await turns(3)
                before = counted

            assert await Scheduler(endless(), Job(last)).co_run()
            tasks.cancel_scope.cancel()
            return counted - before

    assert virtual(main) <= 12


def test_a_forever_job_that_unwinds_is_cancelled_once_on_asyncio(
    virtual: Virtual,
) -> None:
    """At the end of a run that completes, clean-up that takes longer than the first turns is not cancelled again."""
    ended: list[str] = []

    async def watch() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.move_on_after(5, shield=True):
                await anyio.sleep(0.5)
                ended.append("cleaned up")

    scheduler = Scheduler(Job(watch, forever=True), Job(nap, 1))
    assert virtual(timed, scheduler) == (True, 1.5)
    assert ended == ["cleaned up"]


# --- their start


PIECES: dict[str, Callable[[], Any]] = {
    "no-op": lambda: Job(nothing),
    "nap": lambda: Job(nap, 1),
    "forever": endless,
    "forever no-op": lambda: Job(nothing, forever=True),
}


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_run_with_nothing_but_services_and_forever_jobs_never_ends_by_itself(
    virtual: Virtual, is_nested: bool
) -> None:
    """Neither does an enclosing run, whose other jobs have ended."""
    service = Service(serve, label="service")
    scheduler = Scheduler(endless(), service, label="servers")
    if is_nested:
        scheduler = Scheduler(scheduler, Job(nap, 1))
    scheduler.timeout = 1e6
    assert virtual(scheduler.co_run) is False
    assert scheduler.stop_reason is StopReason.TIMEOUT
    assert service.result() == "ready"


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("length", [2, 3])
def test_run_of_forever_jobs_that_require_no_op_jobs_ends(
    virtual: Virtual, length: int, window: int | None
) -> None:
    async def main() -> None:
        for names in itertools.product(PIECES, repeat=length):
            if all(name.startswith("forever") for name in names):
                continue
            scheduler = Scheduler(jobs_window=window)
            for name in names:
                job = PIECES[name]()
                job.requires([one for one in scheduler if not one.forever])
                scheduler.add(job)
            assert await timed(scheduler) == (True, names.count("nap")), names

    virtual(main)


def test_a_forever_job_that_fails_while_a_cancelled_run_unwinds_is_cancelled(
    virtual: Virtual,
) -> None:
    """It would be tried again otherwise, so it has not failed; on both backends."""

    forever = Job(fail, 2, forever=True, retry=3)

    async def main() -> None:
        with anyio.move_on_after(1):
            await Scheduler(forever, Job(unwind), log=False).co_run()

    virtual(main)
    assert (forever.state, forever.attempts) == (CANCELLED, 1)


@pytest.mark.fast_way(
    "asyncio"
)  # direct isolation shows no deadline from outside of the job
def test_a_forever_job_sees_no_deadline_of_its_run(virtual: Virtual) -> None:
    seen: list[float] = []

    async def look() -> None:
        seen.append(anyio.current_effective_deadline())
        await anyio.sleep_forever()

    assert virtual(Scheduler(Job(look, forever=True), Job(nap, 1), timeout=9).co_run)
    assert seen == [float("inf")]
