"""The paths of jobs in a journal: the keys of their records, which must be the same in each run.

| the job | its name in the path |
|---|---|
| was in its scheduler before the run | the name in `job.path`, which depends on the jobs before it |
| was added during the run, with `key=` | its label, or its function, with the key: `fetch["page 7"]` |
| was added during the run by `map`, or without a label | its label, or its function, with the arguments: `fetch(7)` |
| was added during the run, with a label | its label |

The name is escaped as a label is in `job.path`. So the order in which jobs are added makes no difference. If several
jobs have the same path, none of them is stored. Nor is a job that only the name of its function would identify.

The record of a `First` has the paths of the winners and, for a winner that is a scheduler, the outcomes of its jobs: a
later run restores it as a whole. It is valid as long as the records of all these jobs are, and of their inputs. A run
looks a `First` up before it starts, so none of its jobs runs again if it is restored. Otherwise, its jobs are looked up
one by one. So are the jobs of an outermost `First`, which is no job and has no result: its users read the states and
results of its jobs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from .._core.job._ancestors import enclosing_schedulers
from .._core.job._function import FunctionJob
from .._core.job._job import AbstractJob, is_scheduler, with_members
from .._core.job._labels import escape_label, paths_of_siblings
from .._core.scheduler._base_scheduler import BaseScheduler
from .._core.words import _job_queries
from ._serialization import NotSerializable, comparison_form, digest, dumps, msgspec

FindIdentity = Callable[[AbstractJob[Any]], tuple[str, object] | None]
Winners = dict[str, dict[str, bool]]
"""For the path of each winner, whether each job in it has succeeded, by path. Only a scheduler has entries."""

MAX_ARGUMENTS_LENGTH: Final = 60
"""The maximum length of the arguments in a path, in characters. Longer ones are replaced by their hash."""


class RecordPaths:
    """The paths of the members of a scheduler, for a run of this scheduler.

    Args:
        scheduler: the scheduler.
        find_identity: `FingerprintBuilder.find_ambiguous_identity`.
        prefix: the beginning of each path.
        is_added: whether the scheduler, or an enclosing scheduler, was added during the run.
        used: the attribute of the same name.
        interchangeable: the set of the enclosing schedulers, which this view adds to.

    Attributes:
        scheduler: the scheduler.
        prefix: the beginning of each path.
        is_added: whether other schedulers may have the same prefix.
        used: the paths that this attempt of a retried scheduler has used, including the paths of nested schedulers.
            None outside of a retried scheduler. Its earlier attempts have used the same paths.

    """

    def __init__(
        self,
        scheduler: BaseScheduler,
        find_identity: FindIdentity,
        prefix: str = "",
        is_added: bool = False,
        used: dict[str, AbstractJob[Any]] | None = None,
        interchangeable: set[AbstractJob[Any]] | None = None,
    ) -> None:
        self.scheduler: Final = scheduler
        self._find_identity: Final = find_identity
        self.prefix: Final = prefix
        self.is_added: Final = is_added
        self.used: Final = used
        # The jobs that were members before the run, or None until the first look-up. They are named together, because
        # the name of each depends on the jobs before it.
        self._paths: dict[AbstractJob[Any], str] | None = None
        # The jobs that only the order of the jobs, or of the schedulers around them, tells from others.
        if interchangeable is None:
            interchangeable = set()
        self.interchangeable: Final = interchangeable

    def find(self, job: AbstractJob[Any]) -> str | None:
        """Return the path of a member, or None if it was added during the run."""
        if self._paths is None:
            members = [
                job
                for job in self.scheduler
                if not _job_queries.was_added_during_run(job)
            ]
            self.interchangeable.update(
                _find_interchangeable(self.scheduler, self._find_identity)
            )
            self._paths = paths_of_siblings(members, self.prefix)
        return self._paths.get(job)

    def nested(self, scheduler: BaseScheduler) -> RecordPaths:
        path = self.find(scheduler)
        is_added = self.is_added or path is None
        if path is None:
            name = scheduler.label
            if scheduler.key is not None:
                try:
                    name += f"[{comparison_form(dumps(scheduler.key))}]"
                except NotSerializable as error:
                    raise NotSerializable(
                        f"the key of {scheduler.label!r} ({error})"
                    ) from None
            path = self.prefix + escape_label(name)
        used = self.used
        if scheduler.attempts > 1:
            used = {}
        return RecordPaths(
            scheduler,
            self._find_identity,
            f"{path}/",
            is_added,
            used,
            self.interchangeable,
        )

    def forget(self, job: AbstractJob[Any]) -> None:
        if self._paths is not None:
            self._paths.pop(job, None)
            self.interchangeable.discard(job)


def _find_interchangeable(
    scheduler: BaseScheduler, find_identity: FindIdentity
) -> Iterator[AbstractJob[Any]]:
    """Yield the jobs, at any depth, whose paths differ from other paths only in ordinals, and that may be others.

    In a nested scheduler whose label no other member has, only ordinals of its own members would differ: they are left
    out here, because they are found when its jobs are named.
    """
    # Schedulers whose paths differ only in ordinals.
    groups: list[list[BaseScheduler]] = [[scheduler]]
    while groups:
        labels: dict[AbstractJob[Any], str] = {}
        for group in groups.pop():
            for job in group:
                if not _job_queries.was_added_during_run(job):
                    labels[job] = job.label
        counts = Counter(labels.values())
        alike = defaultdict[tuple[str, str | None], dict[Any, object]](dict)
        for job, label in labels.items():
            if counts[label] == 1:
                continue
            if is_scheduler(job):
                alike[label, None][job] = None
                continue
            identity = find_identity(job)
            if identity is not None:
                name, work = identity
                alike[label, name][job] = work
        for (_, text), jobs in alike.items():
            if len(jobs) > 1 and text is None:
                groups.append([*jobs])
            elif len({*jobs.values()}) > 1:
                yield from jobs


def name_of_added_job(
    job: AbstractJob[Any], fingerprint: str, is_by_name_only: bool
) -> str | None:
    """Return the last part of the path of a job that was added during the run, or None if nothing identifies the job.

    Args:
        job: the job, which is no scheduler.
        fingerprint: the fingerprint of the job.
        is_by_name_only: whether the fingerprint identifies the function by its name alone.

    """
    label = _job_queries.explicit_label(job)
    stem = type(job).__name__
    if label is not None:
        stem = label
    elif isinstance(job, FunctionJob):
        stem = job.label.partition("(")[0]
    parts = msgspec.json.decode(fingerprint)
    if "key" in parts:
        return escape_label(f"{stem}[{parts['key']}]")
    if not _job_queries.is_known_by_call(job):
        return escape_label(stem)
    forms = parts.get("a", [])
    forms += [f"{name}={form}" for name, form in parts.get("k", {}).items()]
    if label is None and is_by_name_only and not forms:
        return None
    text = ", ".join(forms)
    if len(text) > MAX_ARGUMENTS_LENGTH or "o" in parts or "d" in parts:
        whole = msgspec.json.encode([forms, parts.get("o"), parts.get("d")])
        text = f"~{digest(whole)}"
    return escape_label(f"{stem}({text})")


# ---- the records of `First` schedulers


def describe_winners(
    winners: Sequence[AbstractJob[Any]], members: RecordPaths
) -> Winners:
    """Describe the winners of a `First`, in order. Return nothing if a later run could not recognize them.

    Args:
        winners: the jobs that have succeeded first.
        members: the paths of the members of the `First`.

    """
    if any(winner.timed_out for winner in winners):
        # It has no whole result.
        return {}
    paths = PathsInside(members)
    described: Winners = {}
    try:
        for winner in winners:
            group: dict[str, bool] = {}
            described[paths.of_job(winner)] = group
            if not _job_queries.is_one_job(winner):
                for path, job in paths.jobs_in(winner).items():
                    is_part = _job_queries.is_one_job(job) and not job.forever
                    group[path] = is_part and job.is_succeeded()
    except LookupError:
        return {}
    return described


class BudgetUse:
    """The amounts of budgets that the jobs of nested schedulers used in a run, from pools around these schedulers.

    The record of a `First` has all that its jobs used in the run that decided it, as the budgets of that run did:
    losers, jobs without a record, restored jobs, and nested `First`s that were restored as a whole.
    """

    def __init__(self) -> None:
        # Of each `First` that was decided or restored in this run.
        self._of_firsts: Final = WeakKeyDictionary[
            AbstractJob[Any], Mapping[str, float]
        ]()
        # Of the jobs that each scheduler has dropped, because of `keep_jobs=False`.
        self._of_dropped: Final = WeakKeyDictionary[AbstractJob[Any], Counter[str]]()

    def begin(self, first: AbstractJob[Any]) -> None:
        """Look at the jobs of a `First`, which may have been decided in an earlier attempt of a group around it."""
        self._of_firsts.pop(first, None)

    def decide(
        self, first: AbstractJob[Any], used: Mapping[str, float] | None = None
    ) -> Mapping[str, float]:
        """Return the amounts that a `First` has used, which is now decided, or restored with the use in its record."""
        if used is None:
            used = dict(self._of(first))
        self._of_firsts[first] = used
        return used

    def drop(self, job: AbstractJob[Any]) -> None:
        """Keep the use of a job of a nested scheduler, which its scheduler drops."""
        scheduler = job.scheduler
        if scheduler is None or scheduler.scheduler is None:
            return
        used = self._of(job)
        if used:
            theirs = _budgets_of([scheduler])
            kept = {name: amount for name, amount in used.items() if name not in theirs}
            self._of_dropped.setdefault(scheduler, Counter()).update(kept)

    def _of(self, top: AbstractJob[Any]) -> Counter[str]:
        """Return the use of a job, and of all jobs in it, from pools around it."""
        used = Counter[str]()
        for job in with_members(top):
            between = _schedulers_inside(job, top)
            if any(scheduler in self._of_firsts for scheduler in between):
                continue
            amounts: Mapping[str, float]
            if not is_scheduler(job):
                amounts = _job_queries.budget_use(job)
            elif job in self._of_firsts:
                amounts = self._of_firsts[job]
            else:
                amounts = self._of_dropped.get(job, {})
            theirs = _budgets_of(between)
            used.update({name: amounts[name] for name in amounts if name not in theirs})
        return used


def budgets_needed_around(first: AbstractJob[Any]) -> set[str]:
    """Return the names of the budgets around a `First` that jobs in it need."""
    needed = set[str]()
    for job in cast(BaseScheduler, first).iterate_jobs():
        needed |= _job_queries.needs_as_given(job).keys() - _budgets_of(
            _schedulers_inside(job, first)
        )
    return needed


def _schedulers_inside(
    job: AbstractJob[Any], top: AbstractJob[Any]
) -> set[BaseScheduler]:
    """Return `top` and the schedulers in it that contain a job, or none for `top` itself."""
    return {*enclosing_schedulers(job)} - {*enclosing_schedulers(top)}


def _budgets_of(schedulers: Iterable[BaseScheduler]) -> set[str]:
    """Return the names of the budgets in the pools of schedulers."""
    names = set[str]()
    for scheduler in schedulers:
        if scheduler.pool is not None:
            names.update(scheduler.pool.budgets)
    return names


class PathsInside:
    """The paths of all jobs in a `First`, whose members have these paths. Looking up a job that was added raises."""

    def __init__(self, members: RecordPaths) -> None:
        self._views: Final[dict[Any, RecordPaths]] = {members.scheduler: members}

    def of_members(self, scheduler: Any) -> RecordPaths:
        enclosing = [scheduler]
        while enclosing[-1] not in self._views:
            enclosing.append(enclosing[-1].scheduler)
        while len(enclosing) > 1:
            outer = enclosing.pop()
            self._views[enclosing[-1]] = self._views[outer].nested(enclosing[-1])
        return self._views[scheduler]

    def of_job(self, job: AbstractJob[Any]) -> str:
        if (path := self.of_members(job.scheduler).find(job)) is None:
            raise LookupError
        return path

    def jobs_in(self, scheduler: Any) -> dict[str, AbstractJob[Any]]:
        """Return the jobs in a scheduler by path, without those in a nested `First`."""
        return {self.of_job(job): job for job in _job_queries.jobs_of_run(scheduler)}
