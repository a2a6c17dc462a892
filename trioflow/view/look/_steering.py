"""Steer a run from any thread: pause and resume it, change its window, drain or cancel it, cancel a job in it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Final, Protocol, runtime_checkable

from ..._core.base._states import RunPhase
from ..._core.base._text_forms import clause, join_names, short_repr
from ..._core.job._ancestors import outermost_ended
from ..._core.job._job import AnyJob, is_job, is_scheduler
from ..._core.job._labels import paths_of, printable, unescape_path
from ..._core.words import _job_queries, _run_view
from ..text._selection import suggest_paths
from ._process_record import MAX_JOBS

STEER_TIMEOUT: Final = 2.0
"""How long, in seconds, to wait for the event loop, which a job may block."""
ACTIONS: Final = {
    "pause": "paused",
    "resume": "resumed",
    "window": "jobs_window set to {}",
    "drain": "drained",
    "cancel": "cancelled",
    "retry": "tried again",
    "answer": "answered{}",
    "reload": "",  # which logs by itself
}
"""The possible actions, and how the log says each."""
NOTHING_TO_DO: Final = {"pause": "was paused already", "resume": "is not paused"}
"""The answers to actions that change nothing."""
WINDOW_ADVICE: Final = "give a whole number from 1 up"


@runtime_checkable
class CommandScheduler(Protocol):
    """A scheduler whose jobs are commands. It may have dropped a failed command, and knows what to run again."""

    def try_commands_again(self, wanted: Sequence[object]) -> list[str]: ...


MAX_GROUPS: Final = 5
"""The maximum number of nested schedulers that the answer to another window names."""


def steer(
    run: _run_view.RunInProgress,
    action: str,
    value: object,
    by: str,
    target: str | None = None,
    job: AnyJob | None = None,
) -> str:
    """Steer an outermost run in the next turn of its loop, and return what was done, as words.

    Each change of the run is an incident of it, and so in the log.

    Args:
        run: the run. The call comes from another thread.
        action: one of `ACTIONS`, or "reload and retry": if the mended code is refused, nothing is tried again.
        value: the number of slots for "window". For "cancel" and "retry", the path of a job, or None for the run. For
            "retry" also a list of paths, or of jobs. For "answer", the text, or the path and the text.
        by: who asks, for the log.
        target: the path of the nested scheduler that gets the window. None or the run's own label is the run.
        job: the job to cancel or to answer, or the nested scheduler that gets the window, in place of a path.

    Raises:
        ValueError: it cannot be done. The message says why.

    """
    answer, is_late = Future[str](), threading.Event()

    def act() -> None:
        done = list[str]()
        try:
            for each in action.split(" and "):
                done.append(_act(run, each, value, by, target, job))
            answer.set_result("; ".join(done))
        except (TypeError, ValueError, RuntimeError) as error:
            answer.set_exception(ValueError("; ".join([*done, str(error)])))
            if is_late.is_set():
                # Who asked does not wait any more.
                run.report(job, f"{action} by {by} has no effect: {error}", is_steering=True)

    try:
        run.call_in_loop(act)
    except RuntimeError:
        # The loop has ended.
        raise ValueError("the run has ended") from None
    try:
        return answer.result(STEER_TIMEOUT)
    except TimeoutError:
        if run.has_ended():
            raise ValueError("the run has ended") from None
        is_late.set()
        return f"{action}: takes effect as soon as no job blocks the event loop"


def _act(run: _run_view.RunInProgress, action: str, value: Any, by: str, target: str | None, job: AnyJob | None) -> str:
    scheduler, phase, note = run.scheduler, run.view.phase, ""
    subject = scheduler.label
    if action not in ACTIONS:
        raise ValueError(f"{action!r} is none of {', '.join(ACTIONS)}")
    if run.has_ended():
        raise ValueError("the run has ended")
    if phase in (RunPhase.DRAINING, RunPhase.STOPPING) and action != "cancel":
        raise ValueError(f"'{printable(subject)}' {phase.value} already")
    if action == "reload":
        from ._reload import reload

        return reload(by)
    if action in ("pause", "resume"):
        is_held = any(is_scheduler(job) and job.is_paused() for job in paths_of(scheduler))
        if (action == "pause") is (scheduler.is_paused() or (action == "resume" and is_held)):
            return f"'{printable(subject)}': {NOTHING_TO_DO[action]}"
        run.set_pause(action == "pause", by)
    elif action == "window":
        if type(value) is not int or value < 1:
            raise ValueError(f"the window of '{printable(target or subject)}': {WINDOW_ADVICE}")
        resized: Any = scheduler
        if job is None and target not in (None, subject):
            job = _find(scheduler, target)
        if job is not None:
            resized = job
            subject = unescape_path(job.path)
        if not is_scheduler(resized):
            raise ValueError(f"'{printable(subject)}' is one job, without a window")
        resized.jobs_window = value
        note = _groups_text(resized)
    elif action == "retry" and isinstance(scheduler, CommandScheduler) and value:
        # Commands, some of whose jobs may have been dropped.
        names: list[Any] = value if type(value) is list else [value, unescape_path(value)]  # pyright: ignore[reportUnknownVariableType]
        subject = join_names(scheduler.try_commands_again(names), MAX_GROUPS)
    elif action == "retry":
        wanted: list[Any] = value if type(value) is list else [value or scheduler]  # pyright: ignore[reportUnknownVariableType]
        jobs: list[AnyJob] = [each if is_job(each) else _find(scheduler, each, has_settled=True) for each in wanted]
        settled = [each for each in scheduler.iterate_jobs() if each.is_settled()]
        problems: list[str] = [problem for each in jobs if (problem := _run_view.why_not_again(each))]
        if problems:
            raise ValueError(problems[0])
        jobs = [*dict.fromkeys(map(outermost_ended, jobs))]
        for each in jobs:
            each.try_again()
        paths = paths_of(scheduler)
        names = [unescape_path(paths[each]) for each in settled if not each.is_settled()]
        if scheduler.keep_jobs and not names:
            raise ValueError(f"'{printable(subject)}': nothing has failed that can be tried again")
        subject = join_names([unescape_path(paths.get(each, subject)) for each in jobs], MAX_GROUPS)
        note = clause("; these wait or run again: {}", join_names(names, MAX_GROUPS))
    elif action == "answer":
        text = value
        if job is None:
            path, text = value
            job = _find(scheduler, path)
        asking: Any = job
        subject = unescape_path(job.path)
        if _job_queries.question_of(job) is None:
            raise ValueError(f"'{printable(subject)}' asks nothing now")
        if type(text) is not str:
            raise ValueError(f"the answer to '{printable(subject)}': give it as text")
        asking.answer(text)
        value = "" if job.redact else f" {short_repr(text)}"
    elif action == "drain":
        scheduler.drain()
    elif value is None and job is None:
        scheduler.cancel()
    else:
        if job is None:
            job = _find(scheduler, value)
        subject = unescape_path(job.path)
        if job.is_settled():
            raise ValueError(f"'{printable(subject)}' has ended")
        job.cancel()
    done = f"'{printable(subject)}': {ACTIONS[action].format(value)}"  # pyright: ignore[reportUnknownArgumentType]
    run.report(job, f"{done} by {by}", is_steering=True)
    return done + note


def _groups_text(scheduler: Any) -> str:
    """Name the nested schedulers with windows of their own, which the new window of `scheduler` does not limit."""
    own = list[str]()
    for job, path in paths_of(scheduler).items():
        if is_scheduler(job) and not (job.is_settled() or _job_queries.is_one_job(job)):
            window = "no limit" if job.jobs_window is None else short_repr(job.jobs_window)
            own.append(f"'{printable(path)}' ({window})")
    names = join_names(own, MAX_GROUPS)
    return clause("; a group counts as one job there, and keeps a window of its own: {}", names)


def _find(scheduler: Any, path: Any, has_settled: bool = False) -> AnyJob:
    """Return the only job that a path means, as it is or as it is printed."""
    paths = paths_of(scheduler)
    found = [job for job, its_path in paths.items() if path in (its_path, printable(its_path))]
    for job in found:
        if job.is_settled() is has_settled:
            return job
    if found:
        raise ValueError(f"'{printable(paths[found[0]])}' is {found[0].state.value}")
    wanted = "has settled" if has_settled else "runs or waits"
    hint = suggest_paths(paths, str(path)) or f"; --json has up to {MAX_JOBS} of each kind, unshortened"
    raise ValueError(f"no job with the path {short_repr(path)} {wanted}{hint}")
