"""Section 1 of the contract: building a scenario, changing it, and asking it; nothing runs but where closing shows."""

from __future__ import annotations

import functools
import gc
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import (
    AbstractJob,
    CycleError,
    Job,
    JobState,
    MissingRequirement,
    Scheduler,
    SchedulerJob,
    Sequence,
    StopReason,
)

if TYPE_CHECKING:
    from .conftest import Virtual


async def nap(seconds: float = 1, value: Any = None) -> Any:
    await anyio.sleep(seconds)
    return value


def jobs_named(labels: str) -> list[Job[Any]]:
    return [Job(nap, label=label) for label in labels]


def edges(scheduler: Scheduler) -> set[str]:
    """Each requirement as a word: "ab" if b requires a."""
    return {requirement.label + job.label for job in scheduler for requirement in job.required}


@pytest.fixture
def no_warnings() -> Iterator[None]:
    """What the collector finds later than a test would otherwise show in the next one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


# --- requires


def test_requires_takes_jobs_sequences_none_and_collections() -> None:
    """requires takes jobs, lists at any depth, Sequences (their last job), and None; it returns the job."""
    a, b, c, d, e, f, job = jobs_named("abcdefj")
    assert job.requires(a, None, [b, [c, None]], Sequence(d, e), {f}) is job
    assert list(job.required) == [a, b, c, e, f]


def test_required_at_creation_is_requires() -> None:
    """required= at creation takes the same things."""
    a, b, c = jobs_named("abc")
    assert list(Job(nap, required=a).required) == [a]
    assert list(Job(nap, required=[a, None, (b, c)]).required) == [a, b, c]
    assert list(Job(nap, required=Sequence(a, b)).required) == [b]
    assert list(Job(nap, required=None).required) == []


def test_requires_twice_is_once() -> None:
    """What is required already is not required twice; the first place counts."""
    a, b, job = jobs_named("abj")
    job.requires(a, b, a).requires(a)
    assert list(job.required) == [a, b]


def test_requires_takes_back() -> None:
    """requires(..., remove=True) takes back; what is not required is a KeyError naming both, and changes nothing."""
    a, b, c, job = jobs_named("abcj")
    job.requires(a, b)
    with pytest.raises(KeyError, match=r"'j'.*'c'"):
        job.requires(a, c, remove=True)
    assert list(job.required) == [a, b]
    job.requires(a, remove=True)
    assert list(job.required) == [b]


@pytest.mark.parametrize("number", [3, 100])
def test_required_is_a_read_only_ordered_view(number: int) -> None:
    """required is a live set in the order of adding, be they few or many, and nothing but requires writes it."""
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


def test_requires_of_an_empty_sequence_is_nothing() -> None:
    """An empty Sequence as a requirement requires nothing."""
    assert list(Job(nap, required=Sequence()).required) == []


# --- Sequence


def test_sequence_chains_its_jobs() -> None:
    """Each job of a Sequence requires the one before; nested ones and None are taken in."""
    a, b, c, d = jobs_named("abcd")
    scheduler = Scheduler(Sequence(a, Sequence(b, None, c), d))
    assert edges(scheduler) == {"ab", "bc", "cd"}
    assert list(scheduler) == [a, b, c, d]


def test_sequence_vanishes_when_added() -> None:
    """add returns the Sequence, but the scheduler has its jobs alone."""
    a, b = jobs_named("ab")
    scheduler = Scheduler()
    sequence = Sequence(a, b)
    assert scheduler.add(sequence) is sequence
    assert list(scheduler) == [a, b]
    assert len(scheduler) == 2


def test_sequence_requires_through_its_first_job() -> None:
    """What a Sequence requires, its first job requires: at creation, by requires, and before there is a first job."""
    a, b, c, d, e = jobs_named("abcde")
    Sequence(a, b, required=c).requires(d)
    assert list(a.required) == [c, d]
    late = Sequence(required=[c])
    late.requires(d)
    late.append(e)
    assert list(e.required) == [c, d]


def test_sequence_as_requirement_is_its_last_job() -> None:
    """A Sequence that requires a Sequence links first to last."""
    a, b, c, d = jobs_named("abcd")
    Sequence(c, d, required=Sequence(a, b))
    assert list(c.required) == [b]


def test_sequence_takes_requirements_back() -> None:
    """requires(..., remove=True) of a Sequence is that of its first job."""
    a, b, c = jobs_named("abc")
    sequence = Sequence(a, b, required=c)
    sequence.requires(c, remove=True)
    assert list(a.required) == []


@pytest.mark.parametrize("filled", [False, True])
def test_sequence_adds_to_its_scheduler(filled: bool) -> None:
    """A Sequence with scheduler= adds its jobs, an empty scheduler's included, and those appended later."""
    a, b, c, other = jobs_named("abco")
    scheduler = Scheduler(other) if filled else Scheduler()
    sequence = Sequence(a, b, scheduler=scheduler)
    assert sequence.append(c) is sequence
    assert list(scheduler) == [*([other] if filled else []), a, b, c]
    assert {"ab", "bc"} == edges(scheduler)


def test_sequence_runs_in_its_order(virtual: Virtual) -> None:
    """The jobs of a Sequence run one after the other."""
    jobs = [Job(nap, 1) for _ in range(3)]
    assert virtual(Scheduler(Sequence(jobs)).co_run) is True
    assert [job.started_at for job in jobs] == [0, 1, 2]


# --- a set of jobs


def test_add_returns_the_job_and_adds_once() -> None:
    """add returns the job; adding a member again does nothing."""
    (job,) = jobs_named("a")
    scheduler = Scheduler()
    assert scheduler.add(job) is job
    assert scheduler.add(job) is job
    assert list(scheduler) == [job]
    assert job.scheduler is scheduler


def test_update_takes_what_the_constructor_takes() -> None:
    """Update adds jobs, Sequences, None and collections of these, in their order."""
    a, b, c, d = jobs_named("abcd")
    scheduler = Scheduler(None, [a], None)
    scheduler.update([Sequence(b, c), None, [d], a])
    assert list(scheduler) == [a, b, c, d]


def test_update_is_atomic() -> None:
    """If one of them is refused, none is added."""
    a, b, c = jobs_named("abc")
    Scheduler(c)
    scheduler = Scheduler()
    with pytest.raises(ValueError, match="'c'"):
        scheduler.update([a, b, c])
    assert list(scheduler) == []
    assert a.scheduler is b.scheduler is None


def test_scheduler_is_a_set() -> None:
    """in, len and iteration in insertion order; nested members are not members; an empty scheduler is true."""
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


def test_iteration_allows_changes() -> None:
    """Members may be removed while one goes through them."""
    scheduler = Scheduler(*jobs_named("abc"))
    for job in scheduler:
        scheduler.remove(job)
    assert list(scheduler) == []


def test_scheduler_option_adds_the_job() -> None:
    """scheduler= at creation adds the job, empty schedulers and nested ones included."""
    scheduler = Scheduler()
    job = Job(nap, scheduler=scheduler)
    inner = Scheduler(scheduler=scheduler)
    assert list(scheduler) == [job, inner]


def test_scheduler_job_is_the_older_name() -> None:
    """SchedulerJob is Scheduler."""
    assert SchedulerJob is Scheduler
    assert issubclass(Scheduler, AbstractJob)


def test_remove_takes_a_job_out() -> None:
    """A removed job is in no scheduler and can go into another; who required it still does, until sanitize()."""
    a, b, c = jobs_named("abc")
    scheduler = Scheduler(Sequence(a, b, c))
    scheduler.remove(b)
    assert list(scheduler) == [a, c]
    assert b.scheduler is None
    assert scheduler.rain_check() is False
    assert Scheduler().add(b) is b
    assert scheduler.sanitize() == [(c, b)]
    assert scheduler.rain_check() is True


@pytest.mark.parametrize(
    "use",
    [
        lambda scheduler, job: scheduler.remove(job),
        lambda scheduler, job: scheduler.bypass_and_remove(job),
        lambda scheduler, job: scheduler.keep_only([job]),
        lambda scheduler, job: scheduler.keep_only_between(starts=[job]),
        lambda scheduler, job: scheduler.keep_only_between(ends=[job]),
        lambda scheduler, job: scheduler.predecessors(job),
        lambda scheduler, job: scheduler.successors(job),
    ],
)
def test_stranger_is_a_key_error_that_names_it(use: Callable[[Scheduler, Any], object]) -> None:
    """Surgery and questions about a job that is no member are KeyErrors, and change nothing."""
    stranger, a, b = jobs_named("xab")
    scheduler = Scheduler(Sequence(a, b), label="home")
    with pytest.raises(KeyError, match=r"'x'.*'home'"):
        use(scheduler, stranger)
    assert list(scheduler) == [a, b]
    assert edges(scheduler) == {"ab"}


def test_keep_only_drops_the_others_and_requirements_on_them() -> None:
    """After keep_only the scenario can run."""
    a, b, c, d = jobs_named("abcd")
    scheduler = Scheduler(Sequence(a, b, c), d)
    scheduler.keep_only([a, c])
    assert list(scheduler) == [a, c]
    assert edges(scheduler) == set()
    assert b.scheduler is d.scheduler is None
    assert scheduler.rain_check() is True


GRID = ["ab", "ac", "bd", "cd", "de", "xe"]  # a diamond a-b/c-d, then e, which also requires x


def grid() -> tuple[Scheduler, dict[str, Job[Any]]]:
    jobs = {label: Job(nap, label=label) for label in "abcdexz"}
    for before, after in GRID:
        jobs[after].requires(jobs[before])
    return Scheduler(*jobs.values()), jobs


@pytest.mark.parametrize(
    ("starts", "ends", "kept"),
    [("", "", "abcdexz"), ("b", "", "bde"), ("", "d", "abcd"), ("b", "d", "bd"), ("bx", "e", "bdex"), ("d", "b", "")],
)
def test_keep_only_between(starts: str, ends: str, kept: str) -> None:
    """What remains is a start or behind one, and an end or before one, these included."""
    scheduler, jobs = grid()
    scheduler.keep_only_between(starts=[jobs[x] for x in starts], ends=[jobs[x] for x in ends])
    assert "".join(job.label for job in scheduler) == kept
    assert edges(scheduler) == {edge for edge in GRID if set(edge) <= set(kept)}
    assert scheduler.rain_check() is True


def test_bypass_and_remove_links_around() -> None:
    """Those that required the job require what it required; nobody else changes."""
    scheduler, jobs = grid()
    scheduler.bypass_and_remove(jobs["d"])
    assert edges(scheduler) == {"ab", "ac", "be", "ce", "xe"}
    assert jobs["d"] not in scheduler
    scheduler.bypass_and_remove(jobs["a"])
    assert edges(scheduler) == {"be", "ce", "xe"}
    assert scheduler.rain_check() is True


def test_sanitize_reaches_nested_schedulers() -> None:
    """sanitize drops what is not in the same scheduler, nested ones included, and returns what it dropped."""
    a, b, c, d = jobs_named("abcd")
    b.requires(a)
    inner = Scheduler(b, c)
    c.requires(b)
    d.requires(inner, b)
    outer = Scheduler(a, inner, d)
    assert outer.rain_check() is False
    assert set(outer.sanitize()) == {(b, a), (d, b)}
    assert outer.sanitize() == []
    assert list(c.required) == [b]
    assert list(d.required) == [inner]
    assert outer.rain_check() is True


# --- asking


def test_rain_check_says_whether_a_run_could_start() -> None:
    """rain_check is False for a cycle, a missing requirement, a requirement on a forever job; it never raises."""
    a, b = jobs_named("ab")
    scheduler = Scheduler(a, b)
    assert scheduler.rain_check() is True
    a.requires(b)
    b.requires(a)
    assert scheduler.rain_check() is False
    b.requires(a, remove=True)
    assert scheduler.rain_check() is True
    b.forever = True
    assert scheduler.rain_check() is False
    scheduler.remove(b)
    assert scheduler.rain_check() is False


def test_topological_order_is_stable() -> None:
    """Each job after all it requires; ties in the order added."""
    scheduler, jobs = grid()
    order = scheduler.topological_order()
    assert [job.label for job in order] == list("axzbcde")
    assert set(order) == set(jobs.values())


def test_topological_order_of_a_cycle_raises() -> None:
    """With a cycle there is no order: CycleError."""
    a, b, c = jobs_named("abc")
    Sequence(a, b, c)
    a.requires(c)
    with pytest.raises(CycleError, match=" -> "):
        Scheduler(a, b, c).topological_order()


def test_graph_questions_need_no_recursion() -> None:
    """A chain of 50,000 jobs, and 2,000 nested schedulers, are no problem for any question."""
    jobs = [Job(nap) for _ in range(50_000)]
    scheduler = Scheduler(Sequence(jobs))
    assert scheduler.topological_order() == jobs
    assert scheduler.rain_check() is True
    assert len(scheduler.keep_only_between(starts=jobs[1:2], ends=jobs[-2:-1])) == 49_998
    nested = inner = Scheduler(label="x")
    for _ in range(2_000):
        nested = Scheduler(nested, label="x")
    assert len(list(nested.iterate_jobs())) == 2_000
    assert nested.rain_check() is True
    assert inner.path.count("/") == 1_999


def test_entry_and_exit_jobs() -> None:
    """Entries require no member, exits are required by none; forever jobs are exits only on request."""
    scheduler, jobs = grid()
    monitor = scheduler.add(Job(nap, label="monitor", forever=True))
    assert list(scheduler.entry_jobs()) == [jobs["a"], jobs["x"], jobs["z"], monitor]
    assert list(scheduler.exit_jobs()) == [jobs["e"], jobs["z"]]
    assert list(scheduler.exit_jobs(discard_forever=False)) == [jobs["e"], jobs["z"], monitor]


def test_predecessors_and_successors() -> None:
    """The direct ones of some jobs together, without duplicates."""
    scheduler, jobs = grid()
    assert set(scheduler.predecessors(jobs["d"], jobs["e"])) == {jobs[x] for x in "bcdx"}
    assert set(scheduler.successors(jobs["a"], jobs["b"])) == {jobs[x] for x in "bcd"}
    assert set(scheduler.predecessors(jobs["a"])) == set()
    assert set(scheduler.successors(jobs["e"])) == set()
    assert set(scheduler.predecessors()) == set()


def test_iterate_jobs_goes_into_nested_schedulers() -> None:
    """iterate_jobs yields all jobs, nested ones on request; the nested schedulers themselves are jobs, too."""
    a, b, c, d = jobs_named("abcd")
    deepest = Scheduler(c)
    inner = Scheduler(b, deepest)
    outer = Scheduler(a, inner, d)
    assert set(outer.iterate_jobs()) == {a, b, c, d, inner, deepest}
    assert len(list(outer.iterate_jobs())) == 6
    assert list(outer.iterate_jobs(nested=False)) == [a, inner, d]


def test_path_goes_from_the_outermost_scheduler_in() -> None:
    """A path is made of the labels from the outermost scheduler in, made unique by an ordinal."""
    same, again, other = Job(nap, label="x"), Job(nap, label="x"), Job(nap, label="y/z")
    inner, twin = Scheduler(same, again, other, label="in"), Scheduler(label="in")
    deep = Job(nap, label="x", scheduler=twin)
    outer = Scheduler(inner, twin, label="out")
    paths = [job.path for job in outer.iterate_jobs()]
    assert len(set(paths)) == len(paths) == 6
    assert inner.path in same.path
    assert same.path != again.path
    assert same.path.split("/")[-1] == "x"
    assert "y/z" not in other.path
    assert deep.path != same.path


# --- coroutines that never run


def test_coroutine_is_closed_with_its_job(no_warnings: None) -> None:
    """A coroutine object whose job is thrown away is closed with it, without a warning."""
    coroutine = nap()
    job = Job(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
    del job
    gc.collect()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_coroutine_in_a_reference_cycle_is_closed_without_a_warning(no_warnings: None) -> None:
    """Nor is there a warning where jobs, schedulers and coroutines form reference cycles."""

    async def refers(thing: object) -> None:
        await anyio.sleep(1)

    def build() -> None:
        box: list[Any] = []
        scheduler = Scheduler(Job(refers(box)), Job(nap()))
        box.append(scheduler)
        first, second = Job(refers(box), label="1"), Job(nap(), label="2")
        first.requires(second)
        second.requires(first)
        box.extend([first, second])

    build()
    gc.collect()


def test_coroutine_is_closed_with_its_scheduler(no_warnings: None) -> None:
    """close() of a scheduler closes the coroutines of jobs at any depth inside."""
    coroutines = [nap(), nap(), nap()]
    jobs = [Job(coroutine) for coroutine in coroutines]
    scheduler = Scheduler(jobs[0], Scheduler(jobs[1], Scheduler(jobs[2])))
    scheduler.close()
    assert [inspect.getcoroutinestate(coroutine) for coroutine in coroutines] == [inspect.CORO_CLOSED] * 3
    assert all(job.is_idle() for job in jobs)


def test_coroutine_is_closed_by_close(no_warnings: None) -> None:
    """close() of a job closes its coroutine; twice is no harm."""
    coroutine = nap()
    job = Job(coroutine)
    job.close()
    job.close()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_close_leaves_results_readable(virtual: Virtual) -> None:
    """After close() results are still there."""
    job = Job(nap(1, "value"))
    scheduler = Scheduler(job)
    assert virtual(scheduler.co_run) is True
    scheduler.close()
    scheduler.close()
    assert job.result() == "value"
    assert scheduler.stop_reason is StopReason.COMPLETED


def test_coroutine_of_a_cancelled_job_is_closed_without_a_warning(virtual: Virtual, no_warnings: None) -> None:
    """Coroutines of jobs that a run never came to, or that were cancelled before, leave no warning."""

    async def fail() -> None:
        raise OSError

    scheduler = Scheduler(Job(fail, critical=True), Job(nap()), Job(nap(), required=Job(nap())), jobs_window=1)
    scheduler.sanitize()
    assert virtual(scheduler.co_run) is False


def test_validation_error_consumes_no_coroutine(virtual: Virtual, no_warnings: None) -> None:
    """After a validation error the same coroutine objects run once the graph is mended."""
    stray, job = Job(nap(1, 1)), Job(nap(1, 2))
    job.requires(stray)
    scheduler = Scheduler(job)
    with pytest.raises(MissingRequirement):
        virtual(scheduler.co_run)
    scheduler.add(stray)
    assert virtual(scheduler.co_run) is True
    assert (stray.result(), job.result()) == (1, 2)


# --- kinds of callables


class AsyncCall:
    async def __call__(self, value: int) -> int:
        return value

    async def method(self, value: int) -> int:
        return value

    @classmethod
    async def of_class(cls, value: int) -> int:
        return value

    @staticmethod
    async def static(value: int) -> int:
        return value


async def echo(value: int, *, plus: int = 0) -> int:
    return value + plus


@pytest.mark.parametrize(
    "function",
    [
        echo,
        lambda value: echo(value),
        functools.partial(echo, plus=0),
        AsyncCall(),
        AsyncCall().method,
        AsyncCall.of_class,
        AsyncCall.static,
        functools.partial(AsyncCall().method),
    ],
)
def test_job_takes_any_async_callable(virtual: Virtual, function: Callable[[int], Any]) -> None:
    """Async functions, methods, lambdas, partials and callable objects are called at each start."""
    job = Job(function, 42)
    scheduler = Scheduler(job)
    for _ in range(2):
        assert virtual(functools.partial(scheduler.co_run, check=True)) is True
        assert job.result() == 42


def test_job_passes_arguments(virtual: Virtual) -> None:
    """args are positional, kwargs= a mapping."""
    job = Job(echo, 40, kwargs={"plus": 2})
    virtual(Scheduler(job).co_run)
    assert job.result() == 42


def test_job_calls_at_the_start_not_before(virtual: Virtual) -> None:
    """The callable is called when the job starts, at each start."""
    calls: list[float] = []

    def make() -> Any:
        calls.append(anyio.current_time())
        return nap()

    first = Job(nap, 2)
    scheduler = Scheduler(first, Job(lambda: make(), required=first))
    assert calls == []
    virtual(scheduler.co_run)
    virtual(scheduler.co_run)
    assert calls == [2, 2]


def test_default_labels_say_what_is_called() -> None:
    """A default label is Job[name (...)]; label= replaces it."""
    coroutine = nap()
    job = Job(coroutine)
    assert Job(nap).label == "Job[nap (...)]"
    assert job.label == "Job[nap (...)]"
    job.close()
    assert job.label == "Job[nap (...)]"
    assert Job(nap, label="mine").label == "mine"
    assert Scheduler(label="all").label == "all"


# --- subclasses


class Copy(AbstractJob[str]):
    """Uses names that an engine might want for itself."""

    def __init__(self, source: str, **options: Any) -> None:
        super().__init__(**options)
        self.source = source
        self.name = "copy"
        self.task = self.run = self.worker = self.args = self.function = self.kwargs = self.pending = None
        self.started = self.outcome = self.value = self.exception = self.successors = self.limits = None

    async def co_run(self) -> str:
        await anyio.sleep(1)
        return self.source.upper()


def test_subclass_of_abstract_job(virtual: Virtual) -> None:
    """A subclass defines co_run, and uses any public attribute names that AbstractJob does not define."""
    job = Copy("source", label="copy", timeout=5)
    assert virtual(functools.partial(Scheduler(job).co_run, check=True)) is True
    assert job.result() == "SOURCE"
    assert (job.label, job.timeout, job.name) == ("copy", 5, "copy")


def test_subclass_of_job_overrides_co_run(virtual: Virtual) -> None:
    """A subclass of Job may wrap co_run."""

    class Twice(Job[int]):
        async def co_run(self) -> int:
            return 2 * await super().co_run()

    job = Twice(echo, 21)
    assert virtual(Scheduler(job).co_run) is True
    assert job.result() == 42


def test_subclass_of_scheduler_overrides_co_run(virtual: Virtual) -> None:
    """A subclass of Scheduler may wrap co_run, nested too."""

    class Prepared(Scheduler):
        async def co_run(self, **options: Any) -> bool:
            await anyio.sleep(1)
            return await super().co_run(**options)

    job = Job(nap, 1, "done")
    inner = Prepared(job)
    assert virtual(Scheduler(inner).co_run) is True
    assert job.started_at == 1
    assert inner.result() is True


def test_jobs_compare_by_identity() -> None:
    """Jobs are identity objects: equal looks make no equal jobs."""
    a, b = Job(nap, label="x"), Job(nap, label="x")
    assert a != b
    assert len({a, b}) == 2
    assert "x" in repr(a)
    assert "idle" in repr(a)


def test_options_are_readable() -> None:
    """Each option can be asked for."""
    job = Job(nap, critical=True, timeout=5, on_timeout="restart", restarts=2, own_task=True, forever=True)
    assert (job.critical, job.timeout, job.on_timeout, job.restarts) == (True, 5, "restart", 2)
    assert (job.own_task, job.forever) == (True, True)
    plain = Job(nap)
    assert (plain.critical, plain.timeout, plain.on_timeout, plain.restarts) == (None, None, "fail", None)
    assert (plain.own_task, plain.forever) == (False, False)
    assert plain.state is JobState.IDLE


def test_abstract_job_is_the_same_in_both_places() -> None:
    """AbstractJob is exported from trioflow and from trioflow.abc: one class."""
    import trioflow.abc

    assert trioflow.abc.AbstractJob is AbstractJob
