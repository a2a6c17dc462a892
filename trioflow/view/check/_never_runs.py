"""Jobs that never run, whatever happens to the others, because of the rules in `_core.job._rules`.

Two questions are asked of each job, in topological order: can it run, and can it fail? A job *builds on* its inputs,
and with `run_if="succeeded"` on everything that it requires: all of these must succeed for it to run, and so must
whatever they build on. An alarm (`run_if="failed"`) among them runs only if something outside of them failed.

A job that is reported never runs. The reverse does not hold: finding conditions that contradict each other only by way
of several alarms is as hard as satisfiability, and nobody writes them on purpose.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from ..._core.door.reading import AnyJob, inputs_of, printable, reachable, topological_order


def never_runs(jobs: Sequence[AnyJob]) -> Iterator[tuple[AnyJob, str]]:
    """Yield each job that cannot run by its rule, with why and what to do; jobs in cycles are left out."""
    stuck: set[AnyJob] = set()
    may_fail: set[AnyJob] = set()
    builds_on_alarm: set[AnyJob] = set()
    given = set(jobs)
    for job in topological_order(jobs, lambda job: job.required):
        basis = [one for one in _basis(job) if one in given]
        if job.run_if == "failed" or any(one in builds_on_alarm for one in basis):
            builds_on_alarm.add(job)
        why = _why(job, basis, stuck, may_fail, job in builds_on_alarm)
        if why:
            stuck.add(job)
            yield job, why
        if not why or any(one in may_fail for one in basis):
            may_fail.add(job)


def _basis(job: AnyJob) -> list[AnyJob]:
    """Return what must succeed for a job to run."""
    if job.run_if == "succeeded":
        return list(job.required)
    return list(inputs_of(job))


def _why(job: AnyJob, basis: list[AnyJob], stuck: set[AnyJob], may_fail: set[AnyJob], builds_on_alarm: bool) -> str:
    """Return why a job never runs, and what to do; an empty string if it can run."""
    if job.run_if == "failed" and not job.required:
        return "run_if='failed', but it requires nothing that could fail: let it require what it is to watch"
    for one in basis:
        if one in stuck:
            how = "all that it requires" if job.run_if == "succeeded" else "its inputs"
            return f"{how} must succeed, but {_name(one)} never runs: see there, or take it away"
    if job.run_if == "failed" and not any(one in may_fail for one in job.required):
        return "run_if='failed', but what it requires never runs, and so never fails: see there, or take it away"
    return _contradiction(job, stuck, may_fail) if builds_on_alarm else ""


def _contradiction(job: AnyJob, stuck: set[AnyJob], may_fail: set[AnyJob]) -> str:
    """Return why this job never runs if it needs an alarm to run, and nothing that the alarm watches can then fail."""
    needed = reachable([job], _basis)
    for alarm in needed:
        watched = [one for one in alarm.required if one in may_fail]
        if alarm.run_if != "failed" or any(_fails_beside(one, needed, stuck) for one in watched):
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
    """Return whether a job can fail, or be BLOCKED, while everything that is needed succeeds."""
    if job in needed:
        return False
    outside = reachable(
        [job], lambda one: [other for other in _basis(one) if other not in needed] if one in stuck else []
    )
    return any(one not in stuck for one in outside)


def _name(job: AnyJob) -> str:
    return repr(printable(job.label))
