"""The clean-up phase: after a critical failure or a timeout, jobs with `run_if="failed"` still run.

Those do all of whose requirements have settled, one of them failed. They run at once, whatever the window is, beside
the forever jobs and services that are still alive, and what becomes of them does not change the result.
"""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from . import _attempts, _rules, _worker
from ._jobs import AbstractJob
from ._outcomes import UNCALLED
from ._states import JobState, StopReason

if TYPE_CHECKING:
    from ._run import Run


def is_needed(run: Run) -> bool:
    """Tell whether the run stopped for a reason to clean up after, and has jobs to do so."""
    stopped = run.reason in (StopReason.CRITICAL, StopReason.TIMEOUT)
    return stopped and any(job._rule is not None and job._rule.run_if == "failed" for job in run.scheduler)


async def clean_up(run: Run) -> None:
    """Run the clean-up jobs of a run that stopped, those first that wait for nothing but the stop."""
    if not is_needed(run):
        return
    seconds = run.scheduler.cleanup_timeout
    deadline = math.inf if seconds is None else run.clock() + seconds
    while run.clock() < deadline:
        due = deque(job for job in run.scheduler if _is_due(run, job))
        if not due:
            return
        for job in due:
            run.schedule(job)
        await run.backend.together([partial(_run_next, run, due) for _ in due], deadline)
        for job in due:  # the deadline came first
            run.cancel_unstarted(job)


def _is_due(run: Run, job: AbstractJob[Any]) -> bool:
    rule = job._rule
    if rule is None or rule.run_if != "failed" or job._forever or job._state is not JobState.IDLE:
        return False
    if not all(one._state.is_settled or one._is_ready() for one in run.scheduler._waits_for(job)):
        return False
    return _rules.judge(job, rule)[0] is JobState.SCHEDULED


async def _run_next(run: Run, due: deque[AbstractJob[Any]]) -> None:
    """Run the first of those that are due: tasks begin in any order, jobs do not."""
    job = due.popleft()
    worker = _worker.Worker(run, has_slot=False)
    _worker.current.set(worker)
    with run.backend.scope() as worker.scope:
        run.backend.adopt(worker)
        run.backend.enter(worker)
        run.begin(worker, job)
        awaitable: Any = UNCALLED
        try:
            awaitable = _attempts.run_attempts(worker, job)
            value = await awaitable
            await _worker.look_behind(worker)
        except BaseException as error:
            whole = await _worker.with_what_was_left(worker, error)
            run.settle_error(worker, job, whole, awaitable, run.clock())
        else:
            run.settle(job, JobState.SUCCEEDED, value, run.clock())
        worker.job = None
