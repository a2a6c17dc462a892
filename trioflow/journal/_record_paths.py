"""The paths under which a journal stores jobs: the keys of their records, which must be the same in each run.

| the job | its name in the path |
|---|---|
| was in its scheduler before the run | that of `job.path`, which depends on the jobs before it |
| was added during the run, with `key=` | its label, or its function, with the key: `fetch["page 7"]` |
| was added during the run by `map`, or without a label | its label, or its function, with the arguments: `fetch(7)` |
| was added during the run, with a label | its label |

The name is escaped as a label is in `job.path`. So the order in which jobs are added makes no difference. If several
jobs have the same path, none of them is stored. Nor is a job that only the name of its function would identify.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from .._core.job._function import FunctionJob
from .._core.job._job import AbstractJob, is_scheduler
from .._core.job._labels import escape_label, paths_of_siblings
from .._core.scheduler._base_scheduler import BaseScheduler
from .._core.words._job_queries import explicit_label, is_known_by_call, was_added_during_run
from ._serialization import NotSerializable, comparison_form, digest, dumps, msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    FindIdentity = Callable[[AbstractJob[Any]], tuple[str, object] | None]

MAX_ARGUMENTS_LENGTH: Final = 60
"""The maximum length of the arguments in a path, in characters. Longer ones are replaced by their hash."""


class RecordPaths:
    """The paths of the members of one scheduler, for one run of this scheduler.

    Args:
        scheduler: the scheduler.
        find_identity: `FingerprintBuilder.find_ambiguous_identity`.
        prefix: the beginning of each path.
        is_added: whether the scheduler, or one around it, was added during the run.
        used: the attribute of the same name.
        interchangeable: the jobs that `is_interchangeable` knows from the enclosing schedulers.

    Attributes:
        scheduler: the scheduler.
        prefix: the beginning of each path.
        is_added: whether other schedulers may have the same prefix.
        used: the paths that this attempt of a retried scheduler has used, those of nested ones included; None outside
            of one. Its earlier attempts have used the same paths.

    """

    def __init__(
        self,
        scheduler: BaseScheduler,
        find_identity: FindIdentity,
        prefix: str = "",
        is_added: bool = False,
        used: set[str] | None = None,
        interchangeable: set[AbstractJob[Any]] | None = None,
    ) -> None:
        self.scheduler: Final = scheduler
        self._find_identity: Final = find_identity
        self.prefix: Final = prefix
        self.is_added: Final = is_added
        self.used: Final = used
        # The jobs that were members before the run; None until the first look-up. They are named together, because the
        # name of each depends on those before it.
        self._paths: dict[AbstractJob[Any], str] | None = None
        self._interchangeable: Final = set[AbstractJob[Any]]() if interchangeable is None else interchangeable

    def find(self, job: AbstractJob[Any]) -> str | None:
        """Return the path of a member; None if it was added during the run."""
        if self._paths is None:
            self._paths = self._name_members()
        return self._paths.get(job)

    def _name_members(self) -> dict[AbstractJob[Any], str]:
        """Name the jobs that were members before the run, and find those that only the order distinguishes."""
        self._interchangeable.update(_find_interchangeable(self.scheduler, self._find_identity))
        return paths_of_siblings([job for job in self.scheduler if not was_added_during_run(job)], self.prefix)

    def is_interchangeable(self, job: AbstractJob[Any]) -> bool:
        """Return whether only the order of the jobs, or of the schedulers around them, tells this job from another."""
        return job in self._interchangeable

    def nested(self, scheduler: BaseScheduler) -> RecordPaths:
        path = self.find(scheduler)
        is_added = self.is_added or path is None
        if path is None:
            name = scheduler.label
            if scheduler.key is not None:
                try:
                    name += f"[{comparison_form(dumps(scheduler.key))}]"
                except NotSerializable as error:
                    raise NotSerializable(f"the key of {scheduler.label!r} ({error})") from None
            path = self.prefix + escape_label(name)
        used = set[str]() if scheduler.attempts > 1 else self.used
        return RecordPaths(scheduler, self._find_identity, f"{path}/", is_added, used, self._interchangeable)

    def forget(self, job: AbstractJob[Any]) -> None:
        if self._paths is not None:
            self._paths.pop(job, None)
            self._interchangeable.discard(job)


def _find_interchangeable(scheduler: BaseScheduler, find_identity: FindIdentity) -> Iterator[AbstractJob[Any]]:
    """Yield the jobs, at any depth, whose paths differ from those of others only in ordinals, and that may be others.

    In a nested scheduler whose label no other member has, only ordinals of its own members would differ: they are left
    out here, because they are found when its jobs are named.
    """
    groups: list[list[BaseScheduler]] = [[scheduler]]  # schedulers whose paths differ only in ordinals
    while groups:
        labels = [(job, job.label) for group in groups.pop() for job in group if not was_added_during_run(job)]
        counts = Counter(label for _, label in labels)
        alike: defaultdict[tuple[str, str | None], dict[Any, object]] = defaultdict(dict)
        for job, label in labels:
            if counts[label] > 1:
                text, work = (None, None) if is_scheduler(job) else find_identity(job) or (None, None)
                if is_scheduler(job) or text is not None:
                    alike[label, text][job] = work
        for (_, text), jobs in alike.items():
            if len(jobs) > 1 and text is None:
                groups.append([*jobs])
            elif len({*jobs.values()}) > 1:
                yield from jobs


def name_of_added_job(job: AbstractJob[Any], fingerprint: str, is_by_name_only: bool) -> str | None:
    """Return the last part of the path of a job that was added during the run; None if nothing identifies the job.

    Args:
        job: the job, which is no scheduler.
        fingerprint: the fingerprint of the job.
        is_by_name_only: whether the fingerprint identifies the function by its name alone.

    """
    label = explicit_label(job)
    if label is None:
        stem = job.label.partition("(")[0] if isinstance(job, FunctionJob) else type(job).__name__
    else:
        stem = label
    parts = msgspec.json.decode(fingerprint)
    if "key" in parts:
        return escape_label(f"{stem}[{parts['key']}]")
    if not is_known_by_call(job):
        return escape_label(stem)
    forms = [*parts.get("a", ()), *(f"{name}={form}" for name, form in parts.get("k", {}).items())]
    if label is None and is_by_name_only and not forms:
        return None
    text = ", ".join(forms)
    if len(text) > MAX_ARGUMENTS_LENGTH or "o" in parts or "d" in parts:
        text = f"~{digest(msgspec.json.encode([forms, parts.get('o'), parts.get('d')]))}"
    return escape_label(f"{stem}({text})")
