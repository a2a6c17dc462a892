"""Durations that a scheduler learns from its runs."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from trioflow import Job, Retry, Scheduler, Sequence, Trace, current_job
from trioflow.abc import Instrument
from trioflow.simulation._duration_sources import read_durations
from trioflow.view._estimate import Estimate
from tests.conftest import Virtual


def scenario(**options: Any) -> Scheduler:
    """Return short jobs, and a long chain that is added last."""
    short = [Job(anyio.sleep, 2, label=f"short {number}") for number in range(4)]
    return Scheduler(*short, Sequence(Job(anyio.sleep, 1, label="first"), Job(anyio.sleep, 6, label="long")), **options)


async def seconds(scheduler: Scheduler) -> float:
    start = anyio.current_time()
    assert await scheduler.co_run()
    return anyio.current_time() - start


def test_a_second_run_starts_the_longest_chain_first(virtual: Virtual, tmp_path: Path) -> None:
    path = tmp_path / "new" / "durations.json"
    scheduler = scenario(jobs_window=2, durations=path)
    assert (virtual(seconds, scheduler), virtual(seconds, scheduler)) == (11, 8)
    assert virtual(seconds, scenario(jobs_window=2, durations=path)) == 8
    assert json.loads(path.read_text())["seconds"]["long"] == 6


def test_durations_may_come_from_a_trace_or_a_mapping(virtual: Virtual) -> None:
    trace = Trace()
    assert virtual(seconds, scenario(jobs_window=2, instruments=[trace])) == 11
    assert virtual(seconds, scenario(jobs_window=2, durations=trace)) == 8
    by_label = {"first": 1, "long": 6, **{f"short {number}": 2 for number in range(4)}}
    assert virtual(seconds, Scheduler(scenario(jobs_window=2), durations=by_label)) == 8


@pytest.mark.parametrize("depth", [1, 2])
def test_the_durations_of_the_scheduler_that_runs_hold_for_groups_with_their_own(virtual: Virtual, depth: int) -> None:
    first, second = (Job(anyio.sleep, 1, label=label) for label in ("first", "second"))
    group = Scheduler(first, second, durations={"first": 9, "second": 1}, jobs_window=1, label="group")
    outer: Scheduler = group
    for _ in range(depth):
        outer = Scheduler(outer, durations={"first": 1, "second": 9})
    assert virtual(seconds, outer) == 2
    assert (first.started_at, second.started_at) == (1, 0)
    outer.durations = None
    assert virtual(seconds, outer) == 2
    assert (first.started_at, second.started_at) == (0, 1)
    assert virtual(seconds, group) == 2
    assert (first.started_at, second.started_at) == (0, 1)


def test_only_durations_of_successful_jobs_are_recorded(virtual: Virtual, tmp_path: Path) -> None:
    """Only durations of jobs that succeeded are recorded; jobs that timed out or no longer exist keep theirs."""
    path = tmp_path / "durations"
    path.write_text('{"trioflow durations": 1, "seconds": {"slow": 50, "gone": 7}}')
    jobs = [Job(anyio.sleep, 9, timeout=1, label="slow"), Job(anyio.sleep, 3, label="fine")]
    virtual(Scheduler(*jobs, durations=path).co_run)
    assert json.loads(path.read_text())["seconds"] == {"slow": 50, "gone": 7, "fine": 3}


class LastEstimate(Instrument):
    seconds: float | None = None

    def job_settled(self, scheduler: Any, job: Any) -> None:
        if self.seconds is None and sum(not other.is_settled() for other in scheduler) == 1:
            self.seconds = Estimate(scheduler).seconds_left()


def test_whoever_learns_how_long_jobs_take_leaves_out_waits_between_attempts(virtual: Virtual, tmp_path: Path) -> None:
    """A job that worked for 2 s in two attempts takes 2 s for whatever learns durations, however long it waited between
    these: in a file, in a trace, and in the monitor's estimate."""

    async def fail_once() -> None:
        await anyio.sleep(1)
        if current_job().attempts == 1:
            raise OSError

    jobs = [Job(fail_once, retry=Retry(1, first=10, jitter=False), label=f"job {number}") for number in range(6)]
    for job in jobs[1:]:
        job.requires(jobs[0])
    path, trace, estimate = tmp_path / "durations", Trace(), LastEstimate()
    jobs[5].requires(jobs[:5])
    assert virtual(seconds, Scheduler(*jobs, durations=path, instruments=[trace, estimate])) == 3 * 12
    assert json.loads(path.read_text())["seconds"] == {job.label: 2 for job in jobs}
    assert read_durations(trace, "") == {job.label: 2 for job in jobs}
    assert estimate.seconds == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"trioflow durations": 2, "seconds": {}}', "format version 2"),
        ('{"trioflow durations": 2, "jobs": []}', "format version 2"),
        ("# ninja log v5\n", "is no durations file"),
        ("import anyio\n", "is no durations file"),
        ('{"trioflow durations": 1, "sec', "is no durations file"),
        ('{"name": "some package"}', "is no durations file"),
        ('{"trioflow durations": 1, "seconds": [3]}', "is no durations file"),
        ('{"trioflow durations": 1, "seconds": {"a": -1}}', "'a'"),
    ],
)
def test_a_file_that_has_no_valid_durations_is_rejected(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "durations"
    path.write_text(content)
    with pytest.raises(ValueError, match=words):
        Scheduler(Job(anyio.sleep, 0), durations=path)
    assert path.read_text() == content
