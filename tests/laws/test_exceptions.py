"""The exception of a job is the job's: whoever asks for it gets one object, as the job has raised it.

Cause, context and notes are those that the job has given it, but for one note that names the job, and the traceback
ends in the line that has raised it, whoever has asked before."""

import contextvars
import functools
import gc
import traceback
import weakref
from collections.abc import Callable
from typing import Any, Literal
import anyio
import pytest
from trioflow import Job, Scheduler, Service
from trioflow._core.job._errors import find_interruption
from ..bodies import Flaw, nap, serve
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
    notes = [
        note.partition("raised by the job ")[0]
        for note in getattr(error, "__notes__", ())
    ]
    links = repr(error.__cause__), repr(error.__context__), error.__suppress_context__
    return (
        *links,
        [*filter(None, notes)],
        len(notes),
        traceback.extract_tb(error.__traceback__)[-1].name,
    )


def caught(call: Callable[[], object]) -> BaseException:
    with pytest.raises((Flaw, ExceptionGroup)) as found:
        call()
    error: Any = found.value
    return error if isinstance(error, Flaw) else error.exceptions[0]


@pytest.mark.parametrize("check", [True, "first"])
@pytest.mark.parametrize(
    "raises", [plainly, from_a_cause, amid_another, from_none, with_a_note]
)
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
        doors += [
            each.raise_for_failures,
            functools.partial(each.raise_for_failures, first=True),
        ]

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
    told = [
        *asking.result(),
        (at_end, facts(at_end)),
        *((error, facts(error)) for error in map(caught, doors)),
    ]
    assert {id(error) for error, _ in told} == {id(job.raised_exception())}
    expected: list[Any] = [*facts(caught(raises))]
    assert [*virtual(awaits)] == expected
    expected[4] += 1
    assert [seen for _, [*seen] in told[1:]] == [expected] * (len(told) - 1)


# --- What a job no longer needs is freed, however it has settled, and what it may still need is kept for it
variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")


class Thing:
    """An object that tests can refer to weakly."""


ENDS = [
    "succeeds",
    "fails",
    "is cancelled",
    "is blocked",
    "is skipped",
    "moves on",
    "is tried again",
]


async def body(end: str, job: list[Any], *things: object) -> Thing:
    assert isinstance(variable.get(), Thing)
    del things  # the exception keeps the frame that has raised it
    match end, job[0].attempts:
        case ("fails", _) | ("is tried again", 1):
            raise Flaw
        case (("moves on" | "is cancelled"), _):
            await anyio.sleep(9)
        case _:
            await anyio.sleep(1)
    return Thing()


async def broken() -> None:
    raise Flaw


@pytest.mark.parametrize(
    ("end", "keep_jobs"),
    [*((end, True) for end in ENDS), *((end, False) for end in ENDS[:-1])],
)
def test_a_job_of_an_open_block_leaves_arguments_and_context(
    virtual: Virtual, end: str, keep_jobs: bool
) -> None:
    """After the block, also where the program keeps the job; each attempt sees the context of whoever has added it."""
    kept: list[Any] = []
    freed: list[weakref.ref[Thing]] = []

    async def main() -> None:
        async with Scheduler(
            keep_jobs=keep_jobs, critical_jobs=False, log=False
        ) as scheduler:
            before = Job(broken) if end == "is blocked" else Job(nap)
            argument, value = Thing(), Thing()
            freed.extend([weakref.ref(argument), weakref.ref(value)])
            token = variable.set(value)
            timeout: dict[str, Any] = (
                {"timeout": 2, "on_timeout": "move_on"} if end == "moves on" else {}
            )
            inputs = [before] if end == "is blocked" else []
            condition: Any = "failed" if end == "is skipped" else "succeeded"
            job = Job(
                body,
                end,
                kept,
                argument,
                *inputs,
                required=before,
                run_if=condition,
                **timeout,
            )
            kept.append(job)
            scheduler.add(before)
            scheduler.add(job)
            variable.reset(token)
            del argument, value
            await anyio.sleep(0.5)
            if end == "is cancelled":
                await anyio.sleep(1)
                job.cancel()
            await job.wait_settled()
            if end == "is tried again":
                job.try_again()
                await job.wait_settled()
                assert job.is_succeeded()
        gc.collect()
        assert [each() for each in freed] == [None, None]

    virtual(main)
    assert kept[0].is_settled()


def test_a_job_that_was_dropped_keeps_none_of_those_before_it(virtual: Virtual) -> None:
    """Not as a requirement, an input, an input of an inner job, or a user of a service, though the program keeps it."""
    refs: list[weakref.ref[Any]] = []

    async def use(*_: object) -> Thing:
        await anyio.sleep(1)
        return Thing()

    async def main() -> None:
        async with Scheduler(keep_jobs=False) as scheduler:
            service = scheduler.add(Service(serve))
            first = scheduler.add(Job(use, required=service))
            middle = scheduler.add(
                Scheduler(Job(use, first), Job(use, first), required=first)
            )
            last = scheduler.add(Job(use, first, required=middle))
            for job in (first, middle):
                refs.append(weakref.ref(job))
            del first, middle, job
            await last.wait_settled()
            await anyio.sleep(1)
            gc.collect()
            assert [each() for each in refs] == [None, None]
            assert last.is_succeeded()

    virtual(main)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_of_several_interruptions_the_first_counts(depth: int) -> None:
    first, second = SystemExit(3), KeyboardInterrupt()
    error: BaseException = BaseExceptionGroup("", [OSError(), first, second])
    for _ in range(depth):
        error = BaseExceptionGroup("", [ExceptionGroup("", [ValueError()]), error])
    assert find_interruption(error) is first
    assert find_interruption(ExceptionGroup("", [ValueError()])) is None
