"""Rates of a pool: what jobs take comes again with time, and who waits for it is woken by the clock."""

import math
import random
import threading
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any
import anyio
import pytest
from trioflow import (
    Job,
    JobState,
    PerKey,
    Pool,
    Rate,
    Scheduler,
    ThreadJob,
    current_job,
)
from trioflow._core.admission import _pools
from trioflow._core.admission._rates import RateShare, SlidingWindow
from trioflow._core.words._explain import waiting
from ..bodies import at_once, later, nap, nothing, pass_time, timed, turns
from ..conftest import Virtual
from ..midway import ask_midway

# Powers of two, so that times are exact.
LIMITS = {"requests": 4, "tokens": 32}
PER = 8.0


def pool(**more: Any) -> Pool:
    """Make a pool with a rate of one request in two seconds, and of four tokens in one."""
    return Pool(api=Rate(**LIMITS, per=PER, burst=LIMITS), **more)


def starts(jobs: list[Any]) -> list[float | None]:
    return [job.started_at for job in jobs]


# ---- when jobs start
def test_a_job_starts_when_the_scarcest_key_of_its_rate_has_accrued(
    virtual: Virtual,
) -> None:
    jobs = [Job(anyio.sleep, 0, needs={"api": {"tokens": 16}}) for _ in range(4)]
    assert virtual(Scheduler(*jobs, pool=pool()).co_run)
    assert starts(jobs) == [0, 0, 4, 8]
    jobs = [Job(anyio.sleep, 0, needs={"api": {"tokens": 1}}) for _ in range(6)]
    assert virtual(Scheduler(*jobs, pool=pool()).co_run)
    assert starts(jobs) == [0, 0, 0, 0, 2, 4]


@pytest.mark.parametrize("limit", [4, 16, None])
@pytest.mark.parametrize("seconds", [0.0, 0.5, 9.0])
def test_without_a_burst_no_interval_has_more_than_allowed(
    virtual: Virtual, limit: int | None, seconds: float
) -> None:
    """A server that counts what came within `per` seconds refuses nothing, and each job starts as soon as it may. With
    "60 per minute" in the words of the provider, 119 once started in the first minute."""
    jobs = [Job(anyio.sleep, seconds, needs={"api": 1}) for _ in range(80)]
    assert virtual(
        Scheduler(
            jobs, pool=Pool(api=Rate(requests=16, per=16)), jobs_window=limit
        ).co_run
    )
    free, expected = [0.0] * (limit or 80), list[float]()
    for number in range(80):
        expected.append(
            max(free.pop(0), expected[number - 16] + 16 if number >= 16 else 0.0)
        )
        free.append(expected[-1] + seconds)
    assert sorted(job.started_at or 0.0 for job in jobs) == expected


def test_used_counts_from_the_start_in_a_window(virtual: Virtual) -> None:
    """What a job has not used comes back while its start is in the window; what it used in excess counts from then."""

    async def ask(used: int, seconds: float) -> None:
        await anyio.sleep(seconds)
        current_job().used(api=used)

    for used, seconds, second, third in (
        (2, 1.0, 1.0, 9.0),
        (2, 9.0, 8.0, 16.0),
        (16, 1.0, 9.0, 17.0),
    ):
        shared = Pool(api=Rate(tokens=8, per=8))
        first, *others = (
            Job(ask, used, seconds, needs={"api": 8}),
            *(Job(nothing, needs={"api": 6}) for _ in range(2)),
        )
        assert virtual(Scheduler(first, *others, pool=shared).co_run)
        assert starts(others) == [second, third], used


def test_burst_limits_the_amount_that_starts_at_once(virtual: Virtual) -> None:
    """`burst`, a number or a dict by key, limits what can be taken at once to less than the amount of `per` seconds."""
    for rate in (
        Rate(requests=4, per=8, burst=1),
        Rate(requests=4, tokens=32, per=8, burst={"requests": 1}),
    ):
        jobs = [Job(anyio.sleep, 0, needs={"api": 1}) for _ in range(3)]
        assert virtual(Scheduler(*jobs, pool=Pool(api=rate)).co_run)
        assert starts(jobs) == [0, 2, 4]


def test_a_rate_keeps_its_level_for_the_next_run(virtual: Virtual) -> None:
    """A second run, in the same loop or another one, does not find the burst of a rate full again."""
    shared = pool()

    async def twice() -> list[float | None]:
        first, second = (
            Job(anyio.sleep, 0, needs={"api": {"tokens": 32}}) for _ in range(2)
        )
        assert await Scheduler(first, pool=shared).co_run()
        await anyio.sleep(3)
        assert await Scheduler(second, pool=shared).co_run()
        return starts([first, second])

    assert virtual(twice) == [0, 8]
    third = Job(anyio.sleep, 0, needs={"api": {"tokens": 32}})
    assert 0 <= shared.free["api"]["tokens"] < 32
    assert virtual(Scheduler(third, pool=shared).co_run)
    assert third.started_at is not None
    assert 4 < third.started_at <= 8


def test_a_change_of_the_policy_leaves_no_timer_behind(virtual: Virtual) -> None:
    first, second = (Job(nothing, needs={"api": 4}) for _ in range(2))
    scheduler = Scheduler(first, second, pool=pool())

    def add() -> None:
        added = scheduler.add(Job(nothing, needs={"api": 1}, expected_duration=1))
        second.cancel()
        added.cancel()

    scheduler.add(Job(later, 1, add))
    assert virtual(timed, scheduler) == (True, 1)


# ---- what was used
@pytest.mark.parametrize(
    ("tokens", "second"), [(32, 8), (16, 4), (8, 2), (0, 0), (40, 10)]
)
def test_used_corrects_the_amount_of_a_rate_in_both_directions(
    virtual: Virtual, tokens: int, second: float
) -> None:
    async def ask() -> None:
        current_job().used(api={"tokens": 1})
        current_job().used(api={"tokens": tokens})
        assert current_job().granted["api"] == {"requests": 1, "tokens": tokens}

    first = Job(ask, needs={"api": {"tokens": 16}})
    after = Job(anyio.sleep, 0, needs={"api": {"tokens": 32}})
    assert virtual(Scheduler(first, after, pool=pool()).co_run)
    assert after.started_at == second


def test_a_scheduler_takes_from_a_rate_once_in_each_attempt(virtual: Virtual) -> None:
    """At its start, and not for its members; its second attempt takes anew, as any start does."""
    starts_of_members: list[float] = []

    async def fail_twice() -> None:
        starts_of_members.append(anyio.current_time())
        if len(starts_of_members) < 3:
            raise OSError

    members = [Job(nothing), Job(nothing), Job(fail_twice)]
    group = Scheduler(members, needs={"api": 1}, retry=2, log=False)
    limits = Pool(api=Rate(requests=2, per=60))
    assert virtual(Scheduler(group, pool=limits).co_run)
    assert starts_of_members == [0, 0, 60]


def test_used_may_be_called_from_a_thread(backend: str) -> None:
    def ask() -> int:
        current_job().used(api={"tokens": 30})
        return threading.get_ident()

    shared = Pool(api=Rate(requests=4, tokens=32, per=1e6))
    job = ThreadJob(ask, needs={"api": {"tokens": 16}})
    assert Scheduler(job, pool=shared).run(backend=backend)  # type: ignore[arg-type]
    assert job.result() != threading.get_ident()
    assert shared.free["api"]["tokens"] == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    ("amounts", "error", "message"),
    [
        (
            {"apy": 1},
            ValueError,
            r"used\(apy=1\) of 'x': the job has no such need; did you mean 'api'\?",
        ),
        ({"cpu": 1}, ValueError, r"used\(cpu=1\) of 'x': it is not a Rate"),
        (
            {"api": {"token": 1}},
            ValueError,
            r"has no key 'token': did you mean tokens\?",
        ),
        (
            {"api": {"tokens": 1e300}},
            ValueError,
            r"this amount of tokens takes more than a year to accrue; it is ignored",
        ),
        (
            {"api": {"tokens": 10**300}},
            ValueError,
            r"this amount of tokens takes more than a year",
        ),
        (
            {"api": {"tokens": 366 * 86_400 * 4 + 1}},
            ValueError,
            r"this amount of tokens takes more than a year",
        ),
        ({"api": {"tokens": -1}}, ValueError, r"give a finite number, 0 or more"),
        ({"api": {"tokens": math.nan}}, ValueError, r"give a finite number, 0 or more"),
        ({"api": {"tokens": True}}, TypeError, r"give a finite number, 0 or more"),
        ({"api": None}, TypeError, r"give a finite number, 0 or more"),
    ],
)
def test_used_rejects_invalid_amounts(
    virtual: Virtual, amounts: Any, error: type[Exception], message: str
) -> None:
    async def ask() -> None:
        with pytest.raises(error, match=message):
            current_job().used(
                api={"tokens": 30}, **amounts
            ) if "api" not in amounts else current_job().used(**amounts)
        assert current_job().granted["api"] == {"requests": 1, "tokens": 16}
        current_job().used(
            api={"tokens": 366 * 86_400 * 4}, rare=1
        )  # exactly a year, and not more than the burst

    job = Job(ask, label="x", needs={"api": {"tokens": 16}, "cpu": 1, "rare": 1})
    with pytest.raises(
        RuntimeError, match=r"used\(\) of 'x': it is idle; call it while the job runs"
    ):
        job.used(api=1)
    assert virtual(
        Scheduler(job, pool=pool(cpu=1, rare=Rate(requests=1, per=1e8))).co_run
    )
    job.result()


# ---- in words, and bad input
@pytest.mark.parametrize(
    ("needs", "after", "said"),
    [
        (
            [{"tokens": 32, "requests": 4}, {"tokens": 16}],
            1,
            ["1 request and 16 tokens, in about 3 s"],
        ),
        (
            [{"tokens": 32, "requests": 4}, {"requests": 4}],
            1,
            ["4 requests, in about 7 s"],
        ),
        (
            [{"tokens": 24}] * 3,
            0,
            ["24 tokens, in about 4 s", "24 tokens, in about 10 s, behind 1 other"],
        ),
        (
            [{"requests": 2}] * 5,
            0,
            [
                "2 requests, in about 4 s",
                "2 requests, in about 8 s, behind 1 other",
                "2 requests, in about 12 s, behind 2 others",
            ],
        ),
    ],
)
def test_explain_has_the_time_until_a_rate_opens(
    virtual: Virtual, needs: Any, after: float, said: list[str]
) -> None:
    """It names the keys that are short, the time until there is enough, and those that come before; so do views."""
    jobs = [
        Job(nothing, label=str(number), needs={"api": need})
        for number, need in enumerate(needs)
    ]
    late = jobs[-len(said) :]
    look = Job(
        later, after, lambda: [(scheduler.explain(job), waiting(job)) for job in late]
    )
    scheduler = Scheduler(jobs, look, pool=pool())
    assert virtual(scheduler.co_run)
    assert [text for text, _ in look.result()] == [
        f"'{job.label}' waits for api: {words}"
        for job, words in zip(late, said, strict=True)
    ]
    assert look.result()[0][1].text == f"api: {said[0]}"
    if len(jobs) == 5:
        assert starts(jobs) == [0, 0, 4, 8, 12]


def test_a_shortage_is_recorded_by_the_round_that_leaves_a_job_waiting(
    virtual: Virtual,
) -> None:
    """Each question for the time until a rate opens recorded one, also of a key, whose record nobody reads."""
    recorded: list[int] = []

    def look() -> None:
        resources: Any = shared._resources
        recorded.extend(
            len(each.shortages)
            for each in (resources["api"], *resources["host"].keys.values())
        )

    shared = pool(host=PerKey(Rate(requests=1, per=8, burst=1)))
    jobs = [
        Job(nap, needs=needs)
        for needs in ({"host": "a.org"}, {"api": 4})
        for _ in range(2)
    ]
    assert virtual(Scheduler(*jobs, Job(later, 1, look), pool=shared).co_run)
    assert recorded == [2, 1]


def test_a_pool_shows_its_rates() -> None:
    """In a pool's `total` and `free`, a rate has its burst and its present amount."""
    shared = Pool(api=Rate(requests=4, tokens=32, per=8, burst={"requests": 2}), cpu=8)
    assert shared.total == {"api": {"requests": 2, "tokens": 32}, "cpu": 8}
    assert shared.free == shared.total
    assert (
        repr(shared) == "<Pool api=2 of 2 requests, 32 of 32 tokens, cpu=8 of 8 free>"
    )
    assert repr(Rate(requests=4, per=8)) == "Rate(requests=4, per=8)"
    assert (
        repr(Rate(requests=4, per=8, burst=2))
        == "Rate(requests=4, per=8, burst={'requests': 2})"
    )
    assert (
        repr(Rate(requests=4, per=8, burst=4))
        == "Rate(requests=4, per=8, burst={'requests': 4})"
    )
    assert (Rate(requests=4, per=8).limits, Rate(requests=4, per=8).per) == (
        {"requests": 4},
        8,
    )
    assert Job(anyio.sleep, 0, needs={"api": {"tokens": 8}}).needs == {
        "api": {"tokens": 8}
    }


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Rate(per=60),
            TypeError,
            r"Rate\(per=60\): give each amount with its key: Rate\(requests=60",
        ),
        (
            lambda: Rate(10, requests=5, per=1),
            TypeError,
            "were given; give each amount with its key",
        ),  # type: ignore[arg-type]
        (
            lambda: Rate(bytes="0 MB", per=60),
            ValueError,
            r"Rate\(bytes='0 MB'\): give a finite number above 0",
        ),
        (
            lambda: Rate(bytes="10 XB", per=60),
            ValueError,
            r"Rate\(bytes='10 XB'\): write a number and a unit",
        ),
        (
            lambda: Rate(requests=0, per=60),
            ValueError,
            r"Rate\(requests=0\): give a finite number above 0",
        ),
        (lambda: Rate(requests=-1, per=60), ValueError, r"Rate\(requests=-1\)"),
        (lambda: Rate(requests=math.nan, per=60), ValueError, r"Rate\(requests=nan\)"),
        (lambda: Rate(requests=math.inf, per=60), ValueError, r"Rate\(requests=inf\)"),
        (
            lambda: Rate(requests=True, per=60),
            TypeError,
            r"Rate\(requests=True\): give a number above 0",
        ),
        (lambda: Rate(requests="5", per=60), TypeError, r"Rate\(requests='5'\)"),
        (
            lambda: Rate(requests=5, per=1, brust=3),
            TypeError,
            r"Rate\(brust=3\): did you mean burst\?",
        ),
        (
            lambda: Rate(requests=5, per=1, giveup=9),
            TypeError,
            r"Rate\(giveup=9\): did you mean give_up\?",
        ),
        (lambda: Rate(requests=5, per=0), ValueError, r"Rate\(per=0\)"),
        (lambda: Rate(requests=5, per=math.inf), ValueError, r"Rate\(per=inf\)"),
        (lambda: Rate(requests=5, per=None), TypeError, r"Rate\(per=None\)"),  # type: ignore[arg-type]
        (
            lambda: Rate(requests=5, per=1, burst=0),
            ValueError,
            r"Rate\(burst=0\): give a finite number",
        ),
        (
            lambda: Rate(requests=5, per=1, burst={"requests": 0}),
            ValueError,
            r"Rate\(burst=\{'requests': 0\}\)",
        ),
        (
            lambda: Rate(requests=10**400, per=1),
            ValueError,
            r"give a finite number above 0",
        ),
        (
            lambda: Rate(requests=1e300, per=1e-300),
            ValueError,
            r"Rate\(requests=1e\+300, per=1e-300\): the rate is too h",
        ),
        (
            lambda: Rate(requests=1e-300, per=1e300),
            ValueError,
            r"the rate is too high or too low",
        ),
        (
            lambda: Rate(requests=5, tokens=5, per=1, burst=2),
            TypeError,
            r"several keys give a dict, such as \{'requ",
        ),
        (
            lambda: Rate(requests=5, per=1, burst={"token": 2}),
            ValueError,
            r"unknown key 'token'; the keys are req",
        ),
        (
            lambda: Job(anyio.sleep, 0, label="x", needs={"api": {"tokens": -2}}),
            ValueError,
            r"needs=.* of 'x': give a",
        ),
        (
            lambda: Job(anyio.sleep, 0, label="x", needs={"api": {1: 1}}),
            TypeError,
            r"the key 1 is not a string",
        ),
    ],
)
def test_invalid_rates_are_rejected(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (
            {"api": 5},
            r"'x' needs 5 requests of api, but the burst is 4: it could never start",
        ),
        ({"api": {"tokens": 33}}, r"'x' needs 33 tokens of api, but the burst is 32"),
        (
            {"io": {"reads": 6}},
            r"'x' needs 6 reads of io, but it has 5 for 1 s: it could never start; let the job",
        ),
        (
            {"api": {"token": 3}},
            r"'x' needs api=\{'token': 3\}, but this Rate has no key 'token': did you mean tokens",
        ),
        (
            {"cpu": {"tokens": 3}},
            r"'x' needs cpu=\{'tokens': 3\}, which is not a Rate: give one number",
        ),
        (
            {"io": 3},
            r"'x' needs io=3, a Rate of reads, writes: give a dict of amounts by key",
        ),
    ],
)
def test_needs_that_a_rate_can_never_meet_are_rejected(
    needs: Any, message: str
) -> None:
    job = Job(anyio.sleep, 0, label="x", needs=needs)
    first = Job(anyio.sleep, 0)
    shared = pool(cpu=4, io=Rate(reads=5, writes=5, per=1))
    with pytest.raises(ValueError, match=message):
        Scheduler(first, Scheduler(job), pool=shared).run()
    assert first.state is JobState.IDLE


# ---- what is due in one instant, and after a stall
@pytest.mark.parametrize("is_first", [False, True])
def test_a_job_that_becomes_ready_when_a_rate_opens_does_not_overtake(
    virtual: Virtual, is_first: bool
) -> None:
    pool = Pool(api=Rate(requests=1, per=1))
    waiting = [Job(nothing, needs={"api": 1}) for _ in range(2)]
    later = Job(nothing, needs={"api": 1}, required=Job(nap, 1))
    runs = [Scheduler(*waiting, pool=pool), Scheduler(later.required, later, pool=pool)]

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for run in runs[::-1] if is_first else runs:
                group.start_soon(run.co_run)
                await turns(3)

    virtual(main)
    assert starts([*waiting, later]) == [0, 1, 2]


@pytest.mark.parametrize("window", [None, 30, "limiter"])
@pytest.mark.parametrize("own_task", [False, True])
def test_a_stall_between_admission_and_start_brings_no_burst(
    virtual: Virtual, window: Any, own_task: bool
) -> None:
    """What admitted jobs have taken accrues again only from their start, however long they could not start."""
    started: list[float] = []

    async def body(number: int) -> None:
        started.append(anyio.current_time())
        pass_time(virtual.backend, 0.0 if number % 9 else 5.0)

    jobs = [
        Job(body, number, needs={"api": 1}, own_task=own_task) for number in range(30)
    ]
    limit = anyio.CapacityLimiter(20) if window == "limiter" else window
    assert virtual(
        Scheduler(
            *jobs, pool=Pool(api=Rate(requests=8, per=8)), jobs_window=limit
        ).co_run
    )
    for number, first in enumerate(started):
        for count, when in enumerate(started[number:], 1):
            assert count <= 8 + (when - first)


@pytest.mark.parametrize(
    "limit", [Rate(requests=1, per=50), Rate(requests=1, per=50, burst=1)]
)
def test_a_rate_accrues_between_two_runs(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, limit: Rate
) -> None:
    """The time that passes while no loop uses its pool counts, for what the pool shows, too."""
    now = 0.0
    monkeypatch.setattr(_pools, "time", SimpleNamespace(monotonic=lambda: now))
    pool = Pool(api=limit)
    jobs = [Job(nap, 1, needs={"api": 1}) for _ in range(2)]
    assert virtual(Scheduler(jobs[0], pool=pool).co_run)
    assert pool.free["api"]["requests"] < 1
    now = 20.0
    assert virtual(Scheduler(jobs[1], pool=pool).co_run)
    assert jobs[1].started_at == 29
    now = 100.0
    assert pool.free == {"api": {"requests": 1}}


@pytest.mark.parametrize(
    "limit",
    [
        Rate(requests=9, tokens=10, per=50),
        Rate(requests=9, tokens=10, per=50, burst={"tokens": 10}),
    ],
)
def test_a_job_that_needs_none_of_a_key_waits_for_none(
    virtual: Virtual, limit: Rate
) -> None:
    first = Job(
        at_once,
        lambda: current_job().used(api={"tokens": 40}),
        needs={"api": {"tokens": 1}},
    )
    late = [
        Job(nap, 1, needs={"api": need}, required=first)
        for need in ({"tokens": 0}, {"requests": 1}, 1)
    ]
    assert virtual(Scheduler(first, *late, pool=Pool(api=limit)).co_run)
    assert starts(late) == [0, 0, 0]


def test_the_time_by_which_a_sliding_window_has_an_amount_is_exact() -> None:
    """What is free now, and what comes back, is taken again in each period, however much an estimate asks for."""
    for seed in range(500):
        draw = random.Random(seed)
        window, now = (
            SlidingWindow(draw.randint(1, 6), period := draw.choice([1, 2, 4])),
            0.0,
        )
        for _ in range(draw.randint(0, 8)):
            now += draw.choice([0, 0.25, 0.5, 1, 3])
            if window.level(now) >= (amount := draw.randint(1, int(window.burst))):
                window.correct(amount, now, now)
        now, left = now + draw.choice([0, 0.25, 1.5]), draw.randint(1, 20)
        expected = window.accrued_at(left, now)
        while left > window.level(now):
            if (free := int(window.level(now))) > 0:
                window.correct(free, now, now)
                left -= free
            now = min(when for when in window._started if when + period > now) + period
        assert expected == now, seed


@pytest.mark.parametrize(
    "ask",
    [lambda rate: rate.public_free(), lambda rate: rate.describe_wait({"requests": 8})],
    ids=["free", "wait"],
)
def test_another_thread_may_read_a_rate_while_a_job_takes_from_it(
    ask: Callable[[Any], object],
) -> None:
    """What was read changed the rate: what a job took at that instant was given out once more."""

    def take(rate: Any) -> None:
        rate.correct(RateShare(), {"requests": 3})

    number = 0
    while True:
        rate: Any = Pool(api=Rate(requests=10, per=60))._resources["api"]
        clock = iter([1.0, 60.5])
        rate.clock = lambda clock=clock: next(clock, 61.0)
        take(rate)
        take(rate)
        # The first three come back now.
        _, has_taken = ask_midway(number, partial(ask, rate), partial(take, rate))
        if not has_taken:
            break
        assert rate.public_free() == {"requests": 4}
        assert rate.accrued_at({"requests": 4}) == 61.0
        assert rate.accrued_at({"requests": 5}) == 120.5
        number += 1
    assert rate.public_free() == {"requests": 7}


def test_the_limits_of_a_rate_may_be_sizes() -> None:
    rate = Rate(bytes="10 MB", per=1, burst="1 MiB")
    assert rate.limits == {"bytes": 10_000_000}
    assert rate.burst == {"bytes": 1 << 20}
