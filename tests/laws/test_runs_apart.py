"""A run knows nothing of the run before: all that can be asked after it is as after the only run of a new scheduler.

The runs of one scheduler end in each way after each other way, and all questions about it and its jobs are compared."""

import contextlib
import functools
import inspect
import io
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast
import anyio
import pytest
from trioflow import (
    AbstractJob,
    First,
    Job,
    Pool,
    Rate,
    Scheduler,
    Service,
    Throttled,
    current_job,
    current_scheduler,
)
from trioflow._core.words import _job_queries, _run_view
from ..bodies import Flaw, nap
from ..conftest import Virtual

ENDS = ("completed", "failed", "critical", "timeout", "drained", "steered")
ABOUT_MORE = {
    "pool", "scheduler", "required", "instruments", "graph", "last_run", "progress", "close", "reopened_count",
}  # fmt: skip
"""What is asked of other objects, counts all runs, or differs from run to run: what a pool has left, and identities."""


class World:
    def __init__(self, keep_jobs: bool) -> None:
        self.end, self.was_throttled = "completed", False
        quick = Job(self.work, "quick", label="quick", retry=1)
        inner = Scheduler(self.job("x", keep_result=False), label="inner")
        inner.add(Job(self.work, "y", *inner, label="y"))
        first = First(self.job("p"), self.job("q"), label="first", required=quick)
        late = Scheduler(self.job("late"), label="late", required=inner)
        self.scheduler = Scheduler(
            quick, inner, first, late,
            Service(self.serve, label="service"),
            self.job("moves on", timeout=0.5, on_timeout="move_on"),
            self.job("throttled", needs={"api": 1}),
            self.job("clean-up", required=quick, run_if="failed"),
            self.job("steers"),
            self.job("long", critical=True),
            Closing(self),
            label="S", log=False, keep_jobs=keep_jobs, pool=Pool(api=Rate(requests=9, per=0.25)), jobs_window=9,
        )  # fmt: skip

    def job(self, name: str, **options: Any) -> Job[Any]:
        return Job(self.work, name, label=name, **options)

    async def work(self, name: str, _: object = None) -> str:
        """Do what a job of this name does in a run that is to end so; each has its own time."""
        await anyio.sleep(0.25)
        attempts = current_job().attempts
        match self.end, name:
            case ("failed" | "steered", "quick") if attempts == 1:
                raise Flaw("once")
            case "failed", "quick" | "x" | "p" | "q":
                raise Flaw(name)
            case "critical", "long":
                await anyio.sleep(2)
                raise Flaw("critical")
            case "timeout" | "drained", "x" | "p" | "q" | "long":
                await anyio.sleep(6)
            case "drained", "steers":
                await anyio.sleep(2)
                self.scheduler.drain()
            case "steered", "steers":
                await self.steer()
            case "steered", "moves on":
                await anyio.sleep(6)
            case "steered", "throttled" if not self.was_throttled:
                self.was_throttled = True
                raise Throttled("api", after=0.5)
            case "steered", "again" if attempts == 1:
                raise Flaw("once")
            case _:
                pass
        return name

    async def steer(self) -> None:
        """Pause, let another number of jobs run, report progress, add jobs, and try one again."""
        scheduler = current_scheduler()
        scheduler.pause()
        await anyio.sleep(1)
        scheduler.resume()
        scheduler.jobs_window = 8
        scheduler.jobs_window = 9
        current_job().progress(0.5)
        again = scheduler.add(self.job("again"))
        scheduler.add(self.job("added"))
        try:
            await again
        except Flaw:
            again.try_again()
            await again

    async def serve(self, *, task_status: Any) -> None:
        if self.end == "steered":
            await anyio.sleep(0.5)
        task_status.started("ready")
        await anyio.sleep_forever()

    async def run(self, end: str) -> dict[str, Any]:
        """Run to an end, and return what can be asked afterwards."""
        self.end, self.was_throttled = end, False
        await self.scheduler.co_run(timeout=4 if end == "timeout" else None)
        return dict(self.answers())

    def answers(self) -> Iterator[tuple[str, Any]]:
        for job in (self.scheduler, *self.scheduler.iterate_jobs()):
            for question, ask in questions(cast("Any", type(job))).items():
                try:
                    answer = ask(job)
                except Exception as error:
                    answer = error
                yield f"{question} of {job.label}", plain(answer)
        text = io.StringIO()
        self.scheduler.debrief(text, listing=True)
        yield "debrief", plain(text.getvalue())


class Closing(AbstractJob[None]):
    """A job whose shutdown fails in a run that is to fail."""

    def __init__(self, world: World) -> None:
        super().__init__(label="closing")
        self.world = world

    async def co_run(self) -> None:
        await nap(0.25)

    async def co_shutdown(self) -> None:
        if self.world.end == "failed":
            raise Flaw("shutdown")


@functools.cache
def questions(kind: type[AbstractJob[Any]]) -> dict[str, Callable[[Any], object]]:
    """Return what a job of this kind can be asked: attributes, methods that only ask, and functions about it."""
    found: dict[str, Callable[[Any], object]] = {}
    asks = [
        "result",
        "failures",
        "results",
        "raised_exception",
        "raise_for_failures",
        "__repr__",
    ]
    for name in dir(kind):
        value = inspect.getattr_static(kind, name)
        is_property = hasattr(value, "__get__") and not callable(value)
        if is_property and name[0] != "_" and name not in ABOUT_MORE:
            found[name] = operator.attrgetter(name)
        elif (name in asks or name.startswith("is_")) and name != "is_runnable":
            found[name] = operator.methodcaller(name)
    found["explain"] = lambda job: job.scheduler.explain(job) if job.scheduler else ""
    subject = "scheduler" if issubclass(kind, Scheduler) else "job"
    for module in (_job_queries, _run_view):
        for name, function in vars(module).items():
            if (
                inspect.isfunction(function)
                and function.__module__ == module.__name__
                and name not in ABOUT_MORE
            ):
                parameters = inspect.signature(function).parameters.values()
                if [each.name for each in parameters if each.default is each.empty] in (
                    ["job"],
                    [subject],
                ):
                    found[name] = function
    return found


def plain(value: Any) -> Any:
    """Return an answer in a form in which the answers of two schedulers can be compared."""
    if isinstance(value, AbstractJob):
        return value.label
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, BaseException):
        return (
            type(value).__name__,
            str(value),
            [*map(plain, getattr(value, "exceptions", ()))],
        )
    if isinstance(value, Mapping):
        value = cast("Any", value).items()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [*map(plain, cast("Any", value))]
    return re.sub(r"0x\w+", "", repr(value))


def each_after_each(names: tuple[str, ...]) -> list[str]:
    """Return names so that each comes once after each, also after itself."""
    left = {name: [*names] for name in names}
    path, stack = list[str](), [names[0]]
    while stack:
        if left[stack[-1]]:
            stack.append(left[stack[-1]].pop())
        else:
            path.append(stack.pop())
    return path


@pytest.mark.parametrize(
    "ends",
    [
        ("completed", "failed", "steered", "drained"),
        pytest.param(ENDS, marks=pytest.mark.ci),
    ],
    ids=["four", "all"],
)
def test_all_answers_are_those_after_the_only_run_of_a_new_scheduler(
    virtual: Virtual, ends: tuple[str, ...]
) -> None:
    """Whatever the end of the run before, and of all before that; on one backend, jobs that are added are dropped."""
    keep_jobs = virtual.backend == "trio"
    alone = {end: virtual(World(keep_jobs).run, end) for end in ends}
    assert len({str(answers) for answers in alone.values()}) == len(ends), (
        "each end is another"
    )
    world = World(keep_jobs)
    for end in each_after_each(ends):
        answers = virtual(world.run, end)
        differences = {
            name: (answer, alone[end].get(name)) for name, answer in answers.items()
        }
        assert {
            name: pair for name, pair in differences.items() if pair[0] != pair[1]
        } == {}, end


def test_all_answers_about_jobs_are_the_same_in_an_open_scheduler(
    virtual: Virtual,
) -> None:
    """A job of a block that has settled runs no more, so much about it is freed; nothing that can be asked is lost."""

    async def run_open(end: str) -> dict[str, Any]:
        world = World(keep_jobs=True)
        world.end = end
        with contextlib.suppress(Exception):
            async with world.scheduler:
                pass
        return dict(world.answers())

    for end in ("completed", "failed", "steered"):
        closed, opened = virtual(World(keep_jobs=True).run, end), virtual(run_open, end)
        # Whether more is kept about a job, and its call, which it has released.
        freed = ("end_facts", "_code_of", "function of", "args of", "kwargs of")
        asked = [name for name in opened if not name.startswith(freed)]
        assert {name: opened[name] for name in asked} == {
            name: closed[name] for name in asked
        }, end
