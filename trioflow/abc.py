"""The interfaces for users' own kinds of jobs and instruments.

The functions here give instruments and views facts about runs and jobs that are not attributes of a job. Others help
kinds of jobs to check their options. What only trioflow's own rooms use, such as its forms of texts, they take from the
modules of the engine that the contracts of imports name.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from ._core.backend import BackendName as BackendName
from ._core.base._states import RunPhase as RunPhase
from ._core.base._states import WaitCause as WaitCause
from ._core.base._states import Waiting as Waiting
from ._core.base._text_forms import duration_text as duration_text
from ._core.job._ancestors import enclosing_schedulers as enclosing_schedulers
from ._core.job._function import FunctionJob as FunctionJob
from ._core.job._function import call_of as call_of
from ._core.job._function import name_of as name_of
from ._core.job._job import AbstractJob as AbstractJob
from ._core.job._job import Restoration as Restoration
from ._core.job._job import is_scheduler as is_scheduler
from ._core.job._job_options import BoxStyle as BoxStyle
from ._core.job._job_options import JobOptions as JobOptions
from ._core.job._kind import JobKind as JobKind
from ._core.job._kind import arguments_of as arguments_of
from ._core.job._kind import original_arguments_of as original_arguments_of
from ._core.job._labels import label_inside as label_inside
from ._core.job._labels import paths_of as paths_of
from ._core.job._labels import printable as printable
from ._core.run._current import propagate_env as propagate_env
from ._core.run._handle import RunHandle as RunHandle
from ._core.run._handle import ThreadEvent as ThreadEvent
from ._core.run._handle import TimeLimit as TimeLimit
from ._core.run._handle import run_of as run_of
from ._core.run._instruments import Instrument as Instrument
from ._core.words._explain import open_requirements as open_requirements
from ._core.words._explain import waiting as waiting
from ._core.words._job_queries import accepts_jobs as accepts_jobs
from ._core.words._job_queries import all_requirements as all_requirements
from ._core.words._job_queries import criticality as criticality
from ._core.words._job_queries import fraction_done as fraction_done
from ._core.words._job_queries import incidents_of as incidents_of
from ._core.words._job_queries import inputs_of as inputs_of
from ._core.words._job_queries import is_service as is_service
from ._core.words._job_queries import reported_state as reported_state
from ._core.words._job_queries import restoration_of as restoration_of
from ._core.words._run_view import RunView as RunView
from ._core.words._run_view import current_run as current_run

if _TYPE_CHECKING:
    # At run time it would be `int`, because `fractions` is slow to import.
    from ._core.base._amounts import Amount as Amount
    from ._core.job._work_spec import HashOnly as HashOnly
    from ._core.job._work_spec import LocalDirectory as LocalDirectory
    from ._core.job._work_spec import Work as Work


_JOURNAL_NAMES = ("HashOnly", "LocalDirectory", "Work")


def __getattr__(name: str) -> _Any:
    """Import the dataclasses for journals on first use (PEP 562): they take 8 ms, mostly to import `inspect`.

    Raises:
        AttributeError: there is no such name.

    """
    if name not in _JOURNAL_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ._core.job import _work_spec

    public = getattr(_work_spec, name)
    public.__module__ = __name__
    globals()[name] = public
    return public


def __dir__() -> list[str]:
    return sorted({*globals(), *_JOURNAL_NAMES})
