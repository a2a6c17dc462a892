"""The exception of a job is the job's: whoever asks for it gets one object, as the job has raised it.

Cause, context and notes are those that the job has given it, but for one note that names the job, and the traceback
ends in the line that has raised it, whoever has asked before.
"""

import functools
import traceback
from collections.abc import Callable
from typing import Any, Literal

import pytest
from trioflow import Job, Scheduler
from ..bodies import Flaw
from ..conftest import Virtual


def plainly() -> None:
    raise Flaw("raised")


def from_a_cause() -> None:
    raise Flaw("raised") from OSError("the cause")


def amid_another() -> None:
    try:
        raise OSError("the context")
    except OSError:
        raise Flaw("raised")  # noqa: B904 - so it has a context


def from_none() -> None:
    try:
        raise OSError("hidden")
    except OSError:
        raise Flaw("raised") from None


def with_a_note() -> None:
    error = Flaw("raised")
    error.add_note("its own note")
    raise error


def facts(error: BaseException) -> tuple[Any, ...]:
    """Return what stands in an exception, and which function has raised it; the note of the engine is the last."""
    notes = [note.partition("raised by the job ")[0] for note in getattr(error, "__notes__", ())]
    links = repr(error.__cause__), repr(error.__context__), error.__suppress_context__
    return *links, [*filter(None, notes)], len(notes), traceback.extract_tb(error.__traceback__)[-1].name


def caught(call: Callable[[], object]) -> BaseException:
    with pytest.raises((Flaw, ExceptionGroup)) as found:
        call()
    error: Any = found.value
    return error if isinstance(error, Flaw) else error.exceptions[0]


@pytest.mark.parametrize("check", [True, "first"])
@pytest.mark.parametrize("raises", [plainly, from_a_cause, amid_another, from_none, with_a_note])
def test_each_door_gives_the_exception_of_a_job_as_the_job_has_raised_it(
    virtual: Virtual, raises: Callable[[], None], check: Literal[True, "first"]
) -> None:
    """While the run goes on, at its end and after it, also in a nested scheduler; `await job` gives it, too."""

    async def body() -> None:
        raises()

    job = Job(body, label="broken")
    scheduler = Scheduler(inner := Scheduler(job, log=False), log=False)
    doors: list[Callable[[], object]] = [job.result]
    for each in (inner, scheduler):
        doors += [each.raise_for_failures, functools.partial(each.raise_for_failures, first=True)]

    async def asks() -> list[tuple[Any, ...]]:
        await inner.wait_settled()
        return [(error, facts(error)) for error in map(caught, doors)]

    async def awaits() -> tuple[Any, ...]:
        async with Scheduler(log=False) as other:
            try:
                await other.add(Job(body))
            except Flaw as error:
                return facts(error)
        raise AssertionError

    asking = scheduler.add(Job(asks))
    at_end = caught(lambda: virtual(functools.partial(scheduler.co_run, check=check)))
    told = [*asking.result(), (at_end, facts(at_end)), *((error, facts(error)) for error in map(caught, doors))]
    assert {id(error) for error, _ in told} == {id(job.raised_exception())}
    expected: list[Any] = [*facts(caught(raises))]
    assert [*virtual(awaits)] == expected
    expected[4] += 1
    assert [seen for _, [*seen] in told[1:]] == [expected] * (len(told) - 1)
