"""trioflow: run a graph of jobs, with structured concurrency, on trio and on asyncio."""

import typing as _typing

from . import abc as abc
from ._core._arguments import ref as ref
from ._core._decorator import job as job
from ._core._errors import CycleError as CycleError
from ._core._errors import JobCancelled as JobCancelled
from ._core._errors import JobNotDone as JobNotDone
from ._core._errors import JobSkipped as JobSkipped
from ._core._errors import JobTimeout as JobTimeout
from ._core._errors import MissingRequirement as MissingRequirement
from ._core._errors import RequirementFailed as RequirementFailed
from ._core._errors import TrioflowError as TrioflowError
from ._core._function_job import Job as Job
from ._core._jobs import AbstractJob as AbstractJob
from ._core._sequence import Sequence as Sequence
from ._core._service import Service as Service
from ._core._states import JobState as JobState
from ._core._states import StopReason as StopReason
from ._core._worker import current_job as current_job
from ._scheduler import Scheduler as Scheduler
from .jobs._thread import ThreadJob as ThreadJob

if _typing.TYPE_CHECKING:
    from .jobs._command import CommandJob as CommandJob
    from .jobs._command_result import CommandError as CommandError
    from .jobs._command_result import CommandResult as CommandResult
    from .jobs._command_retry import exited_with as exited_with
    from .jobs._command_retry import retry_on_exit as retry_on_exit
    from .jobs._process_job import ProcessJob as ProcessJob
    from .view._monitor import Monitor as Monitor
    from .view._trace import Trace as Trace
    from .view._trace_spans import Span as Span

SchedulerJob = Scheduler
"""The name that older users know."""


def _claim(names: dict[str, object]) -> None:
    """Let tracebacks, help() and pickles show where users import a name from, not where it happens to be defined."""
    for name, public in names.items():
        if not name.startswith("_") and hasattr(public, "__qualname__"):
            public.__module__ = __name__
    abc.Instrument.__module__ = abc.__name__


_claim(dict(globals()))

_LATE = {
    "CommandError": ".jobs._command_result",
    "CommandJob": ".jobs._command",
    "CommandResult": ".jobs._command_result",
    "Monitor": ".view._monitor",
    "ProcessJob": ".jobs._process_job",
    "Span": ".view._trace_spans",
    "Trace": ".view._trace",
    "exited_with": ".jobs._command_retry",
    "retry_on_exit": ".jobs._command_retry",
}
"""Public names whose modules are imported when somebody asks for them: a run does without."""


def __getattr__(name: str) -> _typing.Any:
    """Import what is in `_LATE` (PEP 562)."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    public = getattr(importlib.import_module(_LATE[name], __name__), name)
    public.__module__ = __name__
    globals()[name] = public
    return public


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
