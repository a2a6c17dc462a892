"""Who waits for whom: counted for all jobs before a run, and for those that come while it is under way."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from . import _checks, _errors, _graph
from ._outcomes import RunFacts
from ._states import JobState

if TYPE_CHECKING:
    from ._jobs import AbstractJob
    from ._members import Members
    from ._run import Run

    Successors = AbstractJob[Any] | tuple[AbstractJob[Any], ...] | list[AbstractJob[Any]] | None


SCHEDULED: Final = JobState.SCHEDULED
FEW: Final = 4
"""So many successors stand in a tuple, which takes half the room of a list."""


def make_entries_ready(run: Run) -> Iterator[None]:
    """Link all jobs of a run and make those ready that wait for nothing; pauses by yielding. O(V + E)."""
    unjudged: list[AbstractJob[Any]] = []  # a rule may settle them at once; then their successors follow all others
    for chunk in _checks.in_chunks(run.scheduler):
        link_all(run, chunk, unjudged)
        if len(chunk) == _checks.BETWEEN_PAUSES:
            yield
    run.linked = True
    for job in run.cancelled_early:
        run.cancel_unstarted(job)
    for job in unjudged:
        run.make_ready(job)


def link_all(run: Run, jobs: Iterable[AbstractJob[Any]], unjudged: list[AbstractJob[Any]]) -> None:
    """Count for each job what it has to wait for, and tell each whom it keeps waiting; schedule those that can run."""
    scheduler, implied = run.scheduler, run.scheduler._implied
    plain = not implied and not scheduler._takes_from_outside  # all that is required is a member
    ready, (_, _, tell_scheduled) = run.queue.jobs, run.tellers
    ordinary = forever = 0
    for job in jobs:
        rule = job._rule
        required = job._required if plain else scheduler._waits_for(job)
        job._pending = len(required)
        for requirement in required:
            successors = requirement._successors
            if successors is None:
                requirement._successors = job
            else:
                add_successor(requirement, job)
        if rule is not None and rule.frees:
            count_consumer(job)
        if job._forever:
            forever += 1
        else:
            ordinary += 1
        if not required:
            if rule is None and not job._forever and not run.stopping:
                job._state = SCHEDULED  # as `make_ready` does, without the call
                ready.append(job)
                if tell_scheduled is not None:
                    tell_scheduled(scheduler, job)
            elif rule is None or run.may_run(job):
                run.make_ready(job)
            else:
                unjudged.append(job)
    run.count(ordinary, forever)


def add_successor(requirement: AbstractJob[Any], job: AbstractJob[Any]) -> None:
    """Note that `job` waits for `requirement`."""
    successors = requirement._successors
    if successors is None:
        requirement._successors = job
    elif isinstance(successors, list):
        successors.append(job)
    elif isinstance(successors, tuple):
        requirement._successors = (*successors, job) if len(successors) < FEW else [*successors, job]
    else:
        requirement._successors = (successors, job)


def link(job: AbstractJob[Any], requirements: Iterable[AbstractJob[Any]]) -> None:
    """Let a job wait for those of `requirements` that have not settled."""
    job._pending = max(job._pending, 0)
    for requirement in requirements:
        if not (requirement._state.is_settled or requirement._is_ready()):
            job._pending += 1
            add_successor(requirement, job)


def count_consumer(job: AbstractJob[Any]) -> None:
    """Note with its inputs that a job is going to use their results."""
    assert job._rule is not None
    for one in job._rule.inputs:
        if one._rule is not None and not one._rule.keep_result:
            one._facts = one._facts or RunFacts()
            one._facts.consumers += 1


def link_late(scheduler: Members, job: AbstractJob[Any], requirements: Iterable[AbstractJob[Any]]) -> None:
    """Let a job that is there already wait for more, keeping its place among those that become ready with it."""
    link(job, requirements)
    place = {one: number for number, one in enumerate(scheduler._jobs)}
    for requirement in requirements:
        if isinstance(requirement._successors, (list, tuple)):
            requirement._successors = sorted(requirement._successors, key=place.__getitem__)


def check_new(scheduler: Members, new: list[AbstractJob[Any]]) -> None:
    """Check jobs that have just been put into a running scheduler; they may require each other.

    Raises:
        CycleError, MissingRequirement, ValueError: as before a run.

    """
    for job in new:
        for requirement in job._required:
            _checks.check_requirement(job, requirement, scheduler)
        _checks.check_one(job)
        _checks.imply_late(scheduler, job)
    cycle = _graph.find_cycle(new, scheduler._waits_for)
    if cycle is not None:
        raise _errors.CycleError(cycle)


def check_requirements(scheduler: Members, job: AbstractJob[Any], requirements: list[AbstractJob[Any]]) -> None:
    """Check what a job of a running scheduler is about to require beside what it does already.

    Raises:
        RuntimeError: the job is not IDLE any more.
        CycleError: a requirement waits for the job already.
        MissingRequirement, ValueError: as before a run.

    """
    if job._state is not JobState.IDLE:
        raise RuntimeError(
            f"requires() of {job.label!r}: it is {job._state.value}; only an idle job can still be made to wait"
        )
    for requirement in requirements:
        _checks.check_requirement(job, requirement, scheduler)
    waited_for = _graph.reachable(
        requirements, lambda one: () if one.is_done() or one is job else scheduler._waits_for(one)
    )
    if job in waited_for:
        edges = {one: scheduler._waits_for(one) for one in waited_for}
        edges[job] = [*scheduler._waits_for(job), *requirements]
        cycle = _graph.find_cycle(edges, lambda one: [other for other in edges[one] if other in edges])
        raise _errors.CycleError(cycle or [job])


def check_thread(run: Run, what: str) -> None:
    """Refuse use from another thread.

    Raises:
        RuntimeError: this is another thread than that of the run.

    """
    if threading.get_ident() != run.thread:
        raise RuntimeError(
            f"{what}: {run.scheduler.label!r} runs in another thread; call it there, for instance through "
            f"trio.from_thread.run_sync or loop.call_soon_threadsafe"
        )


def check_growing(run: Run, what: str) -> None:
    """Refuse a change that comes from another thread, or too early or too late.

    Raises:
        RuntimeError: another thread, or the run has not started yet, or is stopping.

    """
    check_thread(run, what)
    if run.started and not run.stopping and run.group.is_cancelled():
        run.cancelled_outside()
    if run.stopping or not run.started:
        state = "is stopping" if run.stopping else "has not started yet"
        raise RuntimeError(f"{what}: {run.scheduler.label!r} {state}; jobs are added before a run or while it runs")


def admit(run: Run, jobs: list[AbstractJob[Any]]) -> None:
    """Take up jobs that were just added to the running scheduler, their requirements checked."""
    for job in jobs:
        run.count(not job._forever, job._forever)
        link(job, run.scheduler._waits_for(job))
        if job._rule is not None and job._rule.frees:
            count_consumer(job)
        run.tell("job_added", job)
    for job in jobs:
        if not job._pending:
            run.make_ready(job)
    run.scheduler._note_added(jobs)
