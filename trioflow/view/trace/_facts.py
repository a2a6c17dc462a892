"""The facts about runs and their jobs as data, of which `RecordBuilder` makes a `TraceRecord`.

`_log_reader` collects them in the process that runs the jobs. Because they refer to no object of it, another process
can build the same record of them: `_trace_file` writes and reads them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..._core.base._states import WaitCause
from ..text._failure_text import FailureText
from ._spans import CommandRecord, RunSpan, Span


@dataclass(frozen=True, slots=True)
class ResourceFacts:
    """A resource of a pool, or of a run itself."""

    owner: int  # differs for each pool, and for each scheduler with resources of its run
    name: str
    total: float | None  # None for a rate, which no job holds, and for a `PerKey`
    is_per_key: bool = False
    key_totals: dict[str, float | None] = field(default_factory=dict[str, "float | None"])  # of the keys of a `PerKey`
    has_gate: bool = False  # whether jobs may have to wait although enough is free


@dataclass(frozen=True, slots=True)
class JobFacts:
    """The facts about one job in one run.

    The span has keys in place of the numbers of jobs: other numbers, each of one job in one run. The builder adds to it
    `scheduled_at`, `lane` and `waits`. Its `attempts` are all but the first one, including those that were throttled.
    """

    span: Span
    position: int  # of the job among those of its scheduler, in the order in which they were added
    has_own_label: bool = True  # whether the user chose the label
    added_at: float = -math.inf  # the default is for jobs that were added before the run
    needs: dict[str, float | str] = field(default_factory=dict[str, "float | str"])
    run_needs: tuple[tuple[ResourceFacts, float], ...] = ()  # for resources that belong to a run and to no pool
    cooldowns: tuple[tuple[str, float, float], ...] = ()  # the resource, start and end of those that the job caused
    inner_waits: tuple[tuple[WaitCause, float, float], ...] = ()  # of `WaitAnalysis`
    failure: FailureText | None = None  # of a job that failed by itself
    command: CommandRecord | None = None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The facts about one run of one scheduler. Its span has keys in place of the numbers of jobs, and no members."""

    span: RunSpan
    resources: tuple[ResourceFacts, ...]
    jobs: tuple[JobFacts, ...]
