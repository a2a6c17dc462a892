"""A run that is told by somebody else: what a monitor asks of its jobs, without jobs.

A file of events tells a run of another program, perhaps one that is over. `view/events/_follow` makes these objects
from it and changes them. They have the public attributes of jobs and schedulers that a monitor reads; what it asks by
functions is answered in `_asked`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from ..._core.door.reading import JobState, RunPhase, StopReason


class ToldJob:
    """A job, as far as it has been told."""

    is_told_scheduler = False

    def __init__(self, path: str, label: str, scheduler: ToldScheduler | None) -> None:
        self.path: Final = path
        self.label: Final = label
        self.scheduler: Final = scheduler
        self.waits_for: list[ToldJob] = []
        self.forever = self.critical = self.service = False
        self.expected_duration: float | None = None
        self.retry = 0
        self.forget_run()

    def forget_run(self) -> None:
        """Be as before a run."""
        self.state = JobState.IDLE
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.attempts = 0
        self.throttled = 0
        self.ready = self.timed_out = self.restored = self.through_member = False
        self.fraction_done: float | None = None
        self.status = self.waiting_for = ""
        self.error: BaseException | None = None

    def is_critical(self) -> bool:
        """Return whether its failure ends the run."""
        return self.critical

    def raised_exception(self) -> BaseException | None:
        """Return what stands for its exception: of the same name, with the same message."""
        return self.error


class ToldRun:
    """The run of a scheduler, as far as it has been told."""

    def __init__(self, clock: Callable[[], float], window: int | None, adaptive: bool) -> None:
        self.clock: Final = clock
        self.window: Final = window
        self.has_adaptive_window: Final = adaptive
        self.phase: Final = RunPhase.RUNNING
        self.reason: Final[StopReason | None] = None
        self.tokens_taken: Final[int | None] = None  # events do not tell it


class ToldScheduler(ToldJob):
    """A scheduler, as far as it has been told."""

    is_told_scheduler = True
    keep_jobs = True

    def __init__(self, path: str, label: str, scheduler: ToldScheduler | None) -> None:
        super().__init__(path, label, scheduler)
        self.members: Final[list[ToldJob]] = []
        self.run: ToldRun | None = None
        self.time_of_day: Callable[[], float] = time.time
        self.stop_reason: StopReason | None = None
        self.culprit: ToldJob | None = None

    @property
    def window_size(self) -> int | None:
        """How many jobs may run at once."""
        return None if self.run is None else self.run.window

    jobs_window = window_size

    def __iter__(self) -> Iterator[ToldJob]:
        return iter(self.members)

    def iterate_jobs(self) -> Iterator[ToldJob]:
        """Yield the jobs, those of nested schedulers included."""
        todo: list[ToldScheduler] = [self]
        while todo:
            for job in todo.pop():
                yield job
                if isinstance(job, ToldScheduler):
                    todo.append(job)

    def __len__(self) -> int:
        return len(self.members)

    def __bool__(self) -> bool:
        return True
