"""trioflow: run a graph of jobs with structured concurrency, on trio or asyncio."""

import os as _os
import sys as _sys
import typing as _typing

from . import abc as abc
from ._core.door import (
    AbstractJob,
    Adaptive,
    CycleError,
    Job,
    JobCancelled,
    JobNotDone,
    JobSkipped,
    JobState,
    JobTimeout,
    JournalError,
    MissingRequirement,
    Pool,
    Rate,
    RequirementFailed,
    Sequence,
    Service,
    StopReason,
    Throttled,
    TrioflowError,
    current_job,
    job,
    ref,
)
from ._core.door import take_the_plain_way as _take_the_plain_way
from ._scheduler import Scheduler

if _os.environ.get("TRIOFLOW_PLAIN"):
    _take_the_plain_way()

if _typing.TYPE_CHECKING:
    from ._core.door.keeping import Depfile, Optional
    from .dask import DaskJob
    from .executor import Executor
    from .jobs._executor import ExecutorJob
    from .jobs._thread import ThreadJob
    from .jobs.command._granted import granted
    from .jobs.command._job import CommandJob
    from .jobs.command._ready import Line, Port, Succeeds
    from .jobs.command._result import CommandError, CommandResult
    from .jobs.command._retry import exited_with, retry_on_exit
    from .jobs.command._service import CommandService
    from .jobs.process._job import ProcessJob
    from .jobs.ssh._errors import SshError, Unreachable
    from .jobs.ssh._job import SshJob
    from .jobs.ssh._nodes import LocalNode, SshNode, SshNodes
    from .jobs.ssh._steps import Pull, Push, Script, ScriptText
    from .journal._journal import Journal
    from .simulation._simulate import Simulation, simulate
    from .view.ci._junit import JUnit
    from .view.ci._summary import Summary
    from .view.events._events import Events
    from .view.monitor._monitor import Monitor
    from .view.trace._spans import Span
    from .view.trace._time_spent import KindTime, TimeSpent
    from .view.trace._trace import Trace
    from .view.trace._waits import Wait
    from .view.trace._what_if import WhatIf, WhatIfPoint

__all__ = [
    "AbstractJob",
    "Adaptive",
    "CommandError",
    "CommandJob",
    "CommandResult",
    "CommandService",
    "CycleError",
    "DaskJob",
    "Depfile",
    "Events",
    "Executor",
    "ExecutorJob",
    "JUnit",
    "Job",
    "JobCancelled",
    "JobNotDone",
    "JobSkipped",
    "JobState",
    "JobTimeout",
    "Journal",
    "JournalError",
    "KindTime",
    "Line",
    "LocalNode",
    "MissingRequirement",
    "Monitor",
    "Optional",
    "Pool",
    "Port",
    "ProcessJob",
    "Pull",
    "Push",
    "Rate",
    "RequirementFailed",
    "Scheduler",
    "SchedulerJob",
    "Script",
    "ScriptText",
    "Sequence",
    "Service",
    "Simulation",
    "Span",
    "SshError",
    "SshJob",
    "SshNode",
    "SshNodes",
    "StopReason",
    "Succeeds",
    "Summary",
    "ThreadJob",
    "Throttled",
    "TimeSpent",
    "Trace",
    "TrioflowError",
    "Unreachable",
    "Wait",
    "WhatIf",
    "WhatIfPoint",
    "current_job",
    "exited_with",
    "granted",
    "job",
    "ref",
    "retry_on_exit",
    "simulate",
]

__version__ = "0.1.0"

SchedulerJob = Scheduler
"""An older name of `Scheduler`."""


def _claim(names: _typing.Mapping[str, object], home: str) -> None:
    """Make tracebacks, help() and pickles show where users import names from, instead of where they are defined."""
    for name, public in names.items():
        if not name.startswith("_") and hasattr(public, "__qualname__"):
            public.__module__ = home


_claim(vars(abc), abc.__name__)
_claim(dict(globals()), __name__)  # AbstractJob, which is in both, too

_LATE = {
    "CommandError": ".jobs.command._result",
    "CommandJob": ".jobs.command._job",
    "CommandResult": ".jobs.command._result",
    "CommandService": ".jobs.command._service",
    "DaskJob": ".dask",
    "Depfile": "._core.door.keeping",
    "Events": ".view.events._events",
    "Executor": ".executor",
    "ExecutorJob": ".jobs._executor",
    "JUnit": ".view.ci._junit",
    "Journal": ".journal._journal",
    "KindTime": ".view.trace._time_spent",
    "Line": ".jobs.command._ready",
    "LocalNode": ".jobs.ssh._nodes",
    "Monitor": ".view.monitor._monitor",
    "Optional": "._core.door.keeping",
    "Port": ".jobs.command._ready",
    "ProcessJob": ".jobs.process._job",
    "Pull": ".jobs.ssh._steps",
    "Push": ".jobs.ssh._steps",
    "Script": ".jobs.ssh._steps",
    "ScriptText": ".jobs.ssh._steps",
    "Simulation": ".simulation._simulate",
    "Span": ".view.trace._spans",
    "SshError": ".jobs.ssh._errors",
    "SshJob": ".jobs.ssh._job",
    "SshNode": ".jobs.ssh._nodes",
    "SshNodes": ".jobs.ssh._nodes",
    "Succeeds": ".jobs.command._ready",
    "Summary": ".view.ci._summary",
    "ThreadJob": ".jobs._thread",
    "TimeSpent": ".view.trace._time_spent",
    "Trace": ".view.trace._trace",
    "Unreachable": ".jobs.ssh._errors",
    "Wait": ".view.trace._waits",
    "WhatIf": ".view.trace._what_if",
    "WhatIfPoint": ".view.trace._what_if",
    "exited_with": ".jobs.command._retry",
    "granted": ".jobs.command._granted",
    "retry_on_exit": ".jobs.command._retry",
    "simulate": ".simulation._simulate",
}
"""Public names whose modules are imported only when the names are used, because a run does not need them."""


def __getattr__(name: str) -> _typing.Any:
    """Import a name that is in `_LATE` (PEP 562), or find what an old name is called now."""
    if name not in _LATE:
        from ._deprecated import new_name

        if (new := new_name(name)) is not None:
            return getattr(_sys.modules[__name__], new)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=_sys.modules[__name__])
    import importlib

    public = getattr(importlib.import_module(_LATE[name], __name__), name)
    public.__module__ = __name__
    globals()[name] = public
    return public


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
