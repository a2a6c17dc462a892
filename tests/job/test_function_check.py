"""Functions that each kind of job rejects: at creation, with an error that names the right kind."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest

from trioflow import Job, ProcessJob, Scheduler, Service, ThreadJob, job
from trioflow._core.base._signatures import is_async, is_surely_sync

from ..bodies import nap, take

if TYPE_CHECKING:
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


def refusal(kind: Callable[[Any], Any], function: Any) -> str:
    """Return the text of the TypeError with which a kind refuses a function; the job is in no scheduler."""
    scheduler = Scheduler()
    with pytest.raises(TypeError) as caught:
        kind(function, scheduler=scheduler)  # type: ignore[call-arg]
    assert not len(scheduler)
    return str(caught.value)


@pytest.mark.parametrize("kind", PLAIN_KINDS)
@pytest.mark.parametrize(
    "function",
    [nap, AsyncCall(), AsyncCall().method, functools.partial(nap, 1), functools.partial(AsyncCall())],
    ids=["function", "callable object", "method", "partial", "partial of a callable object"],
)
def test_async_functions_are_for_job(kind: Any, function: Any) -> None:
    """ThreadJob and ProcessJob refuse whatever is async, at any depth of partials, and name Job."""
    text = refusal(kind, function)
    assert text.startswith(f"{kind.__name__}(")
    assert "this is async" in text
    assert "write Job(" in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "function",
    [generator, AsyncCall().generator, GeneratorCall(), functools.partial(generator)],
    ids=["function", "method", "callable object", "partial"],
)
def test_async_generators_are_for_no_kind(kind: Any, function: Any) -> None:
    """An async generator function has no result: each kind says so, and names no other kind."""
    text = refusal(kind, function)
    assert text.startswith(f"{kind.__name__}(")
    wanted = "a plain function" if kind in PLAIN_KINDS else "an async function without yield"
    assert f"async generator function; give {wanted}" in text
    assert "write" not in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", [builder, functools.partial(builder)], ids=["function", "partial"])
def test_builders_of_jobs_are_to_be_called(kind: Any, function: Any) -> None:
    """A function decorated with `@job` builds a job when called: as the function of a job it would do nothing."""
    assert refusal(kind, function) == (
        f"{kind.__name__}(builder): it is decorated with @job already: call it, builder(...), to build the job"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("thing", [5, None, "nap", [nap]])
def test_things_that_cannot_be_called(kind: Any, thing: Any) -> None:
    """The error shows what was given, and says what to give instead."""
    wanted = "an async function" if kind in ASYNC_KINDS else "a plain function and its arguments"
    assert refusal(kind, thing).startswith(f"{kind.__name__}({thing!r}): give {wanted}")


@pytest.mark.parametrize("kind", [Service, *PLAIN_KINDS])
def test_coroutine_objects_are_for_job(kind: Any) -> None:
    """A coroutine object is not consumed by the refusal: it can be given to Job."""
    coroutine = nap()
    job = Job(coroutine)
    text = refusal(kind, coroutine)
    job.close()
    assert "a coroutine object" in text
    assert ("use Job" in text) is (kind is not Service)


@pytest.mark.parametrize(
    "function", [plain, AsyncCall().plain_method, print, PlainCall], ids=["", "method", "builtin", "class"]
)
def test_plain_functions_are_for_thread_job(function: Any) -> None:
    """Job refuses what is clearly not async, a class too, and names ThreadJob."""
    text = refusal(Job, function)
    assert "is not an async function; define it with async def" in text
    assert f"ThreadJob({function.__name__}, ...)" in text


@pytest.mark.parametrize(
    "function", [plain, AsyncCall().plain_method, print, PlainCall], ids=["", "method", "builtin", "class"]
)
def test_plain_functions_are_no_services(function: Any) -> None:
    """Service rejects plain functions, and suggests no other kind: none is a service."""
    text = refusal(Service, function)
    assert "is not an async function; define it with async def" in text
    assert "ThreadJob" not in text


@pytest.mark.parametrize("kind", PLAIN_KINDS)
@pytest.mark.parametrize(
    "function", [plain, AsyncCall().plain_method, print, PlainCall, PlainCall(), functools.partial(plain)]
)
def test_plain_callables_are_for_threads_and_processes(kind: Any, function: Any) -> None:
    """Functions, methods, builtins, classes, objects and partials are taken as they are; none of them is shown."""
    assert kind(function).is_idle()


@pytest.mark.parametrize("kind", ASYNC_KINDS)
@pytest.mark.parametrize("function", [nap, AsyncCall(), AsyncCall().method, PlainCall(), lambda **_: nap()])
def test_async_callables_are_for_jobs_and_services(kind: Any, function: Any) -> None:
    """Callables that are async, or may return an awaitable, are accepted."""
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


def test_a_job_may_call_a_method_of_its_own(virtual: Virtual) -> None:
    """`super().__init__(self.go)` works in a subclass of each kind, though the job has no label yet."""
    first = Method(1, label="mine")
    second = Method(first)
    service = MethodAsService()
    user = Job(take, service)
    assert virtual(functools.partial(Scheduler(first, second, user).co_run, check=True)) is True
    assert first.result() == ("mine", (1,))
    assert second.result() == ("go(mine)", (first.result(),))
    assert user.result() == ("go()",)


def test_a_thread_may_call_a_method_of_its_job(backend: str) -> None:
    """A function in a thread may be a method of its own job."""
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
def test_its_errors_name_the_method(options: Any, error: type[Exception], message: str) -> None:
    """An option that is refused before the job is complete names it by its default label."""
    with pytest.raises(error, match=message):
        Method(**options)


@pytest.mark.parametrize("kind", [ThreadJob, ProcessJob])
def test_a_misspelt_option_of_a_job_gets_a_hint(kind: Any) -> None:
    """The error names the option that was meant, not all of them."""
    with pytest.raises(TypeError, match="'print': a job has no option 'tiemout'; did you mean timeout") as caught:
        kind(print, tiemout=3)
    assert "keep_result" not in str(caught.value)


@pytest.mark.parametrize("kind", [ThreadJob, ProcessJob])
def test_the_error_distinguishes_an_unknown_option_from_an_argument(kind: Any) -> None:
    """The error says to write kwargs= if it was meant for the function, and lists the kind's own options."""
    with pytest.raises(
        TypeError, match=r"has no option 'end'; .* write kwargs=\{'end': ...\}; .*expected|retry"
    ) as caught:
        kind(print, end="")
    assert ("abandon_on_cancel" in str(caught.value)) is (kind is ThreadJob)


class Caller:
    async def __call__(self) -> None: ...


def test_what_wraps_an_object_that_can_be_called_is_not_clearly_plain() -> None:
    """A wrapper may return an awaitable; so may a lambda that calls a function or looks up a name."""

    @functools.wraps(Caller())
    def wrapper() -> Any:
        return Caller()()

    lambdas = [lambda: wrapper(), lambda: wrapper, lambda: made[0], lambda: wrapper.made]
    made: list[Any] = []
    assert [is_surely_sync(function) for function in (plain, wrapper, nap, Caller(), *lambdas)] == [True, *[False] * 7]


@pytest.mark.parametrize("function", [lambda: 3, lambda: None, lambda x: x + 1, lambda x: (x, x), lambda x: not x])
def test_a_lambda_that_calls_nothing_and_computes_its_value_is_refused_at_once(function: Any) -> None:
    """The error comes when the job is created, not when it runs."""
    with pytest.raises(TypeError, match=r"Job\(.*<lambda>\): this is not an async function; .* ThreadJob\("):
        Job(function)


@pytest.mark.skipif(not hasattr(inspect, "markcoroutinefunction"), reason="since Python 3.12")
def test_a_function_that_is_marked_as_async_is_taken_for_one() -> None:
    """Libraries that compile or generate functions set this mark."""
    assert is_async(cast(Any, inspect).markcoroutinefunction(lambda: nap(1)))
