"""A plain simulation of the contract: what must become of a scenario, instant by instant.

Nothing here knows the engine, nothing is fast: events in a heap, and after each the rules of the contract are applied
until nothing changes. All that happens at one instant has one cause; where that would not be so (two timers that
coincide, a nested scheduler that takes no time) the outcome may depend on turns of the event loop, and the prediction
says that it is not `exact`. Shared limiters are not simulated.

The readings of the contract that the simulation rests on:

- A job that is cancelled from outside and lets that pass is CANCELLED, whatever its own timeout says.
- When a scheduler stops, all that runs inside, at any depth, is cancelled at that very instant: first the ordinary
  jobs, its forever jobs when those have unwound and the clean-up is over, its services when those have. What nested
  jobs do about it changes no `stop_reason` any more.
- What is cancelled after its run has completed, but before all is shut down, is CANCELLED, its reason COMPLETED.
- A critical failure stops the scheduler before those that waited for the job become ready.
- When one job's end settles others that are BLOCKED or SKIPPED, those that waited for it come before those that waited
  for them.
- At the start the jobs that may run become ready before those that may not are settled.
- Clean-up jobs that wait for clean-up jobs run when all of the latter have ended.
- Who is cancelled from outside, and fails for that, has no further attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .actors import World, plan_inputs
from .scenarios import Group, Scenario, inputs_in, walk
from .stage import Fate, Verdict
from .theatre import Theatre


@dataclass(slots=True)
class Prediction:
    """What a run must come to."""

    result: bool | None
    ended_at: float
    fates: dict[str, Fate]
    verdicts: dict[str, Verdict]
    started: list[str]  # all jobs, in the order of their first starts
    exact: bool


def implied(root: Group) -> Iterator[tuple[str, str]]:
    """Find out who waits for whom for the sake of inputs that are elsewhere."""
    for group in walk(root):
        if isinstance(group, Group):
            homes = {inner.name: plan.name for plan in group.jobs if isinstance(plan, Group) for inner in walk(plan)}
            for plan in group.jobs:
                for name in inputs_in([plan]) if isinstance(plan, Group) else plan_inputs(plan):
                    home = homes.get(name, name)
                    if home != plan.name and home in {one.name for one in group.jobs}:
                        yield plan.name, home


def predict(scenario: Scenario, bound: Iterable[tuple[str, str]] = ()) -> Prediction:
    """Say what must become of a scenario without shared limiters, with what earlier runs have bound."""
    world = World(bound, implied(scenario.root))
    root = Theatre(world, scenario.root, None)
    world.after(scenario.cut_at, root.cancel)
    for when, name in scenario.cancels:
        world.after(when, lambda name=name: _cancel(world, name))
    root.start()
    while root.state == "RUNNING":
        world.step()
    schedulers = {name: job for name, job in world.jobs.items() if isinstance(job, Theatre)}
    return Prediction(
        result=None if root.asked else root.reason == "COMPLETED",
        ended_at=world.now,
        fates={
            name: Fate(job.state, job.started, job.finished, world.shutdowns[name], world.calls[name], job.cause)
            for name, job in world.jobs.items()
        },
        verdicts={name: Verdict(job.reason, job.culprit) for name, job in schedulers.items()},
        started=world.started,
        exact=world.exact,
    )


def _cancel(world: World, name: str) -> None:
    job = world.jobs.get(name)
    if isinstance(job, Theatre) and job.parent is None:
        if job.under_way:
            job.stop("CANCELLED")
    elif job is not None and job.parent is not None and job.parent.under_way:
        job.cancel()
