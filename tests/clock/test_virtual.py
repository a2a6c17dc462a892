"""Virtual time: what trioflow.testing promises, and what tests/conftest.py finds."""

import asyncio
import math
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from functools import partial
import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trioflow.testing import VirtualTimeEventLoop, run_virtual, virtual_options
from .. import conftest
from ..bodies import fail_now, take, turns, unwind
from ..conftest import Virtual

pytest_plugins = ["pytester"]

DAY = 24 * 3600.0

# Its name since anyio 4.7, and the one before.
wait_readable: Callable[[socket.socket], Awaitable[None]] = next(
    getattr(anyio, name)
    for name in ("wait_readable", "wait_socket_readable")
    if hasattr(anyio, name)
)


async def now_after(*delays: float) -> float:
    for delay in delays:
        await anyio.sleep(delay)
    return anyio.current_time()


async def in_thread(fn: Callable[[], object]) -> None:
    await anyio.to_thread.run_sync(fn)


# --- the clock
@pytest.mark.parametrize(
    "delays", [(), (0.25,), (1.0,), (DAY,), (1000 * DAY,), (2.0**40, 1.0)]
)
def test_sleep_jumps_exactly(virtual: Virtual, delays: tuple[float, ...]) -> None:
    """From zero, even beyond the day to which asyncio shortens the timeout of select(), and at clock times so late that
    adding 1e-9 changes nothing (python/cpython#116342)."""
    assert virtual(now_after, *delays) == sum(delays)


@given(ticks=st.lists(st.integers(0, 2**20), max_size=20))
def test_binary_fractions_add_up_exactly(virtual: Virtual, ticks: list[int]) -> None:
    """After naps of multiples of 1/1024 s the clock shows their exact sum."""
    assert virtual(now_after, *(tick / 1024 for tick in ticks)) == sum(ticks) / 1024


def test_a_jump_moves_the_clock_at_once_and_timers_after_it() -> None:
    async def main() -> None:
        loop, fired = asyncio.get_running_loop(), list[tuple[float, float]]()
        assert isinstance(loop, VirtualTimeEventLoop)
        for when in (3.0, 1.0, 2.5):
            loop.call_at(when, lambda when=when: fired.append((when, loop.time())))
        loop.jump(2)
        assert (loop.time(), fired) == (2, [])
        await asyncio.sleep(2)
        assert (loop.time(), fired) == (4, [(1, 2), (2.5, 2.5), (3, 3)])
        for seconds in (-1, math.inf, math.nan):
            with pytest.raises(
                ValueError, match="give a finite number of seconds, 0 or more"
            ):
                loop.jump(seconds)

    run_virtual(main, backend="asyncio")


@given(whens=st.lists(st.floats(min_value=0, allow_infinity=False), min_size=1))
@example(whens=[2.4, 6.7])  # 2.4 + (6.7 - 2.4) is 6.700000000000001
@example(
    whens=[1.0, 1.0000000004]
)  # nearer to each other than the resolution of the real clock
def test_asyncio_timers_fire_exactly_at_their_time(whens: list[float]) -> None:
    fired: list[tuple[float, float]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def fire(when: float) -> None:
            fired.append((when, loop.time()))

        for when in whens:
            loop.call_at(when, fire, when)
        last = loop.create_future()
        loop.call_at(max(whens), last.set_result, None)
        await last  # and one turn more, for this task: the timers of that very time have all fired by then

    run_virtual(main, backend="asyncio")
    assert fired == [(when, when) for when in sorted(whens)]


def test_the_clock_does_not_advance_while_tasks_are_runnable(virtual: Virtual) -> None:
    """The clock stands still while a task is runnable: a thousand turns of the loop beside a sleeper take no time."""

    async def main() -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(anyio.sleep, 1)
            await turns(1000)
            assert anyio.current_time() == 0

    virtual(main)


# --- order
def test_sleepers_wake_in_order_of_time(virtual: Virtual) -> None:
    """Whichever began to sleep first; those of one time at that time, before the clock goes on."""
    woken: list[tuple[float, float]] = []

    async def sleeper(delay: float) -> None:
        await anyio.sleep(delay)
        await turns(10)
        woken.append((delay, anyio.current_time()))

    async def main() -> None:
        async with anyio.create_task_group() as tg:
            for delay in (3, 1, 5, 2, 4, *[1] * 50):
                tg.start_soon(sleeper, delay)

    virtual(main)
    assert woken == [(delay, delay) for delay in (*[1] * 51, 2, 3, 4, 5)]


@pytest.mark.parametrize("seconds", [(1,), (2, 1), (1, 1, 1)])
def test_sleepers_of_one_time_wake_in_the_order_they_went_to_sleep(
    virtual: Virtual, seconds: tuple[int, ...]
) -> None:
    """Tasks that sleep until the same time continue first come, first served, and again after their next checkpoint."""
    slept: list[int] = []
    woken: list[int] = []
    checked: list[int] = []

    async def sleeper(number: int) -> None:
        for nap in seconds[:-1]:
            await anyio.sleep(nap + number % 3 / 4)
        slept.append(number)
        await anyio.sleep(10 - anyio.current_time())
        woken.append(number)
        await anyio.lowlevel.checkpoint()
        checked.append(number)

    async def main() -> None:
        async with anyio.create_task_group() as tg:
            for number in range(20):
                tg.start_soon(sleeper, number)

    virtual(main)
    assert woken == checked == slept


# --- deadlines and cancellation
def test_move_on_after_ends_exactly_at_its_deadline(virtual: Virtual) -> None:
    """A clean-up in a shield takes its time; a deadline that is not reached does not move the clock afterwards."""

    async def main() -> list[float]:
        times = []
        with anyio.move_on_after(2.5) as scope:
            await anyio.sleep(3600)
        times.append(anyio.current_time())
        assert scope.cancelled_caught
        with anyio.fail_after(3600):
            await anyio.sleep(0.5)
        times.append(await now_after(0.25))
        with anyio.move_on_after(1):
            await unwind(3600, 0.5)
        return [*times, anyio.current_time()]

    assert virtual(main) == [2.5, 3.25, 4.75]


@pytest.mark.parametrize("seconds", [0, 2])
def test_cancellation_needs_no_time_and_an_endless_sleep_has_no_deadline(
    virtual: Virtual, seconds: float
) -> None:
    """The clock stands still while the loop really waits for a thread."""

    async def main() -> float:
        async with anyio.create_task_group() as tg:
            tg.start_soon(anyio.sleep, 3600 if seconds else math.inf)
            tg.start_soon(anyio.sleep_forever)
            await anyio.sleep(seconds)
            if not seconds:
                await in_thread(threading.get_ident)
            tg.cancel_scope.cancel()
        return anyio.current_time()

    assert virtual(main) == seconds


# --- the real world beside it
def test_loop_waits_for_the_result_of_a_thread(virtual: Virtual) -> None:
    async def main() -> tuple[int, float]:
        return await anyio.to_thread.run_sync(threading.get_ident), anyio.current_time()

    ident, time = virtual(main)
    assert ident != threading.get_ident()
    assert time == 0.0


def test_thread_may_call_into_the_loop(virtual: Virtual) -> None:
    async def main() -> float:
        return await anyio.to_thread.run_sync(
            lambda: anyio.from_thread.run(now_after, 60.0)
        )

    assert virtual(main) == 60.0


def test_clock_does_not_wait_for_a_thread(virtual: Virtual) -> None:
    """Virtual sleeps end at once while a thread is at work: here the thread waits for the end of a sleep of 1000 s."""

    async def main() -> float:
        gate = threading.Event()
        async with anyio.create_task_group() as tg:
            tg.start_soon(in_thread, gate.wait)
            await anyio.sleep(1000)
            gate.set()
        return anyio.current_time()

    assert virtual(main) == 1000.0


@pytest.mark.parametrize("is_ready", [False, True])
def test_loop_waits_for_data_from_a_socket(virtual: Virtual, is_ready: bool) -> None:
    """What is ready comes before a jump of the clock."""

    async def main() -> tuple[bytes, float]:
        here, there = socket.socketpair()
        with here, there:
            async with anyio.create_task_group() as tg:
                send = partial(there.send, b"x")
                _ = send() if is_ready else tg.start_soon(in_thread, send)
                with anyio.fail_after(1 if is_ready else math.inf):
                    await wait_readable(here)
            return here.recv(1), anyio.current_time()

    assert virtual(main) == (b"x", 0.0)


@pytest.mark.skipif(
    os.name == "nt", reason="a selector loop runs no subprocesses on Windows"
)
def test_loop_waits_for_a_process_and_its_output(virtual: Virtual) -> None:
    async def main() -> tuple[bytes, float]:
        return (await anyio.run_process(["echo", "done"])).stdout, anyio.current_time()

    assert virtual(main) == (b"done\n", 0.0)


def test_asyncio_default_executor_is_waited_for() -> None:
    """The end of a run waits for the default executor's threads in real time. asyncio.Runner gives them 300 s. On a
    virtual clock these were over at once: the run ended with "The executor did not finishing joining its threads within
    300 seconds", and the thread went on."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeEventLoop)
        gate = threading.Event()
        work = loop.run_in_executor(None, gate.wait)
        loop.call_later(1, gate.set)
        await loop.shutdown_default_executor(300)
        assert await work
        return loop.time()

    assert run_virtual(main, backend="asyncio") == 1.0


# --- runs
def test_each_run_has_its_own_clock(virtual: Virtual) -> None:
    assert [virtual(now_after, 5), virtual(now_after, 5)] == [5.0, 5.0]


def test_times_of_a_scenario_are_the_same_on_both_backends() -> None:
    async def main() -> list[tuple[str, float]]:
        events: list[tuple[str, float]] = []

        async def worker(name: str, nap: float, times: int) -> None:
            for _ in range(times):
                await anyio.sleep(nap)
                events.append((name, anyio.current_time()))

        with anyio.move_on_after(6.0625):
            async with anyio.create_task_group() as tg:
                tg.start_soon(worker, "a", 0.75, 100)
                tg.start_soon(worker, "b", 1.125, 3)
                tg.start_soon(worker, "c", 2.5, 3)
        events.append(("end", anyio.current_time()))
        return sorted(events)

    on_trio = run_virtual(main, backend="trio")
    assert ("end", 6.0625) in on_trio
    assert run_virtual(main, backend="asyncio") == on_trio


def test_run_virtual_returns_the_value_or_raises_the_exception_of_the_function(
    backend: str,
) -> None:
    assert run_virtual(take, 1, "x", backend=backend) == (1, "x")
    with pytest.raises(LookupError, match=r"^mine$"):
        run_virtual(fail_now, LookupError("mine"), backend=backend)


def test_virtual_options_for_trio_are_accepted_by_trio_run() -> None:
    assert trio.run(now_after, DAY, **virtual_options("trio")) == DAY


def test_virtual_options_for_asyncio_are_accepted_by_asyncio_runner() -> None:
    """`virtual_options("asyncio")` returns arguments for `asyncio.Runner`, in debug mode too; anyio is not needed."""
    with asyncio.Runner(debug=True, **virtual_options("asyncio")) as runner:
        runner.run(asyncio.sleep(DAY))
        assert runner.get_loop().time() == DAY


def test_unknown_backend_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"'curio': .* choose 'trio' or 'asyncio'"):
        virtual_options("curio")


def test_cancelled_timers_are_skipped() -> None:
    async def main(count: int) -> float:
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(1 + i, math.sqrt, i) for i in range(count)]
        for timer in timers:
            timer.cancel()
        await asyncio.sleep(1000)
        await asyncio.to_thread(threading.get_ident)
        return loop.time()

    assert [run_virtual(main, count, backend="asyncio") for count in (3, 500)] == [
        1000.0,
        1000.0,
    ]


# --- what the fixtures find
@pytest.fixture
def house(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """A directory with the fixtures of these tests, which wait a shorter time for threads."""
    monkeypatch.setattr(conftest, "PATIENCE", 0.01)
    fixtures = (
        "backend, checked_states, nothing_left_behind, pytest_runtestloop, virtual"
    )
    pytester.makeconftest(f"from tests.conftest import {fixtures}")
    return pytester


def test_fixtures_let_clean_tests_pass(house: pytest.Pytester) -> None:
    """A test that leaves nothing behind passes on both backends, worker threads included."""
    house.makepyfile("""
        import anyio

        async def main():
            async with anyio.create_task_group() as tg:
                tg.start_soon(anyio.to_thread.run_sync, len, "abc")

        def test_it(virtual):
            virtual(main)
    """)
    house.runpytest("-W", "error").assert_outcomes(passed=2)


def test_virtual_options_are_accepted_by_the_anyio_pytest_plugin(
    house: pytest.Pytester,
) -> None:
    house.makepyfile("""
        import anyio, pytest
        from trioflow.testing import virtual_options

        @pytest.fixture(params=["trio", "asyncio"])
        def anyio_backend(request):
            return request.param, virtual_options(request.param)

        @pytest.mark.anyio
        async def test_it():
            start = anyio.current_time()
            await anyio.sleep(3600)
            assert anyio.current_time() == start + 3600
    """)
    house.runpytest("-W", "error").assert_outcomes(passed=2)


def test_fixtures_find_a_task_left_running(house: pytest.Pytester) -> None:
    house.makepyfile("""
        import asyncio, trio

        async def leaves_a_task(backend):
            if backend == "trio":
                trio.lowlevel.spawn_system_task(trio.sleep_forever)
            else:
                leaves_a_task.kept = asyncio.create_task(asyncio.sleep(1))

        def test_it(virtual):
            virtual(leaves_a_task, virtual.backend)
    """)
    result = house.runpytest("--tb=line")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*tasks left running: *"])


def test_fixtures_find_a_thread_left_running(house: pytest.Pytester) -> None:
    house.makepyfile("""
        import threading
        from functools import partial
        import anyio, anyio.from_thread, anyio.to_thread

        gate = threading.Event()

        async def main():
            started = anyio.Event()

            def work():
                anyio.from_thread.run_sync(started.set)
                gate.wait()

            async with anyio.create_task_group() as tg:
                tg.start_soon(partial(anyio.to_thread.run_sync, work, abandon_on_cancel=True))
                await started.wait()
                tg.cancel_scope.cancel()

        def test_of_its_own():
            threading.Thread(target=gate.wait).start()

        def test_of_a_library(virtual):
            virtual(main)

        def teardown_module():
            gate.set()
    """)
    result = house.runpytest("--tb=line")
    result.assert_outcomes(passed=3, errors=3)
    result.stdout.fnmatch_lines(["*threads left running: *"])


def test_fixtures_find_a_coroutine_never_awaited(house: pytest.Pytester) -> None:
    house.makepyfile("""
        import pytest

        async def main():
            pass

        async def forgets():
            main()

        async def forgets_in_a_cycle():
            cycle = [main()]
            cycle.append(cycle)

        def test_it(virtual):
            virtual(forgets)

        def test_cycle(virtual):
            virtual(forgets_in_a_cycle)

        def test_innocent():
            pass
    """)
    house.runpytest("-W", "error", "--tb=no").assert_outcomes(
        passed=3, failed=2, errors=2
    )
