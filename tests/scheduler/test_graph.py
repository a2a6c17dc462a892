"""Queries about a scenario: whether it can run, in which order, and what comes before and after a job."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import AbstractJob, CycleError, Job, Scheduler, Sequence
from trioflow._core.job import _labels
from trioflow._core.words._job_queries import counted_requirements, cut_requirements, settled_only_for
from trioflow.abc import enclosing_schedulers
from trioflow.graph import entry_jobs, exit_jobs, keep_only, predecessors, successors, topological_order
from ..bodies import grid, jobs_named, nap


def test_is_runnable_is_false_for_a_graph_that_cannot_run() -> None:
    """`is_runnable()` is False, and never raises, for a cycle, a missing requirement or a required forever job."""
    a, b = jobs_named("ab")
    scheduler = Scheduler(a, b)
    assert scheduler.is_runnable() is True
    a.requires(b)
    b.requires(a)
    assert scheduler.is_runnable() is False
    b.requires(a, remove=True)
    assert scheduler.is_runnable() is True
    b.forever = True
    assert scheduler.is_runnable() is False
    scheduler.remove(b)
    assert scheduler.is_runnable() is False


def test_topological_order_is_stable() -> None:
    """In `topological_order()` each job comes after all that it requires; ties are in the order of adding."""
    scheduler, jobs = grid()
    order = topological_order(scheduler)
    assert [job.label for job in order] == list("axzbcde")
    assert set(order) == set(jobs.values())


def test_topological_order_of_a_cycle_raises() -> None:
    a, b, c = jobs_named("abc")
    Sequence(a, b, c)
    a.requires(c)
    with pytest.raises(CycleError, match=" requires "):
        topological_order(Scheduler(a, b, c))


def test_graph_queries_need_no_recursion() -> None:
    """Queries work for a chain of 3,000 jobs and for 1,200 nested schedulers, without recursion."""
    jobs = [Job(nap) for _ in range(3_000)]
    scheduler = Scheduler(Sequence(jobs))
    assert topological_order(scheduler) == jobs
    assert scheduler.is_runnable() is True
    nested = inner = Scheduler(label="x")
    for _ in range(1_200):
        nested = Scheduler(nested, label="x")
    assert len(list(nested.iterate_jobs())) == 1_200
    assert nested.is_runnable() is True
    assert inner.path.count("/") == 1_199


def test_entry_jobs_require_no_member_and_exit_jobs_are_required_by_none() -> None:
    scheduler, jobs = grid()
    monitor = scheduler.add(Job(nap, label="monitor", forever=True))
    assert list(entry_jobs(scheduler)) == [jobs["a"], jobs["x"], jobs["z"], monitor]
    assert list(exit_jobs(scheduler)) == [jobs["e"], jobs["z"]]
    assert list(exit_jobs(scheduler, discard_forever=False)) == [jobs["e"], jobs["z"], monitor]


def test_predecessors_and_successors_are_the_direct_ones_without_duplicates() -> None:
    scheduler, jobs = grid()
    assert set(predecessors(scheduler, jobs["d"], jobs["e"])) == {jobs[x] for x in "bcdx"}
    assert set(successors(scheduler, jobs["a"], jobs["b"])) == {jobs[x] for x in "bcd"}
    assert set(predecessors(scheduler, jobs["a"])) == set()
    assert set(successors(scheduler, jobs["e"])) == set()
    assert set(predecessors(scheduler)) == set()


def test_iterate_jobs_goes_into_nested_schedulers() -> None:
    a, b, c, d = jobs_named("abcd")
    deepest = Scheduler(c)
    inner = Scheduler(b, deepest)
    outer = Scheduler(a, inner, d)
    assert set(outer.iterate_jobs()) == {a, b, c, d, inner, deepest}
    assert len(list(outer.iterate_jobs())) == 6
    assert list(outer.iterate_jobs(nested=False)) == [a, inner, d]


def test_paths_of_many_equal_labels_cost_no_more_than_others() -> None:
    """For equal labels the next ordinal is remembered: a search for each of 20,000 jobs would take minutes."""
    scheduler = Scheduler(Job(nap, label="same") for _ in range(20_000))
    found = _labels.paths_of(scheduler)
    assert len(set(found.values())) == 20_000
    last = list(scheduler)[-1]
    assert found[last] == last.path == "same#20000"


def test_path_is_made_of_labels_from_the_outermost_scheduler_inwards() -> None:
    same, again, other = Job(nap, label="x"), Job(nap, label="x"), Job(nap, label="y/z")
    inner, twin = Scheduler(same, again, other, label="in"), Scheduler(label="in")
    deep = Job(nap, label="x", scheduler=twin)
    outer = Scheduler(inner, twin, label="out")
    paths = [job.path for job in outer.iterate_jobs()]
    assert len(set(paths)) == len(paths) == 6
    assert inner.path in same.path
    assert same.path != again.path
    assert same.path.split("/")[-1] == "x"
    assert other.path == "in/y\\/z"
    assert deep.path != same.path


LABELS = st.text("ab/\\#2 \n\ud800é", max_size=5)
TREES = st.recursive(LABELS, lambda inner: st.tuples(LABELS, st.lists(inner, max_size=4)), max_leaves=12)


@given(TREES, st.lists(LABELS, max_size=4))
def test_no_two_jobs_have_the_same_path(tree: Any, labels: list[str]) -> None:
    """Whatever the labels and order of jobs and schedulers, all paths differ, also printed, and are so in all views."""
    scheduler = Scheduler(built(("", [tree, *labels])))
    found = _labels.paths_of(scheduler)
    spellings = [{path, _labels.printable(path)} for path in found.values()]
    assert len(set[str]().union(*spellings)) == sum(map(len, spellings))
    assert [job.path for job in found] == list(found.values())


@given(TREES, TREES)
def test_jobs_of_two_scenarios_with_one_path_have_the_same_labels(one: Any, other: Any) -> None:
    """A path alone, whatever else is in its scenario, tells the labels of the job and of the schedulers around it."""
    known: dict[str, list[str]] = {}
    for tree in (one, other):
        scheduler = Scheduler(built(tree), label="all")
        for job, path in _labels.paths_of(scheduler).items():
            labels = [each.label for each in (job, *enclosing_schedulers(job))]
            assert known.setdefault(path, labels) == labels


def built(tree: Any) -> AbstractJob[Any]:
    if isinstance(tree, str):
        return Job(nap, label=tree)
    label, inside = tree
    return Scheduler(map(built, inside), label=label)


def test_keep_only_remembers_all_the_requirements_that_it_has_cut() -> None:
    a, b, c = (Job(nap, label=label) for label in "abc")
    last = Job(nap, required=[a, b, c])
    scheduler = Scheduler(a, b, c, last)
    keep_only(scheduler, [c, last])
    assert cut_requirements(last) == [a, b]
    keep_only(scheduler, [last])
    assert (cut_requirements(last), [*last.required]) == ([a, b, c], [])


def test_the_first_job_of_a_sequence_takes_what_was_said_while_there_was_none() -> None:
    """Also that it waits only for the end of a requirement, or that the order alone counts."""
    plain, settled, ordered = Job(nap), Job(nap), Job(nap)
    sequence = Sequence(required=plain)
    sequence.requires(settled, settled=True).requires(ordered, order_only=True)
    sequence.append(job := Job(nap), other := Job(nap))
    assert [*job.required] == [plain, settled, ordered]
    assert (settled_only_for(job), counted_requirements(job)) == ([settled], [plain, settled])
    assert [*other.required] == [job]
