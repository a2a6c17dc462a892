"""Makes a scenario that differs as small as it gets: a job less, an option less, a step less, as long as it differs."""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, replace
from typing import Any
from trioflow.abc import Instrument
from .compare import differences
from .model import Outcome, predict, predict_restart
from .real import observe, observe_restart
from .scenario import Group, Leaf, Plan, Scenario, steps, walk
from .steps import (
    Add,
    Await,
    Bind,
    Cancel,
    Drain,
    Give,
    Nap,
    Started,
    Steer,
    Step,
    Throttle,
    Use,
)

KEPT = {"name", "jobs", "bodies", "answer", "service", "forever"}
BY_NAME = ("requires", "settled", "inputs")


def found_in(
    scenario: Scenario, backend: str, *instruments: Instrument, order: int | None = None
) -> tuple[Outcome | None, list[str]]:
    """Return what is predicted, and what differs; in any case, what is wrong with a run whatever is predicted."""
    expected = None
    try:
        if scenario.killed_at is None:
            predicted = [predict(scenario, backend)]
            runs = observe(scenario, backend, 1, *instruments, order=order)
        else:
            predicted = predict_restart(scenario, backend)
            runs = observe_restart(scenario, backend)
        for expected, seen in zip(predicted, runs, strict=True):
            if expected.doubts:
                return expected, list(seen.doubts)
            found = list(differences(scenario, expected, seen))
            if found:
                return expected, found
        return expected, []
    except Exception:
        return expected, [traceback.format_exc(limit=-6)]


def kind_of(found: list[str]) -> str:
    if not found:
        return ""
    return " ".join(found[0].splitlines()[-1].split()[:2])


def shrink(
    scenario: Scenario, differs: Callable[[Scenario], bool], most: int = 2000
) -> Scenario:
    """Return a smaller scenario that still differs."""
    tries = 0
    found = True
    while found:
        found = False
        for smaller in candidates(scenario):
            tries += 1
            if tries > most:
                return scenario
            if is_sound(smaller) and differs(smaller):
                scenario = smaller
                found = True
                break
    return scenario


def is_sound(scenario: Scenario) -> bool:
    """Return whether all that a body says of a resource is of one that its job has, and what moves on has a timeout."""
    for plan in walk(scenario.root):
        if plan.timeout is None and plan.on_timeout != "fail":
            return False
        if isinstance(plan, Leaf) and not is_sound_leaf(plan):
            return False
    return True


def is_sound_leaf(plan: Leaf) -> bool:
    """Return whether the steps of a job name resources that it needs."""
    needs = dict(plan.needs)
    for step in steps(plan):
        if isinstance(step, (Throttle, Use)) and step.name not in needs:
            return False
    return True


def candidates(scenario: Scenario) -> Iterator[Scenario]:
    """Yield scenarios that are smaller by one thing."""
    plans = list(walk(scenario.root))
    for plan in plans[1:]:
        yield replace(scenario, root=mapped(scenario.root, plan.name, lambda _: None))
    for plan in plans[1:]:
        if isinstance(plan, Group) and plan.jobs:
            yield replace(
                scenario, root=mapped(scenario.root, plan.name, lambda plan: plan.jobs)
            )
    for field in fields(scenario):
        if (
            field.default is not MISSING
            and getattr(scenario, field.name) != field.default
        ):
            yield replace(scenario, **{field.name: field.default})
    for plan in plans:
        for smaller in smaller_plans(plan):
            yield replace(
                scenario,
                root=mapped(scenario.root, plan.name, lambda _, new=smaller: new),
            )


def smaller_plans(plan: Plan) -> Iterator[Plan]:
    """Yield plans with an option or a step less."""
    for field in fields(plan):
        if (
            field.name not in KEPT
            and field.default is not MISSING
            and getattr(plan, field.name) != field.default
        ):
            yield replace(plan, **{field.name: field.default})
        value = getattr(plan, field.name)
        if field.name in (*BY_NAME, "needs", "pool"):
            for one in value:
                yield replace(
                    plan,
                    **{field.name: tuple(other for other in value if other != one)},
                )
    if isinstance(plan, Leaf):
        if len(plan.bodies) > 1:
            yield replace(plan, bodies=plan.bodies[:-1])
            yield replace(plan, bodies=plan.bodies[1:])
        for number, body in enumerate(plan.bodies):
            for place, step in enumerate(body):
                is_nap = isinstance(step, Nap)
                if isinstance(step, Started) or (is_nap and len(body) == place + 1):
                    continue
                less = (
                    body[:place]
                    + body[place + (1 if is_nap or place + 1 == len(body) else 2) :]
                )
                if is_nap and not isinstance(less[place], Nap):
                    continue
                yield replace(
                    plan,
                    bodies=(*plan.bodies[:number], less, *plan.bodies[number + 1 :]),
                )


def mapped(root: Group, name: str, change: Callable[[Any], Any]) -> Group:
    """Return a scenario's root in which one plan is changed, replaced by some others, or left out."""
    if root.name == name:
        return change(root)  # type: ignore[no-any-return]
    rebuilt = rebuild(root, name, change)
    known = {plan.name for plan in walk(rebuilt)}
    return pruned(rebuilt, known)


def rebuild(plan: Any, name: str, change: Callable[[Any], Any]) -> Any:
    """Return a plan with the change made in it."""
    if isinstance(plan, Group):
        return replace(plan, jobs=tuple(new_members(plan.jobs, name, change)))

    def rebuilt(step: Step) -> Step:
        if not isinstance(step, Add):
            return step
        return Add(tuple(new_members(step.jobs, name, change)))

    bodies = tuple(tuple(map(rebuilt, body)) for body in plan.bodies)
    return replace(plan, bodies=bodies)


def new_members(
    plans: tuple[Any, ...], name: str, change: Callable[[Any], Any]
) -> Iterator[Any]:
    """Yield the members of a plan with the change made among them."""
    for plan in plans:
        if plan.name != name:
            yield rebuild(plan, name, change)
            continue
        new = change(plan)
        if isinstance(new, tuple):
            yield from new
        elif new is not None:
            yield new


def pruned(plan: Any, known: set[str]) -> Any:
    """Drop what names jobs that are no more."""
    lists: dict[str, Any] = {}
    for field in BY_NAME:
        names = getattr(plan, field, None)
        if names is not None:
            lists[field] = tuple(name for name in names if name in known)
    lists["settled"] = tuple(
        each for each in lists["settled"] if each in lists["requires"]
    )
    if isinstance(plan, Group):
        return replace(
            plan, **lists, jobs=tuple(pruned(inner, known) for inner in plan.jobs)
        )
    bodies: list[tuple[Step, ...]] = []
    for body in plan.bodies:
        steps_left: list[Step] = []
        for step in body:
            steps_left += pruned_step(step, known)
        bodies.append(tuple(steps_left))
    return replace(plan, **lists, bodies=tuple(bodies))


def pruned_step(step: Step, known: set[str]) -> Iterator[Step]:
    """Yield a step, unless what it names is no more."""
    match step:
        case Add(jobs):
            yield Add(tuple(pruned(job, known) for job in jobs))
        case Await(who) | Cancel(who) | Drain(who) | Give(who) | Steer(who):
            if who in known:
                yield step
        case Bind(later, earlier):
            if later in known and earlier in known:
                yield step
        case _:
            yield step
