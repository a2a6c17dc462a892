"""How jobs are named for people: default labels, paths, and labels made safe to print."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from ._jobs import AbstractJob
    from ._scheduler import BaseScheduler


def of_function(kind: str, function: object) -> str:
    """Return the default label of a job that calls `function`."""
    called: Any = function
    while _is_wrapped(called):
        called = called.func
    name = getattr(called, "__name__", None) or type(called).__name__
    return f"{kind}[{name} (...)]"


def _is_wrapped(function: Any) -> bool:
    """Tell a function with arguments bound to it; not by its having `func`, for a mock has whatever is asked for."""
    kind = cast(Any, type(function))
    return issubclass(kind, functools.partial) or hasattr(kind, "_is_call")


def printable(label: str) -> str:
    """Return the label on one line, control characters and lone surrogates escaped."""
    if label.isprintable():
        return label
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in label)


def path(job: AbstractJob[Any]) -> str:
    """Return the labels from inside the outermost scheduler down to `job`; see `AbstractJob.path`."""
    parts: list[str] = []
    scheduler = job.scheduler
    while scheduler is not None:
        parts.append(_among_siblings(scheduler, job))
        job, scheduler = scheduler, scheduler.scheduler
    return "/".join(reversed(parts)) or job.label


def paths(scheduler: BaseScheduler, prefix: str | None = None) -> dict[AbstractJob[Any], str]:
    """Return the path of each job below `scheduler`, nested ones included, at the cost of one walk. O(V).

    With a `prefix`, that stands before each, instead of the path of a scheduler that is nested itself.
    """
    if prefix is None:
        prefix = f"{path(scheduler)}/" if scheduler.scheduler is not None else ""
    found: dict[AbstractJob[Any], str] = {}
    todo: list[tuple[BaseScheduler, str]] = [(scheduler, prefix)]
    while todo:
        parent, before = todo.pop()
        names = _Names()
        for job in parent:
            found[job] = before + names.unique(job.label)
            if hasattr(job, "critical_jobs"):
                todo.append((job, found[job] + "/"))  # type: ignore[arg-type]
    return found


def _among_siblings(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    names = _Names()
    for sibling in scheduler:
        name = names.unique(sibling.label)
        if sibling is job:
            return name
    raise AssertionError("a job is among its scheduler's jobs")


class _Names:
    """The names of siblings: of those with equal labels the second has "#2" behind its own, and so on."""

    __slots__ = ("_met",)

    def __init__(self) -> None:
        self._met: dict[str, int] = {}  # each name, with the ordinal of the last that has it as its label

    def unique(self, label: str) -> str:
        """Return a name that no sibling has."""
        name = escaped = label.replace("\\", "\\\\").replace("/", "\\/")
        ordinal = self._met.get(escaped, 0)
        while name in self._met:  # once, but where labels such as "a#2" are in the way: from 2 on it would be O(V²)
            ordinal += 1
            name = f"{escaped}#{ordinal}"
        self._met[escaped] = max(ordinal, 1)
        self._met.setdefault(name, 1)
        return name
