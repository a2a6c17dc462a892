"""The laws of what passes between jobs: results, rules, services, attempts. Each run keeps them."""

from __future__ import annotations

from collections import defaultdict

from .laws import Law, groups, groups_run_once, may_run_again, members, names_in, plans
from .real_run import Recording
from .scenarios import Group, Leaf, Plan, criticalities, inputs_of

GOOD = {"SUCCEEDED", "SKIPPED"}


def gives_the_inputs_results(seen: Recording) -> None:
    """A job gets for an input what that input returned last."""
    assert seen.strange_values == []


def obeys_its_rule(seen: Recording) -> None:
    """A job becomes ready only if its rule allows it; it is BLOCKED for a failure, and SKIPPED as its rule says."""
    states: dict[str, str] = {}
    for _, hook, scheduler, job, state in seen.events:
        if hook == "before_run":
            for name in names_in(groups(seen)[scheduler]):
                states.pop(name, None)
        elif hook in ("finished", "ready"):
            if state in ("BLOCKED", "SKIPPED"):
                assert state == judge(seen, plans(seen)[job], states), job
            states[job] = "SUCCEEDED" if hook == "ready" else state
        elif hook == "scheduled" and job not in states:  # its retries do not depend on what became of a service since
            assert judge(seen, plans(seen)[job], states) == "SCHEDULED", job
            states[job] = "SCHEDULED"


def judge(seen: Recording, plan: Plan, states: dict[str, str]) -> str:
    """Return the state that follows from a job's rule and the states of its requirements."""
    required = {*plan.requires, *inputs_of(plan), *(one for who, one in seen.bound if who == plan.name)}
    inputs, tolerated = (
        set(inputs_of(plan)),
        {name for name, value in criticalities(seen.scenario.root) if value is False},
    )
    essential = inputs | (required - set(plan.settled) if plan.run_if == "succeeded" else set())
    if plan.run_if == "failed" and all(states.get(name) in GOOD for name in required):
        return "SKIPPED"
    if any(states.get(name) not in GOOD for name in essential - (tolerated - inputs)):
        return "BLOCKED"
    skipped = {name for name in essential if states[name] == "SKIPPED"}
    return "SKIPPED" if skipped & inputs or (skipped and skipped == required) else "SCHEDULED"


def blocks_for_a_failure(seen: Recording) -> None:
    """Each BLOCKED job has a cause: a job that failed, was cancelled or was not reached."""
    for name, fate in seen.fates.items():
        if fate.state in ("BLOCKED", "FAILED") and name != "root":
            assert fate.cause is not None, name
            kind, _, who = fate.cause.partition(" ")
            assert kind != "RequirementFailed", name
            if kind == "ExceptionGroup":  # the oracle compares what is in it
                continue
            if who and not any(who in names_in(group) for group in groups(seen).values() if may_run_again(group)):
                assert seen.fates[who].state == "FAILED" or may_run_again_itself(plans(seen)[who]), (name, who)
        else:
            assert fate.cause is None, name


def may_run_again_itself(plan: Plan) -> bool:
    return plan.retry > 0 or plan.name == "root"


def counts_calls(seen: Recording) -> None:
    """A body is called at most as often as its retries allow, for each run of its scheduler."""
    runs: defaultdict[str, int] = defaultdict(int)
    for _, hook, scheduler, _, _ in seen.events:
        runs[scheduler] += hook == "before_run"
    homes = {plan.name: name for name, group in groups(seen).items() for plan in members(group)}
    for name, fate in seen.fates.items():
        plan = plans(seen)[name]
        if runs[homes.get(name, "")] and isinstance(plan, Leaf):
            assert fate.calls <= runs[homes[name]] * (1 + plan.retry), name


def ends_services_after_their_users(seen: Recording) -> None:
    """The run ends a service only when all jobs that require it have ended, if they do so in time."""
    cancelled_outside = {name for _, name in seen.scenario.cancels}
    for group in groups_run_once(seen):
        own = {plan.name: plan for plan in members(group) if plan.name in seen.fates}
        if not is_slow(group):
            for when, what, name in seen.bodies:
                service = own.get(name)
                if what == "cancelled" and name not in cancelled_outside and is_ended_by_run_alone(service):
                    for user in users(seen, name, own):
                        fate = seen.fates[user]
                        assert fate.started is None or (fate.finished or 0.0) <= when, (name, user)


def is_ended_by_run_alone(plan: Plan | None) -> bool:
    return isinstance(plan, Leaf) and plan.service and plan.timeout is None


def is_slow(group: Group) -> bool:
    """Return whether the services of a scheduler may take longer to end than the shutdown timeout."""
    return sum(plan.linger for plan in members(group) if isinstance(plan, Leaf)) >= group.shutdown_timeout


def users(seen: Recording, service: str, own: dict[str, Plan]) -> set[str]:
    """Return the jobs that require a service, directly or through others."""
    found = {service}
    for _ in own:
        for name, plan in own.items():
            if not found.isdisjoint({*plan.requires, *inputs_of(plan)}):
                found.add(name)
    return found - {service}


LAWS_OF_FLOW: tuple[Law, ...] = (
    gives_the_inputs_results,
    obeys_its_rule,
    blocks_for_a_failure,
    counts_calls,
    ends_services_after_their_users,
)
