"""What users may implement: kinds of jobs, and instruments that watch runs."""

from ._core._instruments import Instrument as Instrument
from ._core._jobs import AbstractJob as AbstractJob
