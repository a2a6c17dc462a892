"""Bad use, graphs that cannot run, bad input: the error says what to do, and nothing is consumed."""

import asyncio
import functools
import math
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
import trioflow
from trioflow import (
    AbstractJob,
    CycleError,
    Job,
    JobTimeout,
    Pool,
    Retry,
    Scheduler,
    Sequence,
    StopReason,
    job,
)
from trioflow._core.base._text_forms import short_repr
from trioflow._core.scheduler import _awaiting, _checks
from trioflow.graph import keep_only
from ..bodies import Flaw, at_once, crash, fail_now, in_threads, nap, notes, nothing
from ..conftest import Virtual


# --- where and when it may run
def test_run_inside_a_running_loop_raises_and_names_co_run(virtual: Virtual) -> None:
    scheduler = Scheduler(Job(nap(), label="once"), label="home")

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"'home'.*await scheduler\.co_run\(\)"):
            scheduler.run(backend=virtual.backend)  # type: ignore[arg-type]
        assert await scheduler.co_run()

    virtual(main)


def test_warning_about_a_co_run_never_awaited_has_the_public_name() -> None:
    """Python's warning about a coroutine that was never awaited names Scheduler, not the class behind it."""
    never_awaited = Scheduler().co_run()
    assert never_awaited.__qualname__ == "Scheduler.co_run"
    never_awaited.close()


def test_run_in_a_thread_of_a_running_loop_is_allowed(virtual: Virtual) -> None:
    """`run()` works in a worker thread, which has no running loop, whatever context variables it inherited."""
    scheduler = Scheduler(Job(nap, 0))

    async def main() -> bool:
        return await anyio.to_thread.run_sync(
            lambda: scheduler.run(backend=virtual.backend)
        )  # type: ignore[arg-type]

    assert virtual(main) is True


def test_second_concurrent_run_raises_and_does_not_disturb_the_first(
    virtual: Virtual,
) -> None:
    job = Job(nap, 1, "fine")
    scheduler = Scheduler(job, label="home")

    async def second() -> None:
        await anyio.sleep(0.5)
        advice = (
            "wait for that run to end, or build one for each run, as for each request"
        )
        with pytest.raises(RuntimeError, match=f"'home' is already running; {advice}"):
            await scheduler.co_run()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second)
            assert await scheduler.co_run() is True

    virtual(main)
    assert job.result() == "fine"


def test_job_cannot_run_its_own_scheduler(virtual: Virtual) -> None:
    job = Job(lambda: scheduler.co_run())
    scheduler = Scheduler(job, label="home")
    assert virtual(scheduler.co_run) is False
    with pytest.raises(RuntimeError, match="'home' is already running"):
        job.result()


def test_co_run_of_a_nested_scheduler_during_the_outer_run_raises(
    virtual: Virtual,
) -> None:
    inner = Scheduler(Job(nap), label="inner")

    async def meddle() -> None:
        with pytest.raises(RuntimeError, match=r"'inner'.*'outer'"):
            await inner.co_run()

    meddler = Job(meddle)
    inner.requires(meddler)
    assert (
        virtual(
            functools.partial(
                Scheduler(meddler, inner, label="outer").co_run, check=True
            )
        )
        is True
    )
    assert inner.stop_reason is StopReason.COMPLETED


def test_closed_scheduler_rejects_runs_and_jobs(virtual: Virtual) -> None:
    scheduler = Scheduler(Job(nap), label="home")
    scheduler.close()
    with pytest.raises(RuntimeError, match="'home' is closed"):
        virtual(scheduler.co_run)
    with pytest.raises(RuntimeError, match="'home' is closed"):
        scheduler.add(Job(nap))


def test_cancel_outside_a_run_raises(virtual: Virtual) -> None:
    job = Job(nap, label="idle")
    scheduler = Scheduler(job, label="home")
    with pytest.raises(RuntimeError, match="'idle'"):
        job.cancel()
    assert virtual(scheduler.co_run)
    with pytest.raises(RuntimeError, match="'home'"):
        scheduler.cancel()


# --- the other library
async def on_asyncio_only() -> None:
    await asyncio.sleep(1)


async def on_asyncio_only_by_yield() -> None:
    await asyncio.sleep(0)


async def on_trio_only() -> None:
    await trio.sleep(1)


async def on_trio_only_by_yield() -> None:
    await trio.lowlevel.cancel_shielded_checkpoint()


FOREIGN = {
    "trio": ("asyncio", [on_asyncio_only, on_asyncio_only_by_yield]),
    "asyncio": ("trio", [on_trio_only, on_trio_only_by_yield]),
}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("one_shot", [False, True])
def test_job_of_the_other_library_fails_with_a_note(
    virtual: Virtual, number: int, one_shot: bool
) -> None:
    library, functions = FOREIGN[virtual.backend]
    function = functions[number]
    job = Job(function() if one_shot else function, label="foreign")
    bystander = Job(nap, 1, "fine")
    assert virtual(Scheduler(job, bystander).co_run) is False
    assert job.state is trioflow.JobState.FAILED
    assert "'foreign'" in notes(job.raised_exception())
    assert f'backend="{library}"' in notes(job.raised_exception())
    assert bystander.result() == "fine"


def test_limiter_of_the_other_library_is_rejected(virtual: Virtual) -> None:
    job = Job(nap())
    scheduler = Scheduler(job, label="home")

    async def make() -> anyio.CapacityLimiter:
        limiter = anyio.CapacityLimiter(2)
        assert limiter.available_tokens == 2
        return limiter

    other = "asyncio" if virtual.backend == "trio" else "trio"
    limiters: list[Any] = [anyio.run(make, backend=other)]
    if virtual.backend == "asyncio":
        limiters.append(trio.CapacityLimiter(2))
    for limiter in limiters:
        with pytest.raises(TypeError, match=r"'home'.*CapacityLimiter"):
            virtual(functools.partial(scheduler.co_run, jobs_window=limiter))
    assert job.is_idle()
    scheduler.close()


# --- changes while it runs


CHANGES: dict[str, Callable[[Scheduler, Any], object]] = {
    "remove": lambda scheduler, job: scheduler.remove(job),
    "keep_only": lambda scheduler, job: keep_only(scheduler, [job]),
    "sanitize": lambda scheduler, job: scheduler.sanitize(),
    "close": lambda scheduler, job: scheduler.close(),
    "requires": lambda scheduler, job: job.requires(*job.required, remove=True),
    "forever": lambda scheduler, job: setattr(job, "forever", True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_of_a_running_scheduler_raises(virtual: Virtual, change: str) -> None:
    """Removing jobs or requirements, `close()` and similar changes raise during a run, and change nothing."""
    first = Job(nap, label="first")
    last = Job(nap, label="last", required=first)

    async def meddle() -> None:
        with pytest.raises(RuntimeError, match=change):
            CHANGES[change](scheduler, last)

    meddler = Job(meddle)
    scheduler = Scheduler(first, last, meddler)
    assert virtual(functools.partial(scheduler.co_run, check=True)) is True
    assert list(scheduler) == [first, last, meddler]
    assert list(last.required) == [first]
    assert last.is_done()


def test_asyncio_run_works_while_another_thread_imports_trio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run on asyncio works while another thread imports trio, although that module lacks its parts at that moment."""
    monkeypatch.setitem(sys.modules, "trio", types.ModuleType("trio"))
    job = Job(nothing)
    assert Scheduler(job).run(backend="asyncio") is True


# --- Graphs that cannot run: the error names the jobs and the remedy; and nothing is consumed
# --- the graph
def test_cycle_is_rejected_before_anything_starts(virtual: Virtual) -> None:
    a, b = Job(nap(), label="a"), Job(nap(), label="b")
    other = Job(nap(), label="other")
    a.requires(b)
    b.requires(a)
    scheduler = Scheduler(other, a, b)
    with pytest.raises(
        CycleError, match=r"a requires b requires a|b requires a requires b"
    ) as caught:
        virtual(scheduler.co_run)
    assert set(caught.value.cycle) == {a, b}
    assert "requires(..., remove=True)" in str(caught.value)
    assert all(job.is_idle() for job in scheduler)
    a.requires(b, remove=True)
    assert virtual(scheduler.co_run) is True


def test_cycle_error_shows_the_cycle_along_the_requirements() -> None:
    a, b, c = (Job(nap, label=label) for label in "abc")
    Sequence(a, b, c)
    a.requires(c)
    with pytest.raises(CycleError) as caught:
        Scheduler(a, b, c).run()
    cycle = caught.value.cycle
    assert all(
        after in job.required
        for job, after in zip(cycle, (*cycle[1:], cycle[0]), strict=True)
    )
    assert " requires ".join(job.label for job in (*cycle, cycle[0])) in str(
        caught.value
    )


def test_cycle_error_has_the_jobs_of_the_cycle_alone() -> None:
    first, a, b, waits, last = (
        Job(nap, label=label) for label in ("first", "a", "b", "waits", "last")
    )
    Sequence(first, a, b, waits, last)
    a.requires(b)
    for jobs in ([last, waits, a, b, first], [first, waits, b, a, last]):
        scheduler = Scheduler(*jobs)
        with pytest.raises(CycleError) as caught:
            scheduler.run()
        assert sorted(job.label for job in caught.value.cycle) == ["a", "b"]
        for each in jobs:
            scheduler.remove(each)


def test_errors_name_jobs_with_the_same_label_by_their_paths() -> None:
    a, b = Job(nap, 1), Job(nap, 1)
    b.requires(a)
    a.requires(b)
    home = Scheduler(Scheduler(a, b, label="inner"))
    with pytest.raises(
        CycleError,
        match=re.escape("inner/nap(1) requires inner/nap(1)#2 requires inner/nap(1)"),
    ):
        home.run()
    watch = Job(nap, 1, forever=True)
    with pytest.raises(
        ValueError,
        match=re.escape("'nap(1)#2' requires 'nap(1)', which is a forever job"),
    ):
        Scheduler(watch, Job(nap, 1, required=watch)).run()


def test_job_that_requires_itself_raises_cycle_error() -> None:
    a, b = Job(nap, label="a"), Job(nap, label="b")
    with pytest.raises(CycleError, match="a requires a"):
        a.requires(b, a)
    assert list(a.required) == []


def test_cycle_in_a_nested_scheduler_is_found_before_the_outer_starts(
    virtual: Virtual,
) -> None:
    a, b = Job(nap, label="a"), Job(nap, label="b")
    a.requires(b)
    b.requires(a)
    first = Job(nap, label="first")
    outer = Scheduler(first, Scheduler(Scheduler(a, b), required=first))
    with pytest.raises(CycleError):
        virtual(outer.co_run)
    assert first.is_idle()
    assert outer.stop_reason is None


@pytest.mark.parametrize("home", [None, "elsewhere"])
def test_missing_requirement_names_the_pair_and_the_remedy(
    virtual: Virtual, home: str | None
) -> None:
    stray = Job(nap(), label="stray")
    inside = Job(nap(), label="inside", required=stray)
    elsewhere = Scheduler(stray, label=home) if home else None
    scheduler = Scheduler(inside, label="home")
    with pytest.raises(
        trioflow.MissingRequirement, match=r"'inside'.*'stray'.*sanitize\(\)"
    ) as caught:
        virtual(scheduler.co_run)
    assert (caught.value.job, caught.value.requirement) == (inside, stray)
    assert inside.is_idle()
    assert scheduler.sanitize() == [(inside, stray)]
    assert virtual(scheduler.co_run) is True
    (elsewhere or stray).close()


def test_job_in_two_schedulers_is_rejected() -> None:
    job, other = Job(nap, label="shared"), Job(nap, label="other")
    first, second = Scheduler(job, label="first"), Scheduler(label="second")
    with pytest.raises(ValueError, match=r"'shared'.*'first'.*'second'"):
        second.update([other, job])
    assert job.scheduler is first
    assert list(first) == [job]
    assert list(second) == []
    assert other.scheduler is None


def test_scheduler_inside_itself_is_rejected() -> None:
    inner = Scheduler(label="inner")
    outer = Scheduler(Scheduler(inner, label="middle"), label="outer")
    with pytest.raises(ValueError, match=r"'outer'.*itself"):
        outer.add(outer)
    with pytest.raises(ValueError, match=r"'outer'.*itself"):
        inner.add(outer)
    assert outer.scheduler is None
    assert list(inner) == []


def test_requirement_on_a_forever_job_is_rejected(virtual: Virtual) -> None:
    monitor = Job(nap, label="monitor", forever=True)
    user = Job(nap, label="user", required=monitor)
    first = Job(nap, label="first")
    with pytest.raises(ValueError, match=r"'user'.*'monitor'.*(forever|forever)"):
        virtual(Scheduler(first, monitor, user).co_run)
    assert first.is_idle()


# --- one-shot coroutines
def test_a_retry_of_a_one_shot_coroutine_is_rejected(virtual: Virtual) -> None:
    job = Job(nap(), label="once", timeout=1, retry=Retry(None, first=0, on=JobTimeout))
    scheduler = Scheduler(job)
    with pytest.raises(ValueError, match=r"'once'.*Job\(function"):
        virtual(scheduler.co_run)
    assert scheduler.is_runnable() is False
    assert job.is_idle()
    scheduler.close()


def test_a_retry_of_a_scheduler_with_a_one_shot_coroutine_inside_is_rejected(
    virtual: Virtual,
) -> None:
    """A nested scheduler that may be retried cannot contain coroutine objects, at any depth, because they run once."""
    job = Job(nap(0.5), label="once")
    inner = Scheduler(
        Scheduler(job), timeout=1, retry=Retry(None, first=0, on=JobTimeout)
    )
    outer = Scheduler(inner)
    with pytest.raises(ValueError, match="'once'"):
        virtual(outer.co_run)
    outer.remove(inner)
    inner.retry = None
    assert virtual(inner.co_run) is True


def test_second_run_of_one_shot_jobs_raises_and_names_them(virtual: Virtual) -> None:
    """Running coroutine objects again raises a ValueError that names their jobs; the results of the first run stay."""
    jobs = [Job(nap(1, "first"), label="once"), Job(nap(1, "second"), label="twice")]
    scheduler = Scheduler(*jobs, Job(nap, label="any"))
    assert virtual(scheduler.co_run) is True
    with pytest.raises(ValueError, match=r"'once'"):
        virtual(scheduler.co_run)
    assert [job.result() for job in jobs] == ["first", "second"]
    assert scheduler.stop_reason is StopReason.COMPLETED


def test_one_shot_job_that_was_never_reached_can_run_the_next_time(
    virtual: Virtual,
) -> None:
    first = Job(fail_now, critical=True)
    second = Job(nap(1, "done"), required=first)
    scheduler = Scheduler(first, second)
    assert virtual(scheduler.co_run) is False
    assert second.is_idle()
    second.requires(first, remove=True)
    scheduler.remove(first)
    assert virtual(scheduler.co_run) is True
    assert second.result() == "done"


# --- Bad input: the error has what was found, in which job, and what to do; and nothing is consumed
# --- what is not a job
@job
async def builder() -> None: ...


@pytest.mark.parametrize(
    ("thing", "advice"),
    [
        (
            nap,
            "write Job(nap, ...) for an async function, and ThreadJob(nap, ...) for a plain one",
        ),
        (builder, "call it, builder(...), to build a job"),
        ("echo", "give jobs, Sequences, None, or collections of these"),
    ],
)
def test_object_meant_to_become_a_job_is_rejected_with_advice(
    thing: Any, advice: str
) -> None:
    """A Scheduler rejects a function, a coroutine object or a string in place of a job, and says what to write."""
    with pytest.raises(TypeError, match=re.escape(advice)):
        Scheduler(thing)
    coroutine = nap()
    with pytest.raises(TypeError, match=re.escape("write Job(nap(...))")):
        Scheduler(Job(nap), [coroutine])
    coroutine.close()


@pytest.mark.parametrize(
    "kind",
    [
        functools.partial(trioflow.CommandJob, ["true"]),
        functools.partial(trioflow.SshJob, "node", "true"),
    ],
)
def test_misspelt_option_of_a_command_gets_a_suggestion(
    kind: Callable[..., Any],
) -> None:
    with pytest.raises(
        TypeError, match=r"a job has no option 'stdot'; did you mean stdout\?$"
    ):
        kind(stdot="x")
    with pytest.raises(
        TypeError,
        match=r"'mine': a job has no option 'tiemout'; did you mean timeout\?$",
    ):
        kind(tiemout=3, label="mine")
    with pytest.raises(
        TypeError, match=r"a job has no option 'colour'; the options are .*\btimeout\b"
    ):
        kind(colour="red")


def test_arguments_for_a_coroutine_object_are_rejected() -> None:
    """It can be closed without a warning."""
    coroutine = nap()
    with pytest.raises(TypeError, match="argument"):
        Job(coroutine, 1)
    with pytest.raises(ValueError, match="timeout"):
        Job(coroutine, timeout=-1)
    assert coroutine.cr_frame is not None
    coroutine.close()


@pytest.mark.parametrize(
    "function",
    [
        lambda: int("42"),
        functools.partial(lambda x: x, "no awaitable"),
        type("Call", (), {"__call__": lambda self: None})(),
    ],
)
def test_callable_that_returns_no_awaitable_fails_its_job(
    virtual: Virtual, function: Callable[..., Any]
) -> None:
    job = Job(function, label="liar")
    bystander = Job(nap, 1, 1)
    assert virtual(Scheduler(job, bystander).co_run) is False
    assert isinstance(job.raised_exception(), TypeError)
    told = f"{job.raised_exception()}\n{notes(job.raised_exception())}"
    assert "'liar'" in told
    assert "awaitable" in told
    assert "ThreadJob" in told
    assert bystander.result() == 1


@pytest.mark.parametrize("thing", [42, "job", b"job", nap, 1.5])
@pytest.mark.parametrize(
    "use",
    [
        lambda thing: Scheduler(thing, label="home"), lambda thing: Scheduler(label="home").add(thing),
        lambda thing: Scheduler(label="home").update([thing]), lambda thing: Sequence(thing),
        lambda thing: Job(nap, required=thing), lambda thing: Job(nap).requires(thing),
        lambda thing: Sequence().requires([thing]), lambda thing: Sequence(required=thing),
        lambda thing: Scheduler().explain(thing),
    ],
    ids=[
        "member", "add", "update", "Sequence", "required=", "requires", "requires of a Sequence",
        "required= of a Sequence", "explain",
    ],
)  # fmt: skip
def test_object_that_is_not_a_job_is_rejected(
    use: Callable[[Any], Any], thing: object
) -> None:
    """Wherever a job is expected, an object that is not a job raises a TypeError that shows the object."""
    with pytest.raises(TypeError) as caught:
        use(thing)
    assert short_repr(thing) in str(caught.value)


@pytest.mark.parametrize("thing", [42, "job", Scheduler, Job(nap)])
@pytest.mark.parametrize(
    "kind",
    [
        functools.partial(Job, nap, label="a"),
        functools.partial(Scheduler, label="a"),
        Sequence,
    ],
)
def test_scheduler_option_rejects_an_object_that_is_not_a_scheduler(
    kind: Callable[..., Any], thing: object
) -> None:
    with pytest.raises(TypeError) as caught:
        kind(scheduler=thing)
    whose = "a Sequence" if kind is Sequence else "'a'"
    assert (
        str(caught.value)
        == f"scheduler={short_repr(thing)} of {whose}: give a Scheduler"
    )


@pytest.mark.parametrize(
    ("kwargs", "advice"),
    [
        ([1], "found list; give a dict"),
        ("abc", "found str; give a dict"),
        ({1: "secret"}, "the name 1 is not a string"),
    ],
)
@pytest.mark.parametrize(
    "kind", [functools.partial(Job, nap), functools.partial(trioflow.ThreadJob, int)]
)
def test_kwargs_that_are_not_a_dict_of_names_are_rejected(
    kind: Callable[..., Any], kwargs: Any, advice: str
) -> None:
    with pytest.raises(TypeError, match=f"kwargs of 'a': {advice}") as caught:
        kind(kwargs=kwargs, label="a")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("env", ["A=1", [("A", "1")], 3])
def test_environment_that_is_not_a_dict_is_rejected(env: Any) -> None:
    """`env=` that is not a dict raises a TypeError at once, which says what was found and what to give."""
    with pytest.raises(
        TypeError, match=f"env of 'a': found {type(env).__name__}; give a dict"
    ):
        trioflow.CommandJob(["true"], env=env, label="a")


def test_update_with_an_object_that_is_not_a_job_adds_none() -> None:
    scheduler, job = Scheduler(), Job(nap)
    with pytest.raises(TypeError, match="42"):
        scheduler.update([job, 42])
    assert list(scheduler) == []
    assert job.scheduler is None


def test_a_subclass_without_super_init_is_a_type_error() -> None:
    class Forgetful(AbstractJob[None]):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match=r"Forgetful.*super\(\).__init__"):
        Scheduler(Forgetful())


def test_job_of_a_subclass_without_co_run_fails_with_the_name_of_the_class(
    virtual: Virtual,
) -> None:
    class Hollow(AbstractJob[None]):
        pass

    job = Hollow()
    assert virtual(Scheduler(job).co_run) is False
    assert "Hollow" in str(job.raised_exception())


def test_rejected_job_is_in_no_scheduler() -> None:
    scheduler = Scheduler()
    with pytest.raises(ValueError, match="timeout"):
        Job(nap, timeout=-1, scheduler=scheduler)
    with pytest.raises(TypeError, match="42"):
        Job(nap, required=42, scheduler=scheduler)
    with pytest.raises(TypeError, match="42"):
        Scheduler(42, scheduler=scheduler)
    assert list(scheduler) == []


# --- numbers
@pytest.mark.parametrize("timeout", [0, -1, -0.5, math.nan, -math.inf, 0.0])
def test_timeout_that_is_not_a_positive_number_is_rejected(
    virtual: Virtual, timeout: float
) -> None:
    """Wherever it is given, a zero, negative or NaN timeout raises a ValueError that names the job and the remedy."""
    scheduler = Scheduler(Job(nap), label="slow")
    ways: list[Callable[[], object]] = [
        lambda: Job(nap, label="slow", timeout=timeout),
        lambda: Scheduler(label="slow", timeout=timeout),
        lambda: virtual(functools.partial(scheduler.co_run, timeout=timeout)),
        lambda: scheduler.run(backend=virtual.backend, timeout=timeout),  # type: ignore[arg-type]
    ]
    for give in ways:
        with pytest.raises(ValueError, match=r"timeout.*'slow'.*positive"):
            give()
    assert scheduler.stop_reason is None
    for wrong in ("1", True, [1], 1j):
        with pytest.raises(TypeError, match=r"timeout.*'slow'.*seconds"):
            Job(nap, label="slow", timeout=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [None, math.inf, 5, 0.5])
def test_timeout_may_be_none_infinite_or_positive(
    virtual: Virtual, timeout: float | None
) -> None:
    scheduler = Scheduler(Job(nap, 0.25, timeout=timeout), timeout=timeout)
    assert virtual(functools.partial(scheduler.co_run, timeout=timeout)) is True


@pytest.mark.parametrize(
    ("window", "error"),
    [(-1, ValueError), (1.5, TypeError), ("3", TypeError), (True, TypeError)],
)
def test_window_below_zero_or_no_number_is_rejected(
    virtual: Virtual, window: Any, error: type[Exception]
) -> None:
    job = Job(nap(), label="one-shot")
    scheduler = Scheduler(job, label="home")
    with pytest.raises(
        error,
        match=r"jobs_window.*'home'.*positive whole number, None or 0 for no limit",
    ):
        Scheduler(label="home", jobs_window=window)
    with pytest.raises(
        error,
        match=r"jobs_window.*'home'.*positive whole number, None or 0 for no limit",
    ):
        virtual(functools.partial(scheduler.co_run, jobs_window=window))
    assert virtual(scheduler.co_run) is True


@pytest.mark.parametrize(
    "options",
    [{"retry": -1}, {"on_timeout": "explode"}, {"timeout": 1, "on_timeout": None}],
)
def test_error_for_an_option_out_of_range_names_the_job(
    options: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match="'odd'"):
        Job(nap, label="odd", **options)


BAD_RETRIES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"times": -1}, ValueError, "times=-1 of a Retry: give a whole number, 0 or more"),
    ({"times": 2.5}, TypeError, "times=2.5 of a Retry: give a whole number"),
    (
        {"times": 1, "first": -1},
        ValueError,
        "first=-1 of a Retry: give a finite number of seconds, 0 or more",
    ),
    ({"times": 1, "factor": 0.5}, ValueError, "factor=0.5 of a Retry: give 1 or more"),
    (
        {"times": 1, "cap": float("inf")},
        ValueError,
        "cap=inf of a Retry: give a finite number",
    ),
    (
        {"times": 1, "jitter": "no"},
        TypeError,
        "jitter='no' of a Retry: give True or False",
    ),
    (
        {"times": 1, "on": int},
        TypeError,
        "on=int of a Retry: give a class of exceptions",
    ),
    (
        {"times": 1, "on": (OSError, 3)},
        TypeError,
        "of a Retry: give a class of exceptions, a tuple of classes",
    ),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_RETRIES)
def test_bad_arguments_of_a_retry_are_rejected(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Retry(**options)
    with pytest.raises(AttributeError, match="times of a Retry cannot be set"):
        Retry(1).times = 2


@pytest.mark.parametrize(
    "name", ["critical", "forever", "own_task", "keep_result", "redact"]
)
def test_a_string_is_rejected_for_a_boolean_option(name: str) -> None:
    """The string "no", read from a file, once counted as True."""
    options: dict[str, Any] = {name: "no"}
    with pytest.raises(TypeError, match=rf"{name}='no' of .*: give True or False"):
        Job(nap, label="odd", **options)
    with pytest.raises(TypeError, match=rf"{name}='no' of .*: give True or False"):
        Scheduler(label="odd", **options)
    with pytest.raises(TypeError, match=rf"{name}='' of .*: give True or False"):
        Job(nap, **{name: ""})  # type: ignore[arg-type]
    assert Job(nap, **{name: 1})  # type: ignore[arg-type]
    if name in ("critical", "forever"):
        with pytest.raises(
            TypeError, match=rf"{name}='no' of 'odd': give True or False"
        ):
            setattr(Job(nap, label="odd"), name, "no")


@pytest.mark.parametrize("name", ["critical_jobs", "keep_jobs"])
def test_a_string_is_rejected_for_a_boolean_option_of_a_scheduler(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}='no' of 'odd': give True or False"):
        Scheduler(**{"label": "odd", name: "no"})  # type: ignore[arg-type]
    scheduler = Scheduler(label="odd")
    before = getattr(scheduler, name)
    with pytest.raises(TypeError, match=rf"{name}='no' of 'odd': give True or False"):
        setattr(scheduler, name, "no")
    assert getattr(scheduler, name) is before


def test_check_argument_of_a_run_that_is_neither_a_bool_nor_first_is_rejected(
    virtual: Virtual,
) -> None:
    with pytest.raises(
        TypeError, match="check='no' of 'odd': give True, False or 'first'"
    ):
        virtual(functools.partial(Scheduler(label="odd").co_run, check="no"))  # type: ignore[arg-type]


def test_error_for_a_misspelt_option_of_a_scheduler_names_its_class() -> None:
    with pytest.raises(
        TypeError,
        match=r"'Scheduler': a scheduler has no option 'jobs_windw'; did you mean jobs_window",
    ):
        Scheduler(jobs_windw=3)  # type: ignore[call-arg]


def test_unknown_backend_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"'curio'.*trio.*asyncio"):
        Scheduler(Job(nap)).run(backend="curio")  # type: ignore[arg-type]


# --- a run that is refused has closed what it had opened: its scheduler, pool and journal can be used at once
def test_a_run_that_its_pool_refuses_closes_its_journal(
    backend: Any, tmp_path: Path
) -> None:
    pool = Pool(cpu=1)
    refused = Scheduler(
        Job(nothing, needs={"cpu": 1}), pool=pool, journal=tmp_path / "journal.db"
    )
    errors: list[BaseException] = []

    def run_elsewhere() -> None:
        try:
            refused.run(backend=backend)
        except RuntimeError as error:
            errors.append(error)  # which keeps the frames of the run alive

    elsewhere = Job(at_once, lambda: in_threads(run_elsewhere), needs={"cpu": 1})
    assert Scheduler(elsewhere, pool=pool).run(backend=backend)
    assert "in another event loop" in str(errors[0])
    assert refused.run(backend=backend)


STEPS = [
    (Pool, "_enter"),
    (_awaiting, "watch_of"),
    (_checks, "check_members"),
    (Scheduler, "_open_journal"),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
def test_whichever_step_fails_before_a_run_its_means_are_free(
    backend: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: tuple[object, str],
) -> None:
    """A run inside of a job fails in one of its first steps, and the next one has the journal, the pool, the jobs."""
    pool, journal = Pool(cpu=1), tmp_path / "journal.db"
    scheduler = Scheduler(Job(nap, 0, 5, needs={"cpu": 1}), pool=pool, journal=journal)

    async def body() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(*step, crash)
            with pytest.raises(Flaw):
                await scheduler.co_run()
        assert await scheduler.co_run()

    assert anyio.run(Scheduler(Job(body)).co_run, backend=backend)
    assert pool.free == pool.total


def cycle(jobs: list[Job[Any]], _: Path) -> dict[str, Any]:
    jobs[0].requires(jobs[1])
    jobs[1].requires(jobs[0])
    return {}


def no_journal(_: object, folder: Path) -> dict[str, Any]:
    return {"journal": folder / "missing" / "journal.db"}


def bad_option(*_: object) -> dict[str, Any]:
    return {"timeout": -1}


def unknown_option(*_: object) -> dict[str, Any]:
    return {"windows": 2}


async def wait_for(job: AbstractJob[Any], _: object) -> None:
    with pytest.raises(trioflow.JobNotDone, match="no run will reach it"):
        await job


async def iterate(job: AbstractJob[Any], one: bool) -> None:
    scheduler: Any = job._scheduler
    async for settled in scheduler.as_settled([job]) if one else scheduler.as_settled():
        raise AssertionError(settled)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("refuse", [cycle, no_journal, bad_option, unknown_option])
def test_whoever_waits_for_a_job_of_a_refused_run_gets_an_error_or_the_end(
    virtual: Any,
    tmp_path: Path,
    refuse: Callable[..., dict[str, Any]],
    again: bool,
    is_late: bool,
) -> None:
    """With its run in a task beside, an `async for` over `as_settled()` waited for ever when the run was refused."""

    async def main() -> None:
        jobs = [Job(nothing), Job(nothing), Job(nothing)]
        scheduler = Scheduler(jobs[0], Scheduler(jobs[1]), jobs[2])
        if again:
            assert await scheduler.co_run()
            jobs = [Job(nothing), Job(nothing), Job(nothing)]
            scheduler.add([jobs[0], Scheduler(jobs[1]), jobs[2]])
        options = refuse([jobs[0], jobs[2]], tmp_path)
        async with anyio.create_task_group() as tasks:

            def wait() -> None:
                for job in jobs:
                    tasks.start_soon(wait_for, job, False)
                    tasks.start_soon(iterate, job, True)
                tasks.start_soon(iterate, jobs[1], False)

            if not is_late:
                wait()
                await anyio.sleep(0.001)
            with pytest.raises((trioflow.JournalError, TypeError, ValueError)):
                await scheduler.co_run(**options)
            if is_late:
                wait()

    virtual(main)
