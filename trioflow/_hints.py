"""Hints for error messages about names of other libraries: each names the replacement."""

from __future__ import annotations

from typing import Final

MODULE_HINTS: Final = {
    "DaskJob": "use ProcessJob(function, ..., processes=trioflow.dask.Cluster(client))",
    "Engine": "import trioflow.compat.asynciojobs_classic for programs of old asynciojobs, or use Scheduler",
    "ExecutorJob": "use ProcessJob(function, ..., processes=executor)",
    "PrintJob": "use a Job whose function prints, or import it from trioflow.compat.asynciojobs",
    "PureScheduler": "use Scheduler, or import it from trioflow.compat.asynciojobs",
    "TaskGroup": "use Scheduler; async with Scheduler() as scheduler: scheduler.add(Job(...)) starts jobs as they come",
}

SCHEDULER_HINTS: Final = {
    "failed_critical": "check stop_reason is StopReason.CRITICAL, and see culprit",
    "failed_time_out": "check stop_reason is StopReason.TIMEOUT",
    "orchestrate": "call run(), or await co_run()",
    "rain_check": "call is_runnable()",
    "why": "see stop_reason and culprit, or call debrief(); explain(job) shows why a job waits",
}
