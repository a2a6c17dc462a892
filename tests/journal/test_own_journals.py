"""User-defined journals, and the summary of a run in its journal."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import (
    CommandJob,
    First,
    Job,
    JobState,
    JournalError,
    Scheduler,
    Service,
    StopReason,
)
from trioflow._core.job._function import (
    FunctionJob,
    call_parts,
    input_at,
    substitute_inputs,
)
from trioflow._core.job._labels import PathCache
from trioflow._core.run._journaling import NOT_IN_JOURNAL_REASON, NotStored, Restored
from trioflow._core.scheduler._base_scheduler import BaseScheduler
from trioflow._core.words._job_queries import always_runs, result_for_journal
from trioflow.abc import incidents_of
from trioflow.journal import _run_summary
from trioflow.journal._store import JournalStore
from ..bodies import fail_now, serve
from ..cli.command_line import trioflow
from ..conftest import Virtual


class Shelf:
    """A journal in memory, in place of one in a database; it identifies a job by its path and its work."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str, Any]] = {}
        self.ends: list[str | None] = []
        self.is_broken = False

    def open_for(self, scheduler: BaseScheduler) -> "OnShelf":
        return OnShelf(self, PathCache(scheduler))


class OnShelf:
    commits_each = False

    def __init__(self, shelf: Shelf, paths: PathCache) -> None:
        self._shelf, self._paths = shelf, paths
        self._kept: dict[str, tuple[str, Any]] = {}

    def nested(self, scheduler: Any) -> "OnShelf":
        return OnShelf(self._shelf, self._paths.nested(scheduler))

    def look_up(self, job: Any) -> Any:
        if always_runs(job):
            return NotStored()
        row = self._shelf.rows.get(self._paths.path_of(job))
        if row is None:
            return NotStored(NOT_IN_JOURNAL_REASON)
        is_same = row[0] == self._work(job)
        return Restored(row[1]) if is_same else NotStored("its work has changed")

    def record(self, job: Any, value: Any) -> None:
        if not always_runs(job):
            self._kept[self._paths.path_of(job)] = self._work(job), value

    def open_question(self, job: Any, facts: Any = None) -> None:
        return None

    read_files = begin_attempt = end_attempt = open_question

    def forget(self, job: Any) -> None:
        self._paths.forget(job)

    def commit(self) -> None:
        if self._shelf.is_broken:
            raise JournalError("the server is gone")
        self._shelf.rows.update(self._kept)
        self._kept.clear()

    def close(self, outcome: str | None, report: Callable[[str], object]) -> None:
        if outcome is not None:
            self.commit()
        self._shelf.ends.append(outcome)

    def _work(self, job: Any) -> str:
        if isinstance(job, FunctionJob):
            return repr(call_parts(job, result_for_journal))
        work = job.for_journal()
        return repr((work.what, substitute_inputs(work.arguments, result_for_journal)))


async def double(number: int) -> int:
    return 2 * number


def build(first: int) -> Scheduler:
    one = Job(double, first, label="one")
    two = Job(double, kwargs={"number": one}, label="two")
    ever = Job(double, 1, label="ever", forever=True)
    return Scheduler(
        Scheduler(one, two, label="inner"),
        CommandJob(["echo", two], label="three"),
        ever,
    )


def test_a_user_defined_journal_restores_results(virtual: Virtual) -> None:
    shelf = Shelf()
    for first, restored in ((1, 0), (1, 3), (2, 0)):
        scheduler = build(first)
        assert virtual(functools.partial(scheduler.co_run, journal=shelf))
        assert sum(job.restored for job in scheduler.iterate_jobs()) == restored
    one = next(job for job in scheduler.iterate_jobs() if job.label == "one")
    assert scheduler.explain(one).endswith("it was not restored: its work has changed")
    assert list(shelf.rows) == ["inner/one", "inner/two", "three"]
    assert shelf.ends == ["COMPLETED"] * 3


@pytest.mark.parametrize("when", ["running", "ending", "closing"])
def test_a_write_that_fails_ends_the_run(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The run is CRITICAL, without a culprit and with the error, also if all jobs had succeeded and it was ending."""
    shelf = Shelf()
    shelf.is_broken = when == "running"

    async def break_journal() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            shelf.is_broken = True  # a job that returns is recorded

    monkeypatch.setattr(OnShelf, "commits_each", when == "ending")
    scheduler = build(1)
    scheduler.add(Job(break_journal, forever=True))
    with pytest.raises(JournalError, match="the server is gone"):
        virtual(functools.partial(scheduler.co_run, journal=shelf, check=True))
    assert (scheduler.stop_reason, scheduler.culprit) == (StopReason.CRITICAL, None)
    assert [incident.message for incident in incidents_of(scheduler)] == [
        "the server is gone"
    ]
    assert shelf.ends == ([] if when == "closing" else [None])


def test_the_path_of_a_dropped_job_is_not_used_again() -> None:
    jobs = [Job(double, number, label="same") for number in range(3)]
    paths = PathCache(Scheduler(jobs))
    paths.forget(jobs[0])
    assert [paths.path_of(job) for job in jobs[1:]] == ["same#2", "same#3"]


def test_input_at_returns_a_job_only_if_its_result_is_passed() -> None:
    async def add(first: int, second: int) -> int:
        return first + second

    one = Job(double, 1)
    user = Job(add, one, 3)
    assert [input_at(user, number) for number in (1, 2, 3)] == [one, None, None]


# --- the summary of a run, for `trioflow journal` and later programs
def summary_of(
    virtual: Virtual, file: Path, scheduler: Scheduler
) -> _run_summary.RunSummary:
    virtual(lambda: scheduler.co_run(journal=file))
    store = JournalStore(file, writes=False)
    ending = _run_summary.parse_summary(store.run_records()[-1].ending)
    store.close()
    assert ending is not None
    return ending


def test_summary_counts_a_scheduler_only_for_its_own_failure(
    virtual: Virtual, file: Path
) -> None:
    """A scheduler that fails because of its job is no second failure in the summary; its own timeout counts apart."""
    inner = Scheduler(
        Job(fail_now, label="bad", critical=True), label="inner", critical=True
    )
    outer = Scheduler(
        Job(anyio.sleep, 1, label="ok"), inner, label="outer", critical=True
    )
    ending = summary_of(virtual, file, Scheduler(outer, label="all"))
    assert [one.path for one in ending.failures] == ["outer/inner/bad"]
    assert ending.culprit == "a critical failure of outer/inner/bad"
    assert {state: number for state, _, _, number in ending.counts if number} == {
        JobState.FAILED: 1, JobState.CANCELLED: 1,
    }  # fmt: skip
    late = Scheduler(Job(anyio.sleep, 9, label="long"), timeout=1, label="late")
    ending = summary_of(
        virtual, file, Scheduler(late, Job(anyio.sleep, 1, label="ok"), label="all")
    )
    assert (
        [one.path for one in ending.failures],
        ending.culprit,
        ending.failed_groups,
    ) == (["late"], None, 1)
    assert {state: number for state, _, _, number in ending.counts if number} == {
        JobState.CANCELLED: 1, JobState.SUCCEEDED: 1,
    }  # fmt: skip


def test_the_journal_counts_tolerated_failures_apart(tmp_path: Path) -> None:
    good, bad = (
        "✓ 1 of 2 jobs succeeded, 1 failed (tolerated), ",
        "✗ 1 failed, 1 tolerated of 3, ",
    )
    for others, verdict in ([], good), ([fail_now], bad):
        tolerated = Job(fail_now, label="tolerated", critical=False)
        scheduler = Scheduler(
            tolerated,
            Job(anyio.sleep, 0, required=tolerated),
            [Job(other) for other in others],
        )
        scheduler.run(journal=(file := tmp_path / f"{len(others)}.db"))
        assert verdict in trioflow("journal", file).stdout


def test_summary_counts_forever_jobs_separately(virtual: Virtual, file: Path) -> None:
    service = Service(serve, label="service")
    nested = Scheduler(
        Job(anyio.sleep, 1, label="job"), label="nested", required=service
    )
    ending = summary_of(
        virtual, file, Scheduler(service, nested, Job(anyio.sleep, 1, forever=True))
    )
    assert sorted((state.value, forever, number) for state, forever, _, number in ending.counts) == [
        ("succeeded", False, 1), ("succeeded", True, 2),
    ]  # fmt: skip


def test_the_duration_of_a_run_is_that_of_its_own_clock(
    virtual: Virtual, file: Path
) -> None:
    summary_of(virtual, file, Scheduler(Job(anyio.sleep, 3600)))
    store = JournalStore(file, writes=False)
    (run,) = store.run_records()
    store.close()
    assert run.ended is not None
    assert round(run.ended - run.started, 3) == 3600.0


def test_summary_counts_a_first_once(virtual: Virtual, file: Path) -> None:
    scheduler = Scheduler(
        *(
            First(
                Job(anyio.sleep, 1, key=f"ask {n}"),
                Job(anyio.sleep, 1),
                stagger=2,
                label=f"p{n}",
            )
            for n in range(3)
        ),
        First(Job(fail_now), Job(anyio.sleep, 1), label="fallback"),
        First(Job(fail_now), Job(fail_now, critical=True), label="lost"),
        label="all",
    )
    ending = summary_of(virtual, file, scheduler)
    assert {state: number for state, _, _, number in ending.counts if number} == {
        JobState.SUCCEEDED: 4, JobState.FAILED: 1,
    }  # fmt: skip
    assert [one.path for one in ending.failures] == ["lost"]
