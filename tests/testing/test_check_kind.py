"""`check_kind`: the kinds of this package pass, and faults of a kind are found."""

import asyncio
import contextlib
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    Answer,
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
    async def co_run(self) -> str:
        self.answer("yes")
        return await super().co_run()


class Sleeper(trioflow.AbstractJob[int]):
    def __init__(
        self, seconds: float = 0, error: Exception | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.seconds = seconds
        self.error = error

    async def co_run(self) -> int:
        await anyio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return 42


READY: Any = {"ready": OutputLine("ready"), "on_line": lambda *_: None}


def first(function: Any, **options: Any) -> First[Any]:
    return First(Job(function), **options)


def nested(function: Any, **options: Any) -> Scheduler:
    return Scheduler(Job(function, critical=True), **options)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("kind", "quick", "long", "failing", "restores"),
    [
        (Job, forty_two, sleep_long, fail, True),
        (Service, serve, serve_late, serve_badly, True),
        (ThreadJob, forty_two_at_once, block, fail_at_once, True),
        (ProcessJob, forty_two_at_once, block, fail_at_once, True),
        (partial(trioflow.CommandJob, shell=True), "true", TREE, "false", True),
        (
            partial(trioflow.CommandService, **READY, shell=True),
            f"echo ready; {TREE}",
            TREE,
            "false",
            True,
        ),
        (
            partial(SshService, LocalNode(), **READY),
            f"echo ready; {TREE}",
            TREE,
            "false",
            True,
        ),
        (
            first,
            forty_two,
            sleep_long,
            fail,
            False,
        ),  # a journal restores only their members
        (nested, forty_two, sleep_long, fail, False),
    ],
)
def test_kinds_of_package_pass(
    backend: Any, kind: Any, quick: Any, long: Any, failing: Any, restores: bool
) -> None:
    check_kind(
        backend,
        partial(kind, quick),
        partial(kind, long),
        partial(kind, failing),
        restores,
    )


def test_jobs_in_executors_pass(backend: Any) -> None:
    with ThreadPoolExecutor(2) as executor:
        check_kind(
            backend,
            partial(ProcessJob, forty_two_at_once, processes=executor),
            partial(ProcessJob, block, processes=executor),
            partial(ProcessJob, fail_at_once, processes=executor),
        )


def test_answers_pass(backend: Any) -> None:
    check_kind(
        backend,
        partial(Answered, "deploy?"),
        partial(Answer, "deploy?"),
        partial(Answered, "deploy?", choices=["no"]),
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
        self.task = asyncio.get_running_loop().create_task(asyncio.sleep(100))
        return 42


class LeavesAll(Sleeper):
    async def co_run(self) -> int:
        event = threading.Event()
        threading.Thread(target=event.wait, name="a left thread").start()
        left.callback(event.set)
        left.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        process = subprocess.Popen(["sleep", "1000"])  # noqa: ASYNC220
        left.callback(process.wait)
        left.callback(process.kill)
        await anyio.sleep_forever()
        return 42


left = contextlib.ExitStack()
LEFT = "interruptions: each run leaves something behind, the last one"


def failing(**options: Any) -> Sleeper:
    return Sleeper(0, ValueError("broken"), **options)


def long(**options: Any) -> Sleeper:
    return Sleeper(1000, **options)


@pytest.mark.parametrize(
    ("makers", "text"),
    [
        ((Sleeper, SwallowsCancellation, failing), r"job.cancel\(\): the state must be CANCELLED"),
        ((Sleeper, long, Sleeper), "a failure: the state must be FAILED, but is SUCCEEDED"),
        ((LeavesATask, long, failing), r"success: the tasks that are left must be \[\]"),
        pytest.param(
            (Sleeper, LeavesAll, failing), f"{LEFT} the open file .* the process .* the thread 'a left thread'",
            marks=pytest.mark.skipif(not read_environment(str(os.getpid())), reason="needs /proc"),
        ),
    ],
)  # fmt: skip
def test_faults_of_a_kind_are_found(makers: Any, text: str) -> None:
    with left, pytest.raises(AssertionError, match=f"(?s)^{text}.* on asyncio$"):
        check_kind("asyncio", *makers, restores=False)


def test_a_correct_kind_of_a_user_passes(backend: Any) -> None:
    check_kind(backend, Sleeper, long, failing)
