"""Faults that random scenarios have found, each made as small as it gets; those of the model are in `tests/model`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import AbstractJob, CycleError, Job, JobState, Scheduler, Service, StopReason, current_job

from ..bodies import fail, nap, nothing

if TYPE_CHECKING:
    from ..conftest import Virtual


class SlowToShutDown(Job[None]):
    """A job whose shutdown takes half a second."""

    async def co_shutdown(self) -> None:
        await anyio.sleep(0.5)


def test_run_ends_if_a_worker_goes_from_an_instant_job_to_a_forever_job(virtual: Virtual) -> None:
    """A worker that went on from a job without a checkpoint to a forever job never reported the end of the first."""

    async def main() -> bool | None:
        with anyio.move_on_after(10):
            return await Scheduler(Job(nothing), Job(anyio.sleep_forever, forever=True)).co_run()
        return None

    assert virtual(main) is True


def test_cancellation_during_the_shutdown_is_raised_after_it(virtual: Virtual) -> None:
    """On asyncio, a cancellation of an anyio scope around the run was lost if it came during the shutdown."""

    async def main() -> None:
        scheduler = Scheduler(SlowToShutDown(anyio.sleep, 1))
        with anyio.move_on_after(1.25) as scope:
            await scheduler.co_run()
        assert (scope.cancelled_caught, scheduler.stop_reason) == (True, StopReason.COMPLETED)

    virtual(main)


def test_nested_scheduler_stopped_during_its_shutdown_is_cancelled(virtual: Virtual) -> None:
    """On asyncio, a nested scheduler that was shutting down when the outer one stopped ended SUCCEEDED."""

    async def main() -> None:
        nested = Scheduler(SlowToShutDown(anyio.sleep, 1))
        await Scheduler(nested, Job(anyio.sleep, 100), timeout=1.25).co_run()
        assert nested.state is JobState.CANCELLED

    virtual(main)


async def unwind_slowly(seconds: float, task_status: Any = None) -> None:
    """Wait for a cancellation, and then for some seconds more; as a service, be ready at once."""
    if task_status is not None:
        task_status.started()
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(seconds)


def test_service_that_cancel_has_ended_is_cancelled_also_if_its_run_ends_meanwhile(virtual: Virtual) -> None:
    """A ready service that still unwound after its `cancel()` when the run ended it was SUCCEEDED."""

    async def main() -> None:
        service, other = Service(unwind_slowly, 3), Service(unwind_slowly, 3)

        async def cancel() -> None:
            await anyio.sleep(1)
            service.cancel()

        await Scheduler(service, other, Job(cancel)).co_run()
        assert (service.state, other.state) == (JobState.CANCELLED, JobState.SUCCEEDED)

    virtual(main)


@pytest.mark.parametrize("timeout", [1, 3], ids=["before", "after"])
def test_forever_jobs_keep_their_timeouts_while_a_cancelled_run_unwinds(virtual: Virtual, timeout: int) -> None:
    """On asyncio, the timeout of a forever job in a run that was cancelled from outside did not count any more.

    The run waits for its other jobs, and only then ends its forever jobs. A timeout that passes meanwhile, or that has
    passed while the job still unwinds, decides as it always does.
    """

    async def main() -> None:
        late = Job(unwind_slowly, 2, forever=True, timeout=timeout)
        moved_on = Job(anyio.sleep_forever, forever=True, timeout=timeout, on_timeout="move_on")
        nested = Scheduler(late, moved_on, Job(unwind_slowly, 5))
        with anyio.move_on_after(2):
            await Scheduler(nested).co_run()
        assert nested.stop_reason is StopReason.CANCELLED
        assert (late.state, moved_on.state) == (JobState.FAILED, JobState.SUCCEEDED)

    virtual(main)


def test_forever_job_that_would_be_tried_again_is_cancelled_in_a_cancelled_run(virtual: Virtual) -> None:
    """On asyncio, a forever job that failed while its cancelled run unwound was FAILED, although attempts were left."""

    async def main() -> None:
        forever = Job(fail, 3, forever=True, retry=1)
        tried = Job(fail, 3, forever=True)
        with anyio.move_on_after(2):
            await Scheduler(Scheduler(forever, tried, Job(unwind_slowly, 5))).co_run()
        assert (forever.state, tried.state) == (JobState.CANCELLED, JobState.FAILED)

    virtual(main)


def test_a_scope_around_a_run_that_ends_cancels_its_jobs_once_more(virtual: Virtual) -> None:
    """On asyncio, jobs that unwound after a timeout did not notice that a scope around the run was cancelled.

    This is a further cause, as the `cancel()` of a task is: it ends their next wait, and is raised after the ending.
    """

    async def clean_up_without_shield() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            await anyio.sleep(9)
            raise

    async def main() -> float:
        began = anyio.current_time()
        scheduler = Scheduler(Job(clean_up_without_shield), SlowToShutDown(nothing), timeout=1)
        with anyio.move_on_after(3) as scope:
            await scheduler.co_run()
        assert (scope.cancelled_caught, scheduler.stop_reason) == (virtual.backend == "asyncio", StopReason.TIMEOUT)
        return anyio.current_time() - began

    seconds = 3.5 if virtual.backend == "asyncio" else 1.5  # trio cancels each wait
    assert virtual(main) == seconds


def test_outer_stop_reaches_nested_schedulers_at_once(virtual: Virtual) -> None:
    """On trio a nested run sometimes noticed the stop of the outer run only after its jobs had reacted."""

    async def stubborn(error: type[Exception] | None) -> None:
        try:
            await anyio.sleep(100)
        except anyio.get_cancelled_exc_class():
            if error is not None:
                raise error from None

    async def main() -> tuple[StopReason | None, JobState]:
        swallower = Job(stubborn, None)
        successor = Job(anyio.sleep, 1, required=swallower)
        nested = Scheduler(swallower, successor, Job(stubborn, ValueError, critical=True))
        await Scheduler(nested, timeout=1).co_run()
        return nested.stop_reason, successor.state

    assert {virtual(main) for _ in range(40)} == {(StopReason.CANCELLED, JobState.IDLE)}


def test_jobs_of_schedulers_that_never_ran_are_shut_down_at_any_depth(virtual: Virtual) -> None:
    """Jobs two levels inside a scheduler that never ran were once not shut down."""
    calls: list[str] = []

    class Counting(Job[None]):
        async def co_shutdown(self) -> None:
            calls.append(self.label)

    async def main() -> None:
        inner = Scheduler(Counting(nothing, label="deep"), label="inner")
        middle = Scheduler(inner, Counting(nothing, label="middle"), label="middle")
        endless = Job(anyio.sleep_forever)
        middle.requires(endless)
        await Scheduler(endless, middle, timeout=1).co_run()

    virtual(main)
    assert sorted(calls) == ["deep", "middle"]


def test_the_token_of_a_worker_that_retires_goes_to_a_waiting_worker(virtual: Virtual) -> None:
    """A worker that retired kept the only token, while another of the same run waited for one, forever."""
    changed: contextvars.ContextVar[bool] = contextvars.ContextVar("changed")

    async def change() -> None:
        changed.set(True)
        await anyio.sleep(1)

    async def main() -> tuple[bool | None, float]:
        limiter = anyio.CapacityLimiter(1)
        nested = Scheduler(Job(change), Job(anyio.sleep, 1), jobs_window=limiter)
        result = None
        with anyio.move_on_after(10):
            result = await Scheduler(nested, jobs_window=limiter).co_run()
        return result, anyio.current_time()

    assert virtual(main) == (True, 2)


def test_forever_job_does_not_overtake_an_ordinary_job_with_a_free_slot(virtual: Virtual) -> None:
    """A worker with a slot that took a forever job also started the next forever job before it gave the slot back."""
    order: list[str] = []

    async def endless(name: str) -> None:
        order.append(name)
        await anyio.sleep_forever()

    async def main() -> None:
        first, last = (Job(endless, name, forever=True) for name in ("first", "last"))
        await Scheduler(first, Job(endless, "between"), last, jobs_window=1, timeout=1).co_run()

    virtual(main)
    assert order == ["first", "between", "last"]


def test_critical_job_that_is_blocked_leaves_no_job_scheduled(virtual: Virtual) -> None:
    """When the end of a job blocked a critical job, which stopped the run, it still made other jobs ready."""
    bad, last = Job(fail, 1), Job(nap, 2)
    blocked = Job(nap, required=bad, run_if="succeeded", critical=True).requires(last)
    after = Job(nap, required=last)
    scheduler = Scheduler(bad, last, blocked, after)
    virtual(scheduler.co_run)
    assert (scheduler.stop_reason, scheduler.culprit) == (StopReason.CRITICAL, blocked)
    assert after.state is JobState.IDLE


def test_critical_entry_job_that_is_blocked_leaves_no_job_scheduled(virtual: Virtual) -> None:
    """An entry job that was blocked by an input from outside stopped the run while other entry jobs became ready."""
    bad = Job(fail)
    scheduler = Scheduler(bad)
    blocked, after = Job(nap, 1, bad, critical=True), Job(nap)
    nested = scheduler.add(Scheduler(blocked, after))
    virtual(scheduler.co_run)
    assert (nested.stop_reason, nested.culprit) == (StopReason.CRITICAL, blocked)
    assert after.state in (JobState.IDLE, JobState.CANCELLED)


def test_a_skipped_entry_job_keeps_the_order_of_starts(virtual: Virtual) -> None:
    """The successors of an entry job that was skipped were once queued before later entry jobs."""
    order: list[str] = []

    async def start(name: str) -> None:
        order.append(name)

    skipped = Job(nothing, run_if="failed")
    virtual(Scheduler(skipped, Job(start, "first"), Job(start, "second").requires(skipped, settled=True)).co_run)
    assert order == ["first", "second"]


@pytest.mark.parametrize("ends", ["timeout", "outside"])
def test_job_that_unwinds_cannot_add_jobs_or_requirements(virtual: Virtual, ends: str) -> None:
    """A cancelled job can add nothing, although on trio it may notice the cancellation before the run does."""
    taken: list[str] = []

    async def cancel_later() -> None:
        try:
            await anyio.sleep(100)
        finally:
            with contextlib.suppress(RuntimeError):
                scheduler.add(Job(nothing))
                taken.append("a job")
            with contextlib.suppress(RuntimeError):
                idle.requires(other)
                taken.append("a requirement")

    canceller, other = Job(cancel_later), Job(nap, 100)
    idle = Job(nap, required=canceller)
    scheduler = Scheduler(canceller, other, idle)

    async def main() -> None:
        for _ in range(20):
            with anyio.move_on_after(1 if ends == "outside" else 200):
                await scheduler.co_run(timeout=1 if ends == "timeout" else None)

    virtual(main)
    assert taken == []


def test_late_requirement_that_closes_a_cycle_through_an_input_is_rejected(virtual: Virtual) -> None:
    """A nested scheduler waits for the inputs of its jobs, so a late requirement may close a cycle through them."""
    refused: list[type[Exception]] = []
    gate = Job(nap)
    source = Job(nap, required=gate)
    scheduler = Scheduler(gate, source)
    nested = Scheduler(Job(nap, 1, source), label="nested")

    async def cancel_later() -> None:
        try:
            source.requires(nested)
        except CycleError as error:
            refused.append(type(error))

    scheduler.update([nested, Job(cancel_later)])
    with contextlib.suppress(CycleError):
        virtual(functools.partial(scheduler.co_run, timeout=100))
    assert refused == [CycleError]
    assert scheduler.stop_reason is StopReason.COMPLETED


def test_a_skipped_job_keeps_the_order_of_starts(virtual: Virtual) -> None:
    """Jobs behind a skipped job were once queued before others that waited for the same requirement."""
    order: list[str] = []

    async def start(name: str) -> None:
        order.append(name)

    first = Job(nap)
    skipped = Job(nothing, run_if="failed", required=first)
    last = Job(start, "c").requires(skipped, settled=True)
    scheduler = Scheduler(first, skipped, Job(start, "b", required=first), last)
    virtual(scheduler.co_run)
    assert order == ["b", "c"]


@pytest.mark.parametrize("kind", ["forever", "service"])
def test_a_forever_job_cancelled_before_its_start_leaves_the_queue(virtual: Virtual, kind: str) -> None:
    """A forever job that was cancelled stayed in the queue, and one worker after another was spawned for it in vain."""

    async def cancel() -> None:
        watcher.cancel()
        await anyio.sleep(2)

    async def serve(*, task_status: Any) -> None:
        await anyio.sleep_forever()

    watcher: AbstractJob[Any] = Service(serve) if kind == "service" else Job(anyio.sleep_forever, forever=True)
    scheduler = Scheduler(Job(cancel), watcher)
    assert virtual(scheduler.co_run) is True
    assert watcher.state is JobState.CANCELLED


def test_a_job_with_own_task_gets_the_only_token(virtual: Virtual) -> None:
    """A worker that had given its token back once asked for it again, though a token lay idle: a deadlock."""

    async def main() -> bool:
        limiter = anyio.CapacityLimiter(1)
        watcher = Job(anyio.sleep_forever, forever=True)
        jobs = [Job(anyio.sleep, 1.5), Job(anyio.sleep, 0), Job(anyio.sleep, 1.5, own_task=True)]
        inner = Scheduler(watcher, *jobs, jobs_window=limiter)
        return await Scheduler(inner, jobs_window=limiter).co_run(timeout=100)

    assert virtual(main) is True


def test_two_tasks_may_share_one_iterator_of_as_settled(virtual: Virtual) -> None:
    """When two tasks waited on one `as_settled()` iterator, only the one that came last was ever woken."""
    seen: list[AbstractJob[Any]] = []

    async def main() -> None:
        jobs = [Job(anyio.sleep, seconds) for seconds in (1, 2, 3)]
        scheduler = Scheduler(jobs)
        stream = scheduler.as_settled()

        async def consume() -> None:
            async for job in stream:
                seen.append(job)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            tasks.start_soon(consume)
            await scheduler.co_run()

    virtual(main)
    assert len(seen) == len(set(seen)) == 3


def test_job_that_waits_for_itself_is_rejected(virtual: Virtual) -> None:
    """A job that waits for its own end gets an error: otherwise it would wait forever, silently."""

    async def wait() -> None:
        await current_job().wait_settled()

    job = Job(wait, label="me")
    virtual(Scheduler(job).co_run)
    with pytest.raises(RuntimeError, match="'me' waits for itself"):
        job.result()


def test_error_for_an_unknown_option_advises_to_use_kwargs() -> None:
    """The error for an unknown option, the commonest mistake of all, names the job and advises to use `kwargs`."""
    with pytest.raises(TypeError, match=r"'nap'.*no option 'speed'.*kwargs=\{'speed'"):
        Job(nap, speed=3)  # type: ignore[call-arg]


if sys.version_info >= (3, 12):

    def test_run_completes_with_the_eager_task_factory_of_asyncio() -> None:
        """With asyncio's eager task factory, a worker once ran before it knew its own task."""

        async def main() -> bool:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            inner = Scheduler(Job(nap, 0.01), Job(nothing), Job(anyio.sleep_forever, forever=True))
            return await Scheduler(inner, Job(nap, 0.01, required=inner)).co_run(timeout=60)

        assert asyncio.run(main()) is True
