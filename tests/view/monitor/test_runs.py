"""Runs that end, are repeated or retried: how the monitor counts and shows them."""

import collections
import functools
import io
import random
from typing import Any

import anyio
import pytest
from trioflow import Budget, Job, JobState, Monitor, Pool, Retry, Scheduler, Sequence, ref
from trioflow.abc import criticality, failed_through_member
from trioflow.view.monitor._model import RunModel
from ...bodies import fail, nap, running
from ...conftest import Virtual
from .monitors import Terminal, jobs_only, look, pictured, watched


def test_retrying_a_nested_scheduler_resets_its_counts_and_lines(virtual: Virtual) -> None:
    """When a nested scheduler is retried, the results of the earlier attempt vanish from the monitor."""
    inner = Scheduler(
        Job(nap, 1, label="x"), Job(fail, 2, label="y", critical=True), Job(nap, 9, label="z"), label="in", retry=1
    )
    scheduler, monitor = watched(inner)
    lines = pictured(virtual, scheduler, monitor, 3.5)
    assert lines[1].startswith(" ✓ 1 succeeded   ▸ 2 running   ✗ 0 failed   · 0 waiting")
    assert jobs_only(lines) == [
        "   ▸    1 s  in    attempt 2 of 2, 1 ✓  2 ▸", "   ✓  1.0 s    x", " ! ▸    1 s    y", "   ▸    1 s    z",
    ]  # fmt: skip


def test_a_second_run_resets_counts_clock_and_failures(virtual: Virtual) -> None:
    attempts = iter([1, 0])

    async def first_fails() -> None:
        if next(attempts):
            raise OSError
        await anyio.sleep(5)

    scheduler, monitor = watched(Job(first_fails, label="job"), Job(nap, 3))
    virtual(scheduler.co_run)
    lines = pictured(virtual, scheduler, monitor, 2)
    assert lines[1].startswith(" ✓ 0 succeeded   ▸ 2 running   ✗ 0 failed")
    assert repr(monitor) == "<Monitor>"


def test_a_monitor_ignores_a_second_concurrent_run(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    scheduler, monitor = watched(Job(nap, 5, label="kept"))
    other = Scheduler(Job(nap, 1), label="other", instruments=[monitor])
    eye, lines = look(monitor, 3)
    scheduler.add(eye)

    async def both() -> None:
        async with running(scheduler, 1) as tasks:
            tasks.start_soon(other.co_run)

    virtual(both)
    assert jobs_only(lines) == ["   ▸    3 s  kept"]
    assert "give 'other' its own Monitor()" in caplog.text


@pytest.mark.parametrize(
    ("critical", "timeout", "said"),
    [(None, None, "1 failed of 3, 5.0 s"),
     (True, None, "stopped by a critical failure of bad, 1 failed, 1 cancelled, 1 never started…"),
     (None, 3, "timed out, 1 failed, 1 cancelled, 1 never started of 3, 3.0 s")],
)  # fmt: skip
def test_last_picture_shows_how_the_run_ended(virtual: Virtual, critical: bool | None, timeout: Any, said: str) -> None:
    terminal = Terminal()
    bad = Job(fail, 2, label="bad", critical=critical)
    scheduler = Scheduler(bad, Sequence(Job(nap, 4), Job(nap, 1)), label="run", instruments=[Monitor(file=terminal)])
    virtual(functools.partial(scheduler.co_run, timeout=timeout))
    assert terminal.shown()[0] == f" {'run  ' * ('…' not in said)}✗ {said}"
    counts = "⊘ 1 cancelled   · 1 never started" if "…" in said else "✗  2.0 s  bad     OSError: broken"
    assert terminal.shown()[1].endswith(counts)


def test_the_last_picture_lists_up_to_a_hundred_kinds_of_failures(virtual: Virtual) -> None:
    """The last picture lists up to a hundred kinds of failures, beyond the window; those of a kind share a line."""
    terminal = Terminal()
    kinds = [type(f"Error{number}", (OSError,), {}) for number in range(120)]
    bad = [Job(fail, 1, kind("broken"), label=f"bad {number}") for number, kind in enumerate(kinds)]
    same = [Job(fail, 2, KeyError("k"), label=f"same {number}") for number in range(30)]
    virtual(Scheduler(*same, *bad, instruments=[Monitor(file=terminal)]).co_run)
    lines = terminal.all_lines()
    assert lines[-102].endswith("✗ 150 failed of 150, 2.0 s")
    assert sum(": broken" in line for line in lines[-101:]) == 100
    assert lines[-1] == "             … and 50 failed"
    again = [Job(fail, 2, KeyError("k"), label=f"same {number}") for number in range(30)]
    other = [Job(fail, 1, OSError(f"row {number}"), label=f"other {number}") for number in range(30)]
    virtual(Scheduler(*again, *other, instruments=[Monitor(file=terminal)]).co_run)
    assert terminal.shown()[-2].endswith("30 like this: OSError: row 0")  # their messages differ
    assert terminal.shown()[-1].endswith("30 × KeyError: 'k'")


def random_scheduler(rng: random.Random, depth: int = 0) -> Scheduler:
    """Return a scheduler of jobs that fail, retry, are critical, run forever or wait for each other, nested up to three
    deep."""
    jobs: list[Any] = []
    for _ in range(rng.randint(1, 12)):
        body = rng.choice([nap, nap, nap, fail])
        options: dict[str, Any] = {
            "retry": rng.choice([None, None, 1]),
            "critical": rng.choice([True, False, *[None] * 6]),
        }
        options["required"] = rng.sample(jobs, min(len(jobs), rng.randint(0, 2)))
        if depth < 2 and rng.random() < 0.3:
            inner = random_scheduler(rng, depth + 1)
            jobs.append(inner.requires(options["required"]))
        else:
            jobs.append(Job(body, rng.choice([1, 2, 4]), run_if=rng.choice(["settled", "succeeded"]), **options))
    beside = [Job(nap, 50, forever=True)] if rng.random() < 0.3 else []
    limits: dict[str, Any] = {"timeout": rng.choice([None, None, 5]), "retry": rng.choice([None, 1]) if depth else None}
    return Scheduler(*jobs, *beside, jobs_window=rng.choice([None, 1, 3]), **limits)


def test_a_monitor_keeps_few_of_the_failed_jobs_that_the_scheduler_drops(virtual: Virtual) -> None:
    scheduler, monitor = watched(keep_jobs=False)

    async def serve() -> None:
        async with scheduler:
            for number in range(30):
                scheduler.add(Job(fail, label=f"request {number}"))
            await anyio.sleep(2)
            assert monitor._model is not None
            [failures] = monitor._model.failed_jobs_by_kind.values()
            assert len(failures) == 30
            assert [job.job.label for job in failures] == [f"request {number}" for number in range(9)]

    with pytest.raises(ExceptionGroup):
        virtual(serve)


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(12))
def test_final_counts_match_the_states_of_jobs(virtual: Virtual, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """In the monitor's final counts, each job counts once, in its last state, even after retries of its scheduler. A
    nested scheduler that failed for a reason other than a failed job counts, too, as in all views."""
    models: list[RunModel] = []
    end = RunModel.run_ended

    def note(self: RunModel, ended_at: float) -> None:
        end(self, ended_at)
        models.append(self)

    monkeypatch.setattr(RunModel, "run_ended", note)
    scheduler = random_scheduler(random.Random(seed))
    virtual(functools.partial(scheduler.co_run, instruments=[Monitor(file=Terminal())]))
    (model,) = models
    jobs = [job for job in scheduler.iterate_jobs() if not (job.forever or isinstance(job, Scheduler))]
    groups = [job for job in scheduler.iterate_jobs() if isinstance(job, Scheduler)]
    failed_groups = [job for job in groups if job.state is JobState.FAILED and not failed_through_member(job)]
    settled = collections.Counter(job.state for job in jobs if job.is_settled())
    counts = model.root.counts
    unreached = sum(not job.is_settled() for job in jobs)
    assert dict(counts.states()) == {**settled, **({JobState.IDLE: unreached} if unreached else {})}
    assert counts.unreached_count == unreached
    failed = {job.job for kind in model.failed_jobs_by_kind.values() for job in kind}
    assert failed >= {job for job in [*jobs, *failed_groups] if job.state is JobState.FAILED}
    assert counts.failed_groups == sum(criticality(job) is not False for job in failed_groups)
    assert not model.running_jobs


# --- the counts of a monitor are right for jobs that settle while they wait for another attempt
def test_a_job_that_is_blocked_before_its_next_attempt_is_not_counted_as_running(virtual: Virtual) -> None:
    job = Job(fail, 1, OSError("try again"), retry=Retry(3, first=1), needs={"usd": 1})
    log = io.StringIO()
    virtual(Scheduler(job, pool=Pool(usd=Budget(1)), instruments=[Monitor(file=log)]).co_run)
    verdict = log.getvalue().splitlines()[-1]
    assert "1 blocked" in verdict
    assert "running" not in verdict
    assert "never started" not in verdict


def test_a_group_that_a_spent_budget_blocks_in_each_try_counts_once(virtual: Virtual) -> None:
    tries: list[None] = []

    async def fail_twice() -> None:
        tries.append(None)
        await anyio.sleep(2)
        if len(tries) < 3:
            raise OSError("try again")

    async def try_again(job: Scheduler) -> None:
        for _ in range(2):
            await anyio.sleep(4)
            job.try_again()

    spending = Job(anyio.sleep, 1, needs={"usd": 2})
    blocked = Scheduler(Job(anyio.sleep, 1), needs={"usd": 1}, required=spending)
    group = Scheduler(spending, blocked, Job(fail_twice))
    log = io.StringIO()
    outer = Scheduler(group, Job(try_again, ref(group)), pool=Pool(usd=Budget(2)), instruments=[Monitor(file=log)])
    virtual(outer.co_run)
    assert len(tries) == 3
    assert "1 group failed" in log.getvalue().splitlines()[-1]
