"""Steer a run from any thread: pause and resume it, change its window, drain or cancel it, cancel one of its jobs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from ..job._labels import paths_of

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ..run._run import Run
    from ._run_view import RunView

STEER_TIMEOUT: Final = 2.0
"""How long, in seconds, to wait for the event loop, which a job may block."""
ACTIONS: Final = {
    "pause": "paused",
    "resume": "resumed",
    "window": "jobs_window set to {}",
    "drain": "drained",
    "cancel": "cancelled",
}
"""What can be done, and how the log says it."""
STEERER: Final = "trioflow look, pid"
"""How all begin who steer from outside the program."""


def is_steering(message: str) -> bool:
    """Return whether the message of an incident says that somebody steered the run, so that nothing went wrong."""
    return f" by {STEERER} " in message


def steer(view: RunView, action: str, value: Any, by: str) -> str:
    """Steer an outermost run in the next turn of its loop, and return what was done, as words.

    What changes the run is an incident of it, and so in the log.

    Args:
        view: the run. The call comes from another thread.
        action: one of `ACTIONS`.
        value: the number of slots for "window"; for "cancel", the path of a job, or None for the run.
        by: who asks, for the log; it begins with `STEERER`.

    Raises:
        ValueError: it cannot be done. The message says why.

    """
    run, answers, is_done = view._run, list[str | ValueError](), threading.Event()

    def act() -> None:
        try:
            answers.append(_act(run, action, value, by))
        except (TypeError, ValueError, RuntimeError) as error:
            answers.append(ValueError(str(error)))
        is_done.set()

    try:
        run.call_in_loop(act)
    except RuntimeError:  # the loop has ended
        raise ValueError("the run has ended") from None
    if not is_done.wait(STEER_TIMEOUT):
        return f"{action}: takes effect as soon as no job blocks the event loop"
    [answer] = answers
    if isinstance(answer, ValueError):
        raise answer
    return answer


def _act(run: Run, action: str, value: Any, by: str) -> str:
    scheduler = run.scheduler
    subject, job = scheduler.label, None
    if action not in ACTIONS:
        raise ValueError(f"{action!r} is none of {', '.join(ACTIONS)}")
    if scheduler._run is not run:
        raise ValueError("the run has ended")
    if run.is_draining_or_stopping and action != "cancel":
        raise ValueError(f"{subject!r} {run.phase.value} already")
    if action in ("pause", "resume"):
        if (action == "pause") is (run.pause is not None):
            return f"{subject!r}: {'was paused already' if run.pause else 'is not paused'}"
        run.set_pause(action == "pause", by)
    elif action == "window":
        scheduler.jobs_window = value
    elif action == "drain":
        scheduler.drain()
    elif value is None:
        scheduler.cancel()
    else:
        subject, job = value, _find(run, value)
        job.cancel()
    done = f"{subject!r}: {ACTIONS[action].format(value)}"
    run.report(job, f"{done} by {by}")
    return done


def _find(run: Run, path: Any) -> AbstractJob[Any]:
    for job, its_path in paths_of(run.scheduler).items():
        if its_path == path and not job.is_settled():
            return job
    raise ValueError(f"no job with the path {path!r} runs or waits; --json has all paths, unshortened")
