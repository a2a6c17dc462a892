"""The facts about a run and its jobs that views read, beyond the public names of a job."""

from collections import deque
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    AbstractJob,
    Adaptive,
    Budget,
    Job,
    PerKey,
    Pool,
    Rate,
    Scheduler,
    Sequence,
    Service,
    ref,
)
from trioflow._core.admission._pools import resource_views
from trioflow._core.base._states import RunPhase
from trioflow._core.job._ancestors import enclosing_schedulers, outermost_scheduler
from trioflow._core.job._errors import DROPPED
from trioflow._core.scheduler._checks import (
    check_may_run,
    check_scenario,
    store_implied_requirements,
)
from trioflow._core.scheduler._members import collect_dropped
from trioflow._core.words import _job_queries
from trioflow._core.words._explain import (
    get_status_text,
    open_requirements,
    waiting_since,
)
from trioflow._core.words._job_queries import (
    all_requirements,
    end_facts,
    failure_of,
    ranks_of,
    runs_commands,
)
from trioflow._core.words._run_view import current_run, run_times
from trioflow.abc import JobKind
from ..bodies import fail, flaky, hooked, later, nap, nothing, running, serve
from ..conftest import Virtual


def test_enclosing_schedulers_are_listed_from_the_innermost_outwards() -> None:
    job = AbstractJob()
    inner = Scheduler(job)
    middle = Scheduler(inner)
    outer = Scheduler(middle)
    assert list(enclosing_schedulers(job)) == [inner, middle, outer]
    assert list(enclosing_schedulers(outer)) == []
    assert outermost_scheduler(inner) is outermost_scheduler(outer) is outer


def test_a_run_that_is_being_checked_has_no_times_yet(virtual: Virtual) -> None:
    """A view may ask in that moment, of a group that has just started, too: a large one yields as it is checked."""
    group = Scheduler([Job(nothing) for _ in range(3000)], label="group")
    scheduler = Scheduler(group)
    phases: set[RunPhase] = set()

    async def main() -> None:
        async with running(scheduler):
            while scheduler.stop_reason is None:
                for each in (scheduler, group):
                    if (run := each._run) is not None:
                        phases.add(run.phase)
                        assert (run_times(each) is None) is (
                            not hasattr(run, "began_at")
                        )
                await anyio.lowlevel.checkpoint()

    virtual(main)
    assert {RunPhase.CHECKING, RunPhase.RUNNING} <= phases
    assert run_times(group) is not None


def test_a_run_view_has_phase_window_and_stop_reason(virtual: Virtual) -> None:
    told: list[Any] = []

    async def look(stops: bool) -> None:
        if stops:
            scheduler.drain()
        run = current_run(scheduler)
        assert run is not None
        told.append(
            (
                run.phase,
                run.reason,
                run.window,
                run.has_adaptive_window,
                run.clock() == anyio.current_time(),
            )
        )

    scheduler = Scheduler(Job(look, False), Job(look, True), jobs_window=1)
    assert current_run(scheduler) is None
    virtual(scheduler.co_run)
    assert current_run(scheduler) is None
    assert told == [
        (RunPhase.RUNNING, None, 1, False, True),
        (RunPhase.DRAINING, trioflow.StopReason.DRAINED, 1, False, True),
    ]


def test_a_run_view_has_the_maximum_of_an_adaptive_window(virtual: Virtual) -> None:
    async def look() -> tuple[int | None, bool, int | None]:
        run = current_run(scheduler)
        assert run is not None
        return run.window, run.has_adaptive_window, scheduler.window_size

    job = Job(look)
    scheduler = Scheduler(job, jobs_window=Adaptive(2, 8))
    virtual(scheduler.co_run)
    assert job.result() == (8, True, 2)


def test_a_run_view_has_the_tokens_of_a_limiter(virtual: Virtual) -> None:
    async def look(scheduler: Scheduler) -> int | None:
        run = current_run(scheduler)
        assert run is not None
        return run.tokens_taken

    async def both() -> None:
        for window, told in ((2, None), (anyio.CapacityLimiter(2), 1)):
            scheduler = Scheduler(jobs_window=window)
            job = scheduler.add(Job(look, ref(scheduler)))
            await scheduler.co_run()
            assert job.result() == told

    virtual(both)


@pytest.mark.parametrize(
    ("rate", "taken", "delays"),
    [
        (Rate(calls=1, per=1, burst=2), 1, [0, 0, 1, 2, 3, 4]),
        (Rate(calls=2, per=10), 2, [0, 10, 10, 20, 20, 30]),
    ],
)
def test_start_delay_of_a_rate_adds_up_the_needs_of_all_given_jobs(
    virtual: Virtual, rate: Rate, taken: int, delays: list[int]
) -> None:
    """Without a burst it counts whole periods."""
    pool, one, two = (
        Pool(api=rate),
        *(Job(nap, 1, needs={"api": {"calls": number}}) for number in (1, 2)),
    )

    async def look() -> list[float]:
        (view,) = resource_views(pool)
        assert view.start_delay([one, one]) == view.start_delay([two])
        return [round(view.start_delay([one] * number), 6) for number in range(6)]

    watcher = Job(look, needs={"api": {"calls": taken}})
    virtual(Scheduler(Sequence(watcher, [one, two]), pool=pool).co_run)
    assert watcher.result() == delays


def test_what_is_spent_is_said_as_a_job_ends(virtual: Virtual) -> None:
    texts: list[str] = []
    watch = hooked(
        job_settled=lambda *_: texts.append(resource_views(pool)[0].budget_text)
    )

    async def pay(seconds: float, used: float) -> None:
        await nap(seconds)
        trioflow.current_job().used(usd=used)

    pool = Pool(usd=Budget(10))
    jobs = [Job(pay, 1, 3, needs={"usd": 2}), Job(pay, 2, 1, needs={"usd": 4})]
    assert virtual(Scheduler(*jobs, pool=pool, instruments=[watch]).co_run)
    assert texts == ["usd 3 of 10 spent, 4 reserved", "usd 4 of 10 spent"]


class Teller(JobKind[str]):
    """A job that has a status text, and returns what views read of that while it runs."""

    async def co_run(self) -> str:
        return get_status_text(self)

    def command_line(self) -> str:
        return "tell"

    def status_text(self) -> str:
        return "telling"


def test_status_text_of_a_running_job_is_empty_if_the_job_is_redacted(
    virtual: Virtual,
) -> None:
    open_, secret = Teller(), Teller(redact=True)
    assert get_status_text(open_) == ""
    virtual(Scheduler(open_, secret).co_run)
    assert (open_.result(), secret.result(), get_status_text(open_)) == (
        "telling",
        "",
        "",
    )
    assert end_facts(open_)[3] is False
    assert runs_commands(open_)
    assert [_job_queries.command_line_of(job) for job in (open_, secret)] == [
        "tell",
        secret.redacted_label(),
    ]
    assert not runs_commands(Job(nap, 1))


def test_amounts_of_memory_are_shown_in_units() -> None:
    (memory,) = resource_views(Pool(memory="8 GiB"))
    assert memory.describe() == "memory=8 GiB of 8 GiB free"


def test_the_total_of_a_key_is_that_of_a_number() -> None:
    limits = Pool(host=PerKey(2), api=PerKey(Rate(calls=1, per=1)), cpu=3)
    found = resource_views(limits)
    assert [view.key_total("a") for view in found] == [2, None, None]
    assert found[0].start_delay([Job(nap, 1, needs={"host": "a"})]) == 0


def test_a_rank_is_the_longest_path_to_an_exit() -> None:
    first = Job(nap, 1, expected_duration=2, label="first")
    last = Job(nap, 1, required=first, expected_duration=3)
    assert ranks_of(Scheduler(first, last)) == {first: 5, last: 3}
    assert [_job_queries.explicit_label(job) for job in (first, last)] == [
        "first",
        None,
    ]


@pytest.mark.parametrize("keeps", [False, True])
def test_jobs_that_a_scheduler_drops_are_collected_in_their_order(
    virtual: Virtual, keeps: bool
) -> None:
    readers = [deque[Any](), deque[Any]()]
    added = [Job(nap, 1), Job(fail, 2, critical=False), Job(fail, 3), Job(nap, 4)]
    awaited = Job(fail, 5)

    async def grow() -> None:
        for collected in readers:
            collect_dropped(scheduler, collected)
        scheduler.update(added)
        with pytest.raises(OSError, match="broken"):
            await scheduler.add(awaited)

    scheduler = Scheduler(Job(grow), keep_jobs=keeps)
    virtual(scheduler.co_run)
    assert [[*collected] for collected in readers] == [
        [] if keeps else [*added[:2], added[3], awaited]
    ] * 2


def test_nested_scheduler_waits_for_the_inputs_of_its_members() -> None:
    """A nested scheduler waits for the jobs whose results its members use, once the implied requirements are stored."""
    given = Job(nap, 1)
    outer = Scheduler(given)
    inner = outer.add(Scheduler(Job(nap, given)))
    assert all_requirements(outer, inner) == []
    store_implied_requirements(outer)
    assert all_requirements(outer, inner) == [given]
    assert _job_queries.members_in_order(outer) == [given, inner]


def test_an_idle_job_still_waits_for_its_unsettled_requirements(
    virtual: Virtual,
) -> None:
    """But not for services that are ready."""
    first, watcher, service = (
        Job(nap, 1),
        Job(later, 2, lambda: open_requirements(last)),
        Service(serve),
    )
    last = Job(nap, 1, required=[first, watcher, service])
    virtual(Scheduler(first, watcher, service, last).co_run)
    assert watcher.result() == [watcher]
    assert open_requirements(AbstractJob(required=first)) == []


def test_a_scheduled_job_waits_since_the_last_one_before_it_has_settled(
    virtual: Virtual,
) -> None:
    """A SCHEDULED job waits since its last requirement settled; without any, or in other states, this is unknown."""
    watcher, first = (
        Job(later, 3, lambda: [waiting_since(job) for job in (last, entry, first)]),
        Job(nap, 1),
    )
    last, entry = (
        Job(nap, 1, required=first, needs={"disk": 1}),
        Job(nap, 1, needs={"disk": 1}),
    )
    holder = Job(nap, 5, needs={"disk": 1})
    virtual(Scheduler(holder, watcher, first, last, entry, pool=Pool(disk=1)).co_run)
    assert watcher.result() == [first.finished_at, None, None]
    assert waiting_since(last) is None


@pytest.mark.parametrize("is_throttled_first", [True, False])
def test_a_job_waits_since_its_last_attempt_throttled_or_failed(
    virtual: Virtual, is_throttled_first: bool
) -> None:
    errors = [trioflow.Throttled("api", after=10), OSError()]

    async def ask() -> None:
        await anyio.sleep(1)
        if errors:
            raise errors.pop(0 if is_throttled_first else -1)

    retry = trioflow.Retry(1, first=10, jitter=False)
    job = Job(ask, needs={"api": {"calls": 1}}, retry=retry)
    watchers = [Job(later, seconds, lambda: waiting_since(job)) for seconds in (5, 16)]
    assert virtual(
        Scheduler(job, *watchers, pool=Pool(api=Rate(calls=100, per=1))).co_run
    )
    assert [watcher.result() for watcher in watchers] == [1, 12]


def test_end_facts_show_whether_a_job_has_a_failure_or_further_attempts(
    virtual: Virtual,
) -> None:
    plain, bad, late = Job(nap, 1), Job(fail), Job(flaky(), retry=1)
    virtual(Scheduler(plain, bad, late).co_run)
    assert [end_facts(job)[0] is job.state for job in (plain, bad, late)] == [
        True,
        True,
        True,
    ]
    assert [end_facts(job)[1:3] for job in (plain, bad)] == [
        (j.started_at, j.finished_at) for j in (plain, bad)
    ]
    assert [end_facts(job)[3] for job in (plain, bad, late)] == [True, False, False]
    failure = failure_of(bad)
    assert failure is not None
    assert failure.exception is bad.raised_exception()
    assert failure_of(plain) is None


def test_a_dropped_result_differs_from_none(virtual: Virtual) -> None:
    dropped = Job(nap, 1, keep_result=False)
    user = Job(lambda _: nap(1), dropped)
    virtual(Scheduler(dropped, user).co_run)
    assert [_job_queries.stored_result(job) is DROPPED for job in (dropped, user)] == [
        True,
        False,
    ]
    assert _job_queries.inputs_of(user) == (dropped,)


def test_a_scheduler_that_is_closed_may_not_run() -> None:
    scheduler = Scheduler(AbstractJob())
    check_may_run(scheduler)
    check_scenario(scheduler)
    scheduler.close()
    with pytest.raises(RuntimeError, match="is closed; make a new"):
        check_may_run(scheduler)
