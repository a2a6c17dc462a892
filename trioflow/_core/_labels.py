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


def paths(scheduler: BaseScheduler) -> dict[AbstractJob[Any], str]:
    """Return the path of each job below `scheduler`, nested ones included, at the cost of one walk."""
    found: dict[AbstractJob[Any], str] = {}
    todo: list[tuple[BaseScheduler, str]] = [(scheduler, "")]
    while todo:
        parent, prefix = todo.pop()
        met: set[str] = set()
        for job in parent:
            found[job] = prefix + _unique(job.label, met)
            if hasattr(job, "critical_jobs"):
                todo.append((job, found[job] + "/"))  # type: ignore[arg-type]
    return found


def _among_siblings(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    met: set[str] = set()
    for sibling in scheduler:
        name = _unique(sibling.label, met)
        if sibling is job:
            return name
    raise AssertionError("a job is among its scheduler's jobs")


def _unique(label: str, met: set[str]) -> str:
    """Return the label's name among the siblings' names in `met`, and add it there."""
    name = escaped = label.replace("\\", "\\\\").replace("/", "\\/")
    ordinal = 1
    while name in met:
        ordinal += 1
        name = f"{escaped}#{ordinal}"
    met.add(name)
    return name
