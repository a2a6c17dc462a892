"""What users may implement: kinds of jobs, policies that order them, and instruments that watch runs."""

from ._core.door import AbstractJob as AbstractJob
from ._core.door import Instrument as Instrument
from ._core.door import Outlook as Outlook
from ._core.door import Policy as Policy
from ._core.door.kinds import Look as Look
