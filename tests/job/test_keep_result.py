"""With `keep_result=False`, a result is dropped when the last job that uses it has started, and not before."""

import gc
import math
import threading
import time
import weakref
from typing import Any
import anyio
import anyio.to_thread
import pytest
from trioflow import (
    Job,
    JobNotDone,
    JobState,
    Scheduler,
    Sequence,
    Service,
    StopReason,
    ThreadJob,
)
from trioflow.graph import topological_order
from trioflow.view import listing
from ..bodies import at_once, fail_now, hooked, later, nap, refuse, take
from ..conftest import Virtual
from ..places import PATIENCE


class Big:
    """A result whose memory matters."""


class Maker:
    """A function that creates a `Big` at each call, and knows whether the last one is still alive."""

    def __init__(self) -> None:
        self._last: weakref.ref[Big] | None = None

    async def __call__(self) -> Big:
        big = Big()
        self._last = weakref.ref(big)
        return big

    @property
    def is_alive(self) -> bool:
        gc.collect()
        assert self._last is not None
        return self._last() is not None


async def use(big: Any, seconds: float = 1) -> None:
    """Drop the argument at the start, and continue without it."""
    del big
    await anyio.sleep(seconds)


def look(maker: Maker, seconds: float, **options: Any) -> Job[bool]:
    """Return a job whose result is whether the `Big` is alive after so many seconds."""
    return Job(later, seconds, lambda: maker.is_alive, **options)


def looks(
    virtual: Virtual, maker: Maker, *jobs: Any, at: tuple[float, ...], **options: Any
) -> list[bool]:
    """Run the jobs, and return whether the `Big` was alive at each of these times."""
    watchers = [look(maker, seconds) for seconds in at]
    virtual(lambda: Scheduler(*watchers, *jobs, **options).co_run(check=True))
    return [watcher.result() for watcher in watchers]


def made(maker: Maker, **options: Any) -> Job[Big]:
    return Job(maker, keep_result=False, **options)


# --- dropped
def test_result_is_dropped_when_the_last_job_that_uses_it_has_started(
    virtual: Virtual,
) -> None:
    maker = Maker()
    a = made(maker)
    first, last = Job(use, a, 5), Job(use, a, 5, required=Job(nap, 2))
    jobs = (*last.required, first, last)
    assert looks(virtual, maker, *jobs, at=(1, 3)) == [True, False]


def test_result_is_kept_by_default(virtual: Virtual) -> None:
    """Without `keep_result=False`, a result can still be read after the run, although a job has used it."""
    maker = Maker()
    a = Job(maker)
    assert a.keep_result is True
    assert looks(virtual, maker, Job(use, a), at=(3,)) == [True]
    assert isinstance(a.result(), Big)


def test_result_is_dropped_at_the_start_of_a_job_that_is_called_once(
    virtual: Virtual,
) -> None:
    """Also with a timeout, and if it is used in containers and keyword arguments."""
    maker, other = Maker(), Maker()

    async def use_deep(*args: Any, **kwargs: Any) -> None:
        del args, kwargs
        await anyio.sleep(5)

    a = made(maker)
    jobs = (
        Job(use_deep, [{"x": (a,)}, a], kwargs={"x": a}),
        Job(use, made(other), 5, timeout=9),
    )
    assert looks(virtual, maker, *jobs, look(other, 1), at=(1,)) == [False]
    assert not other.is_alive


@pytest.mark.parametrize(("seconds", "retry"), [(0, None), (2, None), (2, 2)])
def test_result_is_dropped_when_its_service_can_no_longer_be_retried(
    virtual: Virtual, seconds: float, retry: int | None
) -> None:
    """A service with `retry` may be called again until it is ready, so until then the results that it uses are kept."""
    maker = Maker()

    async def begin(big: Big, *, task_status: Any) -> None:
        del big
        await anyio.sleep(seconds)
        task_status.started()
        await anyio.sleep_forever()

    service = Service(begin, made(maker), retry=retry)
    assert looks(virtual, maker, service, at=(1, 3)) == [retry is not None, False]


@pytest.mark.parametrize("retry", [None, 2])
def test_result_is_kept_while_a_job_that_uses_it_waits_for_a_slot(
    virtual: Virtual, retry: Any
) -> None:
    maker = Maker()
    a = made(maker)
    jobs = [a, Job(nap, 3), Job(use, a, 5, retry=retry)]
    watchers = [
        look(maker, seconds, forever=True) for seconds in (2, 4)
    ]  # these take no slot
    virtual(lambda: Scheduler(*jobs, *watchers, jobs_window=1).co_run(check=True))
    assert [watcher.result() for watcher in watchers] == [True, retry is not None]


def test_result_is_dropped_at_the_start_of_a_thread_job(backend: str) -> None:
    entered, release = threading.Event(), threading.Event()

    def work(big: Big) -> None:
        entered.set()
        assert release.wait(PATIENCE)

    maker = Maker()
    a = made(maker)

    async def ask() -> None:
        await anyio.to_thread.run_sync(entered.wait, PATIENCE)
        with pytest.raises(JobNotDone):
            a.result()
        release.set()

    assert Scheduler(ThreadJob(work, a), Job(ask)).run(backend=backend, check=True)  # type: ignore[arg-type]
    end = time.monotonic() + PATIENCE
    while (
        maker.is_alive and time.monotonic() < end
    ):  # the worker's thread may hold the call a moment longer
        time.sleep(0.001)
    assert not maker.is_alive


def test_results_of_a_long_chain_of_jobs_are_dropped_one_by_one(
    virtual: Virtual,
) -> None:
    alive: weakref.WeakSet[Big] = weakref.WeakSet()
    most = 0

    async def step(before: Any) -> Big:
        nonlocal most
        await anyio.sleep(1)
        del before
        big = Big()
        alive.add(big)
        gc.collect()
        most = max(most, len(alive))
        return big

    job: Job[Big] = Job(step, None, keep_result=False)
    for _ in range(20):
        job = Job(step, job, keep_result=False)
    virtual(lambda: Scheduler(job).co_run(check=True))
    assert most <= 2
    assert isinstance(job.result(), Big)


# --- kept
def test_result_that_no_job_uses_is_kept(virtual: Virtual) -> None:
    """A job that only requires another one, without using its result, does not cause that result to be dropped."""
    maker = Maker()
    a = made(maker)
    after = Job(nap, required=a)
    virtual(lambda: Scheduler(a, after).co_run(check=True))
    assert isinstance(a.result(), Big)


def test_result_is_kept_until_a_job_that_may_be_called_again_has_settled(
    virtual: Virtual,
) -> None:
    """Each attempt of a job needs the results it uses, so they are kept until it has settled."""
    maker = Maker()
    calls: list[Any] = []

    async def second_time(big: Any) -> None:
        calls.append(type(big))
        del big
        await anyio.sleep(1 if len(calls) == 2 else 3)
        if len(calls) == 1:
            raise OSError

    job = Job(second_time, made(maker), retry=1)
    assert looks(virtual, maker, job, at=(1, 3.5, 5)) == [True, True, False]
    assert calls == [Big, Big]


@pytest.mark.parametrize("fate", ["blocked", "skipped", "cancelled"])
def test_result_is_dropped_when_a_job_that_uses_it_will_never_start(
    virtual: Virtual, fate: str
) -> None:
    """A job that is BLOCKED, SKIPPED or CANCELLED before its start no longer needs the results among its arguments."""
    maker = Maker()
    a = made(maker)
    gate = Job(nap, 2)
    late = Job(fail_now, required=gate)
    other: Any = {"blocked": late, "skipped": gate, "cancelled": gate}[fate]
    rule: Any = {"blocked": "succeeded", "skipped": "failed", "cancelled": "settled"}[
        fate
    ]
    job = Job(
        use,
        a,
        required=[other] if fate != "cancelled" else [gate, Job(nap, 9)],
        run_if=rule,
    )

    async def cancel() -> None:
        await anyio.sleep(2)
        if fate == "cancelled":
            job.cancel()

    watchers = [look(maker, seconds) for seconds in (1, 3)]
    virtual(
        Scheduler(
            *watchers,
            gate,
            late,
            *[one for one in job.required if one is not a],
            job,
            Job(cancel),
        ).co_run
    )
    assert job.state is JobState[fate.upper()]
    assert [watcher.result() for watcher in watchers] == [True, False]


def test_a_failed_job_counts_once_among_the_jobs_that_use_a_result(
    virtual: Virtual,
) -> None:
    a = made(Maker())
    refusing = Job(refuse, a)
    last = Job(take, a, required=[refusing, Job(nap, 2)], run_if="settled")
    virtual(Scheduler(*last.required, refusing, last).co_run)
    assert [type(each) for each in last.result()] == [Big]
    with pytest.raises(
        JobNotDone
    ):  # the traceback of the one that failed still holds it
        a.result()


@pytest.mark.parametrize("returns", [False, True])
def test_result_of_a_service_is_dropped_while_it_serves(
    virtual: Virtual, returns: bool
) -> None:
    maker = Maker()

    async def serve(*, task_status: Any) -> None:
        task_status.started(await maker())
        await anyio.sleep(2 if returns else math.inf)

    service = Service(serve, keep_result=False)
    gate = Job(nap)
    assert looks(
        virtual, maker, gate, Job(use, service, 5, required=gate), at=(0.5, 1.5)
    ) == [True, False]
    assert service.state is JobState.SUCCEEDED
    with pytest.raises(JobNotDone, match="dropped"):
        service.result()


# --- used from another scheduler
@pytest.mark.parametrize("listed", [False, True])
def test_result_used_from_another_scheduler_is_kept(
    virtual: Virtual, listed: bool
) -> None:
    maker, beside = Maker(), Maker()
    a = made(maker)

    async def use_both(*bigs: Any) -> None:
        assert len(bigs) == 2

    inner = Scheduler(a, Job(use, a))
    inner.add(Job(at_once, lambda: listed and topological_order(inner), required=a))
    virtual(lambda: Scheduler(inner, Job(use_both, a, made(beside))).co_run(check=True))
    assert isinstance(a.result(), Big)
    assert maker.is_alive
    assert not beside.is_alive  # it is dropped nevertheless


def test_each_attempt_of_a_nested_scheduler_makes_and_drops_its_own_result(
    virtual: Virtual,
) -> None:
    maker = Maker()
    a = made(maker)
    seen: list[Any] = []

    async def second_time(big: Any) -> None:
        seen.append(type(big))
        if len(seen) == 1:
            raise OSError

    virtual(
        lambda: Scheduler(
            Scheduler(a, Job(second_time, a, critical=True), retry=1)
        ).co_run(check=True)
    )
    assert seen == [Big, Big]
    assert not maker.is_alive


@pytest.mark.parametrize("end", ["critical", "timeout", "cancel"])
@pytest.mark.parametrize("reached", [1, 2])
def test_users_are_counted_anew_when_their_group_is_tried_again(
    virtual: Virtual, end: str, reached: int
) -> None:
    a = made(Maker())
    tries: list[type] = []

    async def once(big: Any) -> None:
        tries.append(type(big))
        if len(tries) == 1 and end != "critical":
            await anyio.sleep(9)
        elif len(tries) == 1:
            raise OSError

    early = [Job(use, a) for _ in range(reached - 1)]
    user = Job(once, a, required=early, critical=end == "critical")
    group = Scheduler(a, *early, user, *(Job(use, a, required=user) for _ in range(2)))
    if end == "timeout":
        group.timeout = 5

    async def mend() -> None:
        await anyio.sleep(4)
        if end == "cancel":
            group.cancel()
        await group.wait_settled()
        group.try_again()

    assert virtual(Scheduler(group, Job(mend)).co_run)
    assert (tries, a.result(default="dropped")) == ([Big, Big], "dropped")


# --- afterwards
def test_result_is_kept_for_the_attempts_of_a_nested_scheduler_that_was_added_during_a_run(
    virtual: Virtual,
) -> None:
    used: list[Any] = []

    async def fail_once(value: Any) -> None:
        used.append(value)
        if len(used) == 1:
            raise OSError

    async def main() -> bool:
        async with Scheduler() as scheduler:
            big = scheduler.add(Job(Maker(), keep_result=False))
            await big.wait_settled()
            scheduler.add(Scheduler(Job(fail_once, big, critical=True), retry=1))
        return scheduler.stop_reason is StopReason.COMPLETED

    assert virtual(main)
    assert [type(value) for value in used] == [Big, Big]


def test_reading_a_dropped_result_raises_job_not_done(virtual: Virtual) -> None:
    a = Job(nap, 0, keep_result=False, label="big")
    virtual(lambda: Scheduler(Job(use, a)).co_run(check=True))
    assert a.state is JobState.SUCCEEDED
    assert a.raised_exception() is None
    for _ in range(2):
        with pytest.raises(
            JobNotDone, match=r"(?s)'big' was dropped.*keep_result=False"
        ):
            a.result()


def test_views_show_a_job_whose_result_was_dropped(virtual: Virtual) -> None:
    a = Job(nap, 0, keep_result=False, label="big")
    scheduler = Scheduler(Job(use, a))
    virtual(lambda: scheduler.co_run(check=True))
    assert "<Job big>" in listing(scheduler, details=True)
    scheduler.debrief()
    assert "succeeded" in scheduler.explain(a)


def test_a_job_added_after_its_input_was_dropped_fails_with_a_clear_error(
    virtual: Virtual,
) -> None:
    a = Job(nap, 0, keep_result=False, label="big")
    job = Job(use, a, 0)
    adding = Job(later, 3, lambda: scheduler.add(job))
    scheduler = Scheduler(Job(use, a), adding)
    virtual(scheduler.co_run)
    error = job.raised_exception() or adding.raised_exception()
    assert isinstance(error, (JobNotDone, ValueError))
    assert "'big'" in str(error)
    assert "dropped" in str(error)


def test_result_is_kept_for_a_job_added_while_the_result_exists(
    virtual: Virtual,
) -> None:
    maker = Maker()
    a = made(maker)
    gate = Job(nap, 4)
    first = Job(use, a, 0, required=Job(nap, 2))
    watchers = [look(maker, seconds) for seconds in (3, 5)]
    scheduler = Scheduler(
        *watchers,
        gate,
        *first.required,
        first,
        Job(later, 1, lambda: scheduler.add(Job(use, a, 0, required=gate))),
    )
    scheduler.update([one for one in first.required if one.scheduler is None])
    virtual(lambda: scheduler.co_run(check=True))
    assert [watcher.result() for watcher in watchers] == [True, False]


def test_each_run_makes_and_drops_the_result_anew(virtual: Virtual) -> None:
    maker = Maker()
    seen: list[Any] = []

    async def see(big: Any) -> None:
        seen.append(type(big))

    a = made(maker)
    scheduler = Scheduler(Sequence(Job(see, a), Job(nap), Job(see, a)))
    for _ in range(3):
        virtual(lambda: scheduler.co_run(check=True))
        assert not maker.is_alive
    assert seen == [Big] * 6


def test_instruments_can_read_a_result_before_it_is_dropped(virtual: Virtual) -> None:
    read: list[Any] = []

    def job_settled(scheduler: Any, job: Any) -> None:
        if job is a:
            read.append(type(job.result()))

    maker = Maker()
    a = made(maker)
    virtual(
        lambda: Scheduler(
            Job(use, a), instruments=[hooked(job_settled=job_settled)]
        ).co_run(check=True)
    )
    assert read == [Big]
    assert not maker.is_alive
