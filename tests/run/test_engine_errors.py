"""An injected error in the engine itself ends the run cleanly, and the run raises it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from trioflow import Job, Scheduler, StopReason
from trioflow._core.run._ending import Ending
from trioflow._core.run._requirement_counts import RequirementCounts
from trioflow._core.run._run import Run
from trioflow._core.run._workers import Workers

from ..bodies import CANCELLED, FAILED, IDLE, SUCCEEDED, Flaw, bad, co_run_drained, fail, nap
from ..conftest import Virtual


@pytest.mark.parametrize(
    ("owner", "method", "options", "reason", "end"),
    [
        (Run, "settle_error", {}, StopReason.INTERRUPTED, 1),  # before the job has settled
        (RequirementCounts, "count_down", {}, StopReason.INTERRUPTED, 1),  # afterwards
        # When the worker has no job any more.
        pytest.param(Workers, "may_park", {}, StopReason.INTERRUPTED, 2, marks=pytest.mark.fast_way),
        (Run, "_wait_until_drained", {}, StopReason.DRAINED, 0.5),  # in the task that waits for the run
        (Ending, "_end_services", {"timeout": 3}, StopReason.TIMEOUT, 3),  # when the run ends
    ],
)
def test_an_error_in_the_engine_ends_the_run(
    virtual: Virtual,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    method: str,
    options: Any,
    reason: StopReason,
    end: float,
) -> None:
    """Wherever the engine raises an error, the run leaves no job running, and raises the error without a group."""
    works = getattr(owner, method)

    def break_once(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(owner, method, works)
        raise Flaw

    failing, long, forever = Job(fail, 1), Job(nap, 5), Job(nap, 9, forever=True)
    behind = Job(nap, required=failing)
    scheduler = Scheduler(failing, long, forever, behind, Job(nap, 2), **options)
    monkeypatch.setattr(owner, method, break_once)
    with pytest.raises(Flaw):
        virtual(co_run_drained, scheduler, end if reason is StopReason.DRAINED else math.inf)
    assert scheduler.stop_reason is reason
    assert failing.state is (FAILED if end >= 1 else CANCELLED)
    assert behind.state is (SUCCEEDED if end >= 2 else IDLE)
    assert [(job.state, job.finished_at) for job in (long, forever)] == [(CANCELLED, end)] * 2


def test_the_first_of_several_engine_errors_during_the_clean_up_is_raised(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engine errors during the clean-up fail their own job only; the others run, and the run raises the first error."""
    works = Run.settle_error

    def break_often(run: Run, worker: Any, job: Any, *rest: Any) -> None:
        if job is not stopping:
            raise Flaw(job.label)
        works(run, worker, job, *rest)

    stopping = bad()
    alarms = [Job(fail, seconds, label=f"{seconds}", required=stopping, run_if="failed") for seconds in (1, 2)]
    scheduler = Scheduler(stopping, alarms)
    monkeypatch.setattr(Run, "settle_error", break_often)
    with pytest.raises(Flaw, match="1"):
        virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert [str(job.raised_exception()) for job in alarms] == ["1", "2"]
