"""The story of an explored run: its events as lines of text, and what its jobs wait for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import anyio

from .._core.api.testing import describe_line
from .._core.api.views import AnyJob, JobState, get_group_members, join_names
from . import _coroutine_frames
from ._fault_plans import END_PLACE, SHORT_DELAY, Change
from ._run_record import RunOutcome, SteppedJob


class Story:
    """The lines that tell the events of a run.

    Args:
        outcome: the outcome of the run, which gets the lines.
        stepped_jobs: the jobs of the run, to which others are added.

    """

    def __init__(self, outcome: RunOutcome, stepped_jobs: Mapping[AnyJob, SteppedJob]) -> None:
        self.outcome: Final = outcome
        self.stepped_jobs: Final = stepped_jobs
        self._lines: Final = outcome.event_lines

    def add_line(self, text: str, time: float | None = None) -> None:
        timestamp = anyio.current_time() if time is None else time
        self._lines.append(f"{round(timestamp, 3):>8g}  {text}")

    def describe_holders(self, stepped: SteppedJob) -> str:
        holds: list[str] = []
        for other in self.stepped_jobs.values():
            if other is not stepped and other.job.state is JobState.RUNNING:
                granted = {name: has for name, has in other.job.granted.items() if not isinstance(has, dict)}
                if granted:
                    holds.append(f"{other.name!r} holds {', '.join(f'{name}={has}' for name, has in granted.items())}")
        return f" while {' and '.join(holds)}" if holds else ""

    def last_activity_time(self) -> float:
        """Return the last time at which a job began its current wait or finished; 0 if there is none."""
        wait_starts = [
            stepped.wait_start for stepped in self.stepped_jobs.values() if stepped.waiting_coroutine is not None
        ]
        return max(
            wait_starts + [job.finished_at for job in self.stepped_jobs if job.finished_at is not None], default=0.0
        )

    def add_waiting_jobs(self) -> None:
        """Add lines to the story: where each running job waits, and which jobs wait for a slot or a resource."""
        waiting = [stepped.name for stepped in self.stepped_jobs.values() if stepped.job.state is JobState.SCHEDULED]
        for stepped in self.stepped_jobs.values():
            if stepped.waiting_coroutine is not None:
                self._lines.append(
                    f"{'':12}{stepped.name!r} has waited since {round(stepped.wait_start, 3):g}, "
                    f"at {_coroutine_frames.waiting_line(stepped.waiting_coroutine)}"
                )
        if waiting:
            self._lines.append(f"{'':12}{join_names([*map(repr, waiting)], 3)} wait for their turn")


def describe_place(stepped: SteppedJob, change: Change) -> str:
    if change.at == 0:
        return "at its beginning"
    return "at its end" if change.at == END_PLACE else f"at {_coroutine_frames.waiting_line(stepped.waiting_coroutine)}"


def describe_error(error: BaseException) -> str:
    """Describe an exception in one line, with the file and line that raised it.

    If it has no message, include the code of that line. An exception group with one member counts as this member.
    """
    while len(members := get_group_members(error)) == 1:
        (error,) = members
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    text = " ".join(str(error).split())
    line = "" if traceback is None else describe_line(traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
    where = f" ({line.partition(': ')[0] if text else line})" if line else ""
    return f"{type(error).__name__}{f': {text}' if text else ''}{where}"


def describe_delay(seconds: float) -> str:
    return "after all others" if seconds == SHORT_DELAY else f"{seconds:g} s later"
