"""The records of `First` schedulers: what has won, so that a later run restores each as a whole.

Such a record has the paths of the winners, and for a winner that is a scheduler, which of its jobs have succeeded. It
is valid as long as the records of all these jobs are, and of their inputs. A run looks a `First` up before it starts,
so none of its jobs runs again if it is restored. Otherwise, its jobs are looked up one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .._core.api.journals import (
    AbstractJob,
    enclosing_schedulers,
    first_options,
    inputs_of,
    is_one_job,
    is_scheduler,
    jobs_of_run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ._record_paths import RecordPaths

    Winners = Mapping[str, dict[str, bool] | None]
    """For the path of each winner, whether each of its jobs has succeeded, by path; None if it counts as one job."""
    FindWinners = Callable[[str], Winners]
    FindResult = Callable[[AbstractJob[Any], RecordPaths], Any]
    AddResult = Callable[[AbstractJob[Any], Any], None]


def describe_winners(winners: Sequence[AbstractJob[Any]], members: RecordPaths) -> dict[str, dict[str, bool] | None]:
    """Describe the winners of a `First`, in order; return an empty dict if a later run could not recognize them.

    Args:
        winners: the jobs that have succeeded first.
        members: the paths of the members of the `First`.

    """
    views = Views(members)
    described: dict[str, dict[str, bool] | None] = {}
    for winner in winners:
        path = members.find(winner)
        if path is None or winner.timed_out:  # it was added, or has no whole result
            return {}
        described[path] = None
        if not is_one_job(winner):
            paths = views.paths_in(winner)
            if paths is None:
                return {}
            described[path] = {
                path: job.is_succeeded() and is_one_job(job) and not job.forever for path, job in paths.items()
            }
    return described


class StoredFirst:
    """The search for the stored result of a `First`.

    Args:
        first: the `First`.
        members: the paths of its members.
        find_winners: returns the winners of a `First` with this path; none if there is no record of them.
        find_result: returns the stored result of a job; raises a `LookupError` if the job has to run.
        add_result: called with each nested `First`, and its result.

    """

    def __init__(
        self,
        first: AbstractJob[Any],
        members: RecordPaths,
        find_winners: FindWinners,
        find_result: FindResult,
        add_result: AddResult,
    ) -> None:
        self._first: Final = first
        self._views: Final = Views(members)
        self._find_winners: Final = find_winners
        self._find_result: Final = find_result
        self._add_result: Final = add_result
        self._parts: Final[dict[AbstractJob[Any], list[AbstractJob[Any]]]] = {}  # of each job: what it depends on
        # For each winner that is a scheduler, whether each of its jobs has succeeded, by path.
        self._groups: Final[dict[AbstractJob[Any], dict[str, bool]]] = {}
        self._values: Final[dict[AbstractJob[Any], Any]] = {}

    def find(self) -> Any:
        """Return the result of the `First`.

        Raises:
            LookupError: a job that it depends on has to run.

        """
        todo: list[AbstractJob[Any]] = [self._first]
        while todo:  # each job after those that it depends on
            job = todo[-1]
            if job not in self._parts:
                self._parts[job] = self._find_parts(job)
                todo += self._parts[job]
                continue
            todo.pop()
            if job not in self._values:
                self._values[job] = self._find_value(job)
        return self._values[self._first]

    def _find_parts(self, job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
        if not is_scheduler(job):
            return [item for item in inputs_of(job) if not item.forever and self._encloses(item)]
        paths = self._views.paths_in(job)
        if paths is None:
            raise LookupError
        if job in self._groups:
            succeeded = self._groups[job]
            if paths.keys() != succeeded.keys():
                raise LookupError
            return [member for path, member in paths.items() if succeeded[path]]
        winners = self._find_winners(self._views.of(job).prefix[:-1])
        if len(winners) != first_options(job)[0] or not paths.keys() >= winners.keys():
            raise LookupError
        self._groups.update({paths[path]: group for path, group in winners.items() if group is not None})
        return [paths[path] for path in winners]

    def _encloses(self, job: AbstractJob[Any]) -> bool:
        return any(scheduler is self._first for scheduler in enclosing_schedulers(job))

    def _find_value(self, job: AbstractJob[Any]) -> Any:
        if not is_scheduler(job):
            assert job.scheduler is not None
            return self._find_result(job, self._views.of(job.scheduler))
        if job in self._groups:
            return True
        results = [self._values[winner] for winner in self._parts[job]]
        value = results if len(results) > 1 else results[0]
        self._add_result(job, value)
        return value


class Views:
    """The paths of the members of a `First`, and of the schedulers in it."""

    def __init__(self, members: RecordPaths) -> None:
        self._views: Final[dict[Any, RecordPaths]] = {members.scheduler: members}

    def of(self, scheduler: Any) -> RecordPaths:
        enclosing = [scheduler]
        while enclosing[-1] not in self._views:
            enclosing.append(enclosing[-1].scheduler)
        while len(enclosing) > 1:
            outer, inner = enclosing.pop(), enclosing[-1]
            self._views[inner] = self._views[outer].nested(inner)
        return self._views[scheduler]

    def paths_in(self, scheduler: Any) -> dict[str, AbstractJob[Any]] | None:
        """Return the jobs in a scheduler by path, without those in a `First`; None if one was added during the run."""
        jobs = {self.of(job.scheduler).find(job): job for job in jobs_of_run(scheduler)}
        return None if None in jobs else jobs  # type: ignore[return-value]
