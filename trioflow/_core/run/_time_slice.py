"""`TimeSlice`: what all runs in a loop share in one turn of the event loop: time, and what is decided at its end."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from ..admission._resource import TIME_TOLERANCE
from ..base._states import SCHEDULED

if TYPE_CHECKING:
    from ..admission._line import Line
    from ..backend import Backend
    from ..job._job import AbstractJob
    from ._handle import ThreadReports
    from ._run import Run
    from ._worker import Worker

TURN_SECONDS: Final = 0.001
"""The time, in seconds, for which all workers together may run jobs in one turn of the event loop."""
MIN_WORKERS_IN_TURN: Final = 2
MAX_WORKERS_IN_TURN: Final = 24
"""The bounds of `TimeSlice.max_waiting`."""


class TimeSlice:
    """The time that the workers of all runs in a loop share in one turn of the event loop.

    A worker that finds this time used up waits for the next turn. The first worker that continues in that turn calls
    `begin`, which renews the time for all of them. Otherwise, each worker would take the whole time for itself.

    A worker need not wait if a new iteration of the loop has begun while its own job was suspended; its task snapshot
    shows this.

    Up to `max_waiting` workers wait for the next turn of the loop, which wakes all of them. This is twice the number of
    workers that found time left in the last turn, within bounds. Further workers wait in `queue`. Each worker that has
    waited admits the next ones from the queue, so while the queue has workers, at least one worker waits for a turn. If
    all workers waited for each turn, a thousand might wake in a turn that the first job uses up.

    Workers begin in the order in which they were spawned, across all runs, so that the first jobs of sibling groups
    start in order. `spawned` has those that have not begun: trio resumes the new tasks of a turn in order or in
    reverse, by chance, and on both backends, a new task would pass one that found the time used up.

    Whichever of the jobs that end in one turn the loop resumes first, those that become ready by their ends start in
    the order in which they were added. So in runs with limits, these are `gathered`, and a worker whose job has waited
    yields before it takes the next one. The first worker that continues lets all of them stand in line.
    """

    def __init__(self, clock: Callable[[], float], reports: ThreadReports) -> None:
        self.clock: Final = clock
        self.turn_number = 0  # the number of times that the time was renewed, at most once per turn of the loop
        self.timed: Final[dict[Run, float]] = {}  # when the parts of runs have a turn, of those that wait for one
        self.next_timed = math.inf  # no later than the first of these
        self.gathered: list[tuple[Line, AbstractJob[Any]]] = []  # each with the line in which the job will stand
        self.is_decision_due = False  # whether a worker will call `decide` in the next turn
        self.reports: Final = reports  # progress reports from other threads, about jobs of all runs in the loop
        self.ends_at = clock() + TURN_SECONDS
        self.waiting_count = 0
        self.max_waiting = MAX_WORKERS_IN_TURN
        self.workers_with_time = 0  # how many times workers have found time left in this turn
        self.queue: Final[OrderedDict[Worker, None]] = OrderedDict()  # the first of a dict that shrank is found slowly
        self.spawned: Final[deque[Worker]] = deque()  # the workers that have not begun, in order

    def begin(self, number: int, now: float) -> bool:
        """Renew the time after turn `number`, unless another worker has done so; return whether any time is left."""
        if self.turn_number == number:
            self.turn_number += 1
            self.ends_at = now + TURN_SECONDS
            self.max_waiting = min(max(MIN_WORKERS_IN_TURN, 2 * self.workers_with_time), MAX_WORKERS_IN_TURN)
            self.workers_with_time = 0
        if now > self.ends_at:
            return False
        self.workers_with_time += 1
        return True

    def call_due(self) -> None:
        """Let the parts of runs do what is due by time, before anything else becomes ready or free in the same instant.

        A backoff that ends as a job ends comes first, whichever the loop tells us first.
        """
        if self.timed and self.next_timed <= (now := self.clock() + TIME_TOLERANCE):
            due = [run for run, when in sorted(self.timed.items(), key=itemgetter(1)) if when <= now]
            for run in due:
                del self.timed[run]
            self.next_timed = min(self.timed.values(), default=math.inf)
            for run in due:
                run.call_parts()
                run.lane.ensure_searcher()

    async def decide_next_turn(self, backend: Backend) -> None:
        """Let all else end that ends in this turn; then `decide`, unless another worker has done so."""
        gathered, self.is_decision_due = self.gathered, True
        await backend.yield_to_loop()
        if self.gathered is gathered:
            self.decide()

    def decide(self) -> None:
        """Put what was gathered in line, in the order in which the jobs were added, enclosing schedulers first."""
        gathered, self.gathered, self.is_decision_due = self.gathered, [], False
        if len(gathered) > 1:
            gathered = [each for each in gathered if each[1]._state is SCHEDULED]  # others may be no members any more
            gathered.sort(key=lambda each: each[0].run.members.positions(each[1]))
        for line, job in gathered:
            if job._state is SCHEDULED:  # and not cancelled since
                line.places.push(job)
                line.on_change()  # its run takes part in the next round, whichever run begins that

    def next_to_begin(self, worker: Worker, now: float) -> Worker | None:
        """Return the worker that the new task of `worker` has to be; None if the task has to wait for the next turn.

        That is the one that was spawned first, if the task can be that, and if time is left for its first job.
        """
        spawned, first = self.spawned, self.spawned[0]
        if worker.workers.is_closed and worker in spawned:
            spawned.remove(worker)
            return worker
        if first is worker or worker.group.is_interchangeable(first.group):
            if now <= self.ends_at or self.begin(worker.woken_in_turn, now):
                first.woken_in_turn = self.turn_number  # its first job waits for no other turn
                return spawned.popleft()
            if len(spawned) > MAX_WORKERS_IN_TURN or not first.workers.has_work():
                return spawned.popleft()  # without time, because it waits in `queue`, or leaves at once
        worker.woken_in_turn = self.turn_number
        return None

    async def wait(self, worker: Worker) -> None:
        """Wait for the next turn of the loop, or in the queue for a later one."""
        worker.woken_in_turn = self.turn_number
        if self.waiting_count < self.max_waiting and not self.queue:
            self.waiting_count += 1
            await worker.run.backend.yield_to_loop()
        else:
            self.queue[worker] = None
            await worker.run.backend.wait_until_woken(worker)
            if worker in self.queue:  # the worker was woken because its run was cancelled
                self._admit(worker)
        self.waiting_count -= 1
        while self.queue and self.waiting_count < self.max_waiting:
            self.admit_next(next(iter(self.queue)))

    def admit_next(self, worker: Worker) -> None:
        """Admit a queued worker to the next turn of the loop."""
        self._admit(worker)
        worker.run.backend.wake(worker)

    def _admit(self, worker: Worker) -> None:
        del self.queue[worker]
        self.waiting_count += 1
        worker.woken_in_turn = self.turn_number
