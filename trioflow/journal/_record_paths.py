"""The paths under which a journal stores jobs: the keys of their records, which must be the same in each run.

| the job | its name in the path |
|---|---|
| was in its scheduler before the run | that of `job.path`, which depends on the jobs before it |
| was added during the run, with `key=` | its label, or its function, with the key: `fetch["page 7"]` |
| was added during the run by `map`, or without a label | its label, or its function, with the arguments: `fetch(7)` |
| was added during the run, with a label | its label |

So the order in which jobs are added makes no difference. If several jobs that were added have the same path, only the
first of them is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .._core.api.journals import (
    AbstractJob,
    FunctionJob,
    explicit_label,
    is_known_by_call,
    paths_of_siblings,
    was_added_during_run,
)
from ._msgspec import msgspec
from ._serialization import NotSerializable, comparison_form, digest, dumps

if TYPE_CHECKING:
    from .._core.api.journals import BaseScheduler

MAX_ARGUMENTS_LENGTH: Final = 60
"""The maximum length of the arguments in a path, in characters. Longer ones are replaced by their hash."""


class RecordPaths:
    """The paths of the members of one scheduler, for one run of this scheduler.

    Args:
        scheduler: the scheduler.
        prefix: the beginning of each path.

    """

    def __init__(self, scheduler: BaseScheduler, prefix: str = "") -> None:
        self._scheduler: Final = scheduler
        self.prefix: Final = prefix
        # The jobs that were members before the run; None until the first look-up. They are named together, because the
        # name of each depends on those before it.
        self._paths: dict[AbstractJob[Any], str] | None = None

    def find(self, job: AbstractJob[Any]) -> str | None:
        """Return the path of a member; None if it was added during the run."""
        if self._paths is None:
            earlier = (member for member in self._scheduler if not was_added_during_run(member))
            self._paths = paths_of_siblings(earlier, self.prefix)
        return self._paths.get(job)

    def nested(self, scheduler: BaseScheduler) -> RecordPaths:
        """Return the paths of the members of a nested scheduler."""
        path = self.find(scheduler)
        if path is None:
            path = self.prefix + scheduler.label
            if scheduler.key is not None:
                try:
                    path += f"[{comparison_form(dumps(scheduler.key))}]"
                except NotSerializable as error:
                    raise NotSerializable(f"the key of {scheduler.label!r} ({error})") from None
        return RecordPaths(scheduler, f"{path}/")

    def forget(self, job: AbstractJob[Any]) -> None:
        """Drop the reference to a member that its scheduler drops."""
        if self._paths is not None:
            self._paths.pop(job, None)


def name_of_added_job(job: AbstractJob[Any], fingerprint: str) -> str:
    """Return the last part of the path of a job that was added during the run.

    Args:
        job: the job, which is no scheduler.
        fingerprint: the fingerprint of the job.

    """
    label = explicit_label(job)
    if label is None:
        stem = job.label.partition("(")[0] if isinstance(job, FunctionJob) else type(job).__name__
    else:
        stem = label
    parts = msgspec.json.decode(fingerprint)
    if "key" in parts:
        stem = stem.replace("/", "\\/")  # a nested job may have the same fingerprint, so the path must not be its path
        return f"{stem}[{parts['key']}]"
    if not is_known_by_call(job):
        return stem
    forms = [*parts.get("a", ()), *(f"{name}={form}" for name, form in parts.get("k", {}).items())]
    text = ", ".join(forms)
    if len(text) > MAX_ARGUMENTS_LENGTH or "o" in parts or "d" in parts:
        text = f"~{digest(msgspec.json.encode([forms, parts.get('o'), parts.get('d')]))}"
    return f"{stem}({text})"
