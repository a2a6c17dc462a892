"""A plain simulation of the contract, which predicts what becomes of a scenario.

It knows nothing of the engine, and it is not fast: events are in a heap, and after each event the rules of the contract
are applied until nothing changes. All that happens at one instant has one cause. Where that is not so, the outcome may
depend on turns of the event loop, and the prediction has `doubts`, which say why."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any
from .clock import Stored, World
from .jobs import ModelJob, ModelLeaf, cancel, drain, steer
from .limits import ModelLimiter
from .scenario import LOOKS, Leaf, Scenario, implied, walk
from .schedulers import ModelScheduler, admit_all, goes_on, queued_in


def look(world: World) -> dict[str, Any]:
    """Return what can be seen now: amounts, and for each job that waits the words that `explain` must have."""
    seen: dict[str, Any] = {}
    for number, limiter in enumerate(world.limiters):
        seen[f"tokens of limiter {number}"] = len(limiter.holders)
    for group in world.schedulers:
        if group.size < math.inf:
            seen[f"the window of {group.name}"] = group.size
        for name, resource in group.pool.items():
            resource.refill()
            keys = {
                key: resource.plan.total - used - len(resource.resting(key))
                for key, used in resource.keys.items()
            }
            if resource.plan.of_rates:
                continue
            seen[f"{name} of {group.name}"] = (
                keys if resource.plan.kind == "keys" else resource.free
            )
    for job in world.jobs.values():
        if words := [*why(job)]:
            seen[f"why {job.name}"] = words
    return seen


def why(job: ModelJob) -> Iterator[str]:
    """Yield the words that name the cause for which a job waits."""
    group = job.parent
    if group is None or job not in group.jobs:
        return  # an earlier attempt of its scheduler has added it
    if not group.under_way:
        both_wait = job.state == "IDLE" and group.state in ("IDLE", "SCHEDULED")
        if both_wait and any(why(group)):
            yield f"waits for its scheduler '{group.name}'"
            yield from why(group)
    elif isinstance(job, ModelLeaf) and job.is_awaiting:
        yield "awaits '"
    elif not goes_on(group):
        return
    elif job.state == "IDLE":
        yield from (f"'{name}'" for name in list(job.waits_for)[:1])
        if not job.waits_for and not group.may_start(job):
            yield "waits for its turn"
    elif job.state == "SCHEDULED" and group.is_paused:
        yield "waits for a resume"
    elif job.backoff is not None:
        yield "will be retried in"
    elif job in group.token_line:
        yield "waits for a token"
    elif job.state == "SCHEDULED" and not group.has_slot(job):
        yield "waits for a slot"
    elif job.state == "SCHEDULED":
        yield from why_it_lacks(group, job)


def why_it_lacks(group: ModelScheduler, job: ModelJob) -> Iterator[str]:
    """Yield the words for the resources that a job lacks, which has all else."""
    for name, when in group.missing(job).items():
        yield name
        need = dict(job.plan.needs)[name]
        resource = group.find(name)
        assert resource is not None
        if resource.is_closed(need if isinstance(need, str) else ""):
            if isinstance(need, str):
                yield f"{name} '{need}', throttled for"
            else:
                yield f"{name}, throttled for"
        elif when == math.inf and resource.plan.kind in ("amount", "named"):
            yield " taken"
        elif (
            when < math.inf
            and resource.plan.kind == "keys"
            and not resource.plan.of_rates
        ):
            yield ": gap, "
        elif when == math.inf and resource.plan.kind == "budget":
            yield " left"


@dataclass(frozen=True, slots=True)
class Fate:
    """The outcome of one job."""

    state: str
    cause: str | None  # of FAILED: what it raised; of BLOCKED: where that began
    started: float | None
    finished: float | None
    attempts: int
    calls: int
    shutdowns: int
    restored: bool
    value: Any  # the result


@dataclass(slots=True)
class Outcome:
    """What becomes of a scenario, as it was predicted or seen."""

    result: bool | None  # None: the run was cut from outside
    ended_at: float
    fates: dict[str, Fate]
    # Stop reason and culprit of each scheduler.
    verdicts: dict[str, tuple[str | None, str | None]]
    started: list[str]  # all jobs, in the order of their first starts
    settled: list[tuple[str, str]]  # the calls of on_job_settled
    hooks: list[tuple[float, str, str]]
    doubts: Counter[str]
    looks: list[dict[str, Any]]  # what was seen at the instants of `LOOKS`
    effects: set[str]
    bound: frozenset[tuple[str, str]] = frozenset()
    # The members of the outermost scheduler that are left with `keep_jobs=False`.
    kept: frozenset[str] = frozenset()
    never_stored: frozenset[str] = frozenset()
    stored: dict[str, Stored] = field(default_factory=dict)


def cut(root: ModelScheduler) -> None:
    """Cancel the scope around the run. While the run ends, this is no further cause: it is raised afterwards."""
    if root.stopping:
        root.world.doubt("cut while the run ends")
        if root.world.is_direct_asyncio:
            root.world.doubt("a shield of anyio does not hold")
        root.asked = True
    else:
        root.world.mark("cut")
        waiting = queued_in(root.world.schedulers)
        if root.world.apart and any(job.plan.needs for job in waiting):
            # What one gives back reaches another.
            root.world.doubt("runs that share a pool are cut at one instant")
        root.cancel()


def resize(world: World, number: int, tokens: int) -> None:
    """A limiter's total may change at any time; what is taken stays taken until it is given back."""
    world.doubt_wake()
    world.limiters[number].tokens = tokens
    admit_all(world)


def predict_restart(scenario: Scenario, backend: str) -> list[Outcome]:
    """Predict a run until it is killed, and one after it, in which what has SUCCEEDED does not run again."""
    assert scenario.killed_at is not None
    first = predict(replace(scenario, cut_at=scenario.killed_at), backend)
    plans = [
        plan
        for plan in walk(scenario.root)
        if isinstance(plan, Leaf) or plan.enough is not None
    ]
    whole = {plan.name for plan in plans if not plan.forever} - first.never_stored
    done = {name: stored for name, stored in first.stored.items() if name in whole}
    return [first, predict(scenario, backend, restored=done)]


def predict(
    scenario: Scenario,
    backend: str,
    restored: Mapping[str, Stored] = MappingProxyType({}),
) -> Outcome:
    """Predict a run of a scenario."""
    world = World(implied(scenario.root), backend)
    world.limiters = [ModelLimiter(tokens) for tokens in scenario.tokens]
    world.restored = dict(restored)
    world.restores = bool(world.restored)
    world.has_journal = scenario.killed_at is not None
    world.drops = not scenario.keep_jobs
    world.apart = scenario.apart
    root = ModelScheduler(world, scenario.root, None)
    world.after(scenario.cut_at, partial(cut, root))
    for when, name in scenario.cancels:
        world.after(when, partial(cancel, world, name, "cancel from outside"))
    for when, name in scenario.drains:
        world.after(when, partial(drain, world, name))
    for when, step in scenario.steers:
        world.after(when, partial(steer, world, step))
    for when, number, tokens in scenario.resizes:
        world.after(when, partial(resize, world, number, tokens))
    looks: list[dict[str, Any]] = []
    for when in LOOKS:
        world.after(when, lambda: looks.append(look(world)))
    root.start()
    if world.drops:
        world.mark("keep_jobs=False")
    if world.apart:
        world.mark("runs that share a pool")
    while world.soon:
        world.soon.popleft()()
    while root.state == "RUNNING":
        world.step()
    return outcome_of(root, looks)


def outcome_of(root: ModelScheduler, looks: list[dict[str, Any]]) -> Outcome:
    """Return what has become of a run that is over."""
    world = root.world
    schedulers = [job for job in world.jobs.values() if isinstance(job, ModelScheduler)]
    result = None
    if not root.asked:
        result = root.reason == "COMPLETED"
    kept: frozenset[str] = frozenset()
    if world.drops:
        kept = root.kept()
    return Outcome(
        result=result,
        ended_at=world.now,
        fates={name: fate_of(job) for name, job in world.jobs.items()},
        verdicts={job.name: (job.reason, job.culprit) for job in schedulers},
        started=world.started,
        settled=world.settled,
        hooks=world.hooks,
        doubts=world.doubts,
        looks=looks,
        effects=world.effects,
        bound=frozenset(world.bound),
        kept=kept,
        never_stored=frozenset(world.never_stored),
        stored=world.stored,
    )


def fate_of(job: ModelJob) -> Fate:
    """Return what has become of a job."""
    return Fate(
        state=job.state,
        cause=None if job.problem is None else job.problem.text,
        started=job.started,
        finished=job.finished,
        attempts=job.attempts,
        calls=job.world.calls[job.name],
        shutdowns=job.world.shutdowns[job.name],
        restored=job.restored,
        value=job.value,
    )
