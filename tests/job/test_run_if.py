"""Rules: what decides whether a job runs, for each combination of `run_if`, requirements and their outcomes."""

import functools
import itertools
import re
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    Job,
    JobCancelled,
    JobSkipped,
    JobState,
    RequirementFailed,
    Scheduler,
    Sequence,
    StopReason,
    ref,
)
from trioflow._core.words._job_queries import settled_only_for
from ..bodies import (
    BLOCKED,
    CANCELLED,
    FAILED,
    SKIPPED,
    SUCCEEDED,
    at_once,
    give_now,
    later,
    nap,
    take,
)
from ..conftest import FRAMES, Virtual
from ..places import DOCS

RULES = ("settled", "succeeded", "failed")
EDGES = ("order", "input")
OUTCOMES = (SUCCEEDED, FAILED, BLOCKED, CANCELLED, SKIPPED)

# One letter for what becomes of the job: r it runs, b it is BLOCKED, s it is SKIPPED.
#           run_if:  settled  succeeded  failed
#             edge:  ord inp  ord  inp   ord inp
TABLE = {
    SUCCEEDED:       "r   r    r    r     s   s",
    FAILED:          "r   b    b    b     r   b",
    BLOCKED:         "r   b    b    b     r   b",
    CANCELLED:       "r   b    b    b     r   b",
    SKIPPED:         "r   s    s    s     s   s",
}  # fmt: skip
LETTERS = {"r": SUCCEEDED, "b": BLOCKED, "s": SKIPPED}


async def fail(seconds: float = 0, error: BaseException | None = None) -> None:
    await anyio.sleep(seconds)
    raise error or OSError("broken")


def with_outcome(outcome: JobState, scheduler: Scheduler) -> Job[Any]:
    """Add to the scheduler a job that ends in the given state, and what makes it end so, and return the job."""
    match outcome:
        case JobState.SUCCEEDED:
            job: Job[Any] = Job(give_now)
        case JobState.FAILED:
            job = Job(fail)
        case JobState.BLOCKED:
            job = Job(take, Job(fail))
        case JobState.CANCELLED:
            job = Job(nap, 99)
            scheduler.add(Job(later, 1, job.cancel))
        case _:
            job = Job(give_now, run_if="failed")
    return scheduler.add(job)


def job_with(run_if: Any, requirements: list[tuple[str, Job[Any]]]) -> Job[Any]:
    """A job with these requirements, by order or as inputs."""
    inputs = [one for edge, one in requirements if edge == "input"]
    return Job(
        take,
        *inputs,
        required=[one for edge, one in requirements if edge == "order"],
        run_if=run_if,
    )


def documented_table() -> dict[tuple[JobState, str, str], JobState]:
    """Read the table of docs/explained/failures.md: by outcome, `run_if` and edge."""
    rows = [
        line.strip("|").split("|")
        for line in (DOCS / "explained" / "failures.md").read_text().splitlines()
        if line.startswith("|") and line.count("|") == 7
    ]
    cells = [[cell.strip() for cell in row] for row in rows]
    head, _, *body = cells
    found: dict[tuple[JobState, str, str], JobState] = {}
    for outcome, *verdicts in body:
        for column, verdict in zip(head[1:], verdicts, strict=True):
            run_if, edge = column.split(", ")
            for name in outcome.replace(" or ", ", ").split(", "):
                found[JobState[name], run_if, edge] = (
                    SUCCEEDED if verdict == "runs" else JobState[verdict]
                )
    alike = {
        state: verdict
        for (state, *way), verdict in found.items()
        if way == ["succeeded", "input"]
    }
    return found | {
        (state, "settled", "input"): verdict for state, verdict in alike.items()
    }  # as said above the table


def own_table() -> dict[tuple[JobState, str, str], JobState]:
    return {
        (outcome, run_if, edge): LETTERS[letter]
        for outcome, letters in TABLE.items()
        for (run_if, edge), letter in zip(
            itertools.product(RULES, EDGES), letters.split(), strict=True
        )
    }


# --- the tables
@pytest.mark.parametrize("table", [own_table, documented_table])
def test_every_combination_of_run_if_outcome_and_edge_follows_the_table(
    virtual: Virtual, table: Any
) -> None:
    """Each combination of `run_if`, outcome of the requirement, and order or input is as the documented table says."""
    scheduler, jobs = Scheduler(), {}
    for key in itertools.product(OUTCOMES, RULES, EDGES):
        outcome, run_if, edge = key
        jobs[key] = scheduler.add(
            job_with(run_if, [(edge, with_outcome(outcome, scheduler))])
        )
    virtual(scheduler.co_run)
    assert {key: job.state for key, job in jobs.items()} == table()


@pytest.mark.parametrize("is_settled", [False, True])
@pytest.mark.parametrize("run_if", RULES)
def test_order_only_changes_nothing_of_whether_a_job_runs(
    virtual: Virtual, run_if: Any, is_settled: bool
) -> None:
    """It is for journals; a job that requires another settled runs whatever has happened to that, in either order."""
    scheduler, jobs = Scheduler(), []
    for outcome in OUTCOMES:
        before = with_outcome(outcome, scheduler)
        words = (
            [{"order_only": True}, {"settled": True}]
            if is_settled
            else [{"order_only": True}]
        )
        jobs += [
            (outcome, scheduler.add(job_with(run_if, [("order", before)])))
            for _ in range(3)
        ]
        for (_, job), calls in zip(jobs[-2:], (words, words[::-1]), strict=True):
            for each in calls:
                job.requires(before, **each)
        if is_settled:
            jobs[-3][1].requires(before, settled=True, order_only=True)
    virtual(scheduler.co_run)
    rule = "settled" if is_settled and run_if == "succeeded" else run_if
    table = own_table()
    skips = {
        (outcome, job): SKIPPED
        for outcome, job in jobs
        if outcome is SKIPPED and run_if == "succeeded"
    }
    expected = {
        (outcome, job): table[outcome, rule, "order"] for outcome, job in jobs
    } | skips
    assert {each: each[1].state for each in jobs} == expected


def test_settled_can_be_added_to_a_requirement_and_removed_with_it(
    virtual: Virtual,
) -> None:
    bad, worse = Job(fail, label="bad"), Job(fail, label="worse")
    job = Job(nap, label="job", required=[bad, worse]).requires(
        bad, worse, settled=True
    )
    job.requires(worse, remove=True).requires(worse)
    late = Job(nap, required=bad)
    assert (
        virtual(
            Scheduler(
                Job(at_once, lambda: late.requires(bad, settled=True)),
                bad,
                worse,
                job,
                late,
            ).co_run
        )
        is False
    )
    assert list(job.required) == [bad, worse]
    error = job.raised_exception()
    assert isinstance(error, RequirementFailed)
    assert error.requirement is worse
    assert error.__notes__ == [
        "to run it anyway, require it with requires(job, settled=True)"
    ]
    assert late.state is SUCCEEDED


@pytest.mark.parametrize(
    "words",
    [{"settled": True}, {"settled": True, "order_only": True}, {"remove": True}],
)
@pytest.mark.parametrize("twice", [False, True])
def test_an_input_cannot_be_required_without_its_result(
    words: dict[str, bool], twice: bool
) -> None:
    page, other = Job(nap, label="page"), Job(nap, label="other")
    report = Job(nap, [page], label="report", required=other)
    group = Scheduler(report, page, other)
    text = f"requires(..., {next(iter(words))}=True): 'report' has 'page' as an argument, and needs its result: "
    for _ in range(1 + twice):
        for call in (report.requires, Sequence(report).requires):
            with pytest.raises(
                ValueError,
                match=re.escape(text + "to pass the job itself, write ref(job)"),
            ):
                call(other, [page], **words)
    assert list(report.required) == [page, other]
    assert settled_only_for(report) == []
    assert group.is_runnable()


def test_an_argument_of_a_first_job_is_refused_where_its_sequence_needs_its_end_alone() -> (
    None
):
    page = Job(nap, label="page")
    pages = Sequence().requires(page, settled=True)
    with pytest.raises(
        ValueError, match="'report' has 'page' as an argument, and needs its result"
    ):
        pages.append(Job(nap, page, label="report"))
    pages.append(Job(nap, ref(page), label="by ref"))


def test_settled_survives_other_options(virtual: Virtual) -> None:
    """An option that is set afterwards leaves the condition as it is, and so does what is required afterwards."""
    bad = Job(fail)
    job = Job(nap).requires(bad, settled=True)
    job.timeout = 5
    job.requires(bad, *(others := [Job(nap) for _ in range(20)]))
    job.requires(bad, order_only=True)
    virtual(Scheduler(bad, others, job).co_run)
    assert job.state is SUCCEEDED


@pytest.mark.parametrize("word", ["always", "", None, "Failed"])
def test_unknown_run_if_raises(word: Any) -> None:
    with pytest.raises(
        ValueError, match=r"run_if=.*'mine'.*settled.*succeeded.*failed"
    ):
        Job(give_now, run_if=word, label="mine")


# --- BLOCKED
@pytest.mark.usefixtures("few_frames")
@pytest.mark.parametrize("edge", EDGES)
def test_all_jobs_of_a_long_chain_after_a_failure_are_blocked(
    virtual: Virtual, edge: str
) -> None:
    error = OSError("root")
    job: Any = Job(fail, 1, error)
    scheduler = Scheduler(job)
    chain = []
    for _ in range(FRAMES + 10):
        job = scheduler.add(
            job_with("succeeded" if edge == "order" else "settled", [(edge, job)])
        )
        chain.append(job)
    assert virtual(scheduler.co_run) is False
    assert {one.state for one in chain} == {BLOCKED}
    assert {one.finished_at for one in chain} == {1}
    assert all(one.raised_exception().__cause__ is error for one in chain)
    assert "cannot run" in str(chain[-1].raised_exception())


def test_all_jobs_of_a_long_chain_after_a_skipped_job_are_skipped(
    virtual: Virtual,
) -> None:
    job: Any = Job(give_now, run_if="failed")
    scheduler = Scheduler(job)
    for _ in range(2_000):
        job = scheduler.add(Job(take, job))
    assert virtual(functools.partial(scheduler.co_run, check=True)) is True
    assert {one.state for one in scheduler} == {SKIPPED}


def test_a_cancellation_before_a_failure_is_the_cause(virtual: Virtual) -> None:
    cut, bad = Job(nap, 9, label="cut"), Job(fail, 2)
    job = Job(take, bad, cut)
    virtual(Scheduler(Job(later, 1, cut.cancel), job).co_run)
    error = job.raised_exception()
    assert isinstance(error, RequirementFailed)
    assert error.requirement is cut
    assert isinstance(error.__cause__, JobCancelled)
    assert "'cut' was cancelled" in str(error.__cause__)


def test_a_requirement_failed_raised_by_a_job_has_the_right_root_cause(
    virtual: Virtual,
) -> None:
    bad = Job(fail)
    blocked = Job(take, bad)

    async def read() -> None:
        blocked.result()

    async def invent() -> None:
        raise RequirementFailed(blocked, bad)

    reading, inventing = (
        Job(read, required=blocked, run_if="settled"),
        Job(invent, required=blocked, run_if="settled"),
    )
    behind, behind_invented = Job(take, reading), Job(take, inventing)
    virtual(Scheduler(behind, behind_invented, blocked).co_run)
    assert behind.raised_exception().__cause__ is bad.raised_exception()  # type: ignore[union-attr]
    assert behind_invented.raised_exception().__cause__ is inventing.raised_exception()  # type: ignore[union-attr]


def test_a_critical_job_that_cancel_alone_has_blocked_does_not_stop_the_run(
    virtual: Virtual,
) -> None:
    """`cancel()` is no failure, so what it blocks stops nothing, and the run completes. Once, the run stopped with
    CRITICAL, although no failure counted, and `check=True` raised nothing."""
    ended, other = Job(nap, 9), Job(nap, 5)
    job = Job(nap, required=ended, critical=True)
    scheduler = Scheduler(ended, job, other, Job(later, 1, ended.cancel))
    assert virtual(functools.partial(scheduler.co_run, check=True)) is True
    assert (ended.state, job.state, other.state) == (CANCELLED, BLOCKED, SUCCEEDED)


def test_nested_scheduler_stopped_by_a_blocked_job_fails_with_what_blocked_it(
    virtual: Virtual,
) -> None:
    bad = Job(fail)
    vital = Job(take, bad, critical=True)
    nested = Scheduler(vital)
    behind = Job(give_now, required=nested, run_if="succeeded")
    virtual(Scheduler(nested, behind).co_run)
    assert nested.state is FAILED
    assert nested.raised_exception().exceptions == (bad.raised_exception(),)  # type: ignore[union-attr]
    assert behind.raised_exception().__cause__ is nested.raised_exception()  # type: ignore[union-attr]


# --- SKIPPED, alarms
def test_a_skipped_job_is_no_failure(virtual: Virtual) -> None:
    skipped = Job(give_now, run_if="failed", critical=True)
    alarm = Job(give_now, required=skipped, run_if="failed")
    scheduler = Scheduler(skipped, alarm)
    assert virtual(functools.partial(scheduler.co_run, check=True)) is True
    assert scheduler.stop_reason is StopReason.COMPLETED
    assert alarm.state is SKIPPED
    scheduler.raise_for_failures()


def test_result_of_a_job_without_a_value_raises_the_error_of_its_state(
    virtual: Virtual,
) -> None:
    scheduler = Scheduler()
    jobs = [
        scheduler.add(with_outcome(outcome, scheduler))
        for outcome in (BLOCKED, SKIPPED, CANCELLED)
    ]
    idle = Job(
        give_now, required=scheduler.add(Job(fail, 5, critical=True)), label="idle"
    )
    scheduler.add(idle)
    virtual(scheduler.co_run)
    wanted = [RequirementFailed, JobSkipped, JobCancelled, trioflow.JobNotDone]
    for job, kind in zip([*jobs, idle], wanted, strict=True):
        for _ in range(2):
            with pytest.raises(kind):
                job.result()
    assert [job.raised_exception() is not None for job in (*jobs, idle)] == [
        True,
        False,
        False,
        False,
    ]
    assert [job.started_at for job in (jobs[0], jobs[1])] == [None, None]
    assert [job.finished_at for job in (jobs[0], jobs[1])] == [0, 0]
    assert [job.attempts for job in (jobs[0], jobs[1])] == [0, 0]
    assert not any(job.is_done() for job in jobs)
    assert all(job.is_settled() for job in jobs)
