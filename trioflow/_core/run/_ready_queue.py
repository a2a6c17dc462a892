"""The ready jobs of a run.

Forever jobs are in two queues: among all other jobs, which keeps the order, and in a queue of their own, because they
need no slot and may start when the window is full. When one is taken from either queue, its entry in the other may
remain. So an entry is valid only while its job is SCHEDULED. A forever job with needs is only among all others, so that
it gets its resources there.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from ..admission._priority_queues import FifoQueue
from ..base._states import SCHEDULED
from ..job._job import AbstractJob


class ReadyQueue:
    """Jobs that wait only for a slot or resources, in the order in which they start.

    `Run.schedule` appends jobs to both queues. The workers' hot path reads them and appends to them directly.
    """

    __slots__ = ("forever", "jobs")

    def __init__(self) -> None:
        self.jobs: Final = FifoQueue()
        self.forever: Final[deque[AbstractJob[Any]]] = deque()

    def push_first(self, job: AbstractJob[Any]) -> None:
        """Put back a job that was just taken."""
        self.jobs.put_first(job)
        if job._forever and not job._needs():
            self.forever.appendleft(job)

    def take(self, has_slot: bool) -> AbstractJob[Any] | None:
        """Take the first job that a worker with (or without) a slot may run; None if there is none."""
        queue = self.jobs if has_slot else self.forever
        while queue:
            job = queue.popleft()
            if job._state is SCHEDULED:
                if has_slot:
                    self.note_taken(job)
                return job
        return None

    def note_taken(self, job: AbstractJob[Any]) -> None:
        """Record that a job was taken from among all others."""
        if job._forever and not job._needs():
            self.forever.remove(job)

    def has_any(self) -> bool:
        """Return whether a job waits; drop obsolete entries at the front."""
        while self.jobs and self.jobs.first()._state is not SCHEDULED:
            self.jobs.popleft()
        while self.forever and self.forever[0]._state is not SCHEDULED:
            self.forever.popleft()
        return bool(self.jobs or self.forever)

    def begins_with_ordinary(self) -> bool:
        """Return whether the next job needs a slot."""
        return self.has_any() and bool(self.jobs) and not self.jobs.first()._forever

    def is_used(self) -> bool:
        """Return whether there is an entry, even of a job that cannot start now."""
        return type(self.jobs) is not FifoQueue or bool(self.jobs or self.forever)

    def drain(self) -> list[AbstractJob[Any]]:
        """Take all jobs that still wait, in order."""
        left = [job for job in self.jobs.in_order() if job._state is SCHEDULED]
        self.jobs.clear()
        self.forever.clear()
        return left
