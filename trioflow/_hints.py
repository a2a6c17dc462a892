"""Hints for error messages about names of other libraries, or of older versions: each names the replacement."""

from __future__ import annotations

from typing import Final

MODULE_HINTS: Final = {
    "Engine": "import trioflow.compat.asynciojobs_classic for programs of old asynciojobs, or use Scheduler",
    "Line": "it is OutputLine",
    "Optional": "it is OptionalFile; the type is typing.Optional",
    "Port": "it is PortOpen",
    "PrintJob": "use a Job whose function prints, or import it from trioflow.compat.asynciojobs",
    "PureScheduler": "use Scheduler, or import it from trioflow.compat.asynciojobs",
    "Succeeds": "it is CommandSucceeds",
    "TaskGroup": "use Scheduler; async with Scheduler() as scheduler: scheduler.add(Job(...)) starts jobs as they come",
}
"""Hints on names that `trioflow` does not have."""

ABC_HINTS: Final = {
    "carried": "it is propagated_env",
    "carry": "it is propagate_env",
    "given_label": "it is explicit_label",
    "given_of": "it is original_arguments_of",
    "Hidden": "it is HashOnly",
    "Look": "it is BoxStyle",
    "kept_of": "it is stored_result",
    "need_of_run": "it is set_run_need",
    "not_restored": "it is reason_not_restored",
    "outwards": "it is enclosing_schedulers",
    "shown": "it is short_repr",
    "shown_amount": "it is amount_text",
    "still_waits_for": "it is open_requirements",
    "throttled": "it is throttled_intervals",
    "waits_for": "it is all_requirements",
    "whole": "it is whole_number",
}
"""Hints on names that `trioflow.abc` does not have."""

SCHEDULER_HINTS: Final = {
    "failed_critical": "check stop_reason is StopReason.CRITICAL, and see culprit",
    "failed_time_out": "check stop_reason is StopReason.TIMEOUT",
    "orchestrate": "call run(), or await co_run()",
    "rain_check": "call is_runnable()",
    "why": "see stop_reason and culprit, or call debrief(); explain(job) tells why a job waits",
}
"""Hints on attributes that a `Scheduler` does not have."""
