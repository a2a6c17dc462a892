"""trioflow: run a graph of jobs with structured concurrency, on trio or asyncio."""

import os as _os
import sys as _sys
import typing as _typing

from . import abc as abc
from . import graph as graph
from ._adaptive import Adaptive as Adaptive
from ._core.admission._keys import PerKey as PerKey
from ._core.admission._pools import Budget as Budget
from ._core.admission._pools import Pool as Pool
from ._core.admission._rates import Rate as Rate
from ._core.backend import choose_isolation as _choose_isolation
from ._core.base._states import JobState as JobState
from ._core.base._states import StopReason as StopReason
from ._core.job._decorator import job as job
from ._core.job._errors import BudgetSpent as BudgetSpent
from ._core.job._errors import CycleError as CycleError
from ._core.job._errors import JobCancelled as JobCancelled
from ._core.job._errors import JobNotDone as JobNotDone
from ._core.job._errors import JobSkipped as JobSkipped
from ._core.job._errors import JobTimeout as JobTimeout
from ._core.job._errors import JournalError as JournalError
from ._core.job._errors import MissingRequirement as MissingRequirement
from ._core.job._errors import RequirementFailed as RequirementFailed
from ._core.job._errors import Throttled as Throttled
from ._core.job._errors import TrioflowDeprecationWarning as TrioflowDeprecationWarning
from ._core.job._errors import TrioflowError as TrioflowError
from ._core.job._function import Job as Job
from ._core.job._function import ref as ref
from ._core.job._job import AbstractJob as AbstractJob
from ._core.job._retry import Retry as Retry
from ._core.job._service import Service as Service
from ._core.run._current import current_job as current_job
from ._core.run._current import current_scheduler as current_scheduler
from ._core.scheduler._members import Sequence as Sequence
from ._scheduler import First as First
from ._scheduler import Scheduler as Scheduler

_choose_isolation(_os.environ.get("TRIOFLOW_ISOLATION", ""))

if _typing.TYPE_CHECKING:
    from . import view as view
    from .jobs._answer import Answer as Answer
    from .jobs._thread import ThreadJob as ThreadJob
    from .jobs.command._argv import granted as granted
    from .jobs.command._command_job import CommandJob as CommandJob
    from .jobs.command._program_service import CommandService as CommandService
    from .jobs.command._readiness import CommandSucceeds as CommandSucceeds
    from .jobs.command._readiness import OutputLine as OutputLine
    from .jobs.command._readiness import PortOpen as PortOpen
    from .jobs.command._result import CommandError as CommandError
    from .jobs.command._result import CommandResult as CommandResult
    from .jobs.process._process_job import ProcessJob as ProcessJob
    from .jobs.ssh._nodes import LocalNode as LocalNode
    from .jobs.ssh._nodes import SshNode as SshNode
    from .jobs.ssh._nodes import SshNodes as SshNodes
    from .jobs.ssh._remote_service import SshService as SshService
    from .jobs.ssh._ssh_errors import SshError as SshError
    from .jobs.ssh._ssh_errors import Unreachable as Unreachable
    from .jobs.ssh._ssh_job import SshJob as SshJob
    from .jobs.ssh._steps import Pull as Pull
    from .jobs.ssh._steps import Push as Push
    from .jobs.ssh._steps import Script as Script
    from .jobs.ssh._steps import ScriptText as ScriptText
    from .journal._journal import Journal as Journal
    from .simulation._simulate import simulate as simulate
    from .view._junit import JUnit as JUnit
    from .view.events._events import Events as Events
    from .view.monitor._monitor import Monitor as Monitor
    from .view.trace._trace import Trace as Trace

__version__ = "0.1.0"


def _set_module(names: _typing.Mapping[str, object], home: str) -> None:
    """Set the module of public names to `home`, where users import them. Tracebacks, help() and pickles show it."""
    for name, public in names.items():
        if (
            not name.startswith("_")
            and hasattr(public, "__qualname__")
            and _typing.get_origin(public) is None
        ):
            public.__module__ = home


_set_module(vars(abc), abc.__name__)
_set_module(vars(graph), graph.__name__)
# Second, because this also sets the module of `AbstractJob`, which is in both.
_set_module(
    {**globals(), "bases": Scheduler.__base__, "window": Adaptive.__base__}, __name__
)

_LAZY_NAMES = {  # dense: a table of modules, with the names of each
    name: module
    for module, names in {
        ".jobs._answer": "Answer",
        ".jobs._thread": "ThreadJob",
        ".jobs.command._argv": "granted",
        ".jobs.command._command_job": "CommandJob",
        ".jobs.command._readiness": "CommandSucceeds OutputLine PortOpen",
        ".jobs.command._result": "CommandError CommandResult",
        ".jobs.command._program_service": "CommandService",
        ".jobs.process._process_job": "ProcessJob",
        ".jobs.ssh._ssh_job": "SshJob",
        ".jobs.ssh._remote_service": "SshService",
        ".jobs.ssh._nodes": "LocalNode SshNode SshNodes",
        ".jobs.ssh._ssh_errors": "SshError Unreachable",
        ".jobs.ssh._steps": "Pull Push Script ScriptText",
        ".journal._journal": "Journal",
        ".simulation._simulate": "simulate",
        ".view._junit": "JUnit",
        ".view.events._events": "Events",
        ".view.monitor._monitor": "Monitor",
        ".view.trace._trace": "Trace",
    }.items()
    for name in names.split()
}
"""Public names with their modules, which are imported when a name is first used, because most programs need few."""


def __getattr__(name: str) -> _typing.Any:
    """Import a public name on first use (PEP 562).

    Raises:
        ImportError: `name` is a name of another library, or of another module here. The error names the replacement.
            (`from trioflow import` would replace the text of an AttributeError.)
        AttributeError: there is no such name.

    """
    if name in ("look", "view"):
        import importlib

        return importlib.import_module(f".{name}", __name__)
    if name not in _LAZY_NAMES:
        from ._hints import MODULE_HINTS

        if name in MODULE_HINTS:
            raise ImportError(
                f"{__name__} has no {name}: {MODULE_HINTS[name]}", name=__name__
            )
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}",
            name=name,
            obj=_sys.modules[__name__],
        )
    import importlib

    public = getattr(importlib.import_module(_LAZY_NAMES[name], __name__), name)
    public.__module__ = __name__
    globals()[name] = public
    return public


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY_NAMES})


# For `from trioflow import *`. Type checkers use the aliases above.
globals()["__all__"] = [
    name
    for name in __dir__()
    if not name.startswith("_") and name not in ("abc", "graph")
]
