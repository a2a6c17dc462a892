"""`@job`: an async function that builds a `Job` when it is called."""

from __future__ import annotations

import functools
import inspect
import pickle
import unittest.mock
from typing import Any
import anyio
import pytest
from trioflow import (
    CommandJob,
    Job,
    JobState,
    JobTimeout,
    ProcessJob,
    Retry,
    Scheduler,
    ThreadJob,
    current_job,
    job,
)
from ..conftest import Virtual


@job
async def fetch(page: int = 1, *, suffix: str = "") -> str:
    """Return the text of a page."""
    await anyio.sleep(1)
    return f"page {page}{suffix}"


@job(timeout=5, label="size", critical=True)
async def size(text: str) -> int:
    return len(text)


class Site:
    """A class with jobs for methods."""

    def __init__(self, name: str) -> None:
        self.name = name

    @job
    async def read(self, page: int) -> str:
        return f"{self.name} {page}"

    @job(retry=2, label="again")
    async def again(self) -> tuple[str, int]:
        if current_job().attempts < 3:
            raise OSError
        return self.name, current_job().attempts

    @staticmethod
    @job
    async def static(page: int) -> int:
        return page


def result(virtual: Virtual, one: Job[Any]) -> Any:
    virtual(lambda: Scheduler(one).co_run(check=True))
    return one.result()


# --- calling
def test_calling_a_decorated_function_builds_a_job(virtual: Virtual) -> None:
    one, other = fetch(7, suffix="!"), fetch()
    assert type(one) is Job
    assert one is not other
    assert one.is_idle()
    assert one.scheduler is None
    assert one.label == "fetch(7, suffix='!')"
    assert result(virtual, one) == "page 7!"
    assert result(virtual, other) == "page 1"
    assert result(virtual, fetch(page=3)) == "page 3"


def test_options_of_the_decorator_apply_to_each_job(virtual: Virtual) -> None:
    one = size("text")
    assert (one.timeout, one.label, one.critical) == (5, "size", True)
    assert result(virtual, one) == 4


def test_decorator_with_empty_parentheses_is_like_one_without(virtual: Virtual) -> None:
    @job()
    async def answer() -> int:
        return 42

    assert result(virtual, answer()) == 42


def test_jobs_among_the_arguments_become_requirements(virtual: Virtual) -> None:
    @job
    async def join(parts: list[str], *, last: str) -> str:
        return " ".join([*parts, last])

    first, second, third = fetch(1), fetch(2), fetch(3)
    joined = join([first, second], last=third)
    assert list(joined.required) == [first, second, third]
    length = size(joined)
    assert result(virtual, length) == len("page 1 page 2 page 3")


def test_keyword_arguments_named_like_options_reach_the_function(
    virtual: Virtual,
) -> None:
    @job
    async def take(**given: Any) -> dict[str, Any]:
        return given

    given = {
        "label": "mine",
        "timeout": 3,
        "required": None,
        "function": 1,
        "self": 2,
        "kwargs": 3,
        "args": 4,
    }
    one = take(**given)
    assert (
        one.label
        == "take(label='mine', timeout=3, required=None, function=1, self=2, …)"
    )
    assert one.timeout is None
    assert result(virtual, one) == given


def test_a_job_built_by_the_decorator_can_run_again(virtual: Virtual) -> None:
    """`@job` builds jobs of a function, not of a coroutine object, so they can run more than once."""
    one = fetch()
    scheduler = Scheduler(one)
    for _ in range(2):
        virtual(lambda: scheduler.co_run(check=True))
        assert one.result() == "page 1"


# --- options
def test_options_method_overrides_options_of_the_decorator(virtual: Virtual) -> None:
    one = size.options(label="other", timeout=None)("text")
    assert (one.timeout, one.label, one.critical) == (None, "other", True)
    assert (size("text").timeout, size("text").label) == (5, "size")
    assert result(virtual, one) == 4


def test_repeated_calls_of_options_add_up_and_the_last_one_wins() -> None:
    """Each call of `options()` returns a new builder with more options, and leaves the earlier builder unchanged."""
    first = fetch.options(label="a", retry=1)
    second = first.options(label="b", keep_result=False)
    one, other = second(1), first(1)
    assert (one.label, one.retry, one.keep_result) == ("b", Retry(1, first=0), False)
    assert (other.label, other.retry, other.keep_result) == (
        "a",
        Retry(1, first=0),
        True,
    )


def test_options_method_takes_required_and_scheduler(virtual: Virtual) -> None:
    before = Job(anyio.sleep, 2)
    scheduler = Scheduler(before)
    one = fetch.options(required=before, scheduler=scheduler)()
    assert one in scheduler
    virtual(lambda: scheduler.co_run(check=True))
    assert one.started_at == 2


def test_scheduler_given_to_the_decorator_receives_every_job() -> None:
    scheduler = Scheduler()

    @job(scheduler=scheduler)
    async def work() -> None: ...

    assert len(scheduler) == 0
    assert [work(), work()] == list(scheduler)


def test_options_of_a_decorated_method_apply_to_its_job(virtual: Virtual) -> None:
    class Slow:
        @job
        async def sleep(self, seconds: float) -> None:
            await anyio.sleep(seconds)

    one = Slow().sleep.options(timeout=1)(5)
    virtual(Scheduler(one).co_run)
    assert one.state is JobState.FAILED
    assert isinstance(one.raised_exception(), JobTimeout)


# --- what can be decorated
def test_methods_can_be_decorated(virtual: Virtual) -> None:
    """The job of a decorated method is bound to its object, and options of the decorator apply, or are overridden."""
    site = Site("here")
    assert result(virtual, site.read(3)) == "here 3"
    assert result(virtual, site.read.options(label="x")(4)) == "here 4"
    assert site.read(3).label == "read(3)"
    assert site.again().label == "again"
    assert result(virtual, site.again()) == ("here", 3)
    assert result(virtual, Site.read(site, 5)) == "here 5"
    assert result(virtual, Site.static(6)) == 6
    assert result(virtual, site.static.options(label="y")(6)) == 6


def test_decorated_methods_are_inherited(virtual: Virtual) -> None:
    class Mirror(Site):
        @job
        async def both(self, page: int) -> str:
            return await super().read.function(page)

        def base(self, page: int) -> Job[str]:
            return super().read(page)

    assert result(virtual, Mirror("there").read(1)) == "there 1"
    assert result(virtual, Mirror("there").base(1)) == "there 1"
    assert result(virtual, Mirror("there").both(2)) == "there 2"


def test_a_bound_method_can_be_decorated(virtual: Virtual) -> None:
    class Plain:
        async def read(self, page: int) -> tuple[Plain, int]:
            return self, page

    plain = Plain()
    assert result(virtual, job(plain.read)(2)) == (plain, 2)


def test_a_partial_of_an_async_function_can_be_decorated(virtual: Virtual) -> None:
    async def add(one: int, other: int, *, third: int = 0) -> int:
        return one + other + third

    add_two = job(functools.partial(add, 2, third=1))
    assert add_two(3).label == "add(3)"
    assert result(virtual, add_two(add_two(3))) == 9


def test_a_partial_of_a_decorated_function_builds_jobs(virtual: Virtual) -> None:
    assert result(virtual, functools.partial(fetch, suffix="?")(2)) == "page 2?"


def test_a_callable_object_can_be_decorated(virtual: Virtual) -> None:
    class Fetcher:
        def __init__(self) -> None:
            self.function = self.options = self._options = "mine"
            self.func = None

        async def __call__(self, page: int) -> tuple[str, int]:
            return self.function, page

    decorated = job(Fetcher())
    one = decorated.options(retry=1)(3)
    assert one.label == "Fetcher(3)"
    assert result(virtual, one) == ("mine", 3)


def test_attributes_of_a_function_do_not_hide_those_of_the_decorator(
    virtual: Virtual,
) -> None:
    async def marked() -> str:
        return "marked"

    marked.options = "mine"  # type: ignore[attr-defined]
    marked.function = None  # type: ignore[attr-defined]
    assert result(virtual, job(marked).options(label="x")()) == "marked"


def test_an_async_mock_can_be_decorated(virtual: Virtual) -> None:
    mock = unittest.mock.AsyncMock(return_value="mocked")
    for one in job(mock)(1, x=2), Job(mock, 1, kwargs={"x": 2}):
        assert one.label == "AsyncMock(1, x=2)"
        assert result(virtual, one) == "mocked"
    assert mock.await_args_list == [unittest.mock.call(1, x=2)] * 2


def test_a_lambda_that_returns_an_awaitable_can_be_decorated(virtual: Virtual) -> None:
    assert result(virtual, job(lambda seconds: anyio.sleep(seconds))(1)) is None


# --- introspection
def test_a_decorated_function_has_the_metadata_of_the_function() -> None:
    """A decorated function has the name, docstring, module and signature of the function, and can be pickled."""
    assert fetch.__name__ == "fetch"
    assert fetch.__qualname__ == "fetch"
    assert fetch.__module__ == __name__
    assert fetch.__doc__ == "Return the text of a page."
    assert list(inspect.signature(fetch).parameters) == ["page", "suffix"]
    assert list(inspect.signature(Site("x").read).parameters) == ["page"]
    assert fetch.options(label="x").__doc__ == fetch.__doc__
    assert Site.read.__doc__ is None
    assert pickle.loads(pickle.dumps(fetch)) is fetch


def test_function_attribute_is_the_undecorated_function(virtual: Virtual) -> None:
    assert inspect.iscoroutinefunction(fetch.function)
    assert virtual(fetch.function, 4) == "page 4"


# --- rejected
@pytest.mark.parametrize("decorate", [job, job(timeout=5)], ids=["plain", "options"])
def test_decorating_anything_but_an_async_function_raises(decorate: Any) -> None:
    """`@job` of a plain function, a generator, a class or an object that is not callable raises a TypeError."""

    def plain() -> None: ...

    async def generator() -> Any:
        yield

    with pytest.raises(TypeError, match=r"plain.*async def.*ThreadJob"):
        decorate(plain)
    with pytest.raises(TypeError, match="async generator"):
        decorate(generator)
    with pytest.raises(TypeError, match=r"Job\(5\): give an async function"):
        decorate(5)
    with pytest.raises(TypeError, match="Site"):
        decorate(Site)


def test_decorating_a_coroutine_object_raises() -> None:
    """`job()` rejects a coroutine object, which runs once, whereas a builder of jobs is called again and again."""

    async def once() -> None: ...

    coroutine = once()
    with pytest.raises(
        TypeError, match="coroutine object; decorate its async function"
    ):
        job(coroutine)  # type: ignore[call-overload]
    coroutine.close()


def test_unknown_option_raises() -> None:
    async def work() -> None: ...

    with pytest.raises(TypeError, match="colour"):
        job(colour="red")(work)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="colour"):
        job(work).options(colour="red")()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"timeout": -1}, "timeout=-1"),
        ({"run_if": "never"}, "run_if='never'"),
        ({"retry": "x"}, "retry='x'"),
    ],
)
def test_option_out_of_range_raises(options: Any, match: str) -> None:
    async def work() -> None: ...

    for build in (lambda: job(**options)(work), lambda: job(work).options(**options)()):
        with pytest.raises((ValueError, TypeError), match=rf"{match} of 'work\(\)"):
            build()


def test_arguments_that_the_function_does_not_take_are_rejected() -> None:
    with pytest.raises(
        TypeError,
        match=r"fetch.*too many positional arguments: it is fetch\(page, suffix\)",
    ):
        fetch(1, 2, 3)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"labl": "x"}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"run_if": "maybe"}, ValueError),
    ],
)
def test_options_method_raises_at_once_on_wrong_options(
    options: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(options))):
        fetch.options(**options)


# --- other kinds
def test_kind_option_builds_jobs_of_another_kind() -> None:
    """With `@job(kind=ThreadJob)`, the function is plain; options, methods and inputs work as with `Job`."""

    class Text:
        def __init__(self, text: str) -> None:
            self.text = text

        @job(kind=ThreadJob)
        def length(self, times: int) -> int:
            return len(self.text) * times

    @job(kind=functools.partial(ThreadJob, abandon_on_cancel=True), label="twice")
    def double(number: int) -> int:
        return 2 * number

    once = double(21)
    again = double.options(label="again")(Text("abc").length(once))
    assert Scheduler(again).run()
    assert (type(once), once.label, again.label, again.result()) == (
        ThreadJob,
        "twice",
        "again",
        252,
    )


@pytest.mark.parametrize("kind", [CommandJob, 5, "ThreadJob"])
def test_kind_option_rejects_kinds_that_call_no_function(kind: Any) -> None:
    with pytest.raises(
        TypeError, match=r"kind=.* of job\(\): give a kind of job that calls a function"
    ):
        job(kind=kind)(len)
    with pytest.raises(
        TypeError, match=r"kind=.* of map\(\) of 'Scheduler': give a kind of job"
    ):
        Scheduler().map(len, ["a"], kind=kind)


def test_options_of_another_kind_are_checked_at_the_decoration() -> None:
    with pytest.raises(
        TypeError, match="has no option 'memory_limt'; did you mean memory_limit"
    ):
        job(kind=ProcessJob, memory_limt=5)(len)
    with pytest.raises(TypeError, match="write Job"):
        job(kind=ThreadJob)(fetch.function)
