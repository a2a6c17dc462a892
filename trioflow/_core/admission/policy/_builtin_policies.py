"""The built-in policies, which users choose by name; and `RunPolicy`, the interface of all policies in a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal, get_args

from ...job._job import AbstractJob
from ._policy import RunOutlook

PolicyName = Literal["auto", "fifo", "critical-path"]
POLICY_NAMES: Final[tuple[PolicyName, ...]] = get_args(PolicyName)


class RunPolicy(ABC):
    """The interface of a policy in a run, whether it is built in or defined by the user."""

    needs_ranks: bool = False
    needs_heap: ClassVar[bool] = True
    """Whether the policy needs a heap, and may use expected durations: its order is not first in, first out."""

    @abstractmethod
    def key_function(self, outlook: RunOutlook) -> Callable[[AbstractJob[Any]], Any]:
        """Return the function that computes the sort keys of the jobs in one run. The smallest key starts first."""

    @abstractmethod
    def reason(self, job: AbstractJob[Any], outlook: RunOutlook) -> str:
        """Describe in a few words why other jobs start before a ready job."""


class Fifo(RunPolicy):
    """The policy "fifo": the job that became ready first starts first."""

    needs_heap = False

    def key_function(self, outlook: RunOutlook) -> Callable[[AbstractJob[Any]], float]:
        """Return a function that gives all jobs the same key, so that only their sequence numbers order them."""
        return lambda job: 0.0

    def reason(self, job: AbstractJob[Any], outlook: RunOutlook) -> str:
        return "first in, first out"


class CriticalPath(RunPolicy):
    """The policy "critical-path": the job with the longest expected path to an exit job starts first."""

    needs_ranks = True

    def key_function(self, outlook: RunOutlook) -> Callable[[AbstractJob[Any]], float]:
        assert outlook.ranks is not None
        ranks = outlook.ranks.by_job
        return lambda job: -ranks[job]

    def reason(self, job: AbstractJob[Any], outlook: RunOutlook) -> str:
        return f"critical path: the longest path from {job.label!r} takes {outlook.rank(job):.4g} s"


RunPolicies = tuple[RunPolicy, RunPolicy]
"""The policy of a run in which no job has an expected duration, and that of one in which some have."""
FIFO_POLICY: Final = Fifo()
CRITICAL_PATH_POLICY: Final = CriticalPath()
BUILTIN_POLICIES: Final[dict[PolicyName, RunPolicies]] = {
    "auto": (FIFO_POLICY, CRITICAL_PATH_POLICY),
    "fifo": (FIFO_POLICY, FIFO_POLICY),
    "critical-path": (CRITICAL_PATH_POLICY, CRITICAL_PATH_POLICY),
}
