"""What is allowed but probably not meant: options without effect, runs without an end, timeouts never reached."""

from __future__ import annotations

from collections.abc import Iterator

from ..._core.door.reading import AnyJob, BaseScheduler, outwards, printable


def suspicions(level: BaseScheduler) -> Iterator[tuple[AnyJob, str]]:
    """Yield what is strange about a scheduler and its own members: the job, with the problem and what to do."""
    limit = _time_limit(level)
    yield from ((level, text) for text in _about_scheduler(level, limit is not None))
    for job in level:
        yield from ((job, text) for text in _about_options(job))
        if job.run_if == "succeeded" and not job.required:
            yield job, "run_if='succeeded' without requirements changes nothing: let it require something, or leave it"
        if job.timeout is not None and limit is not None and job.timeout > limit[1]:
            name = repr(printable(limit[0].label))
            yield (
                job,
                (
                    f"its timeout of {job.timeout:g} s never passes: {name} ends everything after {limit[1]:g} s; "
                    f"change one of the two"
                ),
            )
    yield from _too_late(level)


def _about_scheduler(level: BaseScheduler, is_limited: bool) -> Iterator[str]:
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
    """Yield the options that have an effect only inside another scheduler, each with whether it was given."""
    yield "required", bool(level.required)
    yield "run_if", level.run_if != "settled"
    yield "forever", level.forever
    yield "retry", level.retry is not None
    yield "on_timeout", level.on_timeout != "fail"
    yield "own_task", level.own_task


def _about_options(job: AnyJob) -> Iterator[str]:
    if job.idle_timeout is not None and job.timeout is not None and job.idle_timeout >= job.timeout:
        yield f"its idle_timeout of {job.idle_timeout:g} s never passes: its timeout comes first; leave one out"


def _ends_with_others(level: BaseScheduler) -> bool:
    """Return whether a scheduler, or one around it, is a forever job, which is cancelled when the others settle."""
    return any(one.forever and one.scheduler is not None for one in (level, *outwards(level)))


def _time_limit(level: BaseScheduler) -> tuple[BaseScheduler, float] | None:
    """Return the shortest timeout among a scheduler and those around it, with the scheduler that has it."""
    limits = [(one, one.timeout) for one in (level, *outwards(level)) if one.timeout is not None]
    return min(limits, key=lambda limit: limit[1], default=None)


def _too_late(level: BaseScheduler) -> Iterator[tuple[AnyJob, str]]:
    """Yield forever jobs that wait for everything else: the run ends at the moment when they could start."""
    others = [job for job in level if not job.forever]
    required = {one for job in others for one in job.required}
    last = [job for job in others if job not in required]
    for job in level:
        if job.forever and last and job.required and all(one in job.required for one in last):
            yield (
                job,
                (
                    "it runs for ever, but waits for all that does not: it is cancelled as soon as it could start; "
                    "take a requirement away, or make it no forever job"
                ),
            )
