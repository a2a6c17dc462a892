"""`Scheduler.run_as_settled()`: results as they come, in a synchronous program; the run ends with the iteration."""

import asyncio
import contextvars
import gc
import os
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import trioflow
from trioflow import (
    CycleError,
    Job,
    JobState,
    JobTimeout,
    Scheduler,
    Service,
    StopReason,
    ThreadJob,
    job,
)
from trioflow.abc import Instrument
from ..bodies import at_once, flaky, hooked, serve
from ..places import PATIENCE
from ..pythons import python

variable = contextvars.ContextVar[str]("variable", default="none")


async def give(value: Any) -> Any:
    await anyio.lowlevel.checkpoint()
    return value


async def fail(error: Exception) -> None:
    raise error


def labels(jobs: Iterator[Any]) -> list[str]:
    return [each.label for each in jobs]


def threads_of_runs() -> list[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("trioflow run")
    ]


def join_threads() -> None:
    while threads := threads_of_runs():
        threads[0].join(10)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Check that each iteration has ended the thread of its run."""
    yield
    assert threads_of_runs() == []


# --- all that comes
def test_jobs_come_as_they_settle(backend: Any) -> None:
    """Each member comes once, whatever its outcome; what depends on the time of the consumer does not wait for it."""
    gate = threading.Event()
    slow = ThreadJob(gate.wait, PATIENCE, label="slow")
    failed = Job(fail, OSError("x"), label="failed")
    blocked = Job(give, failed, label="blocked")
    skipped = Job(give, 1, required=slow, run_if="failed", label="skipped")
    group = Scheduler(Job(give, 1, label="inner"), label="group")
    scheduler = Scheduler(
        slow,
        failed,
        blocked,
        skipped,
        group,
        Service(serve, label="service"),
        log=False,
    )
    seen = []
    for each in scheduler.run_as_settled(backend=backend):
        assert each.is_settled()
        seen.append(each.label)
        if len(seen) == 3:
            gate.set()
    assert sorted(seen[:3]) == ["blocked", "failed", "group"]
    assert seen[3:] == ["slow", "skipped", "service"]
    assert (scheduler.stop_reason, failed.state) == (StopReason.FAILED, JobState.FAILED)


def test_it_iterates_again(backend: Any) -> None:
    scheduler = Scheduler(Job(give, 1, label="a"))
    for _ in range(3):
        assert labels(scheduler.run_as_settled(backend=backend)) == ["a"]
        assert scheduler.run(backend=backend)
    assert scheduler.stop_reason is StopReason.COMPLETED


def test_jobs_that_are_added_come_and_are_dropped(backend: Any) -> None:
    async def feed() -> None:
        added: deque[Any] = deque()
        for number in range(8):
            added.append(
                trioflow.current_scheduler().add(
                    Job(give, number, label=f"job {number}")
                )
            )
            if len(added) == 2:
                await added.popleft().wait_settled()

    scheduler = Scheduler(Job(feed, label="feed"), keep_jobs=False)
    results = {
        each.label: each.result() for each in scheduler.run_as_settled(backend=backend)
    }
    assert results == {"feed": None, **{f"job {number}": number for number in range(8)}}
    assert labels(iter(scheduler)) == ["feed"]


def test_what_is_tried_again_comes_when_it_has_ended_again(backend: Any) -> None:
    seen = threading.Event()

    def try_again(settled: Any) -> None:
        if settled.state is JobState.FAILED:
            settled.try_again()

    again, first = Job(flaky(2, 0), label="flaky"), Job(give, 1, label="first")
    scheduler = Scheduler(
        first,
        again,
        Job(anyio.to_thread.run_sync, seen.wait, PATIENCE, label="hold"),
        on_job_settled=try_again,
        log=False,
    )
    ends = []
    for each in scheduler.run_as_settled(backend=backend):
        ends.append((each.label, each.state))
        while not again.is_succeeded():
            time.sleep(0.001)
        seen.set()
    assert ends[0][0] in ("first", "flaky")
    assert ends.count(("flaky", JobState.SUCCEEDED)) == 1
    assert ("hold", JobState.SUCCEEDED) in ends
    assert ends.count(("flaky", JobState.FAILED)) <= (ends[0][0] == "flaky")


def test_jobs_that_a_journal_has_restored_come_too(
    backend: Any, tmp_path: Path
) -> None:
    for restored in (False, True):
        scheduler = Scheduler(Job(give, 1, label="a"), Job(give, 2, label="b"))
        got = {each.label: (each.result(), each.restored) for each in scheduler.run_as_settled(
            backend=backend, journal=tmp_path / "run.db"
        )}  # fmt: skip
        assert got == {"a": (1, restored), "b": (2, restored)}


def test_jobs_have_the_context_of_the_consumer(backend: Any) -> None:
    """A synchronous library may set variables for what it calls, also inside of a running loop."""

    def consume() -> list[str]:
        variable.set("mine")
        return [
            each.result()
            for each in Scheduler(Job(at_once, variable.get)).run_as_settled(
                backend=backend
            )
        ]

    async def handler() -> list[str]:
        return consume()

    assert contextvars.copy_context().run(consume) == ["mine"]
    assert asyncio.run(handler()) == ["mine"]


# --- errors of the run
@pytest.mark.parametrize(
    "options",
    [{"timeout": -1}, {"bakend": "trio"}, {"check": "last"}, {"instruments": 5}],
    ids=str,
)
def test_an_option_that_run_rejects_reaches_the_consumer(
    backend: Any, options: dict[str, Any]
) -> None:
    scheduler = Scheduler(Job(give, 1))
    with pytest.raises((TypeError, ValueError), match="Scheduler"):
        list(scheduler.run_as_settled(**{"backend": backend, **options}))
    assert scheduler.stop_reason is None
    assert len(list(scheduler.run_as_settled(backend=backend))) == 1


def test_a_cycle_reaches_the_consumer(backend: Any) -> None:
    a, b = Job(give, 1, label="a"), Job(give, 2, label="b")
    a.requires(b)
    b.requires(a)
    with pytest.raises(CycleError, match="a requires b"):
        list(Scheduler(a, b).run_as_settled(backend=backend))


def test_a_second_run_is_refused_and_the_first_goes_on(backend: Any) -> None:
    is_refused = threading.Event()
    scheduler = Scheduler(
        Job(give, 1, label="a"), ThreadJob(is_refused.wait, PATIENCE, label="b")
    )
    first = scheduler.run_as_settled(backend=backend)
    assert next(first).label == "a"
    with pytest.raises(RuntimeError, match="running"):
        list(scheduler.run_as_settled(backend=backend))
    is_refused.set()
    assert labels(first) == ["b"]
    assert scheduler.stop_reason is StopReason.COMPLETED


@pytest.mark.parametrize("check", [True, "first"])
def test_check_raises_after_the_last_job(backend: Any, check: Any) -> None:
    error = OSError("x")
    seen = []
    with pytest.raises(OSError if check == "first" else ExceptionGroup) as caught:
        seen += [
            each.label
            for each in Scheduler(
                Job(give, 1, label="a"), Job(fail, error, label="b"), log=False
            ).run_as_settled(backend=backend, check=check)
        ]
    assert caught.value is error or caught.value.exceptions == (error,)
    slow = Scheduler(Job(anyio.sleep_forever, label="slow"))
    with pytest.raises(JobTimeout):
        list(slow.run_as_settled(backend=backend, timeout=0.01, check=check))


# --- an iteration that ends before
@pytest.fixture(params=["first run", "later run"])
def scheduler(request: Any, backend: Any) -> Scheduler:
    """Return a scheduler whose job "stays" lasts until its run is cancelled."""
    is_over = threading.Event()

    @job
    async def stay() -> None:
        if not is_over.is_set():
            await anyio.sleep_forever()

    scheduler = Scheduler(
        Job(give, 1, label="first"), stay.options(label="stays")(), label="night"
    )
    if request.param == "later run":
        is_over.set()
        for _ in range(2):  # by the thread of the consumer, and by another one
            assert scheduler.run(backend=backend)
            assert len(list(scheduler.run_as_settled(backend=backend))) == 2
        is_over.clear()
    return scheduler


def assert_cancelled(scheduler: Scheduler) -> None:
    assert scheduler.stop_reason is StopReason.CANCELLED
    assert not scheduler.is_running()
    assert [each.state for each in scheduler][1] in (JobState.CANCELLED, JobState.IDLE)


def test_break_cancels_the_run(scheduler: Scheduler, backend: Any) -> None:
    for each in scheduler.run_as_settled(backend=backend):
        assert each.label == "first"
        break
    assert_cancelled(scheduler)


@pytest.mark.parametrize("how", ["close", "garbage", "garbage in a cycle"])
def test_a_generator_that_is_dropped_cancels_the_run(
    scheduler: Scheduler, backend: Any, how: str
) -> None:
    iteration = scheduler.run_as_settled(backend=backend)
    next(iteration)
    if how == "close":
        iteration.close()  # type: ignore[attr-defined]
        assert list(iteration) == []
    elif how == "garbage in a cycle":
        cycle: list[Any] = [iteration]
        cycle.append(cycle)
        del cycle
    del iteration
    gc.collect()
    assert_cancelled(scheduler)


def test_a_generator_may_be_collected_in_the_thread_of_its_run(backend: Any) -> None:
    """Garbage is collected wherever memory is taken, mostly in the thread of the run, which cannot wait for itself."""
    is_dropped = threading.Event()

    async def collect() -> None:
        await anyio.to_thread.run_sync(is_dropped.wait, PATIENCE)
        gc.collect()
        await anyio.sleep_forever()

    gc.disable()
    try:
        scheduler = Scheduler(Job(give, 1, label="first"), Job(collect))
        cycle: list[Any] = [scheduler.run_as_settled(backend=backend)]
        cycle.append(cycle)
        next(cycle[0])
        del cycle
        is_dropped.set()
        join_threads()
    finally:
        gc.enable()
    assert_cancelled(scheduler)


LEAVES = """
import sys, anyio
from trioflow import Job, Scheduler
begun = []
async def work():
    while not begun:
        await anyio.sleep(0)
async def stay():
    try:
        begun.append(True)
        await anyio.sleep(60)
    finally:
        print("unwound")
iteration = Scheduler(Job(work), Job(stay)).run_as_settled(backend=sys.argv[1])
over = Scheduler(Job(work)).run_as_settled(backend=sys.argv[1])
next(iteration), next(over)
"""


@pytest.mark.parametrize("error", ["", "raise LookupError"])
def test_a_program_that_leaves_a_generator_behind_ends(
    backend: str, error: str
) -> None:
    """A global lives until after the interpreter has waited for all threads; so does what a traceback holds."""
    ended = python("-c", LEAVES + error, backend, text=True)
    assert (ended.stdout, ended.returncode) == ("unwound\n", bool(error))
    assert "Exception ignored" not in ended.stderr


def test_an_iteration_whose_run_is_over_ends_no_other_run(backend: Any) -> None:
    scheduler = Scheduler(Job(give, 1, label="a"), Job(give, 2, label="b"))
    first = scheduler.run_as_settled(backend=backend)
    next(first)
    while scheduler.is_running():
        time.sleep(0.001)
    second = scheduler.run_as_settled(backend=backend)
    next(second)
    first.close()  # type: ignore[attr-defined]
    assert len(list(second)) == 1
    assert scheduler.stop_reason is StopReason.COMPLETED


def test_the_instruments_of_an_iteration_watch_its_run(backend: Any) -> None:
    seen = list[tuple[str, str]]()

    def watching(name: str) -> Instrument:
        return hooked(job_settled=lambda _, job: seen.append((name, job.label)))

    scheduler = Scheduler(Job(give, 1, label="a"), instruments=[watching("its own")])
    watches = map(watching, ("the iteration's", "another"))
    assert labels(scheduler.run_as_settled(backend=backend, instruments=watches)) == [
        "a"
    ]
    assert sorted(seen) == [
        ("another", "a"),
        ("its own", "a"),
        ("the iteration's", "a"),
    ]


def test_an_iteration_ends_no_run_that_begins_before_its_thread_has_ended(
    backend: Any,
) -> None:
    has_come, is_over, may_end = threading.Event(), threading.Event(), threading.Event()
    may_end.set()

    class RunsAgain(Instrument):
        def after_run(self, scheduler: Scheduler) -> None:
            has_come.wait(PATIENCE)
            may_end.clear()
            iterations.append(scheduler.run_as_settled(backend=backend))
            next(iterations[1])
            iterations[0].close()
            is_over.set()

    scheduler = Scheduler(
        Job(give, 1, label="a"), ThreadJob(may_end.wait, PATIENCE, label="b")
    )
    iterations: list[Any] = [
        scheduler.run_as_settled(backend=backend, instruments=[RunsAgain()])
    ]
    next(iterations[0])
    has_come.set()
    assert is_over.wait(PATIENCE)
    try:
        while len(threads_of_runs()) > 1:  # what would cancel has done so
            time.sleep(0.001)
        assert scheduler.is_running()
    finally:
        may_end.set()
    assert labels(iterations[1]) == ["b"]
    assert scheduler.stop_reason is StopReason.COMPLETED
    join_threads()


@pytest.mark.parametrize("where", ["in its body", "as it waits"])
def test_ctrl_c_in_the_consumer_cancels_the_run(
    scheduler: Scheduler, backend: Any, where: str
) -> None:
    def consume() -> None:
        for _ in scheduler.run_as_settled(backend=backend):
            if where == "in its body":
                raise KeyboardInterrupt
            threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert_cancelled(scheduler)


class Interrupted(Scheduler):
    """A scheduler whose consumer is interrupted as the thread of its run calls its n-th function; 0: never."""

    __slots__ = ("calls", "instant", "was_interrupted")

    def consume(self, instant: int, **options: Any) -> None:
        """Iterate until the KeyboardInterrupt."""
        self.calls, self.instant, self.was_interrupted = 0, instant, threading.Event()
        previous = signal.signal(signal.SIGINT, self.on_signal)
        threading.setprofile(self.on_call)
        try:
            list(self.run_as_settled(**options))
        finally:
            threading.setprofile(None)  # type: ignore[arg-type]
            signal.signal(signal.SIGINT, previous)

    def on_call(self, frame: Any, event: str, _: Any) -> None:
        self.calls += event == "call"
        if event == "call" and self.calls == self.instant:
            main_thread = threading.main_thread().ident or 0
            signal.pthread_kill(main_thread, signal.SIGINT)
            while not self.was_interrupted.wait(
                0.2
            ):  # it came just before the main thread began to wait
                signal.pthread_kill(main_thread, signal.SIGINT)

    def on_signal(self, *_: object) -> None:
        if not self.was_interrupted.is_set():  # a slow main thread gets a second signal
            self.was_interrupted.set()
            raise KeyboardInterrupt


@pytest.mark.parametrize("is_first", [True, False], ids=["first run", "later run"])
def test_ctrl_c_at_any_instant_cancels_the_run(backend: Any, is_first: bool) -> None:
    calls: list[int] = []

    async def stay() -> None:
        calls.append(scheduler.calls)
        if scheduler.instant:
            await anyio.sleep_forever()

    scheduler = Interrupted(Job(stay), log=False)
    for _ in range(2):  # the first one may import what no other has to
        scheduler.consume(0, backend=backend)
    draw = random.Random(f"{backend} {is_first}")
    for instant in [1, 2, *draw.sample(range(3, min(calls)), 10)]:
        scheduler = Interrupted(Job(stay), log=False)
        if not is_first:
            scheduler.consume(0, backend=backend)
        with pytest.raises(KeyboardInterrupt):
            scheduler.consume(instant, backend=backend, timeout=PATIENCE)
        join_threads()  # the interpreter forgets a thread that is interrupted as it starts
        assert scheduler.stop_reason is StopReason.CANCELLED, instant
