"""The policies with names, and `RunPolicy`: the interface of all policies for a run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, get_args

from ._upward_ranks import RunOutlook

if TYPE_CHECKING:
    from ...job._job import AbstractJob

PolicyName = Literal["auto", "fifo", "critical-path"]
POLICY_NAMES: Final[tuple[PolicyName, ...]] = get_args(PolicyName)


class RunPolicy(ABC):
    """A policy, as a run uses it."""

    needs_ranks: bool = False
    """As in `Policy`."""
    needs_heap: ClassVar[bool] = True
    """Whether its order differs from that in which jobs become ready, which a plain queue keeps."""
    needs_durations: ClassVar[bool] = True
    """Whether it uses expected durations."""
    lowest_key: ClassVar[Any] = -math.inf
    """A key before all others."""

    def effective_policy(self, knows_durations: bool) -> RunPolicy:
        """Return the effective policy, given whether any expected duration is known."""
        return self

    @abstractmethod
    def key_function(self, outlook: RunOutlook) -> Callable[[AbstractJob[Any]], Any]:
        """Return the key function of one run: one call in place of two."""

    @abstractmethod
    def reason(self, job: AbstractJob[Any], outlook: RunOutlook) -> str:
        """Return in a few words why jobs start before a ready one."""


class Fifo(RunPolicy):
    """First in, first out: the job that became ready first."""

    needs_heap = False
    needs_durations = False

    def key_function(self, outlook: RunOutlook) -> Callable[[AbstractJob[Any]], float]:
        """Return one key for all."""
        return lambda job: 0.0

    def reason(self, job: AbstractJob[Any], outlook: RunOutlook) -> str:
        """Return the rule."""
        return "first in, first out"


class CriticalPath(RunPolicy):
    """The job with the longest expected path to an exit: see `_upward_ranks`."""

    needs_ranks = True

    def key_function(self, outlook: RunOutlook) -> Callable[[AbstractJob[Any]], float]:
        """Return the ranks with their sign changed."""
        assert outlook.ranks is not None
        ranks = outlook.ranks.of
        return lambda job: -ranks[job]

    def reason(self, job: AbstractJob[Any], outlook: RunOutlook) -> str:
        """Return the length of the path, in words."""
        return f"critical path: the longest path from {job.label!r} takes {outlook.rank(job):.4g} s"


class Auto(Fifo):
    """Critical path as soon as one job has an expected duration, and otherwise first in, first out."""

    needs_durations = True

    def effective_policy(self, knows_durations: bool) -> RunPolicy:
        """Return one of the two."""
        return CRITICAL_PATH if knows_durations else FIFO


FIFO: Final = Fifo()
CRITICAL_PATH: Final = CriticalPath()
BUILTIN_POLICIES: Final[dict[PolicyName, RunPolicy]] = {
    "auto": Auto(),
    "fifo": FIFO,
    "critical-path": CRITICAL_PATH,
}
