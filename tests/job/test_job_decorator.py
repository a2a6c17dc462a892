"""`@job`: an async function that builds a `Job` when it is called."""

from __future__ import annotations

import functools
import inspect
import pickle
import unittest.mock
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import CommandJob, Job, JobState, JobTimeout, ProcessJob, Scheduler, ThreadJob, current_job, job

if TYPE_CHECKING:
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


def test_a_call_builds_a_job(virtual: Virtual) -> None:
    """Calling the decorated function runs nothing: it builds a `Job` with these arguments, a new one each time."""
    one, other = fetch(7, suffix="!"), fetch()
    assert type(one) is Job
    assert one is not other
    assert one.is_idle()
    assert one.scheduler is None
    assert one.label == "fetch(7, suffix='!')"
    assert result(virtual, one) == "page 7!"
    assert result(virtual, other) == "page 1"
    assert result(virtual, fetch(page=3)) == "page 3"


def test_with_options(virtual: Virtual) -> None:
    """`@job(...)` builds each job with these options."""
    one = size("text")
    assert (one.timeout, one.label, one.critical) == (5, "size", True)
    assert result(virtual, one) == 4


def test_with_empty_parentheses(virtual: Virtual) -> None:
    """`@job()` is `@job`."""

    @job()
    async def answer() -> int:
        return 42

    assert result(virtual, answer()) == 42


def test_jobs_as_arguments(virtual: Virtual) -> None:
    """Jobs among the arguments are dependencies, in keyword arguments and containers too."""

    @job
    async def join(parts: list[str], *, last: str) -> str:
        return " ".join([*parts, last])

    first, second, third = fetch(1), fetch(2), fetch(3)
    joined = join([first, second], last=third)
    assert list(joined.required) == [first, second, third]
    length = size(joined)
    assert result(virtual, length) == len("page 1 page 2 page 3")


def test_keyword_arguments_are_the_functions_own(virtual: Virtual) -> None:
    """A keyword that is an option of jobs, or a name of ours, reaches the function: options are given elsewhere."""

    @job
    async def take(**given: Any) -> dict[str, Any]:
        return given

    given = {"label": "mine", "timeout": 3, "required": None, "function": 1, "self": 2, "kwargs": 3, "args": 4}
    one = take(**given)
    assert one.label == "take(label='mine', timeout=3, required=None, function=1, self=2, …)"
    assert one.timeout is None
    assert result(virtual, one) == given


def test_a_job_can_run_again(virtual: Virtual) -> None:
    """A job from the decorator runs again: it was made of a function, not of a coroutine."""
    one = fetch()
    scheduler = Scheduler(one)
    for _ in range(2):
        virtual(lambda: scheduler.co_run(check=True))
        assert one.result() == "page 1"


# --- options


def test_options_override(virtual: Virtual) -> None:
    """`f.options(...)(...)`: these options instead of those of the decorator, the others as they were."""
    one = size.options(label="other", timeout=None)("text")
    assert (one.timeout, one.label, one.critical) == (None, "other", True)
    assert (size("text").timeout, size("text").label) == (5, "size")
    assert result(virtual, one) == 4


def test_options_of_options() -> None:
    """Several `options` add up, the last one wins, and none changes the one before."""
    first = fetch.options(label="a", retry=1)
    second = first.options(label="b", keep_result=False)
    one, other = second(1), first(1)
    assert (one.label, one.retry, one.keep_result) == ("b", 1, False)
    assert (other.label, other.retry, other.keep_result) == ("a", 1, True)


def test_options_that_tie_a_job_to_others(virtual: Virtual) -> None:
    """`required` and `scheduler` work as for `Job`."""
    before = Job(anyio.sleep, 2)
    scheduler = Scheduler(before)
    one = fetch.options(required=before, scheduler=scheduler)()
    assert one in scheduler
    virtual(lambda: scheduler.co_run(check=True))
    assert one.started_at == 2


def test_a_scheduler_in_the_decorator_gets_every_job() -> None:
    """`@job(scheduler=s)` adds what calls build, and nothing before."""
    scheduler = Scheduler()

    @job(scheduler=scheduler)
    async def work() -> None: ...

    assert len(scheduler) == 0
    assert [work(), work()] == list(scheduler)


def test_options_of_a_method_and_of_a_timeout(virtual: Virtual) -> None:
    """Options of a method's job are those of the job, and do what they say."""

    class Slow:
        @job
        async def sleep(self, seconds: float) -> None:
            await anyio.sleep(seconds)

    one = Slow().sleep.options(timeout=1)(5)
    virtual(Scheduler(one).co_run)
    assert one.state is JobState.FAILED
    assert isinstance(one.raised_exception(), JobTimeout)


# --- what can be decorated


def test_methods(virtual: Virtual) -> None:
    """A method's job is bound to its object; options of the decorator hold for it, and can be overridden."""
    site = Site("here")
    assert result(virtual, site.read(3)) == "here 3"
    assert result(virtual, site.read.options(label="x")(4)) == "here 4"
    assert site.read(3).label == "read(3)"
    assert site.again().label == "again"
    assert result(virtual, site.again()) == ("here", 3)
    assert result(virtual, Site.read(site, 5)) == "here 5"
    assert result(virtual, Site.static(6)) == 6
    assert result(virtual, site.static.options(label="y")(6)) == 6


def test_a_method_of_a_subclass(virtual: Virtual) -> None:
    """Methods are found through inheritance, and `super()` gives those of the base."""

    class Mirror(Site):
        @job
        async def both(self, page: int) -> str:
            return await super().read.function(page)

        def base(self, page: int) -> Job[str]:
            return super().read(page)

    assert result(virtual, Mirror("there").read(1)) == "there 1"
    assert result(virtual, Mirror("there").base(1)) == "there 1"
    assert result(virtual, Mirror("there").both(2)) == "there 2"


def test_a_bound_method(virtual: Virtual) -> None:
    """`job(obj.method)` decorates a method of one object."""

    class Plain:
        async def read(self, page: int) -> tuple[Plain, int]:
            return self, page

    plain = Plain()
    assert result(virtual, job(plain.read)(2)) == (plain, 2)


def test_partials(virtual: Virtual) -> None:
    """A `functools.partial` of an async function can be decorated, jobs among its later arguments."""

    async def add(one: int, other: int, *, third: int = 0) -> int:
        return one + other + third

    add_two = job(functools.partial(add, 2, third=1))
    assert add_two(3).label == "add(3)"
    assert result(virtual, add_two(add_two(3))) == 9


def test_partial_of_a_decorated_function(virtual: Virtual) -> None:
    """A partial of what the decorator made builds jobs, too."""
    assert result(virtual, functools.partial(fetch, suffix="?")(2)) == "page 2?"


def test_callable_objects(virtual: Virtual) -> None:
    """An object with an async `__call__` can be decorated, whatever its attributes are called."""

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


def test_a_function_with_attributes_of_its_own(virtual: Virtual) -> None:
    """A function's own attributes hide none of the decorator's."""

    async def marked() -> str:
        return "marked"

    marked.options = "mine"  # type: ignore[attr-defined]
    marked.function = None  # type: ignore[attr-defined]
    assert result(virtual, job(marked).options(label="x")()) == "marked"


def test_mocks(virtual: Virtual) -> None:
    """A mock has any attribute; a label is found nevertheless, and the job runs."""
    mock = unittest.mock.AsyncMock(return_value="mocked")
    for one in job(mock)(1, x=2), Job(mock, 1, kwargs={"x": 2}):
        assert one.label == "AsyncMock(1, x=2)"
        assert result(virtual, one) == "mocked"
    assert mock.await_args_list == [unittest.mock.call(1, x=2)] * 2


def test_lambdas(virtual: Virtual) -> None:
    """A lambda that returns an awaitable, too."""
    assert result(virtual, job(lambda seconds: anyio.sleep(seconds))(1)) is None


# --- looking at it


def test_a_decorated_function_looks_like_the_function() -> None:
    """Name, docs, module and signature are those of the function."""
    assert fetch.__name__ == "fetch"
    assert fetch.__qualname__ == "fetch"
    assert fetch.__module__ == __name__
    assert fetch.__doc__ == "Return the text of a page."
    assert list(inspect.signature(fetch).parameters) == ["page", "suffix"]
    assert list(inspect.signature(Site("x").read).parameters) == ["page"]
    assert fetch.options(label="x").__doc__ == fetch.__doc__
    assert Site.read.__doc__ is None
    assert pickle.loads(pickle.dumps(fetch)) is fetch


def test_the_function_itself_can_be_had(virtual: Virtual) -> None:
    """`f.function` is what was decorated: to be awaited without any scheduler."""
    assert inspect.iscoroutinefunction(fetch.function)
    assert virtual(fetch.function, 4) == "page 4"


# --- refused


@pytest.mark.parametrize("decorate", [job, job(timeout=5)], ids=["plain", "options"])
def test_what_is_no_async_function_is_refused_at_once(decorate: Any) -> None:
    """A plain function, a class, a generator, something not callable: TypeError where it is decorated."""

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


def test_a_coroutine_object_is_refused() -> None:
    """`job(f())` is a TypeError that says so: a coroutine runs once, what builds jobs is called again and again."""

    async def once() -> None: ...

    coroutine = once()
    with pytest.raises(TypeError, match="coroutine object; decorate the async function"):
        job(coroutine)  # type: ignore[call-overload]
    coroutine.close()


def test_unknown_option_is_refused() -> None:
    """A wrong option is a TypeError that names it: in the decorator at once, in `options` when the job is built."""

    async def work() -> None: ...

    with pytest.raises(TypeError, match="colour"):
        job(colour="red")(work)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="colour"):
        job(work).options(colour="red")()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "match"),
    [({"timeout": -1}, "timeout=-1"), ({"run_if": "never"}, "run_if='never'"), ({"retry": "x"}, "retry='x'")],
)
def test_option_out_of_its_range_is_refused(options: Any, match: str) -> None:
    """The message is that of `Job`, and names the function."""

    async def work() -> None: ...

    for build in (lambda: job(**options)(work), lambda: job(work).options(**options)()):
        with pytest.raises((ValueError, TypeError), match=rf"{match} of 'work\(\)"):
            build()


def test_wrong_arguments_are_the_functions_own_error(virtual: Virtual) -> None:
    """Arguments that the function does not take make the job fail at its start, as for `Job`."""
    one = fetch(1, 2, 3)
    virtual(Scheduler(one).co_run)
    assert one.state is JobState.FAILED
    assert isinstance(one.raised_exception(), TypeError)


def test_job_of_a_decorated_function_is_refused() -> None:
    """A decorated function builds a job when called: as the function of a job it would do nothing."""
    with pytest.raises(TypeError, match=r"Job\(fetch\): it is decorated with @job already: call it, fetch\(\.\.\.\)"):
        Job(fetch, 1)


@pytest.mark.parametrize(
    ("options", "error"), [({"labl": "x"}, TypeError), ({"timeout": -1}, ValueError), ({"run_if": "maybe"}, ValueError)]
)
def test_wrong_options_are_refused_where_they_are_written(options: Any, error: type[Exception]) -> None:
    """`options` checks at once, not when the first job is built."""
    with pytest.raises(error, match=next(iter(options))):
        fetch.options(**options)


# --- other kinds


def test_a_kind_may_be_given() -> None:
    """The decorated function is plain then; options, methods and jobs among the arguments are as with `Job`."""

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
    assert (type(once), once.label, again.label, again.result()) == (ThreadJob, "twice", "again", 252)


@pytest.mark.parametrize("kind", [CommandJob, 5, "ThreadJob"])
def test_what_calls_no_function_is_not_a_kind(kind: Any) -> None:
    """The error says what is."""
    with pytest.raises(TypeError, match=r"kind=.* of job\(\): give a kind of job that calls a function"):
        job(kind=kind)(len)
    with pytest.raises(TypeError, match=r"kind=.* of map\(\) of 'Scheduler': give a kind of job"):
        Scheduler().map(len, ["a"], kind=kind)


def test_the_options_of_a_kind_are_checked_at_once() -> None:
    """The check is at the decoration, not when the first job is built."""
    with pytest.raises(TypeError, match="has no option 'memory_limt'; did you mean memory_limit"):
        job(kind=ProcessJob, memory_limt=5)(len)
    with pytest.raises(TypeError, match="write Job"):
        job(kind=ThreadJob)(fetch.function)
