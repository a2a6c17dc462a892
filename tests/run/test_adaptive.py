"""Adaptive windows: they grow while all goes well, and shrink when the server gets too much."""

import re
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import (
    Adaptive,
    Job,
    JobTimeout,
    Pool,
    Retry,
    Scheduler,
    Service,
    Throttled,
    Trace,
    current_job,
    simulate,
)
from trioflow._adaptive import WindowController
from trioflow.abc import AbstractJob, Instrument
from trioflow.view import save
from trioflow.view.monitor._model import RunModel
from trioflow.view.monitor._run_header import RunHeader
from trioflow.view.text._symbols import Symbols
from trioflow.view.trace._event_log import record_of_last_run
from ..bodies import fail, nap
from ..conftest import Virtual


class Server:
    """A server that works on `capacity` requests at once, each for a second; at most `queue` others wait."""

    def __init__(
        self,
        capacity: int,
        queue: int = 10**9,
        error: Callable[[], Exception] | None = None,
    ) -> None:
        self.limiter: Any = None
        self.capacity, self.queue, self.error = capacity, queue, error
        self.most = self.now = self.refused = 0

    async def ask(self, *_: Any) -> None:
        self.limiter = self.limiter or anyio.CapacityLimiter(self.capacity)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.limiter.statistics().tasks_waiting >= self.queue:
                self.refused += 1
                assert self.error is not None
                raise self.error()
            async with self.limiter:
                await anyio.sleep(1)
        finally:
            self.now -= 1


class Sizes(Instrument):
    """An instrument that records how the size of the window changed."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def job_settled(self, scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        size = scheduler.window_size
        if size is not None and self.sizes[-1:] != [size]:
            self.sizes.append(size)


def test_the_adaptive_window_grows_by_one_for_each_window_of_successes(
    virtual: Virtual,
) -> None:
    """The window grows after one success at size 1, two at size 2, and so on to the maximum, and is never exceeded."""
    server, sizes = Server(100), Sizes()
    scheduler = Scheduler(jobs_window=Adaptive(1, 6), instruments=[sizes])
    jobs = scheduler.map(server.ask, range(1 + 2 + 3 + 4 + 5 + 60))
    assert scheduler.window_size == 1
    assert virtual(scheduler.co_run)
    assert sizes.sizes == [2, 3, 4, 5, 6] or sizes.sizes == [1, 2, 3, 4, 5, 6]
    assert [sum(job.started_at == second for job in jobs) for second in range(7)] == [
        1,
        2,
        3,
        4,
        5,
        6,
        6,
    ]
    assert server.most == 6


def test_the_adaptive_window_stops_growing_when_a_queue_builds_up(
    virtual: Virtual,
) -> None:
    """The window stops growing when the server's latency rises, and keeps the server busy without a long queue."""
    server, sizes = Server(8), Sizes()
    scheduler = Scheduler(jobs_window=Adaptive(1, 100), instruments=[sizes])
    scheduler.map(server.ask, range(1000))

    async def main() -> float:
        assert await scheduler.co_run()
        return anyio.current_time()

    assert virtual(main) < 1000 / 8 * 1.1
    assert server.most <= 16
    assert min(sizes.sizes[10:]) >= 4  # to measure the latency again


@pytest.mark.parametrize(
    "error",
    [
        lambda: TimeoutError("busy"),
        lambda: Throttled("api", 0.5),
        lambda: ExceptionGroup("", [TimeoutError()]),
    ],
)
def test_the_adaptive_window_shrinks_on_failures(virtual: Virtual, error: Any) -> None:
    """On a failure the window shrinks to seven tenths, once for all jobs that had already started."""
    server, sizes = Server(8, queue=2, error=error), Sizes()
    jobs: list[Any] = [Job(server.ask, needs={"api": 1}) for _ in range(300)]
    virtual(
        Scheduler(
            *jobs,
            jobs_window=Adaptive(2, 100),
            instruments=[sizes],
            pool=Pool(api=1000),
        ).co_run
    )
    drops = [
        (a, b) for a, b in zip(sizes.sizes, sizes.sizes[1:], strict=False) if b < a
    ]
    assert drops
    assert all(b == int(a * 0.7) for a, b in drops)
    assert server.most <= 12
    assert server.refused < 100


@pytest.mark.parametrize("pause", [0, 0.1, 30])
def test_each_attempt_counts_for_the_adaptive_window(
    virtual: Virtual, pause: float
) -> None:
    """An attempt that is repeated shrinks the window as a failed job does, and a pause is no latency: with retries, a
    server that bears 20 calls is kept busy, and refuses few."""
    server = Server(20, queue=1, error=TimeoutError)
    retry = Retry(50, first=pause, factor=1, jitter=False)
    scheduler = Scheduler(
        *[Job(server.ask, retry=retry) for _ in range(500)],
        jobs_window=Adaptive(1, 200),
    )

    async def main() -> float:
        assert await scheduler.co_run()
        return anyio.current_time()

    assert virtual(main) < 500 / 20 * 1.7 + pause
    assert server.refused < 100
    assert server.most <= 22


@pytest.mark.parametrize(
    "slower_on", [(OSError, TimeoutError), (JobTimeout,), (ValueError,)]
)
def test_move_on_shrinks_the_adaptive_window(
    virtual: Virtual, slower_on: tuple[type[Exception], ...]
) -> None:
    sizes = Sizes()
    fine: list[Any] = [Job(anyio.sleep, 1) for _ in range(6)]
    late = [
        Job(anyio.sleep, 9, timeout=2, on_timeout="move_on", required=fine)
        for _ in range(9)
    ]
    window = Adaptive(2, 9, slower_on=slower_on)
    assert virtual(
        Scheduler(*fine, *late, jobs_window=window, instruments=[sizes]).co_run
    )
    assert max(sizes.sizes) > 2
    assert (sizes.sizes[-1] == 2) is (slower_on != (ValueError,))


def test_views_show_the_size_of_the_adaptive_window(
    virtual: Virtual, tmp_path: Path
) -> None:
    trace = Trace()
    scheduler = Scheduler(jobs_window=Adaptive(1, 3), instruments=[trace])
    scheduler.map(anyio.sleep, [1] * 6)
    shown: list[str] = []

    async def look() -> None:
        await anyio.sleep(0.5)
        while True:
            lines = RunHeader(Symbols()).lines(
                RunModel(scheduler).progress(), 100, None
            )
            shown.extend(
                re.findall(
                    r"of (\d) slots",
                    "".join(text for line in lines for text, _ in line),
                )
            )
            await anyio.sleep(1)

    scheduler.add(Job(look, forever=True))
    assert virtual(scheduler.co_run)
    assert shown == ["1", "2", "3"]
    save(trace, tmp_path / "trace.html")
    assert "1 to 3, 3 at the end" in (tmp_path / "trace.html").read_text()


def test_the_sizes_of_an_adaptive_window_are_recorded_without_a_trace(
    virtual: Virtual,
) -> None:
    """Each size has its time, the first included. Only a trace knew the sizes, in a list of its own."""
    trace, scheduler = Trace(), Scheduler(jobs_window=Adaptive(1, 3))
    scheduler.map(Server(9).ask, range(9))
    virtual(partial(scheduler.co_run, instruments=[trace]))
    [run] = record_of_last_run(scheduler).runs
    assert run.window_sizes == trace._get_record().runs[0].window_sizes
    began = run.started_at or 0.0
    assert run.window_sizes == ((began, 1), (began + 1, 2), (began + 2, 3))
    assert run.window_size == 3


def test_simulate_supports_the_adaptive_window(virtual: Virtual) -> None:
    """In a simulation, an adaptive window works as in a run: here it grows from 1 to 4."""
    jobs = [Job(anyio.sleep, 0, expected_duration=1) for _ in range(1 + 2 + 3 + 8)]
    found = simulate(Scheduler(*jobs, jobs_window=Adaptive(1, 4)))
    assert (found.makespan, found.lower_bound) == (5, 14 / 4)


def test_window_size_of_fixed_windows_and_attributes_of_adaptive_ones() -> None:
    """`window_size` is the number of slots, or None without a limit; `Adaptive` has its arguments as attributes."""
    assert Scheduler(jobs_window=3).window_size == 3
    assert Scheduler().window_size is None
    assert repr(Adaptive(1, 4)) == "Adaptive(1, 4)"
    assert (Adaptive(1, 4).minimum, Adaptive(1, 4).maximum) == (1, 4)
    assert Adaptive(1, 4, slower_on=ValueError).slower_on == (ValueError,)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Adaptive(0, 4),
            ValueError,
            r"Adaptive\(0, 4\): the minimum must be at least 1, and the maximum at least the minimum",
        ),
        (lambda: Adaptive(5, 4), ValueError, r"Adaptive\(5, 4\)"),
        (lambda: Adaptive(-1, 4), ValueError, r"minimum=-1 of Adaptive"),
        (lambda: Adaptive(1, 4.5), TypeError, r"maximum=4.5 of Adaptive"),  # type: ignore[arg-type]
        (lambda: Adaptive(True, 4), TypeError, r"minimum=True of Adaptive"),
        (
            lambda: Adaptive("1", 4),
            TypeError,
            r"minimum='1' of Adaptive: give a whole number, 0 or more$",
        ),  # type: ignore[arg-type]
        (
            lambda: Adaptive(1, 4, slower_on=None),
            TypeError,
            r"None is no exception type",
        ),  # type: ignore[arg-type]
        (
            lambda: Adaptive(1, 4, slower_on=("no",)),
            TypeError,
            r"'no' is no exception type",
        ),  # type: ignore[arg-type]
        (
            lambda: Scheduler(label="s", jobs_window=Adaptive),
            TypeError,
            r"jobs_window=.* of 's': give a positive whole",
        ),
    ],
)
def test_invalid_adaptive_windows_are_rejected(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_the_adaptive_window_shrinks_by_the_mean_of_ten_latencies() -> None:
    control, now = WindowController(Adaptive(1, 100)), 0.0

    def after(number: int, latency: float) -> int:
        nonlocal now
        for _ in range(number):
            now += latency
            control.record_success(now - latency, now, is_full=True)
        return control.size

    assert after(1 + 2 + 3 + 4, 2) == 5  # and the lowest mean is 2 s
    assert after(9, 4.125) == 6
    assert after(1, 4.125) == 4  # to where it should be 3 s
    assert after(9, 4.125) == 6
    assert after(1, 4.125) == 4
    assert after(10, 3.9375) == 6


def test_a_window_grows_only_if_it_was_full_since_it_has_grown() -> None:
    control = WindowController(Adaptive(1, 100))
    for is_full in (True, False, False):
        control.record_success(0, 1, is_full=is_full)
        assert control.size == 2


def test_a_burst_of_overload_shrinks_the_adaptive_window_once(virtual: Virtual) -> None:
    """After the window has shrunk, no job that started before shrinks it again, however late it fails."""
    sizes = Sizes()
    fine: list[Any] = [Job(nap, 1) for _ in range(sum(range(1, 10)))]
    late: list[Any] = [
        Job(fail, 1 + number, TimeoutError(), required=fine, run_if="settled")
        for number in range(10)
    ]
    virtual(
        Scheduler(*fine, *late, jobs_window=Adaptive(1, 10), instruments=[sizes]).co_run
    )
    assert sizes.sizes[-2:] == [10, 7]


async def third(*, task_status: Any = None) -> None:
    """Fail twice as an overloaded server does, and succeed, or be ready."""
    if current_job().attempts < 3:
        raise TimeoutError
    if task_status is not None:
        task_status.started()


@pytest.mark.parametrize("kind", [Service, partial(Job, forever=True)])
def test_jobs_that_take_no_slot_leave_the_adaptive_window_as_it_is(
    virtual: Virtual, kind: Any
) -> None:
    """Neither the failed attempts of a service or of a forever job shrink the window, nor does its success widen it."""
    sizes = Sizes()
    fine: list[Any] = [Job(nap, 1) for _ in range(sum(range(1, 5)))]
    late = kind(
        third, retry=Retry(9, first=0.25, factor=1, jitter=False), required=fine
    )
    busy: list[Any] = [Job(nap, 1, required=fine) for _ in range(4)]
    assert virtual(
        Scheduler(
            *fine, late, *busy, jobs_window=Adaptive(1, 10), instruments=[sizes]
        ).co_run
    )
    assert (late.attempts, late.is_succeeded(), sizes.sizes[-1]) == (3, True, 5)


@pytest.mark.parametrize("is_last", [True, False])
def test_latencies_before_overload_are_no_sign_of_overload_afterwards(
    is_last: bool,
) -> None:
    control = WindowController(Adaptive(1, 100))

    def after(number: int, latency: float, now: float) -> int:
        for _ in range(number):
            control.record_success(now - latency, now, is_full=True)
        return control.size

    assert after(10, 1, 1) == 5
    assert after(9, 9, 9) == 6
    control.record_overload(9, 9)
    assert control.size == 4
    assert after(9 if is_last else 1, 1, 11) >= 4


def test_the_lowest_latency_is_measured_again_after_a_hundred_higher_means() -> None:
    """After a hundred higher means, the window shrinks to half to measure the lowest latency again; otherwise never."""
    control, now, sizes = WindowController(Adaptive(1, 8)), 0.0, list[int]()
    for latency, means in ((1.0, 200), (1.25, 99), (1.25, 1)):
        for _ in range(10 * means):
            now += latency
            control.record_success(now - latency, now, is_full=True)
            sizes.append(control.size)
        assert sizes[100:] == [8] * (len(sizes) - 100) or means == 1
    assert sizes[-2:] == [8, 4]


@pytest.mark.parametrize(
    "backend", ["trio"], indirect=True
)  # what it asks of a backend, the others ask too
def test_the_adaptive_window_follows_a_server_whose_capacity_changes(
    virtual: Virtual,
) -> None:
    """The adaptive window serves nine tenths of the best fixed window's requests or more, with far fewer rejections."""

    async def served(window: Any) -> tuple[int, int]:
        """Ask a server for 200 s that works on some requests at once, for a second each, and lets as many wait."""
        busy, refused = 0, 0
        waiting: deque[anyio.Event] = deque()

        def capacity() -> int:
            return (8, 2, 12, 4)[int(anyio.current_time() / 50) % 4]

        def hand_out() -> None:
            nonlocal busy
            while waiting and busy < capacity():
                busy += 1
                waiting.popleft().set()

        async def ask() -> None:
            nonlocal busy, refused
            if len(waiting) >= capacity():
                refused += 1
                raise Throttled("api", 2)
            waiting.append(anyio.Event())
            turn = waiting[-1]
            hand_out()
            await turn.wait()
            await anyio.sleep(1)
            busy -= 1
            hand_out()

        jobs = [Job(ask, needs={"api": 1}) for _ in range(1300)]
        await Scheduler(
            *jobs, jobs_window=window, pool=Pool(api=1000), timeout=200
        ).co_run()
        return sum(job.is_succeeded() for job in jobs), refused

    best, refusals = virtual(served, 12)
    number, refused = virtual(served, Adaptive(1, 32))
    assert number >= 0.9 * best
    assert refused < refusals / 3


def test_an_adaptive_window_grows_while_jobs_take_no_time(virtual: Virtual) -> None:
    async def size() -> Any:
        return scheduler.window_size

    jobs = [Job(anyio.sleep, 0) for _ in range(200)]
    scheduler = Scheduler(
        jobs, last := Job(size, required=jobs), jobs_window=Adaptive(2, 8)
    )
    assert virtual(scheduler.co_run)
    assert last.result() == 8
