"""The open questions of a run: jobs that wait for a person.

If nothing can use an answer any more, because what requires it cannot run, no run waits for it: the innermost run
around all that requires it ends the question where it would end otherwise. Until then, also while it is held, the
question stays open, since what has failed may be tried again. The views ask the same function, `is_needed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from ..base._graph_algorithms import reachable
from ..base._states import DRAINING, IDLE, SCHEDULED, SKIPPED, RunPhase
from ..base._text_forms import join_names
from ..job import _requirements
from ..job._ancestors import enclosing_schedulers
from ._requirement_counts import successors_of

if TYPE_CHECKING:
    from ..job._job import AnyJob
    from ._run import Run


class AskingJobs:
    """The jobs that wait for an answer in an outermost run and in the runs nested in it, each with its run."""

    def __init__(self) -> None:
        self.asking: Final[dict[AnyJob, Run]] = {}
        # Those of which the log says that nothing can use their answers now.
        self._told: Final[set[AnyJob]] = set()

    def close(self, job: AnyJob) -> None:
        self.asking.pop(job, None)
        self._told.discard(job)

    def _decided_by(self, run: Run) -> Iterator[AnyJob]:
        """Yield the jobs that ask in a run or in those in it, and that are required in this run, or nowhere."""
        for job, asker in [*self.asking.items()]:
            decider = asker
            for user in _users_outside(job):
                around = {*enclosing_schedulers(user)}
                while decider.scheduler not in around and decider.outer_worker:
                    decider = decider.outer_worker.run
            if decider is run:
                yield job

    def are_in_vain(self, run: Run) -> bool:
        """Return whether nothing goes on in a run but questions, and nothing can use the answers to its own."""
        asking = [*self._decided_by(run)]
        if not asking or any(map(is_needed, asking)):
            return False
        runs = [run]
        for each in runs:
            if each is not run and not _is_waiting(each):
                return False
            for worker in each.crew.alive:
                nested = worker.nested_run()
                if worker.job is None or worker.is_shielded:
                    continue
                if nested is not None:
                    runs.append(nested)
                elif worker.job not in self.asking or is_needed(worker.job):
                    return False
            # In a drain, nothing starts any more.
            if each.phase is not DRAINING and any(map(_may_go_on, each.members.jobs)):
                return False
        return True

    def tell(self, run: Run) -> None:
        """Log once of each question that nothing can use its answer now. Let the run around look, too."""
        for job in self._decided_by(run):
            if job not in self._told and not is_needed(job):
                self._told.add(job)
                text = f"nothing can use the answer to {job.label!r} now"
                self.asking[job].report(job, f"{text}{_reason(job)}")
        if run.outer_worker is not None:
            run.outer_worker.run.wake()

    def end(self, run: Run) -> None:
        """End the questions of a run, each of which is in vain."""
        for job in self._decided_by(run):
            inner = self.asking[job]
            self.close(job)
            text = f"{job.label!r} asks no more: nothing can use the answer"
            inner.report(job, f"{text}{_reason(job)}")
            inner.cancel_job(job)


def _reason(job: AnyJob) -> str:
    users = join_names([repr(user.label) for user in _users(job)])
    return f", since {users} cannot run"


def _is_waiting(run: Run) -> bool:
    """Return whether a nested run waits for its jobs, and not for a part or the journal."""
    if run.phase not in (RunPhase.RUNNING, DRAINING) or run.undecided.is_busy:
        return False
    return not any(part.is_busy() for part in run.parts)


def _may_go_on(job: AnyJob) -> bool:
    """Return whether a job that no worker runs may settle, or let others start, before its run ends."""
    if job._state is IDLE:
        return not job._pending
    if not job._options.forever:
        return job._state is SCHEDULED
    # No run waits for a forever job, but for those that a service holds back.
    return job._holds_back() and any(
        user._state is IDLE and not user._options.forever
        for user in reachable([job], successors_of)
    )


# ---- who uses an answer


def _users_outside(job: AnyJob) -> list[AnyJob]:
    """Return the jobs in other schedulers that take the result of a job."""
    scheduler = job._scheduler
    if scheduler is None:
        return []
    users = scheduler._members.users_outside.get(job, WeakKeyDictionary())
    # Copied in one step: a view in another thread asks, too.
    found = filter(None, [reference() for reference in users.keyrefs()])
    return [user for user in found if user._scheduler is not None]


def _users(job: AnyJob) -> list[AnyJob]:
    # Others only contain a job that uses it, and wait for that.
    users = [user for user in successors_of(job) if job in user._required]
    return users + _users_outside(job)


def is_needed(job: AnyJob) -> bool:
    """Return whether anything can use the result of a job: nothing requires it, or what requires it may still run."""
    users = _users(job)
    return not users or any(map(_may_run, users))


def _may_run(job: AnyJob) -> bool:
    """Return whether a job may still run: nothing that has settled keeps it, or what it waits for, from that."""
    if job._state.is_settled:
        return False
    for waiting in reachable([job], _decisive):
        for other in _decisive(waiting):
            state = other._state
            if state is SKIPPED:
                is_kept = other in waiting._inputs or other is waiting._scheduler
            else:
                is_kept = state.is_settled and _requirements.has_failed(other)
            if is_kept:
                return False
    return True


def _decisive(job: AnyJob) -> list[AnyJob]:
    """Return what an IDLE job needs to run: its requirements whose failure counts, and the scheduler that it is in."""
    if job._state is not IDLE:
        return []
    found = [
        other
        for other in _requirements.essential_requirements(job)
        if other in job._inputs or other._criticality() is not False
    ]
    if job._scheduler is not None:
        found.append(job._scheduler)
    return found
