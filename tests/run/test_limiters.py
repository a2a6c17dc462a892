"""A limiter counts the jobs that work, at any depth: schedulers hold no token, and jobs that wait hold none."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import (
    Adaptive,
    Job,
    Pool,
    Rate,
    Scheduler,
    Sequence,
    Service,
    StopReason,
    ThreadJob,
    Throttled,
    ref,
)
from trioflow.abc import AbstractJob, Instrument, WaitCause, waiting

from ..bodies import LIMIT, RUNNING, SCHEDULED, fail, later, nap, naps, serve, task_now

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
    """Run these schedulers at once; each has to end, and all its jobs have to succeed."""
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            for scheduler in schedulers:
                group.start_soon(scheduler.co_run)
    for scheduler in schedulers:
        assert scheduler.stop_reason is StopReason.COMPLETED
        assert all(job.is_succeeded() for job in scheduler.iterate_jobs() if not job.forever)


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_scheduler_that_waits_for_needs_has_no_token(virtual: Virtual, depth: int, tokens: int) -> None:
    """One scheduler keeps the gpu while its jobs wait for a token; others wait for the gpu without a token: all end."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(tokens)
        waiters = [waiter(limiter, depth) for _ in range(tokens)]
        await runs(Scheduler(keeper(limiter), *waiters, pool=Pool(gpu=1)))
        assert limiter.borrowed_tokens == 0
        assert [one.started_at for one in waiters] != [None] * tokens

    virtual(main)


def test_jobs_added_to_running_schedulers_do_not_deadlock_on_needs_and_tokens(virtual: Virtual) -> None:
    """Schedulers that share a gpu and a limiter end, though jobs that need the gpu are added while they run."""

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
    """Two runs that share a pool and a limiter both end, although no scheduler is around both."""

    async def main() -> None:
        limiter, pool = anyio.CapacityLimiter(1), Pool(gpu=1)
        await runs(Scheduler(keeper(limiter), pool=pool), Scheduler(waiter(limiter), pool=pool))
        assert pool.free == pool.total

    virtual(main)


def busy(scheduler: Scheduler) -> list[AbstractJob[Any]]:
    """Return the members with a running job that is neither a scheduler nor forever."""
    return [
        member
        for member in scheduler
        if isinstance(member, Scheduler)
        and any(
            one.is_running() and not one.forever and not isinstance(one, Scheduler) for one in member.iterate_jobs()
        )
    ]


@pytest.mark.parametrize("how", ["needs", "service", "throttled", "added"])
def test_no_job_starts_without_a_token(virtual: Virtual, how: str) -> None:
    """A job that could start after a wait for needs, a service or a throttle starts only with a token."""

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
    """However a run ends whose jobs wait for tokens or needs, the limiter gets all its tokens back."""

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


def test_explain_names_the_holder_of_the_token(virtual: Virtual) -> None:
    """For a job that waits first for the gpu, then for a token, `explain` names the cause and the holder each time."""

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
            assert waiting(job).cause is WaitCause.RESOURCE  # type: ignore[union-attr]
            await anyio.sleep(1.5)
            text = "waits for a token of the window of 'b': its limiter is exhausted, with"
            assert scheduler.explain(job) == f"'j' {text} 'long'"
            assert waiting(job) == (WaitCause.TOKEN, "", "no free token")
        assert job.started_at == b.started_at + 5  # type: ignore[operator]

    virtual(main)


@pytest.mark.parametrize("depth", [1, 2])
def test_two_nested_limiters_do_not_deadlock(virtual: Virtual, depth: int) -> None:
    """Schedulers that nest two limiters, in either order, all end, and all tokens are free again."""

    async def main() -> None:
        one, two = anyio.CapacityLimiter(1), anyio.CapacityLimiter(1)
        nested = [Scheduler(waiter(two, depth), Job(nap, 0.5), jobs_window=one) for _ in range(3)]
        keepers = [Scheduler(keeper(two), jobs_window=one), keeper(one), keeper(two)]
        await runs(Scheduler(*keepers, *nested, pool=Pool(gpu=1)))
        assert one.borrowed_tokens == two.borrowed_tokens == 0

    virtual(main)


class Watch(Instrument):
    """An instrument that records the jobs that work, by label, as they start and end, and the most of them at once."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.working: set[AbstractJob[Any]] = set()
        self.most = 0

    def job_started(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        self.order.append(job.label)
        if not isinstance(job, Scheduler):
            self.working.add(job)
            self.most = max(self.most, len(self.working))

    def job_finished(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        self.working.discard(job)


async def watched(scheduler: Scheduler, **options: Any) -> Watch:
    """Run a scheduler to its end, and return what was seen."""
    watch = Watch()
    with anyio.fail_after(LIMIT):
        assert await scheduler.co_run(instruments=[watch], **options)
    return watch


# --- no circle


def test_a_scheduler_that_keeps_needs_waits_for_no_token(virtual: Virtual) -> None:
    """A scheduler that kept a resource once waited for a token, whose holder waited for the resource: a deadlock."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        k1 = Scheduler(Job(nap, 0), needs={"c": 1})
        k2 = Scheduler(Job(nap, 1), needs={"c": 1}, jobs_window=limiter)
        q = Scheduler(Job(nap, 0), k1, k2)
        r = Scheduler(Scheduler(Job(nap, 1, needs={"c": 1})), jobs_window=limiter)
        await watched(Scheduler(Scheduler(q, r), jobs_window=limiter, pool=Pool(c=1)))
        assert limiter.borrowed_tokens == 0

    virtual(main)


@pytest.mark.parametrize("depth", [1, 4, 40])
def test_one_token_is_enough_at_any_depth(virtual: Virtual, depth: int) -> None:
    """With one token for all levels of nested schedulers, their jobs run one at a time, without pauses."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        scheduler = Scheduler(naps(1), jobs_window=limiter)
        for number in range(depth):
            scheduler = Scheduler(scheduler, naps(1), jobs_window=limiter if number % 3 else None)
        scheduler = Scheduler(scheduler, jobs_window=limiter)
        start = anyio.current_time()
        watch = await watched(scheduler)
        assert (watch.most, anyio.current_time() - start) == (1, depth + 1)

    virtual(main)


@pytest.mark.parametrize("jobs", ["leaves", "nested"])
def test_a_job_gets_a_busy_resource_and_a_busy_token(virtual: Virtual, jobs: str) -> None:
    """A job that needs a resource and a token gets both, though streams of other jobs take each without a pause."""

    async def main() -> None:
        limiter, pool = anyio.CapacityLimiter(1), Pool(cpu=1)

        async def stream(scheduler: Scheduler, seconds: float, **options: Any) -> None:
            await anyio.sleep(seconds)
            if not both.is_settled():
                scheduler.add(Job(stream, ref(scheduler), seconds, **options, kwargs=options))

        takes_cpu, takes_tokens = Scheduler(pool=pool), Scheduler(jobs_window=limiter)
        for delay in (0.25, 0.5):
            takes_cpu.add(Job(stream, ref(takes_cpu), 1 + delay, needs={"cpu": 1}, kwargs={"needs": {"cpu": 1}}))
            takes_tokens.add(Job(stream, ref(takes_tokens), 1 + delay))
        both = Job(nap, 1, needs={"cpu": 1}, label="both")
        more = [Scheduler(naps(1))] if jobs == "nested" else []
        await runs(takes_cpu, takes_tokens, Scheduler(more, both, jobs_window=limiter, pool=pool, backfill=1))

    virtual(main)


# --- what takes a token


def test_nested_schedulers_start_without_waiting_for_a_token(virtual: Virtual) -> None:
    """Nested schedulers start as soon as they are ready, even behind jobs that wait for a token."""

    async def main(**options: Any) -> list[float | None]:
        limiter = anyio.CapacityLimiter(1)
        nested = [Scheduler(Job(nap, 1, **options), **options) for _ in range(3)]
        jobs = [Job(nap, 1, priority=number % 2) for number in range(5)] if options else naps(5)
        scheduler = Scheduler(jobs, nested, Scheduler(naps(1), required=jobs[0]), jobs_window=limiter, pool=Pool(c=3))
        await watched(scheduler)
        return [one.started_at for one in scheduler if isinstance(one, Scheduler)][:3]

    for options in ({}, {"needs": {"c": 1}}, {"priority": 1}, {"expected_duration": 2}):
        begin, *others = virtual(functools.partial(main, **options))
        assert others == [begin, begin]
        assert begin == 0


def test_an_integer_window_limits_how_many_nested_schedulers_run_at_once(virtual: Virtual) -> None:
    """Under an integer window, each nested scheduler takes a slot, while its jobs take tokens of a limiter."""

    async def main() -> list[float]:
        limiter = anyio.CapacityLimiter(1)
        nested = [Scheduler(naps(2)) for _ in range(4)]
        await watched(Scheduler(Scheduler(nested, jobs_window=2), jobs_window=limiter))
        return sorted(one.started_at or 0.0 for one in nested)

    first, second, third, _ = virtual(main)
    assert (first, second) == (0, 0)
    assert third >= 2


@pytest.mark.parametrize(("window", "tokens", "most"), [(2, 3, 2), (3, 2, 2), (1, 5, 1)])
@pytest.mark.parametrize("inside", ["integer", "limiter"])
def test_a_job_takes_a_slot_and_a_token(virtual: Virtual, inside: str, window: int, tokens: int, most: int) -> None:
    """An integer window inside a limiter, or around it, limits jobs together with the limiter."""

    async def main() -> tuple[int, float]:
        limiter = anyio.CapacityLimiter(tokens)
        start = anyio.current_time()
        if inside == "integer":
            watch = await watched(Scheduler(Scheduler(naps(6), jobs_window=window), jobs_window=limiter))
        else:
            nested = [Scheduler(naps(1), jobs_window=limiter) for _ in range(6)]
            watch = await watched(Scheduler(nested, jobs_window=window))
        return watch.most, anyio.current_time() - start

    assert virtual(main) == (most, 6 / most)


def test_jobs_take_tokens_of_the_innermost_limiter_only(virtual: Virtual) -> None:
    """A job takes a token of the innermost limiter around it, and of no other."""

    async def main() -> tuple[int, float]:
        outer, inner = anyio.CapacityLimiter(1), anyio.CapacityLimiter(3)
        start = anyio.current_time()
        watch = await watched(Scheduler(Scheduler(Scheduler(naps(6)), jobs_window=inner), naps(2), jobs_window=outer))
        return watch.most, anyio.current_time() - start

    assert virtual(main) == (4, 2)


def test_forever_jobs_services_and_clean_up_jobs_take_no_token(virtual: Virtual) -> None:
    """Forever jobs, services and clean-up jobs, and all nested in them, run while another job has the only token."""

    async def main() -> tuple[int, float]:
        limiter = anyio.CapacityLimiter(1)
        cleaned: list[float] = []
        endless = Scheduler(Job(anyio.sleep_forever), Job(anyio.sleep_forever), forever=True)
        last = Job(fail, 2, critical=True)
        tidy = Scheduler(Job(later, 1, lambda: cleaned.append(anyio.current_time())), required=last, run_if="failed")
        scheduler = Scheduler(
            Service(serve), Job(anyio.sleep_forever, forever=True), endless, last, tidy, jobs_window=limiter
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(1)
            running = sum(job.is_running() for job in scheduler.iterate_jobs())
            await anyio.sleep(1.5)
            await limiter.acquire()  # others have the token now
            assert limiter.borrowed_tokens == 1
        return running, cleaned[0]

    assert virtual(main) == (6, 3)


@pytest.mark.parametrize("around", [True, False])
def test_thread_job_with_a_limiter_takes_its_token_instead_of_the_windows(backend: str, around: bool) -> None:
    """A thread job with a limiter takes a token of that, and works although all tokens of the window are taken."""

    async def main() -> list[str]:
        window, own = anyio.CapacityLimiter(1), anyio.CapacityLimiter(1)
        job = ThreadJob(len, "four", limiter=own, label="thread")
        nested = Scheduler(job, jobs_window=None if around else window)
        await window.acquire()
        await Scheduler(nested, jobs_window=window if around else None).co_run()
        assert job.result() == 4
        return [str(limiter.borrowed_tokens) for limiter in (window, own)]

    assert anyio.run(main, backend=backend) == ["1", "0"]


# --- waiting


def test_a_job_that_waits_for_a_token_is_scheduled_and_has_its_needs(virtual: Virtual) -> None:
    """A job that waits for a token has its share of the pool and its slot; only a job that works has a token."""

    async def main() -> None:
        limiter, pool = anyio.CapacityLimiter(1), Pool(cpu=3)
        jobs = [Job(nap, 1, needs={"cpu": 1}, label=name) for name in "abcd"]
        scheduler = Scheduler(jobs, jobs_window=limiter, pool=pool)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(0.5)
            assert [job.state for job in jobs] == [RUNNING, SCHEDULED, SCHEDULED, SCHEDULED]
            assert (limiter.borrowed_tokens, pool.free["cpu"]) == (1, 0)
            assert [waiting(job).cause for job in jobs[1:]] == [  # type: ignore[union-attr]
                WaitCause.TOKEN,
                WaitCause.TOKEN,
                WaitCause.RESOURCE,
            ]
        assert [job.started_at for job in jobs] == [0, 1, 2, 3]
        assert pool.free == pool.total

    virtual(main)


def test_no_token_is_held_while_a_job_waits_for_a_slot_or_for_needs(virtual: Virtual) -> None:
    """Jobs that wait for a slot or for needs hold no token, so other code can take the free ones."""

    async def main() -> int:
        limiter = anyio.CapacityLimiter(3)
        slots = Scheduler(naps(3), jobs_window=1)
        needs = Scheduler([Job(nap, 1, needs={"c": 1}) for _ in range(3)], pool=Pool(c=1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Scheduler(slots, needs, jobs_window=limiter).co_run)
            await anyio.sleep(0.5)
            return limiter.borrowed_tokens

    assert virtual(main) == 2


def test_a_throttled_job_gives_its_token_back(virtual: Virtual) -> None:
    """A throttled job waits without a token until it is called again."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        tries = iter([True, False])

        async def ask() -> None:
            if next(tries):
                raise Throttled("api", after=5)
            await anyio.sleep(1)

        job, other = Job(ask, needs={"api": 1}, priority=1), Job(nap, 2)
        await watched(Scheduler(job, other, jobs_window=limiter, pool=Pool(api=Rate(requests=9, per=1))))
        assert (job.started_at, other.started_at) == (5, 0)

    virtual(main)


def test_nothing_starts_on_a_throttled_key_when_a_token_comes(virtual: Virtual) -> None:
    """If a rate is throttled while jobs that took of it wait for a token, they wait for the end of the throttle too."""

    async def main() -> list[float | None]:
        limiter = anyio.CapacityLimiter(1)

        async def ask(number: int) -> None:
            if number == 0 and anyio.current_time() < 2:
                await anyio.sleep(1)
                raise Throttled("api", after=5)

        jobs = [Job(ask, number, needs={"api": 1}) for number in range(3)]
        await watched(Scheduler(jobs, jobs_window=limiter, pool=Pool(api=Rate(requests=9, per=1))))
        return [job.started_at for job in jobs]

    assert virtual(main) == [6, 6, 6]


@pytest.mark.parametrize("nested", [True, False])
def test_a_rate_is_not_exceeded_when_tokens_become_free(virtual: Virtual, nested: bool) -> None:
    """Jobs that took of a rate and then waited for tokens start no faster than the rate allows."""

    async def main() -> list[float]:
        limiter = anyio.CapacityLimiter(4)
        jobs = [Job(nap, 0.125, needs={"api": 1}) for _ in range(12)]
        rate = Rate(requests=1, per=1, burst=2)
        scheduler = Scheduler(jobs, [Scheduler(naps(1))] if nested else [], jobs_window=limiter, pool=Pool(api=rate))
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                limiter.acquire_on_behalf_of_nowait(number)
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(20)
            for number in range(4):
                limiter.release_on_behalf_of(number)
        return [job.started_at or 0.0 for job in jobs]

    found = virtual(main)
    for first, begin in enumerate(found):
        for number, when in enumerate(found[first:], 1):
            assert number <= 2 + (when - begin) + 1e-6
    assert max(found) == 30


def test_a_job_cancelled_while_it_waits_for_a_token_gives_its_share_of_a_rate_back(virtual: Virtual) -> None:
    """If a job is cancelled while it waits for a token, the next job gets its share of the rate at once."""

    async def main() -> list[float | None]:
        jobs = [Job(nap, 2), *(Job(nap, 1, needs={"api": 1}) for _ in range(2))]
        limiter, rate = anyio.CapacityLimiter(1), Rate(requests=1, per=60)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Scheduler(jobs, jobs_window=limiter, pool=Pool(api=rate)).co_run)
            await anyio.sleep(1)
            jobs[1].cancel()
        return [job.started_at for job in jobs]

    assert virtual(main) == [0, None, 2]


def test_a_rate_has_the_rest_of_its_burst_for_others_while_a_job_waits_for_a_token(virtual: Virtual) -> None:
    """A job that waits for a token has only its own share of a rate: others start on the rest of the burst."""

    async def main() -> list[float | None]:
        jobs = [Job(nap, 3, needs={"api": 1}) for _ in range(3)]
        limited = Scheduler(Job(nap, 3), jobs[0], jobs_window=anyio.CapacityLimiter(1))
        later = Job(nap, 1)
        for job in jobs[1:]:
            job.requires(later)
        pool = Pool(api=Rate(requests=1, per=1, burst=2))
        assert await Scheduler(limited, later, jobs[1:], pool=pool).co_run()
        return [job.started_at for job in jobs]

    assert virtual(main) == [3, 1, 2]


def test_jobs_added_with_and_without_needs_get_tokens_in_order(virtual: Virtual) -> None:
    """Jobs added during the run get tokens in the order added, whether or not they have needs."""

    async def main() -> list[float | None]:
        async with Scheduler(jobs_window=anyio.CapacityLimiter(1), pool=Pool(cpu=1)) as scheduler:
            needs: list[Any] = [{"cpu": 1}, None, {"cpu": 1}, None]
            jobs = [scheduler.add(Job(nap, 1, needs=need)) for need in needs]
        return [job.started_at for job in jobs]

    assert virtual(main) == [0, 1, 2, 3]


def test_a_rate_is_not_exceeded_after_a_job_has_changed_its_worker(virtual: Virtual) -> None:
    """A rate holds even if the next token goes to a job with `own_task`, which the waiting worker cannot run."""

    async def main() -> list[float | None]:
        low = Job(nap, 0.25, needs={"api": 1})
        high = Job(nap, 0.25, needs={"api": 1}, priority=1, own_task=True)
        last = [Job(nap, 0.25, needs={"api": 1}, required=low) for _ in range(2)]
        jobs = [Job(nap, 3), low, Job(nap, 3, required=low), *last]
        scheduler = Scheduler(jobs, jobs_window=anyio.CapacityLimiter(1), pool=Pool(api=Rate(requests=1, per=1)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(1)
            scheduler.add(high)
        return [job.started_at for job in (high, low, *last)]

    assert virtual(main) == [6.25, 3, 7.25, 8.25]


@pytest.mark.parametrize("late", [{"priority": 5}, {"needs": {"c": 1}, "priority": 5}, {"expected_duration": 9}])
@pytest.mark.parametrize("early", [{}, {"priority": 1}, {"needs": {"c": 1}}])
def test_a_late_job_with_a_higher_priority_gets_the_next_token(
    virtual: Virtual, early: dict[str, Any], late: dict[str, Any]
) -> None:
    """A job with a higher priority that is added while others wait for a token gets the next one."""

    async def main() -> list[str]:
        limiter = anyio.CapacityLimiter(1)
        if "expected_duration" in late:
            late.pop("priority", None)
        jobs = [Job(nap, 1, label=f"j{number}", **early) for number in range(4)]
        scheduler = Scheduler(jobs, jobs_window=limiter, pool=Pool(c=4))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(later, 0.5, lambda: scheduler.add(Job(nap, 1, label="late", **late)))
            watch = await watched(scheduler)
        assert (limiter.borrowed_tokens, watch.most) == (0, 1)
        return watch.order

    found = virtual(main)
    if late.get("priority", 0) > early.get("priority", 0):
        assert found == ["j0", "late", "j1", "j2", "j3"]
    assert [name for name in found if name != "late"] == ["j0", "j1", "j2", "j3"]


@pytest.mark.parametrize("window", [2, None])
def test_a_job_cancelled_while_it_waits_for_a_token_frees_its_slot_and_needs(
    virtual: Virtual, window: int | None
) -> None:
    """When a job that waits for a token is cancelled, the next job gets its slot and its needs at once."""

    async def main() -> list[float | None]:
        limiter, pool = anyio.CapacityLimiter(1), Pool(c=2)
        jobs = [Job(nap, 1, needs={"c": 1}) for _ in range(4)]
        scheduler = Scheduler(jobs, jobs_window=window, pool=pool)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(later, 0.5, jobs[1].cancel)
            tasks.start_soon(later, 0.75, lambda: taken.append(pool.free["c"]))
            await watched(Scheduler(scheduler, jobs_window=limiter))
        return [job.started_at for job in jobs]

    taken: list[Any] = []
    assert virtual(main) == [0, None, 1, 2]
    assert taken == [0]


def test_a_limiter_counts_each_run_that_waits_once(virtual: Virtual) -> None:
    """The statistics of a limiter tell a server how many requests wait, whatever the number of their jobs."""
    waiting_tasks: list[int] = []

    async def count_waiting() -> None:
        limiter = anyio.CapacityLimiter(1)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(Scheduler([Job(nap, 1) for _ in range(5)], jobs_window=limiter).co_run)
            await anyio.sleep(0.5)
            waiting_tasks.append(limiter.statistics().tasks_waiting)

    virtual(count_waiting)
    assert waiting_tasks == [3]


def test_run_ends_when_the_last_job_that_waits_for_a_token_is_cancelled(virtual: Virtual) -> None:
    """A run ends when its only job, which waits for a token, is cancelled, and leaves the limiter's queue empty."""

    async def main() -> float:
        limiter = anyio.CapacityLimiter(1)
        job = Job(nap)
        async with limiter, anyio.create_task_group() as tasks:
            tasks.start_soon(later, 2, job.cancel)
            with anyio.fail_after(LIMIT):
                await Scheduler(job, jobs_window=limiter).co_run()
            assert limiter.statistics().tasks_waiting == 0
            return anyio.current_time()

    assert virtual(main) == 2


def test_jobs_with_own_task_take_tokens(virtual: Virtual) -> None:
    """Under a limiter, each job with `own_task` gets a new task and a token, and no token is lost."""

    async def main(**options: Any) -> tuple[int, float, int]:
        limiter, start = anyio.CapacityLimiter(2), anyio.current_time()
        tasks: set[int] = set()
        kept = []

        async def note() -> None:
            kept.append(task_now())
            tasks.add(id(task_now()))
            await anyio.sleep(1)

        jobs = [Job(note, own_task=number % 2 == 0) for number in range(6)]
        watch = await watched(Scheduler(jobs, jobs_window=limiter, **options))
        assert limiter.borrowed_tokens == 0
        return watch.most, anyio.current_time() - start, len(tasks)

    most, seconds, tasks = virtual(main)
    assert (most, seconds) == (2, 3)
    assert tasks >= 4
    assert virtual(functools.partial(main, own_task=True)) == (2, 3, 6)


def test_an_adaptive_window_inside_a_limiter_keeps_both_limits(virtual: Virtual) -> None:
    """An adaptive window inside a limiter and the limiter itself both hold, and all jobs run."""

    async def main() -> int:
        limiter = anyio.CapacityLimiter(3)
        scheduler = Scheduler(naps(30), jobs_window=Adaptive(1, 8))
        watch = await watched(Scheduler(scheduler, jobs_window=limiter))
        assert limiter.borrowed_tokens == 0
        return watch.most

    assert virtual(main) == 3


def test_a_thousand_jobs_start_in_the_order_added_under_a_limiter(virtual: Virtual) -> None:
    """A thousand jobs start in the order added under a limiter, although few of them wait for a token at a time."""

    async def main() -> list[str]:
        limiter = anyio.CapacityLimiter(7)
        jobs = [Job(nap, 1, label=str(number)) for number in range(1000)]
        return (await watched(Scheduler(jobs, jobs_window=limiter))).order

    assert virtual(main) == [str(number) for number in range(1000)]


# --- a scheduler that a job runs itself


def test_a_scheduler_run_by_a_body_with_the_limiter_of_its_job_is_rejected(virtual: Virtual) -> None:
    """A body may not run a scheduler with its job's limiter, whose token the job holds: the error advises nesting."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        inner = Scheduler(naps(1), jobs_window=limiter, label="inner")
        job = Job(inner.co_run, label="job")
        scheduler = Scheduler(job, jobs_window=limiter, label="outer")
        assert not await scheduler.co_run()
        error = job.raised_exception()
        assert isinstance(error, RuntimeError)
        assert re.search(r"'inner'.*by the body of 'job'.*nest it: add 'inner' to 'outer'", str(error))
        assert inner.stop_reason is None
        inner.jobs_window = anyio.CapacityLimiter(1)
        assert await scheduler.co_run(check=True)

    virtual(main)


def test_a_scheduler_nested_in_one_run_by_a_body_fails_with_its_jobs_limiter(virtual: Virtual) -> None:
    """A scheduler that a body runs indirectly, with the limiter of the body's job, fails instead of waiting forever."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        inner = Scheduler(naps(1), jobs_window=limiter, label="inner")
        between = Scheduler(inner, label="between")
        with anyio.fail_after(LIMIT):
            assert await Scheduler(Job(between.co_run, label="job"), jobs_window=limiter, label="outer").co_run()
        with pytest.raises(RuntimeError, match=r"'inner'.*'job'.*nest it"):
            inner.result()

    virtual(main)


def test_a_scheduler_run_by_a_body_without_a_token_may_have_its_limiter(virtual: Virtual) -> None:
    """A body whose job holds no token, such as a forever job's, may run a scheduler with the limiter around the job."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        inner = Scheduler(naps(1), jobs_window=limiter)
        job = Job(inner.co_run, forever=True)
        assert await Scheduler(job, jobs_window=limiter).co_run(check=True)
        nested = Scheduler(Job(inner.co_run), jobs_window=anyio.CapacityLimiter(1))
        assert await Scheduler(nested, jobs_window=limiter).co_run(check=True)

    virtual(main)
