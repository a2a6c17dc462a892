"""Each short path of the engine has the same effect as its long one."""

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import AbstractJob, Job, Retry, Scheduler, Sequence, StopReason
from trioflow._core.backend import _fast_asyncio
from trioflow._core.run import _worker
from trioflow._core.run._current import current_worker_var
from .. import bodies
from ..bodies import (
    CANCELLED,
    SUCCEEDED,
    Flaw,
    at_once,
    fail,
    later,
    nap,
    naps,
    nothing,
    take,
    ticking,
    timed,
    turns,
)
from ..conftest import Virtual

plain: contextvars.ContextVar[Any] = contextvars.ContextVar(
    "plain", default="untouched"
)


class Calls(AbstractJob[Any]):
    """A job of another kind, which awaits the same function off the hot path."""

    def __init__(
        self, function: Callable[..., Awaitable[Any]], *args: Any, **options: Any
    ) -> None:
        super().__init__(**options)
        self.function, self.args = function, args

    async def co_run(self) -> Any:
        return await self.function(*self.args)


def fate(job: AbstractJob[Any]) -> tuple[Any, ...]:
    """Return the outcome of a job: state, times, and result or exception."""
    outcome = job.result() if job.state is SUCCEEDED else repr(job.raised_exception())
    return job.state, job.started_at, job.finished_at, outcome


# --- a call in the worker's own frame


KINDS: dict[str, Callable[..., AbstractJob[Any]]] = {
    "with a timeout": functools.partial(Job, timeout=99),
    "with a retry": functools.partial(Job, retry=Retry(1, on=KeyError)),
    "in its own task": functools.partial(Job, own_task=True),
    "of another kind": Calls,
    "as a coroutine": lambda function, *args, **options: Job(
        function(*args), **options
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_end_alike_on_and_off_the_hot_path(virtual: Virtual, kind: str) -> None:
    def scenario(make: Callable[..., AbstractJob[Any]]) -> Scheduler:
        jobs = [
            make(nap, 1, "value"),
            make(nothing),
            make(fail, 1),
            make(fail, 0),
            make(anyio.lowlevel.checkpoint),
        ]
        stopped = make(nap, 50)
        return Scheduler(jobs, stopped, Job(later, 2, stopped.cancel))

    short, long = scenario(Job), scenario(KINDS[kind])
    assert virtual(timed, short) == virtual(timed, long)
    assert [fate(job) for job in short] == [fate(job) for job in long]


# --- arguments
@pytest.mark.parametrize("how", [nap, fail, None])
def test_result_is_filled_in_alike_as_argument_in_a_list_and_by_keyword(
    virtual: Virtual, how: Any
) -> None:
    async def by_name(*, value: Any) -> tuple[Any, ...]:
        return (value,)

    async def unpack(values: list[Any]) -> tuple[Any, ...]:
        return tuple(values)

    given: Any = Job(how, 1) if how is not None else Job(nap, run_if="failed")
    users = [
        Job(take, given),
        Job(unpack, [given]),
        Job(by_name, kwargs={"value": given}),
    ]
    assert virtual(timed, Scheduler(given, users)) == (
        how is not fail,
        0 if how is None else 1,
    )
    assert len({fate(job)[:3] for job in users}) == 1
    if how is nap:
        assert [job.result() for job in users] == [(None,)] * 3


# --- a scope that is put around a body when somebody cancels it
async def in_a_sleep(told: list[Any]) -> None:
    await anyio.sleep(100)


async def in_scopes(told: list[Any]) -> None:
    with anyio.CancelScope(), anyio.move_on_after(50):
        await anyio.sleep(100)


async def in_a_group(told: list[Any]) -> None:
    async def child(seconds: float) -> None:
        try:
            await anyio.sleep(100)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)
            told.append(seconds)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child, 1)
        tasks.start_soon(child, 2)
        await anyio.sleep(100)


async def in_a_shield(told: list[Any]) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.sleep(4)
        told.append("whole")
    await anyio.sleep(100)


async def again_and_again(told: list[Any]) -> None:
    for _ in range(3):
        try:
            await anyio.sleep(100)
        except BaseException:
            told.append(anyio.current_time())


async def while_it_unwinds(told: list[Any]) -> None:
    try:
        await anyio.sleep(0.5)
        raise Flaw
    finally:
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(3) as inner:
                await anyio.sleep(100)
            told.append(inner.cancelled_caught)
        told.append(anyio.current_effective_deadline())
        await anyio.sleep(100)


BODIES = [
    in_a_sleep,
    in_scopes,
    in_a_group,
    in_a_shield,
    again_and_again,
    while_it_unwinds,
]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("options", [{}, {"timeout": 99}, {"forever": True}], ids=str)
def test_cancel_of_a_job_acts_like_a_cancel_scope_around_its_body(
    virtual: Virtual, body: Any, options: Any
) -> None:
    """A cancelled job behaves like a function in a cancel scope that is cancelled; on asyncio it is cancelled once."""
    if virtual.backend == "asyncio" and body is again_and_again:
        pytest.skip("on asyncio a job is cancelled once")
    in_scope: list[Any] = []
    in_job: list[Any] = []

    async def by_scope() -> float:
        with anyio.CancelScope(deadline=1):
            await body(in_scope)
        return anyio.current_time()

    job, after = Job(body, in_job, **options), Job(nap, 1, "whole")
    cancel = Job(later, 1, job.cancel)
    ended = virtual(by_scope)
    after.requires(cancel if options.get("forever") else job, settled=True)
    assert virtual(timed, Scheduler(job, cancel, after, Job(nap, 9))) == (True, 9)
    assert in_job == in_scope
    assert job.finished_at == ended
    assert job.state is (SUCCEEDED if body is again_and_again else CANCELLED)
    assert after.result() == "whole"


@pytest.mark.parametrize("body", BODIES)
def test_timeout_of_the_run_acts_on_a_body_like_cancel_of_its_job(
    virtual: Virtual, body: Any
) -> None:
    alone: list[Any] = []
    together: list[Any] = []
    one, other = Job(body, alone), Job(body, together)
    assert virtual(timed, Scheduler(one, Job(later, 1, one.cancel))) == (
        True,
        one.finished_at,
    )
    scheduler = Scheduler(other, timeout=1)
    assert virtual(timed, scheduler) == (False, other.finished_at)
    assert scheduler.stop_reason is StopReason.TIMEOUT
    assert (alone, fate(one)) == (together, fate(other))


@pytest.mark.fast_way("asyncio")
def test_cancelled_jobs_leave_no_tasks_or_scopes_in_the_run(virtual: Virtual) -> None:
    sizes: set[tuple[int, ...]] = set()

    def size() -> tuple[int, ...]:
        run: Any = scheduler._run
        if virtual.backend == "asyncio":
            return len(_fast_asyncio.STATES_BY_REF), len(run.crew.alive)
        status = run.group.host.nursery.cancel_scope._cancel_status
        return (
            len(run.group.host.nursery.child_tasks),
            len(status._children),
            len(run.crew.alive),
        )

    async def rounds() -> None:
        for _ in range(5):
            victims = [scheduler.add(Job(in_scopes, [])) for _ in range(20)]
            await anyio.sleep(1)
            for job in victims:
                job.cancel()
            await anyio.sleep(1)
            assert {job.state for job in victims} == {CANCELLED}
            sizes.add(size())

    scheduler = Scheduler(Job(rounds))
    assert virtual(functools.partial(timed, scheduler, check=True)) == (True, 10)
    assert len(sizes) == 1


# --- one task for many jobs
@pytest.mark.fast_way("trio")  # with direct isolation, what is left open is not closed
@pytest.mark.parametrize("native", [False, True])
def test_jobs_that_share_a_task_are_isolated_as_in_separate_tasks(
    virtual: Virtual, native: bool
) -> None:
    """Whatever a job leaves behind in its task, the next job in it finds it as if it were new."""

    async def change() -> None:
        plain.set("changed")

    async def leave_open() -> None:
        anyio.move_on_after(1).__enter__()

    async def cancel_itself() -> None:
        task = bodies.task_now()
        if native and isinstance(task, asyncio.Task):
            task.cancel()

    async def look() -> tuple[Any, ...]:
        await anyio.sleep(2)
        return (
            plain.get(),
            anyio.current_effective_deadline(),
            len(contextvars.copy_context()),
        )

    def scenario(**options: Any) -> Scheduler:
        in_turn: list[Any] = [
            look,
            change,
            look,
            leave_open,
            look,
            cancel_itself,
            look,
            fail,
            look,
        ]
        return Scheduler(Sequence([Job(body, **options) for body in in_turn]))

    short, long = scenario(), scenario(own_task=True)
    assert virtual(timed, short) == virtual(timed, long)
    assert [fate(job) for job in short] == [fate(job) for job in long]


# --- turns of the loop, and those who look for jobs
@pytest.mark.fast_way("asyncio")
def test_job_that_awaits_once_takes_one_turn_of_the_loop(virtual: Virtual) -> None:
    turns: list[float] = []

    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        bodies.pass_time(virtual.backend, 0.002)

    scheduler = Scheduler([Job(work) for _ in range(100)], jobs_window=2)
    virtual(ticking, lambda: turns.append(anyio.current_time()), scheduler.co_run)
    assert 50 < len(turns) < 150


async def turns_until_begun(jobs: list[Job[Any]]) -> int:
    """Return how many turns the event loop makes until all these jobs have started."""
    number = 0
    while any(job.started_at is None for job in jobs):
        await turns(1)
        number += 1
    return number


@pytest.mark.fast_way("asyncio")
def test_many_jobs_that_block_start_in_few_turns(virtual: Virtual) -> None:
    jobs = naps(600)
    counter = Job(lambda: turns_until_begun(jobs))
    assert virtual(Scheduler(counter, jobs).co_run)
    assert counter.result() < 100


@pytest.mark.fast_way("asyncio")
def test_many_jobs_that_become_ready_together_start_in_few_turns(
    virtual: Virtual,
) -> None:
    first = naps(24)
    middle = Job(nap, 1, required=first)
    last = naps(24, required=middle)
    counter = Job(lambda: turns_until_begun(last), required=middle)
    assert virtual(Scheduler(first, middle, counter, last).co_run)
    assert counter.result() <= 2 + len(last) // _worker.MAX_SEARCHERS


@pytest.mark.fast_way("asyncio")
@pytest.mark.parametrize("options", [{}, {"timeout": 9}, {"keep_result": False}])
def test_few_tasks_run_many_jobs(virtual: Virtual, options: Any) -> None:
    workers: set[Any] = set()
    assert virtual(
        Scheduler(
            [
                Job(at_once, lambda: workers.add(current_worker_var.get()), **options)
                for _ in range(600)
            ]
        ).co_run
    )
    assert len(workers) < 60


@pytest.mark.fast_way("asyncio")
@pytest.mark.parametrize("jobs", [0, 1, 30])
def test_a_run_whose_jobs_never_wait_is_over_in_few_turns(
    virtual: Virtual, jobs: int
) -> None:
    turns: list[int] = []
    virtual(
        ticking,
        lambda: turns.append(1),
        Scheduler([Job(nothing) for _ in range(jobs)]).co_run,
    )
    assert len(turns) - 1 < 3  # one before it


@pytest.mark.parametrize("window", [None, 1, 3, 16])
@pytest.mark.parametrize("searchers", [1, 4, 32])
def test_start_order_does_not_depend_on_the_number_of_searching_workers(
    virtual: Virtual,
    monkeypatch: pytest.MonkeyPatch,
    window: int | None,
    searchers: int,
) -> None:
    """However many workers look for jobs at once, jobs start in the order added, and all slots are free in the end."""
    monkeypatch.setattr(_worker, "MAX_SEARCHERS", searchers)
    order: list[int] = []
    workers: list[Any] = []

    async def start(number: int) -> None:
        if not workers:
            run: Any = scheduler._run
            workers.append(run.crew)
        order.append(number)
        await anyio.sleep(1 + number % 2)

    jobs = [Job(start, number) for number in range(40)]
    scheduler = Scheduler(jobs, jobs_window=window)
    assert virtual(timed, scheduler) == (
        True,
        max(job.finished_at or 0.0 for job in jobs),
    )
    assert order == list(range(40))
    assert [job.started_at for job in jobs] == sorted(
        job.started_at or 0.0 for job in jobs
    )
    assert workers[0].searchers == 0
    assert not workers[0].line.holders
