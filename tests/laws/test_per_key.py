"""What limits by key do, which needs are rejected, and what is said of them."""

import gc
import io
import math
import re
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    Budget,
    BudgetSpent,
    Job,
    PerKey,
    Pool,
    Rate,
    Scheduler,
    StopReason,
    Throttled,
    current_job,
)
from trioflow._core.admission import _admission, _pools
from trioflow._core.admission._pools import resource_views
from trioflow.abc import WaitCause, Waiting, waiting
from trioflow.view.text._verdict import run_verdict
from ..bodies import (
    BLOCKED,
    FAILED,
    SUCCEEDED,
    fail,
    fail_now,
    later,
    nap,
    noted,
    running,
    serve,
    timed,
)
from ..conftest import Virtual


async def wait(seconds: float = 1) -> None:
    await nap(seconds)


def on(key: str, seconds: float = 1, **options: Any) -> Job[None]:
    return Job(
        wait, seconds, needs={"host": key, **options.pop("needs", {})}, **options
    )


def starts(
    virtual: Virtual, jobs: list[Job[None]], pool: Pool, **options: Any
) -> list[float | None]:
    virtual(Scheduler(*jobs, pool=pool, **options).co_run)
    return [job.started_at for job in jobs]


def test_what_each_limit_does(virtual: Virtual) -> None:
    """A number, a gap and a rate hold for each key alone."""
    for limit, expected in [
        (PerKey(2), [0, 0, 1, 0, 0]),
        (PerKey(1, gap=2), [0, 3, 6, 0, 3]),
        (PerKey(Rate(requests=1, per=10)), [0, 10, 20, 0, 10]),
        (PerKey(Rate(calls=2, per=10, burst=2)), [0, 0, 5, 0, 0]),
    ]:
        assert (
            starts(virtual, [on(key) for key in "aaabb"], Pool(host=limit)) == expected
        )


@pytest.mark.parametrize("limit", [PerKey(Rate(requests=1, per=10)), PerKey(1, gap=10)])
def test_a_job_that_does_not_start_puts_back_what_it_took_of_a_key(
    virtual: Virtual, limit: PerKey
) -> None:
    """The next job of the key waits for no rate and gap, if the first was cancelled while it waited for a token."""
    first, second = on("a"), on("a")
    jobs, pool = [Job(wait, 8), first, second], Pool(host=limit)

    async def main() -> None:
        async with running(
            Scheduler(*jobs, pool=pool, jobs_window=anyio.CapacityLimiter(1)), 5
        ):
            first.cancel()

    virtual(main)
    assert [job.started_at for job in jobs] == [0, None, 8]


def test_what_waits_for_an_amount_of_a_job_that_has_not_started_says_so(
    virtual: Virtual,
) -> None:
    pool = Pool(api=Rate(requests=1, per=10))
    last = Job(nap, 1, needs={"api": 1}, label="last")
    scheduler = Scheduler(
        Job(nap, 5),
        Job(nap, 1, needs={"api": 1}),
        last,
        pool=pool,
        jobs_window=anyio.CapacityLimiter(1),
    )

    async def main() -> str:
        async with running(scheduler, 1):
            return scheduler.explain(last)

    assert (
        virtual(main)
        == "'last' waits for api: reserved for jobs that are about to start"
    )


def test_runs_that_come_to_share_a_pool_wake_what_time_frees(virtual: Virtual) -> None:
    """A job that waits for the gap of a key starts in time, although its run comes to share a pool meanwhile."""
    shares = Job(nap, 0, needs={"cpu": 1}, required=Job(nap, 2))
    inner = Scheduler(
        on("a"), on("a"), shares.required, shares, pool=Pool(host=PerKey(1, gap=4))
    )
    assert virtual(
        timed, Scheduler(Job(nap, 1, needs={"cpu": 1}), inner, pool=Pool(cpu=1))
    ) == (True, 6)


def test_a_cancelled_job_waits_for_no_key(virtual: Virtual) -> None:
    cancelled = on("a")
    left: list[int] = []

    async def cancel() -> None:
        queue: Any = trioflow.current_scheduler()._run.line
        await nap(1)
        left.append(len(queue.places.groups_by_needs))
        cancelled.cancel()
        left.append(len(queue.places.groups_by_needs))

    assert starts(
        virtual, [on("a", 5), cancelled, Job(cancel)], Pool(host=PerKey(1))
    ) == [0, None, 0]
    assert left == [1, 0]


def test_a_key_may_have_a_limit_of_its_own(virtual: Virtual) -> None:
    """`sizes=` has the limits of the keys that differ, of numbers and of rates; views show each key's own."""
    rate = PerKey(
        Rate(requests=2, per=1, burst=1),
        sizes={"slow": Rate(requests=1, per=1, burst=1)},
    )
    starts: dict[str, list[list[float]]] = {}
    for limit in (PerKey(2, sizes={"slow": 1}), rate):
        pool = Pool(host=limit)
        jobs = {
            key: [Job(wait, needs={"host": key}) for _ in range(3)]
            for key in ("slow", "other")
        }
        assert virtual(Scheduler(*jobs.values(), pool=pool).co_run)
        for key, members in jobs.items():
            starts.setdefault(key, []).append(
                [float(job.started_at or 0) for job in members]
            )
    assert starts == {"slow": [[0, 1, 2], [0, 1, 2]], "other": [[0, 0, 1], [0, 0.5, 1]]}
    (view,) = resource_views(Pool(host=PerKey(2, sizes={"slow": 1})))
    assert (view.key_total("slow"), view.key_total("other")) == (1, 2)


def test_keys_of_a_job_start_in_order_and_hold_back_none(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long line before one key delays no other key; within the line, jobs start in the order of the policy."""
    jobs = [*[on("a") for _ in range(100)], on("a", priority=1), on("b")]
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 0)
    begun = starts(virtual, jobs, Pool(host=PerKey(1)))
    assert begun == [*range(1, 101), 0, 0]


def test_members_of_a_scheduler_with_a_key_have_that_key(virtual: Virtual) -> None:
    inner = [on("a"), on("a")]
    outer = Scheduler(*inner, needs={"host": "a"})
    after = on("a")
    assert virtual(Scheduler(outer, after, pool=Pool(host=PerKey(1))).co_run)
    assert [job.started_at for job in (*inner, after)] == [0, 1, 2]
    other = Scheduler(
        Scheduler(on("b"), needs={"host": "a"}), pool=Pool(host=PerKey(1))
    )
    with pytest.raises(ValueError, match="only the key 'a'"):
        virtual(other.co_run)
    rated = Scheduler(on("b"), needs={"host": "a"})
    assert virtual(
        Scheduler(rated, pool=Pool(host=PerKey(Rate(requests=1, per=1)))).co_run
    )


@pytest.mark.parametrize(
    ("needs", "text"),
    [
        ({"host": 2}, "'x' needs host=2, which is a PerKey: give the key, a string"),
        ({"ram": "a.org"}, "'x' needs ram='a.org': write a number and a unit"),
        ({"api": "a.org"}, "'x' needs api='a.org': write a number and a unit"),
        (
            {"host": "a", "user": "b"},
            "'x' needs keys of host and user: a job can need one PerKey",
        ),
        (
            {"host": "s"},
            "'x' needs host='s', but services reserve 1 of 1 until the run ends",
        ),
    ],
)
def test_wrong_needs_are_rejected_before_the_run(
    virtual: Virtual, needs: dict[str, Any], text: str
) -> None:
    pool = Pool(
        host=PerKey(1), user=PerKey(1), ram="2 GiB", api=Rate(requests=1, per=1)
    )
    forever = Job(nap, 100, needs={"host": "s"}, forever=True)
    service = trioflow.Service(serve, needs={"host": "s"})
    with pytest.raises(ValueError, match=re.escape(text)):
        virtual(
            Scheduler(
                Job(nap, 1, label="x", needs=needs), service, forever, pool=pool
            ).co_run
        )


@pytest.mark.parametrize("value", [None, b"a.org", math.nan, ["a.org"], -1, True])
def test_what_is_neither_an_amount_nor_a_key_is_rejected(value: Any) -> None:
    """The error says that a key is text: for what may be a missing host, it once spoke of numbers only."""
    with pytest.raises((TypeError, ValueError)) as caught:
        Job(nap, 1, label="x", needs={"host": value})
    assert str(caught.value).startswith(
        f"needs={{'host': {value!r}}} of 'x': give a finite number, 0 or more, "
    )
    assert "the key of a PerKey as text" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (((0,), {}), "whole number, 1 or more"),
        ((("2",), {}), "whole number, 1 or more"),
        ((((Rate(a=1, b=1, per=1)),), {}), "a job takes 1 request"),
        ((((Rate(a=0.5, per=1)),), {}), "a job takes 1 request"),
        ((((Rate(a=1, per=1)),), {"gap": 1}), "a Rate has no gap"),
        (((1,), {"gap": -1}), "finite number of seconds, 0 or more"),
        (((1,), {"gap": "1"}), "finite number of seconds, 0 or more"),
        (((1,), {"sizes": {"a": 0}}), "sizes=.* whole number, 1 or more"),
        (
            ((1,), {"sizes": {"a": Rate(requests=1, per=1)}}),
            "give a limit of the kind of 1",
        ),
        (
            ((Rate(requests=1, per=1),), {"sizes": {"a": 2}}),
            "give a limit of the kind of Rate",
        ),
    ],
)
def test_wrong_limits_are_rejected(arguments: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        PerKey(*arguments[0], **arguments[1])


def test_unused_keys_take_no_memory(virtual: Virtual) -> None:
    """After many keys, few are left, whatever the limit; the keys of a rate go when they are full again."""
    for limit in (PerKey(1), PerKey(1, gap=2), PerKey(Rate(requests=1, per=1))):
        pool = Pool(host=limit)
        jobs = [on(str(number)) for number in range(200)]
        assert starts(virtual, jobs, pool, jobs_window=10) == [
            number // 10 for number in range(200)
        ]
        gc.collect()
        assert len(pool.free["host"]) <= 128, limit


def test_texts_name_the_key(virtual: Virtual) -> None:
    """`explain`, `Pool.free`, `granted` and `repr` show keys; a job knows its needs as they were given."""
    pool = Pool(host=PerKey(1, gap=2))
    texts: list[Any] = []

    async def look() -> None:
        scheduler = last.scheduler
        assert scheduler is not None
        texts.append((scheduler.explain(last), waiting(last)))
        await nap(2)
        texts.append(
            (scheduler.explain(last), waiting(last), pool.free, pool.total, repr(pool))
        )

    async def name() -> None:
        await nap(1)
        texts.append(current_job().granted)

    last = on("a.org", label="last")
    virtual(
        Scheduler(
            Job(name, needs={"host": "a.org"}, label="first"),
            Job(look),
            last,
            pool=pool,
        ).co_run
    )
    assert texts == [
        (
            "'last' waits for host 'a.org': 1 of 1 taken by 'first'",
            Waiting(
                WaitCause.RESOURCE, "host", "host 'a.org': 1 of 1 taken by 'first'"
            ),
        ),
        {"host": "a.org"},
        (
            "'last' waits for host 'a.org': gap, 1 s left",
            Waiting(WaitCause.RATE, "host", "host 'a.org': gap, 1 s left"),
            {"host": {"a.org": 0}},
            {"host": 1},
            "<Pool host=1 for each key, 1 in use>",
        ),
    ]
    assert last.needs == {"host": "a.org"}
    assert repr(PerKey(1, gap=2)) == "PerKey(1, gap=2.0)"


@pytest.mark.parametrize("ends", ["the run", "the job"])
def test_a_job_that_waits_for_time_alone_starts_after_one_of_another_run_has_left(
    virtual: Virtual, ends: str
) -> None:
    """The timer of a run that leaves is no obstacle: the next one that is due has a timer of its own."""
    pool = Pool(host=PerKey(1, gap=10))
    leaving, staying = (
        [on(key, seconds), on(key)] for key, seconds in (("a", 1), ("b", 2))
    )
    runs = [Scheduler(*jobs, pool=pool) for jobs in (leaving, staying)]

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for run in runs:
                group.start_soon(run.co_run)
            await nap(5)
            (runs[0] if ends == "the run" else leaving[1]).cancel()

    virtual(main)
    assert [job.started_at for job in (*leaving, *staying)] == [0, None, 0, 12]


@pytest.mark.parametrize(
    "limit", [PerKey(1), PerKey(Rate(requests=9, per=1))], ids=["amount", "rate"]
)
def test_a_throttled_key_stays_closed_although_no_job_refers_to_it(
    virtual: Virtual, limit: PerKey
) -> None:
    async def add() -> None:
        await nap(2)
        gc.collect()
        trioflow.current_scheduler().add(late)

    late = on("a")
    once = Job(
        fail_now(Throttled("host", after=10)), needs={"host": "a"}
    )  # a coroutine object, which cannot run again
    assert starts(virtual, [once, Job(add)], Pool(host=limit)) == [0, 0]
    assert late.started_at == 10


def test_a_job_that_shares_only_a_key_with_another_counts_as_overtaking_it(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What passes a job on its key counts as overtaking it, although the next of its kind needs another key."""
    holds, waits = Job(wait, 9, needs={"cpu": 1}), on("a", needs={"cpu": 2})
    passing = [on("a"), on("b"), on("a")]
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 1)
    begun = starts(virtual, [holds, waits, *passing], Pool(host=PerKey(1), cpu=2))
    assert begun == [0, 9, 0, 0, 10]


def test_a_job_that_is_cancelled_while_its_key_is_free_wakes_those_behind_it(
    virtual: Virtual,
) -> None:
    jobs = [Job(nap, 1, needs={"host": "a"}), Job(nap, 9, needs={"cpu": 1})]
    second, third = (Job(nap, needs={"host": "a", "cpu": 1}) for _ in range(2))
    cancels = Job(later, 3, second.cancel)
    assert virtual(
        Scheduler(
            *jobs, second, third, cancels, pool=Pool(cpu=1, host=PerKey(1))
        ).co_run
    )
    assert (second.state, third.started_at) == (trioflow.JobState.CANCELLED, 9)


@pytest.mark.parametrize("limit", [PerKey(1, gap=50), PerKey(Rate(requests=1, per=50))])
@pytest.mark.parametrize("clocks", [(0, 100), (100, 0)])
def test_a_key_waits_as_long_in_another_loop(
    virtual: Virtual, clocks: tuple[int, int], limit: PerKey
) -> None:
    """What is left of its gap, or of its rate, is the same on the clock of the loop that uses the pool next."""
    pool = Pool(host=limit)

    async def start(clock: int, job: Job[None]) -> float:
        await anyio.sleep(clock)
        began = anyio.current_time()
        assert await Scheduler(job, pool=pool).co_run()
        assert job.started_at is not None
        return job.started_at - began

    assert virtual(start, clocks[0], on("a", 0)) == 0
    assert 0 < virtual(start, clocks[1], on("a", 0)) <= 50


def test_a_pool_keeps_the_clock_of_the_loop_until_its_last_user_has_left(
    virtual: Virtual,
) -> None:
    pool = Pool(api=Rate(requests=1, per=1000, burst=1))
    takes, looks = (
        Job(wait, 1, needs={"api": 1}),
        Job(later, 501, lambda: pool.free["api"]),
    )

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for job in (takes, looks):
                tasks.start_soon(Scheduler(job, pool=pool).co_run)

    virtual(main)
    assert looks.result() == {"requests": pytest.approx(0.501)}


def test_a_job_that_waits_for_a_token_keeps_no_other_from_its_key(
    virtual: Virtual,
) -> None:
    """What accrues of a key is for the next job at once, so that this one asks before a job of another group does."""
    order: list[str] = []

    async def main() -> None:
        pool = Pool(host=PerKey(Rate(requests=2, per=10, burst=2)))
        async with Scheduler(
            jobs_window=anyio.CapacityLimiter(2), pool=pool
        ) as scheduler:
            scheduler.add([on("a", 30), on("a", 40)])
            scheduler.add(
                [
                    Job(noted, order, name, needs={"host": "a"})
                    for name in ("at 5 s", "at 10 s")
                ]
            )
            await anyio.sleep(15)
            scheduler.add(Scheduler(Job(noted, order, "later")))

    virtual(main)
    assert order == ["at 5 s", "at 10 s", "later"]


@pytest.mark.parametrize("seconds", [(20, 5), (5, 20), (20, 20)])
@pytest.mark.parametrize(
    "limit",
    [
        1,
        PerKey(2),
        PerKey(2, gap=1),
        PerKey(Rate(requests=9, per=1)),
        Rate(requests=9, per=1),
    ],
)
def test_of_two_throttles_of_a_key_longer_counts(
    virtual: Virtual, limit: Any, seconds: tuple[float, float]
) -> None:
    """In whatever order they come; nothing starts on the key before, and nothing waits for longer."""
    starts: list[float] = []
    is_per_key = isinstance(limit, PerKey)
    needs = {"api": "a" if is_per_key else 0.5 if limit == 1 else 1}

    async def ask(number: int) -> None:
        starts.append(anyio.current_time())
        if len(starts) > 2:
            return
        await nap(0.5 + number / 4)
        raise Throttled("api", after=seconds[number])

    jobs = [Job(ask, number, needs=needs) for number in range(2)]
    before = Job(nap, 3)
    scheduler = Scheduler(
        *jobs,
        before,
        Job(ask, 2, needs=needs, required=before),
        pool=Pool(api=2 * limit if limit == 1 else limit),
    )
    assert virtual(scheduler.co_run)
    end = max(0.5 + seconds[0], 0.75 + seconds[1])
    assert [start >= end for start in starts] == [False, False, True, True, True]
    assert starts[2] == pytest.approx(end)


def test_no_gap_follows_jobs_that_give_their_key_back_together_before_they_started(
    virtual: Virtual,
) -> None:
    """What they require is tried again while they wait for tokens: after the last of them alone, there was no gap."""
    started: list[float] = []

    async def use() -> None:
        started.append(anyio.current_time())

    async def main() -> None:
        first = Job(nap, 0.5)
        users = [Job(use, required=first, needs={"host": "a"}) for _ in range(2)]
        scheduler = Scheduler(
            first,
            [Job(nap, 10) for _ in range(3)],
            users,
            Job(later, 3, first.try_again, forever=True),
            jobs_window=anyio.CapacityLimiter(3),
            pool=Pool(host=PerKey(2, gap=100)),
        )
        assert await scheduler.co_run()

    virtual(main)
    assert started == [10.5, 10.5]


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_keys_gap_follows_each_job_that_has_run_even_if_put_back(
    virtual: Virtual, is_cancelled: bool
) -> None:
    scheduler = Scheduler(
        pool=Pool(host=PerKey(1, gap=10)), jobs_window=anyio.CapacityLimiter(1)
    )
    steering = [nap, scheduler.pause, nap, scheduler.resume]
    first, second = on("a"), on("a")

    async def steer() -> None:
        for step in steering:
            if step is nap:
                await nap(1)
            else:
                step()
        if is_cancelled:
            first.cancel()
        await nap(3)

    async def main() -> None:
        scheduler.update([Job(steer), first, second])
        assert await scheduler.co_run()

    virtual(main)
    assert [job.started_at for job in (first, second)] == (
        [None, 5] if is_cancelled else [5, 16]
    )


@pytest.mark.parametrize("limit", [PerKey(Rate(requests=1, per=10)), PerKey(1, gap=9)])
@pytest.mark.parametrize("is_throttled", [False, True])
def test_a_key_that_nothing_waits_for_is_awaited_again(
    virtual: Virtual, limit: PerKey, is_throttled: bool
) -> None:
    """A job that comes when the only job that waited has been cancelled starts when that one would have started."""

    async def call() -> None:
        await nap(1)
        if is_throttled and current_job().attempts == 1:
            raise Throttled("host", after=9)

    needs = {"host": "a"}
    first, dropped = Job(call, needs=needs), on("a")
    late = Job(wait, needs=needs, required=(before := Job(wait, 5)))

    async def main() -> None:
        async with running(
            Scheduler(first, dropped, before, late, pool=Pool(host=limit)), 3
        ):
            for job in [first, dropped] if is_throttled else [dropped]:
                job.cancel()

    virtual(main)
    assert late.started_at == 10


@pytest.mark.parametrize(
    "limit", [PerKey(2), PerKey(2, gap=1), PerKey(1, sizes={"a": 2})]
)
def test_members_of_a_scheduler_with_a_key_take_turns_however_many_may_have_it(
    virtual: Virtual, limit: PerKey
) -> None:
    members = [on("a") for _ in range(3)]
    beside = on("a", 9)
    pool = Pool(host=limit)
    assert virtual(
        Scheduler(Scheduler(*members, needs={"host": "a"}), beside, pool=pool).co_run
    )
    assert [job.started_at for job in (*members, beside)] == [0, 1, 2, 0]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_free_key_is_for_the_job_that_lacks_nothing_else(
    virtual: Virtual, is_first: bool
) -> None:
    holds, busy = on("a"), Job(wait, 9, needs={"cpu": 1})
    lacks, fits = on("a", needs={"cpu": 1}), on("a")
    waiting_jobs = [lacks, fits] if is_first else [fits, lacks]
    assert starts(virtual, [holds, busy, *waiting_jobs], Pool(host=PerKey(1), cpu=1))[
        :2
    ] == [0, 0]
    assert (fits.started_at, lacks.started_at) == (1, 9)


@pytest.mark.parametrize(
    "limit", [PerKey(1), PerKey(1, gap=1), PerKey(Rate(requests=1, per=1))]
)
def test_a_throttled_key_stays_closed_while_others_are_used_and_forgotten(
    virtual: Virtual, limit: PerKey
) -> None:
    """The throttle outlasts the amount that the rate of the key brings, and the gap of the key."""
    before = [Job(wait, 5)]
    for number in range(6):
        before.append(on(f"{number}", required=before[-1]))
    refused, late = (
        Job(fail_now, Throttled("host", after=20), needs={"host": "a"}),
        on("a", required=before),
    )
    cancels = Job(later, 4, refused.cancel)
    virtual(Scheduler(refused, cancels, *before, late, pool=Pool(host=limit)).co_run)
    assert late.started_at == 20


def test_a_key_that_clean_up_has_taken_as_well_is_free_after_both(
    virtual: Virtual,
) -> None:
    """The gap of the first that leaves frees nothing: the clean-up job has taken the key beyond its limit."""
    failing, waits = Job(fail, 1, critical=True), on("a")
    cleaning = on("a", 9, run_if="failed", required=failing)
    group = Scheduler(failing, cleaning, cleanup_timeout=30)
    virtual(
        Scheduler(
            on("a", 3), waits, group, pool=Pool(host=PerKey(1, gap=1)), log=False
        ).co_run
    )
    assert (cleaning.started_at, waits.started_at) == (1, 11)


def test_a_key_of_which_a_job_puts_back_its_amount_is_kept_for_the_job_that_began_later(
    virtual: Virtual,
) -> None:
    async def use_none() -> None:
        await nap(40)
        current_job().used(host=0)

    async def forget() -> None:
        gc.collect()

    times = [Job(wait, seconds) for seconds in (30, 62, 70)]
    second = on("a", required=times[0])
    others = [on(key, required=times[1]) for key in "bcd"]
    forgets = Job(forget, required=times[2])
    late = [on("a", required=forgets) for _ in range(2)]
    jobs = [Job(use_none, needs={"host": "a"}), *times, second, *others, forgets, *late]
    begun = starts(virtual, jobs, Pool(host=PerKey(Rate(requests=2, per=60))))
    assert (begun[4], begun[-2:]) == (30, [70, 90])


# --- what a spent budget does to jobs, and what is said of it; `tests/model` predicts random scenarios
async def pay(used: float | None = None, seconds: float = 1) -> None:
    if used is not None:
        current_job().used(usd=used)
    await nap(seconds)


def test_what_a_spent_budget_does_to_jobs(virtual: Virtual) -> None:
    """The error names need, rest and top user; `run_if`, inputs and `critical` work as for failures."""
    pool = Pool(usd=Budget(1))
    large = Job(pay, 0.75, needs={"usd": 0.5}, label="large")
    late = Job(pay, needs={"usd": 0.5}, required=large, label="late")
    user = Job(nap, 1, late)
    alarm = Job(nap, 1, "alarm", run_if="failed", required=late)
    scheduler = Scheduler(large, late, user, alarm, pool=pool)
    assert not virtual(scheduler.co_run)
    assert (late.state, user.state, alarm.state, late.started_at) == (
        BLOCKED,
        BLOCKED,
        SUCCEEDED,
        None,
    )
    text = "'late' needs usd=0.5, but 0.25 of 1 left; 'large' used most: 0.75"
    assert str(late.raised_exception()) == text
    assert (
        scheduler.explain(late)
        == f"'late' is blocked: {text}; enlarge the Budget, or reduce the needs"
    )
    error: Any = user.raised_exception()
    assert isinstance(error.__cause__, BudgetSpent)
    critical = Job(pay, needs={"usd": 0.5}, critical=True)
    scheduler = Scheduler(critical, Job(nap, 9), pool=pool)
    with pytest.raises(ExceptionGroup) as raised:
        virtual(lambda: scheduler.co_run(check=True))
    assert [type(one) for one in raised.value.exceptions] == [BudgetSpent]
    assert (scheduler.stop_reason, scheduler.culprit) == (StopReason.CRITICAL, critical)


def test_a_job_that_cannot_be_tried_again_says_why_it_failed(virtual: Virtual) -> None:
    job = Job(fail, 0, needs={"usd": 1}, retry=2, label="job")
    assert not virtual(Scheduler(job, pool=Pool(usd=Budget(1))).co_run)
    error = job.raised_exception()
    assert (job.state, type(error)) == (BLOCKED, BudgetSpent)
    assert str(error).endswith(
        "; 'job' used most: 1; attempt 1 failed: OSError: broken"
    )


def test_a_success_that_was_taken_back_is_no_failed_attempt(virtual: Virtual) -> None:
    def refuse_result(job: Any) -> None:
        if job.is_succeeded():
            job.try_again()

    job = Job(nap, 1, needs={"usd": 1}, label="job")
    pool = Pool(usd=Budget(1))
    virtual(Scheduler(job, pool=pool, on_job_settled=refuse_result).co_run)
    text = "'job' needs usd=1, but 0 of 1 left; 'job' used most: 1"
    assert str(job.raised_exception()) == text


@pytest.mark.parametrize("number", [1, 2])
def test_attempts_of_one_job_are_one_user_of_a_budget(
    virtual: Virtual, number: int
) -> None:
    """The error of a spent budget counts jobs, however many attempts each had, and has the last failure."""

    async def call() -> None:
        await nap(1)
        raise OSError(f"broken {current_job().attempts}")

    jobs = [Job(call, needs={"usd": 1}, retry=9, label="job") for _ in range(number)]
    assert not virtual(Scheduler(*jobs, pool=Pool(usd=Budget(3 * number))).co_run)
    user = "'job'" if number == 1 else "2 jobs 'job'"
    end = f"; {user} used most: {3 * number}; attempt 3 failed: OSError: broken 3"
    assert [str(job.raised_exception()).endswith(end) for job in jobs] == [
        True
    ] * number


def test_a_job_waits_for_what_others_may_give_back(virtual: Virtual) -> None:
    """A job for which too little is left waits while running jobs could return enough, and then starts."""
    first = Job(pay, 0.1, needs={"usd": 1}, label="first")
    second = Job(pay, needs={"usd": 0.5}, label="second")
    unreported = Job(pay, needs={"usd": 0.5}, label="unreported")
    more = [
        Job(pay, needs={"usd": 0.5}) for _ in range(500)
    ]  # blocking each in the round that the last one begins
    pool = Pool(usd=Budget(1))
    assert not virtual(Scheduler(first, second, unreported, more, pool=pool).co_run)
    assert (second.started_at, {job.state for job in (unreported, *more)}) == (
        0,
        {BLOCKED},
    )
    assert repr(pool) == "<Pool usd=0.4 of 1 left>"


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_spent_budget_blocks_jobs_in_the_order_in_which_they_became_ready(
    virtual: Virtual, is_nested: bool
) -> None:
    """Whatever each of them needs, and in whichever group it is; so their failures stand in the error."""
    spends = Job(pay, 9, needs={"usd": 9})
    late = [
        Job(pay, needs={"usd": 1 + number % 2}, label=f"{number}")
        for number in range(4)
    ]
    # The member of a group is ready when the group has begun.
    jobs = [spends, late[0], Scheduler(late[1]) if is_nested else late[1], *late[2:]]
    with pytest.raises(ExceptionGroup) as raised:
        virtual(lambda: Scheduler(*jobs, pool=Pool(usd=Budget(9))).co_run(check=True))
    labels = [
        error.job.label
        for error in raised.value.exceptions
        if isinstance(error, BudgetSpent)
    ]
    assert labels == (["0", "2", "3", "1"] if is_nested else ["0", "1", "2", "3"])


def test_the_use_of_few_labels_is_counted(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When twice as many labels are counted as are kept, the smallest are dropped, however many labels there are."""
    monkeypatch.setattr(_pools, "MAX_COUNTED_LABELS", 2)
    pool = Pool(usd=Budget(100))
    jobs = [
        Job(pay, needs={"usd": 1 + number}, label=str(number)) for number in range(9)
    ]
    assert virtual(Scheduler(*jobs, pool=pool, jobs_window=1).co_run)
    resource: Any = pool._resources["usd"]
    assert sorted(resource._used_by_label) == ["6", "7", "8"]
    assert resource.top_user() == "'8' used most: 9"


def test_an_estimate_that_was_too_low_is_logged_once(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """A job may use more than is left; this is logged once, and nothing more starts."""
    jobs = [Job(pay, 3, needs={"usd": 1}) for _ in range(4)]
    pool = Pool(usd=Budget(4))
    assert not virtual(Scheduler(*jobs, pool=pool, jobs_window=2).co_run)
    assert [job.state for job in jobs] == [SUCCEEDED, SUCCEEDED, BLOCKED, BLOCKED]
    assert pool.free["usd"] == -2
    assert [
        record.message for record in caplog.records if "exceeded" in record.message
    ] == [
        "the budget usd of 4 is exceeded by 2, because a job has used more than it needs; no further job starts"
    ]


def test_a_scheduler_with_a_budget_returns_the_rest(virtual: Virtual) -> None:
    """A nested scheduler is the budget of its members, and has used what they have, also if none needs any of it."""
    members = [Job(pay, 0.25, needs={"usd": 0.5}) for _ in range(3)]
    group = Scheduler(*members, needs={"usd": 1})
    pool = Pool(usd=Budget(2))
    assert virtual(Scheduler(group, pool=pool).co_run)
    assert [job.state for job in members] == [SUCCEEDED] * 3
    assert (group.state, pool.free["usd"]) == (SUCCEEDED, 1.25)
    for member in (
        [Job(nap, 1)],
        [Scheduler(Job(nap, 1))],
        [Job(pay, needs={"usd": 1}, run_if="failed")],
        [],
    ):
        assert virtual(
            Scheduler(Scheduler(*member, needs={"usd": 1}), pool=pool).co_run
        )
        assert pool.free["usd"] == 1.25


@pytest.mark.parametrize(
    ("amount", "error"),
    [(0, ValueError), (-1, ValueError), ("much", ValueError), (None, TypeError)],
)
def test_a_bad_budget_is_rejected(amount: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="Budget"):
        Budget(amount)


def test_a_need_above_the_budget_is_rejected_and_only_a_budget_can_be_used() -> None:
    with pytest.raises(ValueError, match="'x' needs usd=2, but the total is only 1"):
        Scheduler(Job(pay, needs={"usd": 2}, label="x"), pool=Pool(usd=Budget(1))).run()
    job = Job(pay, None, 0, needs={"cpu": 1})
    job_with_wrong_use = Job(pay, 1, 0, needs={"cpu": 1})
    Scheduler(job, job_with_wrong_use, pool=Pool(cpu=1)).run()
    assert job_with_wrong_use.state is FAILED


def test_jobs_that_a_spent_budget_blocks_are_failures(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """`failures()`, `check=True` and the log report jobs that a budget has blocked, but not those that require them."""
    jobs = [Job(pay, needs={"usd": 1}, label=f"call {number}") for number in range(4)]
    user = Job(nap, 1, jobs[3], label="user")
    scheduler = Scheduler(
        Scheduler(*jobs, user, label="calls"), pool=Pool(usd=Budget(2))
    )
    with pytest.raises(ExceptionGroup) as raised:
        virtual(lambda: scheduler.co_run(check=True))
    assert user.state is BLOCKED
    assert scheduler.stop_reason is StopReason.FAILED
    assert [getattr(error, "job", None) for error in raised.value.exceptions] == jobs[
        2:
    ]
    assert [type(error) for error in raised.value.exceptions] == [BudgetSpent] * 2
    assert list(scheduler.failures()) == jobs[2:]
    assert caplog.messages == [
        "'calls/call 2' did not run: BudgetSpent: 'call 2' needs usd=1, but 0 of 2 left; 'call 0' used most: 1; "
        "the run goes on (enlarge the Budget, or reduce the needs)",
        "one more job did not run with BudgetSpent like 'calls/call 2': 'calls/call 3'",
        "the budget usd is spent, so 3 of 5 jobs of 'Scheduler' did not run; the run has failed; debrief() shows the "
        "tracebacks",
    ]


def test_dropped_jobs_that_a_budget_blocked_are_counted(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as raised:
            async with Scheduler(
                pool=Pool(usd=Budget(2)), keep_jobs=False, label="calls"
            ) as calls:
                calls.map(pay, [None] * 4, needs={"usd": 1})
        assert [type(error) for error in raised.value.exceptions] == [BudgetSpent] * 2

    virtual(main)
    assert (
        caplog.messages[-1]
        == "the budget usd is spent, so 2 jobs of 'calls' did not run; the run has failed"
    )


def test_a_first_without_money_lacks_the_budget(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """If a budget is spent for each job of a `First`, it fails with a `BudgetSpent`, not with a group of them. The log
    has one line for all jobs, whatever they would have done, and the end of the run says what it means."""
    calls = [
        trioflow.First(
            *(Job(pay, 1, needs={"usd": 1}, label=name) for name in ("ask", "hedge")),
            stagger=9,
        )
        for _ in range(5)
    ]
    other = Job(nap, 1, needs={"usd": 1}).requires(calls, settled=True)
    scheduler = Scheduler(*calls, other, pool=Pool(usd=Budget(2)), jobs_window=1)
    assert not virtual(scheduler.co_run)
    assert [type(error) for error in scheduler.failures().values()] == [BudgetSpent] * 4
    assert caplog.messages == [
        "'First#3' did not run: BudgetSpent: 'ask' needs usd=1, but 0 of 2 left; 2 jobs 'ask' used most: 2; "
        "the run goes on (enlarge the Budget, or reduce the needs)",
        "3 more jobs did not run with BudgetSpent like 'First#3': 'First#4', 'First#5', 'nap(1)'",
        "the budget usd is spent, so 4 of 6 jobs of 'Scheduler' did not run; the run has failed; debrief() shows the "
        "tracebacks",
    ]


def test_all_views_count_a_group_without_money_alike(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """Some counted it as a group that failed, some not at all, and the log as a job, in place of its jobs."""
    group = Scheduler(Job(nap, 1), Job(nap, 1), needs={"usd": 2})
    tolerated = Scheduler(Job(nap, 1), needs={"usd": 2}, critical=False)
    scheduler = Scheduler(
        Job(pay, needs={"usd": 2}),
        group,
        tolerated,
        pool=Pool(usd=Budget(3)),
        label="s",
    )
    trace, shown = trioflow.Trace(), io.StringIO()
    virtual(lambda: scheduler.co_run(instruments=[trace, trioflow.Monitor(file=shown)]))
    verdict = run_verdict(scheduler, scheduler.stop_reason).sentence
    assert verdict == "1 of 4 jobs succeeded, 3 never started, 1 group failed"
    record = trace._get_record()
    assert (
        record.verdict(record.root_run, scheduler.stop_reason).sentence
        == f"{verdict}, 1.0 s"
    )
    assert f"{verdict}, 1.0 s" in shown.getvalue().splitlines()[-1]
    assert (
        "the budget usd is spent, so 2 of 4 jobs of 's' did not run, 1 more was tolerated; "
        in caplog.messages[-1]
    )


def test_failures_are_told_from_jobs_without_money(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """Jobs that failed are counted apart from those that a spent budget kept from running."""
    jobs = [
        Job(pay, 1, needs={"usd": 1}),
        Job(fail, 1),
        Job(pay, 1, needs={"usd": 1}, label="second"),
    ]
    virtual(Scheduler(*jobs, pool=Pool(usd=Budget(1)), label="calls").co_run)
    assert caplog.messages[-1].startswith(
        "1 job of 'calls' failed; the budget usd is spent, so 1 of 3 jobs of 'calls' did not run; the run has failed"
    )


def test_a_budget_that_is_exceeded_is_logged_once(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """However often jobs report more, in a later run, too; what a job has is shown while it has it."""
    shown: list[object] = []

    async def work() -> None:
        for used in (2, 3, 4):
            current_job().used(usd=used)
            shown.append(dict(current_job().granted))

    jobs = [Job(work, needs={"usd": 1}) for _ in range(2)]
    scheduler = Scheduler(jobs, pool=Pool(usd=Budget(2)))
    assert virtual(scheduler.co_run)
    assert virtual(scheduler.co_run) is False
    assert sum("is exceeded" in text for text in caplog.messages) == 1
    assert shown == [{"usd": 2}, {"usd": 3}, {"usd": 4}] * 2
    assert [job.granted for job in jobs] == [{}, {}]


def test_each_place_of_a_key_rests_for_its_own_gap(virtual: Virtual) -> None:
    """The key is known until the last gap is over, whatever happens to other keys meanwhile."""

    def job(seconds: float, key: str, after: float) -> Job[Any]:
        gate = Job(nap, after)
        gates.append(gate)
        return Job(nap, seconds, needs={"host": key}, required=gate)

    gates: list[Job[Any]] = []
    early, late = job(1, "x", 0), job(6, "x", 0)
    # At whose end keys are looked through.
    other = job(1, "y", 11)
    nexts = [job(1, "x", 13), job(1, "x", 13)]
    pool = Pool(host=PerKey(2, gap=10))
    scheduler = Scheduler(gates, early, late, other, nexts, pool=pool)
    assert virtual(scheduler.co_run)
    # The place of the first is free at 11, and the place of the other at 16.
    assert sorted(each.started_at or 0 for each in nexts) == [13, 16]


@pytest.mark.parametrize("place", ["alone", "in a group", "the group"])
def test_each_run_of_a_job_that_is_tried_again_counts_in_its_budget(
    virtual: Virtual, tmp_path: Path, place: str
) -> None:
    """Also in the next run, which restores the job and counts what it has cost."""

    async def pay() -> None:
        await anyio.sleep(1)
        current_job().used(usd=1.5)

    def build() -> tuple[Scheduler, Any]:
        pays = Job(pay, needs={"usd": 2}, label="pays")
        group: Any = pays
        if place != "alone":
            group = Scheduler(pays, label="group")
        hour = Job(nap, 3600, label="hour")
        scheduler = Scheduler(
            group, hour, pool=Pool(usd=Budget(9)), journal=tmp_path / "run.db"
        )
        return scheduler, group if place == "the group" else pays

    async def main() -> None:
        scheduler, job = build()
        async with running(scheduler, 5):
            for number in range(1, 4):
                assert scheduler.pool is not None
                assert scheduler.pool.free["usd"] == 9 - 1.5 * number
                if number < 3:
                    job.try_again()
                    await anyio.sleep(5)

    virtual(main)
    scheduler, _ = build()
    assert virtual(scheduler.co_run)
    assert scheduler.pool is not None
    assert scheduler.pool.free["usd"] == 9 - 1.5 * 3
