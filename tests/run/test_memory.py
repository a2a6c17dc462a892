"""What stays alive, and what refers to it: exceptions kept by users, arguments of settled jobs."""

import contextlib
import functools
import gc
import traceback
import weakref
from collections.abc import Callable
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import (
    Adaptive,
    Job,
    JobState,
    Pool,
    Rate,
    Scheduler,
    Service,
    StopReason,
    current_job,
    current_scheduler,
    ref,
)
from trioflow._core.words._job_queries import dropped_counts
from trioflow.abc import Instrument
from ..bodies import (
    Closing,
    at_once,
    fail,
    fail_now,
    nap,
    nothing,
    serve,
    turns,
    unwind,
)
from ..conftest import Virtual


async def broken() -> None:
    await anyio.lowlevel.checkpoint()
    raise OSError("broken")


async def too_early() -> None:
    Job(nap).result()


@pytest.mark.parametrize(
    "make",
    [lambda: Job(broken), lambda: Job(too_early), lambda: Job(nap, 9, timeout=1)],
)
def test_an_exception_has_no_frames_of_the_engine(
    virtual: Virtual, make: Callable[[], Job[None]]
) -> None:
    """A job's exception has no frames of the engine anywhere in its traceback, because they refer to the run."""
    job = make()
    virtual(Scheduler(job).co_run)
    error = job.raised_exception()
    assert error is not None
    modules = [
        frame.f_globals["__name__"]
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    assert not [module for module in modules if module.startswith("trioflow.")]


@pytest.mark.parametrize("options", [{}, {"timeout": 9}, {"retry": 1}])
@pytest.mark.parametrize("nested", [False, True])
def test_exception_that_is_kept_keeps_no_run_alive(
    virtual: Virtual, options: dict[str, Any], nested: bool
) -> None:
    """An exception that a user keeps does not keep the run alive; a frame of the worker in it once did."""

    async def run() -> tuple[BaseException | None, weakref.ref[Scheduler]]:
        job = Job(broken, critical=True, **options)
        scheduler = Scheduler(Scheduler(job) if nested else job)
        await scheduler.co_run()
        return job.raised_exception(), weakref.ref(scheduler)

    async def main() -> BaseException | None:
        kept, gone = await run()
        await turns()
        gc.collect()
        assert gone() is None
        return kept

    frames = traceback.extract_tb(getattr(virtual(main), "__traceback__", None))
    assert frames[-1].name == "broken"
    assert not any("_core" in frame.filename for frame in frames)


@pytest.mark.parametrize("depth", range(3))
def test_no_failure_keeps_a_run_alive_that_it_refers_to(
    virtual: Virtual, depth: int
) -> None:
    """A service that fails has `task_status`, which refers to the run, in a frame of its traceback."""

    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        raise OSError(task_status)

    async def run() -> weakref.ref[Scheduler]:
        scheduler = Scheduler(Service(serve))
        for _ in range(depth):
            scheduler = Scheduler(scheduler)
        await scheduler.co_run()
        return weakref.ref(scheduler)

    gone = virtual(run)
    gc.collect()
    assert gone() is None


# --- arguments, and jobs
class Large:
    """A large argument, whose release the tests check."""


async def use(*_: Any, **__: Any) -> str:
    await anyio.lowlevel.checkpoint()
    return "used"


def make(kind: str, large: Large) -> Job[Any]:
    """Return a job that refers to its argument in one of several ways."""
    if kind == "bound":
        return Job(functools.partial(use, large))
    if kind == "keyword":
        return Job(use, kwargs={"large": [large]})
    if kind == "closure":
        return Job(lambda: use(large))
    if kind == "limits":
        return Job(use, large, timeout=9, label="limits")
    return Job(use, large)


KINDS = ["plain", "bound", "keyword", "closure", "limits"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", [False, True])
def test_open_scheduler_drops_the_arguments_of_settled_jobs(
    virtual: Virtual, kind: str, before: bool
) -> None:
    """Jobs of an open scheduler, which never run again, lose their arguments as they settle; label and result stay."""

    async def main() -> None:
        large = Large()
        gone = weakref.ref(large)
        job = make(kind, large)
        label = job.label
        del large
        scheduler = Scheduler(job) if before else Scheduler()
        async with scheduler as s:
            if not before:
                s.add(job)
            await job.wait_settled()
            await turns()
            gc.collect()
            assert gone() is None
            assert (job.label, job.result(), job in s) == (label, "used", True)
        scheduler.remove(job)
        with pytest.raises(ValueError, match="has run already"):
            await Scheduler(job).co_run()

    virtual(main)


@pytest.mark.parametrize("kind", KINDS)
def test_job_that_may_run_again_keeps_its_arguments(
    virtual: Virtual, kind: str
) -> None:
    first, added = make(kind, Large()), make(kind, Large())
    scheduler = Scheduler(first, Job(at_once, lambda: scheduler.add(added)))
    for _ in range(2):
        assert virtual(scheduler.co_run) is True
        assert (first.result(), added.result()) == ("used", "used")


def test_scheduler_that_keeps_no_jobs_drops_jobs_as_they_settle(
    virtual: Virtual,
) -> None:
    """With `keep_jobs=False`, settled jobs are freed; one that the caller refers to keeps its state and result."""

    async def main() -> None:
        dropped: list[weakref.ref[Any]] = []
        async with Scheduler(keep_jobs=False, label="open") as s:
            last = None
            for number in range(50):
                last = s.add(Job(use, number, required=last))
                dropped.append(weakref.ref(last))
            bad = s.add(Job(fail_now, critical=False))
            waiting = s.add(Job(anyio.sleep, 9))
            seen = [job async for job in first(s, 51)]
            assert len(seen) == 51
            del seen
            await turns()
            gc.collect()
            assert list(s) == [waiting]
            assert [one() for one in dropped[:-1]] == [None] * 49
            assert (last.result(), last.path, last.scheduler) == ("used", "use(49)", s)
            assert isinstance(bad.raised_exception(), OSError)
            assert await settled(s.add(Job(use, last))) == "used"
            with pytest.raises(ValueError, match="is in the scheduler"):
                s.add(last)
        assert s.stop_reason is StopReason.COMPLETED

    async def first(s: Scheduler, number: int) -> Any:
        stream = s.as_settled()
        for _ in range(number - 1):
            yield await anext(stream)
        yield await anext(stream)

    async def settled(job: Job[Any]) -> Any:
        await job.wait_settled()
        return job.result()

    virtual(main)


def test_scheduler_that_keeps_no_jobs_keeps_critical_and_shutdown_jobs(
    virtual: Virtual,
) -> None:
    """Despite `keep_jobs=False`, jobs with a shutdown are shut down, and the critical failure is raised."""
    closing = Closing(nothing)

    async def main() -> None:
        async with Scheduler(closing, keep_jobs=False) as s:
            s.add(Job(fail, 3, critical=True))
            await anyio.sleep(9)

    with pytest.raises(ExceptionGroup) as caught:
        virtual(main)
    assert [str(error) for error in caught.value.exceptions] == ["broken"]
    assert closing.ended == 1


@pytest.mark.parametrize("number", [0, 15, 16, 40])
def test_keeping_no_jobs_the_critical_failure_is_raised_after_many(
    virtual: Virtual, number: int
) -> None:
    async def main() -> None:
        async with scheduler:
            for _ in range(number):
                scheduler.add(Job(broken))
            await anyio.sleep(1)
            scheduler.add(Job(broken, critical=True, label="last"))
            await anyio.sleep(9)

    scheduler = Scheduler(keep_jobs=False, log=False)
    with pytest.raises(ExceptionGroup) as caught:
        virtual(main)
    assert len(caught.value.exceptions) == min(number, 16) + 1
    assert "'last'" in caught.value.exceptions[-1].__notes__[0]
    assert (f"and {number - 16} more" in str(caught.value)) is (number > 16)
    assert scheduler.culprit is not None
    assert (scheduler.stop_reason, scheduler.culprit.label) == (
        StopReason.CRITICAL,
        "last",
    )


def test_scheduler_that_keeps_no_jobs_keeps_jobs_that_may_run_again(
    virtual: Virtual,
) -> None:
    scheduler = Scheduler(Job(use), Job(use), keep_jobs=False)
    for _ in range(2):
        assert virtual(scheduler.co_run) is True
        assert len(scheduler) == 2


@pytest.mark.parametrize(("critical_jobs", "kept"), [(False, 0), (None, 16)])
@pytest.mark.parametrize("nested", [False, True])
def test_scheduler_that_keeps_no_jobs_drops_jobs_added_by_a_job(
    virtual: Virtual, nested: bool, critical_jobs: bool | None, kept: int
) -> None:
    """With `keep_jobs=False`, jobs that a job adds are dropped, but not the job itself, nor the first 16 whose failure
    counts, because the exception at the end has these."""
    alive: list[int] = []

    async def feed() -> None:
        scheduler = current_scheduler()
        added: list[weakref.ref[Any]] = []
        for number in range(25):
            added.append(weakref.ref(scheduler.add(Job(use, number))))
            added.append(
                weakref.ref(scheduler.add(Job(fail_now, label=f"bad{number}")))
            )
            await turns()
        gc.collect()
        alive.append(sum(one() is not None for one in added))

    feeder = Job(feed, label="feeder")
    inner = Scheduler(
        feeder, keep_jobs=False, critical_jobs=critical_jobs, label="grows"
    )
    scheduler = Scheduler(inner) if nested else inner
    for _ in range(2):
        assert virtual(scheduler.co_run) is (kept == 0)
        assert [job.label for job in inner] == [
            "feeder",
            *(f"bad{number}" for number in range(kept)),
        ]
        assert sum(number for _, number in dropped_counts(inner)) == 50 - kept
    assert max(alive) <= 2 + kept


def test_a_group_that_is_dropped_counts_with_what_it_has_dropped(
    virtual: Virtual,
) -> None:
    async def grow() -> None:
        for _ in range(3):
            group.add(Job(nap, 1))

    async def main() -> int:
        async with Scheduler(keep_jobs=False) as scheduler:
            scheduler.add(group)
        return sum(number for _, number in dropped_counts(scheduler))

    group = Scheduler(Job(grow), keep_jobs=False)
    assert virtual(main) == 4


def test_a_failed_job_that_is_kept_keeps_no_jobs_that_come_after_it(
    virtual: Virtual,
) -> None:
    """With `keep_jobs=False`, a failure that counts keeps its job, but none of the jobs that require it settled."""

    alive: list[int] = []

    async def main() -> None:
        async with Scheduler(keep_jobs=False) as s:
            s.add(failed := Job(nap, "no number"))
            await failed.wait_settled()
            users = [
                weakref.ref(s.add(Job(use).requires(failed, settled=True)))
                for _ in range(3)
            ]
            await anyio.sleep(1)
            gc.collect()
            alive.append(sum(user() is not None for user in users))

    with pytest.raises(ExceptionGroup):
        virtual(main)
    assert alive == [0]


def test_services_of_scheduler_that_keeps_no_jobs_end_although_what_they_require_was_dropped(
    virtual: Virtual,
) -> None:
    """With `keep_jobs=False`, a service that requires a dropped job ends with the run, which once raised a KeyError."""

    async def main() -> tuple[Any, Any]:
        async with Scheduler(keep_jobs=False) as s:
            first = s.add(Job(use))
            await first
            service = s.add(Service(serve, required=first))
            await anyio.sleep(1)
        return s.stop_reason, service.state

    assert virtual(main) == (StopReason.COMPLETED, JobState.SUCCEEDED)


@pytest.mark.fast_way(
    "asyncio"
)  # with direct isolation, a shield of anyio does not hold
@pytest.mark.parametrize("keep_jobs", [True, False])
def test_a_later_service_ends_before_what_it_uses_by_a_dropped_job(
    virtual: Virtual, keep_jobs: bool
) -> None:
    ended: list[str] = []

    async def note(name: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await unwind(takes=1)
        finally:
            ended.append(name)

    async def main() -> None:
        async with Scheduler(keep_jobs=keep_jobs) as s:
            migrate = s.add(Job(use, required=s.add(Service(note, "database"))))
            await migrate
            await anyio.sleep(1)
            await s.add(
                Job(use, required=s.add(Service(note, "web", required=migrate)))
            )

    virtual(main)
    assert ended == ["web", "database"]


def test_a_run_that_keeps_no_jobs_ends_although_a_job_waits_for_one_that_was_dropped(
    virtual: Virtual,
) -> None:
    """With `keep_jobs=False`, a run is cancelled cleanly while a job waits; once a service went on after the run."""
    services: list[Service[Any]] = []

    async def feed() -> None:
        scheduler = current_scheduler()
        services.append(scheduler.add(Service(serve)))
        scheduler.add(Job(nap, required=scheduler.add(Job(nap, 30))))
        await anyio.sleep(1)
        scheduler.cancel()

    scheduler = Scheduler(Job(feed), keep_jobs=False)
    assert not virtual(scheduler.co_run)
    assert (scheduler.stop_reason, services[0].state) == (
        StopReason.CANCELLED,
        JobState.SUCCEEDED,
    )


def test_a_job_that_was_dropped_while_it_waited_leaves_nothing_behind(
    virtual: Virtual,
) -> None:
    """With `keep_jobs=False`, nothing stays of a job that was cancelled before one that uses a service; once it did."""

    async def main() -> object:
        async with Scheduler(keep_jobs=False) as s:
            first = s.add(Job(nap, 1, required=s.add(Service(serve))))
            s.add(Job(nap, required=first)).cancel()
            await first
            return s._members.implied_requirements

    assert virtual(main) == {}


@pytest.mark.parametrize("policy", ["fifo", "auto", "critical-path"])
@pytest.mark.parametrize("duration", [None, 0.5])
def test_jobs_are_dropped_under_any_policy(
    virtual: Virtual, policy: Any, duration: float | None
) -> None:
    """With `keep_jobs=False`, no policy keeps settled jobs; once every rank and expected duration was kept."""

    async def main() -> int:
        async with Scheduler(keep_jobs=False, policy=policy) as s:
            added: list[weakref.ref[Any]] = []
            for number in range(20):
                job = s.add(Job(use, number, expected_duration=duration))
                added.append(weakref.ref(job))
                await job
            await turns()
            gc.collect()
            return sum(one() is not None for one in added[:-1])

    assert virtual(main) == 0


def test_a_run_counts_its_own_failures_of_dropped_jobs(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """A second run with `keep_jobs=False` once reported the failures of the first run again."""

    async def feed() -> None:
        for _ in range(3):
            current_job().scheduler.add(Job(fail_now))  # type: ignore[union-attr]

    scheduler = Scheduler(Job(feed), keep_jobs=False, label="grows")
    for _ in range(2):
        caplog.clear()
        virtual(scheduler.co_run)
        assert caplog.messages[-1] == "3 jobs of 'grows' failed; the run has failed"


def naps(number: int = 6, **options: Any) -> list[Job[None]]:
    return [Job(nap, 0.1, **options) for _ in range(number)]


def clean_up(bad: Job[None]) -> Scheduler:
    return Scheduler(naps(), timeout=0.05, required=bad, run_if="failed")


FEATURES: dict[str, Callable[[], Scheduler]] = {
    "nothing": lambda: Scheduler(naps()),
    "window": lambda: Scheduler(naps(), jobs_window=2),
    "limiter": lambda: Scheduler(naps(), jobs_window=anyio.CapacityLimiter(2)),
    "limiter around": lambda: Scheduler(
        Scheduler(naps()), Scheduler(naps()), jobs_window=anyio.CapacityLimiter(1)
    ),
    "adaptive window": lambda: Scheduler(naps(), jobs_window=Adaptive(1, 4)),
    "pool": lambda: Scheduler(naps(needs={"cpu": 1}), pool=Pool(cpu=2)),
    "rate": lambda: Scheduler(
        naps(needs={"api": 1}), pool=Pool(api=Rate(requests=1, per=1, burst=2))
    ),
    "pool around": lambda: Scheduler(
        [Scheduler(naps(needs={"cpu": 1})) for _ in range(3)], pool=Pool(cpu=2)
    ),
    "part of a pool": lambda: Scheduler(
        Scheduler(naps(needs={"cpu": 1}), needs={"cpu": 1}), pool=Pool(cpu=2)
    ),
    "idle timeout": lambda: Scheduler(naps(idle_timeout=5), idle_timeout=5),
    "timeout": lambda: Scheduler(naps(timeout=5), timeout=9),
    "timeout of jobs": lambda: Scheduler(naps(timeout=0.05)),
    "timeout around": lambda: Scheduler(
        Scheduler(naps(), Scheduler(naps())), Service(serve), timeout=0.05
    ),
    "timeout inside": lambda: Scheduler(
        Scheduler(naps(), Scheduler(naps()), timeout=0.05), naps()
    ),
    "clean-up": lambda: Scheduler(
        Scheduler(bad := Job(fail_now, critical=True), clean_up(bad)), naps()
    ),
    "retry": lambda: Scheduler(naps(retry=2), Job(fail_now, retry=1)),
    "instrument": lambda: Scheduler(naps(), instruments=[Instrument()]),
    "forever": lambda: Scheduler(naps(), Job(anyio.sleep_forever, forever=True)),
    "failure": lambda: Scheduler(naps(), Job(fail_now, critical=True)),
    "policy": lambda: Scheduler(naps(expected_duration=1), policy="critical-path"),
    "priority": lambda: Scheduler(naps(priority=1)),
    "groups": lambda: Scheduler([Scheduler(naps(2)) for _ in range(3)]),
    "on_job_settled": lambda: Scheduler(
        naps(), Job(fail_now), on_job_settled=lambda _: nap(0.1)
    ),
    "on_job_settled that fails": lambda: Scheduler(
        naps(), on_job_settled=lambda _: fail()
    ),
}


@pytest.mark.parametrize("feature", FEATURES)
def test_run_that_is_over_leaves_nothing_to_the_garbage_collector(
    virtual: Virtual, feature: str
) -> None:
    """When a run is over, reference counting alone frees all that it has made, whatever its scheduler has."""

    async def main() -> None:
        await FEATURES[feature]().co_run()  # what is made once stays
        await turns()
        gc.collect()
        gc.disable()
        try:
            scheduler = FEATURES[feature]()
            await scheduler.co_run()
            await turns()
            assert gc.collect() == 0
        finally:
            gc.enable()

    virtual(main)


def test_failures_that_are_awaited_are_dropped(virtual: Virtual) -> None:
    """With `keep_jobs=False`, a failure is kept to be reported, until somebody else has got it."""

    async def main() -> None:
        async with Scheduler(keep_jobs=False) as s:
            jobs = [s.add(Job(broken)) for _ in range(10)]
            await turns()
            assert len(s) == 10
            for job in jobs:
                with contextlib.suppress(OSError):
                    await job
            assert len(s) == 0

    virtual(main)


@pytest.mark.both_backends
def test_a_failure_whose_await_was_cancelled_is_kept_to_be_reported(
    virtual: Virtual,
) -> None:
    """It was dropped as it settled, because somebody awaited it, and then the error had nothing of it."""

    def settled(job: object) -> None:
        if job in failing:
            waiting[failing.index(job)].cancel()

    async def main() -> None:
        async with Scheduler(keep_jobs=False, on_job_settled=settled) as s:
            for _ in range(20):
                failing.append(s.add(Job(fail, 1)))
                waiting.append(s.add(Job(wait, ref(failing[-1]))))
            await anyio.sleep(2)
            assert len(s) == 16

    async def wait(job: Any) -> None:
        await job

    failing: list[Any] = []
    waiting: list[Any] = []
    with pytest.raises(ExceptionGroup, match="and 4 more") as group:
        virtual(main)
    assert [str(error) for error in group.value.exceptions] == ["broken"] * 16


def test_a_critical_job_that_only_a_cancel_has_blocked_is_dropped(
    virtual: Virtual,
) -> None:
    """It does not count, so nothing has to be reported of it: a server that cancels jobs for a year does not grow."""

    async def main() -> None:
        async with Scheduler(keep_jobs=False) as s:
            first = s.add(Job(nap, 9))
            s.add(Job(nap, required=first, critical=True))
            first.cancel()
            await turns()
            assert len(s) == 0

    virtual(main)
