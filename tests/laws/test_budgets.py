"""What a spent budget does to jobs, and what is said of it; `tests/model` predicts random scenarios."""

import io
from typing import Any

import pytest
from trioflow import Budget, BudgetSpent, First, Job, Monitor, Pool, Scheduler, StopReason, Trace, current_job
from trioflow._core.admission import _pools
from trioflow.view.text._verdict import run_verdict
from ..bodies import BLOCKED, FAILED, SUCCEEDED, fail, nap
from ..conftest import Virtual


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
    assert (late.state, user.state, alarm.state, late.started_at) == (BLOCKED, BLOCKED, SUCCEEDED, None)
    text = "'late' needs usd=0.5, but 0.25 of 1 left; 'large' used most: 0.75"
    assert str(late.raised_exception()) == text
    assert scheduler.explain(late) == f"'late' is blocked: {text}; enlarge the Budget, or reduce the needs"
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
    assert str(error).endswith("; 'job' used most: 1; attempt 1 failed: OSError: broken")


@pytest.mark.parametrize("number", [1, 2])
def test_attempts_of_one_job_are_one_user_of_a_budget(virtual: Virtual, number: int) -> None:
    """The error of a spent budget counts jobs, however many attempts each had, and has the last failure."""

    async def call() -> None:
        await nap(1)
        raise OSError(f"broken {current_job().attempts}")

    jobs = [Job(call, needs={"usd": 1}, retry=9, label="job") for _ in range(number)]
    assert not virtual(Scheduler(*jobs, pool=Pool(usd=Budget(3 * number))).co_run)
    user = "'job'" if number == 1 else "2 jobs 'job'"
    end = f"; {user} used most: {3 * number}; attempt 3 failed: OSError: broken 3"
    assert [str(job.raised_exception()).endswith(end) for job in jobs] == [True] * number


def test_a_job_waits_for_what_others_may_give_back(virtual: Virtual) -> None:
    """A job for which too little is left waits while running jobs could return enough, and then starts."""
    first = Job(pay, 0.1, needs={"usd": 1}, label="first")
    second = Job(pay, needs={"usd": 0.5}, label="second")
    unreported = Job(pay, needs={"usd": 0.5}, label="unreported")
    more = [Job(pay, needs={"usd": 0.5}) for _ in range(500)]  # blocking each in the round that the last one begins
    pool = Pool(usd=Budget(1))
    assert not virtual(Scheduler(first, second, unreported, more, pool=pool).co_run)
    assert (second.started_at, {job.state for job in (unreported, *more)}) == (0, {BLOCKED})
    assert repr(pool) == "<Pool usd=0.4 of 1 left>"


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_spent_budget_blocks_jobs_in_the_order_in_which_they_became_ready(virtual: Virtual, is_nested: bool) -> None:
    """Whatever each of them needs, and in whichever group it is; so their failures stand in the error."""
    spends = Job(pay, 9, needs={"usd": 9})
    late = [Job(pay, needs={"usd": 1 + number % 2}, label=f"{number}") for number in range(4)]
    # The member of a group is ready when the group has begun.
    jobs = [spends, late[0], Scheduler(late[1]) if is_nested else late[1], *late[2:]]
    with pytest.raises(ExceptionGroup) as raised:
        virtual(lambda: Scheduler(*jobs, pool=Pool(usd=Budget(9))).co_run(check=True))
    labels = [error.job.label for error in raised.value.exceptions if isinstance(error, BudgetSpent)]
    assert labels == (["0", "2", "3", "1"] if is_nested else ["0", "1", "2", "3"])


def test_the_use_of_few_labels_is_counted(virtual: Virtual, monkeypatch: pytest.MonkeyPatch) -> None:
    """When twice as many labels are counted as are kept, the smallest are dropped, however many labels there are."""
    monkeypatch.setattr(_pools, "MAX_COUNTED_LABELS", 2)
    pool = Pool(usd=Budget(100))
    jobs = [Job(pay, needs={"usd": 1 + number}, label=str(number)) for number in range(9)]
    assert virtual(Scheduler(*jobs, pool=pool, jobs_window=1).co_run)
    resource: Any = pool._resources["usd"]
    assert sorted(resource._used_by_label) == ["6", "7", "8"]
    assert resource.top_user() == "'8' used most: 9"


def test_an_estimate_that_was_too_low_is_logged_once(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """A job may use more than is left; this is logged once, and nothing more starts."""
    jobs = [Job(pay, 3, needs={"usd": 1}) for _ in range(4)]
    pool = Pool(usd=Budget(4))
    assert not virtual(Scheduler(*jobs, pool=pool, jobs_window=2).co_run)
    assert [job.state for job in jobs] == [SUCCEEDED, SUCCEEDED, BLOCKED, BLOCKED]
    assert pool.free["usd"] == -2
    assert [record.message for record in caplog.records if "exceeded" in record.message] == [
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
    for member in ([Job(nap, 1)], [Scheduler(Job(nap, 1))], [Job(pay, needs={"usd": 1}, run_if="failed")], []):
        assert virtual(Scheduler(Scheduler(*member, needs={"usd": 1}), pool=pool).co_run)
        assert pool.free["usd"] == 1.25


@pytest.mark.parametrize(
    ("amount", "error"), [(0, ValueError), (-1, ValueError), ("much", ValueError), (None, TypeError)]
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


def test_jobs_that_a_spent_budget_blocks_are_failures(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """`failures()`, `check=True` and the log report jobs that a budget has blocked, but not those that require them."""
    jobs = [Job(pay, needs={"usd": 1}, label=f"call {number}") for number in range(4)]
    user = Job(nap, 1, jobs[3], label="user")
    scheduler = Scheduler(Scheduler(*jobs, user, label="calls"), pool=Pool(usd=Budget(2)))
    with pytest.raises(ExceptionGroup) as raised:
        virtual(lambda: scheduler.co_run(check=True))
    assert user.state is BLOCKED
    assert scheduler.stop_reason is StopReason.FAILED
    assert [getattr(error, "job", None) for error in raised.value.exceptions] == jobs[2:]
    assert [type(error) for error in raised.value.exceptions] == [BudgetSpent] * 2
    assert list(scheduler.failures()) == jobs[2:]
    assert caplog.messages == [
        "'calls/call 2' did not run: BudgetSpent: 'call 2' needs usd=1, but 0 of 2 left; 'call 0' used most: 1; "
        "the run goes on (enlarge the Budget, or reduce the needs)",
        "one more job did not run with BudgetSpent like 'calls/call 2': 'calls/call 3'",
        "the budget usd is spent, so 3 of 5 jobs of 'Scheduler' did not run; the run has failed; debrief() shows the "
        "tracebacks",
    ]


def test_dropped_jobs_that_a_budget_blocked_are_counted(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as raised:
            async with Scheduler(pool=Pool(usd=Budget(2)), keep_jobs=False, label="calls") as calls:
                calls.map(pay, [None] * 4, needs={"usd": 1})
        assert [type(error) for error in raised.value.exceptions] == [BudgetSpent] * 2

    virtual(main)
    assert caplog.messages[-1] == "the budget usd is spent, so 2 jobs of 'calls' did not run; the run has failed"


def test_a_first_without_money_lacks_the_budget(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """If a budget is spent for each job of a `First`, it fails with a `BudgetSpent`, not with a group of them. The log
    has one line for all jobs, whatever they would have done, and the end of the run says what it means."""
    calls = [
        First(*(Job(pay, 1, needs={"usd": 1}, label=name) for name in ("ask", "hedge")), stagger=9) for _ in range(5)
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


def test_all_views_count_a_group_without_money_alike(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """Some counted it as a group that failed, some not at all, and the log as a job, in place of its jobs."""
    group = Scheduler(Job(nap, 1), Job(nap, 1), needs={"usd": 2})
    tolerated = Scheduler(Job(nap, 1), needs={"usd": 2}, critical=False)
    scheduler = Scheduler(Job(pay, needs={"usd": 2}), group, tolerated, pool=Pool(usd=Budget(3)), label="s")
    trace, shown = Trace(), io.StringIO()
    virtual(lambda: scheduler.co_run(instruments=[trace, Monitor(file=shown)]))
    verdict = run_verdict(scheduler, scheduler.stop_reason).sentence
    assert verdict == "1 of 4 jobs succeeded, 3 never started, 1 group failed"
    record = trace._get_record()
    assert record.verdict(record.root_runs[0], scheduler.stop_reason).sentence == f"{verdict}, 1.0 s"
    assert f"{verdict}, 1.0 s" in shown.getvalue().splitlines()[-1]
    assert "the budget usd is spent, so 2 of 4 jobs of 's' did not run, 1 more was tolerated; " in caplog.messages[-1]


def test_failures_are_told_from_jobs_without_money(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """Jobs that failed are counted apart from those that a spent budget kept from running."""
    jobs = [Job(pay, 1, needs={"usd": 1}), Job(fail, 1), Job(pay, 1, needs={"usd": 1}, label="second")]
    virtual(Scheduler(*jobs, pool=Pool(usd=Budget(1)), label="calls").co_run)
    assert caplog.messages[-1].startswith(
        "1 job of 'calls' failed; the budget usd is spent, so 1 of 3 jobs of 'calls' did not run; the run has failed"
    )


def test_a_budget_that_is_exceeded_is_logged_once(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """However often jobs report more; what a job has is shown while it has it."""
    shown: list[object] = []

    async def work() -> None:
        for used in (2, 3, 4):
            current_job().used(usd=used)
            shown.append(dict(current_job().granted))

    jobs = [Job(work, needs={"usd": 1}) for _ in range(2)]
    assert virtual(Scheduler(jobs, pool=Pool(usd=Budget(2))).co_run)
    assert sum("is exceeded" in text for text in caplog.messages) == 1
    assert shown == [{"usd": 2}, {"usd": 3}, {"usd": 4}] * 2
    assert [job.granted for job in jobs] == [{}, {}]
