"""`Outlet`: where a monitor shows a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from .._core._jobs import AbstractJob


class Outlet(ABC):
    """One run, shown in one way; told of its events by the run itself, in its thread."""

    @abstractmethod
    def start(self) -> None:
        """Show that the run has begun."""

    @abstractmethod
    def stop(self) -> None:
        """Show how it has ended, and give back what was taken."""

    @abstractmethod
    def wake(self) -> None:
        """Take note that something has happened."""

    def job_started(self, job: AbstractJob[Any]) -> None:
        """Take note that a job has started."""
        self.wake()

    def job_ready(self, job: AbstractJob[Any]) -> None:
        """Take note that a service is ready."""
        self.wake()

    def job_finished(self, job: AbstractJob[Any]) -> None:
        """Take note that a job has settled."""
        self.wake()
