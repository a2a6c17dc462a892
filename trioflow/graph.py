"""Functions of a scenario's graph: the order of a scheduler's jobs, their neighbors, and parts of it."""

from ._core.api import entry_jobs as entry_jobs
from ._core.api import exit_jobs as exit_jobs
from ._core.api import keep_only as keep_only
from ._core.api import predecessors as predecessors
from ._core.api import successors as successors
from ._core.api import topological_order as topological_order
