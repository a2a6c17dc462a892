"""What users may implement: kinds of jobs, and instruments that watch runs."""

from ._core.door import AbstractJob as AbstractJob
from ._core.door import Instrument as Instrument
from ._core.door.kinds import Look as Look
