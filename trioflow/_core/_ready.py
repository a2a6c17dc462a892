"""The ready jobs, first in, first out.

Forever jobs stand twice: among the others, which keeps the order, and in a queue of their own, because they need no
slot and may start when the window is full. Whoever starts one leaves the other entry behind; so an entry counts only
while its job is SCHEDULED.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from ._jobs import AbstractJob
from ._states import JobState


class ReadyQueue:
    """Jobs that wait for nothing but a slot, in the order in which they became ready.

    The worker's shortest path reads the two queues directly.
    """

    __slots__ = ("forever", "jobs")

    def __init__(self) -> None:
        """Begin empty."""
        self.jobs: Final[deque[AbstractJob[Any]]] = deque()
        self.forever: Final[deque[AbstractJob[Any]]] = deque()

    def push(self, job: AbstractJob[Any]) -> None:
        """Put a SCHEDULED job at the end."""
        self.jobs.append(job)
        if job._forever:
            self.forever.append(job)

    def push_first(self, job: AbstractJob[Any]) -> None:
        """Put back a job that was just taken."""
        self.jobs.appendleft(job)
        if job._forever:
            self.forever.appendleft(job)

    def take(self, has_slot: bool) -> AbstractJob[Any] | None:
        """Take the first job that a worker with or without a slot may run, or None."""
        queue = self.jobs if has_slot else self.forever
        while queue:
            job = queue.popleft()
            if job._state is JobState.SCHEDULED:
                if has_slot and job._forever:
                    self.forever.remove(job)
                return job
        return None

    def has_any(self) -> bool:
        """Tell whether a job waits, and drop the entries in front that count no more."""
        for queue in (self.jobs, self.forever):
            while queue and queue[0]._state is not JobState.SCHEDULED:
                queue.popleft()
        return bool(self.jobs or self.forever)

    def begins_with_ordinary(self) -> bool:
        """Tell whether the job that is next in turn needs a slot."""
        return self.has_any() and bool(self.jobs) and not self.jobs[0]._forever

    def drain(self) -> list[AbstractJob[Any]]:
        """Take all jobs that still wait, in their order."""
        left = [job for job in self.jobs if job._state is JobState.SCHEDULED]
        self.jobs.clear()
        self.forever.clear()
        return left
