"""The critical path, from the last job to finish backwards to the beginning of the run, without a gap."""

import functools
import itertools
from typing import Any

import anyio
from hypothesis import given
from hypothesis import strategies as st
from trioflow import First, Job, Pool, Scheduler, Sequence, Service, Trace
from trioflow.abc import WaitCause
from trioflow.view.trace._spans import settled_at
from trioflow.view.trace._trace_record import CriticalPathLink
from ...bodies import fail, nap
from ...conftest import Virtual


def chain(virtual: Virtual, scheduler: Scheduler, **options: Any) -> str:
    """Run a scheduler, and return its critical path: each job behind a sign for what it waited for."""
    trace = Trace()
    virtual(functools.partial(scheduler.co_run, instruments=[trace], **options))
    signs: dict[WaitCause | None, str] = {None: "|", WaitCause.JOBS: ">", WaitCause.SLOT: "~", WaitCause.RESOURCE: ":"}
    paths = [span.path for span in trace.critical_path]
    return "".join(
        signs[link.wait_cause] + path for link, path in zip(trace._get_record().critical_path_links, paths, strict=True)
    )


def test_the_path_goes_through_the_requirement_that_settled_last(virtual: Virtual) -> None:
    a, b = Job(nap, 1, label="a"), Job(nap, 3, label="b")
    assert chain(virtual, Scheduler(a, b, Job(nap, 1, label="c", required=[a, b]))) == "|b>c"


def test_the_path_goes_through_the_job_that_released_the_slot(virtual: Virtual) -> None:
    jobs = [Job(nap, seconds, label=label) for label, seconds in [("a", 5), ("b", 2), ("c", 4), ("d", 1)]]
    assert chain(virtual, Scheduler(*jobs), jobs_window=2) == "|b~c"


def test_the_path_goes_through_the_call_that_decided_a_first(virtual: Virtual) -> None:
    async def hang_up() -> None:
        try:
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.1)

    calls = [Job(nap, 3.3, label="alpha"), Job(hang_up, label="beta")]
    assert chain(virtual, Scheduler(First(*calls, stagger=3, label="q"), Job(nap, 1, label="a"))) == "|q|q/alpha"


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
        (span.path, link.wait_cause)
        for span, link in zip(trace.critical_path, trace._get_record().critical_path_links, strict=True)
    ] == [("a", None), ("c", "slot")]


def test_the_path_goes_through_the_tokens_of_a_limiter(virtual: Virtual) -> None:
    async def limited() -> str:
        jobs = [Job(nap, seconds, label=label) for label, seconds in [("a", 5), ("b", 2), ("c", 4)]]
        trace = Trace()
        await Scheduler(*jobs).co_run(jobs_window=anyio.CapacityLimiter(2), instruments=[trace])
        assert trace._get_record().runs[0].window_size == 2
        return " ".join(span.path for span in trace.critical_path)

    assert virtual(limited) == "b c"


def test_a_job_that_starts_when_it_becomes_ready_did_not_wait_for_a_slot(virtual: Virtual) -> None:
    assert chain(virtual, Scheduler(Sequence([Job(nap, label=x) for x in "abc"])), jobs_window=1) == "|a>b>c"


def test_forever_jobs_are_not_on_the_path(virtual: Virtual) -> None:
    """The critical path has no forever jobs, which end because the run does, except services that are ready late."""

    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await anyio.sleep(3)
        task_status.started()
        await anyio.sleep_forever()

    service = Service(serve, label="service")
    watch = Job(anyio.sleep_forever, label="watch", forever=True)
    assert chain(virtual, Scheduler(watch, service, Job(nap, 2, service, label="client"))) == "|service>client"


def test_the_path_continues_inside_nested_schedulers(virtual: Virtual) -> None:
    """On the critical path, a nested scheduler is followed by the path inside it, once for each attempt."""
    x, y = Job(nap, 1, label="x"), Job(fail, 2, label="y", critical=True)
    inner = Scheduler(x, y.requires(x), Job(nap, 1, label="z"), label="n", retry=1)
    first = Job(nap, 1, label="a")
    assert chain(virtual, Scheduler(first, inner.requires(first))) == "|a>n|n/x>n/y|n/x>n/y"


def test_the_path_leaves_a_nested_scheduler_through_a_resource(virtual: Virtual) -> None:
    members = [Job(nap, 1, label="k"), Job(nap, 1, label="l"), Job(nap, 1, label="user", needs={"gpu": 1})]
    inner = Scheduler(Sequence(*members), jobs_window=1, label="inner")
    outside = [Job(nap, 1.5, label="first"), Job(nap, 3, label="holder", needs={"gpu": 1})]
    path = chain(virtual, Scheduler(inner, *outside, jobs_window=2, pool=Pool(gpu=1)))
    assert path == "|inner|first~holder:inner/user"


def test_the_path_ends_with_the_culprit_of_a_critical_failure(virtual: Virtual) -> None:
    async def unwinds() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3)

    bad = Job(fail, 2, label="bad", critical=True, required=(a := Job(nap, label="a")))
    assert chain(virtual, Scheduler(Job(unwinds, label="u"), a, bad)) == "|a>bad"


def test_the_path_ends_with_clean_up_jobs_after_a_critical_failure(virtual: Virtual) -> None:
    bad = Job(fail, 2, label="bad", critical=True)
    clean = Job(nap, 3, label="clean", run_if="failed", required=bad)
    assert chain(virtual, Scheduler(bad, clean, Job(nap, 9, label="cut"))) == "|bad>clean"


def test_the_critical_path_of_a_timed_out_run_ends_with_a_cancelled_job(virtual: Virtual) -> None:
    """The critical path of a run that timed out ends with the first of the jobs that ran until the timeout."""
    scheduler = Scheduler(Job(nap, 1, label="a"), Job(nap, 9, label="b"), Job(nap, 9, label="c"), timeout=4)
    assert chain(virtual, scheduler) == "|b"


def test_the_critical_path_goes_through_a_blocked_culprit(virtual: Virtual) -> None:
    bad = Job(fail, 2, label="bad")
    assert chain(virtual, Scheduler(bad, Job(nap, 1, bad, label="blocked", critical=True))) == "|bad"


def test_the_search_for_the_path_ends_if_jobs_have_no_duration(virtual: Virtual) -> None:
    """The search terminates even if jobs start and settle at the same instant, so that their times give no order."""
    jobs = [Job(nap, 0, label=str(number)) for number in range(9)]
    for before, after in itertools.pairwise(jobs):
        after.requires(before)
    assert chain(virtual, Scheduler(*reversed(jobs)), jobs_window=1).count(">") <= 8


@given(
    st.lists(st.tuples(st.integers(1, 9), st.sets(st.integers(1, 12), max_size=3)), min_size=1, max_size=14),
    st.sampled_from([None, 1, 2, 3]),
)
def test_the_path_has_no_gap(virtual: Virtual, plan: list[tuple[int, set[int]]], window: int | None) -> None:
    jobs: list[Job[Any]] = []
    for number, (seconds, back) in enumerate(plan):
        jobs.append(Job(nap, seconds, label=str(number), required=[jobs[number - b] for b in back if b <= number]))
    trace = Trace()
    scheduler = Scheduler(*jobs, jobs_window=window, instruments=[trace])
    virtual(scheduler.co_run)
    links: tuple[CriticalPathLink, ...] = trace._get_record().critical_path_links
    spans = trace.critical_path
    assert spans[0].started_at == 0
    assert spans[-1].finished_at == max(job.finished_at or 0 for job in jobs)
    for link, before, after in zip(links[1:], spans, spans[1:], strict=False):
        assert link.predecessor_number == before.number
        assert settled_at(before) == after.started_at
        assert (link.wait_cause is WaitCause.JOBS) == (after.scheduled_at == after.started_at)
