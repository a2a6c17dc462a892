"""`check_kind`: the kinds of this package pass, and faults of a kind are found."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any

import anyio
import pytest
import sniffio

from trioflow import (
    AbstractJob,
    Answer,
    CommandJob,
    CommandService,
    First,
    Job,
    LocalNode,
    OutputLine,
    ProcessJob,
    Scheduler,
    Service,
    SshService,
    ThreadJob,
)
from trioflow.jobs.posix._guard_script import read_environment

from ..jobs.posix.process_trees import TREE
from .at_once import block, fail_at_once, forty_two_at_once
from .kinds import check_kind


async def forty_two() -> int:
    return 42


async def sleep_long() -> None:
    await anyio.sleep_forever()


async def fail() -> None:
    raise ValueError("broken")


async def serve(*, task_status: Any) -> None:
    task_status.started(7)
    await anyio.sleep_forever()


async def serve_late(*, task_status: Any) -> None:
    await anyio.sleep_forever()


async def serve_badly(*, task_status: Any) -> None:
    raise ValueError("broken")


class Answered(Answer[str]):
    """A question that is answered when it is asked, in each run."""

    async def co_run(self) -> str:
        self.answer("yes")
        return await super().co_run()


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


READY: Any = {"ready": OutputLine("ready"), "on_line": lambda *_: None}


@pytest.mark.parametrize(
    ("kind", "quick", "long", "failing"),
    [
        (Job, (forty_two,), (sleep_long,), (fail,)),
        (Service, (serve,), (serve_late,), (serve_badly,)),
        (ThreadJob, (forty_two_at_once,), (block,), (fail_at_once,)),
        (ProcessJob, (forty_two_at_once,), (block,), (fail_at_once,)),
        (partial(CommandJob, shell=True), ("true",), (TREE,), ("false",)),
        (partial(CommandService, **READY, shell=True), (f"echo ready; {TREE}",), (TREE,), ("false",)),
        (partial(SshService, LocalNode(), **READY), (f"echo ready; {TREE}",), (TREE,), ("false",)),
    ],
)
def test_the_kinds_of_this_package_pass(kind: Any, quick: Any, long: Any, failing: Any) -> None:
    """Each kind does what is expected of every job."""
    check_kind(partial(kind, *quick), make_long_job=partial(kind, *long), make_failing_job=partial(kind, *failing))


def test_answers_pass() -> None:
    """An `Answer` does what is expected of every job."""
    check_kind(
        partial(Answered, "deploy?"),
        make_long_job=partial(Answer, "deploy?"),
        make_failing_job=partial(Answered, "deploy?", choices=["no"]),
    )


def test_jobs_in_executors_pass(executor: Executor) -> None:
    """A `ProcessJob` on an executor does what is expected of every job."""
    check_kind(
        partial(ProcessJob, forty_two_at_once, processes=executor),
        make_long_job=partial(ProcessJob, block, processes=executor),
        make_failing_job=partial(ProcessJob, fail_at_once, processes=executor),
    )


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


class SwallowsCancellation(Sleeper):
    async def co_run(self) -> int:
        try:
            await anyio.sleep(5)
        except BaseException:  # the fault
            return 1
        return 0


class LeavesATask(Sleeper):
    async def co_run(self) -> int:
        if sniffio.current_async_library() == "asyncio":
            self.task = asyncio.get_running_loop().create_task(asyncio.sleep(100))
        return 42


class LeavesAThread(Sleeper):
    def left(self) -> Any:
        event = threading.Event()
        threading.Thread(target=event.wait, name="a left thread").start()
        left.callback(event.set)
        return event

    async def co_run(self) -> int:
        self.kept = self.left()
        await anyio.sleep_forever()
        return 42


class LeavesAFile(LeavesAThread):
    def left(self) -> Any:
        return left.enter_context(open(os.devnull))


class LeavesAProcess(LeavesAThread):
    def left(self) -> Any:
        process = subprocess.Popen(["sleep", "1000"])
        left.callback(process.wait)
        left.callback(process.kill)


left = contextlib.ExitStack()
NEEDS_PROC = pytest.mark.skipif(not read_environment(str(os.getpid())), reason="needs /proc")


@pytest.mark.parametrize(
    ("kind", "makers", "text"),
    [
        (Sleeper, {"make_long_job": SwallowsCancellation}, "job.cancel(): the state must be CANCELLED"),
        (Sleeper, {"make_failing_job": Sleeper}, "a failure: the state must be FAILED, but is SUCCEEDED"),
        (LeavesATask, {}, "success: the tasks that are left must be []"),
        (Sleeper, {"make_long_job": LeavesAThread}, "interruptions: each run leaves something behind, the last one the "
                                                    "thread 'a left thread'"),
        pytest.param(Sleeper, {"make_long_job": LeavesAFile}, "interruptions: each run leaves something behind, the "
                                                              "last one the open file ", marks=NEEDS_PROC),
        pytest.param(Sleeper, {"make_long_job": LeavesAProcess}, "interruptions: each run leaves something behind, the "
                                                                 "last one the process ", marks=NEEDS_PROC),
    ],
)  # fmt: skip
def test_faults_of_a_kind_are_found(kind: Any, makers: Any, text: str) -> None:
    """The error names the check, what was expected and found, the job, and the backend."""
    with left, pytest.raises(AssertionError) as info:
        check_kind(kind, **{"restores": False, **makers})
    assert str(info.value).startswith(text)
    assert str(info.value).endswith((" on trio", " on asyncio"))


def test_a_correct_kind_of_a_user_passes() -> None:
    """The least kind passes."""
    check_kind(
        Sleeper,
        make_long_job=lambda **options: Sleeper(1000, **options),
        make_failing_job=lambda **options: Sleeper(0, ValueError("broken"), **options),
    )
