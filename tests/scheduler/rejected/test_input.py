"""Bad input: the error has what was found, in which job, and what to do; and nothing is consumed."""

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from trioflow import AbstractJob, CommandJob, Job, Retry, Scheduler, Sequence, SshJob, ThreadJob, job
from trioflow._core.base._text_forms import short_repr
from ...bodies import nap, notes
from ...conftest import Virtual


# --- what is not a job
def plain_function() -> int:
    return 1


@job
async def builder() -> None: ...


@pytest.mark.parametrize(
    ("thing", "advice"),
    [
        (nap, "write Job(nap, ...) for an async function, and ThreadJob(nap, ...) for a plain one"),
        (builder, "call it, builder(...), to build a job"),
        ("echo", "give jobs, Sequences, None, or collections of these"),
    ],
)
def test_object_meant_to_become_a_job_is_rejected_with_advice(thing: Any, advice: str) -> None:
    """A Scheduler rejects a function, a coroutine object or a string in place of a job, and says what to write."""
    with pytest.raises(TypeError, match=re.escape(advice)):
        Scheduler(thing)
    coroutine = nap()
    with pytest.raises(TypeError, match=re.escape("write Job(nap(...))")):
        Scheduler(Job(nap), [coroutine])
    coroutine.close()


@pytest.mark.parametrize("kind", [functools.partial(CommandJob, ["true"]), functools.partial(SshJob, "node", "true")])
def test_misspelt_option_of_a_command_gets_a_suggestion(kind: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"a job has no option 'stdot'; did you mean stdout\?$"):
        kind(stdot="x")
    with pytest.raises(TypeError, match=r"'mine': a job has no option 'tiemout'; did you mean timeout\?$"):
        kind(tiemout=3, label="mine")
    with pytest.raises(TypeError, match=r"a job has no option 'colour'; the options are .*\btimeout\b"):
        kind(colour="red")


def test_arguments_for_a_coroutine_object_are_rejected() -> None:
    coroutine = nap()
    with pytest.raises(TypeError, match="argument"):
        Job(coroutine, 1)
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
def test_callable_that_returns_no_awaitable_fails_its_job(virtual: Virtual, function: Callable[..., Any]) -> None:
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
def test_object_that_is_not_a_job_is_rejected(use: Callable[[Any], Any], thing: object) -> None:
    """Wherever a job is expected, an object that is not a job raises a TypeError that shows the object."""
    with pytest.raises(TypeError) as caught:
        use(thing)
    assert short_repr(thing) in str(caught.value)


@pytest.mark.parametrize("thing", [42, "job", Scheduler, Job(nap)])
@pytest.mark.parametrize(
    "kind", [functools.partial(Job, nap, label="a"), functools.partial(Scheduler, label="a"), Sequence]
)
def test_scheduler_option_rejects_an_object_that_is_not_a_scheduler(kind: Callable[..., Any], thing: object) -> None:
    with pytest.raises(TypeError) as caught:
        kind(scheduler=thing)
    whose = "a Sequence" if kind is Sequence else "'a'"
    assert str(caught.value) == f"scheduler={short_repr(thing)} of {whose}: give a Scheduler"


@pytest.mark.parametrize(
    ("kwargs", "advice"),
    [
        ([1], "found list; give a dict"),
        ("abc", "found str; give a dict"),
        ({1: "secret"}, "the name 1 is not a string"),
    ],
)
@pytest.mark.parametrize("kind", [functools.partial(Job, nap), functools.partial(ThreadJob, plain_function)])
def test_kwargs_that_are_not_a_dict_of_names_are_rejected(kind: Callable[..., Any], kwargs: Any, advice: str) -> None:
    with pytest.raises(TypeError, match=f"kwargs of 'a': {advice}") as caught:
        kind(kwargs=kwargs, label="a")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("env", ["A=1", [("A", "1")], 3])
def test_environment_that_is_not_a_dict_is_rejected(env: Any) -> None:
    """`env=` that is not a dict raises a TypeError at once, which says what was found and what to give."""
    with pytest.raises(TypeError, match=f"env of 'a': found {type(env).__name__}; give a dict"):
        CommandJob(["true"], env=env, label="a")


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


def test_job_of_a_subclass_without_co_run_fails_with_the_name_of_the_class(virtual: Virtual) -> None:
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


def test_coroutine_of_a_rejected_job_can_be_closed_without_a_warning() -> None:
    coroutine = nap()
    with pytest.raises(ValueError, match="timeout"):
        Job(coroutine, timeout=-1)
    coroutine.close()


# --- numbers
@pytest.mark.parametrize("timeout", [0, -1, -0.5, math.nan, -math.inf, 0.0])
def test_timeout_that_is_not_a_positive_number_is_rejected(virtual: Virtual, timeout: float) -> None:
    """Wherever it is given, a zero, negative or NaN timeout raises a ValueError that names the job and the remedy."""
    scheduler = Scheduler(Job(nap), label="slow")
    with pytest.raises(ValueError, match=r"timeout.*'slow'.*positive"):
        Job(nap, label="slow", timeout=timeout)
    with pytest.raises(ValueError, match=r"timeout.*'slow'.*positive"):
        Scheduler(label="slow", timeout=timeout)
    with pytest.raises(ValueError, match=r"timeout.*'slow'.*positive"):
        virtual(functools.partial(scheduler.co_run, timeout=timeout))
    with pytest.raises(ValueError, match=r"timeout.*'slow'.*positive"):
        scheduler.run(backend=virtual.backend, timeout=timeout)  # type: ignore[arg-type]
    assert scheduler.stop_reason is None


@pytest.mark.parametrize("timeout", ["1", True, [1], 1j])
def test_timeout_of_the_wrong_type_is_rejected(timeout: Any) -> None:
    with pytest.raises(TypeError, match=r"timeout.*'slow'.*seconds"):
        Job(nap, label="slow", timeout=timeout)


@pytest.mark.parametrize("timeout", [None, math.inf, 5, 0.5])
def test_timeout_may_be_none_infinite_or_positive(virtual: Virtual, timeout: float | None) -> None:
    scheduler = Scheduler(Job(nap, 0.25, timeout=timeout), timeout=timeout)
    assert virtual(functools.partial(scheduler.co_run, timeout=timeout)) is True


@pytest.mark.parametrize(("window", "error"), [(-1, ValueError), (1.5, TypeError), ("3", TypeError), (True, TypeError)])
def test_window_below_zero_or_no_number_is_rejected(virtual: Virtual, window: Any, error: type[Exception]) -> None:
    job = Job(nap(), label="one-shot")
    scheduler = Scheduler(job, label="home")
    with pytest.raises(error, match=r"jobs_window.*'home'.*positive whole number, None or 0 for no limit"):
        Scheduler(label="home", jobs_window=window)
    with pytest.raises(error, match=r"jobs_window.*'home'.*positive whole number, None or 0 for no limit"):
        virtual(functools.partial(scheduler.co_run, jobs_window=window))
    assert virtual(scheduler.co_run) is True


@pytest.mark.parametrize("options", [{"retry": -1}, {"on_timeout": "explode"}, {"timeout": 1, "on_timeout": None}])
def test_error_for_an_option_out_of_range_names_the_job(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'odd'"):
        Job(nap, label="odd", **options)


BAD_RETRIES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"times": -1}, ValueError, "times=-1 of a Retry: give a whole number, 0 or more"),
    ({"times": 2.5}, TypeError, "times=2.5 of a Retry: give a whole number"),
    ({"times": 1, "first": -1}, ValueError, "first=-1 of a Retry: give a finite number of seconds, 0 or more"),
    ({"times": 1, "factor": 0.5}, ValueError, "factor=0.5 of a Retry: give 1 or more"),
    ({"times": 1, "cap": float("inf")}, ValueError, "cap=inf of a Retry: give a finite number"),
    ({"times": 1, "jitter": "no"}, TypeError, "jitter='no' of a Retry: give True or False"),
    ({"times": 1, "on": int}, TypeError, "on=int of a Retry: give a class of exceptions"),
    ({"times": 1, "on": (OSError, 3)}, TypeError, "of a Retry: give a class of exceptions, a tuple of classes"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_RETRIES)
def test_bad_arguments_of_a_retry_are_rejected(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Retry(**options)
    with pytest.raises(AttributeError, match="times of a Retry cannot be set"):
        Retry(1).times = 2


@pytest.mark.parametrize("name", ["critical", "forever", "own_task", "keep_result", "redact"])
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
        with pytest.raises(TypeError, match=rf"{name}='no' of 'odd': give True or False"):
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


def test_check_argument_of_a_run_that_is_neither_a_bool_nor_first_is_rejected(virtual: Virtual) -> None:
    with pytest.raises(TypeError, match="check='no' of 'odd': give True, False or 'first'"):
        virtual(functools.partial(Scheduler(label="odd").co_run, check="no"))  # type: ignore[arg-type]


def test_error_for_a_misspelt_option_of_a_scheduler_names_its_class() -> None:
    with pytest.raises(
        TypeError, match=r"'Scheduler': a scheduler has no option 'jobs_windw'; did you mean jobs_window"
    ):
        Scheduler(jobs_windw=3)  # type: ignore[call-arg]


def test_unknown_backend_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"'curio'.*trio.*asyncio"):
        Scheduler(Job(nap)).run(backend="curio")  # type: ignore[arg-type]
