"""A scheduler that keeps what it needs is the only pool of its members, but for rates and pools inside."""

from functools import partial
from typing import Any

import anyio
import pytest
from trioflow import Job, Pool, Rate, Scheduler, Service, StopReason
from trioflow._core.admission import _admission
from ..bodies import fail, nap, running, serve
from ..conftest import Virtual

LONG = 1000


def keeper(keeps: str, needs: str) -> Scheduler:
    """Return a scheduler that keeps one resource, and has a member that needs another one after a while."""
    first = Job(nap, 1)
    return Scheduler(first, Job(nap, 1, needs={needs: 1}, required=first, label=needs), needs={keeps: 1})


def test_members_of_a_keeper_find_kept_names_rates_and_pools_inside(virtual: Virtual) -> None:
    inside = Scheduler(Job(nap, 1, needs={"a": 1, "own": 2, "api": 1}), pool=Pool(own=2))
    group = Scheduler(inside, Job(nap, 1, needs={"a": 2, "api": 1}), needs={"a": 2})
    assert virtual(Scheduler(group, pool=Pool(a=2, b=1, api=Rate(requests=9, per=1))).co_run)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_need_from_a_pool_outside_of_the_keeper_is_rejected_before_the_run(virtual: Virtual, depth: int) -> None:
    inner: Any = Job(nap, 1, needs={"b": 1}, label="member")
    for _ in range(depth):
        inner = Scheduler(inner)
    group = Scheduler(inner, needs={"a": 1}, label="group")
    other = Job(nap, 1)
    scheduler = Scheduler(other, group, pool=Pool(a=1, b=1))
    with pytest.raises(ValueError, match=r"'member' needs b=1, which is in a pool outside 'group'"):
        virtual(scheduler.co_run)
    assert other.is_idle()


def test_a_nested_keeper_cannot_need_names_that_its_enclosing_keeper_lacks(virtual: Virtual) -> None:
    inner = Scheduler(Job(nap, 1), needs={"b": 1}, label="inner")
    scheduler = Scheduler(Scheduler(inner, needs={"a": 1}, label="outer"), pool=Pool(a=1, b=1))
    with pytest.raises(ValueError, match=r"'inner' needs b=1, which is in a pool outside 'outer'"):
        virtual(scheduler.co_run)


@pytest.mark.parametrize("what", ["group", "member", "member of an idle group", "inside an idle group"])
def test_a_need_from_a_pool_outside_of_the_keeper_is_rejected_by_add(virtual: Virtual, what: str) -> None:
    """`add` rejects a late group, or late member, that needs what the keeper lacks, and the run continues."""
    before = Job(nap, 5 if "idle" in what else 0)
    inner = Scheduler(Job(nap, 1))
    group = Scheduler(Job(nap, 3), inner, needs={"a": 1}, label="group", required=before)

    async def add() -> None:
        await anyio.sleep(1)
        home, new = inner if "inside" in what else group, Job(nap, 1, needs={"b": 1}, label="member")
        if what == "group":
            home, new = scheduler, Scheduler(new, needs={"c": 1}, label="late")  # type: ignore[assignment]
        with pytest.raises(ValueError, match=r"'member' needs b=1, which is in a pool outside '(group|late)'"):
            home.add(new)
        assert new not in home

    scheduler = Scheduler(before, group, Job(add), pool=Pool(a=1, b=1, c=1))
    assert virtual(scheduler.co_run)
    scheduler.raise_for_failures()


def test_two_runs_that_would_deadlock_on_a_shared_pool_are_rejected(virtual: Virtual) -> None:
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


def test_a_pool_shared_inside_and_outside_of_a_keeper_is_rejected(virtual: Virtual) -> None:
    pool = Pool(own=1)

    def user() -> Scheduler:
        return Scheduler(Job(nap, 1, needs={"own": 1}), pool=pool)

    outside = Scheduler(Scheduler(user(), needs={"a": 1}, label="group"), user(), pool=Pool(a=1))
    with pytest.raises(ValueError, match="share a pool, but 'group', which has needs, contains only one of them"):
        virtual(outside.co_run)
    assert virtual(Scheduler(Scheduler(user(), user(), needs={"a": 1}), pool=Pool(a=1)).co_run)


@pytest.mark.parametrize("first", ["inside", "outside"])
def test_a_pool_inside_a_keeper_cannot_serve_another_run(virtual: Virtual, first: str) -> None:
    pool = Pool(own=1)
    inside = Scheduler(Scheduler(Job(nap, 9), pool=pool, needs={"a": 1}, label="group"), pool=Pool(a=1))
    runs = [inside, Scheduler(Job(nap, 9), pool=pool)]
    one, other = runs if first == "inside" else reversed(runs)

    async def main() -> None:
        async with running(one, 1):
            with pytest.raises(ValueError, match="share a pool, but 'group', which has needs"):
                await other.co_run()

    virtual(main)
    assert one.stop_reason is StopReason.COMPLETED


@pytest.mark.parametrize("depth", [0, 1])
def test_a_job_that_does_not_fit_beside_the_needs_of_services_is_rejected(virtual: Virtual, depth: int) -> None:
    job: Any = Job(nap, 1, needs={"a": 2}, label="job")
    for _ in range(depth):
        job = Scheduler(job)
    services = [Service(serve, 0, needs={"a": 1}, label=f"s{number}") for number in range(2)]
    scheduler = Scheduler(*services, job, pool=Pool(a=3), timeout=LONG)
    with pytest.raises(ValueError, match=r"'job' needs a=2, but services reserve 2 of 3 until .* \('s0', 's1'\)"):
        virtual(scheduler.co_run)
    assert virtual(Scheduler(Service(serve, 0, needs={"a": 1}), Job(nap, 1, needs={"a": 2}), pool=Pool(a=3)).co_run)


@pytest.mark.parametrize("change", ["the job needs more", "the pool is smaller", "another job"])
def test_a_job_that_does_not_fit_beside_a_service_is_rejected_in_each_run(virtual: Virtual, change: str) -> None:
    job = Job(nap, 1, needs={"a": 2})
    scheduler = Scheduler(Service(serve, 0, needs={"a": 1}), job, pool=Pool(a=3), timeout=LONG)
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
def test_a_clean_up_job_may_need_what_a_service_keeps(virtual: Virtual, depth: int) -> None:
    bad = Job(fail, critical=True)
    clean_up = Job(nap, 1, needs={"a": 2}, required=bad, run_if="failed")
    jobs: Any = [bad, clean_up]
    for _ in range(depth):
        jobs = [Scheduler(*jobs)]
    assert not virtual(Scheduler(Service(serve, 0, needs={"a": 1}), *jobs, pool=Pool(a=2), timeout=LONG).co_run)
    assert clean_up.is_succeeded()


def test_services_that_do_not_fit_beside_each_other_are_rejected(virtual: Virtual) -> None:
    services = [Service(serve, 0, needs={"a": 1}) for _ in range(2)]
    scheduler = Scheduler(*services, Job(nap, 1, required=services), pool=Pool(a=1), timeout=LONG)
    with pytest.raises(ValueError, match="services reserve 1 of 1 until the run ends"):
        virtual(scheduler.co_run)


def test_a_job_required_by_a_service_may_need_the_same_resource(virtual: Virtual) -> None:
    before = Job(nap, 1, needs={"a": 1})
    group = Scheduler(before)
    service = Service(serve, 0, needs={"a": 1}, required=group)
    assert virtual(Scheduler(group, service, Job(nap, 1, required=service), pool=Pool(a=1)).co_run)
    inside = Service(serve, 0, needs={"a": 1})
    beside = Scheduler(inside, Job(nap, 1, required=inside))
    assert virtual(Scheduler(beside, Job(nap, 1, needs={"a": 1}, required=beside), pool=Pool(a=1)).co_run)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("nearer", ["pool", "needs", "service inside"])
def test_what_a_service_keeps_is_gone_where_jobs_would_take_it(virtual: Virtual, nearer: str, is_late: bool) -> None:
    """A pool inside, or what a group keeps, is another supply of the same name: no service beside it has any of it."""
    outside = [Service(serve, 0, needs={"a": 2}), Job(nap, 1, needs={"a": 1})]
    group = Scheduler(Job(nap, 1, needs={"a": 2}), pool=Pool(a=2))
    if nearer == "needs":
        group = Scheduler(Job(nap, 1, needs={"a": 1}), needs={"a": 1})
    elif nearer == "service inside":
        outside = [Job(nap, 1, needs={"a": 3})]
        group = Scheduler(Service(serve, 0, needs={"a": 1}), Job(nap, 1, needs={"a": 1}), pool=Pool(a=2))

    async def main() -> bool:
        async with Scheduler(*(() if is_late else (*outside, group)), pool=Pool(a=3), timeout=LONG) as scheduler:
            for job in (*outside, group):
                if is_late:
                    scheduler.add(job)
        return scheduler.stop_reason is StopReason.COMPLETED

    assert virtual(main)


@pytest.mark.parametrize("late", ["job", "service", "service before an idle job", "service before a group"])
def test_a_late_job_or_service_that_does_not_fit_beside_others_is_rejected(virtual: Virtual, late: str) -> None:
    async def main() -> bool:
        async with Scheduler(pool=Pool(a=2)) as scheduler:
            job, service = Job(nap, 1, needs={"a": 2}, label="job"), Service(serve, 0, needs={"a": 1}, label="db")
            if late == "job":
                scheduler.add(service)
                with pytest.raises(ValueError, match=r"'job' needs a=2, but services reserve 1 of 2.*'db'"):
                    scheduler.add(job)
            else:
                first = scheduler.add(Job(nap, 1, needs={"a": 1}))
                waiting = Scheduler(job) if late == "service before a group" else job
                scheduler.add(waiting if late == "service" else waiting.requires(first))
                with pytest.raises(ValueError, match=r"'job' needs a=2, but services reserve 1 of 2.*'db'"):
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
def test_a_nested_scheduler_that_runs_by_itself_has_no_pool_of_an_enclosing_one(deep: bool) -> None:
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
    first, big = Job(anyio.sleep, 1, needs={"api": 10}), Job(anyio.sleep, 1, needs={"api": 10}, priority=1)
    big.requires(Job(anyio.sleep, 0))
    scheduler = Scheduler(first, big.required, big, Scheduler(group, needs={"cpu": 1}), pool=pool)
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 0)
    assert virtual(scheduler.co_run)
    assert (inside.started_at, big.started_at) == (1, 11)
