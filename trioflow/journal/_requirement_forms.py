"""The share of a job's requirements in its fingerprint: jobs that follow a changed step run again, as in make.

| a requirement | its share |
|---|---|
| a service or forever job, a job with `save=None` | its own requirements |
| a group | its jobs, whatever their order |
| a `First` | its jobs, whichever won |
| a job that has not succeeded, or not done its whole work | its state, too |
| a job that did no work: skipped, blocked, cancelled | its state, and its own requirements |
| any job | its fingerprint, without its requirements |
| of `requires(..., order_only=True)` | nothing |

The requirements of a nested scheduler count for each job in it. All shares are hashed into a single number, the part
`q` of the fingerprint, so that `q` has the same size for any number of requirements. After a colon, `q` has the number
of the jobs.

Besides, each requirement has the number and the time of its last run. A job runs again if a requirement has run later
than itself. This also passes changes on along a chain: each job that runs again has run later than the jobs that follow
it. So the fingerprint of a requirement counts without its own requirements, and completing a record that `--only` has
cut changes no other record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from .._core.base._states import JobState
from .._core.job._ancestors import enclosing_schedulers
from .._core.job._job import AbstractJob, is_scheduler, with_members
from .._core.scheduler._base_scheduler import BaseScheduler
from .._core.words._job_queries import (
    counted_requirements,
    is_one_job,
    jobs_of_run,
    reported_state,
)
from ._serialization import digest

RunTime = tuple[int, float]
"""The number of a run in the journal, and the time when a job settled in it."""
CountedJobs = Mapping[AbstractJob[Any], "Counted"]

NEVER: Final = (0, 0.0)
CUT_PART: Final = "cut"
"""The part `q` of a job that has run without its requirements, which `--only` left out."""
WITHOUT_WORK: Final = (JobState.SKIPPED, JobState.BLOCKED, JobState.CANCELLED)
"""The final states of a job that has not been looked up."""
ORDER_ONLY_HINT: Final = "if only the order counts: order_only=True"
OF_OTHERS: Final = re.compile(
    r"(?:file|its output) (.*)|.*, (the result of .*),( has changed).*"
)
"""Matches the reason why a job was not restored if it is a change of a file, or of the result of an input."""


class Counted:
    """The share of a job, or of several jobs together, in the fingerprints of jobs that require them.

    Args:
        text: the fingerprint, or another text that changes whenever the counted work changes. It is "" if nothing
            counts.
        number: the number of jobs that count.
        ran: when the last of them ran, or `NEVER` if that does not count.
        cause: the first change that made this job run, if it ran in this run.

    """

    __slots__ = ("_text", "_total", "cause", "number", "ran")

    def __init__(
        self,
        text: str = "",
        number: int = 0,
        ran: RunTime = NEVER,
        cause: str | None = None,
    ) -> None:
        # "" once it is in the total: most jobs are required by none.
        self._text = text
        self._total = 0
        self.number = number
        self.ran = ran
        self.cause = cause

    @property
    def total(self) -> int:
        """The sum of the hashes of the shares, which does not depend on the order of the jobs."""
        if self._text:
            self._total = int(digest(self._text.encode()), 16)
            self._text = ""
        return self._total

    @property
    def part(self) -> str:
        """The part `q` of the fingerprint of a job that requires these jobs."""
        if not self.number:
            return ":0"
        return f"{self.total:x}:{self.number}"

    def add(self, other: Counted, job: AbstractJob[Any] | None = None) -> None:
        """Add the count of another job, or a group."""
        self._total = (self.total + other.total) % 2**96
        self.number += other.number
        self.note_run(other, job)

    def note_run(self, other: Counted, job: AbstractJob[Any] | None = None) -> None:
        """Take over the time of another job's run, if that is later, and its reason. Without a reason, name `job`.

        Of the jobs that ran in this run, the first one gives the reason, whichever ended last.
        """
        if other.ran > self.ran:
            is_in_same_run = other.ran[0] == self.ran[0]
            if not is_in_same_run or self.cause is None or other.cause is None:
                self.cause = other.cause
            self.ran = other.ran
            if job is not None and self.cause is None:
                self.cause = f"{job.label!r} has run since"


NOTHING: Final = Counted()


class RequirementForms:
    """The shares of a run's jobs in the fingerprints of jobs that require them. Looking a job up adds it."""

    def __init__(self) -> None:
        # Weak, because with keep_jobs=False a job is dropped before those that require it are looked up.
        self._known: Final = WeakKeyDictionary[AbstractJob[Any], Counted]()
        # The jobs that nested schedulers have dropped.
        self._dropped: Final[dict[AbstractJob[Any], Counted]] = {}
        # See `_of_surroundings`.
        self._around: Final[dict[AbstractJob[Any], Counted]] = {}
        # The winners of each `First` that was not restored as a whole: it has run when they have.
        self.winners: Final = WeakKeyDictionary[
            AbstractJob[Any], Sequence[AbstractJob[Any]]
        ]()

    # ---- the jobs

    def add(self, job: AbstractJob[Any], counted: Counted) -> None:
        self._known[job] = counted

    def pass_on(self, job: AbstractJob[Any]) -> None:
        """Add a job that does not count, but must not hide a change of its requirements."""
        passed = Counted()
        passed.add(self.of_requirements(job))
        passed.number = min(passed.number, 1)
        self._known[job] = passed

    def set_ran(self, job: AbstractJob[Any], ran: RunTime) -> None:
        """Note that a job has done its work, so that the jobs after it run again."""
        if (known := self._known.get(job)) is not None:
            known.ran = ran

    def discard(self, job: AbstractJob[Any]) -> None:
        """Forget a job that runs, or is decided, anew: what it requires may have changed."""
        self._known.pop(job, None)
        self.winners.pop(job, None)

    def begin(self, scheduler: AbstractJob[Any]) -> None:
        """Forget the facts about the jobs in a nested scheduler, because a run of it begins."""
        for known in (self._dropped, self._around, self.winners):
            known.pop(scheduler, None)
        if not is_one_job(scheduler):
            # A `First` has been looked up.
            self._known.pop(scheduler, None)

    def forget(self, job: AbstractJob[Any]) -> None:
        """Sum up a job that its scheduler is about to drop, for those that require this scheduler."""
        if job in self.winners:
            # They would keep their `First` alive: members know their scheduler.
            self.of(job)
        scheduler = job.scheduler
        if scheduler is not None and scheduler.scheduler is not None:
            self._dropped.setdefault(scheduler, Counted()).add(self.of(job))
        for dropped in with_members(job):
            self._dropped.pop(dropped, None)
            self._around.pop(dropped, None)

    # ---- their shares

    def of(self, job: AbstractJob[Any]) -> Counted:
        """Return the share of a requirement that has settled or is a ready service."""
        known = self._known.get(job)
        if known is None:
            known = self._of_idle(job)
        for winner in self.winners.pop(job, ()):
            known.note_run(self.of(winner))
        if job.forever:
            return known
        state = reported_state(job)
        if state is JobState.SUCCEEDED:
            return known
        return Counted(
            f"{state.value} {known.total:x}",
            max(known.number, 1),
            known.ran,
            known.cause,
        )

    def _of_idle(self, job: AbstractJob[Any]) -> Counted:
        """Return the share of a job that has not been looked up: a group counts its jobs, and other jobs nothing.

        A job that has done no work, because it was skipped, blocked or cancelled, passes on its requirements. Chains of
        such jobs may be long, so each is added after the jobs that it requires.
        """
        todo = [job]
        while todo:
            current = todo[-1]
            is_idle = (
                reported_state(current) in WITHOUT_WORK
                and current.scheduler is not None
            )
            required = list[AbstractJob[Any]]()
            if is_idle:
                for level in (current, *enclosing_schedulers(current))[:-1]:
                    required += counted_requirements(level)
            unknown = [
                item
                for item in required
                if item not in self._known and reported_state(item) in WITHOUT_WORK
            ]
            if unknown:
                todo += unknown
                continue
            todo.pop()
            if current not in self._known:
                if is_scheduler(current) and not is_one_job(current):
                    known = self._of_group(current)
                else:
                    known = Counted()
                if is_idle:
                    known.add(self.of_requirements(current))
                    self._known[current] = known
        return self._known.get(job) or Counted()

    def _of_group(self, group: BaseScheduler) -> Counted:
        counted = Counted()
        for job in (group, *jobs_of_run(group)):
            if is_one_job(job):
                counted.add(self.of(job))
            elif job in self._dropped:
                counted.add(self._dropped[job])
        self._known[group] = counted
        return counted

    def of_requirements(
        self, job: AbstractJob[Any], restored: CountedJobs | None = None
    ) -> Counted:
        """Return the shares of all requirements of a job together. The jobs in `restored` count as restored."""
        required = counted_requirements(job)
        scheduler = cast(BaseScheduler, job.scheduler)
        outer = self._around.get(scheduler) or self._of_surroundings(scheduler)
        if required:
            return self._join(required, outer, restored)
        return outer

    def _of_surroundings(self, scheduler: BaseScheduler) -> Counted:
        """Return the count of the requirements of a scheduler and the schedulers around it."""
        outer = NOTHING
        for level in reversed([scheduler, *enclosing_schedulers(scheduler)]):
            outer = self._around[level] = self._join(counted_requirements(level), outer)
        return outer

    def _join(
        self,
        required: Iterable[AbstractJob[Any]],
        outer: Counted,
        restored: CountedJobs | None = None,
    ) -> Counted:
        joined = Counted()
        joined.add(outer)
        for item in required:
            joined.add((restored or {}).get(item) or self.of(item), item)
        return joined

    # ---- why a job runs again

    def describe_change(
        self,
        job: AbstractJob[Any],
        old_part: str | None,
        required: Counted,
        ran: RunTime,
    ) -> str | None:
        """Return the first change in a job's requirements that makes it run again, or None if there is none.

        Args:
            job: the job.
            old_part: the part `q` of its record, or None if it has none, because another program wrote it.
            required: the present count of its requirements.
            ran: when it last ran.

        """
        if old_part in (CUT_PART, required.part) and required.ran <= ran:
            return None
        old_number = re.search(r":(\d{1,9})$", old_part or "")
        more = 0
        if old_number is not None:
            more = required.number - int(old_number[1])
        if more:
            number = "one job"
            if abs(more) != 1:
                number = f"{abs(more):,} jobs"
            comparison = "more" if more > 0 else "fewer"
            return (
                f"{self._describe_owner(job)} {number} {comparison} ({ORDER_ONLY_HINT})"
            )
        if required.ran > ran and required.cause is not None:
            return required.cause
        for level in (job, *enclosing_schedulers(job))[:-1]:
            for item in counted_requirements(level):
                state = reported_state(item)
                if state is not JobState.SUCCEEDED and not item.forever:
                    return f"{item.label!r} is {state.value}"
        return f"what {job.label!r} requires has changed"

    def _describe_owner(self, job: AbstractJob[Any]) -> str:
        """Return the subject and verb for a change of the number of required jobs: a group that has them, or a job."""
        levels = (job, *enclosing_schedulers(job))[:-1]
        level = next(filter(counted_requirements, levels), job)
        groups = [*filter(is_scheduler, counted_requirements(level))]
        last = max([self.of(group).ran for group in groups], default=NEVER)
        latest = [group for group in groups if self.of(group).ran == last]
        if len(latest) == 1:
            return f"{latest[0].label!r} has"
        return f"{level.label!r} requires"


def first_cause(job: AbstractJob[Any], change: str) -> str:
    """Return a change that follows no other, in the words of the verdict: what is not the job's own change is named."""
    found = OF_OTHERS.fullmatch(change)
    if found is None:
        return f"{job.label!r} has changed"
    named = "".join(filter(None, found.groups()))
    return re.sub(r"'~\w+'", f"a file of {job.label!r}", named)
