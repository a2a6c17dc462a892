"""Each job seems to have a task of its own: what it leaves behind there affects no other job."""

import asyncio
import contextvars
import functools
import gc
import itertools
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any, cast
import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
from trioflow import (
    AbstractJob,
    Adaptive,
    Job,
    JobCancelled,
    JobTimeout,
    Scheduler,
    Sequence,
    current_job,
)
from trioflow._core.backend import get_backend
from trioflow._core.run._current import current_worker_var
from trioflow.testing import run_virtual, virtual_options
from ..bodies import (
    FAILED,
    SUCCEEDED,
    at_once,
    fail,
    later,
    nap,
    task_now,
    timed,
    unwind,
)
from ..conftest import Virtual


# --- context variables
class Touchy:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise OSError("compared")


VALUE = [1, 2, 3]
plain: contextvars.ContextVar[Any] = contextvars.ContextVar("plain")


CHANGES: dict[str, Callable[[], object]] = {
    "other": lambda: plain.set("other"),
    "equal": lambda: plain.set(list(VALUE)),
    "touchy": lambda: plain.set(Touchy()),
    "reset": lambda: (plain.reset(plain.set("other")), plain.set("third")),
    "new": lambda: (contextvars.ContextVar[int]("new").set(1), plain.set(None)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("raises", [False, True])
def test_each_job_has_a_copy_of_the_callers_context(
    virtual: Virtual, change: str, raises: bool
) -> None:
    """Each job starts in the context of the caller of the run, whatever earlier jobs set and however they ended."""

    async def dirty() -> None:
        CHANGES[change]()
        if raises:
            raise OSError

    async def look() -> tuple[bool, int]:
        return plain.get() is VALUE, len(contextvars.copy_context())

    jobs = [
        Job(function, run_if="settled") for function in (look, dirty, look, dirty, look)
    ]

    async def main() -> Any:
        plain.set(VALUE)
        result = await timed(Scheduler(Sequence(jobs)))
        assert plain.get() is VALUE
        return result

    assert virtual(main)[0] is not raises
    looks = [job.result() for job in jobs[::2]]
    assert looks[0][0] is True
    assert looks[0] == looks[1] == looks[2]


async def set_later() -> None:
    await anyio.sleep(1)
    plain.set("of a child")


def child_in_own_context() -> None:
    if trio.lowlevel.in_trio_run():
        context = (
            trio.lowlevel.current_task().context
        )  # trio cannot enter it again in the job
        spawn = functools.partial(
            trio.lowlevel.spawn_system_task, set_later, context=context
        )
        trio.lowlevel.current_trio_token().run_sync_soon(spawn)
    else:
        # Not by `create_task`: an eager task cannot enter the context that it is created in, and Python 3.12 then waits
        # for it for ever.
        context = cast(Any, asyncio.current_task()).get_context()
        kept.append(
            asyncio.Task(set_later(), loop=asyncio.get_running_loop(), context=context)
        )


kept: list[Any] = []
HAS_CONTEXTS = [
    name
    for name in ("trio", "asyncio")
    if name == "trio" or hasattr(asyncio.Task, "get_context")
]


@pytest.mark.parametrize(
    "backend", HAS_CONTEXTS
)  # Python 3.12 is the first in which asyncio shows a task's context
def test_a_child_in_the_context_of_a_job_changes_no_variable_of_the_next(
    backend: Any,
) -> None:
    """A task that a job leaves in its own context sets variables there alone; the next job once saw them."""

    first, second = (
        Job(at_once, child_in_own_context),
        Job(later, 2, lambda: plain.get("of the run")),
    )
    assert run_virtual(Scheduler(Sequence(first, second)).co_run, backend=backend)
    kept.clear()
    assert second.result() == "of the run"


def test_context_reaches_nested_schedulers_and_added_jobs(virtual: Virtual) -> None:
    added, inside = Job(at_once, plain.get), Job(at_once, plain.get)

    async def grow() -> None:
        plain.set("changed")
        scheduler.add(added)
        await anyio.sleep(1)

    scheduler = Scheduler(Sequence(Job(grow), Scheduler(inside)))

    async def main() -> Any:
        plain.set("callers")
        return await timed(scheduler)

    assert virtual(main) == (True, 1)
    assert (added.result(), inside.result()) == ("callers", "callers")


# --- scopes and nurseries left open
async def by_enter(seconds: float) -> None:
    anyio.move_on_after(seconds).__enter__()
    await anyio.lowlevel.checkpoint()


async def by_generator(seconds: float) -> None:
    async def generator() -> AsyncIterator[int]:
        with anyio.move_on_after(seconds):
            yield 1
            await anyio.sleep(1)

    kept.append(generator())
    await kept[-1].__anext__()


@pytest.mark.fast_way  # with direct isolation, what is left open is not closed
@pytest.mark.parametrize("leave", [by_enter, by_generator])
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("timeout", [None, 50])
def test_an_open_scope_affects_only_its_job(
    virtual: Virtual, leave: Any, raises: bool, timeout: float | None
) -> None:
    """A job that leaves a scope open fails, with its own exception if any, and the scope never hits a later job."""

    async def sloppy() -> None:
        await leave(2)
        if raises:
            raise OSError("mine")

    job, after = Job(sloppy, timeout=timeout), Job(nap, 5, "whole", run_if="settled")
    assert virtual(timed, Scheduler(Sequence(job, after))) == (False, 5)
    assert job.state is FAILED
    assert ("mine" if raises else "open") in str(job.raised_exception())
    assert after.result() == "whole"
    kept.clear()


async def leave_group(child: Callable[[], Any]) -> None:
    tasks = anyio.create_task_group()
    await tasks.__aenter__()
    tasks.start_soon(child)
    await anyio.sleep(1)


@pytest.mark.fast_way  # with direct isolation, what is left open is not closed
@pytest.mark.parametrize("scope", [None, "around", "inside"])
@pytest.mark.parametrize("timeout", [None, 50, 1.5])
def test_an_open_nursery_is_closed_with_children(
    virtual: Virtual, scope: str | None, timeout: float | None
) -> None:
    """A nursery that a job leaves open is closed: its children are cancelled, and have ended when the job settles. The
    error names the nursery, even if a scope around it or in it was left open too. A job that times out then fails with
    its `JobTimeout`."""
    ended: list[float] = []

    async def child() -> None:
        try:
            await unwind(100, 1)
        finally:
            ended.append(anyio.current_time())

    async def sloppy() -> None:
        if scope == "around":
            anyio.CancelScope().__enter__()
        await leave_group(child)
        if scope == "inside":
            anyio.CancelScope().__enter__()
        if timeout == 1.5:
            await anyio.sleep(5)

    job, after = Job(sloppy, timeout=timeout), Job(nap, 1, "whole", run_if="settled")
    end = 2.5 if timeout == 1.5 else 2
    assert virtual(timed, Scheduler(Sequence(job, after))) == (False, end + 1)
    assert ended == [end]
    assert job.state is FAILED
    if timeout == 1.5:
        assert isinstance(job.raised_exception(), JobTimeout)
    else:
        assert ("nursery" if virtual.backend == "trio" else "task group") in str(
            job.raised_exception()
        )
        assert job.elapsed == end
    assert after.result() == "whole"


@pytest.mark.fast_way  # with direct isolation, what is left open is not closed
@pytest.mark.parametrize("breaks", [False, True])
def test_nursery_left_open_by_a_job_that_raises_is_closed(
    virtual: Virtual, breaks: bool
) -> None:
    """A job that raises and leaves a nursery open fails with its exception, and perhaps with those of the children."""
    ended: list[float] = []

    async def child() -> None:
        try:
            await unwind(100, 1)
        finally:
            ended.append(anyio.current_time())
            if breaks:
                raise ValueError("the child's")

    async def sloppy() -> None:
        await leave_group(child)
        raise OSError("mine")

    job, after = Job(sloppy), Job(nap, 1, "whole", run_if="settled")
    assert virtual(timed, Scheduler(Sequence(job, after))) == (False, 3)
    assert ended == [2]
    error = job.raised_exception()
    if breaks and isinstance(error, BaseExceptionGroup):
        assert error.subgroup(OSError) is not None
        assert error.subgroup(ValueError) is not None
    else:
        assert isinstance(error, OSError)
    assert after.result() == "whole"


@pytest.mark.fast_way  # with direct isolation, what is left open is not closed
def test_interruption_in_a_nursery_left_open_is_not_swallowed(virtual: Virtual) -> None:
    async def child() -> None:
        try:
            await anyio.sleep(100)
        finally:
            raise SystemExit(3)

    with pytest.raises(SystemExit):
        virtual(timed, Scheduler(Job(leave_group, child)))


# --- native cancellation
@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize("gated", [False, True])
def test_native_cancellation_affects_only_its_job(awaits: bool, gated: bool) -> None:
    """On asyncio, a job that cancels its own task fails with a JobCancelled, whether it then awaits or returns."""

    async def suicide() -> str:
        task_now().cancel()
        if awaits:
            await asyncio.sleep(0)
        return "unharmed"

    calls = [(suicide,), (nap, 0.01, 1), (suicide,), (nap, 0.01, 2)]
    jobs = [Job(*call, run_if="settled") for call in calls]
    options: dict[str, Any] = {"jobs_window": Adaptive(1, 2)} if gated else {}
    assert Scheduler(Sequence(jobs), **options).run(backend="asyncio") is False
    assert [job.state for job in jobs] == [FAILED, SUCCEEDED] * 2
    assert all(isinstance(job.raised_exception(), JobCancelled) for job in jobs[::2])


def test_cancelling_the_stored_own_task_later_harms_no_other_job() -> None:
    stored: list[Any] = []

    async def use() -> str:
        for task in stored:
            task.cancel()
        await asyncio.sleep(0)
        return "unharmed"

    users = [Job(use) for _ in range(3)]
    first, second = (
        Job(at_once, lambda: stored.append(task_now()), own_task=True) for _ in range(2)
    )
    scheduler = Scheduler(Sequence(first, users[0], second, users[1:]))
    assert scheduler.run(backend="asyncio") is True
    assert [job.result() for job in users] == ["unharmed"] * 3


@pytest.mark.parametrize("member", [False, True])
def test_jobs_of_an_inner_run_have_the_variables_that_were_set_around_it(
    virtual: Virtual, member: bool
) -> None:
    outside, inside = object(), object()
    seen: list[object] = []

    async def work(own: object) -> None:
        seen.append(plain.get())
        plain.set(own)

    class Setting(Scheduler):
        async def co_run(self, **options: Any) -> bool:
            plain.set(inside)
            return await super().co_run(**options)

    async def main() -> None:
        plain.set(outside)
        inner = Setting(
            Sequence(Job(work, outside), Job(work, inside), Job(work, None))
        )
        assert await Scheduler(inner if member else Job(inner.co_run)).co_run()

    virtual(main)
    assert seen == [inside, inside, inside]


def test_own_task_is_shared_with_no_other_job(virtual: Virtual) -> None:
    jobs = [Job(at_once, task_now, own_task=number % 3 == 1) for number in range(30)]
    assert virtual(timed, Scheduler(Sequence(jobs))) == (True, 0)
    for own in jobs[1::3]:
        assert [job for job in jobs if job.result() is own.result()] == [own]


class NumberedTask(asyncio.Task[Any]):
    """A task that a job can know again without a reference to it, which would be a trace."""

    numbers = itertools.count()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.number = next(self.numbers)


@pytest.mark.parametrize("of_job", [True, False])
def test_the_task_of_a_job_with_own_task_is_never_reused(of_job: bool) -> None:
    async def number_of_task() -> int:
        return cast(NumberedTask, task_now()).number

    jobs = [Job(number_of_task, own_task=of_job and number == 1) for number in range(3)]

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(
            lambda loop, work, **options: NumberedTask(work, loop=loop, **options)
        )
        assert await Scheduler(Sequence(jobs), own_task=not of_job).co_run(check=True)

    asyncio.run(main())
    assert len({job.result() for job in jobs}) == 3


# --- task names and current_job
class Renamed(Job[Any]):
    """Another kind of job, with the same function."""


def name_now() -> str:
    """Return the name of the native task that calls this."""
    task = task_now()
    return str(task.name if isinstance(task, trio.lowlevel.Task) else task.get_name())


@pytest.mark.both_backends
def test_a_job_gives_its_label_to_its_task(backend: str, virtual: Virtual) -> None:
    """On trio a task has its job's label from the job's first step on, on asyncio if the task is its own. Once a timer
    named the tasks of jobs that waited, and its turns of the loop changed the order of other jobs."""

    async def names(seconds: float = 0) -> list[str]:
        names = [name_now()]
        await anyio.sleep(seconds)
        return [*names, name_now()]

    quick = [
        Job(at_once, lambda: [name_now()] * 2, label=f"quick {number}")
        for number in range(3)
    ]
    long = [
        make(names, 0.2, label=f"job {number}")
        for number, make in enumerate((Job, Renamed, Job))
    ]
    timed, short = Job(names, 1, timeout=9), Job(names)
    own, forever = (
        Job(names, own_task=True, label="own"),
        Job(names, 2, forever=True, label="forever"),
    )
    inside, own_inside = Job(names, 1, label="inside"), Job(names, label="own inside")
    nested = Scheduler(Sequence(inside, short), Scheduler(own_inside, own_task=True))
    failing, after = Job(fail, 0.2, ValueError(), critical=False), Job(names)
    after.requires(failing, settled=True)
    jobs = [
        Sequence(quick, long, timed, own),
        nested,
        forever,
        failing,
        after,
        Job(anyio.sleep, 9),
    ]
    assert virtual(Scheduler(jobs).co_run)
    for job in (*quick, *long, timed, inside, forever, short, after):
        assert (
            job.result() == [job.label if backend == "trio" else "trioflow worker"] * 2
        )
    for job in (own, own_inside):
        assert job.result() == [job.label] * 2


def test_a_name_that_a_job_gives_its_task_is_its_own(virtual: Virtual) -> None:
    async def rename() -> list[str]:
        task = task_now()
        if isinstance(task, trio.lowlevel.Task):
            task.name = "mine"
        else:
            task.set_name("mine")
        del task
        await anyio.lowlevel.checkpoint()
        return [name_now()]

    async def name() -> list[str]:
        return [name_now()]

    before, renamed, after = (
        Job(name, label="before"),
        Job(rename, own_task=True),
        Job(name, label="after"),
    )
    assert virtual(Scheduler(Sequence(before, renamed, after)).co_run)
    assert renamed.result() == ["mine"]
    assert "mine" not in (*before.result(), *after.result())


@pytest.mark.fast_way("asyncio")
def test_a_run_whose_jobs_wait_sets_no_timer(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose jobs only wait takes no turn of the loop of its own: one for names once changed the order of jobs."""
    timers: list[float] = []
    group = get_backend(cast(Any, backend)).isolation.group_class
    monkeypatch.setattr(
        group, "call_at", lambda _self, when, *_: timers.append(when) or timers.clear
    )
    jobs = Sequence(
        Job(nap, 1), Scheduler(Job(nap, 2), Job(nap, 3, forever=True)), Job(nap, 1)
    )
    assert run_virtual(Scheduler(jobs, Job(nap, 20)).co_run, backend=cast(Any, backend))
    assert not timers


@pytest.mark.fast_way  # anyio does so for tasks that go with their jobs
@pytest.mark.skipif(
    not hasattr(asyncio, "capture_call_graph"),
    reason="asyncio has a call graph since Python 3.14",
)
def test_tools_outside_the_process_see_labels_and_the_task_that_awaits_a_run() -> None:
    async def chain() -> list[tuple[str, str]]:
        """Return the stored names, in ASCII, of each task that is awaited by another one, and of that one."""
        await anyio.sleep(5)
        stored = asyncio.Task.get_name
        return sorted(
            (stored(task), stored(cast(Any, caller.future)))
            for task in asyncio.all_tasks()
            for caller in cast(Any, asyncio).capture_call_graph(task).awaited_by
        )

    async def main() -> bool:
        cast(Any, asyncio.current_task()).set_name("main")
        first = Job(nap, 1, label="first")
        nested = Scheduler(inside, label="nested")
        return await Scheduler(
            Sequence(first, waits), nested, looks, own_task=True
        ).co_run()

    waits, inside, looks = (
        Job(nap, 8, label="wait…"),
        Job(nap, 9, label="inside é"),
        Job(chain, label="chain"),
    )
    assert run_virtual(main, backend="asyncio") is True
    assert looks.result() == [
        ("chain", "main"),
        (r"inside \xe9", "nested"),
        ("nested", "main"),
        ("wait...", "main"),
    ]


# --- the identity of tasks
@pytest.mark.parametrize("held", [dict, weakref.WeakKeyDictionary])
def test_values_stored_by_task_are_separate_for_each_job(
    backend: Any, held: Callable[[], Any]
) -> None:
    """Thirty jobs that store a session by task have thirty sessions, in ordinary and weak dictionaries. Three tasks
    would do here, and on trio jobs once shared three sessions, on asyncio those in weak dictionaries."""
    sessions = held()
    opened: list[object] = []

    def session() -> object:
        if task_now() not in sessions:
            sessions[task_now()] = object()
            opened.append(sessions[task_now()])
        return sessions[task_now()]

    async def work() -> bool:
        mine = session()
        await anyio.lowlevel.checkpoint()
        return session() is mine

    jobs = [Job(work) for _ in range(30)]
    assert Scheduler(jobs, jobs_window=3).run(backend=backend) is True
    assert all(job.result() for job in jobs)
    assert len(opened) == len(set(map(id, opened))) == 30


def test_a_task_with_both_a_strong_and_a_weak_reference_is_not_reused(
    backend: Any,
) -> None:
    kept: list[Any] = []
    jobs = [
        Job(at_once, lambda: kept.append((task_now(), weakref.ref(task_now()))))
        for _ in range(3)
    ]
    assert Scheduler(Sequence(jobs)).run(backend=backend) is True
    assert len({id(task) for task, _ in kept}) == 3
    kept.clear()


@pytest.mark.fast_way("asyncio")
def test_jobs_that_store_no_reference_to_their_task_share_tasks(
    virtual: Virtual,
) -> None:
    """Usual code leaves no reference to a task behind, strong or weak, so three tasks serve thirty jobs."""
    tasks: set[int] = set()

    async def work() -> None:
        with anyio.fail_after(60):
            await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 0)
        tasks.add(id(task_now()))

    assert virtual(Scheduler([Job(work) for _ in range(30)], jobs_window=3).co_run)
    assert len(tasks) <= 3


@pytest.mark.parametrize("of_job", [True, False])
def test_own_task_gives_each_job_a_task_with_a_unique_id(
    backend: Any, of_job: bool
) -> None:
    """Code that identifies a task by its number alone needs `own_task=True`, on jobs or on their scheduler."""
    seen: list[object] = []

    async def work() -> None:
        seen.append(task_now())  # held, so that no number comes again
        await anyio.lowlevel.checkpoint()

    jobs = [Job(work, own_task=of_job) for _ in range(30)]
    assert (
        Scheduler(jobs, jobs_window=3, own_task=not of_job).run(backend=backend) is True
    )
    assert len(set(map(id, seen))) == 30


def test_current_job_is_the_job_that_calls(virtual: Virtual) -> None:
    """`current_job()` is right in bodies, after awaits, in child tasks, in nested schedulers and in forever jobs."""

    async def look() -> list[AbstractJob[Any]]:
        seen = [current_job()]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(later, 0.5, lambda: seen.append(current_job()))
        return [*seen, current_job()]

    jobs = [Job(look), Job(look), Job(look, forever=True)]
    inside = Job(look)
    assert virtual(timed, Scheduler(jobs, Scheduler(inside)))[0] is True
    assert all(job.result() == [job] * 3 for job in (*jobs, inside))


def test_current_job_in_a_thread_is_the_job_that_called_it(backend: Any) -> None:
    async def look() -> AbstractJob[Any]:
        return await anyio.to_thread.run_sync(current_job)

    jobs = [Job(look) for _ in range(3)]
    assert Scheduler(jobs, Scheduler(inside := Job(look))).run(backend=backend) is True
    assert all(job.result() is job for job in (*jobs, inside))


def test_current_job_outside_of_jobs_raises(virtual: Virtual) -> None:
    """`current_job()` raises in plain code, and in the caller of `co_run` before and after the run."""

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="not called from a job"):
                current_job()
            await Scheduler(Job(nap)).co_run()

    virtual(main)
    with pytest.raises(RuntimeError, match="not called from a job"):
        current_job()


@pytest.mark.fast_way  # with direct isolation, what is left open is not closed
@pytest.mark.parametrize("child", [False, True])
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("turns", [0, 2])
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
def test_abandoned_generator_with_an_open_nursery_fails_only_its_job(
    child: bool, kept: bool, turns: int
) -> None:
    """On trio, the finalizer of an abandoned generator also closes its nursery, which once made the run wait forever.
    After two turns it may do so before the job ends, in the same turn, or not, so there are some of these jobs. Where
    the job goes on afterwards, with a child alive, trio itself ends with an internal error."""
    held: list[Any] = []

    async def generator() -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            if child:
                nursery.start_soon(trio.sleep_forever)
            yield 1

    async def sloppy() -> None:
        held.append(generator())
        await held[-1].__anext__()
        if not kept:
            held.clear()
        for _ in range(turns):
            await trio.lowlevel.cancel_shielded_checkpoint()

    jobs, after = (
        [Job(sloppy, run_if="settled") for _ in range(8)],
        Job(nap, 1, "whole", run_if="settled"),
    )
    assert (
        run_virtual(Scheduler(Sequence(*jobs, after)).co_run, backend="trio") is False
    )
    held.clear()
    gc.collect()
    for job in jobs:
        assert job.state is FAILED
        assert isinstance(job.raised_exception(), RuntimeError)
    assert after.result() == "whole"


@pytest.mark.fast_way("asyncio")  # with direct isolation it may find a job there
@pytest.mark.parametrize("late", [False, True])
def test_current_job_raises_in_a_task_of_a_group_around_the_jobs(
    virtual: Virtual, late: bool
) -> None:
    """In a task that a job starts in a group around the run, `current_job()` once gave whatever job was running."""
    told: list[str] = []

    async def child(wait: float) -> None:
        await anyio.sleep(wait)
        with pytest.raises(RuntimeError, match=r"current_job\(\)"):
            current_job()
        told.append("refused")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:

            async def start() -> AbstractJob[Any]:
                tasks.start_soon(child, 1.5 if late else 0)
                await anyio.sleep(1)
                return current_job()

            jobs = [Job(start), Job(start)]
            inside = Job(start)
            await Scheduler(Sequence(jobs), Scheduler(inside)).co_run()
            assert [job.result() for job in (*jobs, inside)] == [*jobs, inside]

    virtual(main)
    assert told == ["refused"] * 3


def test_current_job_in_a_loop_of_a_thread_is_the_job_that_called_it(
    backend: Any,
) -> None:
    """A job may have a thread run an event loop, of either library, whose tasks inherit its context."""

    async def ask() -> AbstractJob[Any]:
        return current_job()

    async def look() -> list[AbstractJob[Any]]:
        return [
            await anyio.to_thread.run_sync(trio.run, ask),
            await anyio.to_thread.run_sync(lambda: asyncio.run(ask())),
            await anyio.to_thread.run_sync(anyio.from_thread.run, ask),
        ]

    job = Job(look)
    assert Scheduler(job).run(backend=backend, check=True) is True
    assert job.result() == [job] * 3


def test_current_job_is_known_while_other_threads_run_loops() -> None:
    """`current_job()` works while other threads begin and end tasks in event loops of their own. anyio keeps the tasks
    of all loops in one dictionary. Code that iterated over it failed if it changed meanwhile."""
    ended = threading.Event()
    asked: list[str] = []

    async def ask() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(ask_often)

    async def ask_often() -> None:
        for _ in range(100):
            asked.append(current_job().label)
            await anyio.lowlevel.checkpoint()

    def run_others() -> None:
        while not ended.is_set():
            Scheduler(*(Job(anyio.sleep, 0.0005) for _ in range(100))).run(
                backend="asyncio"
            )

    other = threading.Thread(target=run_others)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    other.start()
    try:
        job = Job(ask, label="mine")
        assert Scheduler(job).run(backend="asyncio", check=True)
    finally:
        sys.setswitchinterval(interval)
        ended.set()
        other.join()
    assert asked == ["mine"] * 1000


# --- tasks of their own for all jobs of a scheduler
def test_own_task_of_a_scheduler_holds_for_all_its_jobs(virtual: Virtual) -> None:
    jobs = [Job(later, number % 3, task_now) for number in range(12)]
    inside = [Job(later, 0, task_now) for _ in range(5)]
    scheduler = Scheduler(
        Sequence(jobs[:6]),
        *jobs[6:],
        Scheduler(Sequence(inside)),
        own_task=True,
        jobs_window=4,
    )
    assert virtual(timed, scheduler)[0] is True
    tasks = [job.result() for job in (*jobs, *inside)]
    assert len({id(task) for task in tasks}) == len(tasks)


def test_tasks_of_a_scheduler_with_own_task_run_no_jobs_outside_of_it(
    virtual: Virtual,
) -> None:
    who = (
        current_worker_var.get
    )  # not its task: a reference to that would end the worker
    short, long, first = Job(later, 1, who), Job(nap, 5), Job(nap, 2)
    inside = Scheduler(short, long, Job(nap, required=[short, long]), own_task=True)
    outside = [Job(later, 1, who, required=first) for _ in range(3)]
    assert virtual(timed, Scheduler(inside, first, outside))[0] is True
    assert short.result() not in [job.result() for job in outside]


class CountingFactory:
    """A task factory that tells who began which task, as libraries that hook the making of tasks do."""

    def __init__(self, eager: bool) -> None:
        self.eager = eager
        self.made: list[Any] = []

    def __call__(self, loop: Any, coroutine: Any, **options: Any) -> Any:
        if self.eager:
            options["eager_start"] = True
        task: Any = asyncio.Task(coroutine, loop=loop, **options)
        self.made.append(task)
        return task


EAGER = [
    False,
    pytest.param(
        True, marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
    ),
]


@pytest.mark.parametrize("eager", EAGER)
def test_tasks_of_jobs_are_made_by_the_task_factory_of_the_loop(eager: bool) -> None:
    factory = CountingFactory(eager)
    order: list[int] = []

    async def who(number: int) -> Any:
        order.append(number)
        plain.set(number)
        await asyncio.sleep(0.001)
        assert plain.get() == number
        return task_now()

    jobs = [Job(who, number) for number in range(20)]

    async def main() -> None:
        plain.set(None)
        asyncio.get_running_loop().set_task_factory(factory)
        assert await Scheduler(*jobs, own_task=True, jobs_window=7).co_run(check=True)
        assert plain.get() is None

    asyncio.run(main())
    assert order == list(range(20))
    assert all(job.result() in factory.made for job in jobs)
    assert len({id(job.result()) for job in jobs}) == 20


def test_tasks_that_the_loops_factory_makes_have_the_names_of_their_jobs() -> None:
    async def name() -> str:
        return asyncio.current_task().get_name()  # type: ignore[union-attr]

    jobs = [Job(name, label="a"), Job(name, label="b")]

    def make(
        loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=loop, **options)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(make)
        assert await Scheduler(*jobs, own_task=True).co_run(check=True)

    run_virtual(main, backend="asyncio")
    assert [job.result() for job in jobs] == ["a", "b"]


@pytest.mark.parametrize("eager", EAGER)
def test_task_factory_does_not_affect_cancellation_and_failure(eager: bool) -> None:
    """With a task factory, failures, cancellation, scopes, groups and nested schedulers act as without."""
    states: list[list[Any]] = []
    for factory in (None, CountingFactory(eager)):
        bad, other = Job(fail, 0.01, critical=True), Job(nap, 5)
        inner = Scheduler(Job(leave_group, nap), Job(nap, 0.001), own_task=True)
        never = Job(nap, 0, required=other)

        async def main(factory: Any, scheduler: Scheduler) -> None:
            asyncio.get_running_loop().set_task_factory(factory)
            await scheduler.co_run()

        scheduler = Scheduler(bad, other, inner, never)
        run_virtual(main, factory, scheduler, backend="asyncio")
        states.append([job.state for job in scheduler.iterate_jobs()])
    assert states[0] == states[1]


def test_the_task_of_a_job_that_has_slept_is_reused() -> None:
    """On trio a sleep ends by a cancellation whose frames refer to the task for a moment; yet the task is reused."""
    spawned: list[str] = []

    class Counter(trio.abc.Instrument):
        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            spawned.append(task.name)

    naps = Sequence(*(Job(trio.sleep, 0.001) for _ in range(40)))
    Scheduler(naps).run(
        check=True,
        backend_options={**virtual_options("trio"), "instruments": [Counter()]},
    )
    assert len(spawned) < 20
