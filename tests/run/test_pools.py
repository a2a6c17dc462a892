"""Pools: what jobs need is granted at once, waited for in order, and given back however a job ends."""

import itertools
import sys
from collections.abc import Callable
from contextvars import copy_context
from fractions import Fraction
from functools import partial
from typing import Any
import anyio
import pytest
from trioflow import (
    Budget,
    Job,
    JobState,
    PerKey,
    Pool,
    Rate,
    Scheduler,
    Service,
    StopReason,
    ThreadJob,
    current_job,
)
from trioflow._core.admission import _admission
from trioflow._core.admission._admission import Admission
from trioflow._core.admission._resource import CountedResource
from trioflow._core.base import _graph_algorithms
from trioflow.abc import run_of
from ..bodies import (
    LIMIT,
    at_once,
    fail,
    in_threads,
    later,
    nap,
    nothing,
    running,
    serve,
    turns,
)
from ..conftest import Virtual
from ..midway import answers_midway


def using(seen: list[Any], seconds: float = 1, **options: Any) -> Job[None]:
    """Return a job that records which units of the gpu it has."""

    async def use() -> None:
        seen.append(current_job().granted["gpu"])
        await anyio.sleep(seconds)

    return Job(use, **options)


def test_named_resources_are_granted_to_one_job_at_a_time(virtual: Virtual) -> None:
    seen: list[list[str]] = []
    jobs = [using(seen, needs={"gpu": number}) for number in (1, 2, 3, 1)]
    assert virtual(Scheduler(*jobs, pool=Pool(gpu=["x", "y", "z"])).co_run)
    assert seen == [["x"], ["y", "z"], ["x", "y", "z"], ["x"]] or seen == [
        ["x"],
        ["y", "z"],
        ["x"],
        ["x", "y", "z"],
    ]
    assert jobs[0].granted == {}


def test_named_resources_that_come_back_in_another_order_are_granted_from_the_first(
    virtual: Virtual,
) -> None:
    granted: list[list[str]] = []
    first, *others = [
        using(granted, seconds, needs={"gpu": 1}) for seconds in (3, 2, 1)
    ]
    last = [using(granted, needs={"gpu": 1}, required=first) for _ in range(3)]
    assert virtual(
        Scheduler(first, *others, *last, pool=Pool(gpu=["x", "y", "z"])).co_run
    )
    assert granted == [["x"], ["y"], ["z"]] * 2


def test_a_spent_budget_blocks_jobs_although_its_run_shares_another_resource(
    virtual: Virtual,
) -> None:
    spends, shares, waits = (
        Job(nap, 1, needs=needs) for needs in ({"usd": 2}, {"cpu": 1}, {"usd": 2})
    )
    inner = Scheduler(spends, shares, waits, pool=Pool(usd=Budget(3)))
    assert (
        virtual(
            Scheduler(Job(nap, 5, needs={"cpu": 1}), inner, pool=Pool(cpu=1)).co_run
        )
        is False
    )
    assert (waits.state, waits.finished_at, shares.started_at) == (
        JobState.BLOCKED,
        1,
        5,
    )


@pytest.mark.parametrize("used", [0.25, 0.75])
def test_a_report_of_a_thread_that_comes_after_the_end_of_its_job_reserves_nothing(
    virtual: Virtual, used: float
) -> None:
    """The difference stayed reserved by no job, so what needed it waited for ever, and the run stood still."""

    async def spend() -> None:
        await anyio.sleep(1)
        report = partial(current_job().used, usd=used)
        in_threads(partial(copy_context().run, report))

    pool = Pool(usd=Budget(1))
    spends = Job(spend, needs={"usd": 0.5})
    waits = Job(nap, needs={"usd": 0.5}, required=Job(nap, required=spends))
    scheduler = Scheduler(spends, waits.required, waits, pool=pool, log=False)
    assert virtual(scheduler.co_run) is (used == 0.25)
    assert (waits.state is JobState.BLOCKED) is (used == 0.75)
    assert pool.budgets == {"usd": 0.25}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_group_starts_what_its_pool_allows_beside_waits_for_outer_pools(
    virtual: Virtual, is_first: bool
) -> None:
    own, shared = (
        [Job(nap, 1, needs={name: 1}) for _ in range(2)] for name in ("disk", "cpu")
    )
    group = Scheduler(*(own + shared if is_first else shared + own), pool=Pool(disk=1))
    taken = [Job(nap, 5, needs={"cpu": 1}) for _ in range(2)]
    assert virtual(Scheduler(*taken, group, pool=Pool(cpu=1)).co_run)
    assert [job.started_at for job in (*own, *taken, *shared)] == [0, 1, 0, 5, 10, 11]


def test_a_pool_says_how_many_jobs_wait_for_each_resource(virtual: Virtual) -> None:
    """Ready jobs that need it: none that runs, and none that has ended as it waited."""
    pool = Pool(
        cpu=2, api=Rate(requests=1, per=60), host=PerKey(1), usd=Budget(9), spare=1
    )
    seen = list[dict[str, Any]]()

    async def main() -> None:
        assert pool.waiting == {"cpu": 0, "api": 0, "host": {}, "usd": 0, "spare": 0}
        cpu = [Job(anyio.sleep, 10, needs={"cpu": 1}) for _ in range(5)]
        api = [Job(nothing, needs={"api": 1, "usd": 1}) for _ in range(3)]
        hosts = [
            Job(anyio.sleep, 10, needs={"host": key})
            for key in ("a", "a", "a", "b", "b", "c")
        ]
        inner = Scheduler(Job(nothing, needs={"cpu": 1}), label="inner")
        behind = Job(nothing, needs={"spare": 1}, required=cpu)
        scheduler = Scheduler(cpu, api, hosts, inner, behind, pool=pool)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(1)
            seen.append(pool.waiting)
            cpu[-1].cancel()
            hosts[1].cancel()
            await anyio.sleep(1)
            seen.append(pool.waiting)
            await anyio.sleep(100)
            seen.append(pool.waiting)
            scheduler.cancel()
        seen.append(pool.waiting)

    virtual(main)
    assert seen[0] == {
        "cpu": 4,
        "api": 2,
        "host": {"a": 2, "b": 1},
        "usd": 2,
        "spare": 0,
    }
    assert seen[1] == {
        "cpu": 3,
        "api": 2,
        "host": {"a": 1, "b": 1},
        "usd": 2,
        "spare": 0,
    }
    assert seen[2] == {"cpu": 0, "api": 1, "host": {}, "usd": 1, "spare": 0}
    assert seen[3] == {"cpu": 0, "api": 0, "host": {}, "usd": 0, "spare": 0}


def test_jobs_of_a_second_run_wait_for_the_pool_that_the_first_has(
    virtual: Virtual,
) -> None:
    pool = Pool(cpu=1)

    async def main() -> list[int]:
        seen = list[int]()
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(
                    Scheduler(Job(anyio.sleep, 10, needs={"cpu": 1}), pool=pool).co_run
                )
                await anyio.sleep(1)
                seen.append(pool.waiting["cpu"])
        return seen

    assert virtual(main) == [0, 1, 2]
    assert pool.waiting == {"cpu": 0}


def test_needs_are_found_in_the_nearest_pool(virtual: Virtual) -> None:
    """Needs are taken from the nearest pool that has the name: an inner pool hides an outer one."""
    near = Job(anyio.sleep, 1, needs={"a": 5, "b": 1})
    assert virtual(
        Scheduler(Scheduler(near, pool=Pool(a=5)), pool=Pool(a=1, b=1)).co_run
    )


@pytest.mark.parametrize("priority", [0, 1])
@pytest.mark.parametrize("policy", ["fifo", "critical-path"])
def test_jobs_added_during_the_run_may_have_needs(
    virtual: Virtual, policy: Any, priority: int
) -> None:
    """Even the first job with needs may be added during the run, and `add` rejects one that could never start. Whether
    the run has had an order of its own before, or none."""

    async def add() -> None:
        scheduler.update(
            [Job(anyio.sleep, 1, label=f"{i}", needs={"a": 2}) for i in range(2)]
        )
        with pytest.raises(
            ValueError,
            match="'big' needs a=4, but the total is only 3: it could never start",
        ):
            scheduler.add(Job(anyio.sleep, 1, label="big", needs={"a": 4}))

    scheduler = Scheduler(Job(add, priority=priority), pool=Pool(a=3), policy=policy)
    assert virtual(scheduler.co_run)
    assert [job.started_at for job in scheduler][1:] == [0, 1]


async def one_after_the_other(runs: list[Scheduler], pauses: tuple[float, ...]) -> None:
    async with anyio.create_task_group() as group:
        for run, pause in zip(runs, pauses, strict=True):
            group.start_soon(run.co_run)
            await anyio.sleep(pause)


def test_pools_that_one_job_joins_leave_no_timer_behind(virtual: Virtual) -> None:
    """A job that needs names of two pools joins their queues; once a timer of one remained, and met an ended run."""
    group = Scheduler(Job(nap, 0, needs={"api": 2}), jobs_window=1)
    second = Scheduler(
        Job(nap, 0, needs={"gpu": 1}),
        Job(nap, 1, needs={"gpu": 1, "api": 1}),
        pool=Pool(gpu=1),
    )
    first = Job(nap, 0.5, needs={"api": 10})
    others = [Job(nap, 1, needs={"api": 1}), Job(nap, 1, needs={"api": 8})]
    pool = Pool(api=Rate(tokens=1, per=1, burst=10))
    assert virtual(
        Scheduler(
            first, group, second, *others, jobs_window=2, pool=pool, timeout=99
        ).co_run
    )


def test_a_job_that_waits_for_a_rate_starts_on_time_although_its_pool_is_joined_to_another(
    virtual: Virtual,
) -> None:
    waiting = Job(nap, 0, needs={"api": 1})
    first = Scheduler(Job(nap, 0, needs={"api": 1}), waiting)
    service = Service(
        serve, 2
    )  # takes no slot, so `late` becomes ready while the window is full
    late = Job(nap, 0, needs={"gpu": 1, "api": 1}, required=service)
    second = Scheduler(
        service,
        Job(nap, 0, needs={"gpu": 1}),
        Job(nap, 99),
        late,
        jobs_window=1,
        pool=Pool(gpu=1),
    )
    assert virtual(
        Scheduler(first, second, pool=Pool(api=Rate(tokens=1, per=10, burst=1))).co_run
    )
    assert waiting.started_at == 10


def test_a_run_that_has_ended_takes_no_part_when_its_pool_is_joined_to_another(
    virtual: Virtual,
) -> None:
    pool, kept = Pool(disk=9, api=Rate(tokens=1, per=10, burst=1)), []

    async def keep() -> None:
        run: Any = run_of(current_job())
        kept.append(run._run.line)

    for _ in range(20):
        assert virtual(Scheduler(Job(keep, needs={"disk": 1}), pool=pool).co_run)
    waiting = Job(nap, 0, needs={"disk": 1, "api": 1})
    first = Scheduler(Job(nap, 0, needs={"disk": 1, "api": 1}), waiting)
    service, needs = Service(serve, 2), {"a": 1, "b": 1, "c": 1}
    late = Job(nap, 0, needs={"a": 1, "api": 1}, required=service)
    jobs = [service, Job(nap, 0, needs=needs), Job(nap, 99), late]
    second = Scheduler(jobs, jobs_window=1, pool=Pool(a=1, b=1, c=1))
    assert virtual(Scheduler(first, second, pool=pool).co_run)
    assert waiting.started_at == 10


def test_a_new_order_of_waiting_jobs_keeps_counts_and_places(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a job with an expected duration changes the policy, no job may overtake again, in its run or another."""
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 1)
    big = Job(anyio.sleep, 1, needs={"cpu": 2})
    small, other = (
        [Job(anyio.sleep, 1, needs={"cpu": 1}) for _ in range(3)],
        Job(anyio.sleep, 1, needs={"cpu": 2}),
    )
    add = Job(later, 0.5, lambda: first.add(Job(anyio.sleep, 1, expected_duration=1.0)))
    first = Scheduler(Job(anyio.sleep, 10, needs={"cpu": 1}), big, small, add)
    second = Scheduler(Scheduler(other))
    assert virtual(Scheduler(first, second, pool=Pool(cpu=2)).co_run)
    assert [job.started_at for job in (*small, big, other)] == [0, 11, 11, 10, 12]


def test_a_job_behind_a_reservation_is_overtaken_no_more(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job for which enough is free, but reserved, counts as well who overtakes it."""
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 0)
    big, behind, late = (
        Job(nap, 1, needs=needs) for needs in ({"a": 2}, {"a": 1, "b": 1}, {"b": 1})
    )
    jobs = [Job(anyio.sleep, 5, needs={"a": 1}), big, behind, late]
    assert virtual(Scheduler(jobs, pool=Pool(a=2, b=1)).co_run)
    assert [job.started_at for job in (big, behind, late)] == [5, 6, 7]


def test_the_bound_protects_the_first_of_several_jobs_with_the_same_needs_then_the_next(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small job overtakes the first, and another the second, while the first runs: a third has to wait for both."""
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 1)
    holders = Job(nap, 20, needs={"a": 1}), Job(nap, 1, needs={"a": 3})
    big = [Job(nap, 1, needs={"a": 2}) for _ in range(2)]
    small = [Job(nap, seconds, needs={"a": 1}) for seconds in (10, 0.5, 1)]
    assert virtual(Scheduler(holders, big, small, pool=Pool(a=5)).co_run)
    assert [job.started_at for job in (*big, *small)] == [1, 2, 0, 1, 2]


@pytest.mark.parametrize("home", ["its run", "a group beside", "two groups"])
def test_a_job_that_needs_nothing_of_what_another_waits_for_does_not_overtake_it(
    virtual: Virtual, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 1)
    big, other, small = (
        Job(nap, 1, needs=needs) for needs in ({"a": 2}, {"b": 1}, {"a": 1})
    )
    late = Job(nap, 1, needs={"a": 1})
    jobs: list[Any] = [other, small, late]
    if home != "its run":
        jobs = (
            [Scheduler(other, *jobs[1:])]
            if home == "a group beside"
            else [Scheduler(job) for job in jobs]
        )
    pool = Pool(a=2, b=1)
    assert virtual(
        Scheduler(Job(anyio.sleep, 5, needs={"a": 1}), big, *jobs, pool=pool).co_run
    )
    assert [job.started_at for job in (other, small, big, late)] == [0, 0, 5, 6]


def test_a_member_of_a_scheduler_with_needs_is_overtaken_no_more_often_from_outside(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member of a scheduler that has needs waits for a rate; jobs outside of it overtake it as often as others."""
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 0)
    first, later = Job(nap, 0, needs={"api": 1}), Job(anyio.sleep, 0.5)
    member, late = (
        Job(nap, 0, needs={"api": 2}),
        Job(nap, 0, needs={"api": 1}, required=later),
    )
    holder = Scheduler(member, needs={"cpu": 1})
    pool = Pool(cpu=1, api=Rate(requests=2, per=2, burst=2))
    assert virtual(Scheduler(first, holder, later, late, pool=pool).co_run)
    assert (member.started_at, late.started_at) == (1, 2)


def test_a_run_that_is_still_being_prepared_is_not_woken(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is still counting successors is not woken: it would start a job and never release those behind it."""
    monkeypatch.setattr(_graph_algorithms, "CHUNK_SIZE", 10)
    shared = Pool(cpu=2)
    first = Job(nothing, needs={"cpu": 1})
    last = Job(nothing, required=first)
    prepared = Scheduler(first, *[Job(nothing) for _ in range(100)], last, pool=shared)
    others = Scheduler(
        *[Job(turns, 5, needs={"cpu": 1}) for _ in range(9)], pool=shared, jobs_window=1
    )

    async def main() -> None:
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(others.co_run)
                group.start_soon(prepared.co_run)
        assert last.state is JobState.SUCCEEDED

    virtual(main)


def test_explain_names_the_resource_that_a_job_waits_for(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 0)
    running = [Job(anyio.sleep, 1, label=label, needs={"gpu": 1}) for label in "abefgh"]
    waiting = Job(anyio.sleep, 1, label="c", needs={"gpu": 2})
    behind = Job(anyio.sleep, 1, label="d", needs={"gpu": 1})
    look = Job(at_once, lambda: [scheduler.explain(job) for job in (waiting, behind)])
    scheduler = Scheduler(running, waiting, behind, look, pool=Pool(gpu=7))
    assert virtual(scheduler.co_run)
    assert look.result() == [
        "'c' waits for gpu: 6 of 7 taken by 'a', 'b', 'e', 'f', 'g' and 1 more",
        "'d' waits for gpu, although enough is free, behind 'c', which no more jobs may overtake",
    ]


def test_explain_changes_no_queue(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may ask at any time; once, `explain` scanned the queues, and a run failed that was looked at."""
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 0)
    scans: list[Admission] = []
    scan = Admission.scan

    def counted(self: Admission) -> Any:
        scans.append(self)
        return scan(self)

    async def look() -> None:
        before = len(scans)
        assert "behind 'c'" in [scheduler.explain(job) for job in scheduler][2]
        assert len(scans) == before

    monkeypatch.setattr(Admission, "scan", counted)
    jobs = [
        Job(anyio.sleep, 1, label=label, needs={"gpu": number})
        for label, number in (("a", 1), ("c", 2), ("d", 1))
    ]
    looking = Job(look)
    scheduler = Scheduler(jobs, looking, pool=Pool(gpu=2))
    assert virtual(scheduler.co_run)
    assert looking.state is JobState.SUCCEEDED
    assert scans


def test_a_pool_in_use_is_rejected_in_a_second_loop(backend: str) -> None:
    pool = Pool(a=1)

    def elsewhere() -> None:
        with pytest.raises(
            RuntimeError,
            match="the pool of 'second' is in use by a scheduler in another event loop",
        ):
            Scheduler(
                Job(anyio.sleep, 0, needs={"a": 1}), pool=pool, label="second"
            ).run()

    assert Scheduler(ThreadJob(elsewhere), pool=pool).run(backend=backend, check=True)  # type: ignore[arg-type]
    assert Scheduler(Job(anyio.sleep, 0, needs={"a": 1}), pool=pool).run()


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"gpu": 3}, r"'x' needs gpu=3, but the total is only 2: it could never start"),
        (
            {"gpu": 0.5},
            r"'x' needs gpu=0.5, which has named units: give a whole number",
        ),
        (
            {"tpu": 1},
            r"'x' needs tpu=1, which no enclosing pool has \(they have gpu, ram\): give its",
        ),
        ({"ram": "3 GiB"}, r"'x' needs ram=3 GiB, but the total is only 2 GiB"),
    ],
)
def test_needs_that_can_never_fit_are_rejected_before_any_job_starts(
    needs: Any, message: str
) -> None:
    job = Job(anyio.sleep, 0, label="x", needs=needs)
    first = Job(anyio.sleep, 0)
    scheduler = Scheduler(first, Scheduler(job), pool=Pool(gpu=["0", "1"], ram="2 GiB"))
    assert not scheduler.is_runnable()
    with pytest.raises(ValueError, match=message):
        scheduler.run()
    assert first.state is JobState.IDLE
    job.needs = {"gpu": 2}
    assert scheduler.run()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Pool(cpu=-1),
            ValueError,
            r"Pool\(cpu=-1\): give a finite number, 0 or more",
        ),
        (lambda: Pool(cpu=float("nan")), ValueError, r"Pool\(cpu=nan\)"),
        (lambda: Pool(cpu=True), TypeError, r"Pool\(cpu=True\): give a finite number"),
        (lambda: Pool(ram="9" * 400), ValueError, r"999'\): the size is too large"),
        (
            lambda: Pool(ram="9" * 300 + " PiB"),
            ValueError,
            r"PiB'\): the size is too large",
        ),
        (
            lambda: Pool(ram="24 gigs"),
            ValueError,
            r"Pool\(ram='24 gigs'\): write a number and a unit: B, kB",
        ),
        (lambda: Pool(gpu=["0", "0"]), ValueError, r"duplicate unit"),
        (
            lambda: Job(anyio.sleep, 0, label="x", needs={"cpu": -2}),
            ValueError,
            r"needs=\{'cpu': -2\} of 'x'",
        ),
        (
            lambda: Job(anyio.sleep, 0, label="x", needs={"cpu": None}),
            TypeError,
            r"needs=\{'cpu': None\} of 'x'",
        ),
        (
            lambda: Job(anyio.sleep, 0, label="x", needs=["cpu"]),
            TypeError,
            r"needs=\['cpu'\] of 'x': give a dict",
        ),
        (
            lambda: Job(anyio.sleep, 0, label="x", needs={1: 1}),
            TypeError,
            r"the name 1 is not a string",
        ),
        (
            lambda: Job(anyio.sleep, 0, label="x", needs={"cpu": 10**400}),
            ValueError,
            r"of 'x': give a finite number",
        ),
        (
            lambda: Scheduler(label="s", pool={"cpu": 1}),
            TypeError,
            r"pool=\{'cpu': 1\} of 's': give a Pool",
        ),
    ],
)
def test_invalid_amounts_are_rejected(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("24 GiB", 24 * 2**30),
        ("500MB", 500_000_000),
        ("1.5 kB", 1500),
        ("4G", 4 * 2**30),
        ("7", 7),
        ("0.5", 0.5),
    ],
)
def test_sizes_with_decimal_and_binary_prefixes_are_parsed(
    text: str, number: float
) -> None:
    """Sizes may have decimal (MB) or binary (GiB) units; a prefix alone (G) is binary."""
    assert Pool(ram=text).total == {"ram": number}


def test_amounts_given_as_sizes_are_shown_as_sizes(virtual: Virtual) -> None:
    shared = Pool(ram="24 GiB", disk=1 << 30)
    holder = Job(anyio.sleep, 1, label="holder", needs={"ram": "20 GiB"})
    waiting = Job(anyio.sleep, 1, label="waiting", needs={"ram": "5 GiB"})
    looked = Job(at_once, lambda: (scheduler.explain(waiting), repr(shared)))
    scheduler = Scheduler(holder, waiting, looked, pool=shared)
    assert virtual(scheduler.co_run)
    assert looked.result() == (
        "'waiting' waits for ram: 20 GiB of 24 GiB taken by 'holder'",
        "<Pool ram=4 GiB of 24 GiB free, disk=1073741824 of 1073741824 free>",
    )


@pytest.mark.parametrize(
    ("need", "at_once"), [(Fraction(1, 3), 3), (0.1, 10), (Fraction(2, 7), 3)]
)
def test_fractional_needs_that_add_up_to_the_whole_fit_exactly(
    virtual: Virtual, need: Any, at_once: int
) -> None:
    jobs = [Job(nap, 1, needs={"share": need}) for _ in range(at_once + 1)]
    assert virtual(Scheduler(*jobs, pool=Pool(share=1.0)).co_run)
    assert [job.started_at for job in jobs] == [0] * at_once + [1]


# ---- what it costs
@pytest.mark.parametrize("window", [None, 2])
def test_the_end_of_a_job_wakes_only_runs_whose_jobs_are_first(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, window: int | None
) -> None:
    scan, looks = Admission.scan, itertools.count()

    def counted(admission: Admission) -> Any:
        next(looks)
        return scan(admission)

    monkeypatch.setattr(Admission, "scan", counted)
    runs = [
        Scheduler(*[Job(nap, needs={"cpu": 1}) for _ in range(5)], jobs_window=window)
        for _ in range(40)
    ]
    assert virtual(Scheduler(*runs, pool=Pool(cpu=2)).co_run)
    assert next(looks) < 10 * 200


def test_needs_without_waiting_jobs_are_removed_from_the_admission_queue(
    virtual: Virtual,
) -> None:
    """Needs for which no job waits any more are forgotten, so a stream of jobs may have ever different ones."""

    def look() -> int:
        run: Any = scheduler._run
        return len(run.line.places.group_entries)

    jobs: list[Any] = []
    for number in range(20):
        jobs.append(Job(at_once, look, needs={"cpu": number}, required=jobs[-1:]))
    scheduler = Scheduler(*jobs, pool=Pool(cpu=20))
    assert virtual(scheduler.co_run)
    assert {job.result() for job in jobs} == {0}


def kinds(number: int) -> Scheduler:
    return Scheduler(
        [Job(nap, 1, needs={"ram": 1000 + one}) for one in range(number)],
        pool=Pool(ram=8000),
    )


def rates(number: int) -> Scheduler:
    jobs = [
        Job(nothing, needs={"api": {"tokens": 1000 + one}}) for one in range(number)
    ]
    return Scheduler(jobs, pool=Pool(api=Rate(tokens=9000, per=1)))


def groups(number: int) -> Scheduler:
    """Return schedulers of five jobs each, inside one that has a pool."""
    inner = [
        Scheduler([Job(nap, 1, needs={"cpu": 1}) for _ in range(5)])
        for _ in range(number // 5)
    ]
    return Scheduler(inner, pool=Pool(cpu=8))


def test_a_queue_without_changes_is_not_scanned_again(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round looks at the waiting jobs only if something has changed since the last one."""
    scan, looks = Admission.scan, itertools.count()

    async def ask() -> None:
        queue = waiting.scheduler._run.line
        queue.look()
        before = next(looks)
        for _ in range(5):
            queue.look()
        assert next(looks) == before + 1
        queue.mark_stale()
        queue.look()
        assert next(looks) > before + 2

    monkeypatch.setattr(
        Admission, "scan", lambda admission: [next(looks), scan(admission)][1]
    )
    waiting = Job(nap, 1, needs={"cpu": 2})
    asking = Job(ask, needs={"cpu": 1})
    assert virtual(Scheduler(asking, waiting, pool=Pool(cpu=2)).co_run)


def test_a_scan_ends_where_too_little_is_left_for_anybody(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    available_at, looks = CountedResource.available_at, itertools.count()

    def counted(resource: CountedResource, need: Any) -> float:
        next(looks)
        return available_at(resource, need)

    monkeypatch.setattr(CountedResource, "available_at", counted)
    assert virtual(kinds(200).co_run)
    assert next(looks) < 3 * 200


def passed(number: int) -> Scheduler:
    """Return pairs of jobs, where all second ones pass all first ones."""
    left: list[None] = [None] * (number // 2)
    done = anyio.Event()

    async def second() -> None:
        left.pop()
        if not left:
            done.set()

    pairs = [
        [Job(nothing, needs={"cpu": 3}), Job(second, needs={"cpu": 1})] for _ in left
    ]
    return Scheduler(Job(done.wait, needs={"cpu": 1}), pairs, pool=Pool(cpu=3))


@pytest.mark.parametrize("scenario", [kinds, rates, groups, passed])
def test_work_per_job_does_not_grow_with_the_number_of_waiting_jobs(
    virtual: Virtual,
    scenario: Callable[[int], Scheduler],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The number of function calls per job grows only logarithmically with the number of waiting jobs. Each start once
    asked all others that waited: each kind of needs, each scheduler, each job that was passed."""
    monkeypatch.setattr(
        _admission, "MAX_GROUPS_PER_RESOURCE", 8
    )  # 50 are more than a look goes through
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 10**9)

    def calls_a_job(number: int) -> float:
        count = itertools.count()

        async def main() -> None:
            scheduler = scenario(number)
            sys.setprofile(lambda *_: next(count))
            try:
                assert await scheduler.co_run()
            finally:
                sys.setprofile(None)

        virtual(main)
        return next(count) / number

    assert calls_a_job(200) < 1.4 * calls_a_job(25)


def test_a_job_that_fits_behind_blocked_jobs_is_woken(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 1)
    pool = Pool(cpu=2, gpu=2, disk=2)
    begins: dict[str, float] = {}

    async def body(name: str, seconds: float) -> None:
        begins[name] = anyio.current_time()
        await anyio.sleep(seconds)

    async def run(name: str, at: float, seconds: float, **needs: int) -> None:
        await anyio.sleep(at)
        await Scheduler(Job(body, name, seconds, needs=needs), pool=pool).co_run()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(run, "holds all cpus", 0, 10, cpu=2))
            group.start_soon(partial(run, "holds the rest", 0, 100, gpu=1, disk=1))
            group.start_soon(partial(run, "has a reservation", 1, 1, gpu=2, disk=2))
            group.start_soon(partial(run, "overtakes it", 1.5, 0, gpu=1))
            group.start_soon(partial(run, "is blocked", 2, 1, gpu=1, cpu=1))
            group.start_soon(partial(run, "fits", 3, 1, cpu=2))
            group.start_soon(partial(run, "is blocked too", 4, 1, disk=1, cpu=1))

    virtual(main)
    assert begins["fits"] - begins["holds all cpus"] == 10
    assert begins["is blocked"] >= begins["has a reservation"]


def test_a_job_with_own_task_needs_nothing_in_a_run_whose_other_jobs_have_needs(
    virtual: Virtual,
) -> None:
    async def main() -> list[float | None]:
        async with Scheduler(pool=Pool(cpu=1), jobs_window=1) as scheduler:
            jobs = [
                scheduler.add(Job(nap, 1, needs={"cpu": 1})),
                scheduler.add(Job(nap, 1, own_task=True)),
            ]
        return [job.started_at for job in jobs]

    assert virtual(main) == [0, 1]


@pytest.mark.parametrize(("most", "at"), [(2, 4), (3, 0)])
def test_a_scan_of_the_queue_covers_a_limited_number_of_needs(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, most: int, at: float
) -> None:
    """A search of the queue looks only at a limited number of different needs that wait for a scarce resource."""
    monkeypatch.setattr(_admission, "MAX_GROUPS_PER_RESOURCE", most)
    before = [
        Job(nap, 2, needs={"cpu": 1}),
        Job(nap, 1, needs={"cpu": 2}),
        Job(nap, 1, needs={"cpu": 2, "gpu": 1}),
    ]
    behind = Job(nap, 1, needs={"cpu": 1})
    assert virtual(Scheduler(*before, behind, pool=Pool(cpu=2, gpu=1)).co_run)
    assert behind.started_at == at
    assert [job.started_at for job in before] == [0, 2, 3]


def test_an_admitted_job_keeps_what_it_got_when_a_job_of_higher_priority_becomes_ready(
    virtual: Virtual,
) -> None:
    pool = Pool(cpu=1)
    low, high = Job(nap, 1, needs={"cpu": 1}), Job(nap, 1, needs={"cpu": 1}, priority=1)
    other = Scheduler(low, pool=pool)
    first, late = (
        Job(nap, 1, needs={"cpu": 1}),
        Job(nap, 1, needs={"cpu": 1}, required=Job(nap, 0.5)),
    )
    own = Scheduler(
        first,
        late.required,
        late,
        Job(at_once, lambda: other.add(high), required=first),
        pool=pool,
    )
    virtual(one_after_the_other, [own, other], (0.25, 0))
    assert [job.started_at for job in (first, low, high, late)] == [0, 1, 2, 3]


# --- A scheduler that keeps what it needs is the only pool of its members, but for rates and pools inside
LONG = 1000


def keeper(keeps: str, needs: str) -> Scheduler:
    """Return a scheduler that keeps one resource, and has a member that needs another one after a while."""
    first = Job(nap, 1)
    return Scheduler(
        first,
        Job(nap, 1, needs={needs: 1}, required=first, label=needs),
        needs={keeps: 1},
    )


def test_members_of_a_keeper_find_kept_names_rates_and_pools_inside(
    virtual: Virtual,
) -> None:
    inside = Scheduler(
        Job(nap, 1, needs={"a": 1, "own": 2, "api": 1}), pool=Pool(own=2)
    )
    group = Scheduler(inside, Job(nap, 1, needs={"a": 2, "api": 1}), needs={"a": 2})
    assert virtual(
        Scheduler(group, pool=Pool(a=2, b=1, api=Rate(requests=9, per=1))).co_run
    )


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_need_from_a_pool_outside_of_the_keeper_is_rejected_before_the_run(
    virtual: Virtual, depth: int
) -> None:
    inner: Any = Job(nap, 1, needs={"b": 1}, label="member")
    for _ in range(depth):
        inner = Scheduler(inner)
    group = Scheduler(inner, needs={"a": 1}, label="group")
    other = Job(nap, 1)
    scheduler = Scheduler(other, group, pool=Pool(a=1, b=1))
    with pytest.raises(
        ValueError, match=r"'member' needs b=1, which is in a pool outside 'group'"
    ):
        virtual(scheduler.co_run)
    assert other.is_idle()


def test_a_nested_keeper_cannot_need_names_that_its_enclosing_keeper_lacks(
    virtual: Virtual,
) -> None:
    inner = Scheduler(Job(nap, 1), needs={"b": 1}, label="inner")
    scheduler = Scheduler(
        Scheduler(inner, needs={"a": 1}, label="outer"), pool=Pool(a=1, b=1)
    )
    with pytest.raises(
        ValueError, match=r"'inner' needs b=1, which is in a pool outside 'outer'"
    ):
        virtual(scheduler.co_run)


@pytest.mark.parametrize(
    "what", ["group", "member", "member of an idle group", "inside an idle group"]
)
def test_a_need_from_a_pool_outside_of_the_keeper_is_rejected_by_add(
    virtual: Virtual, what: str
) -> None:
    """`add` rejects a late group, or late member, that needs what the keeper lacks, and the run continues."""
    before = Job(nap, 5 if "idle" in what else 0)
    inner = Scheduler(Job(nap, 1))
    group = Scheduler(
        Job(nap, 3), inner, needs={"a": 1}, label="group", required=before
    )

    async def add() -> None:
        await anyio.sleep(1)
        home, new = (
            inner if "inside" in what else group,
            Job(nap, 1, needs={"b": 1}, label="member"),
        )
        if what == "group":
            home, new = scheduler, Scheduler(new, needs={"c": 1}, label="late")  # type: ignore[assignment]
        with pytest.raises(
            ValueError,
            match=r"'member' needs b=1, which is in a pool outside '(group|late)'",
        ):
            home.add(new)
        assert new not in home

    scheduler = Scheduler(before, group, Job(add), pool=Pool(a=1, b=1, c=1))
    assert virtual(scheduler.co_run)
    scheduler.raise_for_failures()


def test_two_runs_that_would_deadlock_on_a_shared_pool_are_rejected(
    virtual: Virtual,
) -> None:
    pool = Pool(a=1, b=1)
    refused: list[str] = []

    async def run(keeps: str, needs: str) -> None:
        scheduler = Scheduler(keeper(keeps, needs), pool=pool, timeout=LONG)
        with pytest.raises(ValueError, match="which is in a pool outside") as error:
            await scheduler.co_run()
        refused.append(str(error.value))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(run, "a", "b"))
            group.start_soon(partial(run, "b", "a"))

    virtual(main)
    assert len(refused) == 2


def test_a_pool_shared_inside_and_outside_of_a_keeper_is_rejected(
    virtual: Virtual,
) -> None:
    pool = Pool(own=1)

    def user() -> Scheduler:
        return Scheduler(Job(nap, 1, needs={"own": 1}), pool=pool)

    outside = Scheduler(
        Scheduler(user(), needs={"a": 1}, label="group"), user(), pool=Pool(a=1)
    )
    with pytest.raises(
        ValueError,
        match="share a pool, but 'group', which has needs, contains only one of them",
    ):
        virtual(outside.co_run)
    assert virtual(
        Scheduler(Scheduler(user(), user(), needs={"a": 1}), pool=Pool(a=1)).co_run
    )


@pytest.mark.parametrize("first", ["inside", "outside"])
def test_a_pool_inside_a_keeper_cannot_serve_another_run(
    virtual: Virtual, first: str
) -> None:
    pool = Pool(own=1)
    inside = Scheduler(
        Scheduler(Job(nap, 9), pool=pool, needs={"a": 1}, label="group"), pool=Pool(a=1)
    )
    runs = [inside, Scheduler(Job(nap, 9), pool=pool)]
    one, other = runs if first == "inside" else reversed(runs)

    async def main() -> None:
        async with running(one, 1):
            with pytest.raises(
                ValueError, match="share a pool, but 'group', which has needs"
            ):
                await other.co_run()

    virtual(main)
    assert one.stop_reason is StopReason.COMPLETED


@pytest.mark.parametrize("depth", [0, 1])
def test_a_job_that_does_not_fit_beside_the_needs_of_services_is_rejected(
    virtual: Virtual, depth: int
) -> None:
    job: Any = Job(nap, 1, needs={"a": 2}, label="job")
    for _ in range(depth):
        job = Scheduler(job)
    services = [
        Service(serve, 0, needs={"a": 1}, label=f"s{number}") for number in range(2)
    ]
    scheduler = Scheduler(*services, job, pool=Pool(a=3), timeout=LONG)
    with pytest.raises(
        ValueError,
        match=r"'job' needs a=2, but services reserve 2 of 3 until .* \('s0', 's1'\)",
    ):
        virtual(scheduler.co_run)
    assert virtual(
        Scheduler(
            Service(serve, 0, needs={"a": 1}),
            Job(nap, 1, needs={"a": 2}),
            pool=Pool(a=3),
        ).co_run
    )


@pytest.mark.parametrize(
    "change", ["the job needs more", "the pool is smaller", "another job"]
)
def test_a_job_that_does_not_fit_beside_a_service_is_rejected_in_each_run(
    virtual: Virtual, change: str
) -> None:
    job = Job(nap, 1, needs={"a": 2})
    scheduler = Scheduler(
        Service(serve, 0, needs={"a": 1}), job, pool=Pool(a=3), timeout=LONG
    )
    assert virtual(scheduler.co_run)
    if change == "the job needs more":
        job.needs = {"a": 3}
    elif change == "the pool is smaller":
        scheduler.pool = Pool(a=2)
    else:
        scheduler.add(Job(nap, 1, needs={"a": 3}))
    for _ in range(2):
        with pytest.raises(ValueError, match="services reserve 1 of"):
            virtual(scheduler.co_run)


@pytest.mark.parametrize("depth", [0, 1])
def test_a_clean_up_job_may_need_what_a_service_keeps(
    virtual: Virtual, depth: int
) -> None:
    bad = Job(fail, critical=True)
    clean_up = Job(nap, 1, needs={"a": 2}, required=bad, run_if="failed")
    jobs: Any = [bad, clean_up]
    for _ in range(depth):
        jobs = [Scheduler(*jobs)]
    assert not virtual(
        Scheduler(
            Service(serve, 0, needs={"a": 1}), *jobs, pool=Pool(a=2), timeout=LONG
        ).co_run
    )
    assert clean_up.is_succeeded()


def test_services_that_do_not_fit_beside_each_other_are_rejected(
    virtual: Virtual,
) -> None:
    services = [Service(serve, 0, needs={"a": 1}) for _ in range(2)]
    scheduler = Scheduler(
        *services, Job(nap, 1, required=services), pool=Pool(a=1), timeout=LONG
    )
    with pytest.raises(ValueError, match="services reserve 1 of 1 until the run ends"):
        virtual(scheduler.co_run)


def test_a_job_required_by_a_service_may_need_the_same_resource(
    virtual: Virtual,
) -> None:
    before = Job(nap, 1, needs={"a": 1})
    group = Scheduler(before)
    service = Service(serve, 0, needs={"a": 1}, required=group)
    assert virtual(
        Scheduler(group, service, Job(nap, 1, required=service), pool=Pool(a=1)).co_run
    )
    inside = Service(serve, 0, needs={"a": 1})
    beside = Scheduler(inside, Job(nap, 1, required=inside))
    assert virtual(
        Scheduler(
            beside, Job(nap, 1, needs={"a": 1}, required=beside), pool=Pool(a=1)
        ).co_run
    )


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("nearer", ["pool", "needs", "service inside"])
def test_what_a_service_keeps_is_gone_where_jobs_would_take_it(
    virtual: Virtual, nearer: str, is_late: bool
) -> None:
    """A pool inside, or what a group keeps, is another supply of the same name: no service beside it has any of it."""
    outside = [Service(serve, 0, needs={"a": 2}), Job(nap, 1, needs={"a": 1})]
    group = Scheduler(Job(nap, 1, needs={"a": 2}), pool=Pool(a=2))
    if nearer == "needs":
        group = Scheduler(Job(nap, 1, needs={"a": 1}), needs={"a": 1})
    elif nearer == "service inside":
        outside = [Job(nap, 1, needs={"a": 3})]
        group = Scheduler(
            Service(serve, 0, needs={"a": 1}),
            Job(nap, 1, needs={"a": 1}),
            pool=Pool(a=2),
        )

    async def main() -> bool:
        async with Scheduler(
            *(() if is_late else (*outside, group)), pool=Pool(a=3), timeout=LONG
        ) as scheduler:
            for job in (*outside, group):
                if is_late:
                    scheduler.add(job)
        return scheduler.stop_reason is StopReason.COMPLETED

    assert virtual(main)


@pytest.mark.parametrize(
    "late", ["job", "service", "service before an idle job", "service before a group"]
)
def test_a_late_job_or_service_that_does_not_fit_beside_others_is_rejected(
    virtual: Virtual, late: str
) -> None:
    async def main() -> bool:
        async with Scheduler(pool=Pool(a=2)) as scheduler:
            job, service = (
                Job(nap, 1, needs={"a": 2}, label="job"),
                Service(serve, 0, needs={"a": 1}, label="db"),
            )
            if late == "job":
                scheduler.add(service)
                with pytest.raises(
                    ValueError,
                    match=r"'job' needs a=2, but services reserve 1 of 2.*'db'",
                ):
                    scheduler.add(job)
            else:
                first = scheduler.add(Job(nap, 1, needs={"a": 1}))
                waiting = Scheduler(job) if late == "service before a group" else job
                scheduler.add(waiting if late == "service" else waiting.requires(first))
                with pytest.raises(
                    ValueError,
                    match=r"'job' needs a=2, but services reserve 1 of 2.*'db'",
                ):
                    scheduler.add(service)
            scheduler.add(Job(nap, 1, needs={"a": 1}))
        return scheduler.stop_reason is StopReason.COMPLETED

    assert virtual(main)


def test_an_ended_service_frees_its_needs_for_late_jobs(virtual: Virtual) -> None:
    async def main() -> bool:
        async with Scheduler(pool=Pool(a=1)) as scheduler:
            service = scheduler.add(Service(serve, 0, needs={"a": 1}, critical=False))
            await anyio.sleep(1)
            service.cancel()
            await anyio.sleep(1)
            scheduler.add(Job(nap, 1, needs={"a": 1}))
        return scheduler.stop_reason is StopReason.COMPLETED

    assert virtual(main)


@pytest.mark.parametrize("deep", [False, True])
def test_a_nested_scheduler_that_runs_by_itself_has_no_pool_of_an_enclosing_one(
    deep: bool,
) -> None:
    job = Job(nap, 1, needs={"a": 1}, label="x")
    inner = Scheduler(Scheduler(job) if deep else job)
    Scheduler(inner, pool=Pool(a=1))
    with pytest.raises(ValueError, match="'x' needs a=1, which no enclosing pool has"):
        inner.run()
    assert job.started_at is None


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_job_inside_a_keeper_is_not_held_back_by_a_reservation(
    virtual: Virtual, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any depth: a rate outside, which a job there has reserved, may be taken. Otherwise the two could wait long."""
    inside = Job(anyio.sleep, 1, needs={"api": 1})
    group: Any = inside
    for _ in range(depth):
        group = Scheduler(group)
    pool = Pool(cpu=1, api=Rate(requests=10, per=10, burst=10))
    first, big = (
        Job(anyio.sleep, 1, needs={"api": 10}),
        Job(anyio.sleep, 1, needs={"api": 10}, priority=1),
    )
    big.requires(Job(anyio.sleep, 0))
    scheduler = Scheduler(
        first, big.required, big, Scheduler(group, needs={"cpu": 1}), pool=pool
    )
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 0)
    assert virtual(scheduler.co_run)
    assert (inside.started_at, big.started_at) == (1, 11)


def test_another_thread_may_ask_why_a_job_waits_for_a_key_as_its_gap_ends() -> None:
    kept: list[Any] = []

    def prepare() -> tuple[Callable[[], str], Callable[[], None]]:
        family: Any = Pool(host=PerKey(1, gap=5))._resources["host"]
        key = family.key("a.org")
        kept.append(key)
        key.clock = lambda: 0.0
        key.rest_ends.append(5.0)
        key.free = 0
        return lambda: key.describe_wait(1).text, key.rest_ends.clear

    texts = dict.fromkeys(answers_midway(prepare))
    assert list(texts) == [
        "host 'a.org': 1 of 1 taken",
        "host 'a.org': gap, 5 s left",
    ]
