"""Hints for error messages about names of other libraries, or of older versions: each names the replacement."""

from __future__ import annotations

from typing import Final

MODULE_HINTS: Final = {
    "Engine": "import trioflow.compat.asynciojobs_classic for programs of old asynciojobs, or use Scheduler",
    "Line": "use OutputLine",
    "Optional": "use OptionalFile; the type is typing.Optional",
    "Port": "use PortOpen",
    "PrintJob": "use a Job whose function prints, or import it from trioflow.compat.asynciojobs",
    "PureScheduler": "use Scheduler, or import it from trioflow.compat.asynciojobs",
    "retry_on_exit": "use Retry(times, first=0, on=exited_with(...))",
    "Succeeds": "use CommandSucceeds",
    "TaskGroup": "use Scheduler; async with Scheduler() as scheduler: scheduler.add(Job(...)) starts jobs as they come",
}
"""Hints on names that `trioflow` does not have."""

ABC_HINTS: Final = {
    "carried": "use propagated_env",
    "carry": "use propagate_env",
    "given_label": "use explicit_label",
    "given_of": "use original_arguments_of",
    "Hidden": "use HashOnly",
    "Look": "use BoxStyle",
    "kept_of": "use stored_result",
    "need_of_run": "use set_run_need",
    "not_restored": "use reason_not_restored",
    "outwards": "use enclosing_schedulers",
    "shown": "use short_repr",
    "shown_amount": "use amount_text",
    "still_waits_for": "use open_requirements",
    "throttled": "use throttled_intervals",
    "waits_for": "use all_requirements",
    "whole": "use whole_number",
}
"""Hints on names that `trioflow.abc` does not have."""

SCHEDULER_HINTS: Final = {
    "failed_critical": "check stop_reason is StopReason.CRITICAL, and see culprit",
    "failed_time_out": "check stop_reason is StopReason.TIMEOUT",
    "orchestrate": "call run(), or await co_run()",
    "rain_check": "call is_runnable()",
    "why": "see stop_reason and culprit, or call debrief(); explain(job) shows why a job waits",
}
"""Hints on attributes that a `Scheduler` does not have."""
