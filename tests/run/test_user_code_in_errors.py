"""Exceptions are the user's objects: their code may raise, and this affects no job but their own."""

import logging
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from trioflow import AbstractJob, Job, JobState, Scheduler, Service, StopReason
from trioflow.abc import Instrument, incidents_of
from ..bodies import BLOCKED, FAILED, SUCCEEDED, Closing, nap, states, timed
from ..conftest import Virtual
from ..odd_errors import MAKERS, Faceless, Mute, OddBaseGroup, Silent, refuse


async def raise_it(make: Callable[[], BaseException], seconds: float) -> None:
    await anyio.sleep(seconds)
    raise make()


@pytest.mark.parametrize("maker", MAKERS)
def test_exception_whose_code_raises_fails_only_its_job(virtual: Virtual, maker: str) -> None:
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
    assert [job.state for job in (*bad, needs, other)] == [FAILED, FAILED, BLOCKED, SUCCEEDED]
    assert all(job.raised_exception() is error for job, error in zip(bad, made, strict=True))

    critical = Job(raise_it, make, 1, critical=True, retry=1)
    scheduler = Scheduler(Scheduler(critical, critical=True), Job(nap, 3))
    seconds = 1 if maker == "base" else 2  # nobody retries what is not an Exception
    assert virtual(timed, scheduler) == (False, seconds)
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert critical.raised_exception() is made[-1]


def test_errors_beside_a_cancellation_in_a_misbehaving_group_fail_the_job(virtual: Virtual) -> None:
    errors = [ValueError("mine")]

    async def work() -> None:
        try:
            await anyio.sleep(5)
        except BaseException as cancellation:
            raise OddBaseGroup("odd", [cancellation, *errors]) from None

    job = Job(work)
    scheduler = Scheduler(job, timeout=1)
    assert virtual(timed, scheduler) == (False, 1)
    assert job.state is FAILED
    raised = job.raised_exception()
    assert isinstance(raised, BaseExceptionGroup)
    assert list(raised.exceptions) == errors


def test_exception_group_without_its_cancellation_keeps_its_shape(virtual: Virtual) -> None:
    inner = ExceptionGroup("inner", [ValueError("mine"), OSError("mine, too")])

    async def work() -> None:
        try:
            await anyio.sleep(5)
        except BaseException as cancellation:
            raise BaseExceptionGroup("outer", [inner, cancellation]) from None

    job = Job(work)
    assert virtual(timed, Scheduler(job, timeout=1)) == (False, 1)
    raised = job.raised_exception()
    assert isinstance(raised, ExceptionGroup)
    assert (raised.message, list(map(repr, raised.exceptions))) == ("outer", [repr(inner)])


@pytest.mark.parametrize("value", [Silent, Faceless])
@pytest.mark.parametrize("options", [{}, {"timeout": 9}])
def test_job_that_returns_an_odd_value_fails(virtual: Virtual, value: type, options: dict[str, Any]) -> None:
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


def test_errors_without_text_in_a_shutdown_or_an_instrument_are_reported(virtual: Virtual) -> None:
    class Odd(Instrument):
        __repr__ = refuse

        def job_started(self, scheduler: Any, job: Any) -> None:
            raise Mute

    async def shutdown() -> None:
        raise Mute

    scheduler = Scheduler(Closing(shutdown), Job(nap, 1), instruments=[Odd()])
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


HOOKS = [name for name, value in vars(Instrument).items() if not name.startswith("_") and callable(value)]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(("interruption", "nested"), [(KeyboardInterrupt, False), (SystemExit, True)])
def test_interruption_in_any_hook_is_raised_by_the_run_without_a_group(
    virtual: Virtual, hook: str, interruption: type[BaseException], nested: bool
) -> None:
    """An interruption in any hook ends the run cleanly, is raised without a group, and leaves no job RUNNING."""
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

    async def fail() -> None:
        raise OSError("broken")

    broken = Job(fail)
    inside = Scheduler(Watched(), Job(nap, 2), Service(serve), Job(nap, 1, required=None), broken)
    scheduler = Scheduler(inside) if nested else inside

    async def main() -> None:
        await scheduler.co_run(instruments=[odd()])

    with pytest.raises(interruption, match="from a hook"):
        virtual(main)
    assert raised
    assert not any(job.state in (JobState.RUNNING, JobState.SCHEDULED) for job in scheduler.iterate_jobs())
