"""Findings that a run allows: jobs that never run, and probable mistakes.

**Jobs that never run**, whatever happens to the others, because of the rules in `_core.job._trigger_rules`.
Two questions are asked of each job, in topological order: can it run, and can it fail? A job *builds on* its inputs,
and with `run_if="succeeded"` on everything that it requires: all of these must succeed for it to run, and so must
whatever they build on. An alarm (`run_if="failed"`) among them runs only if something outside of them failed.

A job that is reported never runs. The reverse does not hold: finding conditions that contradict each other only by way
of several alarms is as hard as satisfiability, and such conditions hardly occur.

**Probable mistakes**: options without effect, runs without an end, timeouts that are never reached.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from .._core.api.views import (
    AbstractJob,
    AnyJob,
    BaseScheduler,
    FunctionJob,
    call_parts,
    enclosing_schedulers,
    inputs_of,
    is_scheduler,
    printable,
    reachable,
    topological_order,
)


def jobs_that_never_run(jobs: Sequence[AnyJob]) -> Iterator[tuple[AnyJob, str]]:
    """Yield each job that cannot run by its rule, with the reason and the remedy; jobs in cycles are left out."""
    stuck: set[AnyJob] = set()
    may_fail: set[AnyJob] = set()
    builds_on_alarm: set[AnyJob] = set()
    members = set(jobs)
    for job in topological_order(jobs, lambda job: job.required):
        basis = [member for member in _required_successes(job) if member in members]
        if job.run_if == "failed" or any(member in builds_on_alarm for member in basis):
            builds_on_alarm.add(job)
        why = _why_never(job, basis, stuck, may_fail, job in builds_on_alarm)
        if why:
            stuck.add(job)
            yield job, why
        if not why or any(member in may_fail for member in basis):
            may_fail.add(job)


def _required_successes(job: AnyJob) -> list[AnyJob]:
    """Return the jobs that must succeed for a job to run."""
    if job.run_if == "succeeded":
        return list(job.required)
    return list(inputs_of(job))


def _why_never(
    job: AnyJob, basis: list[AnyJob], stuck: set[AnyJob], may_fail: set[AnyJob], builds_on_alarm: bool
) -> str:
    """Return the reason why a job never runs, and the remedy; an empty string if it can run."""
    if job.run_if == "failed" and not job.required:
        return "run_if='failed', but it requires nothing that could fail: let it require what it is to watch"
    for member in basis:
        if member in stuck:
            how = "all that it requires" if job.run_if == "succeeded" else "its inputs"
            return f"{how} must succeed, but {_name(member)} never runs: see there, or take it away"
    if job.run_if == "failed" and not any(member in may_fail for member in job.required):
        return "run_if='failed', but what it requires never runs, and so never fails: see there, or take it away"
    return _contradiction(job, stuck, may_fail) if builds_on_alarm else ""


def _contradiction(job: AnyJob, stuck: set[AnyJob], may_fail: set[AnyJob]) -> str:
    """Return the reason why a job never runs: it needs an alarm, and nothing that the alarm watches can then fail."""
    needed = reachable([job], _required_successes)
    for alarm in needed:
        watched = [member for member in alarm.required if member in may_fail]
        if alarm.run_if != "failed" or any(_fails_beside(member, needed, stuck) for member in watched):
            continue
        names = ", ".join(map(_name, watched))
        if alarm is job:
            return (
                f"run_if='failed' asks for a failure of {names}, which must succeed for it to run: "
                f"write ref(job) where an input should be the job itself"
            )
        return (
            f"it builds on the success of {_name(alarm)}, which runs only if {names} failed, and on the success of "
            f"that too: take one of them away, or let it wait for them with run_if='settled'"
        )
    return ""


def _fails_beside(job: AnyJob, needed: Container[AnyJob], stuck: set[AnyJob]) -> bool:
    """Return whether a job can fail, or be BLOCKED, while all of `needed` succeeds."""
    if job in needed:
        return False
    outside = reachable(
        [job],
        lambda node: [other for other in _required_successes(node) if other not in needed] if node in stuck else [],
    )
    return any(node not in stuck for node in outside)


def _name(job: AnyJob) -> str:
    return repr(printable(job.label))


# ---- suspicious settings


def suspicions(level: BaseScheduler) -> Iterator[tuple[AnyJob, str]]:
    """Yield the suspicious settings of a scheduler and its own members: the job, with the problem and the remedy."""
    limit = _time_limit(level)
    yield from ((level, text) for text in _check_scheduler(level, limit is not None))
    unfailing = {job for job in level if is_scheduler(job) and _never_fails(job)}
    for job in level:
        yield from ((job, text) for text in _check_options(job))
        yield from ((job, text) for text in _check_groups(job, unfailing))
        if job.run_if == "succeeded" and not job.required:
            yield job, "run_if='succeeded' without requirements changes nothing: let it require something, or leave it"
        if job.timeout is not None and limit is not None and job.timeout > limit[1]:
            name = _name(limit[0])
            yield (
                job,
                (
                    f"its timeout of {job.timeout:g} s never passes: {name} ends everything after {limit[1]:g} s; "
                    f"change one of the two"
                ),
            )
    yield from _starts_too_late(level)


def inputs_hidden_from_journal(level: BaseScheduler) -> Iterator[tuple[AnyJob, str]]:
    """Yield the members that require others without an argument from them, which a journal could see."""
    for job in level:
        if not isinstance(job, FunctionJob) or not job.required:
            continue
        call = call_parts(job, lambda value: value)
        if (job.key is job.version is None) and job.save is not None and call is not None and not _has_jobs(call):
            names = ", ".join(map(_name, job.required))
            yield (
                job,
                (
                    f"it requires {names} and takes nothing from there: if it reads a result, a journal restores it "
                    f"although that has changed; pass the job, or ref(job), or give version= or key="
                ),
            )


def _has_jobs(value: Any) -> bool:
    """Return whether a job is among some arguments, in lists, tuples and dicts, too."""
    if isinstance(value, dict):
        return any(map(_has_jobs, value.values()))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, (list, tuple)):
        return any(map(_has_jobs, value))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return isinstance(value, AbstractJob)


def _check_scheduler(level: BaseScheduler, is_limited: bool) -> Iterator[str]:
    jobs = tuple(level)
    if not jobs:
        yield "it has no jobs, and so does nothing: add some"
    elif all(job.forever for job in jobs) and not is_limited and not _ends_with_others(level):
        yield "all its jobs are forever jobs, and there is no timeout: it ends only if they do; give it a timeout"
    if level.scheduler is None:
        idle = [name for name, changed in _without_effect_outside(level) if changed]
        if idle:
            yield f"{' and '.join(idle)} of the outermost scheduler have no effect: put it into another, or leave them"


def _without_effect_outside(level: BaseScheduler) -> Iterator[tuple[str, bool]]:
    """Yield the options that have an effect only inside another scheduler, each with True if it was set."""
    yield "required", bool(level.required)
    yield "run_if", level.run_if != "settled"
    yield "forever", level.forever
    yield "retry", level.retry is not None
    yield "on_timeout", level.on_timeout != "fail"
    yield "own_task", level.own_task


def _check_options(job: AnyJob) -> Iterator[str]:
    if job.idle_timeout is not None and job.timeout is not None and job.idle_timeout >= job.timeout:
        yield f"its idle_timeout of {job.idle_timeout:g} s never passes: its timeout comes first; leave one out"


def _check_groups(job: AnyJob, unfailing: Container[AnyJob]) -> Iterator[str]:
    """Yield each condition on a nested scheduler whose outcome does not depend on its jobs."""
    for group in job.required:
        if job.run_if != "settled" and group in unfailing:
            yield (
                f"run_if={job.run_if!r}, but no failure in {_name(group)} counts as one of {_name(group)}, because "
                f"none of its jobs is critical: give it critical_jobs=True"
            )


def _never_fails(group: BaseScheduler) -> bool:
    """Return whether a scheduler always succeeds: it has jobs, ignores their failures, and has no time limit."""
    is_limited = group.timeout is not None or group.idle_timeout is not None
    return not is_limited and bool(tuple(group)) and not any(job.is_critical() for job in group)


def _ends_with_others(level: BaseScheduler) -> bool:
    """Return whether a scheduler, or an enclosing one, is a forever job, which is cancelled when the others settle."""
    return any(
        scheduler.forever and scheduler.scheduler is not None for scheduler in (level, *enclosing_schedulers(level))
    )


def _time_limit(level: BaseScheduler) -> tuple[BaseScheduler, float] | None:
    """Return the shortest timeout among a scheduler and the enclosing ones, with the scheduler that has it."""
    levels = (level, *enclosing_schedulers(level))
    limits = [(scheduler, scheduler.timeout) for scheduler in levels if scheduler.timeout is not None]
    return min(limits, key=lambda limit: limit[1], default=None)


def _starts_too_late(level: BaseScheduler) -> Iterator[tuple[AnyJob, str]]:
    """Yield forever jobs that wait for everything else: the run ends at the moment when they could start."""
    others = [job for job in level if not job.forever]
    required = {requirement for job in others for requirement in job.required}
    last = [job for job in others if job not in required]
    for job in level:
        if job.forever and last and job.required and all(final in job.required for final in last):
            yield (
                job,
                (
                    "it runs forever, but waits for all that does not: it is cancelled as soon as it could start; "
                    "take a requirement away, or make it no forever job"
                ),
            )
