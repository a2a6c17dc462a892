"""Functions of a scenario's graph: the order of a scheduler's jobs, their neighbors, and parts of it."""

from ._core.scheduler._members import entry_jobs as entry_jobs
from ._core.scheduler._members import exit_jobs as exit_jobs
from ._core.scheduler._members import keep_only as keep_only
from ._core.scheduler._members import predecessors as predecessors
from ._core.scheduler._members import successors as successors
from ._core.scheduler._members import topological_order as topological_order

__all__ = [
    "entry_jobs",
    "exit_jobs",
    "keep_only",
    "predecessors",
    "successors",
    "topological_order",
]
