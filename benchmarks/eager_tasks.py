"""What an eager asyncio task for each job costs: python -m benchmarks.eager_tasks [--tiny]. It needs Python 3.12.

trioflow's workers run one job after another in the same task. From Python 3.12 on, a task can be eager: it runs at
once, up to its first suspension, and the event loop never hears of one that does not suspend. So an engine could give
each job a task of its own. `EagerTasks` is the least that such an engine must do. It is compared with trioflow, with
trioflow's `own_task=True`, and with what is written by hand. docs/design.md says what was decided, and why.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, cast

from anyio._backends import _asyncio as anyio_asyncio
from rich.console import Console

from trioflow import Job, Scheduler

from . import graphs, tables
from .bodies import Body, no_op
from .cases import cancelling, features, memory, running
from .graphs import Graph
from .measuring import Contest, Contestant, Measurement, Sample, Setting, Stopwatch, hold
from .plans import FIGURE_SHAPES, FULL, TINY
from .report import load, machine
from .rivals import OURS, Rival, find, ours

LEAST: Final = "eager tasks, the least"
OWN: Final = f"{OURS}, own_task=True"
TURN_SECONDS: Final = 0.001
TURN_JOBS: Final = 200

TASK_STATES: Final = cast(Any, anyio_asyncio)._task_states  # anyio's record of the innermost cancel scope of each task
RECORDS: Final[dict[Any, Any]] = TASK_STATES.data  # its entries; to reach them directly takes half as long
REMOVE: Final = TASK_STATES._remove
EAGER_TASK: Final = cast(Any, asyncio.Task)  # `eager_start` is unknown to the types of 3.11

job_of_task: Final[contextvars.ContextVar[OneJob]] = contextvars.ContextVar("job of task")


class OneJob(anyio_asyncio.TaskState):
    """A job, and what anyio knows about its task."""

    __slots__ = ("ended", "has_waited", "key", "number", "outcome", "started", "state", "task")


class EagerTasks:
    """The least that an engine must do which gives each job of a graph an eager task of its own.

    It keeps the state, the times and the outcome of each job; makes the job known in the context of its task; puts the
    task into one cancel scope of anyio; notices a scope that is left open and a cancellation that is not; never starts
    a task from within the start of another, so that nothing recurses; and starts tasks for at most a millisecond in a
    turn of the loop. It has no windows, rules, timeouts, instruments or background jobs.
    """

    def __init__(self, graph: Graph, body: Body) -> None:
        self._body = body
        self._waiting_for = [len(required) for required in graph.requirements]
        self._successors = graph.successors()
        self._ready = deque(graph.entries)
        self.scope: Any = anyio_asyncio.CancelScope()

    async def run(self) -> None:
        """Run all jobs."""
        body, waiting_for, successors, ready, scope = (
            self._body, self._waiting_for, self._successors, self._ready, self.scope,
        )  # fmt: skip
        loop, base, clock = asyncio.get_running_loop(), contextvars.copy_context(), time.monotonic
        current_task, reference, tasks = asyncio.current_task, weakref.ref, scope._tasks
        scope._host_task = host = cast(Any, current_task())
        around = TASK_STATES.get(host)
        if around is not None:
            scope._parent_scope = around.cancel_scope
            scope._parent_scope._child_scopes.add(scope)
        left, is_starting, over = len(waiting_for), False, asyncio.Event()
        alive: dict[OneJob, None] = {}

        async def perform(job: OneJob) -> None:
            nonlocal left
            job.task = task = current_task()
            job.key = key = reference(task, REMOVE)
            RECORDS[key] = job
            value: Any = None
            error: BaseException | None = None
            try:
                value = await body(job.number)
                if job.cancel_scope is not scope or cast(Any, task)._must_cancel:
                    raise RuntimeError("the job left a scope open, or cancelled its own task")
            except BaseException as raised:
                error = raised
            job.ended = clock()
            job.outcome = value if error is None else error
            job.state = "settled"
            left -= 1
            for successor in successors[job.number]:
                waiting_for[successor] -= 1
                if not waiting_for[successor]:
                    ready.append(successor)
            del RECORDS[key]
            if job.has_waited:
                tasks.discard(task)
                del alive[job]
                if not is_starting:
                    start()

        def start() -> None:
            nonlocal is_starting
            is_starting = True
            now = clock()
            ends, number_left = now + TURN_SECONDS, TURN_JOBS
            job: OneJob | None = None
            while ready:
                if now > ends or not number_left:
                    loop.call_soon(start)
                    break
                number_left -= 1
                if job is None:  # otherwise the last one has not waited, and what anyio knows of its task is as it was
                    job = OneJob(None, scope)
                    alive[job] = None
                    job.has_waited = False
                    with_job = base.copy()
                    with_job.run(job_of_task.set, job)
                job.number, job.started, job.state = ready.popleft(), now, "running"
                EAGER_TASK(perform(job), loop=loop, context=with_job.copy(), eager_start=True)
                if job.state == "settled":
                    now = job.ended
                else:
                    job.has_waited = True
                    tasks.add(job.task)
                    job, now = None, clock()
            if job is not None:
                del alive[job]
            is_starting = False
            if not left:
                over.set()

        start()
        await over.wait()
        if around is not None:
            scope._parent_scope._child_scopes.discard(scope)


# ---- what is compared


def least(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    return EagerTasks(graph, body).run


def with_own_tasks(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    return partial(ours.scheduler(graph, body, own_task=True).co_run, check=True)


def contestants() -> list[Rival]:
    """Return trioflow, with and without own tasks, the least with eager tasks, and the best of what is by hand."""
    by_hand = ("TaskGroup alone", "counters on a TaskGroup", "gather level by level", "gather of tasks")
    plain = find(OURS, "asyncio")
    return [
        plain,
        replace(plain, name=OWN, build=with_own_tasks),
        replace(plain, name=LEAST, build=least, takes_window=False),
        *(find(name, "asyncio") for name in by_hand),
    ]


def groups_of_least(backend: str, size: int, body: Body) -> features.Run:
    async def group(number: int) -> None:
        await EagerTasks(graphs.make("wide", features.GROUP), body).run()

    return EagerTasks(graphs.make("wide", size // features.GROUP), group).run


def groups_with_own_tasks(backend: str, size: int, body: Body) -> features.Run:
    groups = (
        Scheduler(*(Job(body, number) for number in range(first, first + features.GROUP)))
        for first in range(0, size, features.GROUP)
    )
    return partial(Scheduler(*groups, own_task=True).co_run, check=True)


async def cancel_least(sleepers: cancelling.Sleepers, watch: Stopwatch) -> None:
    engine = EagerTasks(graphs.make("wide", sleepers.size), sleepers.body)
    running_ = asyncio.create_task(engine.run())
    await sleepers.asleep()
    with watch:
        engine.scope.cancel()
        await asyncio.wait([running_])


# ---- one step after the other, from a bare coroutine to a job


def steps(size: int, rounds: int) -> Contest:
    """Measure a task that does nothing: bare, eager, and with each thing that a job's task cannot do without."""
    setting = Setting("asyncio", "one by one", "no-op", size)

    def bare(loop: Any, context: contextvars.Context) -> None:
        for number in range(size):
            next(no_op(number).__await__(), None)

    def eager(loop: Any, context: contextvars.Context) -> None:
        for number in range(size):
            EAGER_TASK(no_op(number), loop=loop, eager_start=True)

    def with_context(loop: Any, context: contextvars.Context) -> None:
        for number in range(size):
            EAGER_TASK(no_op(number), loop=loop, context=context.copy(), eager_start=True)

    async def around(number: int) -> None:
        await no_op(number)

    def with_engine(loop: Any, context: contextvars.Context) -> None:
        for number in range(size):
            EAGER_TASK(around(number), loop=loop, context=context.copy(), eager_start=True)

    async def recorded(number: int) -> None:
        task = asyncio.current_task()
        TASK_STATES[task] = state
        await no_op(number)
        del TASK_STATES[task]

    def with_record(loop: Any, context: contextvars.Context) -> None:
        for number in range(size):
            EAGER_TASK(recorded(number), loop=loop, context=context.copy(), eager_start=True)

    async def recorded_directly(number: int) -> None:
        key = weakref.ref(asyncio.current_task(), REMOVE)
        RECORDS[key] = state
        await no_op(number)
        del RECORDS[key]

    def with_direct_record(loop: Any, context: contextvars.Context) -> None:
        for number in range(size):
            EAGER_TASK(recorded_directly(number), loop=loop, context=context.copy(), eager_start=True)

    state = anyio_asyncio.TaskState(None, None)

    def attempt(step: Callable[[Any, contextvars.Context], None]) -> Sample:
        async def main(arguments: Sequence[str] | None = None) -> None:
            with watch:
                step(asyncio.get_running_loop(), contextvars.copy_context())

        watch = Stopwatch()
        asyncio.run(main())
        return {"run": watch.cpu * 1e6 / size}

    named = {
        "a coroutine, without a task": bare,
        "an eager task": eager,
        "+ a context of its own": with_context,
        "+ a coroutine of an engine around it": with_engine,
        "+ anyio knows the task": with_record,
        "the same, past its WeakKeyDictionary": with_direct_record,
    }
    return Contest("steps", [Contestant(name, setting, partial(attempt, step)) for name, step in named.items()], rounds)


# ---- all contests


def contests(tiny: bool) -> Iterator[Contest]:
    plan = TINY if tiny else FULL
    size = 200 if tiny else 10_000
    rivals = contestants()
    yield steps(size, plan.rounds)
    for body in ("no-op", "checkpoint"):
        for shape in FIGURE_SHAPES:
            yield race("running", Setting("asyncio", shape, body, size), rivals, plan.rounds)
    yield race("running", Setting("asyncio", "wide", "nap", size), rivals, plan.few_rounds)
    for conditions in ("", "collector off"):
        sleeping = Setting("asyncio", "wide", plan.sleep, size, conditions=conditions)
        yield race("sleepers", sleeping, rivals, plan.few_rounds)
        ways = {**cancelling.WAYS["asyncio"], LEAST: cancel_least}
        setting = Setting("asyncio", "wide", "sleep", size, conditions=conditions)
        cancelled = [Contestant(name, setting, partial(cancelling.attempt, way, setting)) for name, way in ways.items()]
        yield Contest("cancel", cancelled, plan.few_rounds)
    weighed = Setting("asyncio", "wide", "all at once", size)
    yield Contest(
        "memory",
        [Contestant(one.name, weighed, partial(memory.weigh, one, weighed, "running")) for one in rivals],
        1,
    )
    builds: dict[str, features.Build] = {
        OURS: features.groups,
        OWN: groups_with_own_tasks,
        LEAST: groups_of_least,
        "TaskGroup": partial(features.each, features.group_by_hand, step=features.GROUP),
    }
    for body in ("no-op", "checkpoint"):
        setting = Setting("asyncio", "groups of five", body, size // 5)
        yield Contest(
            "features",
            [Contestant(name, setting, partial(features.attempt, build, setting)) for name, build in builds.items()],
            plan.rounds,
        )


def race(case: str, setting: Setting, rivals: list[Rival], rounds: int) -> Contest:
    entering = [rival for rival in rivals if rival.enters(setting.shape, setting.size, None)]
    return Contest(case, [running.contestant(rival, setting) for rival in entering], rounds)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="in seconds: to see that it works")
    options = parser.parse_args(arguments)
    if sys.version_info < (3, 12):
        parser.error(f"eager tasks came with Python 3.12; this is {sys.version.split()[0]}")
    before = load()
    found: list[Measurement] = []
    for contest in contests(options.tiny):
        found += (one for one in hold(contest, lambda _: None) if one.metric in ("run", "running", "cancel"))
    facts = machine()
    print(f"Python {facts['Python']}, anyio {facts['anyio']}, load before and after {before:.1f} and {load():.1f}\n")
    console = Console(width=160)
    for table in tables.of_measurements(found):
        console.print(table.for_terminal())


if __name__ == "__main__":
    main()
