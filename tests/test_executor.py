"""`trioflow.Executor`: CPython's own tests of executors, and what those do not look at."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from trioflow import Executor, Job, current_job, executor

from . import cpython_executors
from .bodies import Flaw

PATIENCE = 10.0


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """CPython's cases, all at once: they sleep most of the time."""
    command = [sys.executable, "-W", "error", "-m", "tests.cpython_executors"]
    processes = {
        name: subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for name in cpython_executors.CASES
    }
    yield processes
    for process in processes.values():
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("case", cpython_executors.CASES)
def test_it_passes_cpythons_own_tests(running: dict[str, subprocess.Popen[str]], case: str) -> None:
    """What CPython asks of executors, of `wait` and of `as_completed`, holds on each backend."""
    output, _ = running[case].communicate()
    if running[case].returncode == cpython_executors.ABSENT:
        pytest.skip("neither this Python nor Debian's has test.test_concurrent_futures: python -m tests installs it")
    assert running[case].returncode == 0, output
    assert "skipped" not in output


def made(backend: Any, workers: int | None = 2) -> Executor:
    return Executor(workers, backend=backend)


def test_an_async_function_runs_in_its_event_loop(backend: str) -> None:
    """A future of an async function has what it returned, or raised, and several are awaited at once."""
    began = threading.Event()

    async def meet(other: anyio.Event | None) -> str:
        if other is None:
            began.set()
            await anyio.lowlevel.checkpoint()
        return threading.current_thread().name

    async def fail() -> None:
        raise Flaw("async")

    with made(backend) as pool:
        assert pool.submit(meet, None).result(PATIENCE) == "trioflow.Executor"
        with pytest.raises(Flaw, match="async"):
            pool.submit(fail).result(PATIENCE)


def test_calls_start_in_their_order_and_no_more_than_allowed_at_once(backend: str) -> None:
    """Calls come in pairs, in the order of `map`."""
    lock, running, most, order = threading.Lock(), 0, 0, list[int]()
    gate = threading.Barrier(2, timeout=PATIENCE)

    def body(number: int) -> None:
        nonlocal running, most
        with lock:
            order.append(number)
            running += 1
            most = max(most, running)
        gate.wait()
        with lock:
            running -= 1

    with made(backend) as pool:
        list(pool.map(body, range(20)))
    assert most == 2
    assert [sorted(order[at : at + 2]) for at in range(0, 20, 2)] == [[n, n + 1] for n in range(0, 20, 2)]


def test_whatever_a_function_raises_reaches_its_future_alone(backend: str) -> None:
    """Also what would end a program: the thread goes on, and nothing is logged."""
    with made(backend) as pool:
        for error in (Flaw(), SystemExit(3), KeyboardInterrupt()):
            assert pool.submit(_raise, error).exception(PATIENCE) is error
        assert pool.submit(int, "5").result(PATIENCE) == 5


def test_jobs_are_called_what_they_call(backend: str) -> None:
    """So the log names the function; it named a method of the executor."""

    async def waited_for() -> str:
        return cast(str, current_job().label)

    with made(backend) as pool:
        assert pool.submit(waited_for).result(PATIENCE).endswith("waited_for")


def _raise(error: BaseException) -> None:
    raise error


def test_whatever_an_async_function_raises_reaches_its_future_alone(backend: str) -> None:
    """An interruption, or a cancellation of its own, ended the event loop, and all other calls with it."""
    begun, may_end = threading.Event(), threading.Event()

    async def other() -> str:
        begun.set()
        while not may_end.is_set():  # noqa: ASYNC110 - another thread sets it
            await anyio.sleep(0.01)
        return "whole"

    async def leave(error: BaseException) -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    async def cancel() -> None:
        current_job().cancel()
        await anyio.sleep(PATIENCE)

    with made(backend, 3) as pool:
        beside = pool.submit(other)
        assert begun.wait(PATIENCE)
        for error in (Flaw(), SystemExit(3), KeyboardInterrupt()):
            assert pool.submit(leave, error).exception(PATIENCE) is error
        calls = [pool.submit(cancel)]
        if backend == "asyncio":
            calls.append(pool.submit(leave, asyncio.CancelledError()))
        for call in calls:
            with pytest.raises(concurrent.futures.CancelledError):
                call.result(PATIENCE)
        assert pool.submit(int, "5").result(PATIENCE) == 5
        may_end.set()
        assert beside.result(PATIENCE) == "whole"


class Greeter:
    """Is called like an async function."""

    async def __call__(self, name: str) -> str:
        await anyio.lowlevel.checkpoint()
        return f"hello {name}"


def test_what_is_async_by_its_call_is_awaited(backend: str) -> None:
    """An object, or a partial of one; a class whose instances are such is called."""
    with made(backend) as pool:
        assert pool.submit(Greeter(), "Ada").result(PATIENCE) == "hello Ada"
        assert pool.submit(functools.partial(Greeter(), "Ada")).result(PATIENCE) == "hello Ada"
        assert isinstance(pool.submit(Greeter).result(PATIENCE), Greeter)


def test_a_call_that_waits_can_be_cancelled(backend: str) -> None:
    """One that has begun cannot, and those behind it run."""
    go, began = threading.Event(), threading.Event()

    def hold() -> bool:
        began.set()
        return go.wait(PATIENCE)

    with made(backend, 1) as pool:
        first = pool.submit(hold)
        assert began.wait(PATIENCE)
        second, third = pool.submit(_raise, Flaw()), pool.submit(int)
        assert second.cancel()
        assert not first.cancel()
        go.set()
        assert third.result(PATIENCE) == 0
        assert second.cancelled()
        assert first.result() is True


def test_shutdown_cancels_what_waits_on_request(backend: str) -> None:
    """The running call ends, and all others are cancelled."""
    go, began = threading.Event(), threading.Event()

    def hold() -> bool:
        began.set()
        return go.wait(PATIENCE)

    pool = made(backend, 1)
    futures = [pool.submit(hold), *(pool.submit(int) for _ in range(5))]
    assert began.wait(PATIENCE)
    pool.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)
    go.set()
    pool.shutdown()
    assert [future.cancelled() for future in futures] == [False, True, True, True, True, True]
    assert futures[0].result() is True


def test_its_thread_ends_by_itself_and_comes_again(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An executor that nobody shuts down leaves nothing behind."""
    monkeypatch.setattr(executor, "LINGER", 0.01)
    pool = made(backend)
    for _ in range(3):
        assert pool.submit(pow, 2, 3).result(PATIENCE) == 8
        thread = pool._thread
        if thread is not None:
            thread.join(PATIENCE)
        assert pool._thread is None


def test_a_program_waits_for_calls_at_its_end(backend: str) -> None:
    """As with the threads of a program, nobody need shut the executor down."""
    code = (
        "import sys, time, trioflow\n"
        f"pool = trioflow.Executor(2, backend={backend!r})\n"
        "for number in range(4): pool.submit(lambda: (time.sleep(0.1), print(number, flush=True)))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert ([*"".join([*"".join(done.stdout.split())])], done.stderr, done.returncode) == (["3"] * 4, "", 0)


def test_calls_that_have_ended_are_dropped(backend: str) -> None:
    """A pool that is never idle does not grow."""
    with made(backend) as pool:
        keep_alive, go = pool.submit((go := threading.Event()).wait, PATIENCE), go
        for number in range(100):
            assert pool.submit(abs, -number).result(PATIENCE) == number
        calls = [one for one in gc.get_objects() if isinstance(one, (executor._Call, Job))]
        go.set()
        assert keep_alive.result(PATIENCE)
    assert len(calls) < 10


def test_a_call_at_the_end_of_the_program_may_not_make_another(backend: str) -> None:
    """As with the threads of `concurrent.futures`; the program ends all the same."""
    code = (
        "import sys, time, trioflow\n"
        f"pool = trioflow.Executor(2, backend={backend!r})\n"
        "def again():\n"
        "    time.sleep(0.3)\n"
        "    try: pool.submit(print, 'never')\n"
        "    except RuntimeError as error: print('refused')\n"
        "pool.submit(again)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout, done.stderr, done.returncode) == ("refused\n", "", 0)


def test_nobody_waits_for_ever_when_the_event_loop_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of the executor itself reaches all futures, and the thread's own report."""
    reports = list[Any]()
    monkeypatch.setattr(threading, "excepthook", reports.append)
    pool = Executor(1)

    async def broken() -> None:
        raise Flaw("the loop")

    monkeypatch.setattr(pool, "_serve", broken)
    future = pool.submit(int)
    with pytest.raises(BrokenExecutor, match="the loop"):
        future.result(PATIENCE)
    pool.shutdown()
    for thread in threading.enumerate():
        if thread.name == "trioflow.Executor":  # it has reported when it ends, a moment later
            thread.join(PATIENCE)
    assert [report.exc_type for report in reports] == [Flaw]


def test_asyncio_programs_may_use_it_as_their_executor(backend: str) -> None:
    """`run_in_executor` takes it."""

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        with made(backend) as pool:
            return await asyncio.gather(*(loop.run_in_executor(pool, abs, -number) for number in range(5)))

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_nothing_keeps_a_result(backend: str) -> None:
    """It is freed when the caller lets go of its future."""

    class Thing:
        pass

    with made(backend) as pool:
        future: Future[Thing] = pool.submit(Thing)
        gone = weakref.ref(future.result(PATIENCE))
        del future
        pool.submit(int).result(PATIENCE)
        gc.collect()
        assert gone() is None


@pytest.mark.parametrize("number", [0, -1])
def test_workers_are_positive(number: int) -> None:
    """The words are those of the standard library."""
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        Executor(number)


@pytest.mark.parametrize("number", [1.5, True, "2"])
def test_workers_are_a_whole_number(number: Any) -> None:
    """It is refused at once: the first call failed, and the thread died with a traceback."""
    with pytest.raises(TypeError, match=r"max_workers=.*: give a whole number, 1 or more"):
        Executor(number)


def test_an_unknown_backend_is_refused() -> None:
    """The error lists those that there are."""
    with pytest.raises(ValueError, match="choose one of trio, asyncio"):
        Executor(backend="curio")  # type: ignore[arg-type]


def test_it_is_an_executor() -> None:
    """Code that asks for the base class accepts it."""
    assert issubclass(Executor, concurrent.futures.Executor)
