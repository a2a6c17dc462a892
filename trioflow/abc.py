"""What users may implement: kinds of jobs, policies that order them, and instruments that watch runs.

What an instrument, or a view of one's own, asks of a run and its jobs is here too; the rest is public in a job itself.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from ._core.door import AbstractJob as AbstractJob
from ._core.door import Instrument as Instrument
from ._core.door import Outlook as Outlook
from ._core.door import Policy as Policy
from ._core.door.kinds import FunctionJob as FunctionJob
from ._core.door.kinds import JobKind as JobKind
from ._core.door.kinds import JobOptions as JobOptions
from ._core.door.kinds import Look as Look
from ._core.door.kinds import RunHandle as RunHandle
from ._core.door.kinds import SharedResource as SharedResource
from ._core.door.kinds import SpareSlots as SpareSlots
from ._core.door.kinds import ThreadEvent as ThreadEvent
from ._core.door.kinds import TimeLimit as TimeLimit
from ._core.door.kinds import arguments_of as arguments_of
from ._core.door.kinds import call_of as call_of
from ._core.door.kinds import callback as callback
from ._core.door.kinds import carried as carried
from ._core.door.kinds import carry as carry
from ._core.door.kinds import duration as duration
from ._core.door.kinds import file_path as file_path
from ._core.door.kinds import flag as flag
from ._core.door.kinds import given_of as given_of
from ._core.door.kinds import is_among as is_among
from ._core.door.kinds import label_inside as label_inside
from ._core.door.kinds import load_backend as load_backend
from ._core.door.kinds import loop_running as loop_running
from ._core.door.kinds import name_of as name_of
from ._core.door.kinds import printable as printable
from ._core.door.kinds import run_of as run_of
from ._core.door.kinds import shown as shown
from ._core.door.kinds import users_of as users_of
from ._core.door.kinds import whole as whole
from ._core.door.kinds import without_middle as without_middle
from ._core.door.reading import BackendName as BackendName
from ._core.door.reading import JobserverStyle as JobserverStyle
from ._core.door.reading import OnTimeout as OnTimeout
from ._core.door.reading import PolicyName as PolicyName
from ._core.door.reading import RunIf as RunIf
from ._core.door.reading import RunPhase as RunPhase
from ._core.door.reading import RunView as RunView
from ._core.door.reading import WaitCause as WaitCause
from ._core.door.reading import Waiting as Waiting
from ._core.door.reading import amount_of as amount_of
from ._core.door.reading import check_scenario as check_scenario
from ._core.door.reading import current_run as current_run
from ._core.door.reading import duration_text as duration_text
from ._core.door.reading import failed_through_member as failed_through_member
from ._core.door.reading import given_label as given_label
from ._core.door.reading import inputs_of as inputs_of
from ._core.door.reading import is_ready as is_ready
from ._core.door.reading import is_scheduler as is_scheduler
from ._core.door.reading import is_service as is_service
from ._core.door.reading import is_size as is_size
from ._core.door.reading import kept_of as kept_of
from ._core.door.reading import name_of_policy as name_of_policy
from ._core.door.reading import not_restored as not_restored
from ._core.door.reading import outwards as outwards
from ._core.door.reading import paths_of as paths_of
from ._core.door.reading import ranks_of as ranks_of
from ._core.door.reading import reachable as reachable
from ._core.door.reading import shown_amount as shown_amount
from ._core.door.reading import size_text as size_text
from ._core.door.reading import still_waits_for as still_waits_for
from ._core.door.reading import throttled as throttled
from ._core.door.reading import waiting as waiting
from ._core.door.reading import waiting_since as waiting_since
from ._core.door.reading import waits_for as waits_for

if _TYPE_CHECKING:  # when a program runs, it is `int`: see there
    from ._core.door.reading import Amount as Amount

if _TYPE_CHECKING:
    from ._core.door.keeping import Hidden as Hidden
    from ._core.door.keeping import Work as Work


def __getattr__(name: str) -> _Any:
    """Import what only journals need: the dataclasses of work take 8 ms, most of it for `inspect` (PEP 562)."""
    if name not in ("Hidden", "Work"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ._core.door import keeping

    public = getattr(keeping, name)
    public.__module__ = __name__
    globals()[name] = public
    return public


def __dir__() -> list[str]:
    return sorted({*globals(), "Hidden", "Work"})
