"""The types of the options of a scheduler; `BaseScheduler` declares them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..job._options import JobOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..limits._pool import Pool
    from ..limits._window import Jobserver, Window
    from ..limits.policy._named import PolicyName
    from ..limits.policy._policy import Policy
    from ..run._observers import Instrument


class BaseSchedulerOptions(JobOptions, total=False):
    """The keyword options of the engine's scheduler, with those of every job."""

    jobs_window: Window | None
    shutdown_timeout: float | None
    cleanup_timeout: float | None
    critical_jobs: bool | None
    policy: PolicyName | Policy
    pool: Pool | None
    backfill: int
    instruments: Iterable[Instrument]
    keep_jobs: bool
    jobserver: Jobserver
