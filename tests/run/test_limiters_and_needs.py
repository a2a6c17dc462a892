"""Where limiters meet needs: a scheduler in which nothing runs keeps no token that others wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import Job, Pool, Rate, Scheduler, Sequence, Service, StopReason, Throttled
from trioflow.abc import AbstractJob, waiting_for

from ..bodies import LIMIT, nap, serve

if TYPE_CHECKING:
    from ..conftest import Virtual


def keeper(limiter: Any, *more: Any) -> Scheduler:
    """Return a scheduler that keeps the gpu until two jobs have had tokens, one after the other."""
    jobs = Job(nap, 1, label="a1"), Job(nap, 1, label="a2")
    return Scheduler(Sequence(*jobs), *more, needs={"gpu": 1}, jobs_window=limiter, label="a")


def waiter(limiter: Any, depth: int = 1) -> Scheduler:
    """Return a scheduler that has a token while a job inside, at some depth, waits for the gpu."""
    inner: AbstractJob[Any] = Job(nap, 1, needs={"gpu": 1}, label="j")
    for _ in range(depth):
        inner = Scheduler(inner)
    return Scheduler(inner, jobs_window=limiter, label="b")


async def runs(*schedulers: Scheduler) -> None:
    """Run these at once; each has to end, and all its jobs have to succeed."""
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            for scheduler in schedulers:
                group.start_soon(scheduler.co_run)
    for scheduler in schedulers:
        assert scheduler.stop_reason is StopReason.COMPLETED
        assert all(job.is_succeeded() for job in scheduler.iterate_jobs() if not job.forever)


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_token_is_not_kept_while_all_inside_waits_for_needs(virtual: Virtual, depth: int, tokens: int) -> None:
    """a has the gpu and waits for a token; b had the token, and its job waits for the gpu: both end."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(tokens)
        waiters = [waiter(limiter, depth) for _ in range(tokens)]
        await runs(Scheduler(keeper(limiter), *waiters, pool=Pool(gpu=1)))
        assert limiter.borrowed_tokens == 0
        assert [one.started_at for one in waiters] != [None] * tokens

    virtual(main)


def test_what_is_added_while_it_runs_makes_no_circle_either(virtual: Virtual) -> None:
    """The job that waits for the gpu comes when both schedulers run already."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        inner = Scheduler(Job(nap, 0.5))
        late = Scheduler(Scheduler(Job(nap, 1, needs={"gpu": 1})), jobs_window=limiter)

        async def add() -> None:
            inner.add(Job(nap, 1, needs={"gpu": 1}))
            outer.add(late)

        b = Scheduler(inner, jobs_window=limiter)
        a = keeper(limiter)
        outer = Scheduler(b, a, Job(add), pool=Pool(gpu=1))
        await runs(outer)

    virtual(main)


def test_two_runs_with_one_pool_and_one_limiter_both_end(virtual: Virtual) -> None:
    """No scheduler around both knows of both: the pool and the limiter do."""

    async def main() -> None:
        limiter, pool = anyio.CapacityLimiter(1), Pool(gpu=1)
        await runs(Scheduler(keeper(limiter), pool=pool), Scheduler(waiter(limiter), pool=pool))
        assert pool.free == pool.total

    virtual(main)


def test_a_lent_token_that_nobody_uses_is_given_back_too(virtual: Virtual) -> None:
    """The schedulers inside share the limiter, and nobody waits for it yet when they have nothing to do."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        inner = Scheduler(Job(nap, 1, needs={"gpu": 1}), jobs_window=limiter)
        b = Scheduler(Scheduler(inner), jobs_window=limiter)
        a = Scheduler(Job(nap, 2), Scheduler(Job(nap, 1), jobs_window=limiter, required=Job(nap, 1)), needs={"gpu": 1})
        a.update([job for one in a for job in one.required])
        await runs(Scheduler(a, b, pool=Pool(gpu=1)))

    virtual(main)


def busy(scheduler: Scheduler) -> list[AbstractJob[Any]]:
    """Return the members in which a job runs that is neither a scheduler nor forever."""
    return [
        member
        for member in scheduler
        if isinstance(member, Scheduler)
        and any(
            one.is_running() and not one.forever and not isinstance(one, Scheduler) for one in member.iterate_jobs()
        )
    ]


@pytest.mark.parametrize("how", ["needs", "service", "throttled", "added"])
def test_no_job_starts_without_the_token(virtual: Virtual, how: str) -> None:
    """A scheduler that has given its token back gets it again before any of its jobs starts, whatever lets it start."""

    most: list[int] = []

    async def main() -> None:
        limiter, gpu = anyio.CapacityLimiter(1), Job(nap, 1, needs={"gpu": 1}, priority=1)
        tries = iter([True, False])

        async def throttled() -> None:
            if next(tries):
                raise Throttled("api", after=1)
            await anyio.sleep(1)

        inner = Scheduler()
        if how == "needs":
            inner.add(Job(nap, 1, needs={"gpu": 1}))
        elif how == "throttled":
            inner.add(Job(throttled, needs={"api": 1}))
        else:
            service: Service[Any] = inner.add(Service(serve, 1))
            inner.add(Job(nap, 1, required=service))
        if how == "added":
            inner.add(Job(nap, 1, needs={"gpu": 1}))
        b = Scheduler(inner, *[Scheduler(Job(nap, 0.75)) for _ in range(6)], jobs_window=limiter)

        async def watch() -> None:
            while True:
                most.append(len(busy(b)))
                if how == "added" and inner.is_running() and len(inner) == 3:
                    inner.add(Job(nap, 1))
                await anyio.sleep(0.125)

        api = Rate(requests=9, per=1)
        await runs(Scheduler(gpu, b, Job(watch, forever=True), pool=Pool(gpu=1, api=api)))

    virtual(main)
    assert max(most) == 1


@pytest.mark.parametrize("how", ["timeout", "cancel", "cancel job", "drain"])
def test_no_token_is_left_borrowed(virtual: Virtual, how: str) -> None:
    """However a run ends in which a scheduler waits for its token, or for needs, the limiter has all of them again."""

    async def main() -> None:
        limiter, pool = anyio.CapacityLimiter(1), Pool(gpu=1)
        b = waiter(limiter)
        scheduler = Scheduler(keeper(limiter, Job(nap, 9)), b, pool=pool, timeout=3 if how == "timeout" else None)

        async def end() -> None:
            await anyio.sleep(2.5)
            if how == "cancel":
                scheduler.cancel()
            elif how == "cancel job":
                b.cancel()
            elif how == "drain":
                scheduler.drain()

        scheduler.add(Job(end))
        with anyio.fail_after(LIMIT):
            await scheduler.co_run()
        assert limiter.borrowed_tokens == 0
        assert pool.free == pool.total

    virtual(main)


def test_explain_names_the_token_that_is_missing(virtual: Virtual) -> None:
    """First the job waits for the gpu; then it could have that, but the token around it is with another one."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        b = waiter(limiter)
        (job,) = (one for one in b.iterate_jobs() if one.label == "j")
        b.add(Job(nap, 5, label="long"))
        scheduler = Scheduler(Job(nap, 1, needs={"gpu": 1}, priority=1), b, pool=Pool(gpu=1))
        async with anyio.create_task_group() as group:
            group.start_soon(scheduler.co_run)
            await anyio.sleep(0.5)
            assert scheduler.explain(job).startswith("'j' waits for gpu: 1 of 1 taken by")
            assert waiting_for(job).startswith("gpu taken by")
            await anyio.sleep(1.5)
            text = "waits for the token of a scheduler around it, whose window is a limiter that is used up: with"
            assert scheduler.explain(job) == f"'j' {text} 'long'"
            assert waiting_for(job) == "no free token around"
        assert job.started_at == b.started_at + 5  # type: ignore[operator]

    virtual(main)


@pytest.mark.parametrize("depth", [1, 2])
def test_two_limiters_one_in_the_other(virtual: Virtual, depth: int) -> None:
    """All schedulers nest them in the same order: tokens of both are given back, and asked for again in this order."""

    async def main() -> None:
        one, two = anyio.CapacityLimiter(1), anyio.CapacityLimiter(1)
        nested = [Scheduler(waiter(two, depth), Job(nap, 0.5), jobs_window=one) for _ in range(3)]
        keepers = [Scheduler(keeper(two), jobs_window=one), keeper(one), keeper(two)]
        await runs(Scheduler(*keepers, *nested, pool=Pool(gpu=1)))
        assert one.borrowed_tokens == two.borrowed_tokens == 0

    virtual(main)
