"""`FailureCounter`: the log of a server, whose many runs fail alike, is short."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import anyio
import pytest

from trioflow import FailureCounter, Job, Scheduler
from trioflow.abc import AbstractJob, Instrument
from trioflow.view.text import _failure_counter

from ..places import PATIENCE

if TYPE_CHECKING:
    from ..conftest import Virtual

PROGRAM = """
import logging, signal, sys
import anyio
from trioflow import FailureCounter, Job, Scheduler

counter = FailureCounter()
logging.getLogger("trioflow").addFilter(counter)

async def broken():
    raise OSError("no answer")

async def requests(count):
    for _ in range(count):
        await Scheduler(Job(broken)).co_run()

anyio.run(requests, 3)
"""
"""A program whose services are down: what is counted is left to what a test adds at its end."""


class Timer:
    """A timer that fires when a test calls it, not after a time."""

    started: list[Timer]

    def __init__(self, seconds: float, function: object) -> None:
        self.fire: object = function
        self.daemon = False

    def start(self) -> None:
        """Remember that the timer was started."""
        assert self.daemon
        type(self).started.append(self)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the lines of the log behind a FailureCounter, whose timers fire when `pass_period` is called."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    monkeypatch.setattr(Timer, "started", [], raising=False)
    monkeypatch.setattr(_failure_counter.threading, "Timer", Timer)
    logger, counter = logging.getLogger("trioflow"), FailureCounter()
    monkeypatch.setattr(logger, "handlers", [Handler()])
    logger.addFilter(counter)
    yield found
    logger.removeFilter(counter)
    counter.report()


def pass_period() -> None:
    """Let the timer fire."""
    (timer,) = Timer.started
    Timer.started.clear()
    timer.fire()  # type: ignore[operator]


async def broken(number: int = 0) -> None:
    raise OSError(f"answer {number}")


LINE = broken.__code__.co_firstlineno + 1
FAILED = (
    "'broken(0)' failed: OSError: answer 0; the run goes on; "
    f'it was in broken at test_failure_counter.py:{LINE} (raise OSError(f"answer {{number}}"))'
)


async def other() -> None:
    raise KeyError("x")


async def requests(count: int) -> None:
    for number in range(count):
        await Scheduler(Job(broken, number), label=f"request {number}").co_run()


def test_failures_of_one_kind_are_counted_over_runs(virtual: Virtual, lines: list[str]) -> None:
    """The first failure of a kind has a line at once, without advice, and then their number once a period."""
    virtual(requests, 20)
    assert lines == [FAILED]
    pass_period()
    assert lines[1:] == [f"19 more in 1 min like this: {FAILED}"]
    virtual(requests, 3)
    virtual(Scheduler(Job(other)).co_run)
    assert lines[2].startswith("'other()' failed: KeyError: 'x'; the run goes on; it was in other at ")
    pass_period()
    assert lines[3].startswith("3 more in 1 min")


def test_a_report_names_the_jobs_that_failed_most(virtual: Virtual, lines: list[str]) -> None:
    """If one function calls several services, the line says how often each of them failed."""
    for label in ("ads", "ads", "ads", "payments", "payments", "stock"):
        virtual(Scheduler(Job(broken, label=label)).co_run)
    pass_period()
    assert lines[1].startswith("5 more in 1 min like this ('ads' 2, 'payments' 2): 'ads' failed: OSError")


def test_a_report_before_the_end_of_a_period_names_no_period(virtual: Virtual, lines: list[str]) -> None:
    """At the end of the program, the number of the last failures is logged without a period that has not passed."""
    virtual(requests, 3)
    (counter,) = logging.getLogger("trioflow").filters
    assert isinstance(counter, FailureCounter)
    counter.report()
    assert lines[1:] == [f"2 more like this: {FAILED}"]


def run_program(end: str) -> tuple[int, list[str]]:
    """Return the exit code of `PROGRAM` with these lines at its end, and the first three words of its log's lines."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + end], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.returncode, [" ".join(line.split()[:3]) for line in done.stderr.splitlines()]


def test_a_server_that_a_signal_ends_logs_its_last_number() -> None:
    """Under uvicorn, which raises SIGTERM again after the lifespan, the number of the last minute was once lost."""
    end = "counter.report(); signal.raise_signal(signal.SIGTERM)"
    assert run_program(end) == (-signal.SIGTERM, ["'broken()' failed: OSError:", "2 more like"])


def test_failures_after_a_report_are_logged_at_exit() -> None:
    """A report in between once kept Python's exit from logging the number of the failures after it."""
    end = "counter.report(); anyio.run(requests, 3)"
    assert run_program(end) == (0, ["'broken()' failed: OSError:", "2 more like", "3 more like"])


def test_a_failure_after_a_quiet_period_is_logged_at_once(virtual: Virtual, lines: list[str]) -> None:
    """After a period without a failure of its kind, the next one has a line again, and no timer is left."""
    virtual(requests, 1)
    pass_period()
    assert Timer.started == []
    virtual(requests, 1)
    assert len(lines) == 2


def test_counts_within_one_run_and_timeouts_of_runs_are_added_up(virtual: Virtual, lines: list[str]) -> None:
    """What a run has counted itself is in the number, and runs that time out are one kind."""
    virtual(Scheduler([Job(broken, number) for number in range(10)]).co_run)
    for _ in range(3):
        virtual(Scheduler(Job(anyio.sleep, 9), timeout=1, label="slow").co_run)
    assert [line.partition(";")[0] for line in lines] == [
        "'broken(0)' failed: OSError: answer 0",
        "the run of 'slow' stopped after its timeout of 1 s",
    ]
    pass_period()
    assert [line.partition(" in ")[0] for line in lines[2:]] == ["9 more", "2 more"]


def test_incidents_pass_the_counter(virtual: Virtual, lines: list[str]) -> None:
    """A line that is about neither a failure nor the end of a run is logged each time."""

    class Odd(Instrument):
        def job_started(self, scheduler: Scheduler, job: AbstractJob[object]) -> None:
            raise OSError("no space left")

    for _ in range(2):
        virtual(Scheduler(Job(anyio.sleep, 0), instruments=[Odd()]).co_run)
    assert ["raised in job_started" in line for line in lines] == [True, True]


def test_kinds_above_the_limit_have_a_line_each(
    virtual: Virtual, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded: what is of one kind too many is logged as it is."""
    monkeypatch.setattr(_failure_counter, "MAX_KINDS", 1)
    virtual(requests, 2)
    for _ in range(2):
        virtual(Scheduler(Job(other)).co_run)
    assert len(lines) == 3


def test_a_counter_serves_several_threads(lines: list[str]) -> None:
    """Runs in several threads lose no failure of the count."""
    threads = [threading.Thread(target=anyio.run, args=(requests, 20)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines) == 1
    pass_period()
    assert lines[1].startswith("79 more")


def test_lines_have_no_remedies(virtual: Virtual, lines: list[str]) -> None:
    """The log of a server whose services are down once had a paragraph of advice in each line."""
    late = Job(anyio.sleep, 9, timeout=1, label="late")
    page = Job(anyio.sleep, late, critical=True, label="page")
    virtual(Scheduler(late, page, label="request").co_run)
    assert lines[0] == "'late' failed: JobTimeout: 'late' did not end within its timeout of 1 s; the run goes on"
    assert lines[1].endswith("cannot run, because 'late' failed; it is critical, so the run of 'request' stops")
