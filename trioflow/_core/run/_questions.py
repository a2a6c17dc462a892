"""The open questions of a run: jobs that wait for a person.

If nothing can use an answer any more, because what requires it cannot run, the run does not wait for it: it ends the
question where it would end otherwise. Until then, also while it is held, the question stays open, since what has failed
may be tried again. The views ask the same function, `is_needed`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..base._states import DRAINING, IDLE, SCHEDULED
from ..base._text_forms import join_names
from ..job import _requirements
from ._requirement_counts import successors_of

if TYPE_CHECKING:
    from ..job._job import AnyJob
    from ._run import Run


class AskingJobs:
    """The jobs of a run that wait for an answer. The run has it from the first question on."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        self.asking: Final[dict[AnyJob, None]] = {}

    def are_in_vain(self) -> bool:
        """Return whether nothing goes on in the run but these jobs, and nothing can use what any of them returns."""
        run = self._run
        asking = self.asking
        working = {
            worker.job
            for worker in run.crew.alive
            if worker.job is not None and not worker.is_shielded
        }
        if not asking or working - asking.keys() or any(map(is_needed, asking)):
            return False
        if run.phase is DRAINING:
            # Nothing starts any more.
            return True
        for job in run.members.jobs:
            if not job._state.is_settled and self._may_go_on(job):
                return False
        return True

    def _may_go_on(self, job: AnyJob) -> bool:
        """Return whether a job that has not settled may settle, or let others start, before the run ends."""
        if job._state is IDLE:
            return not job._pending
        if job._state is SCHEDULED:
            return True
        if job._options.forever:
            return job._is_service and job._holds_back()
        return job not in self.asking

    def end(self) -> None:
        """End the questions, each of which is in vain."""
        run = self._run
        ended = [*self.asking]
        self.asking.clear()
        for job in ended:
            users = join_names([repr(user.label) for user in successors_of(job)])
            text = f"{job.label!r} asks no more: nothing can use the answer, since {users} cannot run"
            run.report(job, text)
            run.cancel_job(job)


def is_needed(job: AnyJob) -> bool:
    """Return whether anything can use the result of a job: nothing requires it, or what requires it may still run."""
    scheduler = job._scheduler
    if scheduler is not None and job in scheduler._members.members_used_outside:
        return True
    users = [*successors_of(job)]
    return not users or any(map(_may_run, users))


def _may_run(job: AnyJob) -> bool:
    """Return whether a job may still run: nothing that has settled keeps it from that."""
    if job._state.is_settled:
        return False
    for other in _requirements.essential_requirements(job):
        if other._state.is_settled and _requirements.has_failed(other):
            if other in job._inputs or other._criticality() is not False:
                return False
    return True
