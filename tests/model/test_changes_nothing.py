"""What changes no outcome: other labels, watchers, another run, a job that does nothing, a scheduler around it all."""

import functools
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from trioflow import Monitor, Trace
from .generator import scenario_of
from .model import Fate, predict
from .real import observe
from .scenario import Group, Leaf, Scenario
from .steps import Nap

SEEDS = range(8)
SIMPLE = ("outside", "cut", "drain", "journal", "answer", "await", "budget", "rate")  # the next run finds these changed


@functools.cache
def exact_scenarios(backend: str) -> list[Scenario]:
    scenarios = [replace(scenario_of(("the same", seed), SIMPLE), keep_jobs=True, apart=False) for seed in SEEDS]
    return [scenario for scenario in scenarios if not predict(scenario, backend).doubts]


def fates(scenario: Scenario, backend: str, *instruments: object, **options: str) -> dict[str, Fate]:
    """Return what becomes of the jobs, without the outermost scheduler."""
    [seen] = observe(scenario, backend, 1, *instruments, **options)  # type: ignore[arg-type]
    return {name: fate for name, fate in seen.fates.items() if name != "root"}


def test_other_labels_change_nothing(backend: str) -> None:
    for scenario in exact_scenarios(backend):
        [one], [other] = observe(scenario, backend), observe(scenario, backend, labels="{} again")
        assert one.started == other.started
        assert [replace(fate, cause=None) for fate in one.fates.values()] == [
            replace(fate, cause=None) for fate in other.fates.values()
        ]


def test_watchers_change_nothing(backend: str) -> None:
    for scenario in exact_scenarios(backend):
        assert fates(scenario, backend) == fates(scenario, backend, Trace(), Monitor(file=StringIO()))


def test_a_second_run_ends_as_the_first(backend: str) -> None:
    for scenario in exact_scenarios(backend):
        first, second = observe(scenario, backend, 2)
        if not second.bound:
            assert first.started == second.started
            assert [fate.state for fate in first.fates.values()] == [fate.state for fate in second.fates.values()]


def reordered(plan: Any) -> Any:
    """Return a plan whose requirements, needs and resources are named in the opposite order."""
    lists = ("requires", "settled", "needs", "pool")
    changed = replace(plan, **{name: getattr(plan, name)[::-1] for name in lists if hasattr(plan, name)})
    return replace(changed, jobs=tuple(map(reordered, plan.jobs))) if isinstance(plan, Group) else changed


def test_the_order_of_requirements_and_needs_changes_nothing(backend: str) -> None:
    for scenario in exact_scenarios(backend):
        assert fates(scenario, backend) == fates(replace(scenario, root=reordered(scenario.root)), backend)


def test_an_open_scheduler_that_keeps_no_jobs_ends_as_a_run(backend: str) -> None:
    """It has the body of its block, with which forever jobs end, also where a run has no other job and goes on."""
    for scenario in exact_scenarios(backend):
        if all(job.forever for job in scenario.root.jobs):
            continue
        kept, dropped = fates(scenario, backend), fates(replace(scenario, keep_jobs=False), backend)
        assert kept == {name: replace(fate, shutdowns=kept[name].shutdowns) for name, fate in dropped.items()}


@pytest.mark.parametrize("change", ["idler", "around"])
def test_more_around_it_changes_nothing(change: str, backend: str) -> None:
    for scenario in exact_scenarios(backend):
        root = scenario.root
        if root.critical_jobs is not None or root.timeout is not None or root.idle_timeout is not None:
            continue
        idler = Leaf(name="idler", forever=True, bodies=((Nap(4000.0),),))
        if change == "idler":
            changed = replace(root, jobs=(*root.jobs, idler), backwards=False)
            scenario = replace(scenario, root=replace(root, backwards=False))
        else:
            changed = Group(name="around", jobs=(replace(root, name="root"),))
        one, other = fates(scenario, backend), fates(replace(scenario, root=changed), backend)
        assert {name: other[name] for name in one} == one
