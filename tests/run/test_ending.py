"""The end of a run: the order for each reason, co_shutdown, interruptions; and the clean-up phase before it."""

import contextlib
import contextvars
import functools
import logging
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing
from trioflow import (
    AbstractJob,
    CycleError,
    Job,
    Retry,
    Scheduler,
    StopReason,
    current_job,
    ref,
)
from trioflow.abc import Instrument, incidents_of
from .. import bodies
from ..bodies import (
    FAILED,
    IDLE,
    SUCCEEDED,
    Actor,
    alarm,
    at_once,
    bad,
    deaf,
    fail,
    fail_now,
    nap,
    shut_down,
    timed,
)
from ..conftest import FRAMES, Virtual


class Told(Instrument):
    def __init__(self, told: list[tuple[str, float]]) -> None:
        self.told = told

    def after_run(self, scheduler: Scheduler) -> None:
        self.told.append((f"after {scheduler.label}", anyio.current_time()))


# --- the order
@pytest.mark.parametrize(
    "how", ["completed", "critical", "timeout", "cancelled", "interrupted", "outside"]
)
def test_a_run_ends_in_the_same_order_for_every_stop_reason(
    virtual: Virtual, how: str
) -> None:
    """For every stop reason, jobs unwind, then forever jobs; then come all calls of co_shutdown, then after_run."""
    told: list[tuple[str, float]] = []
    scheduler = Scheduler(
        Actor(told, label="forever", forever=True),
        Actor(told, label="job", seconds=1 if how == "completed" else 99),
        label="all",
    )
    if how != "completed":
        scheduler.add(Actor(told, label="idle", required=list(scheduler)[1]))

    async def main() -> None:
        run = functools.partial(scheduler.co_run, instruments=[Told(told)])
        match how:
            case "critical":
                scheduler.add(Job(fail, 1, critical=True))
                assert await run() is False
            case "timeout":
                assert await run(timeout=1) is False
            case "interrupted":
                scheduler.add(Job(fail, 1, SystemExit(3)))
                with pytest.raises(SystemExit):
                    await run()
            case "outside":
                with anyio.move_on_after(1) as scope:
                    await run()
                assert scope.cancelled_caught
            case "cancelled":
                scheduler.add(Job(bodies.later, 1, scheduler.cancel))
                assert await run() is False
            case _:
                assert await run() is True

    virtual(main)
    assert scheduler.stop_reason is StopReason("cancelled" if how == "outside" else how)
    end = 1.0 if how == "completed" else 1.25
    unwound = [] if how == "completed" else [("job unwound", 1.25)]
    unwound.append(("forever unwound", end + 0.25))
    names = ["forever", "job"] if how == "completed" else ["forever", "idle", "job"]
    assert told[: len(unwound)] == unwound
    assert sorted(told[len(unwound) : -1]) == sorted(
        [(f"{name} begins", end + 0.25) for name in names]
        + [(f"{name} shut down", end + 0.5) for name in names]
    )
    assert told[-1] == ("after all", end + 0.5)


@pytest.mark.fast_way(
    "asyncio"
)  # a shield of anyio does not hold there with direct isolation
@pytest.mark.parametrize("forever", [False, True])
def test_a_job_deaf_to_cancels_is_logged(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, forever: bool
) -> None:
    """A job that still runs a second after its cancellation is named in the log, once, with its stack."""
    stubborn, meek = (
        Job(deaf, label="stubborn", forever=forever),
        Job(nap, 99, label="meek"),
    )
    scheduler = Scheduler(stubborn, meek, timeout=1)
    assert virtual(timed, scheduler) == (False, 10)
    (record,) = [
        record for record in caplog.records if "is still running" in record.getMessage()
    ]
    assert record.levelno >= logging.WARNING
    assert "'stubborn'" in record.getMessage()
    assert "in deaf" in record.getMessage()
    assert "meek" not in record.getMessage()
    assert [incident.job for incident in incidents_of(scheduler)] == [stubborn]


async def steps(at_the_end: bool = False) -> AsyncGenerator[int, None]:
    try:
        if not at_the_end:
            await deaf()
        yield 1
    finally:
        if at_the_end:
            await deaf()


class Disobedience:
    """An awaitable that ignores its cancellation."""

    def __await__(self) -> Generator[Any, Any, None]:
        return deaf().__await__()


async def goes_through() -> None:
    async for _ in steps():
        pass


async def takes_one() -> None:
    async with contextlib.aclosing(steps()) as begun:
        await anext(begun, None)


async def closes() -> None:
    begun = steps(at_the_end=True)
    await anext(begun)
    await begun.aclose()


async def awaits_an_object() -> None:
    await Disobedience()


@pytest.mark.fast_way(
    "asyncio"
)  # a shield of anyio does not hold there with direct isolation
@pytest.mark.parametrize("body", [goes_through, takes_one, closes, awaits_an_object])
def test_logged_stack_of_a_job_reaches_its_innermost_function(
    virtual: Virtual,
    caplog: pytest.LogCaptureFixture,
    body: Callable[[], Awaitable[None]],
) -> None:
    """The logged stack of a job reaches into async generators and into objects that can be awaited."""
    virtual(Scheduler(Job(body), timeout=1).co_run)
    (record,) = [
        record for record in caplog.records if "is still running" in record.getMessage()
    ]
    assert f"in {body.__name__}" in record.getMessage()
    assert "in deaf" in record.getMessage()


# --- co_shutdown
@pytest.mark.usefixtures("few_frames")
def test_jobs_in_many_levels_that_are_never_reached_are_shut_down(
    virtual: Virtual,
) -> None:
    """The innermost job of many nested schedulers is shut down if never reached; the search for jobs once recursed."""
    told: list[tuple[str, float]] = []
    innermost: Any = Actor(told, label="innermost")
    for _ in range(FRAMES + 10):
        innermost = Scheduler(innermost, label="level")
    failing = Job(fail, critical=True)
    innermost.requires(failing)
    assert not virtual(Scheduler(failing, innermost).co_run)
    assert shut_down(told) == ["innermost"]


@pytest.mark.parametrize(
    ("inside", "outside", "ends_at"), [(2, 9, 3), (9, 2, 3), (9, 7, 6), (None, 9, 6)]
)
def test_a_group_that_is_never_reached_shuts_down_in_its_own_time(
    virtual: Virtual, inside: float | None, outside: float, ends_at: float
) -> None:
    """Its `shutdown_timeout` holds for its jobs, as if it had run, within that of the run around it."""
    ended: list[float] = []

    async def slow() -> None:
        try:
            await anyio.sleep(5)
        finally:
            ended.append(anyio.current_time())

    failing = Job(fail, 1, critical=True)
    group = Scheduler(bodies.Closing(slow), required=failing, shutdown_timeout=inside)
    assert not virtual(
        Scheduler(failing, group, shutdown_timeout=outside, log=False).co_run
    )
    assert ended == [ends_at]


def test_each_run_calls_co_shutdown_once_on_each_job(virtual: Virtual) -> None:
    """A second run calls it again, and a group in each of its tries; a job that is tried again has one call."""

    def tried() -> None:
        member.try_again()

    told: list[tuple[str, float]] = []
    retried = Scheduler(
        Actor(told, 0, label="of each try"), Job(fail), retry=1, log=False
    )
    member = Actor(told, 0, label="tried again")
    never = Actor(told, 0, label="not reached", required=Job(fail))
    scheduler = Scheduler(
        [retried, member, never, never.required, Job(bodies.later, 1, tried)], log=False
    )
    for _ in range(2):
        assert virtual(scheduler.co_run) is False
        assert member.attempts == 2
        assert shut_down(told) == [
            "not reached", "of each try", "of each try", "tried again",
        ]  # fmt: skip
        told.clear()


def test_co_shutdown_that_raises_is_an_incident(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception of `co_shutdown` is logged and is in `incidents`; neither the result nor other jobs are affected."""
    told: list[tuple[str, float]] = []
    bad = Actor(told, 0, label="bad", error=OSError("no route"))
    scheduler = Scheduler(
        bad, Actor(told, 0, label="good", shutdown=0.5), critical_jobs=True
    )
    assert virtual(timed, scheduler) == (True, 0.5)
    assert scheduler.stop_reason is StopReason.COMPLETED
    assert shut_down(told) == ["bad", "good"]
    assert bad.state is SUCCEEDED
    ((job, message, error, *_),) = incidents_of(scheduler)
    assert (job, error) == (bad, bad.error)
    assert virtual(scheduler.co_run)
    assert len(incidents_of(scheduler)) == 1
    assert "'bad'" in message
    assert any(
        "'bad'" in record.getMessage() and record.name == "trioflow"
        for record in caplog.records
    )


def test_the_error_of_a_co_shutdown_that_leaves_a_scope_open_is_its_own(
    virtual: Virtual,
) -> None:
    async def untidy(error: Exception | None = None) -> None:
        anyio.CancelScope().__enter__()
        if error is not None:
            raise error

    raises = bodies.Closing(
        functools.partial(untidy, OSError("no route")), label="raises"
    )
    scheduler = Scheduler(raises, bodies.Closing(untidy, label="returns"))
    virtual(scheduler.co_run)
    told = {
        incident.job.label: str(incident.exception)
        for incident in incidents_of(scheduler)
        if incident.job
    }
    assert told == {
        "raises": "no route",
        "returns": "it has left a cancel scope open: close it with a with statement",
    }


@pytest.mark.parametrize("reason", ["completion", "timeout"])
def test_co_shutdown_that_exceeds_shutdown_timeout_is_cancelled(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    """Shutdowns that hang are cancelled and reported after `shutdown_timeout`, which all shutdowns share."""
    told: list[tuple[str, float]] = []
    hangs = Actor(told, 0, label="hangs", shutdown=99)
    scheduler = Scheduler(hangs, Actor(told, 0, label="quick"), shutdown_timeout=2)
    if reason == "timeout":
        scheduler.add(Job(nap, 9))
    result = virtual(functools.partial(timed, scheduler, timeout=3))
    assert result == ((True, 2) if reason == "completion" else (False, 5))
    assert shut_down(told) == ["quick"]
    assert [incident.job for incident in incidents_of(scheduler)] == [hangs]
    assert any("'hangs'" in record.getMessage() for record in caplog.records)
    assert not any("'quick'" in record.getMessage() for record in caplog.records)


def test_co_shutdown_that_raises_if_cancelled_is_logged(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, float]] = []

    async def shut_down_clumsily() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bodies.clumsy)
            await anyio.sleep(99)

    scheduler = Scheduler(
        bodies.Closing(shut_down_clumsily, label="clumsy"), Actor(told, 0, label="good")
    )
    assert virtual(timed, scheduler) == (True, 2)
    assert shut_down(told) == ["good"]
    assert {
        incident.job.label for incident in incidents_of(scheduler) if incident.job
    } == {"clumsy"}


def test_co_shutdown_may_take_any_time_if_shutdown_timeout_is_none(
    virtual: Virtual,
) -> None:
    told: list[tuple[str, float]] = []
    scheduler = Scheduler(Actor(told, 0, shutdown=500), shutdown_timeout=None)
    assert virtual(timed, scheduler) == (True, 500)


def test_shutdown_of_a_scheduler_outside_of_a_run_does_nothing(
    virtual: Virtual,
) -> None:
    calls: list[int] = []
    virtual(Scheduler(bodies.Closing(lambda: calls.append(1))).co_shutdown)
    assert not calls


def test_ctrl_c_in_the_task_that_awaits_a_run_ends_it_in_order() -> None:
    """trio delivers Ctrl-C to the task that awaits the run: the run ends in order, then raises KeyboardInterrupt."""
    job = Job(anyio.sleep_forever)
    scheduler = Scheduler(
        job,
        instruments=[
            bodies.hooked(job_started=lambda *_: signal.raise_signal(signal.SIGINT))
        ],
    )
    with pytest.raises(KeyboardInterrupt):
        trio.run(scheduler.co_run)
    assert (job.state, scheduler.stop_reason) == (
        bodies.CANCELLED,
        StopReason.INTERRUPTED,
    )


def test_a_timer_whose_time_comes_in_the_last_turn_of_trio_does_nothing() -> None:
    clock = trio.testing.MockClock()

    class Slow(trio.abc.Instrument):
        def task_exited(self, task: trio.lowlevel.Task) -> None:
            if "run_sync_soon" in task.name:
                ended.append(clock.jump(1))

    ended: list[None] = []
    assert Scheduler(Job(nap, 0)).run(
        backend="trio", backend_options={"clock": clock, "instruments": [Slow()]}
    )
    assert len(ended) == 1


def test_nothing_is_shut_down_after_a_validation_error(virtual: Virtual) -> None:
    told: list[tuple[str, float]] = []
    a, b = Actor(told, label="a"), Actor(told, label="b")
    a.requires(b)
    b.requires(a)
    for scheduler in (Scheduler(a, b), Scheduler(Job(nap, 0), Scheduler(b.scheduler))):
        with pytest.raises(CycleError):
            virtual(scheduler.co_run)
    assert told == []


# --- interruptions
class Custom(BaseException):
    """An exception that is neither a cancellation nor an Exception."""


INTERRUPTIONS: dict[str, Callable[[], BaseException]] = {
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "custom": Custom,
}


async def assert_raises(scheduler: Scheduler, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        await scheduler.co_run()
    assert caught.value is error
    await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("in_group", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", INTERRUPTIONS)
def test_interruption_from_job_is_raised_by_its_run(
    virtual: Virtual, kind: str, nested: bool, in_group: bool
) -> None:
    told: list[tuple[str, float]] = []
    error = INTERRUPTIONS[kind]()
    raised = BaseExceptionGroup("mixed", [OSError(), error]) if in_group else error
    bad = Job(fail, 1, raised, critical=False)
    inner = Scheduler(bad, Actor(told, label="a"))
    scheduler = Scheduler(inner, Actor(told, label="b")) if nested else inner

    virtual(assert_raises, scheduler, error)
    assert (scheduler.stop_reason, bad.state) == (StopReason.INTERRUPTED, FAILED)
    assert scheduler.culprit is (inner if nested else bad)
    assert shut_down(told) == (["a", "b"] if nested else ["a"])
    scheduler.raise_for_failures()


@pytest.mark.parametrize("later_error", [None, OSError("no route")])
@pytest.mark.parametrize("in_group", [False, True])
@pytest.mark.parametrize("kind", INTERRUPTIONS)
def test_interruption_from_co_shutdown_is_raised_by_the_run_without_a_group(
    virtual: Virtual, kind: str, in_group: bool, later_error: Exception | None
) -> None:
    told: list[tuple[str, float]] = []
    error = INTERRUPTIONS[kind]()
    raised = BaseExceptionGroup("mixed", [OSError(), error]) if in_group else error
    other = Actor(told, 0, label="good", shutdown=0.5, error=later_error)
    scheduler = Scheduler(Actor(told, 0, label="bad", error=raised), other)

    virtual(assert_raises, scheduler, error)
    assert shut_down(told) == ["bad", "good"]


# --- The clean-up phase: after a critical failure or a timeout, jobs with `run_if="failed"` still run
variable: contextvars.ContextVar[str] = contextvars.ContextVar(
    "variable", default="default"
)


def test_clean_up_job_runs_after_a_critical_failure(virtual: Virtual) -> None:
    critical = bad()
    cleaning = alarm(critical, 2, kwargs={"value": "clean"})
    scheduler = Scheduler(critical, cleaning, Job(nap, 9))
    assert virtual(timed, scheduler) == (False, 3)
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert scheduler.culprit is critical
    assert cleaning.result() == "clean"
    assert (cleaning.started_at, cleaning.finished_at) == (1, 3)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_no_clean_up_after_an_interruption(
    virtual: Virtual, kind: type[BaseException]
) -> None:
    job = Job(fail_now, kind(), critical=True)
    cleaning = alarm(job)
    scheduler = Scheduler(job, cleaning)
    with pytest.raises(kind):
        virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.INTERRUPTED
    assert cleaning.state is IDLE


def test_no_clean_up_after_an_error_in_an_open_block(virtual: Virtual) -> None:
    """An exception in the body of `async with` cancels the run, and starts no clean-up."""
    job = Job(nap, 9)
    cleaning = alarm(job)

    async def main() -> None:
        async with Scheduler(job, cleaning):
            await anyio.sleep(1)
            raise LookupError

    with pytest.raises(LookupError):
        virtual(main)
    assert cleaning.state is IDLE


def test_clean_up_job_may_have_inputs(virtual: Virtual) -> None:
    """Clean-up jobs get results of jobs that succeeded, and failed jobs by `ref`; an input that failed blocks them."""
    critical, name = bad(), Job(nap, 0, "name")

    async def tell(name: str, job: AbstractJob[Any]) -> str:
        return f"{name}: {job.raised_exception()}"

    telling = Job(tell, name, ref(critical), required=critical, run_if="failed")
    blocked = Job(tell, critical, None, run_if="failed")
    assert virtual(timed, Scheduler(telling, blocked, critical)) == (False, 1)
    assert telling.result() == "name: broken"
    assert blocked.started_at is None


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("is_reached", [True, False])
@pytest.mark.parametrize("is_critical", [True, False])
def test_clean_up_counts_blocked_as_failed(
    virtual: Virtual, is_critical: bool, is_reached: bool, depth: int
) -> None:
    """A critical job BLOCKED because a critical failure or the timeout cut off its input ends its clean-up group."""
    cut_off = Job(nap, 9, required=() if is_reached else (before := Job(nap, 9)))
    around = cut_off if is_reached else Scheduler(before, cut_off)
    for _ in range(depth):
        around = Scheduler(around)
    blocked, long = Job(nap, cut_off, critical=True), Job(nap, 4)
    group = Scheduler(blocked, long, required=around, run_if="failed")
    scheduler = Scheduler(around, group, bad(critical=is_critical), timeout=2)
    assert virtual(timed, scheduler) == (False, 1 if is_critical else 2)
    assert scheduler.stop_reason is (
        StopReason.CRITICAL if is_critical else StopReason.TIMEOUT
    )
    assert (group.stop_reason, group.culprit, group.state) == (
        StopReason.CRITICAL,
        blocked,
        FAILED,
    )
    assert long.state is not SUCCEEDED


@pytest.mark.fast_way(
    "asyncio"
)  # with direct isolation, a shield of anyio does not hold
@pytest.mark.parametrize("seconds", [0, 3])
def test_what_cancel_had_blocked_before_the_stop_is_no_failure_in_the_clean_up(
    virtual: Virtual, seconds: int
) -> None:
    cancelled = Job(bodies.unwind, 9, seconds)
    blocked, long = Job(nap, cancelled, critical=True), Job(nap, 4)
    group = Scheduler(blocked, long, required=cancelled, run_if="failed")
    critical = bad()
    group.requires(critical)
    assert virtual(
        timed, Scheduler(cancelled, Job(at_once, cancelled.cancel), critical, group)
    ) == (
        False,
        max(1, seconds) + 4,
    )
    assert (group.stop_reason, long.state) == (StopReason.COMPLETED, SUCCEEDED)


def test_a_thousand_chained_clean_up_jobs_run(virtual: Virtual) -> None:
    critical = bad()
    scheduler = Scheduler(critical)
    last: Job[Any] | None = None
    for _ in range(1000):
        last = scheduler.add(alarm([critical, last], 0))
    assert virtual(timed, scheduler) == (False, 1)
    assert last is not None
    assert last.state is SUCCEEDED


def test_clean_up_job_has_its_own_context_and_current_job(virtual: Virtual) -> None:
    async def look() -> tuple[str, str]:
        seen = variable.get()
        variable.set("changed")
        await anyio.lowlevel.checkpoint()
        return current_job().label, seen

    async def spoil() -> None:
        variable.set("spoiled")
        raise OSError

    critical = Job(spoil, critical=True)
    first, second = (
        Job(look, required=critical, run_if="failed", label=label)
        for label in ("first", "second")
    )
    third = Job(look, required=[critical, first], run_if="failed", label="third")

    async def main() -> None:
        variable.set("of the caller")
        await Scheduler(critical, first, second, third).co_run()

    virtual(main)
    assert [job.result() for job in (first, second, third)] == [
        (label, "of the caller") for label in ("first", "second", "third")
    ]


@pytest.mark.fast_way  # with direct isolation, what is left open is not closed
def test_scope_left_open_by_a_clean_up_job_fails_only_this_job(
    virtual: Virtual,
) -> None:
    critical = bad()
    job = Job(
        at_once,
        lambda: anyio.CancelScope().__enter__(),
        required=critical,
        run_if="failed",
    )
    beside = alarm(critical)
    assert virtual(timed, Scheduler(critical, job, beside)) == (False, 2)
    assert (job.state, beside.state) == (FAILED, SUCCEEDED)
    assert "cancel scope still open" in str(job.raised_exception())


def test_job_of_a_coroutine_object_may_clean_up(virtual: Virtual) -> None:
    critical = bad()
    job = Job(nap(1, "clean"), required=critical, run_if="failed")
    assert virtual(timed, Scheduler(critical, job)) == (False, 2)
    assert job.result() == "clean"
    unused = Scheduler(Job(nap(1), run_if="failed"))
    assert virtual(unused.co_run) is True
    unused.close()


def test_interruption_in_a_clean_up_job_is_raised_after_the_shutdown(
    virtual: Virtual,
) -> None:
    """SystemExit from a clean-up job is raised after the shutdown, and leaves the stop reason unchanged."""
    told: list[tuple[str, float]] = []
    critical = bad()
    scheduler = Scheduler(
        critical,
        Job(fail_now, SystemExit(3), required=critical, run_if="failed"),
        Actor(told, label="actor", seconds=0),
    )
    with pytest.raises(SystemExit):
        virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert shut_down(told) == ["actor"]


def test_no_job_can_be_added_during_the_clean_up(virtual: Virtual) -> None:
    async def meddle() -> None:
        with pytest.raises(RuntimeError, match="stopping"):
            scheduler.add(Job(nap))

    critical = bad()
    job = Job(meddle, required=critical, run_if="failed")
    scheduler = Scheduler(critical, job)
    assert virtual(timed, scheduler) == (False, 1)
    job.result()


def test_clean_up_that_ends_in_time_is_not_logged(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    critical = bad()
    with caplog.at_level(logging.WARNING, "trioflow"):
        assert virtual(timed, Scheduler(critical, alarm(critical, 4))) == (False, 5)
    assert not [
        record for record in caplog.records if "is still running" in record.getMessage()
    ]


def test_a_clean_up_job_that_ends_as_its_time_is_up_is_cancelled(
    virtual: Virtual,
) -> None:
    fails = bad()
    other, clean = (
        Job(nap, seconds, required=fails, run_if="failed") for seconds in (1, 2)
    )
    assert not virtual(Scheduler(fails, other, clean, cleanup_timeout=2).co_run)
    assert clean.state is bodies.CANCELLED


def test_cleanup_timeout_is_five_seconds_by_default_and_none_is_no_limit(
    virtual: Virtual,
) -> None:
    for seconds, options in (6, {}), (100, {"cleanup_timeout": None}):
        critical = bad()
        assert virtual(timed, Scheduler(critical, alarm(critical, 99), **options)) == (
            False,
            seconds,
        )


@pytest.mark.fast_way(
    "asyncio"
)  # a shield of anyio does not hold there with direct isolation
@pytest.mark.parametrize("nested", [False, True])
def test_clean_up_job_that_ignores_its_cancellation_is_logged_with_its_stack(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, nested: bool
) -> None:
    critical = bad()
    job: Any = Job(deaf, 9, label="stubborn")
    job = Scheduler(job) if nested else job
    job.requires(critical)
    job.run_if = "failed"
    with caplog.at_level(logging.WARNING, "trioflow"):
        assert virtual(timed, Scheduler(critical, job, cleanup_timeout=2)) == (
            False,
            10,
        )
    told = [
        record.getMessage()
        for record in caplog.records
        if "is still running" in record.getMessage()
    ]
    assert len(told) == 1
    assert "'stubborn' was cancelled 1 s ago" in told[0]
    assert "in deaf" in told[0]


def test_cancelled_scope_around_the_run_takes_effect_after_the_clean_up(
    virtual: Virtual,
) -> None:
    critical = bad()
    cleaning = alarm(critical, 3)
    scheduler = Scheduler(critical, cleaning)

    async def main() -> tuple[bool, float]:
        with anyio.move_on_after(2) as scope:
            await scheduler.co_run()
            await anyio.sleep(99)
        return scope.cancelled_caught, anyio.current_time()

    assert virtual(main) == (True, 4)
    assert cleaning.state is SUCCEEDED
    assert scheduler.stop_reason is StopReason.CRITICAL


def test_a_clean_up_job_cancelled_in_its_backoff_keeps_nobody_waiting(
    virtual: Virtual,
) -> None:
    critical = bad()
    clean = Job(
        fail_now,
        required=critical,
        run_if="failed",
        retry=Retry(1, first=60, jitter=False),
    )

    async def watch() -> None:
        await anyio.sleep(2)
        clean.cancel()
        await anyio.sleep_forever()

    unreached = Job(nap, required=critical)
    jobs = [critical, clean, Job(watch, forever=True), unreached]
    scheduler = Scheduler(*jobs, cleanup_timeout=None)
    assert virtual(timed, scheduler) == (False, 2)


def test_a_forever_job_is_no_clean_up_job(virtual: Virtual) -> None:
    """Clean-up waits for its jobs; a forever job with the same rule would take all of `cleanup_timeout`."""
    critical = bad()
    watch = Job(anyio.sleep_forever, run_if="failed", required=critical, forever=True)
    cleaning = alarm(critical, 2)
    scheduler = Scheduler(critical, watch, cleaning)
    assert virtual(timed, scheduler) == (False, 3)
    assert (watch.state, cleaning.state, scheduler.stop_reason) == (
        IDLE,
        SUCCEEDED,
        StopReason.CRITICAL,
    )
