"""Forever jobs: when they start, what they may still take in, when and how the run ends them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from trioflow import Job, Scheduler, StopReason

from ..bodies import CANCELLED, FAILED, IDLE, LIMIT, SUCCEEDED, fail, nap, nothing, timed, turns

if TYPE_CHECKING:
    from ..conftest import Virtual


def endless(**options: Any) -> Job[None]:
    return Job(anyio.sleep_forever, forever=True, **options)


# --- the last turns


def test_forever_job_receives_messages_that_are_already_in_a_channel(virtual: Virtual) -> None:
    """When all other jobs have settled, a forever job has 16 turns of the loop to receive what was sent."""
    got: list[int] = []

    async def main() -> bool:
        send, receive = anyio.create_memory_object_stream[int](99)

        async def tell() -> None:
            for number in range(8):
                send.send_nowait(number)

        async def listen() -> None:
            async for number in receive:
                got.append(number)

        with send, receive:
            return await Scheduler(Job(tell), Job(listen, forever=True)).co_run()

    assert virtual(main) is True
    assert got == list(range(8))


def test_jobs_added_by_a_forever_job_in_its_last_turns_prolong_the_run(virtual: Virtual) -> None:
    """A job that a forever job adds in its last turns is run to its end, and the forever job lives until then."""
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


def test_last_turns_of_a_forever_job_count_from_the_last_settled_job(virtual: Virtual) -> None:
    """If a job is added in the last turns of a forever job, its 16 turns start again; once only 2 were left."""
    got: list[int] = []

    async def main() -> bool:
        send, receive = anyio.create_memory_object_stream[int](99)

        async def tell() -> None:
            for number in range(8):
                send.send_nowait(number)

        async def listen() -> None:
            await turns(12)
            scheduler.add(Job(tell))
            async for number in receive:
                got.append(number)
                await anyio.lowlevel.checkpoint()

        with send, receive:
            scheduler = Scheduler(Job(nothing), Job(listen, forever=True))
            return await scheduler.co_run()

    assert virtual(main) is True
    assert got[:4] == [0, 1, 2, 3]


def test_run_ends_although_its_last_worker_continues_with_a_forever_job(virtual: Virtual) -> None:
    """The worker of the last ordinary job must report its end before it may continue with a forever job."""
    last = Job(nap, 1)
    assert virtual(timed, Scheduler(last, endless(required=last))) == (True, 1)


def test_forever_job_starts_without_a_slot_after_jobs_that_need_one(virtual: Virtual) -> None:
    """A forever job starts as soon as its requirements have settled, whichever jobs have the slots."""
    first = Job(nap, 1)
    forever = endless(required=first)
    assert virtual(timed, Scheduler(first, Job(nap, 5, required=first), forever, jobs_window=1)) == (True, 6)
    assert forever.started_at == 1


def test_forever_job_with_own_task_starts_at_once(virtual: Virtual) -> None:
    """A forever job with `own_task` starts at once, though the worker of the job before it cannot run it."""
    first = Job(nothing)
    forever = [endless(required=first, own_task=True) for _ in range(2)]
    assert virtual(timed, Scheduler(first, forever, Job(nap, 5, required=first), jobs_window=1)) == (True, 5)
    assert [(job.state, job.started_at) for job in forever] == [(CANCELLED, 0)] * 2


# --- forever jobs alone


@pytest.mark.parametrize("window", [None, 1])
def test_forever_jobs_alone_run_until_they_return(virtual: Virtual, window: int | None) -> None:
    """A run of forever jobs alone lasts until the last of them has returned, and is True."""
    scheduler = Scheduler(Job(nap, 3, forever=True), Job(nap, 5, forever=True), jobs_window=window)
    assert virtual(timed, scheduler) == (True, 5)
    assert [job.state for job in scheduler] == [SUCCEEDED, SUCCEEDED]


def test_forever_jobs_alone_run_until_the_timeout(virtual: Virtual) -> None:
    """A run of forever jobs alone that do not return lasts until its timeout."""
    scheduler = Scheduler(endless(), Job(nap, 1, forever=True))
    assert virtual(functools.partial(timed, scheduler, timeout=5)) == (False, 5)
    assert [job.state for job in scheduler] == [CANCELLED, SUCCEEDED]


# --- their outcome


def test_forever_job_that_returns_does_not_end_the_run(virtual: Virtual) -> None:
    """A forever job that returns has SUCCEEDED, and the run goes on."""
    scheduler = Scheduler(Job(nap, 1, forever=True), Job(nap, 3))
    assert virtual(timed, scheduler) == (True, 3)
    assert [job.state for job in scheduler] == [SUCCEEDED, SUCCEEDED]


def test_forever_job_that_raises_counts_as_any_failure(virtual: Virtual) -> None:
    """A forever job that fails leaves the run True if it is not critical, or else ends the run and is the culprit."""
    scheduler = Scheduler(bad := Job(fail, 1, forever=True), Job(nap, 3))
    assert virtual(timed, scheduler) == (False, 3)
    assert bad.state is FAILED
    bad.critical = True
    assert virtual(timed, scheduler) == (False, 1)
    assert (scheduler.stop_reason, scheduler.culprit) == (StopReason.CRITICAL, bad)


def test_cancel_of_a_forever_job_does_not_end_the_run(virtual: Virtual) -> None:
    """`cancel()` of a forever job ends that job alone, and the run goes on."""
    forever = endless()

    async def cancel() -> None:
        await anyio.sleep(1)
        forever.cancel()
        await anyio.sleep(2)

    assert virtual(timed, Scheduler(forever, Job(cancel))) == (True, 3)
    assert (forever.state, forever.finished_at) == (CANCELLED, 1)


# --- their start


def test_forever_job_waits_for_its_requirements(virtual: Virtual) -> None:
    """A forever job starts when its requirements have settled, and stays IDLE if the run ends before that."""
    first = Job(nap, 2)
    late = Job(anyio.sleep_forever, forever=True, required=first)
    scheduler = Scheduler(first, late, Job(nap, 5))
    assert virtual(timed, scheduler) == (True, 5)
    assert (late.state, late.started_at, late.finished_at) == (CANCELLED, 2, 5)
    assert virtual(functools.partial(timed, scheduler, timeout=1)) == (False, 1)
    assert (late.state, late.started_at) == (IDLE, None)


PIECES: dict[str, Callable[[], Any]] = {
    "no-op": lambda: Job(nothing),
    "nap": lambda: Job(nap, 1),
    "forever": endless,
    "forever no-op": lambda: Job(nothing, forever=True),
}


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("length", [2, 3, 4])
def test_run_of_no_op_and_forever_jobs_in_any_order_ends(virtual: Virtual, length: int, window: int | None) -> None:
    """In any order of no-op, napping and forever jobs, the run ends when the ordinary ones have settled.

    A forever job behind a no-op once kept the run from noticing that the no-op had settled: it hung.
    """

    async def main() -> None:
        for names in itertools.product(PIECES, repeat=length):
            ordinary = [name for name in names if not name.startswith("forever")]
            if not ordinary:
                continue
            answer = await timed(Scheduler([PIECES[name]() for name in names], jobs_window=window))
            naps = ordinary.count("nap")
            assert answer == (True, naps if window else min(naps, 1)), names

    virtual(main)


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("length", [2, 3])
def test_run_of_forever_jobs_that_require_no_op_jobs_ends(virtual: Virtual, length: int, window: int | None) -> None:
    """A run ends whose forever jobs each require the no-op and napping jobs before them, in any order of these."""

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


# --- their end


@pytest.mark.parametrize("how", ["completion", "critical", "timeout", "outer cancel", "cancel()"])
def test_forever_jobs_are_cancelled_after_the_ordinary_jobs_have_unwound(virtual: Virtual, how: str) -> None:
    """At any end of the run, forever jobs are cancelled only after the ordinary ones have unwound."""

    async def slow() -> None:
        try:
            await anyio.sleep(1 if how == "completion" else LIMIT)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2)

    async def cancel() -> None:
        await anyio.sleep(1)
        scheduler.cancel()

    job, forever = Job(slow), endless()
    scheduler = Scheduler(forever, job)
    if how == "critical":
        scheduler.add(Job(fail, 1, critical=True))
    elif how == "cancel()":
        scheduler.add(Job(cancel))

    async def main() -> None:
        with anyio.CancelScope(deadline=1 if how == "outer cancel" else LIMIT):
            await scheduler.co_run(timeout=1 if how == "timeout" else None)

    virtual(main)
    assert (job.finished_at, forever.finished_at) == (3, 3)
    assert forever.state is CANCELLED
    reasons = {"completion": "completed", "outer cancel": "cancelled", "cancel()": "cancelled"}
    assert scheduler.stop_reason is StopReason(reasons.get(how, how))
