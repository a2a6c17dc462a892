"""What the model knows at one instant: what each resource has, and why each job waits."""

import math
from collections.abc import Iterator
from typing import Any
from .clock import World
from .jobs import ModelJob, ModelLeaf
from .schedulers import ModelScheduler, goes_on


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
            keys = {key: resource.plan.total - used - len(resource.resting(key)) for key, used in resource.keys.items()}
            if resource.plan.of_rates:
                continue
            seen[f"{name} of {group.name}"] = keys if resource.plan.kind == "keys" else resource.free
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
        if job.state == "IDLE" and group.state in ("IDLE", "SCHEDULED") and any(why(group)):
            yield f"waits for its scheduler '{group.name}'"
            yield from why(group)
    elif isinstance(job, ModelLeaf) and job.awaited is not None and job.state == "RUNNING" and not job.unwinding:
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
            yield f"{name} '{need}', throttled for" if isinstance(need, str) else f"{name}, throttled for"
        elif when == math.inf and resource.plan.kind in ("amount", "named"):
            yield " taken"
        elif when < math.inf and resource.plan.kind == "keys" and not resource.plan.of_rates:
            yield ": gap, "
        elif when == math.inf and resource.plan.kind == "budget":
            yield " left"
