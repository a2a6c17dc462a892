"""The record of a process: its runs in progress, running jobs and where, waiting jobs and why, failures, resources.

A record is data: `trioflow look` prints it, or writes it as JSON. It is made in a thread of the process, while the runs
go on, so its parts may be some milliseconds apart. Making it changes nothing in the runs.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, Final, NamedTuple

from ... import _loaded_files
from ..._core.admission._pools import resource_views
from ..._core.base._states import JobState, WaitCause, Waiting
from ..._core.base._text_forms import age, clause, duration_text
from ..._core.base._user_code import PACKAGE_PREFIX, describe_line, library_prefixes
from ..._core.job._job import AnyJob, is_scheduler
from ..._core.job._labels import path_in, paths_of
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words import _job_queries
from ..._core.words._explain import (
    READY_TEXT,
    get_status_text,
    open_requirements,
    waiting,
    waiting_since,
)
from ..._core.words._run_view import (
    RunInProgress,
    RunView,
    job_frames,
    runs_in_progress,
    slots_in_use,
)
from .._estimate import Estimate
from ..text import _failure_text, _verdict

SCHEMA_VERSION: Final = 2
STALL_SECONDS: Final = 0.05
"""A job blocks the event loop if it is executing before and after this time, in seconds, and its line is shown so."""
MAX_JOBS: Final = 1000
"""The maximum number of running jobs, of waiting jobs and of failures in a record. The others are only counted."""

KINDS_PREFIX: Final = os.path.join(PACKAGE_PREFIX, "jobs", "")

Record = dict[str, Any]


def describe_process() -> Record:
    """Return the record of this process. It takes `STALL_SECONDS` and O(V + E)."""
    executing = dict(_executing_jobs())
    blocking: dict[AnyJob, int] = {}
    if executing:
        time.sleep(STALL_SECONDS)
        for job, thread_id in _executing_jobs():
            if job in executing:
                blocking[job] = thread_id
    return {
        "schema": SCHEMA_VERSION,
        "command": sys.orig_argv,
        "python": sys.version.partition(" ")[0],
        "time": time.time(),
        "runs": [_describe_run(run, blocking) for run in runs_in_progress()],
    }


def _executing_jobs() -> Iterator[tuple[AnyJob, int]]:
    """Yield the jobs that event loops are executing, each with the thread of the loop."""
    for run in runs_in_progress():
        for job in _jobs_of(run.scheduler):
            if job.state is JobState.RUNNING and not is_scheduler(job):
                _, is_executing = job_frames(job)
                if is_executing:
                    yield job, run.thread_id


def _jobs_of(scheduler: BaseScheduler) -> Iterator[AnyJob]:
    """Yield the user's jobs of a scheduler, nested ones after their schedulers, while other threads may add jobs."""
    for job in scheduler.iterate_jobs():
        if (
            job.scheduler is None
            or _job_queries.counted_state(job.scheduler, job) is not None
        ):
            yield job


def _describe_run(in_progress: RunInProgress, blocking: dict[AnyJob, int]) -> Record:
    scheduler = in_progress.scheduler
    run = in_progress.view
    thread_id = in_progress.thread_id
    now = run.clock()
    jobs = list(_jobs_of(scheduler))
    paths: Any = paths_of(scheduler)
    tally = _verdict.Tally.for_scheduler(scheduler)
    running = list[AnyJob]()
    scheduled = list[AnyJob]()
    idle = list[AnyJob]()
    failed = list[AnyJob]()
    # The nested schedulers whose IDLE jobs will not be reached any more.
    ended: set[AnyJob | None] = set()
    # Schedulers come before their jobs.
    for job in jobs:
        state = job.state
        if is_scheduler(job) and (job.is_settled() or job.scheduler in ended):
            ended.add(job)
        if state is JobState.RUNNING and not is_scheduler(job):
            running.append(job)
        elif state is JobState.SCHEDULED:
            scheduled.append(job)
        elif state is JobState.IDLE and job.scheduler not in ended:
            idle.append(job)
        if _job_queries.has_own_failure(job):
            if not _job_queries.is_in_first(job, scheduler):
                failed.append(job)
    waiters = scheduled + idle
    running.sort(key=lambda job: _job_queries.latest_start(job) or now)
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    blocker = next(
        (job for job, blocked_id in blocking.items() if blocked_id == thread_id), None
    )
    listed = {"running": running, "waiting": waiters, "failures": failed}
    omitted = {name: len(found[MAX_JOBS:]) for name, found in listed.items()}
    taken, window = slots_in_use(scheduler)
    return {
        "label": scheduler.label,
        "backend": run.backend,
        "thread": names.get(thread_id),
        "seconds": now - in_progress.began_at,
        **describe_progress(run, Estimate(scheduler)),
        "stop_reason": None if run.reason is None else run.reason.value,
        "verdict": tally.describe(),
        "counts": tally.counts_by_state(),
        "window": window,
        "slots_taken": None if window is None else taken,
        "running": list(
            _describe_running(running[:MAX_JOBS], paths, run.clock, blocker)
        ),
        "waiting": [
            {
                "paths": [path_in(paths, job) for job in group.jobs],
                "scheduler": paths.get(group.jobs[0].scheduler, ""),
                "cause": group.cause.value,
                "seconds": age(group.since, run.clock),
                "explanation": group.explanation,
            }
            for group in group_waits(waiters[:MAX_JOBS], run.clock, blocker)
        ],
        "failures": list(_describe_failures(failed[:MAX_JOBS], paths)),
        "resources": list(
            describe_resources(filter(is_scheduler, (scheduler, *jobs)), paths)
        ),
        "omitted": {name: count for name, count in omitted.items() if count},
    }


def _describe_running(
    jobs: list[AnyJob], paths: Any, clock: Callable[[], float], blocker: AnyJob | None
) -> Iterator[Record]:
    for job in jobs:
        started_at = _job_queries.latest_start(job)
        record = {
            "path": path_in(paths, job),
            "kind": type(job).__name__,
            "seconds": age(started_at, clock),
            "attempts": job.attempts,
            "forever": job.forever,
            "blocks_loop": job is blocker,
            "question": (_job_queries.question_of(job) or (None,))[0],
            **describe_place(job),
        }
        # A job that has settled meanwhile has a record about both states.
        if job.state is JobState.RUNNING:
            yield record


def describe_place(job: AnyJob) -> Record:
    """Describe the position of a job, and the reason for it."""
    line = command_line = None
    if _job_queries.runs_commands(job):
        # It is at its command line, not in the loop that awaits the process.
        command_line = _job_queries.command_line_of(job)
    elif not is_scheduler(job):
        frames, is_executing = job_frames(job)
        if not is_executing:
            frames = _frames_in_thread(job) or frames
        line = _describe_line(frames)
    return {
        "line": line,
        "command_line": command_line,
        "status": get_status_text(job),
        "explanation": explain(job),
    }


def _frames_in_thread(job: AnyJob) -> list[tuple[FrameType, int]] | None:
    """Return the frames of a job in a worker thread, the outermost first, none of a function in C, or None."""
    for innermost in sys._current_frames().values():
        frames: list[tuple[FrameType, int]] = []
        for frame, number in traceback.walk_stack(innermost):
            is_call = frame.f_code.co_name == "_call_in_thread"
            if is_call and frame.f_locals.get("self") is job:
                return frames[::-1]
            frames.append((frame, number))
    return None


def _describe_line(frames: Iterable[tuple[FrameType, int]]) -> Record | None:
    """Describe the innermost line of the user's own code, or else the line in the function that the job calls."""
    place: tuple[FrameType, int] | None = None
    # A library that a kind of trioflow's calls is at no line of the user.
    has_kind = False
    for frame, number in frames:
        file = frame.f_code.co_filename
        has_kind |= file.startswith(KINDS_PREFIX)
        is_callee = (
            place is None and not has_kind and not file.startswith(PACKAGE_PREFIX)
        )
        if not file.startswith(library_prefixes()) or is_callee:
            place = frame, number
    if place is None:
        return None
    frame, number = place
    return {
        "file": frame.f_code.co_filename,
        "number": number,
        "function": frame.f_code.co_qualname,
        "text": describe_line(frame.f_code, number),
    }


def line_text(line: Record | None) -> str:
    """Return a line of code that was described, with its function, or "" for None."""
    if line is None:
        return ""
    return f"{line['text']} (in {line['function']})"


class WaitGroup(NamedTuple):
    """Jobs that wait for the same, in the line of the same scheduler."""

    name: str
    cause: WaitCause
    jobs: list[AnyJob]
    since: float | None
    explanation: str
    """Why they wait, or why the first does if the others wait for something else, such as another attempt."""


def group_waits(
    jobs: Iterable[AnyJob], clock: Callable[[], float], blocker: AnyJob | None = None
) -> Iterator[WaitGroup]:
    """Yield the groups of jobs that wait. Each takes O(V).

    Args:
        jobs: the jobs.
        clock: the clock of the run.
        blocker: the job that blocks the event loop, if any.

    """
    groups: dict[tuple[WaitCause, str, int], dict[AnyJob, str]] = {}
    for job in jobs:
        wait = waiting(job)
        if wait is None:
            # An IDLE job waits for others.
            labels = [each.label for each in open_requirements(job)]
            wait = Waiting(WaitCause.JOBS, text=repr(labels))
        cause, resource, text = wait
        line = 0
        if cause is not WaitCause.PAUSE:
            line = id(job.scheduler)
        groups.setdefault((cause, resource, line), {})[job] = text
    for (cause, resource, line), texts in groups.items():
        members = [*texts]
        job = members[0]
        state = job.state
        since = waiting_since(job)
        explanation = clause("the first ", len({*texts.values()}) > 1) + explain(job)
        if blocker is not None:
            ready_for = duration_text(age(since, clock))
            ready = clause("; it has been ready for {}", ready_for)
            text = f"is ready, but {blocker.label!r} blocks the event loop{ready}"
            explanation = explanation.replace(READY_TEXT, text)
        # The job may have started meanwhile.
        if state is job.state and state in (JobState.IDLE, JobState.SCHEDULED):
            name = f"{cause.value} {resource} {line}"
            yield WaitGroup(name, cause, members, since, explanation)


def explain(job: AnyJob) -> str:
    scheduler = job.scheduler
    if scheduler is None:
        return ""
    return scheduler.explain(job).removeprefix(f"{job.label!r} ")


def describe_progress(run: RunView, estimate: Estimate) -> Record:
    """Describe the facts about a run in progress that every client gets first."""
    seconds, is_least = estimate.time_left() or (None, False)
    return {
        "phase": run.phase.value,
        "pause": run.pause_text,
        "mended": bool(_loaded_files.changed_files()),
        "left": seconds,
        "left_is_least": is_least,
    }


def _describe_failures(
    jobs: list[AnyJob], paths: dict[AnyJob, str]
) -> Iterator[Record]:
    """Describe failed jobs, similar failures together."""
    for group in _failure_text.similar_failures(jobs):
        texts = [_failure_text.describe_failure(*each) for each in group]
        location = texts[0].location
        critical = _job_queries.criticality(group[0][0])
        yield {
            "paths": [path_in(paths, job) for job, _ in group],
            "headline": _failure_text.common_headline(texts),
            "critical": critical is True,
            "tolerated": critical is False,
            "line": location and str(location),
        }


def describe_resources(
    schedulers: Iterable[BaseScheduler], paths: dict[AnyJob, str]
) -> Iterator[Record]:
    """Describe the resources of each pool, with the outermost scheduler that has it."""
    owners: dict[Any, BaseScheduler] = {}
    for scheduler in schedulers:
        owners.setdefault(scheduler.pool, scheduler)
    for pool, scheduler in owners.items():
        for resource in resource_views(pool):
            path = paths.get(scheduler, scheduler.label)
            yield {
                "scheduler": path,
                "name": resource.name,
                "text": resource.describe(),
            }
