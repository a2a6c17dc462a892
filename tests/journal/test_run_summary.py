"""The summary of a run in its journal, for `trioflow journal` and later programs."""

from pathlib import Path
from typing import Any

import anyio
from trioflow import First, Job, JobState, Scheduler, Service
from trioflow.journal import _run_summary
from trioflow.journal._store import JournalStore
from ..cli.command_line import trioflow
from ..conftest import Virtual


async def fail() -> None:
    raise OSError("no disk")


async def serve(*, task_status: Any) -> None:
    task_status.started()


def summary_of(virtual: Virtual, file: Path, scheduler: Scheduler) -> _run_summary.RunSummary:
    async def run() -> None:
        await scheduler.co_run(journal=file)

    virtual(run)
    store = JournalStore(file, writes=False)
    ending = _run_summary.parse_summary(store.run_records()[-1].ending)
    store.close()
    assert ending is not None
    return ending


def test_summary_counts_a_scheduler_only_for_its_own_failure(virtual: Virtual, file: Path) -> None:
    """A scheduler that fails because of its job is no second failure in the summary; its own timeout counts apart."""
    inner = Scheduler(Job(fail, label="bad", critical=True), label="inner", critical=True)
    outer = Scheduler(Job(anyio.sleep, 1, label="ok"), inner, label="outer", critical=True)
    ending = summary_of(virtual, file, Scheduler(outer, label="all"))
    assert [one.path for one in ending.failures] == ["outer/inner/bad"]
    assert ending.culprit == "a critical failure of outer/inner/bad"
    assert {state: number for state, _, _, number in ending.counts if number} == {
        JobState.FAILED: 1, JobState.CANCELLED: 1,
    }  # fmt: skip
    late = Scheduler(Job(anyio.sleep, 9, label="long"), timeout=1, label="late")
    ending = summary_of(virtual, file, Scheduler(late, Job(anyio.sleep, 1, label="ok"), label="all"))
    assert ([one.path for one in ending.failures], ending.culprit, ending.failed_groups) == (["late"], None, 1)
    assert {state: number for state, _, _, number in ending.counts if number} == {
        JobState.CANCELLED: 1, JobState.SUCCEEDED: 1,
    }  # fmt: skip


def test_the_journal_counts_tolerated_failures_apart(tmp_path: Path) -> None:
    good, bad = "✓ 1 of 2 jobs succeeded, 1 failed (tolerated), ", "✗ 1 failed, 1 tolerated of 3, "
    for others, verdict in ([], good), ([fail], bad):
        tolerated = Job(fail, label="tolerated", critical=False)
        scheduler = Scheduler(tolerated, Job(anyio.sleep, 0, required=tolerated), [Job(other) for other in others])
        scheduler.run(journal=(file := tmp_path / f"{len(others)}.db"))
        assert verdict in trioflow("journal", file).stdout


def test_summary_counts_forever_jobs_separately(virtual: Virtual, file: Path) -> None:
    service = Service(serve, label="service")
    nested = Scheduler(Job(anyio.sleep, 1, label="job"), label="nested", required=service)
    ending = summary_of(virtual, file, Scheduler(service, nested, Job(anyio.sleep, 1, forever=True)))
    assert sorted((state.value, forever, number) for state, forever, _, number in ending.counts) == [
        ("succeeded", False, 1), ("succeeded", True, 2),
    ]  # fmt: skip


def test_the_duration_of_a_run_is_that_of_its_own_clock(virtual: Virtual, file: Path) -> None:
    summary_of(virtual, file, Scheduler(Job(anyio.sleep, 3600)))
    store = JournalStore(file, writes=False)
    (run,) = store.run_records()
    store.close()
    assert run.ended is not None
    assert round(run.ended - run.started, 3) == 3600.0


def test_summary_counts_a_first_once(virtual: Virtual, file: Path) -> None:
    scheduler = Scheduler(
        *(First(Job(anyio.sleep, 1, key=f"ask {n}"), Job(anyio.sleep, 1), stagger=2, label=f"p{n}") for n in range(3)),
        First(Job(fail), Job(anyio.sleep, 1), label="fallback"),
        First(Job(fail), Job(fail, critical=True), label="lost"),
        label="all",
    )
    ending = summary_of(virtual, file, scheduler)
    assert {state: number for state, _, _, number in ending.counts if number} == {
        JobState.SUCCEEDED: 4, JobState.FAILED: 1,
    }  # fmt: skip
    assert [one.path for one in ending.failures] == ["lost"]
