"""Problems that a run does not reject: jobs that never run, and probable mistakes.

**Jobs that never run**, whatever happens to other jobs, because of the rules in `_core.job._trigger_rules`. In
topological order, the check finds out for each job whether it can run, and whether it can fail. A job *builds on* its
inputs and, with `run_if="succeeded"`, on everything else that it requires, except with `settled=True`, what is
tolerated, and, among several, what may be skipped. It also builds on all that these jobs build on.
The job runs only if all of these succeed. An *alarm* is a job with `run_if="failed"`. If a job builds on an alarm, it
runs only if a requirement of the alarm fails or is BLOCKED, and it must not itself build on that requirement.

Every job that the check reports never runs, but not every job that never runs is reported. To find conditions that
contradict each other only through several alarms is as hard as satisfiability (SAT), and such conditions are rare.

**Probable mistakes** are options without effect, runs without an end, and timeouts that are never reached.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, cast

from .._core.api.views import (
    AbstractJob,
    AnyJob,
    BaseScheduler,
    FunctionJob,
    call_parts,
    criticality,
    enclosing_schedulers,
    essential_requirements,
    inputs_of,
    is_scheduler,
    printable,
    reachable,
    runs_commands,
    topological_order,
)


def find_jobs_that_never_run(jobs: Sequence[AnyJob]) -> Iterator[tuple[AnyJob, str]]:
    """Yield jobs that can never run, each with a text that gives the reason and the remedy.

    Jobs in cycles, and jobs that require these directly or indirectly, are left out.
    """
    never_run: set[AnyJob] = set()
    may_fail: set[AnyJob] = set()
    needs_alarm: set[AnyJob] = set()
    all_builds_on: dict[AnyJob, list[AnyJob]] = {}
    members = set(jobs)
    for job in topological_order(jobs, lambda job: job.required):
        builds_on = all_builds_on[job] = [
            member
            for member in essential_requirements(job)
            if member in members
            and (
                member in inputs_of(job)
                or not (criticality(member) is False or (member in needs_alarm and len(job.required) > 1))
            )
        ]
        if job.run_if == "failed" or any(member in needs_alarm for member in builds_on):
            needs_alarm.add(job)
        explanation = _explain_never_runs(job, all_builds_on, never_run, may_fail, job in needs_alarm)
        if explanation:
            never_run.add(job)
            yield job, explanation
        if not explanation or any(member in may_fail for member in builds_on):
            may_fail.add(job)


def _explain_never_runs(
    job: AnyJob,
    builds_on: Mapping[AnyJob, list[AnyJob]],
    never_run: set[AnyJob],
    may_fail: set[AnyJob],
    needs_alarm: bool,
) -> str:
    """Return the reason why a job never runs, and the remedy; an empty string if it can run."""
    if job.run_if == "failed" and not job.required:
        return "run_if='failed', but it requires nothing that could fail: let it require the jobs that it should watch"
    for member in builds_on[job]:
        if member in never_run:
            subject = "all that it requires" if job.run_if == "succeeded" else "its inputs"
            return f"{subject} must succeed, but {_name(member)} never runs: see its finding, or drop the requirement"
    if job.run_if == "failed" and not any(member in may_fail for member in job.required):
        return "run_if='failed', but what it requires never runs: see its finding, or require another job"
    return _find_contradiction(job, builds_on, never_run, may_fail) if needs_alarm else ""


def _find_contradiction(
    job: AnyJob, builds_on: Mapping[AnyJob, list[AnyJob]], never_run: set[AnyJob], may_fail: set[AnyJob]
) -> str:
    """Return the reason and the remedy if a job builds on an alarm and on every job whose failure could start it.

    Otherwise return an empty string.
    """
    needed = reachable([job], lambda node: builds_on.get(node, ()))
    for alarm in needed:
        watched = [member for member in alarm.required if member in may_fail]
        if alarm.run_if != "failed" or any(
            _can_fail_alongside(member, needed, builds_on, never_run) for member in watched
        ):
            continue
        names = ", ".join(map(_name, watched))
        if alarm is job:
            inputs = [member for member in watched if member in inputs_of(job)]
            one_of, taken = "", "also takes its result"
            if len(watched) > 1:
                one_of, taken = "one of ", f"takes the result of {', '.join(map(_name, inputs))}"
            argument = inputs[0].label if len(inputs) == 1 and inputs[0].label.isidentifier() else "job"
            return f"it runs only if {one_of}{names} fails, but {taken}: pass ref({argument}), with required={argument}"
        return (
            f"it builds on the success of {_name(alarm)}, which runs only if {names} failed, and also on the "
            f"success of {names}: drop one of these requirements, or wait for both with run_if='settled'"
        )
    return ""


def _can_fail_alongside(
    job: AnyJob, needed: Container[AnyJob], builds_on: Mapping[AnyJob, list[AnyJob]], never_run: set[AnyJob]
) -> bool:
    """Return whether a job can fail, or be BLOCKED, while all jobs in `needed` succeed."""
    if job in needed:
        return False
    outside = reachable(
        [job],
        lambda node: [other for other in builds_on.get(node, ()) if other not in needed] if node in never_run else [],
    )
    return any(node not in never_run for node in outside)


def _name(job: AnyJob) -> str:
    return repr(printable(job.label))


# ---- suspicious settings


def find_suspicious_settings(scheduler: BaseScheduler) -> Iterator[tuple[AnyJob, str]]:
    """Yield each suspicious setting of a scheduler or its members, as the job and a text with problem and remedy."""
    limit = _shortest_timeout(scheduler)
    yield from ((scheduler, text) for text in _check_scheduler(scheduler, limit is not None))
    never_failing = {job for job in scheduler if is_scheduler(job) and _never_fails(job)}
    for job in scheduler:
        yield from ((job, text) for text in _check_options(job))
        yield from ((job, text) for text in _check_conditions_on_schedulers(job, never_failing))
        if job.run_if == "settled" and not job.required:
            yield job, "run_if='settled' without requirements changes nothing: let it require a job, or drop run_if"
        if job.timeout is not None and limit is not None and job.timeout > limit[1]:
            name = _name(limit[0])
            yield (
                job,
                (
                    f"its timeout of {job.timeout:g} s never expires: {name} ends everything after {limit[1]:g} s; "
                    f"change one of the two"
                ),
            )
    yield from _find_late_forever_jobs(scheduler)


def find_inputs_hidden_from_journal(scheduler: BaseScheduler) -> Iterator[tuple[AnyJob, str]]:
    """Yield each member that requires jobs but takes none as an argument, with a text that gives problem and remedy.

    A journal cannot tell when the results of the required jobs change. Only jobs that call functions or run commands
    are checked. Those that are not stored in a journal, and those with a `key` or `version`, are left out.
    """
    for job in scheduler:
        if not job.required or job.forever or job.save is None or not (job.key is job.version is None):
            continue
        if isinstance(job, FunctionJob):
            call = call_parts(job, lambda value: value)
            is_hidden = call is not None and not _contains_job(call)
            advice = "pass the job, or ref(job), or give version= or key="
        else:
            is_hidden = runs_commands(job) and _has_no_visible_input(job)
            advice = "pass its output, name files in reads=, or give version=, key= or save=None"
        if is_hidden:
            names = ", ".join(map(_name, job.required))
            yield (
                job,
                (
                    f"it requires {names} but takes no result as input: if it reads one in another way, a journal "
                    f"restores it although that result has changed; {advice}"
                ),
            )


def _has_no_visible_input(job: AnyJob) -> bool:
    """Return whether a job that runs commands takes no job's result, and names no files that cover what it reads.

    Those are the `reads` of a command, and what a job on a node sends if it does nothing else.
    """
    try:
        work = cast(Any, job).for_journal()
    except Exception:  # raised by a user's class; a journal does not restore such a job
        return False
    if work is None or _contains_job([work.arguments, work.options]):
        return False
    if work.what == "ssh":
        _, steps, _ = work.arguments
        return any(kind != "Push" for kind, *_ in steps)
    return not work.reads


def _contains_job(value: Any) -> bool:
    """Return whether a value is a job, or a list, tuple or dict that contains one at any depth."""
    if isinstance(value, dict):
        return any(map(_contains_job, value.values()))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, (list, tuple)):
        return any(map(_contains_job, value))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return isinstance(value, AbstractJob)


def _check_scheduler(scheduler: BaseScheduler, is_limited: bool) -> Iterator[str]:
    jobs = tuple(scheduler)
    if not jobs:
        yield "it has no jobs, so it does nothing: add some"
    elif all(job.forever for job in jobs) and not is_limited and not _is_in_forever_job(scheduler):
        yield "all its jobs are forever jobs, and it has no timeout: it ends only if they do; give it a timeout"
    elif scheduler.critical is True and any(criticality(job) is None for job in jobs):
        yield "critical=True is about itself, and no longer reaches its jobs: for these, write critical_jobs=True"
    if scheduler.scheduler is None:
        unused = [name for name, changed in _options_of_nested_schedulers(scheduler) if changed]
        if unused:
            yield f"{' and '.join(unused)} of the outermost scheduler have no effect: drop them, or nest it"


def _options_of_nested_schedulers(scheduler: BaseScheduler) -> Iterator[tuple[str, bool]]:
    """Yield the options that have an effect only on a nested scheduler, each paired with whether it is set."""
    yield "required", bool(scheduler.required)
    yield "run_if", scheduler.run_if != "succeeded"
    yield "forever", scheduler.forever
    yield "retry", scheduler.retry is not None
    yield "on_timeout", scheduler.on_timeout != "fail"
    yield "own_task", scheduler.own_task


def _check_options(job: AnyJob) -> Iterator[str]:
    if job.idle_timeout is not None and job.timeout is not None and job.idle_timeout >= job.timeout:
        yield f"its idle_timeout of {job.idle_timeout:g} s never expires: its timeout comes first; remove one of them"


def _check_conditions_on_schedulers(job: AnyJob, never_failing: Container[AnyJob]) -> Iterator[str]:
    """Yield a problem for each requirement of a job whose `run_if` depends on a nested scheduler that never fails."""
    for nested in job.required:
        if job.run_if == "failed" and nested in never_failing:
            yield (
                f"run_if={job.run_if!r}, but no failure in {_name(nested)} counts as one of {_name(nested)}, because "
                f"all its jobs are tolerated: leave out critical=False, or watch the jobs in it"
            )


def _never_fails(nested: BaseScheduler) -> bool:
    """Return whether a scheduler always succeeds: it has jobs, ignores their failures, and has no time limit."""
    is_limited = nested.timeout is not None or nested.idle_timeout is not None
    return not is_limited and bool(tuple(nested)) and all(criticality(job) is False for job in nested)


def _is_in_forever_job(scheduler: BaseScheduler) -> bool:
    """Return whether a scheduler is, or is inside, a forever job, which is cancelled when the other jobs settle."""
    return any(level.forever and level.scheduler is not None for level in (scheduler, *enclosing_schedulers(scheduler)))


def _shortest_timeout(scheduler: BaseScheduler) -> tuple[BaseScheduler, float] | None:
    """Return the one of a scheduler and its enclosing schedulers that has the shortest timeout, and that timeout.

    Return None if none of them has a timeout.
    """
    levels = (scheduler, *enclosing_schedulers(scheduler))
    limits = [(level, level.timeout) for level in levels if level.timeout is not None]
    return min(limits, key=lambda limit: limit[1], default=None)


def _find_late_forever_jobs(scheduler: BaseScheduler) -> Iterator[tuple[AnyJob, str]]:
    """Yield the forever jobs that require all exit jobs, and so could start only when the run ends."""
    others = [job for job in scheduler if not job.forever]
    required = {requirement for job in others for requirement in job.required}
    exits = [job for job in others if job not in required]
    for job in scheduler:
        if job.forever and exits and job.required and all(exit_job in job.required for exit_job in exits):
            yield (
                job,
                (
                    "it is a forever job, but waits for all jobs that are not: it is cancelled as soon as it could "
                    "start; drop a requirement, or forever=True"
                ),
            )
