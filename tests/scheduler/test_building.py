"""Building a scenario, changing it and asking about it; nothing runs."""

import functools
import re
from collections.abc import Callable
from typing import Any
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import AbstractJob, CycleError, Job, Scheduler, Sequence
from trioflow._core.job import _labels
from trioflow._core.words._job_queries import (
    counted_requirements,
    cut_requirements,
    settled_only_for,
)
from trioflow.abc import enclosing_schedulers
from trioflow.graph import (
    entry_jobs,
    exit_jobs,
    keep_only,
    predecessors,
    successors,
    topological_order,
)
from ..bodies import edges, fail, grid, jobs_named, nap
from ..conftest import Virtual


# --- requires
def test_requires_takes_jobs_sequences_none_and_collections() -> None:
    """A requirement that is added twice is kept once."""
    a, b, c, d, e, f, job = jobs_named("abcdefj")
    assert job.requires(a, None, [b, [c, None]], Sequence(d, e), {f}) is job
    job.requires(a, b, a).requires(a)
    assert list(job.required) == [a, b, c, e, f]


def test_required_option_accepts_the_same_arguments_as_requires() -> None:
    a, b, c = jobs_named("abc")
    assert list(Job(nap, required=a).required) == [a]
    assert list(Job(nap, required=[a, None, (b, c)]).required) == [a, b, c]
    assert list(Job(nap, required=Sequence(a, b)).required) == [b]
    assert list(Job(nap, required=Sequence()).required) == []
    assert list(Job(nap, required=None).required) == []


def test_requires_with_remove_removes_a_requirement() -> None:
    a, b, c, job = jobs_named("abcj")
    job.requires(a, b)
    with pytest.raises(KeyError, match=r"'j'.*'c'"):
        job.requires(a, c, remove=True)
    assert list(job.required) == [a, b]
    with pytest.raises(TypeError, match="remove='no' of 'j'"):
        job.requires(a, remove="no")  # type: ignore[arg-type]
    job.requires(a, remove=True)
    assert list(job.required) == [b]


@pytest.mark.parametrize("number", [3, 100])
def test_required_is_a_read_only_ordered_view(number: int) -> None:
    """`required` is a live set in the order of adding, of any size, and only `requires` changes it."""
    others = [Job(nap, label=str(i)) for i in range(number)]
    job = Job(nap)
    view = job.required
    job.requires(reversed(others))
    assert list(view) == others[::-1]
    assert len(view) == number
    assert others[0] in view
    assert job not in view
    assert view == set(others)
    assert not hasattr(view, "add")
    assert not hasattr(view, "remove")
    with pytest.raises(AttributeError):
        job.required = set()  # type: ignore[misc,assignment]
    job.requires(others[1], remove=True)
    assert others[1] not in view
    assert view | {job} == {*others, job} - {others[1]}
    job.requires(others[1])
    assert list(view)[-1] is others[1]


# --- Sequence
def test_sequence_chains_its_jobs() -> None:
    """Each job of a Sequence requires the one before; nested Sequences are flattened, and None is left out."""
    a, b, c, d = jobs_named("abcd")
    scheduler = Scheduler(Sequence(a, Sequence(b, None, c), d))
    assert edges(scheduler) == {"ab", "bc", "cd"}
    assert list(scheduler) == [a, b, c, d]


def test_update_accepts_the_same_arguments_as_the_constructor() -> None:
    """Jobs, Sequences, None and collections of these, in their order. Of a Sequence the scheduler has the jobs."""
    a, b, c, d, e, f = jobs_named("abcdef")
    scheduler = Scheduler(None, [a], None)
    scheduler.update([Sequence(b, c), None, [d], a])
    sequence = Sequence(e, f)
    assert scheduler.add(sequence) is sequence
    assert list(scheduler) == [a, b, c, d, e, f]
    assert len(scheduler) == 6


def test_sequence_requires_through_its_first_job_and_is_required_by_its_last() -> None:
    a, b, c, d, e = jobs_named("abcde")
    sequence = Sequence(a, b, required=c).requires(d)
    assert list(a.required) == [c, d]
    sequence.requires(c, remove=True)
    assert list(a.required) == [d]
    late = Sequence(required=[c, sequence])
    late.requires(d)
    late.append(e)
    assert list(e.required) == [c, b, d]


def test_what_requires_a_sequence_requires_the_job_that_is_last_then() -> None:
    """A job that is appended later is none of its requirements, unless the sequence is required again."""
    a, b, c, before, after = jobs_named("abcde")
    sequence = Sequence(a, b)
    before.requires(sequence)
    sequence.append(c)
    after.requires(sequence)
    assert (list(before.required), list(after.required)) == ([b], [c])
    assert list(before.requires(sequence).required) == [b, c]


@pytest.mark.parametrize("is_empty", [True, False])
def test_what_a_sequence_requires_may_only_have_to_settle(
    virtual: Virtual, is_empty: bool
) -> None:
    bad, other, job = (
        Job(fail, label="bad"),
        Job(nap, label="other"),
        Job(nap, label="job"),
    )
    sequence = Sequence(required=other) if is_empty else Sequence(job, required=other)
    sequence.requires(bad, settled=True)
    if is_empty:
        sequence.append(job)
    assert virtual(Scheduler(bad, other, sequence).co_run) is False
    assert list(job.required) == [other, bad]
    assert job.is_succeeded()


@pytest.mark.parametrize("value", [None, [], "", 2, "yes"])
@pytest.mark.parametrize("option", ["settled", "remove", "order_only"])
def test_flags_of_requires_are_bools(option: str, value: Any) -> None:
    a, b = jobs_named("ab")
    empty = Sequence()
    for subject in (b, Sequence(b), empty):
        with pytest.raises(
            TypeError,
            match=f"{option}={re.escape(repr(value))} of '.*': give True or False",
        ):
            subject.requires(a, **{option: value})
    empty.append(b)
    assert list(b.required) == []


@pytest.mark.parametrize("filled", [False, True])
def test_sequence_adds_to_its_scheduler(filled: bool) -> None:
    a, b, c, other = jobs_named("abco")
    scheduler = Scheduler(other) if filled else Scheduler()
    sequence = Sequence(a, b, scheduler=scheduler)
    assert sequence.append(c) is sequence
    assert list(scheduler) == [*([other] if filled else []), a, b, c]
    assert {"ab", "bc"} == edges(scheduler)


def test_sequence_runs_in_its_order(virtual: Virtual) -> None:
    jobs = [Job(nap, 1) for _ in range(3)]
    assert virtual(Scheduler(Sequence(jobs)).co_run) is True
    assert [job.started_at for job in jobs] == [0, 1, 2]


# --- a set of jobs
def test_add_returns_the_job_and_adds_it_once() -> None:
    (job,) = jobs_named("a")
    scheduler = Scheduler()
    assert scheduler.add(job) is job
    assert scheduler.add(job) is job
    by_option, inner = Job(nap, scheduler=scheduler), Scheduler(scheduler=scheduler)
    assert list(scheduler) == [job, by_option, inner]
    assert job.scheduler is scheduler


def test_update_is_atomic() -> None:
    a, b, c = jobs_named("abc")
    Scheduler(c)
    scheduler = Scheduler()
    with pytest.raises(ValueError, match="'c'"):
        scheduler.update([a, b, c])
    assert list(scheduler) == []
    assert a.scheduler is b.scheduler is None


def test_scheduler_is_an_ordered_set_of_its_members() -> None:
    """A scheduler is a set of its members in the order of adding, without nested jobs; even an empty one is true."""
    a, b, c = jobs_named("abc")
    inner = Scheduler(c)
    scheduler = Scheduler(b, a, inner)
    assert a in scheduler
    assert inner in scheduler
    assert c not in scheduler
    assert 42 not in scheduler
    assert len(scheduler) == 3
    assert list(scheduler) == [b, a, inner]
    assert bool(Scheduler()) is True
    assert bool(Sequence()) is True
    assert len(Scheduler()) == 0


def test_members_may_be_removed_during_iteration() -> None:
    scheduler = Scheduler(*jobs_named("abc"))
    for job in scheduler:
        scheduler.remove(job)
    assert list(scheduler) == []


def test_removed_job_can_be_added_to_another_scheduler() -> None:
    """A removed job can be added to another scheduler; jobs that require it still do, until `sanitize()`."""
    a, b, c = jobs_named("abc")
    scheduler = Scheduler(Sequence(a, b, c))
    scheduler.remove(b)
    assert list(scheduler) == [a, c]
    assert b.scheduler is None
    assert scheduler.is_runnable() is False
    assert Scheduler().add(b) is b
    assert scheduler.sanitize() == [(c, b)]
    assert scheduler.is_runnable() is True


@pytest.mark.parametrize(
    "use",
    [
        lambda scheduler, job: scheduler.remove(job),
        lambda scheduler, job: keep_only(scheduler, [job]),
        lambda scheduler, job: predecessors(scheduler, job),
        lambda scheduler, job: successors(scheduler, job),
    ],
    ids=["remove", "keep_only", "predecessors", "successors"],
)
def test_a_call_with_a_job_that_is_not_a_member_raises_key_error(
    use: Callable[[Scheduler, Any], object],
) -> None:
    stranger, a, b = jobs_named("xab")
    scheduler = Scheduler(Sequence(a, b), label="home")
    with pytest.raises(KeyError, match=r"'x'.*'home'"):
        use(scheduler, stranger)
    assert list(scheduler) == [a, b]
    assert edges(scheduler) == {"ab"}


def test_keep_only_drops_the_others_and_requirements_on_them() -> None:
    a, b, c, d = jobs_named("abcd")
    scheduler = Scheduler(Sequence(a, b, c), d)
    keep_only(scheduler, [a, c])
    assert list(scheduler) == [a, c]
    assert edges(scheduler) == set()
    assert b.scheduler is d.scheduler is None
    assert scheduler.is_runnable() is True


def test_sanitize_reaches_nested_schedulers() -> None:
    """`sanitize()` drops and returns requirements across schedulers, in nested schedulers as well."""
    a, b, c, d = jobs_named("abcd")
    b.requires(a)
    inner = Scheduler(b, c)
    c.requires(b)
    d.requires(inner, b)
    outer = Scheduler(a, inner, d)
    assert outer.is_runnable() is False
    assert set(outer.sanitize()) == {(b, a), (d, b)}
    assert outer.sanitize() == []
    assert list(c.required) == [b]
    assert list(d.required) == [inner]
    assert outer.is_runnable() is True


# --- queries: whether it can run, in which order, and what comes before and after a job
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
    assert list(exit_jobs(scheduler, discard_forever=False)) == [
        jobs["e"],
        jobs["z"],
        monitor,
    ]


def test_predecessors_and_successors_are_the_direct_ones_without_duplicates() -> None:
    scheduler, jobs = grid()
    assert set(predecessors(scheduler, jobs["d"], jobs["e"])) == {
        jobs[x] for x in "bcdx"
    }
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
TREES = st.recursive(
    LABELS, lambda inner: st.tuples(LABELS, st.lists(inner, max_size=4)), max_leaves=12
)


@given(TREES, st.lists(LABELS, max_size=4))
def test_no_two_jobs_have_the_same_path(tree: Any, labels: list[str]) -> None:
    """Whatever the labels and order of jobs and schedulers, all paths differ, also printed, and are so in all views."""
    scheduler = Scheduler(built(("", [tree, *labels])))
    found = _labels.paths_of(scheduler)
    spellings = [{path, _labels.printable(path)} for path in found.values()]
    assert len(set[str]().union(*spellings)) == sum(map(len, spellings))
    assert [job.path for job in found] == list(found.values())


@given(TREES, TREES)
def test_jobs_of_two_scenarios_with_one_path_have_the_same_labels(
    one: Any, other: Any
) -> None:
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
    assert (settled_only_for(job), counted_requirements(job)) == (
        [settled],
        [plain, settled],
    )
    assert [*other.required] == [job]


def test_a_scheduler_is_closed_however_deep_its_groups_are() -> None:
    group = Scheduler(Job(nap))
    outermost = functools.reduce(lambda inner, _: Scheduler(inner), range(1200), group)
    outermost.close()
    with pytest.raises(RuntimeError, match="is closed"):
        group.add(Job(nap))
