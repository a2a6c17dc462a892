"""What users may implement: kinds of jobs, and instruments that watch runs."""

from ._core.job._job import AbstractJob as AbstractJob
from ._core.run._observers import Instrument as Instrument
