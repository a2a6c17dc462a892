"""Checked by mypy and pyright, never run: the types of data flow, `@job`, services, `map` and blocks."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, assert_type
import anyio
import anyio.abc
import trio
from trioflow import AbstractJob, Job, Scheduler, Service, job, ref

# --- @job keeps the signature, and takes a job in the place of each value

T = TypeVar("T")


@job
async def fetch(page: int) -> str:
    return str(page)


@job(timeout=5, retry=2)
async def count(text: str, *, word: str = "a") -> int:
    return text.count(word)


@job
async def join(first: str, second: int, third: float = 1.0, *, sep: str = "") -> bytes:
    return f"{first}{sep}{second}{third}".encode()


@job
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@job
async def add(*numbers: int, **named: str) -> None: ...


@job
async def nothing() -> None: ...


class Site:
    @job
    async def size(self, page: int, text: str) -> float:
        return 1.0


page = fetch(7)
assert_type(page, Job[str])
assert_type(page.result(), str)
assert_type(fetch(page=7), Job[str])
assert_type(count("text", word="b"), Job[int])
assert_type(count(page), Job[int])
assert_type(count(page, word="b"), Job[int])
assert_type(count(text=page), Job[int])
assert_type(count(page, word=page), Job[int])
assert_type(join(page, 3), Job[bytes])
assert_type(join("first", count(page), 2.0, sep=","), Job[bytes])
assert_type(join(page, count(page), count(page), sep=","), Job[bytes])
assert_type(join(page, second=count(page)), Job[bytes])
assert_type(total([1, 2]), Job[int])
assert_type(total([count(page), count(page)]), Job[int])
assert_type(add(1, 2, 3, a="b"), Job[None])
assert_type(add(count(page), 2, 3, a="b"), Job[None])
assert_type(nothing(), Job[None])
assert_type(Site().size(1, "text"), Job[float])
assert_type(Site().size(count(page), page), Job[float])
assert_type(fetch.options(label="other")(7), Job[str])
assert_type(count.options(timeout=1)(page, word="b"), Job[int])

fetch("seven")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
fetch(count)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
fetch(1, 2)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
fetch(pages=7)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
count(count(page))  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
count(page, colour="b")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
count("text", colour="b")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
join(page, page)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
Site().size("one", page)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
fetch.options(colour="red")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@job  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def plain(page: int) -> str:
    return str(page)


# --- Job
async def double(number: int) -> int:
    return 2 * number


async def add_up(numbers: list[int]) -> int:
    return sum(numbers)


class Eleven(AbstractJob[int]):
    async def co_run(self) -> int:
        return 11


assert_type(Job(double, Job(double, 21)).result(), int)
assert_type(Job(double, Eleven(), run_if="succeeded", keep_result=False).result(), int)
assert_type(Job(functools.partial(double, 21)).result(), int)
assert_type(Job(double, ref(Eleven())), Job[int])

Job(double, 21, run_if="never")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
Job(double, 21, retry="twice")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
Job(double, "wrong")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
Job(double)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
Job(double, 1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
assert_type(Job(double, kwargs={"number": 21}), Job[int])
assert_type(Job(add_up, [Job(double, 1), Job(double, 2)]), Job[int])
mixed: list[Any] = [Job(double, 1), 2]
assert_type(Job(add_up, mixed), Job[int])
Job(add_up, [Job(double, 1), 2])  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
Job(double, [1, 2])  # type: ignore[list-item]  # pyright: ignore[reportCallIssue, reportArgumentType]

# A job whose result may be anything, such as one that came out of a scheduler, can be given for every parameter.


async def label(page: int, text: str) -> str:
    return f"{page} {text}"


async def describe(page: int, text: str, size: float, word: bytes = b"") -> str:
    return f"{page} {text} {size}"


async def call(function: Callable[[int], str]) -> str:
    return function(1)


async def same(value: T) -> T:
    return value


def unknown(
    any_job: AbstractJob,
    service: Service[Any],
    value: Any,
    flag: Job[bool],
    maybe: Job[None],
) -> None:
    assert_type(Job(double, any_job), Job[int])
    assert_type(Job(double, service), Job[int])
    assert_type(Job(double, value), Job[int])
    assert_type(Job(double, flag), Job[int])
    assert_type(Job(label, 1, any_job), Job[str])
    assert_type(Job(label, service, any_job, timeout=5), Job[str])
    assert_type(Job(describe, service, any_job, flag, any_job), Job[str])
    assert_type(Job(lambda page: label(page, "b"), 1), Job[str])
    assert_type(Job(call, str), Job[str])
    assert_type(Job(same, 1), Job[int])
    assert_type(Scheduler().map(double, [any_job, 2, flag]), list[Job[int]])
    assert_type(Scheduler().map(double, Scheduler()), list[Job[int]])
    assert_type(Scheduler().map(label, range(2), [any_job, "b"]), list[Job[str]])
    Job(double, maybe)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Job(label, any_job, 2)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Job(call, double)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    count(any_job, word=service)


# --- Service: its result is what `started` is called with
async def server(port: int, *, task_status: anyio.abc.TaskStatus[str]) -> None:
    task_status.started("address")


async def silent(
    *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    task_status.started()


async def untold(port: int, *, host: str, task_status: Any) -> None: ...


async def on_trio(
    port: int, host: str = "", *, task_status: trio.TaskStatus[str]
) -> None: ...


async def silent_on_trio(
    *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None: ...


class Pool:
    async def serve(
        self, size: int, host: str, *, task_status: anyio.abc.TaskStatus[bytes]
    ) -> None: ...


assert_type(Service(server, 80).result(), str)
assert_type(Service(server, Job(double, 40), timeout=5, label="server").result(), str)
assert_type(Service(silent).result(), None)
assert_type(Service(on_trio, 80).result(), str)
assert_type(Service(silent_on_trio).result(), None)
assert_type(Service(Pool().serve, 5, "here").result(), bytes)
assert_type(Service(untold, 80, kwargs={"host": "here"}).result(), Any)
listening = Service(server, 80)
assert_type(count(listening), Job[int])

fetch(listening)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
Service(server, 80, colour="red")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
Service(len)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]


# --- while it runs
async def live() -> None:
    async with Scheduler(jobs_window=2) as scheduler:
        assert_type(scheduler, Scheduler)
        doubled = scheduler.map(double, [1, 2, 3], timeout=5)
        assert_type(doubled, list[Job[int]])
        assert_type(scheduler.map(double, doubled), list[Job[int]])
        assert_type(scheduler.add(Service(server, 80)), Service[str])
        async for settled in scheduler.as_settled():
            assert_type(settled, AbstractJob[Any])
            assert_type(scheduler.explain(settled), str)
        numbers = dict(zip(doubled, [1, 2, 3], strict=True))
        async for chosen in scheduler.as_settled(numbers):
            assert_type(numbers[chosen], int)
            assert_type(chosen, Job[int])
    scheduler.map(double)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    scheduler.map(len, ["a"])  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    scheduler.map(double, 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    scheduler.map(double, [1], colour="red")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    scheduler.map(double, ["a"])  # type: ignore[list-item]  # pyright: ignore[reportCallIssue, reportArgumentType]
