"""A plain simulation of the contract, which predicts what becomes of a scenario.

It knows nothing of the engine, and it is not fast: events are in a heap, and after each event the rules of the contract
are applied until nothing changes. All that happens at one instant has one cause. Where that is not so (two timers that
coincide, a nested scheduler that takes no time), the outcome may depend on turns of the event loop, and the prediction
is not `exact`. Shared limiters are not simulated.

The simulation reads the contract as follows:

- A job that is cancelled from outside and does not stop the cancellation is CANCELLED, whatever its own timeout says.
- When a scheduler stops, all that runs inside, at any depth, is cancelled at the same instant: first the ordinary jobs,
  then its forever jobs (when the ordinary ones have unwound and the clean-up is over), then its services. What nested
  jobs do then changes no `stop_reason` any more.
- What is cancelled after its run has come to its end, but before the shutdown is over, is CANCELLED; its reason is
  COMPLETED or FAILED.
- A failure during the ending, also of a forever job or a service that the run ends, counts as any other.
- A job that is cancelled because its nested scheduler stopped early was not only cancelled: what it blocks counts.
- A critical failure stops the scheduler before those that waited for the job become ready.
- When the end of a job settles others as BLOCKED or SKIPPED, the jobs that waited for it come before the jobs that
  waited for the others.
- At the start, the jobs that may run become ready before the jobs that may not run are settled.
- Clean-up jobs that wait for clean-up jobs run when all of the latter have ended.
- A job that is cancelled from outside, and fails because of it, has no further attempt.
- On trio, a cancelled job is cancelled at each of its waits. On asyncio, only a further cause ends a wait of a job that
  unwinds: a `cancel()` of the job or of a scheduler around it, or the end of a run around it; and for services and
  forever jobs, the end of `shutdown_timeout`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .model_jobs import World, inputs_of
from .model_scheduler import ModelScheduler
from .real_run import Fate, Verdict
from .scenarios import Group, Scenario, inputs_in, walk


@dataclass(slots=True)
class Prediction:
    """The predicted outcome of a run."""

    result: bool | None
    ended_at: float
    fates: dict[str, Fate]
    verdicts: dict[str, Verdict]
    started: list[str]  # all jobs, in the order of their first starts
    exact: bool


def implied(root: Group) -> Iterator[tuple[str, str]]:
    """Yield pairs of siblings of which the first waits for the second because of inputs inside them."""
    for group in walk(root):
        if isinstance(group, Group):
            homes = {inner.name: plan.name for plan in group.jobs if isinstance(plan, Group) for inner in walk(plan)}
            for plan in group.jobs:
                for name in inputs_in([plan]) if isinstance(plan, Group) else inputs_of(plan):
                    home = homes.get(name, name)
                    if home != plan.name and home in {one.name for one in group.jobs}:
                        yield plan.name, home


def predict(scenario: Scenario, backend: str, bound: Iterable[tuple[str, str]] = ()) -> Prediction:
    """Predict a run of a scenario without shared limiters; `bound` are the requirements that earlier runs added."""
    world = World(bound, implied(scenario.root), backend)
    root = ModelScheduler(world, scenario.root, None)
    world.after(scenario.cut_at, root.cancel)
    for when, name in scenario.cancels:
        world.after(when, lambda name=name: _cancel(world, name))
    root.start()
    while root.state == "RUNNING":
        world.step()
    schedulers = {name: job for name, job in world.jobs.items() if isinstance(job, ModelScheduler)}
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
    if isinstance(job, ModelScheduler) and job.parent is None:
        if job.under_way:
            job.unwind()
    elif job is not None and job.parent is not None and job.parent.under_way:
        job.cancel()
