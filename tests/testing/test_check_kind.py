"""`check_kind`: the kinds of this package pass, and each fault of a kind is found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import anyio
import pytest
import sniffio

from trioflow import (
    AbstractJob,
    CommandJob,
    CommandService,
    CommandSucceeds,
    ExecutorJob,
    First,
    Job,
    LocalNode,
    ProcessJob,
    Scheduler,
    Service,
    SshJob,
    ThreadJob,
)
from trioflow.testing import check_kind

from .at_once import block, fail_at_once, forty_two_at_once


async def forty_two() -> int:
    return 42


async def sleep_long() -> None:
    await anyio.sleep_forever()


async def fail() -> None:
    raise ValueError("broken")


async def serve(*, task_status: Any) -> None:
    task_status.started(7)
    await anyio.sleep_forever()


async def serve_badly(*, task_status: Any) -> None:
    raise ValueError("broken")


def service_of_a_command(**options: Any) -> CommandService:
    return CommandService(["sleep", "1000"], ready=CommandSucceeds(["true"]), **options)


class Sleeper(AbstractJob[int]):
    """The least kind."""

    def __init__(self, seconds: float = 0, error: Exception | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.seconds = seconds
        self.error = error

    async def co_run(self) -> int:
        await anyio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return 42


@pytest.fixture
def executor() -> Iterator[Executor]:
    """Return an executor with two threads."""
    with ThreadPoolExecutor(2) as threads:
        yield threads


def check_makers(kind: Any, quick: Any, long: Any = None, failing: Any = None, restores: bool = True) -> None:
    """Check a kind whose jobs are made from these arguments."""

    def maker(arguments: Any) -> Any:
        return None if arguments is None else lambda **options: kind(*arguments, **options)

    check_kind(maker(quick), make_long_job=maker(long), make_failing_job=maker(failing), restores=restores)


@pytest.mark.parametrize(
    ("kind", "quick", "long", "failing"),
    [
        (Job, (forty_two,), (sleep_long,), (fail,)),
        (Service, (serve,), None, (serve_badly,)),
        (ThreadJob, (forty_two_at_once,), (block,), (fail_at_once,)),
        (ProcessJob, (forty_two_at_once,), (block,), (fail_at_once,)),
        (CommandJob, (["true"],), (["sleep", "1000"],), (["false"],)),
        (service_of_a_command, (), None, None),
        (SshJob, (LocalNode(), "true"), (LocalNode(), "sleep 1000"), (LocalNode(), "false")),
    ],
)
def test_the_kinds_of_this_package_pass(kind: Any, quick: Any, long: Any, failing: Any) -> None:
    """Each kind does what is expected of every job."""
    check_makers(kind, quick, long, failing)


def test_jobs_in_executors_pass(executor: Executor) -> None:
    """An `ExecutorJob` does what is expected of every job."""
    check_makers(ExecutorJob, (executor, forty_two_at_once), (executor, block), (executor, fail_at_once))


def test_schedulers_and_races_pass() -> None:
    """Schedulers and `First` do as jobs what is expected of every job; a journal restores only their members."""
    check_kind(
        lambda **options: First(Job(forty_two), **options),
        make_long_job=lambda **options: First(Job(sleep_long), Job(sleep_long), **options),
        make_failing_job=lambda **options: First(Job(fail), **options),
        restores=False,
    )
    check_kind(
        lambda **options: Scheduler(Job(forty_two), **options),
        make_long_job=lambda **options: Scheduler(Job(sleep_long), **options),
        make_failing_job=lambda **options: Scheduler(Job(fail, critical=True), **options),
        restores=False,
    )


# ---- faults


class DropsOptions(Sleeper):
    def __init__(self, **options: Any) -> None:
        options.pop("priority", None)
        super().__init__(**options)


class SwallowsCancellation(Sleeper):
    async def co_run(self) -> int:
        try:
            await anyio.sleep(5)
        except BaseException:  # the fault
            return 1
        return 0


class FailsTheSecondTime(Sleeper):
    async def co_run(self) -> int:
        if hasattr(self, "has_run"):
            raise RuntimeError("I was already here")
        self.has_run = True
        return 42


class BadLabel(Sleeper):
    def default_label(self, depth: int) -> Any:
        return 5


class LeavesATask(Sleeper):
    async def co_run(self) -> int:
        if sniffio.current_async_library() == "asyncio":
            self.task = asyncio.get_running_loop().create_task(asyncio.sleep(100))
        return 42


class LosesItsResult(Sleeper):
    async def co_run(self) -> Any:
        self.count = getattr(self, "count", 0) + 1
        return None if self.count > 1 else 42


class ReturnsWhatCannotBeStored(Sleeper):
    async def co_run(self) -> Any:
        return type(self)


@pytest.mark.parametrize(
    ("kind", "makers", "text"),
    [
        (DropsOptions, {}, "option priority=1 was not passed on"),
        (FailsTheSecondTime, {}, "must succeed, but did not: 'FailsTheSecondTime' (FAILED, RuntimeError: I was"),
        (LosesItsResult, {}, "a second run has a result of another type"),
        (LeavesATask, {}, "tasks are left"),
        (Sleeper, {"make_long_job": SwallowsCancellation}, "must make a running job CANCELLED, but not"),
        (Sleeper, {"make_failing_job": Sleeper}, "a job of `make_failing_job` must fail, but did not"),
        (ReturnsWhatCannotBeStored, {"restores": True}, "a journal did not restore a job"),
    ],
)
def test_faults_of_a_kind_are_found(kind: Any, makers: Any, text: str) -> None:
    """The error says what was expected, and names the job and the backend."""
    with pytest.raises(AssertionError) as info:
        check_kind(kind, **{"restores": False, **makers})
    assert text in str(info.value)
    assert str(info.value).endswith(("on trio", "on asyncio"))


def test_a_correct_kind_of_a_user_passes() -> None:
    """The least kind passes."""
    check_kind(
        Sleeper,
        make_long_job=lambda **options: Sleeper(1000, **options),
        make_failing_job=lambda **options: Sleeper(0, ValueError("broken"), **options),
    )


def test_it_is_no_async_function(virtual: Any) -> None:
    """In an event loop, it says that it starts loops of its own."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="event loops of its own"):
            check_kind(Sleeper)

    virtual(main)
