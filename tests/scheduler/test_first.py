"""`First`: what competes, what counts as a failure, and what is said about it."""

import contextlib
import inspect
import math
import re
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    First,
    Job,
    Pool,
    Retry,
    Scheduler,
    Sequence,
    Service,
    ThreadJob,
    Throttled,
    current_job,
    simulate,
)
from ..bodies import (
    CANCELLED,
    FAILED,
    IDLE,
    SKIPPED,
    SUCCEEDED,
    fail,
    fail_now,
    flaky,
    later,
    nap,
    nothing,
)
from ..conftest import Virtual


async def answer(question: str, seconds: float) -> tuple[str, float]:
    await nap(seconds)
    return question, seconds


def test_failures_in_a_first_count_only_through_it(virtual: Virtual) -> None:
    """`check=True` and `failures()` do not see what a `First` made good; of one that failed, they see its group."""
    good = First(Job(fail_now), Job(nap, 1))
    scheduler = Scheduler(good)
    assert virtual(lambda: scheduler.co_run(check=True))
    assert scheduler.failures() == {}
    bad = First(Job(fail_now, label="a"), Job(fail, 1, label="b"), label="ask")
    scheduler = Scheduler(bad, Job(nap, 2))
    with pytest.raises(ExceptionGroup) as raised:
        virtual(lambda: scheduler.co_run(check=True))
    [group] = raised.value.exceptions
    assert isinstance(group, ExceptionGroup)
    assert (group.message, len(group.exceptions)) == (
        "2 of 2 jobs of 'ask' failed, and one had to succeed",
        2,
    )
    assert list(scheduler.failures()) == [bad]


def test_a_critical_first_that_fails_ends_its_scheduler(virtual: Virtual) -> None:
    first = First(Job(fail_now), Job(fail, 1), critical=True)
    other = Job(nap, 9)
    scheduler = Scheduler(first, other, critical_jobs=True)
    with pytest.raises(ExceptionGroup) as raised:
        virtual(lambda: scheduler.co_run(check=True))
    assert [type(error) for error in raised.value.exceptions] == [ExceptionGroup]
    assert (scheduler.stop_reason, scheduler.culprit, other.state) == (
        trioflow.StopReason.CRITICAL,
        first,
        CANCELLED,
    )


def test_a_critical_member_ends_a_first(virtual: Virtual) -> None:
    """The failure of a critical member is that of the `First`, although another member could still succeed. As a
    `First` is one job, it is among the failures, and its critical member is its culprit."""
    culprit, other = Job(fail_now, critical=True), Job(nap, 1)
    first = First(culprit, other)
    scheduler = Scheduler(first)
    assert not virtual(scheduler.co_run)
    assert (first.state, first.culprit, other.state) == (FAILED, culprit, CANCELLED)
    assert scheduler.failures() == {first: first.raised_exception()}
    assert isinstance(error := first.raised_exception(), ExceptionGroup)
    assert error.exceptions == (culprit.raised_exception(),)


def test_jobs_without_an_exception_count_as_failed(virtual: Virtual) -> None:
    """A cancelled, a blocked and a skipped member are in the group, with what `result()` raises for them."""

    async def cancel_both() -> None:
        cancelled.cancel()
        current_job().cancel()
        await nap(1)

    cancelled = Job(nap, 9, label="cancelled")
    bad = Job(fail_now)
    skipped = Job(nothing, run_if="failed", required=Job(nothing, label="fine"))
    first = First(cancelled, Job(cancel_both), Job(answer, bad, 1), label="all")
    assert not virtual(Scheduler(bad, *skipped.required, skipped, first).co_run)
    error: Any = first.raised_exception()
    assert [type(one).__name__ for one in error.exceptions] == [
        "RequirementFailed",
        "JobCancelled",
        "JobCancelled",
    ]
    assert cancelled.state is CANCELLED
    assert skipped.state is SKIPPED


def test_the_timeout_of_a_first_is_its_failure(virtual: Virtual) -> None:
    """A timeout comes before any success, and `default=` of `result()` then applies."""
    first = First(Job(nap, 9), Job(nap, 8), timeout=2, label="slow")
    assert not virtual(Scheduler(first).co_run)
    assert (first.timed_out, first.result(default="none")) == (True, "none")
    assert isinstance(first.raised_exception(), trioflow.JobTimeout)
    moved_on = First(Job(nap, 9), Job(nap, 8), timeout=2, on_timeout="move_on")
    assert virtual(Scheduler(moved_on).co_run)
    assert (moved_on.state, moved_on.timed_out, moved_on.result()) == (
        SUCCEEDED,
        True,
        None,
    )


@pytest.mark.parametrize("stagger", [None, 0.5, 50])
def test_a_job_that_requires_all_leaves_a_first_without_enough(
    virtual: Virtual, stagger: float | None
) -> None:
    """A `First` to which a job was added that all others precede fails with the number, and gives back what it has."""
    one, two = Job(nap, 2), Job(nap, 3)
    first = First(one, two, enough=2, stagger=stagger)
    adding = Job(
        later, 1, lambda: first.add(Job(nap, 1, needs={"cpu": 1}, required=(one, two)))
    )
    user = Job(nothing, needs={"cpu": 1}, required=first)
    scheduler = Scheduler(first, adding, user, pool=Pool(cpu=1))
    virtual(scheduler.co_run)
    assert "has 1 job that no other one requires, and could never succeed" in str(
        first.raised_exception()
    )
    assert one.is_succeeded()
    assert user.is_settled()
    assert scheduler.pool is not None
    assert scheduler.pool.free == {"cpu": 1}


def test_a_first_with_an_infinite_stagger_starts_a_job_only_after_a_failure(
    virtual: Virtual,
) -> None:
    explained: list[str] = []

    async def ask(seconds: float, fails: bool) -> str:
        explained.append(scheduler.explain(last))
        await nap(seconds)
        if fails:
            raise OSError
        return "paid"

    one, two, last = (
        Job(ask, 500, True, label="one"),
        Job(ask, 9, False, label="two"),
        Job(ask, 0, False),
    )
    first = First(one, two, last, stagger=math.inf)
    scheduler = Scheduler(first)
    assert virtual(scheduler.co_run)
    assert (first.stagger, first.result(), two.started_at, last.started_at) == (
        math.inf,
        "paid",
        500,
        None,
    )
    assert explained[0].endswith("waits for its turn: until 'two' has failed")


@pytest.mark.parametrize("stagger", [9, math.inf])
def test_the_turns_of_jobs_that_were_cancelled_before_are_passed_over(
    virtual: Virtual, stagger: float
) -> None:
    def cancel() -> None:
        for job in cancelled:
            job.cancel()

    cancelled, last = [Job(nap), Job(nap)], Job(nap, 1, "last")
    first = First(Job(fail, 3), cancelled, last, stagger=stagger)
    assert virtual(Scheduler(first, Job(later, 1, cancel)).co_run)
    assert (first.result(), last.started_at) == ("last", 3)


def test_a_first_with_an_infinite_stagger_that_needs_more_starts_a_job_after_a_success_too(
    virtual: Virtual,
) -> None:
    """With `stagger=inf` no time opens a turn, so what has succeeded, and is not enough, does."""
    jobs = [
        Job(nap, 2, "one", label="one"),
        Job(fail, 3),
        Job(nap, 1, "three"),
        Job(nap, 1, "four"),
    ]
    explained: list[str] = []
    first = First(jobs, enough=2, stagger=math.inf)
    scheduler = Scheduler(
        first, Job(later, 1, lambda: explained.append(scheduler.explain(jobs[1])))
    )
    assert virtual(scheduler.co_run)
    assert ([job.started_at for job in jobs], first.result()) == (
        [0, 2, 5, None],
        ["one", "three"],
    )
    assert explained[0].endswith("waits for its turn: until 'one' has settled")


def test_a_turn_comes_so_long_after_the_first_start_in_the_one_before(
    virtual: Virtual,
) -> None:
    needed = Job(nap, 3, label="needed")
    calls = [Job(nap, 9, required=needed), Job(nap, 1)]
    first = First(needed, *calls, stagger=2)
    assert virtual(Scheduler(first).co_run)
    assert ([job.started_at for job in (needed, *calls)], first.finished_at) == (
        [0, None, 2],
        3,
    )


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("all last", [0, 2, 4, 6]),
        ("one waits", [0, 5, 7, 9]),
        ("one fails", [0, 2, 3, 5]),
    ],
)
def test_each_turn_comes_so_long_after_start_in_one_before(
    virtual: Virtual, way: str, expected: list[float]
) -> None:
    calls = [Job(nap, 20) for _ in range(4)]
    if way == "one waits":
        calls[1] = Job(nap, 20, needs={"cpu": 1})
    if way == "one fails":
        calls[1] = Job(fail, 1)
    assert virtual(
        Scheduler(
            Job(nap, 5, needs={"cpu": 1}), First(*calls, stagger=2), pool=Pool(cpu=1)
        ).co_run
    )
    assert [job.started_at for job in calls] == expected


@pytest.mark.parametrize("after", [1, 5])
def test_a_job_that_is_added_to_a_first_has_its_turn_in_time(
    virtual: Virtual, after: float
) -> None:
    """It comes so long after the start in the last turn, or at once if that time is over."""
    late = Job(nap, 1)
    first = First(Job(nap, 20), stagger=3)
    assert virtual(Scheduler(first, Job(later, after, lambda: first.add(late))).co_run)
    assert (late.started_at, first.finished_at) == (max(after, 3), max(after, 3) + 1)


@pytest.mark.parametrize("stagger", [1, math.inf, None])
def test_a_job_that_another_requires_since_the_first_began_does_not_compete(
    virtual: Virtual, stagger: float | None
) -> None:
    """Its success decided, or it waited for the turn of the other, which waited for it, so that the run stood still."""
    user, needed, gate = Job(nap, 1), Job(nap, 2), Job(nap, 1)
    jobs = [Job(fail, 9), user, needed]
    if stagger is None:
        user.requires(gate)
        jobs.append(gate)
    first = First(*jobs, stagger=stagger)
    mend = Job(later, 0.5, lambda: user.requires(needed))
    assert virtual(Scheduler(first, mend).co_run)
    times = needed.started_at, user.started_at, first.finished_at
    assert times == {1: (1, 3, 4), math.inf: (9, 11, 12), None: (0, 2, 3)}[stagger]


@pytest.mark.parametrize("word", ["of the job", "of the First"])
def test_a_first_tried_again_has_its_results_in_the_order_they_came(
    virtual: Virtual, word: str
) -> None:
    async def mend() -> None:
        await first.wait_settled()
        (first if word == "of the First" else mended).try_again()

    mended = Job(flaky(seconds=3))
    first = First(mended, Job(nap, 2, "late"), Job(nap, 1, "early"), enough=3)
    assert virtual(Scheduler(first, Job(mend)).co_run)
    assert first.result() == ["early", "late", 2]


@pytest.mark.parametrize("again", ["a retry", "a throttle"])
def test_a_turn_comes_so_long_after_the_first_attempt_in_the_one_before(
    virtual: Virtual, again: str
) -> None:
    async def call() -> None:
        calls.append(anyio.current_time())
        await anyio.sleep(2 if len(calls) == 1 else 9)
        if len(calls) == 1:
            raise Throttled("api", after=1) if again == "a throttle" else OSError

    calls: list[float] = []
    slow = Job(call, retry=Retry(1, first=1, jitter=False), needs={"api": 1})
    first = First(slow, hedge := Job(nap, 1), stagger=4)
    assert virtual(Scheduler(first, pool=Pool(api=1)).co_run)
    assert (calls, hedge.started_at, first.finished_at) == ([0, 3], 4, 5)


def test_infinity_is_none_only_where_none_means_no_limit() -> None:
    options = {
        name: option
        for kind in (
            First,
            Job,
            Service,
            trioflow.CommandJob,
            trioflow.ProcessJob,
            ThreadJob,
        )
        for name, option in kind._declared_options.items()
    }
    unlimited = set[str]()
    for name, option in options.items():
        with contextlib.suppress(TypeError, ValueError):
            if option.check(math.inf, name, "x") is None:
                unlimited.add(name)
    assert unlimited == {
        "timeout",
        "idle_timeout",
        "shutdown_timeout",
        "cleanup_timeout",
    }


def test_what_a_first_says_about_its_jobs(virtual: Virtual) -> None:
    opening, second = (
        Job(later, 1, lambda: scheduler.explain(second), label="one"),
        Job(nap, label="two"),
    )
    scheduler = Scheduler(First(opening, second, stagger=3, label="both"))
    assert virtual(scheduler.co_run)
    assert (
        opening.result()
        == "'two' waits for its turn: until 'one' has failed, or 3 s after its start"
    )
    late = First(Job(nap, 1), Job(nap, 2, label="loser"), label="race")
    scheduler = Scheduler(late)
    assert virtual(scheduler.co_run)
    assert scheduler.explain(list(late)[1]) == (
        "'loser' was cancelled after 1 s: enough other jobs of 'race' had succeeded"
    )


@pytest.mark.parametrize(
    ("jobs", "options", "message"),
    [
        (1, {"enough": 0}, "enough=0 of 'First': give a whole number, 1 or more"),
        (1, {"stagger": 0}, "stagger=0 of 'First': give a positive number"),
        (
            0,
            {},
            "'First' has 0 jobs that no other one requires, and could never succeed with enough=1",
        ),
        (
            2,
            {"enough": 2},
            "'First' has 1 job that no other one requires, and could never succeed with enough=2",
        ),
    ],
)
def test_an_impossible_first_is_rejected(
    virtual: Virtual, jobs: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        virtual(
            Scheduler(
                First(Sequence(Job(nothing) for _ in range(jobs)), **options)
            ).co_run
        )


def test_a_cancelled_first_has_no_result(virtual: Virtual) -> None:
    first = First(Job(nap, 9), Job(nap, 9))
    assert virtual(Scheduler(first, Job(later, 1, first.cancel)).co_run)
    with pytest.raises(trioflow.JobCancelled):
        first.result()


def test_an_outermost_first_runs_like_any_scheduler() -> None:
    """`run()` of a `First` returns whether it succeeded, and raises the group with `check=True`."""
    won = First(Job(fail_now), Job(nothing), label="won")
    assert won.run()
    with pytest.raises(
        trioflow.JobNotDone,
        match=r"'won' has run alone, (?s:.*)put it in a Scheduler, and run that",
    ):
        won.result()
    first = First(Job(fail_now, label="a"), label="only")
    assert not first.run()
    with pytest.raises(ExceptionGroup, match="1 of 1 jobs of 'only' failed"):
        first.run(check=True)
    assert [job.label for job in first.failures()] == ["a"]


def test_a_simulation_knows_a_first() -> None:
    first = First(
        Job(nap, expected_duration=5), Job(nap, expected_duration=2), stagger=1
    )
    assert (
        simulate(
            Scheduler(first, Job(nap, expected_duration=1, required=first))
        ).makespan
        == 4
    )


def test_the_signature_of_a_first_has_its_own_options() -> None:
    assert list(inspect.signature(First).parameters) == [
        "jobs_or_sequences",
        "enough",
        "stagger",
        "options",
    ]


def test_a_first_reports_the_failures_of_its_jobs(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has one line for a `First` that fails, with the error that its jobs share, and none for a lost race."""
    lost = First(
        *(Job(fail, 1, OSError(name)) for name in ("near", "far")), label="lost"
    )
    mixed = First(
        Job(fail, 2, OSError("near")), Job(fail, 3, KeyError("far")), label="mixed"
    )
    assert not virtual(
        Scheduler(lost, mixed, First(Job(fail), Job(nap, 9), label="won")).co_run
    )
    assert [line.partition(";")[0] for line in caplog.messages] == [
        "'lost' failed: OSError: near (one of 2)",
        "'mixed' failed: ExceptionGroup: 2 of 2 jobs of 'mixed' failed, and one had to succeed (2 sub-exceptions)",
        "2 jobs of 'Scheduler' failed",
    ]


def test_the_results_have_a_first_and_not_its_jobs(virtual: Virtual) -> None:
    first, other = (
        First(Scheduler(Job(nap, 9)), Job(nap, 1, "won")),
        Job(nap, 1, "other"),
    )
    scheduler = Scheduler(first, Scheduler(other))
    assert virtual(scheduler.co_run)
    assert scheduler.results() == {first: "won", other: "other"}


def test_with_critical_jobs_a_first_hedges_against_lateness_alone(
    virtual: Virtual,
) -> None:
    """A call that fails is not made again; one that is late is."""
    failing = First(Job(fail, 1), Job(nap, 1), stagger=2, critical_jobs=True)
    late = First(Job(nap, 9), Job(nap, 1), stagger=2, critical_jobs=True)
    assert not virtual(Scheduler(failing, late).co_run)
    assert (failing.state, [*failing][1].state) == (FAILED, IDLE)
    assert (late.state, late.elapsed) == (SUCCEEDED, 3)


def test_the_critical_jobs_around_a_first_do_not_reach_into_it(
    virtual: Virtual, capsys: pytest.CaptureFixture[str]
) -> None:
    first = First(Job(fail, 1), Job(nap, 2, "two"))
    scheduler = Scheduler(Scheduler(first), critical_jobs=True)
    scheduler.list()
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [
        "!",
        "!",
        "·",
        "·",
        "end",
        "end",
    ]
    assert virtual(scheduler.co_run)
    assert first.result() == "two"


def test_a_first_takes_one_slot_whatever_runs_in_it(virtual: Virtual) -> None:
    """A `First` takes one slot of the window in which it stands, as any nested scheduler; a limiter counts its jobs."""
    first, other = First(Job(nap, 5), Job(nap, 1), stagger=1), Job(nap, 3)
    assert virtual(Scheduler(first, other, jobs_window=2).co_run)
    assert [job.started_at for job in (*first, other)] == [0, 1, 0]
    first, other = First(Job(nap, 5), Job(nap, 1), stagger=1), Job(nap, 3)
    assert virtual(Scheduler(first, other, jobs_window=anyio.CapacityLimiter(2)).co_run)
    assert [job.started_at for job in (*first, other)] == [0, 3, 0]


def test_each_run_of_a_first_has_its_own_winner(virtual: Virtual) -> None:
    async def race(label: str, seconds: list[float]) -> str:
        await anyio.sleep(seconds.pop(0))
        return label

    first = First(
        Job(race, "a", [1, 4, 4]), Job(race, "b", [2, 2, 5]), Job(race, "c", [3, 3, 3])
    )
    scheduler = Scheduler(first)
    won: list[tuple[str, float]] = []
    for _ in range(3):
        assert virtual(scheduler.co_run)
        won.append((first.result(), first.elapsed or 0))
    assert won == [("a", 1), ("b", 2), ("c", 3)]
