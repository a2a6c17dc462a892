"""The built-in policies, which users choose by name."""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

from ...job._job import AbstractJob
from ._policy import Policy

PolicyName = Literal["auto", "fifo", "critical-path"]
POLICY_NAMES: Final[tuple[PolicyName, ...]] = get_args(PolicyName)


class Fifo(Policy):
    """The policy "fifo": the job that became ready first starts first, so that no line has to be ordered."""

    def key(self, job: AbstractJob[Any], outlook: Any) -> float:
        return 0.0


class CriticalPath(Policy):
    """The policy "critical-path": the job with the longest expected path to an exit job starts first."""

    needs_ranks = True

    def key(self, job: AbstractJob[Any], outlook: Any) -> float:
        rank: float = outlook.ranks[job]
        return -rank

    def reason(self, job: AbstractJob[Any], outlook: Any) -> str:
        return f"critical path: the longest path from {job.label!r} takes {outlook.rank(job):.4g} s"


RunPolicies = tuple[Policy, Policy]
"""The policy of a run in which no job has an expected duration, and that of one in which some have."""
FIFO_POLICY: Final = Fifo()
CRITICAL_PATH_POLICY: Final = CriticalPath()
BUILTIN_POLICIES: Final[dict[PolicyName, RunPolicies]] = {
    "auto": (FIFO_POLICY, CRITICAL_PATH_POLICY),
    "fifo": (FIFO_POLICY, FIFO_POLICY),
    "critical-path": (CRITICAL_PATH_POLICY, CRITICAL_PATH_POLICY),
}
