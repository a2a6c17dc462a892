"""The end of a run: the order for each reason, co_shutdown, interruptions."""

import contextlib
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
from trioflow import CycleError, Job, Scheduler, StopReason
from trioflow.abc import AbstractJob, Instrument, incidents_of
from ..bodies import CANCELLED, FAILED, SUCCEEDED, Actor, Closing, fail, hooked, later, nap, shut_down, timed
from ..conftest import Virtual


class Told(Instrument):
    def __init__(self, told: list[tuple[str, float]]) -> None:
        self.told = told

    def after_run(self, scheduler: Scheduler) -> None:
        self.told.append((f"after {scheduler.label}", anyio.current_time()))


# --- the order
@pytest.mark.parametrize("how", ["completed", "critical", "timeout", "cancelled", "interrupted", "outside"])
def test_a_run_ends_in_the_same_order_for_every_stop_reason(virtual: Virtual, how: str) -> None:
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
                scheduler.add(Job(later, 1, scheduler.cancel))
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
        [(f"{name} begins", end + 0.25) for name in names] + [(f"{name} shut down", end + 0.5) for name in names]
    )
    assert told[-1] == ("after all", end + 0.5)


@pytest.mark.fast_way("asyncio")  # a shield of anyio does not hold there with direct isolation
@pytest.mark.parametrize("forever", [False, True])
def test_a_job_deaf_to_cancels_is_logged(virtual: Virtual, caplog: pytest.LogCaptureFixture, forever: bool) -> None:
    """A job that still runs a second after its cancellation is named in the log, once, with its stack."""

    async def disobedient() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(10)

    stubborn, meek = Job(disobedient, label="stubborn", forever=forever), Job(nap, 99, label="meek")
    scheduler = Scheduler(stubborn, meek, timeout=1)
    assert virtual(timed, scheduler) == (False, 10)
    (record,) = [record for record in caplog.records if "is still running" in record.getMessage()]
    assert record.levelno >= logging.WARNING
    assert "'stubborn'" in record.getMessage()
    assert "in disobedient" in record.getMessage()
    assert "meek" not in record.getMessage()
    assert [incident.job for incident in incidents_of(scheduler)] == [stubborn]


async def disobeys() -> None:
    with anyio.CancelScope(shield=True):
        await anyio.sleep(10)


async def steps(at_the_end: bool = False) -> AsyncGenerator[int, None]:
    try:
        if not at_the_end:
            await disobeys()
        yield 1
    finally:
        if at_the_end:
            await disobeys()


class Disobedience:
    """An awaitable that ignores its cancellation."""

    def __await__(self) -> Generator[Any, Any, None]:
        return disobeys().__await__()


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


@pytest.mark.fast_way("asyncio")  # a shield of anyio does not hold there with direct isolation
@pytest.mark.parametrize("body", [goes_through, takes_one, closes, awaits_an_object])
def test_logged_stack_of_a_job_reaches_its_innermost_function(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, body: Callable[[], Awaitable[None]]
) -> None:
    """The logged stack of a job reaches into async generators and into objects that can be awaited."""
    virtual(Scheduler(Job(body), timeout=1).co_run)
    (record,) = [record for record in caplog.records if "is still running" in record.getMessage()]
    assert f"in {body.__name__}" in record.getMessage()
    assert "in disobeys" in record.getMessage()


# --- co_shutdown
def test_jobs_in_many_levels_that_are_never_reached_are_shut_down(virtual: Virtual) -> None:
    """The innermost job of 400 nested schedulers is shut down if never reached; the search for jobs once recursed."""
    told: list[tuple[str, float]] = []
    innermost: Any = Actor(told, label="innermost")
    for _ in range(400):
        innermost = Scheduler(innermost, label="level")
    failing = Job(fail, critical=True)
    innermost.requires(failing)
    assert not virtual(Scheduler(failing, innermost).co_run)
    assert shut_down(told) == ["innermost"]


@pytest.mark.parametrize(("inside", "outside", "ends_at"), [(2, 9, 3), (9, 2, 3), (9, 7, 6), (None, 9, 6)])
def test_a_group_that_is_never_reached_shuts_down_in_its_own_time(
    virtual: Virtual, inside: float | None, outside: float, ends_at: float
) -> None:
    """Its `shutdown_timeout` holds for its jobs, as if it had run, within that of the run around it."""
    ended: list[float] = []

    class Slow(AbstractJob[None]):
        async def co_run(self) -> None: ...

        async def co_shutdown(self) -> None:
            try:
                await anyio.sleep(5)
            finally:
                ended.append(anyio.current_time())

    failing = Job(fail, 1, critical=True)
    group = Scheduler(Slow(), required=failing, shutdown_timeout=inside)
    assert not virtual(Scheduler(failing, group, shutdown_timeout=outside, log=False).co_run)
    assert ended == [ends_at]


def test_co_shutdown_that_raises_is_an_incident(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """An exception of `co_shutdown` is logged and is in `incidents`; neither the result nor other jobs are affected."""
    told: list[tuple[str, float]] = []
    bad = Actor(told, 0, label="bad", error=OSError("no route"))
    scheduler = Scheduler(bad, Actor(told, 0, label="good", shutdown=0.5), critical_jobs=True)
    assert virtual(timed, scheduler) == (True, 0.5)
    assert scheduler.stop_reason is StopReason.COMPLETED
    assert shut_down(told) == ["bad", "good"]
    assert bad.state is SUCCEEDED
    ((job, message, error, *_),) = incidents_of(scheduler)
    assert (job, error) == (bad, bad.error)
    assert "'bad'" in message
    assert any("'bad'" in record.getMessage() and record.name == "trioflow" for record in caplog.records)


def test_the_error_of_a_co_shutdown_that_leaves_a_scope_open_is_its_own(virtual: Virtual) -> None:
    class Untidy(AbstractJob[None]):
        async def co_run(self) -> None: ...

        async def co_shutdown(self) -> None:
            anyio.CancelScope().__enter__()
            if self.label == "raises":
                raise OSError("no route")

    scheduler = Scheduler(Untidy(label="raises"), Untidy(label="returns"))
    virtual(scheduler.co_run)
    told = {incident.job.label: str(incident.exception) for incident in incidents_of(scheduler) if incident.job}
    assert told == {"raises": "no route", "returns": "it has left a cancel scope open: close it with a with statement"}


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


def test_co_shutdown_that_raises_if_cancelled_is_logged(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, float]] = []

    class Clumsy(AbstractJob[None]):
        async def co_run(self) -> None: ...

        async def co_shutdown(self) -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.child)
                await anyio.sleep(99)

        async def child(self) -> None:
            try:
                await anyio.sleep(99)
            finally:
                raise OSError("while it was cut")

    scheduler = Scheduler(Clumsy(label="clumsy"), Actor(told, 0, label="good"))
    assert virtual(timed, scheduler) == (True, 1)
    assert shut_down(told) == ["good"]
    assert {incident.job.label for incident in incidents_of(scheduler) if incident.job} == {"clumsy"}


def test_co_shutdown_may_take_any_time_if_shutdown_timeout_is_none(virtual: Virtual) -> None:
    told: list[tuple[str, float]] = []
    scheduler = Scheduler(Actor(told, 0, shutdown=500), shutdown_timeout=None)
    assert virtual(timed, scheduler) == (True, 500)


def test_shutdown_of_a_scheduler_outside_of_a_run_does_nothing(virtual: Virtual) -> None:
    calls: list[int] = []
    virtual(Scheduler(Closing(lambda: calls.append(1))).co_shutdown)
    assert not calls


def test_ctrl_c_in_the_task_that_awaits_a_run_ends_it_in_order() -> None:
    """trio delivers Ctrl-C to the task that awaits the run: the run ends in order, then raises KeyboardInterrupt."""
    job = Job(anyio.sleep_forever)
    scheduler = Scheduler(job, instruments=[hooked(job_started=lambda *_: signal.raise_signal(signal.SIGINT))])
    with pytest.raises(KeyboardInterrupt):
        trio.run(scheduler.co_run)
    assert (job.state, scheduler.stop_reason) == (CANCELLED, StopReason.INTERRUPTED)


def test_a_timer_whose_time_comes_in_the_last_turn_of_trio_does_nothing() -> None:
    clock = trio.testing.MockClock()

    class Slow(trio.abc.Instrument):
        def task_exited(self, task: trio.lowlevel.Task) -> None:
            if "run_sync_soon" in task.name:
                ended.append(clock.jump(1))

    ended: list[None] = []
    assert Scheduler(Job(nap, 0)).run(backend="trio", backend_options={"clock": clock, "instruments": [Slow()]})
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


@pytest.mark.parametrize("in_group", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", INTERRUPTIONS)
def test_interruption_from_job_is_raised_by_its_run(virtual: Virtual, kind: str, nested: bool, in_group: bool) -> None:
    told: list[tuple[str, float]] = []
    error = INTERRUPTIONS[kind]()
    raised = BaseExceptionGroup("mixed", [OSError(), error]) if in_group else error
    bad = Job(fail, 1, raised, critical=False)
    inner = Scheduler(bad, Actor(told, label="a"))
    scheduler = Scheduler(inner, Actor(told, label="b")) if nested else inner

    async def main() -> None:
        with pytest.raises(type(error)) as caught:
            await scheduler.co_run()
        assert caught.value is error
        await anyio.lowlevel.checkpoint()

    virtual(main)
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
    """The run raises an interruption from a co_shutdown after the other shutdowns, and without its group. Also if
    another of them raises something else."""
    told: list[tuple[str, float]] = []
    error = INTERRUPTIONS[kind]()
    raised = BaseExceptionGroup("mixed", [OSError(), error]) if in_group else error
    other = Actor(told, 0, label="good", shutdown=0.5, error=later_error)
    scheduler = Scheduler(Actor(told, 0, label="bad", error=raised), other)

    async def main() -> None:
        with pytest.raises(type(error)) as caught:
            await scheduler.co_run()
        assert caught.value is error

    virtual(main)
    assert shut_down(told) == ["bad", "good"]
