"""A worker: a task that runs one ready job after another. Here lies the engine's shortest path.

Spawning a task costs ten times what a job costs, so a worker whose job has ended goes on with the next ready job
itself; another worker is needed only while a job waits for something. What must hold nevertheless is that each job
seems to have a task of its own:

- a worker that finds its task changed by a job (a context variable, a scope left open, a cancellation) retires, and
  a new one takes its place; a job that left something open has failed;
- a worker whose own scope was cancelled, for the sake of one job, retires too;
- jobs share the time between two turns of the event loop, all workers together: `Turn`.

```
spawn ──► take the next ready job ──► run it ──► settle it, count down its successors ──┐
              ▲     │ none                │ task changed                                │
              │     └──► leave            └──► leave, and be replaced                   │
              └──────────────────── let others run, if the turn is used up ◄───────────┘
```
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any, Final

from . import _errors
from ._outcomes import UNCALLED
from ._rules import holds
from ._states import JobState

if TYPE_CHECKING:
    from ._backend import Scope
    from ._jobs import AbstractJob
    from ._run import Run
    from ._window import Lease, Token

TURN_SECONDS: Final = 0.001
TURN_JOBS: Final = 200
"""A worker lets others run after so many jobs, whatever the time: a virtual clock stands still."""

RUNNING: Final = JobState.RUNNING
SCHEDULED: Final = JobState.SCHEDULED
IDLE: Final = JobState.IDLE
SUCCEEDED: Final = JobState.SUCCEEDED

current: Final[contextvars.ContextVar[Worker]] = contextvars.ContextVar("trioflow worker")


class Worker:
    """One task of a run, and the job that it runs now."""

    __slots__ = (
        "born",
        "called_in_turn",
        "cancelled_alone",
        "ended_by_run",
        "has_slot",
        "job",
        "lease",
        "lent",
        "mark",
        "parking",
        "ready_then",
        "run",
        "scope",
        "shielded",
        "task",
        "token",
    )

    def __init__(self, run: Run, has_slot: bool) -> None:
        """Prepare a worker of `run`, with or without a slot of its window."""
        self.run = run
        self.has_slot = has_slot
        self.born, self.called_in_turn, self.ready_then = run.clock(), run.turn.number, len(run.ready)
        self.job: AbstractJob[Any] | None = None
        self.scope: Scope | None = None  # of this task alone, if it has one
        self.shielded = False  # it runs a forever job, which ends after all others
        self.cancelled_alone = False  # by `cancel()` of its job, or because the forever jobs are to end
        self.ended_by_run = False  # the latter
        # The backend's own: the task, what it was like at first, and what it waits for while it is parked.
        self.task: Any = None
        self.mark: Any = None
        self.parking: Any = None
        # For a window that is a CapacityLimiter: what the worker borrows for, and what of it is for nested runs.
        self.token: Token | None = None
        self.lease: Lease | None = None
        self.lent: Lease | None = None

    def shield(self) -> None:
        """Let its task outlive the ordinary ones: it is about to run a forever job."""
        self.shielded = True
        self.run.group.shield(self)

    def uses_token(self) -> bool:
        """Tell whether it runs its job under a token of a limiter, and has not lent that to a run inside."""
        return self.token is not None and self.token.held and not (self.lent is not None and self.lent.in_use)

    def ended(self, task: object) -> None:
        """Take note that its task has ended, if it was cancelled before the first step."""
        crew = self.run.crew
        if self in crew.workers:
            crew.searchers -= 1
            crew.leave(self)

    def end_with_run(self) -> None:
        """Cancel its job because the run has come to an end; a service that was ready has succeeded then."""
        self.ended_by_run = True
        self.cancel_alone()

    def cancel_alone(self) -> None:
        """Cancel the job that it runs, and no other."""
        self.cancelled_alone = True
        self.run.group.cancel_one(self)


class Turn:
    """The time that the workers of one run share until the event loop gets its turn.

    A worker that finds it used up waits for a turn of the loop, and then begins a new one: unless another worker, that
    waited for the same turn, has done so; without that, each worker would take a whole turn for itself. It need not
    wait if the loop has turned while its own job was suspended: which is so if another worker was the `last` to start
    a job.
    """

    __slots__ = ("ends", "last", "number")

    def __init__(self, now: float) -> None:
        """Begin the first turn."""
        self.number = 0
        self.ends = now + TURN_SECONDS
        self.last: Worker | None = None

    def begin(self, number: int, now: float) -> bool:
        """Begin the turn after `number`, if nobody has; tell whether there is time left in it."""
        if self.number == number:
            self.number += 1
            self.ends = now + TURN_SECONDS
        return now <= self.ends


def current_job() -> AbstractJob[Any]:
    """Return the job that calls, from its body or from anything that inherits its context.

    What outlives its job, such as a task of asyncio that nobody awaits, must not ask: the answer may be the next job.

    Raises:
        RuntimeError: no job calls.

    Example:
        >>> async def who():
        ...     return current_job().label
        >>> job = Job(who, label="me")
        >>> Scheduler(job).run(), job.result()
        (True, 'me')

    """
    worker = current.get(None)
    if worker is None or worker.job is None:
        raise RuntimeError("current_job() is for the body of a job: no job calls here")
    return worker.job


async def work(worker: Worker) -> None:
    """Run ready jobs until there are none, or until the task is not as it was.

    The hot loop, and therefore one long function: each call out of it costs a tenth of what a job may cost.
    """
    run, crew = worker.run, worker.run.crew
    backend, clock, names_tasks = run.backend, run.clock, run.backend.names_tasks
    ready, forever_ready, released, turn = run.ready, run.forever_ready, run.released, run.turn
    gated, scheduler = crew.gated, run.scheduler
    tell_start, tell_end, tell_scheduled = run.tellers
    awaitable: Any
    value: Any
    error: BaseException | None
    job: Any  # an AbstractJob; the shortest path knows Job's own fields too
    named: Any = None  # the function...
    kind: Any = None  # ...and the kind of job whose default label is `name`
    name = ""
    settled = 0  # how many of the jobs that this worker has settled `run.unsettled` still counts
    jobs_left = TURN_JOBS
    searching, used, number = True, False, worker.called_in_turn
    current.set(worker)
    try:
        mark = backend.enter(worker)
        now = clock()
        tainted = run.stopping or not mark.intact()
        crew.call_for_more(worker, now)
        while not tainted:
            # ---- let others run, if the turn is used up
            if now > turn.ends or not jobs_left:
                if turn.last is worker or not turn.begin(number, now):
                    if not searching:
                        if crew.searchers >= crew.enough_searchers:
                            break  # enough others look for jobs
                        crew.searchers += 1
                        searching = True
                    worker.job = awaitable = value = None
                    number, turn.last = turn.number, None
                    await backend.turn()
                    now = clock()
                    tainted = run.stopping or not mark.intact()
                    if tainted or not turn.begin(number, now):
                        continue
                jobs_left = TURN_JOBS
            # ---- take the next ready job
            if gated:
                run.count_settled(settled)
                settled = 0
                worker.job = awaitable = value = None
                if not searching:
                    crew.searchers += 1
                    searching = True
                if not await crew.pass_gates(worker) or run.stopping:
                    break
                now = clock()
            if forever_ready or not worker.has_slot:
                worker.job = None
                job = crew.take(worker)
                if job is None:
                    break
            elif ready:
                job = ready.popleft()
                if job._state is not SCHEDULED:
                    continue  # cancelled meanwhile, or a forever job that went ahead
            else:
                run.count_settled(settled)
                settled = 0
                if gated or not run.unsettled:
                    break
                if searching:
                    crew.searchers -= 1
                    searching = False
                worker.job = awaitable = value = None
                if not await crew.park(worker):
                    break
                searching, number = True, worker.called_in_turn
                now = clock()
                tainted = run.stopping or not mark.intact()
                continue
            limits = job._limits
            if limits is not None and limits.own_task and used:
                crew.put_back(job)
                break
            if searching:
                crew.searchers -= 1
                searching = False
            if gated:
                crew.note_start(now)
            if limits is not None and job._forever:
                crew.turn_forever(worker)
            elif ready and not crew.searchers:
                crew.ensure_searcher()
            # ---- run it
            used = True
            jobs_left -= 1
            number, turn.last = turn.number, worker
            worker.job = job
            job._worker = worker
            job._started_at = now
            job._state = RUNNING
            if names_tasks:
                label = job._label
                if label is None:
                    function = getattr(job, "_function", job)
                    if function is not named or job.__class__ is not kind:
                        named, kind, name = function, job.__class__, job.label
                    label = name
                worker.task.name = label
            value = error = None  # nothing keeps a result but its job
            awaitable = UNCALLED
            try:
                if tell_start is not None:
                    tell_start(scheduler, job)
                if limits is None:
                    awaitable = job._function(*job._args)
                else:
                    run.count_settled(settled)  # a forever job may outlast all others
                    settled = 0
                    awaitable = run.begin_apart(worker, job)
                value = await awaitable
                if not mark.intact():
                    tainted = True
                    await look_behind(worker)
            except BaseException as raised:
                error = raised
            # ---- settle it
            now = clock()
            if tainted or error is not None or limits is not None or job._facts is not None:
                run.count_settled(settled)
                settled = 0
                if error is not None:
                    if mark.left_open():
                        error = await with_what_was_left(worker, error)
                    tainted = not mark.intact()
                if tainted:
                    run.heed_cancellation(worker)
                if error is None:
                    run.settle(job, SUCCEEDED, value, now)
                else:
                    run.settle_error(worker, job, error, awaitable, now)
                if limits is not None and (job._forever or limits.own_task):
                    break
            else:
                job._outcome = value
                job._finished_at = now
                job._worker = None
                job._state = SUCCEEDED
                settled += 1
                if tell_end is not None:
                    tell_end(scheduler, job)
                successors = job._successors
                if successors is not None:
                    job._successors = None
                    kind_of_them = successors.__class__
                    if kind_of_them is not tuple and kind_of_them is not list:
                        successors = (successors,)
                    for successor in successors:
                        pending = successor._pending - 1
                        successor._pending = pending
                        if not pending:
                            rule = successor._rule
                            if (
                                (rule is not None and not holds(rule))
                                or successor._forever
                                or successor._state is not IDLE
                            ):
                                run.releasing = True  # what it releases, if its rule settles it, has to queue
                                run.make_ready(successor)
                                run.releasing = False
                                if run.stopping:
                                    break  # it is critical, and blocked
                            else:
                                successor._state = SCHEDULED
                                ready.append(successor)
                                if tell_scheduled is not None:
                                    tell_scheduled(scheduler, successor)
                    if released:
                        run.release_queued()
        worker.job = awaitable = value = error = None
        if tainted or gated:
            run.heed_cancellation(worker)
    except BaseException as fault:  # the engine's own: those of jobs are settled above
        run.crash(fault)
    finally:
        if searching:
            crew.searchers -= 1
        run.count_settled(settled)
        crew.leave(worker)


async def look_behind(worker: Worker) -> None:
    """Raise if the job that has just returned left its task in another state than it found it."""
    run = worker.run
    left, errors = await run.backend.mend(worker)
    if left is not None:
        open_still = RuntimeError(f"the job returned with a {left} still open: leave it before, by its with statement")
        if errors is None:
            raise open_still
        raise BaseExceptionGroup(f"what a job left behind in a {left}", [open_still, errors])
    if run.backend.cancelled_natively(worker):
        raise _errors.JobCancelled("the job cancelled its own task: to end a job call its cancel()")


async def with_what_was_left(worker: Worker, error: BaseException) -> BaseException:
    """Return what a job raised, together with what went wrong in the nurseries that it left open."""
    left, errors = await worker.run.backend.mend(worker)
    return (
        error if errors is None else BaseExceptionGroup(f"a job, and what it left behind in a {left}", [error, errors])
    )
