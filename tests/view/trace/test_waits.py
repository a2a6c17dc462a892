"""What each span waited for, since when, and which job ended the wait."""

import functools
import itertools
import time
from typing import Any
import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import (
    Budget,
    First,
    Job,
    Pool,
    Rate,
    Scheduler,
    Sequence,
    Service,
    Throttled,
    Trace,
)
from trioflow.abc import WaitCause
from trioflow.view.trace import _waits
from trioflow.view.trace._spans import Wait, settled_at, wait_texts
from ...bodies import at_once, fail, flaky, later, nap, running, serve, unwind
from ...conftest import Virtual
from .scenarios import traced


def waits_by_path(trace: Trace) -> dict[str, list[str]]:
    """Return the waits of each span, by path: how long, for what, and until which job."""
    spans, found = trace.spans, dict[str, list[str]]()
    for span in spans:
        for wait in span.waits:
            by = (
                ""
                if wait.released_by is None
                else f" until {spans[wait.released_by].label}"
            )
            found.setdefault(span.path, []).append(
                f"{wait.seconds:g} s {wait.words}{by}"
            )
    return found


def trainings(*seconds: float, **options: Any) -> list[Job[Any]]:
    return [
        Job(nap, one, label=f"train {one:g}", needs={"gpu": 1}, **options)
        for one in seconds
    ]


def causes(trace: Trace) -> list[WaitCause | None]:
    """Return why each job on the critical path waited for the job before it."""
    record = trace._get_record()
    found: list[WaitCause | None] = []
    for number, predecessor in record.critical_path.items():
        released = [
            wait.cause
            for wait in record.spans[number].waits
            if wait.released_by == predecessor
        ]
        others = [cause for cause in released if cause is not WaitCause.JOBS]
        found.append(None if predecessor is None else [WaitCause.JOBS, *others][-1])
    return found


def path(trace: Trace) -> str:
    reasons = (f" [{cause or 'start'}] " for cause in causes(trace))
    return "".join(
        reason + span.path
        for reason, span in zip(reasons, trace.critical_path, strict=True)
    )


def test_a_job_that_throttles_two_resources_is_the_cause_of_waits_for_each(
    virtual: Virtual,
) -> None:
    errors = [Throttled("api", after=5), Throttled("db", after=5)]

    async def ask() -> None:
        if errors:
            raise errors.pop(0)

    jobs = [
        Job(ask, label="ask", needs={"api": 1, "db": 1}),
        Job(nap, 1, label="api", needs={"api": 1}),
    ]
    late = Job(nap, 1, label="db", needs={"db": 1}, required=Job(nap, 6, label="first"))
    trace = traced(
        virtual, Scheduler(*jobs, late, late.required, pool=Pool(api=2, db=2))
    )
    assert waits_by_path(trace) == {
        "ask": [
            "5 s the throttle of api until ask",
            "5 s the throttle of db until ask",
        ],
        "api": ["5 s the throttle of api until ask"],
        "db": ["6 s jobs until first", "4 s the throttle of db until ask"],
    }


def test_of_several_waits_no_single_job_is_said_to_have_ended_all() -> None:
    waits = [Wait(WaitCause.SLOT, "", 0, 1, 7), Wait(WaitCause.SLOT, "", 2, 4, 7)]
    assert [*wait_texts((), waits)] == ["waited 3 s for a slot"]


def test_a_wait_for_a_resource_ends_with_the_job_that_released_it(
    virtual: Virtual,
) -> None:
    """The critical path once began at a job that had waited for a resource, instead of at the job that had held it."""
    jobs = trainings(3, 4, 5, 6, 7)
    report = Job(nap, 1, label="report", required=jobs)
    trace = traced(virtual, Scheduler(*jobs, report, pool=Pool(gpu=["0", "1"])))
    assert (
        path(trace)
        == " [start] train 3 [resource] train 5 [resource] train 7 [jobs] report"
    )
    assert waits_by_path(trace) == {
        "train 5": ["3 s gpu until train 3"],
        "train 6": ["4 s gpu until train 4"],
        "train 7": ["8 s gpu until train 5"],
        "report": ["15 s jobs until train 7"],
    }


def test_a_job_of_a_staggered_first_waits_for_those_before_it(virtual: Virtual) -> None:
    """Before its turn it waits for jobs; this once read as a wait for the event loop, or for what the job needs."""
    first = First(
        Job(nap, 9, label="one"),
        Job(nap, 9, needs={"cpu": 1}, label="two"),
        stagger=2,
        label="first",
    )
    trace = traced(virtual, Scheduler(first, pool=Pool(cpu=1)))
    assert waits_by_path(trace) == {"first/two": ["2 s jobs"]}


def test_a_job_that_skipped_itself_waited_as_any_other(virtual: Virtual) -> None:
    """One whose node could not be reached was said to have waited for jobs, although it requires none."""

    class Skipping(Job[Any]):
        def _skip_reason(self) -> str:
            return "its node cannot be reached"

    jobs = [
        Job(nap, 3, label="first"),
        Skipping(nap, 1, label="skipped"),
        Job(nap, run_if="failed"),
    ]
    jobs[2].requires(jobs[0])
    assert waits_by_path(traced(virtual, Scheduler(*jobs, jobs_window=1))) == {
        "skipped": ["3 s a slot until first"],
        "nap()": ["3 s jobs"],
    }


def test_a_job_waits_for_a_slot_first_and_then_for_resources(virtual: Virtual) -> None:
    first, last = (
        Job(nap, 5, label="first", needs={"disk": 1}),
        Job(nap, 1, label="last", needs={"disk": 1}),
    )
    jobs = [first, Job(nap, 2, label="short"), last]
    trace = traced(virtual, Scheduler(*jobs, jobs_window=2, pool=Pool(disk=1)))
    assert waits_by_path(trace)["last"] == [
        "2 s a slot until short",
        "3 s disk until first",
    ]
    assert path(trace) == " [start] first [resource] last"


def test_a_wait_for_a_rate_leads_to_the_last_job_that_made_a_request(
    virtual: Virtual,
) -> None:
    jobs = [Job(nap, 1, label=label, needs={"api": 1}) for label in "abcd"]
    trace = traced(
        virtual, Scheduler(*jobs, pool=Pool(api=Rate(requests=1, per=10, burst=2)))
    )
    assert waits_by_path(trace) == {
        "c": ["10 s rate of api until b"],
        "d": ["20 s rate of api until c"],
    }
    assert path(trace) == " [start] b [rate] c [rate] d"


def test_a_throttled_job_waits_for_the_throttle_and_then_for_the_rate(
    virtual: Virtual,
) -> None:
    ask = flaky(error=functools.partial(Throttled, "api", after=5))
    jobs = [Job(ask, label=label, needs={"api": 1}) for label in "abc"]
    trace = traced(
        virtual, Scheduler(*jobs, pool=Pool(api=Rate(requests=1, per=8, burst=1)))
    )
    assert waits_by_path(trace) == {
        "a": ["5 s the throttle of api until a", "2 s rate of api"],
        "b": [
            "1 s rate of api until a",
            "5 s the throttle of api until a",
            "10 s rate of api until a",
        ],
        "c": [
            "1 s rate of api until a",
            "5 s the throttle of api until a",
            "18 s rate of api until b",
        ],
    }
    assert path(trace) == " [start] a [rate] b [rate] c"


def test_jobs_of_a_nested_scheduler_wait_for_the_schedulers_share(
    virtual: Virtual,
) -> None:
    inner = Scheduler(*trainings(2, 3, 4), label="inner", needs={"gpu": 2})
    late, more = (
        Job(nap, 9, needs={"gpu": 1}, label="late"),
        Job(nap, 5, label="more", needs={"gpu": 2}),
    )
    found = waits_by_path(
        traced(virtual, Scheduler(*trainings(1), inner, late, more, pool=Pool(gpu=3)))
    )
    assert found["inner/train 4"] == ["2 s gpu until train 2"]
    assert (found["late"], found[more.label]) == (
        ["1 s gpu until train 1"],
        ["6 s gpu until inner"],
    )


def test_a_wait_for_a_resource_held_by_another_run_names_no_job(
    virtual: Virtual,
) -> None:
    pool, trace = Pool(disk=1), Trace()
    mine = Scheduler(
        Job(nap, 1, label="mine", needs={"disk": 1}), pool=pool, instruments=[trace]
    )

    async def both() -> None:
        async with running(Scheduler(Job(nap, 3, needs={"disk": 1}), pool=pool), 1):
            await mine.co_run()

    virtual(both)
    assert waits_by_path(trace) == {"mine": ["2 s disk"]}


def test_a_job_that_never_started_waited_until_it_settled(virtual: Virtual) -> None:
    """A job that never started waited until it settled: a blocked one for the failure, a cancelled one for a slot."""
    bad = Job(fail, 2, label="bad")
    blocked = Job(nap, label="blocked", required=bad, run_if="succeeded")
    jobs = [
        bad,
        *(Job(nap, 9, label=label) for label in ("first", "next", "last")),
        blocked,
    ]
    trace = traced(virtual, Scheduler(*jobs), jobs_window=2, timeout=5)
    assert waits_by_path(trace) == {
        "next": ["2 s a slot until bad"],
        "last": ["5 s a slot"],
        "blocked": ["2 s jobs"],
    }


def test_a_job_that_a_spent_budget_has_blocked_waited_for_the_budget(
    virtual: Virtual,
) -> None:
    """It was ready all the time; it was said to have waited for jobs, although it required none."""
    jobs = [
        Job(nap, seconds, label=f"{seconds}", needs={"usd": 1}) for seconds in (2, 5, 5)
    ]
    trace = traced(virtual, Scheduler(*jobs, pool=Pool(usd=Budget(1))))
    assert waits_by_path(trace) == {"5": ["2 s usd"], "5#2": ["2 s usd"]}


def test_a_job_that_never_started_waited_for_a_slot_and_then_for_a_resource(
    virtual: Virtual,
) -> None:
    """A wait for a slot ends although the job never started: it was in no lane, and a trace once could not be read."""
    members = [
        Job(nap, 1, label="first"),
        Job(nap, 1, label="second", needs={"gpu": 1}),
    ]
    holder = Job(nap, 9, label="holder", needs={"gpu": 1})
    trace = traced(
        virtual,
        Scheduler(
            holder, Scheduler(*members, jobs_window=1, label="in"), pool=Pool(gpu=1)
        ),
        timeout=2,
    )
    assert waits_by_path(trace) == {"in/second": ["1 s a slot until first", "1 s gpu"]}


def test_jobs_wait_for_a_service_until_it_is_ready(virtual: Virtual) -> None:
    service: Service[Any] = Service(serve, 3, label="db")
    forever = Job(nap, 99, forever=True, needs={"port": 1})
    jobs = [
        forever, service, Job(nap, 1, label="user", required=service), Job(nap, 1, label="other", needs={"port": 1}),
    ]  # fmt: skip
    scheduler = Scheduler(*jobs, pool=Pool(port=1), timeout=9)
    assert waits_by_path(traced(virtual, scheduler)) == {
        "user": ["3 s jobs until db"],
        "other": ["9 s port"],
    }


def test_unfinished_waits_last_until_now(virtual: Virtual) -> None:
    trace = Trace()
    watcher = Job(later, 2, lambda: waits_by_path(trace), label="watcher")
    jobs = [watcher, *trainings(5, 6), Job(nap, 1, label="then", required=watcher)]
    virtual(
        functools.partial(
            Scheduler(*jobs, pool=Pool(gpu=1)).co_run, instruments=[trace]
        )
    )
    assert watcher.result() == {"train 6": ["2 s gpu"], "then": ["2 s jobs"]}


def test_short_delays_in_real_time_are_not_waits(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real time, short delays, such as that until a job takes a free resource, do not count as waits."""
    monkeypatch.setattr(
        _waits, "MIN_GAP_SECONDS", 0.09
    )  # on a busy machine they are milliseconds
    jobs = trainings(0.1, 0.11, 0.12)
    after = Job(anyio.sleep, 0, label="after", required=jobs[0])
    trace = Trace()
    Scheduler(*jobs, after, pool=Pool(gpu=1)).run(backend=backend, instruments=[trace])
    causes = {span.label: [wait.words for wait in span.waits] for span in trace.spans}
    assert causes == {
        "train 0.1": [],
        "train 0.11": ["gpu"],
        "train 0.12": ["gpu"],
        "after": ["jobs"],
    }


def test_many_intervals_of_a_wait_are_merged_into_few(
    monkeypatch: pytest.MonkeyPatch, virtual: Virtual
) -> None:
    """However often a resource goes to other jobs, the wait for it has few parts, without gaps."""
    monkeypatch.setattr(_waits, "MAX_INTERVALS", 4)
    monkeypatch.setattr(_waits, "MAX_STEPS", 20)
    often = Sequence(
        [
            Job(nap, 1 + 0.01 * place, needs={"disk": 1, "cpu": place % 2})
            for place in range(40)
        ]
    )
    big = Job(nap, 1, label="big", needs={"disk": 1, "cpu": 2})
    late = Job(nap, 0, label="late", needs={"disk": 2, "cpu": 1})
    trace = traced(virtual, Scheduler(often, big, late, pool=Pool(disk=2, cpu=2)))
    for span in trace.spans:
        assert len(span.waits) <= 5
        assert sum(wait.seconds for wait in span.waits) == pytest.approx(
            (span.started_at or 0) - trace._get_record().start_time
        )


@given(
    st.lists(
        st.tuples(
            st.integers(1, 5), st.integers(0, 2), st.integers(0, 1), st.integers(-3, -1)
        ),
        max_size=12,
    ),
    st.sampled_from([None, 1, 2, 3]),
)
def test_waits_fill_the_time_before_the_start_of_a_job(
    virtual: Virtual, drawn: list[tuple[int, int, int, int]], window: int | None
) -> None:
    """Waits fill the time before a job starts without a gap, and none ends before the job that it waited for. The
    holder may have released the resource before: a reservation can delay the waiting job a little longer."""
    jobs: list[Job[Any]] = []
    for seconds, disk, api, behind in drawn:
        needs = {"disk": disk, "api": api}
        jobs.append(
            Job(
                nap,
                seconds,
                label=str(len(jobs)),
                needs=needs,
                required=jobs[behind:][:1],
            )
        )
    trace = traced(
        virtual,
        Scheduler(
            *jobs, pool=Pool(disk=2, api=Rate(requests=1, per=2)), jobs_window=window
        ),
    )
    for span in trace.spans:
        ends = [trace._get_record().start_time, *(wait.until for wait in span.waits)]
        assert ends == pytest.approx(
            [*(wait.since for wait in span.waits), span.started_at]
        )
        for wait in span.waits:
            by = None if wait.released_by is None else trace.spans[wait.released_by]
            assert wait.cause in ("rate", "resource") or by is not None
            if wait.cause in ("jobs", "slot", "resource") and by is not None:
                assert by.finished_at is not None
                assert by.finished_at <= wait.until + 1e-6
                assert wait.cause != "jobs" or by.finished_at == pytest.approx(
                    wait.until
                )


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.booleans(), st.integers(-3, -1)), max_size=12
    ),
    st.sampled_from([None, 1, 2, 3]),
    st.integers(1, 4),
)
def test_a_job_waits_for_a_rate_only_while_the_rate_is_used_up(
    virtual: Virtual, drawn: list[tuple[int, bool, int]], window: int | None, limit: int
) -> None:
    jobs: list[Job[Any]] = []
    for seconds, asks, behind in drawn:
        needs = {"api": 1} if asks else {}
        jobs.append(
            Job(
                nap,
                seconds,
                label=str(len(jobs)),
                needs=needs,
                required=jobs[behind:][:1],
            )
        )
    trace = traced(
        virtual,
        Scheduler(
            *jobs, pool=Pool(api=Rate(requests=limit, per=4)), jobs_window=window
        ),
    )
    starts = [
        span.started_at or 0.0 for span in trace.spans if jobs[int(span.label)].needs
    ]
    for wait in (
        wait for span in trace.spans for wait in span.waits if wait.cause == "rate"
    ):
        for moment in (wait.since + 1e-6, wait.until - 1e-6):
            assert sum(moment - 4 < start <= moment for start in starts) >= limit


def test_a_job_that_the_loop_kept_waiting_did_not_wait_for_its_rate(
    backend: Any,
) -> None:
    trace, jobs = (
        Trace(),
        [
            Job(at_once, lambda: time.sleep(0.01), label=label, needs={"api": 1})
            for label in "abc"
        ],
    )
    Scheduler(*jobs, pool=Pool(api=Rate(requests=20, per=1))).run(
        backend=backend, instruments=[trace]
    )
    assert {wait.cause for span in trace.spans for wait in span.waits} == {"loop"}


# --- the critical path, from the last job to finish backwards to the beginning of the run, without a gap
def chain(virtual: Virtual, scheduler: Scheduler, **options: Any) -> str:
    """Run a scheduler, and return its critical path: each job behind a sign for what it waited for."""
    trace = Trace()
    virtual(functools.partial(scheduler.co_run, instruments=[trace], **options))
    signs: dict[WaitCause | None, str] = {
        None: "|",
        WaitCause.JOBS: ">",
        WaitCause.SLOT: "~",
        WaitCause.RESOURCE: ":",
    }
    paths = [span.path for span in trace.critical_path]
    return "".join(
        signs[cause] + path for cause, path in zip(causes(trace), paths, strict=True)
    )


def test_the_path_goes_through_the_requirement_that_settled_last(
    virtual: Virtual,
) -> None:
    a, b = Job(nap, 1, label="a"), Job(nap, 3, label="b")
    assert (
        chain(virtual, Scheduler(a, b, Job(nap, 1, label="c", required=[a, b])))
        == "|b>c"
    )


def test_the_path_goes_through_the_job_that_released_the_slot(virtual: Virtual) -> None:
    jobs = [
        Job(nap, seconds, label=label)
        for label, seconds in [("a", 5), ("b", 2), ("c", 4), ("d", 1)]
    ]
    assert chain(virtual, Scheduler(*jobs), jobs_window=2) == "|b~c"


def test_the_path_goes_through_the_call_that_decided_a_first(virtual: Virtual) -> None:
    calls = [Job(nap, 3.3, label="alpha"), Job(unwind, 60, 0.1, label="beta")]
    assert (
        chain(
            virtual,
            Scheduler(First(*calls, stagger=3, label="q"), Job(nap, 1, label="a")),
        )
        == "|q|q/alpha"
    )


def test_the_path_goes_through_a_released_slot_in_real_time(backend: str) -> None:
    """Jobs that become ready together start microseconds apart; the critical path still goes through the slot."""
    trace = Trace()
    last = Job(anyio.sleep, 0.01, label="c")

    async def until_last_started() -> None:
        while not last.is_running() and not last.is_settled():  # noqa: ASYNC110 - both ends are fine
            await anyio.sleep(0.001)

    jobs = [Job(anyio.sleep, 0.01, label="a"), Job(until_last_started, label="b"), last]
    Scheduler(*jobs, jobs_window=2).run(backend=backend, instruments=[trace])
    assert [
        (span.path, cause)
        for span, cause in zip(trace.critical_path, causes(trace), strict=True)
    ] == [("a", None), ("c", "slot")]


def test_the_path_goes_through_the_tokens_of_a_limiter(virtual: Virtual) -> None:
    jobs = [
        Job(nap, seconds, label=label)
        for label, seconds in [("a", 5), ("b", 2), ("c", 4)]
    ]
    trace = Trace()

    async def main() -> None:
        await Scheduler(*jobs).co_run(
            jobs_window=anyio.CapacityLimiter(2), instruments=[trace]
        )

    virtual(main)
    assert trace._get_record().runs[0].window_size == 2
    assert [span.path for span in trace.critical_path] == ["b", "c"]


def test_a_job_that_starts_when_it_becomes_ready_did_not_wait_for_a_slot(
    virtual: Virtual,
) -> None:
    assert (
        chain(
            virtual,
            Scheduler(Sequence([Job(nap, label=x) for x in "abc"])),
            jobs_window=1,
        )
        == "|a>b>c"
    )


def test_forever_jobs_are_not_on_the_path(virtual: Virtual) -> None:
    """The critical path has no forever jobs, which end because the run does, except services that are ready late."""
    service = Service(serve, 3, label="service")
    watch = Job(anyio.sleep_forever, label="watch", forever=True)
    assert (
        chain(virtual, Scheduler(watch, service, Job(nap, 2, service, label="client")))
        == "|service>client"
    )


def test_the_path_continues_inside_nested_schedulers(virtual: Virtual) -> None:
    x, y = Job(nap, 1, label="x"), Job(fail, 2, label="y", critical=True)
    inner = Scheduler(x, y.requires(x), Job(nap, 1, label="z"), label="n", retry=1)
    first = Job(nap, 1, label="a")
    assert (
        chain(virtual, Scheduler(first, inner.requires(first)))
        == "|a>n|n/x>n/y|n/x>n/y"
    )


def test_the_path_leaves_a_nested_scheduler_through_a_resource(
    virtual: Virtual,
) -> None:
    members = [
        Job(nap, 1, label="k"),
        Job(nap, 1, label="l"),
        Job(nap, 1, label="user", needs={"gpu": 1}),
    ]
    inner = Scheduler(Sequence(*members), jobs_window=1, label="inner")
    outside = [
        Job(nap, 1.5, label="first"),
        Job(nap, 3, label="holder", needs={"gpu": 1}),
    ]
    path = chain(virtual, Scheduler(inner, *outside, jobs_window=2, pool=Pool(gpu=1)))
    assert path == "|inner|first~holder:inner/user"


def test_the_path_ends_with_the_culprit_of_a_critical_failure(virtual: Virtual) -> None:
    bad = Job(fail, 2, label="bad", critical=True, required=(a := Job(nap, label="a")))
    assert chain(virtual, Scheduler(Job(unwind, 99, 3, label="u"), a, bad)) == "|a>bad"


def test_the_path_ends_with_clean_up_jobs_after_a_critical_failure(
    virtual: Virtual,
) -> None:
    bad = Job(fail, 2, label="bad", critical=True)
    clean = Job(nap, 3, label="clean", run_if="failed", required=bad)
    assert (
        chain(virtual, Scheduler(bad, clean, Job(nap, 9, label="cut"))) == "|bad>clean"
    )


def test_the_critical_path_of_a_timed_out_run_ends_with_a_cancelled_job(
    virtual: Virtual,
) -> None:
    scheduler = Scheduler(
        Job(nap, 1, label="a"),
        Job(nap, 9, label="b"),
        Job(nap, 9, label="c"),
        timeout=4,
    )
    assert chain(virtual, scheduler) == "|b"


def test_the_critical_path_goes_through_a_blocked_culprit(virtual: Virtual) -> None:
    bad = Job(fail, 2, label="bad")
    assert (
        chain(virtual, Scheduler(bad, Job(nap, 1, bad, label="blocked", critical=True)))
        == "|bad"
    )


def test_the_search_for_the_path_ends_if_jobs_have_no_duration(
    virtual: Virtual,
) -> None:
    """The search terminates even if jobs start and settle at the same instant, so that their times give no order."""
    jobs = [Job(nap, 0, label=str(number)) for number in range(9)]
    for before, after in itertools.pairwise(jobs):
        after.requires(before)
    assert chain(virtual, Scheduler(*reversed(jobs)), jobs_window=1).count(">") <= 8


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.sets(st.integers(1, 12), max_size=3)),
        min_size=1,
        max_size=14,
    ),
    st.sampled_from([None, 1, 2, 3]),
)
def test_the_path_has_no_gap(
    virtual: Virtual, plan: list[tuple[int, set[int]]], window: int | None
) -> None:
    jobs: list[Job[Any]] = []
    for number, (seconds, back) in enumerate(plan):
        jobs.append(
            Job(
                nap,
                seconds,
                label=str(number),
                required=[jobs[number - b] for b in back if b <= number],
            )
        )
    trace = Trace()
    virtual(Scheduler(*jobs, jobs_window=window, instruments=[trace]).co_run)
    spans = trace.critical_path
    predecessors = [*trace._get_record().critical_path.values()]
    assert spans[0].started_at == 0
    assert spans[-1].finished_at == max(job.finished_at or 0 for job in jobs)
    assert predecessors == [None, *(span.number for span in spans[:-1])]
    for cause, before, after in zip(causes(trace)[1:], spans, spans[1:], strict=False):
        assert settled_at(before) == after.started_at
        assert (cause is WaitCause.JOBS) == (after.scheduled_at == after.started_at)


@pytest.mark.parametrize("own", [0, 1, 2, 3])
def test_a_wait_was_ended_by_the_last_use_of_another_job(own: int) -> None:
    """However often the job that waits has used the resource itself, as in several attempts."""
    uses: list[Any] = [(0.0, 1.0, 1, 7)]
    uses += [(1.0 + number, 2.0 + number, 1, 8) for number in range(own)]
    for total in (1.0, None):
        use = _waits.ResourceUse("cpu", total, {}, uses=list(uses))
        assert use.find_releasing_span_number(0.5, 9.0, 8) == 7
