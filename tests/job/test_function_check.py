"""Functions that each kind of job rejects at creation, and coroutine objects that never run."""

import functools
import gc
import inspect
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, cast
import anyio
import pytest
from trioflow import (
    Job,
    MissingRequirement,
    ProcessJob,
    Scheduler,
    Service,
    StopReason,
    ThreadJob,
    job,
)
from trioflow._core.base._text_forms import short_repr
from trioflow._core.base._user_code import is_async, is_surely_sync
from ..bodies import fail_now, nap, take
from ..conftest import Virtual

ASYNC_KINDS: list[Any] = [Job, Service]
PLAIN_KINDS: list[Any] = [ThreadJob, ProcessJob]
KINDS = ASYNC_KINDS + PLAIN_KINDS


def plain(*, task_status: Any = None) -> None: ...


async def generator(*, task_status: Any = None) -> Any:
    yield


@job
async def builder(*, task_status: Any = None) -> None: ...


class AsyncCall:
    """A class whose objects are called asynchronously, and whose repr raises."""

    async def __call__(self, *, task_status: Any = None) -> None: ...

    async def method(self, *, task_status: Any = None) -> None: ...

    async def generator(self) -> Any:
        yield

    def plain_method(self, *, task_status: Any = None) -> None: ...

    def __repr__(self) -> NoReturn:
        raise AssertionError("nobody has to know what this looks like")


class GeneratorCall:
    async def __call__(self, *, task_status: Any = None) -> Any:
        yield

    __repr__ = AsyncCall.__repr__


class PlainCall:
    def __call__(self, *, task_status: Any = None) -> Any:
        return nap()

    __repr__ = AsyncCall.__repr__


def rejection(kind: Callable[[Any], Any], function: Any) -> str:
    """Return the text of the TypeError with which a kind rejects a function; the job is in no scheduler."""
    scheduler = Scheduler()
    with pytest.raises(TypeError) as caught:
        kind(function, scheduler=scheduler)  # type: ignore[call-arg]
    assert not len(scheduler)
    return str(caught.value)


@pytest.mark.parametrize("kind", PLAIN_KINDS)
@pytest.mark.parametrize(
    "function",
    [
        nap,
        AsyncCall(),
        AsyncCall().method,
        functools.partial(nap, 1),
        functools.partial(AsyncCall()),
    ],
    ids=[
        "function",
        "callable object",
        "method",
        "partial",
        "partial of a callable object",
    ],
)
def test_thread_and_process_jobs_reject_async_functions(
    kind: Any, function: Any
) -> None:
    """ThreadJob and ProcessJob reject async callables, partials of them included, with an error that suggests Job."""
    text = rejection(kind, function)
    assert text.startswith(f"{kind.__name__}(")
    assert "an async function cannot run in" in text
    assert "write Job(" in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "function",
    [generator, AsyncCall().generator, GeneratorCall(), functools.partial(generator)],
    ids=["function", "method", "callable object", "partial"],
)
def test_every_kind_of_job_rejects_async_generator_functions(
    kind: Any, function: Any
) -> None:
    text = rejection(kind, function)
    assert text.startswith(f"{kind.__name__}(")
    wanted = (
        "a plain function" if kind in PLAIN_KINDS else "an async function without yield"
    )
    assert f"async generator function; give {wanted}" in text
    assert "write" not in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "function", [builder, functools.partial(builder)], ids=["function", "partial"]
)
def test_every_kind_of_job_rejects_functions_decorated_with_job(
    kind: Any, function: Any
) -> None:
    assert rejection(kind, function) == (
        f"{kind.__name__}(builder): it is already decorated with @job: call it, builder(...), to build the job"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("thing", [5, None, "nap", [nap]])
def test_every_kind_of_job_rejects_objects_that_are_not_callable(
    kind: Any, thing: Any
) -> None:
    """An object that is not callable raises a TypeError that shows the object, and says what to give instead."""
    wanted = (
        "an async function"
        if kind in ASYNC_KINDS
        else "a plain function and its arguments"
    )
    assert rejection(kind, thing).startswith(
        f"{kind.__name__}({short_repr(thing)}): give {wanted}"
    )


@pytest.mark.parametrize("kind", [Service, *PLAIN_KINDS])
def test_services_thread_jobs_and_process_jobs_reject_coroutine_objects(
    kind: Any,
) -> None:
    coroutine = nap()
    job = Job(coroutine)
    text = rejection(kind, coroutine)
    job.close()
    assert "a coroutine object" in text
    assert ("use Job" in text) is (kind is not Service)


@pytest.mark.parametrize("kind", ASYNC_KINDS)
@pytest.mark.parametrize(
    "function",
    [plain, AsyncCall().plain_method, print, PlainCall],
    ids=["function", "method", "builtin", "class"],
)
def test_jobs_and_services_reject_plain_functions(kind: Any, function: Any) -> None:
    """A `Job` suggests a `ThreadJob`."""
    text = rejection(kind, function)
    assert "is not an async function; define it with async def" in text
    assert (f"ThreadJob({function.__name__}, ...)" in text) is (kind is Job)


@pytest.mark.parametrize("kind", PLAIN_KINDS)
@pytest.mark.parametrize(
    "function",
    [
        plain,
        AsyncCall().plain_method,
        print,
        PlainCall,
        PlainCall(),
        functools.partial(plain),
    ],
)
def test_thread_and_process_jobs_accept_all_plain_callables(
    kind: Any, function: Any
) -> None:
    assert kind(function).is_idle()


@pytest.mark.parametrize("kind", ASYNC_KINDS)
@pytest.mark.parametrize(
    "function", [nap, AsyncCall(), AsyncCall().method, PlainCall(), lambda **_: nap()]
)
def test_jobs_and_services_accept_async_callables(kind: Any, function: Any) -> None:
    if function is not nap or kind is Job:
        assert kind(function).is_idle()


# --- jobs whose function is a method of their own
class Method(Job[Any]):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(self.go, *args, **options)

    async def go(self, *args: Any) -> Any:
        return self.label, args


class MethodInThread(ThreadJob[Any]):
    def __init__(self, **options: Any) -> None:
        super().__init__(self.go, **options)

    def go(self) -> str:
        return self.label


class MethodAsService(Service[Any]):
    def __init__(self, **options: Any) -> None:
        super().__init__(self.go, **options)

    async def go(self, *, task_status: Any) -> None:
        task_status.started(self.label)


def test_a_subclass_of_a_kind_may_pass_its_own_method_as_function(
    virtual: Virtual,
) -> None:
    """`super().__init__(self.go)` works in a subclass of each kind, though the job has no label yet."""
    first = Method(1, label="mine")
    second = Method(first)
    service = MethodAsService()
    user = Job(take, service)
    assert (
        virtual(functools.partial(Scheduler(first, second, user).co_run, check=True))
        is True
    )
    assert first.result() == ("mine", (1,))
    assert second.result() == ("go(mine)", (first.result(),))
    assert user.result() == ("go()",)


def test_a_subclass_of_thread_job_may_pass_its_own_method_as_function(
    backend: str,
) -> None:
    in_thread = MethodInThread()
    assert Scheduler(in_thread).run(backend=backend, check=True)
    assert in_thread.result() == "go()"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"timeout": -1}, ValueError, r"timeout=-1 of 'go\(\)'"),
        ({"colour": "red"}, TypeError, r"'go': a job has no option 'colour'"),
    ],
)
def test_option_errors_of_job_without_label_name_its_method(
    options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Method(**options)


@pytest.mark.parametrize("kind", [ThreadJob, ProcessJob])
def test_error_on_a_misspelt_option_suggests_the_right_one(kind: Any) -> None:
    with pytest.raises(
        TypeError, match="'print': a job has no option 'tiemout'; did you mean timeout"
    ) as caught:
        kind(print, tiemout=3)
    assert "keep_result" not in str(caught.value)


@pytest.mark.parametrize("kind", [ThreadJob, ProcessJob])
def test_error_on_an_unknown_option_suggests_kwargs_for_the_function(kind: Any) -> None:
    """The error on an unknown option shows how to pass it to the function, and lists the options of the kind."""
    with pytest.raises(
        TypeError,
        match=r"has no option 'end'; .* write kwargs=\{'end': ...\}; .*expected|retry",
    ) as caught:
        kind(print, end="")
    assert ("abandon_on_cancel" in str(caught.value)) is (kind is ThreadJob)


class Caller:
    async def __call__(self) -> None: ...


def test_a_wrapper_of_a_callable_object_is_not_surely_sync() -> None:
    """A wrapper may return an awaitable, and so may a lambda, whatever its code is."""

    @functools.wraps(Caller())
    def wrapper() -> Any:
        return Caller()()

    lambdas = [
        lambda: wrapper(),
        lambda: wrapper,
        lambda: made[0],
        lambda: wrapper.made,
        lambda: made + made,
    ]
    made: list[Any] = []
    assert [
        is_surely_sync(function)
        for function in (plain, wrapper, nap, Caller(), *lambdas)
    ] == [True, *[False] * 8]


@pytest.mark.skipif(
    not hasattr(inspect, "markcoroutinefunction"), reason="since Python 3.12"
)
def test_a_function_marked_by_markcoroutinefunction_counts_as_async() -> None:
    assert is_async(cast(Any, inspect).markcoroutinefunction(lambda: nap(1)))


# --- coroutine objects that never run are closed, without a warning
@pytest.fixture
def no_warnings() -> Iterator[None]:
    """Collect before the test ends, so that a warning does not appear in the next test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


# --- coroutines that never run
def test_coroutine_is_closed_when_its_job_is_garbage_collected(
    no_warnings: None,
) -> None:
    coroutine = nap()
    job = Job(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
    del job
    gc.collect()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


async def refers(thing: object) -> None:
    await anyio.sleep(1)


def test_coroutines_in_reference_cycles_leave_no_warning() -> None:
    def build() -> None:
        box: list[Any] = []
        scheduler = Scheduler(Job(refers(box)), Job(nap()))
        box.append(scheduler)
        first, second = Job(refers(box), label="1"), Job(nap(), label="2")
        first.requires(second)
        second.requires(first)
        box.extend([first, second])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build()
        gc.collect()
    assert caught == []


@pytest.mark.parametrize("close", ["job", "scheduler"])
def test_coroutine_that_refers_to_its_own_scheduler_is_freed_by_close(
    no_warnings: None, close: str
) -> None:
    """A coroutine that has not run may keep its own scheduler alive until `close()` frees both."""

    def build() -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        scheduler = Scheduler()
        job = scheduler.add(Job(refers(scheduler)))
        return weakref.ref(scheduler), weakref.ref(job)

    scheduler, job = build()
    gc.collect()
    assert scheduler() is not None
    (job if close == "job" else scheduler)().close()
    gc.collect()
    assert (scheduler(), job()) == (None, None)


def test_coroutine_that_refers_to_its_own_scheduler_is_freed_when_it_has_run(
    virtual: Virtual,
) -> None:
    def run() -> weakref.ref[Any]:
        scheduler = Scheduler()
        scheduler.add(Job(refers(scheduler)))
        assert virtual(scheduler.co_run) is True
        return weakref.ref(scheduler)

    scheduler = run()
    gc.collect()
    assert scheduler() is None


def test_closing_a_scheduler_closes_the_coroutines_of_its_jobs(
    no_warnings: None,
) -> None:
    coroutines = [nap(), nap(), nap()]
    jobs = [Job(coroutine) for coroutine in coroutines]
    Scheduler(jobs[0], Scheduler(jobs[1], Scheduler(jobs[2]))).close()
    assert [inspect.getcoroutinestate(coroutine) for coroutine in coroutines] == [
        inspect.CORO_CLOSED
    ] * 3
    assert all(job.is_idle() for job in jobs)


def test_closing_an_open_scheduler_closes_coroutines_of_unstarted_jobs(
    virtual: Virtual, no_warnings: None
) -> None:
    coroutine = nap()

    async def main() -> str:
        async with Scheduler() as scheduler:
            first = scheduler.add(Job(nap, 1))
            scheduler.add(Job(coroutine, required=first)).cancel()
        scheduler.close()
        return inspect.getcoroutinestate(coroutine)

    assert virtual(main) == inspect.CORO_CLOSED


def test_closing_a_job_closes_its_coroutine(no_warnings: None) -> None:
    coroutine = nap()
    job = Job(coroutine)
    job.close()
    job.close()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    with pytest.raises(ValueError, match="can run only once"):
        Scheduler(job).run()


def test_results_are_readable_after_close(virtual: Virtual) -> None:
    job = Job(nap(1, "value"))
    scheduler = Scheduler(job)
    assert virtual(scheduler.co_run) is True
    scheduler.close()
    scheduler.close()
    assert job.result() == "value"
    assert scheduler.stop_reason is StopReason.COMPLETED


def test_coroutine_of_a_cancelled_job_is_closed_without_a_warning(
    virtual: Virtual, no_warnings: None
) -> None:
    scheduler = Scheduler(
        Job(fail_now, critical=True),
        Job(nap()),
        Job(nap(), required=Job(nap())),
        jobs_window=1,
    )
    scheduler.sanitize()
    assert virtual(scheduler.co_run) is False


def test_validation_error_consumes_no_coroutine(
    virtual: Virtual, no_warnings: None
) -> None:
    """After a run was rejected, the same coroutine objects can run once the graph is repaired."""
    stray, job = Job(nap(1, 1)), Job(nap(1, 2))
    job.requires(stray)
    scheduler = Scheduler(job)
    with pytest.raises(MissingRequirement):
        virtual(scheduler.co_run)
    scheduler.add(stray)
    assert virtual(scheduler.co_run) is True
    assert (stray.result(), job.result()) == (1, 2)
