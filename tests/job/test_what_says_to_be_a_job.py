"""Objects whose `__class__` is not their type, such as mocks and lazy proxies: their type alone says what is a job."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from trioflow import AbstractJob, Job, Scheduler, Trace
from trioflow._core.job._job import is_job
from trioflow.view import listing

from ..bodies import nothing
from ..places import PATIENCE


class Proxy:
    """A lazy proxy outside of its context."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("outside of its context")

    @__class__.setter  # the type of `object.__class__` allows it to be set
    def __class__(self, _: Any) -> None: ...


async def same(value: Any) -> Any:
    return value


LIKE_JOBS: dict[str, Callable[[], Any]] = {  # pytest would look at the objects themselves
    "job": lambda: Mock(spec=Job),
    "scheduler": lambda: Mock(spec=Scheduler),
    "any": lambda: Mock(spec=AbstractJob),
    "mock": Mock,
    "proxy": Proxy,
}


@pytest.mark.parametrize("name", LIKE_JOBS)
def test_what_only_says_to_be_a_job_is_a_value(backend: str, name: str) -> None:
    """A run with `Mock(spec=Job)` as an argument looked for the outermost of its endless schedulers, without an end."""
    value = LIKE_JOBS[name]()
    jobs = [
        Job(same, value),
        Job(same, [value]),
        Job(same, {"key": value}),
        Job(same, required=None, kwargs={"value": value}),
    ]
    last = Job(same, jobs[0])
    scheduler = Scheduler(jobs, last)
    assert scheduler.run(backend=backend, instruments=[Trace()])
    assert jobs[0].result() is last.result() is value
    assert jobs[1].result()[0] is jobs[2].result()["key"] is jobs[3].result() is value
    assert "same" in listing(scheduler)
    scheduler.debrief()


@pytest.mark.parametrize("name", ["job", "scheduler", "any", "proxy"])
def test_what_only_says_to_be_a_job_is_no_member_and_no_requirement(name: str) -> None:
    value = LIKE_JOBS[name]()
    for call in (
        lambda: Scheduler(value), lambda: Job(nothing, required=value), lambda: Job(nothing, required=[value]),
        lambda: Job(nothing).requires(value), lambda: Scheduler().explain(value),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=r"is not a job|give a job"):
            call()
    with pytest.raises(KeyError):
        Scheduler().remove(value)
    assert not is_job(value)


SPIN = """
import signal, sys
from trioflow import AbstractJob, Scheduler

class Spin(AbstractJob):
    def check_before_run(self):
        print("checks", flush=True)
        while True:
            pass
    async def co_run(self):
        pass

def alarm(*_):
    raise TimeoutError

signal.signal(signal.SIGALRM, alarm)
try:
    Scheduler(Spin()).run(backend=sys.argv[1])
except BaseException as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGALRM, "TimeoutError")])
def test_the_check_before_a_run_hears_signals(backend: str, number: int, error: str) -> None:
    """What a user's object makes long ended by SIGKILL alone: Ctrl-C and what a handler raises waited for the loop."""
    with subprocess.Popen([sys.executable, "-c", SPIN, backend], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "checks\n"
        process.send_signal(number)
        assert process.communicate(timeout=PATIENCE)[0] == f"{error}\n"
