"""What users may implement: kinds of jobs, policies that order them, and instruments that watch runs."""

from ._core.door import AbstractJob as AbstractJob
from ._core.door import Instrument as Instrument
from ._core.door import Outlook as Outlook
from ._core.door import Policy as Policy
from ._core.door.kinds import FunctionJob as FunctionJob
from ._core.door.kinds import JobOptions as JobOptions
from ._core.door.kinds import Look as Look
from ._core.door.kinds import RunHandle as RunHandle
from ._core.door.kinds import SharedResource as SharedResource
from ._core.door.kinds import ThreadEvent as ThreadEvent
from ._core.door.kinds import TimeLimit as TimeLimit
from ._core.door.kinds import call_of as call_of
from ._core.door.kinds import loop_running as loop_running
from ._core.door.kinds import name_of as name_of
from ._core.door.kinds import run_of as run_of
