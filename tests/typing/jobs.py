"""Checked by mypy and pyright, never run: the types of jobs and schedulers for users."""

import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_type
import trioflow
from trioflow import (
    AbstractJob,
    First,
    Job,
    JobState,
    ProcessJob,
    Scheduler,
    Sequence,
    StopReason,
    ThreadJob,
)
from trioflow.abc import Instrument
from trioflow.view import listing


async def double(number: int) -> int:
    return 2 * number


async def fetch(number: int) -> str:
    return str(number)


def length(text: str) -> int:
    return len(text)


def repeat(text: str, times: int, between: str) -> str:
    return between.join([text] * times)


class Greeting(AbstractJob[str]):
    async def co_run(self) -> str:
        return "hello"


class Starts(Instrument):
    def job_started(self, scheduler: Scheduler, job: AbstractJob) -> None:
        print(job.label, listing(scheduler))


def labels(jobs: Iterable[AbstractJob]) -> list[str]:
    return [job.label for job in jobs]


executor = ThreadPoolExecutor()
job = Job(double, 21, label="twice", timeout=5)
assert_type(job.result(), int)
assert_type(Job(double(21)).result(), int)
assert_type(Job(lambda: double(21)).result(), int)
assert_type(ThreadJob(length, "text").result(), int)
assert_type(
    ThreadJob(length, "text", abandon_on_cancel=True, label="size").result(), int
)
assert_type(ThreadJob(length, ThreadJob(str, 3)).result(), int)
assert_type(ThreadJob(sorted, [3, 1]).result(), list[Any])  # pyright: ignore[reportAssertTypeFailure]  # it knows more
assert_type(ThreadJob(sum, [3, 1]).result(), int)
assert_type(ProcessJob(pow, 3, 2, nice=5).result(), Any)  # type: ignore[assert-type]  # mypy knows more
assert_type(ThreadJob(repeat, "a", 3, "-").result(), str)
assert_type(ThreadJob(functools.partial(repeat, "a"), 3, "-").result(), str)
assert_type(ProcessJob(repeat, "a", 3, "-", processes=executor).result(), str)
assert_type(ProcessJob(list, range(3)).result(), list[Any])
assert_type(Greeting().result(), str)
assert_type(job.requires(Greeting(), None, [Sequence()]), Job[int])
assert_type(job.state, JobState)

scheduler = Scheduler(
    job, Sequence(Greeting(), None), jobs_window=4, timeout=None, critical_jobs=True
)
assert_type(scheduler.add(job), Job[int])
assert_type(scheduler.run(backend="asyncio", instruments=[Starts()]), bool)
assert_type(scheduler.stop_reason, StopReason | None)
assert_type(scheduler.result(), bool)
assert_type(labels(scheduler), list[str])
assert_type(job.scheduler, Scheduler | None)
assert_type(job.result(default=None), int | None)
assert_type(scheduler.results(), dict[AbstractJob[Any], Any])
assert_type(scheduler.culprit, AbstractJob[Any] | None)
assert_type(trioflow.current_job(), AbstractJob[Any])

Job(double, 1, on_timeout="explode")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
Job(double, 1, colour="red")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
Job(length, "text")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
Scheduler(job_window=3)  # type: ignore[call-arg]  # pyright: ignore[reportArgumentType]
ThreadJob(length, 3)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
ThreadJob(length)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
ProcessJob(repeat, "a", "3", "-")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
ProcessJob(repeat, "a", 3)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
ProcessJob(length, 3, processes=executor)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
ThreadJob(length, "text", nice=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
ThreadJob(double, 21).result() + 1  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
scheduler.run(backend="curio")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


texts, sizes = Job(fetch, 1), ThreadJob(length, "text")
assert_type(First(texts, Job(fetch, 2), stagger=1).result(), str)
assert_type(First(texts, Job(fetch, 2), enough=2, stagger=1).result(), list[str])
assert_type(First(Sequence(texts), [texts]).result(), Any)
assert_type(First(texts), First[str])
ThreadJob(length, First(texts))
first_size = First(sizes)
ThreadJob(length, first_size)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
assert_type(scheduler.map(fetch, [1, 2]), list[Job[str]])
assert_type(scheduler.map(length, ["a"], kind=ThreadJob)[0].result(), int)


# --- each option of a scheduler is checked: its own ones, and those of every job

Scheduler(
    retry=3, needs={"cpu": 1}, label="x", timeout=3, jobs_window=2, durations={"a": 1.0}
)
First(enough=2, jobs_window=1, critical_jobs=True, timeout=3)
Scheduler(jobs_window="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Scheduler(timeout="5s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Scheduler(critical=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Scheduler(nothing=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
