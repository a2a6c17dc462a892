"""Exceptions and leftovers of jobs, and errors of shutdowns, instruments and exceptions, affect nothing else."""

import asyncio
import contextvars
import functools
import logging
from collections.abc import Callable
from typing import Any
import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
import trioflow
from trioflow import (
    CycleError,
    First,
    Job,
    JobCancelled,
    JobState,
    Scheduler,
    Sequence,
    Service,
    StopReason,
    ThreadJob,
)
from trioflow.abc import AbstractJob, Instrument, incidents_of, run_of
from .. import bodies
from ..bodies import (
    FAILED,
    SUCCEEDED,
    Closing,
    fail_now,
    leaves,
    nap,
    own_nursery,
    raising,
    states,
    stray,
    timed,
)
from ..conftest import Virtual
from ..odd_errors import MAKERS, Faceless, Mute, OddBaseGroup, Silent, refuse


# --- what jobs raise
def test_job_that_raises_a_group_of_cancellations_is_cancelled(
    virtual: Virtual,
) -> None:
    job = Job(own_nursery, None)
    assert virtual(functools.partial(Scheduler(job).co_run, timeout=1)) is False
    assert job.state is JobState.CANCELLED
    assert job.raised_exception() is None
    with pytest.raises(JobCancelled):
        job.result()


@pytest.mark.both_backends
@pytest.mark.parametrize("critical", [True, False])
def test_an_interruption_that_leaves_a_run_names_the_others_of_its_group(
    backend: Any, critical: bool
) -> None:
    interruption = KeyboardInterrupt()

    async def fail() -> None:
        raise BaseExceptionGroup(
            "all",
            [
                ValueError("first"),
                ExceptionGroup("inner", [OSError("second")]),
                interruption,
            ],
        )

    job = Job(fail, label="fails", critical=critical)
    with pytest.raises(KeyboardInterrupt) as caught:
        Scheduler(Scheduler(job)).run(backend=backend)
    assert caught.value is interruption
    named = (
        "'fails' raised it in a group, together with ValueError: first, OSError: second"
    )
    assert interruption.__notes__ == [named]
    assert len(leaves(job.raised_exception())) == 3


def test_job_that_raises_a_group_with_a_cancellation_and_an_error_fails(
    virtual: Virtual,
) -> None:
    mine = OSError("while unwinding")
    job, other = Job(own_nursery, mine), Job(nap, 100)
    scheduler = Scheduler(job, other)
    assert virtual(lambda: timed(scheduler, timeout=1)) == (False, 1)
    assert scheduler.stop_reason is StopReason.TIMEOUT
    assert job.state is JobState.FAILED
    assert leaves(job.raised_exception()) == [mine]
    assert other.state is JobState.CANCELLED


def test_a_stray_cancellation_is_a_failure(virtual: Virtual) -> None:
    kept: list[BaseException] = []
    job, after = Job(stray, kept, label="stray"), Job(nap, 1, "fine")
    after.requires(job, settled=True)
    assert virtual(Scheduler(job, after).co_run) is False
    assert isinstance(kept[0], bodies.cancelled_of(virtual.backend))
    assert job.state is JobState.FAILED
    assert after.result() == "fine"
    for _ in range(2):
        with pytest.raises(JobCancelled, match=r"'stray'.*not requested"):
            job.result()


@pytest.mark.parametrize("kind", [Job, ThreadJob])
@pytest.mark.parametrize("in_group", [False, True])
def test_a_cancellation_of_another_library_is_one_failure(
    backend: str, kind: Any, in_group: bool
) -> None:
    def cancel() -> None:
        error = (
            asyncio.CancelledError()
            if backend == "trio"
            else trio.Cancelled._create(source="unknown")
        )
        raise (
            BaseExceptionGroup("of a loop in the thread", [error])
            if in_group
            else error
        )

    async def cancel_in_loop() -> None:
        cancel()

    job = kind(cancel if kind is ThreadJob else cancel_in_loop, label="stray")
    after = Job(nap, 0, "fine", required=job, run_if="settled")
    scheduler = Scheduler(job, after)
    assert scheduler.run(backend=backend) is False
    assert (scheduler.stop_reason, job.state, after.state) == (
        StopReason.FAILED,
        JobState.FAILED,
        JobState.SUCCEEDED,
    )
    with pytest.raises(JobCancelled, match=r"'stray'.*not requested"):
        job.result()


def test_job_that_raises_cancelled_error_itself_is_a_failure() -> None:
    job, other = (
        Job(fail_now, asyncio.CancelledError(), label="pretender", critical=True),
        Job(nap, 5),
    )
    scheduler = Scheduler(job, other)
    assert scheduler.run(backend="asyncio") is False
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert isinstance(job.raised_exception(), JobCancelled)
    assert other.state is JobState.CANCELLED


def test_job_that_cancels_its_own_task_fails_alone() -> None:
    async def suicide() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.sleep(1)

    jobs = [
        Job(nap, 0.01, 1),
        Job(suicide, label="suicide"),
        Job(nap, 0.01, 2, run_if="settled"),
    ]
    assert Scheduler(Sequence(jobs)).run(backend="asyncio") is False
    assert [job.state for job in jobs] == [
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.SUCCEEDED,
    ]
    assert isinstance(jobs[1].raised_exception(), JobCancelled)
    assert "suicide" in str(jobs[1].raised_exception())


# --- what jobs leave behind
async def leaves_a_scope_open() -> None:
    anyio.move_on_after(1).__enter__()
    await anyio.lowlevel.checkpoint()


async def leaves_a_task_group_open() -> None:
    tasks = anyio.create_task_group()
    await tasks.__aenter__()
    tasks.start_soon(anyio.sleep, 100)
    await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("leave", [leaves_a_scope_open, leaves_a_task_group_open])
@pytest.mark.parametrize("place", ["co_shutdown", "close"])
def test_what_a_function_of_the_user_leaves_open_is_its_own_error(
    virtual: Virtual,
    leave: Callable[[], Any],
    place: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Wherever the engine awaits a function of a user, a scope or group left open is an error of this function alone.
    One that `co_shutdown` left open made `run()` raise an error of trio or anyio."""
    calls: list[str] = []

    async def call(where: str) -> None:
        if where == place:
            calls.append(where)
            await leave()

    class Shared:
        async def close(self) -> None:
            await call("close")

    class Sloppy(AbstractJob[None]):
        async def co_run(self) -> None:
            run_of(self).shared(make_shared)

        async def co_shutdown(self) -> None:
            await call("co_shutdown")

    def make_shared(handle: Any) -> Shared:
        return Shared()

    scheduler = Scheduler(
        Sloppy(), Sequence(Job(nap, 1), Sloppy()), shutdown_timeout=60
    )
    assert virtual(scheduler.co_run) is (place != "on_job_settled")
    assert scheduler.stop_reason is (
        StopReason.CRITICAL if place == "on_job_settled" else StopReason.COMPLETED
    )
    assert len(calls) == (2 if place == "co_shutdown" else 1)
    assert caplog.text.count("left a") >= len(calls)


@pytest.mark.parametrize("kind", ["job", "service", "nested", "clean-up"])
def test_each_attempt_sees_the_context_variables_of_the_run(
    virtual: Virtual, kind: str
) -> None:
    """No attempt of a job of any kind sees what an earlier one has set; those of clean-up jobs did."""
    variable = contextvars.ContextVar("variable", default="of the run")
    seen: list[str] = []

    async def attempt(task_status: Any = None) -> None:
        seen.append(variable.get())
        variable.set("of an attempt")
        if len(seen) < 3:
            raise OSError("again")
        if task_status is not None:
            task_status.started()

    failing = Job(stray, [], critical=True, log=False)
    served = Service(attempt, retry=2)
    members: dict[str, list[AbstractJob[Any]]] = {
        "job": [Job(attempt, retry=2)],
        "service": [served, Job(nap, 0, required=served)],
        "nested": [Scheduler(Job(attempt, critical=True), retry=2, log=False)],
        "clean-up": [
            failing,
            Job(
                attempt,
                required=failing,
                run_if="failed",
                retry=trioflow.Retry(2, first=1),
            ),
        ],
    }
    virtual(Scheduler(*members[kind]).co_run)
    assert seen == ["of the run"] * 3


# --- shutdown, outside, instruments
class Grumpy(Instrument):
    def __init__(self) -> None:
        self.calls = 0

    def job_started(self, scheduler: Any, job: Any) -> None:
        self.calls += 1
        raise OSError("full disk")


@pytest.mark.parametrize("instruments", [[object()], [Grumpy], Grumpy(), 42])
def test_an_object_that_is_no_instrument_is_rejected_by_the_constructor(
    instruments: Any,
) -> None:
    with pytest.raises(TypeError):
        Scheduler(instruments=instruments)


def test_cycle_error_and_missing_requirement_are_trioflow_errors() -> None:
    assert issubclass(CycleError, trioflow.TrioflowError)
    assert issubclass(trioflow.MissingRequirement, trioflow.TrioflowError)
    assert issubclass(CycleError, ValueError)
    assert issubclass(trioflow.MissingRequirement, ValueError)


# --- exceptions are the user's objects: their code may raise
async def raise_it(make: Callable[[], BaseException], seconds: float) -> None:
    await anyio.sleep(seconds)
    raise make()


@pytest.mark.parametrize("maker", MAKERS)
def test_exception_whose_code_raises_fails_only_its_job(
    virtual: Virtual, maker: str
) -> None:
    """An exception whose own methods raise fails only its job; it once ended the run, and left the job RUNNING."""
    made: list[BaseException] = []

    def make() -> BaseException:
        made.append(MAKERS[maker]())
        return made[-1]

    bad = [Job(raise_it, make, 1), Job(raise_it, make, 1.5, timeout=9)]
    needs, other = Job(lambda value: nap(1, value), bad[0]), Job(nap, 3)
    scheduler = Scheduler(Scheduler(bad, needs), other)
    assert virtual(timed, scheduler) == (False, 3)
    assert scheduler.stop_reason is StopReason.FAILED
    assert [job.state for job in (*bad, needs, other)] == [
        FAILED,
        FAILED,
        bodies.BLOCKED,
        SUCCEEDED,
    ]
    assert all(
        job.raised_exception() is error for job, error in zip(bad, made, strict=True)
    )
    critical = Job(raise_it, make, 1, critical=True, retry=1)
    scheduler = Scheduler(Scheduler(critical, critical=True), Job(nap, 3))
    seconds = 1 if maker == "base" else 2  # nobody retries what is not an Exception
    assert virtual(timed, scheduler) == (False, seconds)
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert critical.raised_exception() is made[-1]


@pytest.mark.parametrize("critical", [None, True])
def test_a_group_of_exceptions_that_is_none_itself_counts_as_a_failure(
    virtual: Virtual, critical: bool | None
) -> None:
    """Its job was FAILED, and counted for nothing: the run succeeded, and `check=True` raised nothing."""
    error = OddBaseGroup("odd", [ValueError("inner")])
    job = Job(raise_it, lambda: error, 1, critical=critical)
    scheduler = Scheduler(job, Job(nap, 3))
    assert virtual(scheduler.co_run) is False
    assert scheduler.failures() == {job: error}
    with pytest.raises(BaseExceptionGroup) as caught:
        virtual(functools.partial(scheduler.co_run, check=True))
    assert caught.value.exceptions == (error,)


def test_a_first_names_the_group_of_exceptions_that_each_of_its_jobs_raised(
    virtual: Virtual,
) -> None:
    """It said that it had two jobs that no other one requires, and could never succeed."""
    errors = [OddBaseGroup("odd", [ValueError("inner")]) for _ in range(2)]
    first = First([Job(raise_it, lambda error=error: error, 1) for error in errors])
    assert virtual(Scheduler(first).co_run) is False
    error = first.raised_exception()
    assert isinstance(error, BaseExceptionGroup)
    assert error.exceptions == tuple(errors)


async def group_cancellation(
    make_group: Callable[[BaseException], BaseException],
) -> None:
    """Sleep, and raise what is made of the cancellation."""
    try:
        await anyio.sleep(5)
    except BaseException as cancellation:
        raise make_group(cancellation) from None


def test_errors_beside_a_cancellation_in_a_misbehaving_group_fail_the_job(
    virtual: Virtual,
) -> None:
    errors = [ValueError("mine")]
    job = Job(
        group_cancellation,
        lambda cancellation: OddBaseGroup("odd", [cancellation, *errors]),
    )
    scheduler = Scheduler(job, timeout=1)
    assert virtual(timed, scheduler) == (False, 1)
    assert job.state is FAILED
    raised = job.raised_exception()
    assert isinstance(raised, BaseExceptionGroup)
    assert list(raised.exceptions) == errors


def test_exception_group_without_its_cancellation_keeps_its_shape(
    virtual: Virtual,
) -> None:
    inner = ExceptionGroup("inner", [ValueError("mine"), OSError("mine, too")])
    job = Job(
        group_cancellation,
        lambda cancellation: BaseExceptionGroup("outer", [inner, cancellation]),
    )
    assert virtual(timed, Scheduler(job, timeout=1)) == (False, 1)
    raised = job.raised_exception()
    assert isinstance(raised, ExceptionGroup)
    assert (raised.message, list(map(repr, raised.exceptions))) == (
        "outer",
        [repr(inner)],
    )


@pytest.mark.parametrize("value", [Silent, Faceless])
@pytest.mark.parametrize("options", [{}, {"timeout": 9}])
def test_job_that_returns_an_odd_value_fails(
    virtual: Virtual, value: type, options: dict[str, Any]
) -> None:
    """A job that returns a non-awaitable whose repr raises has FAILED with a TypeError that leaves it out."""
    job, other = Job(lambda: value(), **options), Job(nap, 1)
    assert virtual(timed, Scheduler(job, other)) == (False, 1)
    assert (job.state, other.state) == (FAILED, SUCCEEDED)


def test_job_of_a_callable_whose_attributes_raise_has_a_label(virtual: Virtual) -> None:
    touchy: list[int] = []

    class Touchy:
        async def __call__(self) -> str:
            return "called"

        def __getattr__(self, name: str) -> Any:
            raise OSError("code of the user's") if touchy else AttributeError(name)

    job = Job(Touchy())
    touchy.append(1)
    assert virtual(timed, Scheduler(job)) == (True, 0)
    assert (job.result(), "Job" in job.label) == ("called", True)


def test_errors_without_text_in_a_shutdown_or_an_instrument_are_reported(
    virtual: Virtual,
) -> None:
    class Odd(Instrument):
        __repr__ = refuse

        def job_started(self, scheduler: Any, job: Any) -> None:
            raise Mute

    scheduler = Scheduler(Closing(raising(Mute())), Job(nap, 1), instruments=[Odd()])
    assert virtual(timed, scheduler) == (True, 1)
    assert states(scheduler) == [SUCCEEDED] * 2
    assert [type(one.exception) for one in incidents_of(scheduler)] == [Mute]


def test_a_log_handler_that_raises_fails_no_job(virtual: Virtual) -> None:
    class Breaks(logging.Handler):
        def handle(self, record: Any) -> bool:
            raise OSError("code of the user's")

    handler = Breaks()
    logging.getLogger("trioflow").addHandler(handler)
    try:
        job = Closing(refuse)
        assert virtual(timed, Scheduler(job)) == (True, 1)
        assert job.state is SUCCEEDED
    finally:
        logging.getLogger("trioflow").removeHandler(handler)


HOOKS = [
    name
    for name, value in vars(Instrument).items()
    if not name.startswith("_") and callable(value)
]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(
    ("interruption", "nested"), [(KeyboardInterrupt, False), (SystemExit, True)]
)
def test_interruption_in_any_hook_is_raised_by_the_run_without_a_group(
    virtual: Virtual, hook: str, interruption: type[BaseException], nested: bool
) -> None:
    raised: list[str] = []

    def leave(self: Instrument, *_: Any) -> None:
        if not raised:
            raised.append(hook)
            raise interruption("from a hook")

    odd: Any = type("Odd", (Instrument,), {hook: leave})

    async def serve(*, task_status: Any) -> None:
        task_status.started()
        await anyio.sleep(50)

    class Watched(AbstractJob[None]):
        async def co_run(self) -> None:
            inside.add(Job(nap, 1))
            await anyio.sleep(1)
            broken.try_again()

        async def co_shutdown(self) -> None:
            raise OSError("an incident")

    broken = Job(fail_now)
    inside = Scheduler(
        Watched(), Job(nap, 2), Service(serve), Job(nap, 1, required=None), broken
    )
    scheduler = Scheduler(inside) if nested else inside
    with pytest.raises(interruption, match="from a hook"):
        virtual(lambda: scheduler.co_run(instruments=[odd()]))
    assert raised
    assert not any(
        job.state in (JobState.RUNNING, JobState.SCHEDULED)
        for job in scheduler.iterate_jobs()
    )
