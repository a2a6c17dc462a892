"""Kinds of jobs: what callables Job takes, and what subclasses may do."""

import functools
from collections.abc import Callable
from typing import Any
import anyio
import pytest
import trioflow.abc
from trioflow import (
    AbstractJob,
    Budget,
    Job,
    JobState,
    JobTimeout,
    Pool,
    Rate,
    Retry,
    Scheduler,
    StopReason,
    Throttled,
)
from trioflow.abc import JobKind, incidents_of
from ..bodies import BLOCKED, CANCELLED, Flaw, later, nap, running
from ..conftest import Virtual


# --- kinds of callables
class AsyncCall:
    async def __call__(self, value: int) -> int:
        return value

    async def method(self, value: int) -> int:
        return value

    @classmethod
    async def of_class(cls, value: int) -> int:
        return value

    @staticmethod
    async def static(value: int) -> int:
        return value


async def echo(value: int, *, plus: int = 0) -> int:
    return value + plus


@pytest.mark.parametrize(
    "function",
    [
        echo, lambda value: echo(value), functools.partial(echo, plus=0), AsyncCall(), AsyncCall().method,
        AsyncCall.of_class, AsyncCall.static, functools.partial(AsyncCall().method),
    ],
)  # fmt: skip
def test_job_takes_any_async_callable(
    virtual: Virtual, function: Callable[[int], Any]
) -> None:
    """A Job takes async functions, methods, lambdas, partials and callable objects, and calls them at each start."""
    job = Job(function, 42)
    scheduler = Scheduler(job)
    for _ in range(2):
        assert virtual(functools.partial(scheduler.co_run, check=True)) is True
        assert job.result() == 42


def test_job_passes_arguments(virtual: Virtual) -> None:
    job = Job(echo, 40, kwargs={"plus": 2})
    virtual(Scheduler(job).co_run)
    assert job.result() == 42


def test_job_calls_its_function_at_each_start_and_not_before(virtual: Virtual) -> None:
    calls: list[float] = []

    def make() -> Any:
        calls.append(anyio.current_time())
        return nap()

    first = Job(nap, 2)
    scheduler = Scheduler(first, Job(lambda: make(), required=first))
    assert calls == []
    virtual(scheduler.co_run)
    virtual(scheduler.co_run)
    assert calls == [2, 2]


# --- subclasses
class Copy(AbstractJob[str]):
    """Uses names that an engine might want for itself."""

    def __init__(self, source: str, **options: Any) -> None:
        super().__init__(**options)
        self.source = source
        self.name = "copy"
        self.task = self.run = self.worker = self.args = self.function = self.kwargs = (
            self.pending
        ) = None
        self.started = self.outcome = self.value = self.exception = self.successors = (
            self.limits
        ) = None

    async def co_run(self) -> str:
        await anyio.sleep(1)
        return self.source.upper()


def test_subclass_of_abstract_job_may_have_any_attributes(virtual: Virtual) -> None:
    """A subclass of AbstractJob defines co_run, and may use any public name that AbstractJob lacks."""
    job = Copy("source", label="copy", timeout=5)
    assert virtual(functools.partial(Scheduler(job).co_run, check=True)) is True
    assert job.result() == "SOURCE"
    assert (job.label, job.timeout, job.name) == ("copy", 5, "copy")


def test_subclass_of_job_overrides_co_run(virtual: Virtual) -> None:
    class Twice(Job[int]):
        async def co_run(self) -> int:
            return 2 * await super().co_run()

    job = Twice(echo, 21)
    assert virtual(Scheduler(job).co_run) is True
    assert job.result() == 42


def test_subclass_of_scheduler_overrides_co_run(virtual: Virtual) -> None:
    class Prepared(Scheduler):
        async def co_run(self, **options: Any) -> bool:
            await anyio.sleep(1)
            return await super().co_run(**options)

    job = Job(nap, 1, "done")
    inner = Prepared(job)
    assert virtual(Scheduler(inner).co_run) is True
    assert job.started_at == 1
    assert inner.result() is True


def test_jobs_compare_by_identity() -> None:
    a, b = Job(nap, label="x"), Job(nap, label="x")
    assert a != b
    assert len({a, b}) == 2
    assert "x" in repr(a)
    assert "idle" in repr(a)


def test_options_are_readable() -> None:
    job = Job(
        nap,
        critical=True,
        timeout=5,
        retry=Retry(2, first=0, on=JobTimeout),
        own_task=True,
        forever=True,
    )
    assert (job.critical, job.timeout, job.on_timeout, job.retry.times) == (
        True,
        5,
        "fail",
        2,
    )
    assert (job.own_task, job.forever) == (True, True)
    plain = Job(nap)
    assert (plain.critical, plain.timeout, plain.on_timeout, plain.retry) == (
        None,
        None,
        "fail",
        None,
    )
    assert (plain.own_task, plain.forever) == (False, False)
    assert plain.state is JobState.IDLE


@pytest.mark.parametrize(
    "right", [{"timeout": 1}, {"timeout": 1.0}, {"idle_timeout": 1}, {"retry": 1}]
)
def test_an_invalid_option_raises_although_an_equal_value_of_another_type_is_valid(
    right: dict[str, Any],
) -> None:
    """Jobs with equal options share them, but `timeout=True` raises although `timeout=1` is valid."""
    for name in ("first", "second"):
        Job(nap, label="right", **right)
        with pytest.raises(TypeError, match=rf"=True of '{name}'"):
            Job(nap, label=name, **dict.fromkeys(right, True))


def test_an_option_object_is_converted_to_a_number_anew_for_each_job() -> None:
    """A timeout whose `__float__` changes is converted anew for each job, and not remembered from the first."""

    class Patience:
        seconds = 0.0

        def __float__(self) -> float:
            self.seconds += 1
            return self.seconds

    patience: Any = Patience()
    assert [Job(nap, timeout=patience).timeout for _ in range(3)] == [1, 2, 3]


def test_abstract_job_is_the_same_class_in_trioflow_and_trioflow_abc() -> None:
    assert trioflow.abc.AbstractJob is AbstractJob


# --- `on_settled` of a kind of job is called once, whatever becomes of the job, unless the job never had a slot
class Tries(JobKind[None]):
    """A kind whose attempts fail after 2 seconds, with an error or because they are throttled."""

    def __init__(self, error: Exception, **options: Any) -> None:
        self.error = error
        self.seen: list[str] = []
        super().__init__(on_settled=self.note, label="job", **options)

    def note(self, job: JobKind[Any]) -> None:
        self.seen.append(type(job.raised_exception()).__name__)

    async def co_run(self) -> None:
        await anyio.sleep(2)
        raise self.error


def flaky(**options: Any) -> Tries:
    return Tries(Flaw(), retry=Retry(2, first=10, jitter=False), **options)


def throttled(**options: Any) -> Tries:
    return Tries(Throttled("api", after=10), needs={"api": 1}, **options)


ENDS: dict[str, tuple[float, Callable[[Scheduler], object]]] = {
    "drain in its body": (1, Scheduler.drain),
    "cancel in its body": (1, Scheduler.cancel),
    "drain while it waits": (5, Scheduler.drain),
    "cancel while it waits": (5, Scheduler.cancel),
    "cancel it in its body": (1, lambda scheduler: next(iter(scheduler)).cancel()),
    "cancel it while it waits": (5, lambda scheduler: next(iter(scheduler)).cancel()),
    "a critical failure": (
        5,
        lambda scheduler: scheduler.add(Job(crash_at_once, critical=True)),
    ),
}


async def crash_at_once() -> None:
    raise Flaw


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("make", [flaky, throttled])
def test_on_settled_follows_last_attempt(
    virtual: Virtual, make: Callable[[], Tries], end: str, nested: bool
) -> None:
    job, (when, act) = make(), ENDS[end]

    async def main() -> None:
        inner = Scheduler(job, Job(nap, 8), critical_jobs=False)
        pool = Pool(api=Rate(requests=9, per=1))
        scheduler = Scheduler(inner, pool=pool) if nested else inner
        if not nested:
            inner.pool = pool
        async with running(scheduler) as group:
            group.start_soon(later, when, lambda: act(inner))

    virtual(main)
    assert job.state is CANCELLED
    assert len(job.seen) == 1


def test_on_settled_is_called_when_a_budget_is_spent_before_the_next_attempt(
    virtual: Virtual,
) -> None:
    job = Tries(Flaw(), retry=Retry(2, first=10, jitter=False), needs={"usd": 3})
    rich = Job(nap, 1, needs={"usd": 4}, required=Job(nap, 4))
    assert not virtual(
        Scheduler(job, rich, *rich.required, pool=Pool(usd=Budget(9))).co_run
    )
    assert (job.state, job.seen) == (BLOCKED, ["BudgetSpent"])


def test_a_job_that_never_had_a_slot_is_not_reported(virtual: Virtual) -> None:
    job = flaky()
    scheduler = Scheduler(Job(nap, 5), job, jobs_window=1)
    virtual(lambda: both(scheduler))
    assert (job.state, job.seen) == (CANCELLED, [])


def test_on_settled_is_called_for_a_job_that_is_cancelled_before_its_group_tries_it_again(
    virtual: Virtual,
) -> None:
    job, busy = Tries(Flaw()), Job(nap, 9)
    group = Scheduler(job, label="group")
    mend = Job(later, 4, lambda: (job.try_again(), job.cancel()))
    virtual(Scheduler(group, busy, mend, jobs_window=2).co_run)
    assert (job.state, job.attempts, job.seen) == (CANCELLED, 1, ["Flaw", "NoneType"])


async def both(scheduler: Scheduler) -> None:
    async with running(scheduler) as group:
        group.start_soon(later, 1, scheduler.cancel)


def test_a_callback_that_raises_while_the_job_waits_ends_the_run(
    virtual: Virtual,
) -> None:
    class Raises(Tries):
        def note(self, job: JobKind[Any]) -> None:
            raise LookupError

    job = Raises(Flaw(), retry=Retry(1, first=10))
    scheduler = Scheduler(job, Job(later, 5, lambda: job.cancel()), Job(nap, 50))
    with pytest.raises(LookupError):
        virtual(lambda: scheduler.co_run(check=True))
    assert (job.state, scheduler.stop_reason) == (CANCELLED, StopReason.CRITICAL)
    assert [incident.message for incident in incidents_of(scheduler)] == [
        "on_settled of 'job' raised LookupError"
    ]
