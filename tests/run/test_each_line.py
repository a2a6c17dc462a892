"""An interrupt at any line of the engine: the run ends, and the books agree."""

import asyncio
import itertools
import sys
from pathlib import Path
from typing import Any
import anyio
import pytest
import trio
from trioflow import Job, Scheduler
from trioflow._core.run import _ending
from trioflow._core.scheduler._async_with import OpenBlock
from ..bodies import Flaw, nap
from ..pythons import python

STEPS = {"graph": 331, "block": 173}
"""Each of so many lines is tried; `python -m tests.run.each_line` tries all."""


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork()")
@pytest.mark.parametrize("scenario", STEPS)
@pytest.mark.parametrize("how", ["interrupt", "twice"])
def test_an_interrupt_at_any_line_ends_the_run(how: str, scenario: str) -> None:
    """Ctrl-C under `trio.run` while a run wound up once hung for ever, also at the second one."""
    words = ["-m", "tests.run.each_line", how, "trio", scenario, str(STEPS[scenario])]
    ended = python(*words, text=True, cwd=Path(__file__).parents[2])
    assert ended.stdout.endswith(" 0 wrong\n"), ended.stdout + ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork()")
def test_an_error_at_any_line_ends_the_run(backend: str) -> None:
    """A run stood still after a lack of memory, or kept what its pool and its limiter had given it."""
    ended = python(
        "-m",
        "tests.run.each_line",
        "error",
        backend,
        "graph",
        "701",
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert ended.stdout.endswith(" 0 wrong\n"), ended.stdout + ended.stderr


@pytest.mark.parametrize(("owner", "name"), [(_ending, "end"), (OpenBlock, "exit")])
def test_error_at_ending_does_not_skip_it(
    backend: str, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """A run, or the run of an open block, once went on for ever if the very call of its ending had no memory."""
    real, count = getattr(owner, name), itertools.count()

    def fail_once(self: Any, *arguments: Any) -> Any:
        if next(count) == 0:
            raise MemoryError
        return real(self, *arguments)

    async def main() -> None:
        async with scheduler:
            scheduler.add(Job(nap, 100))
            monkeypatch.setattr(owner, name, fail_once)
            raise Flaw

    scheduler = Scheduler()
    with pytest.raises(MemoryError):
        anyio.run(main, backend=backend)
    monkeypatch.undo()
    assert scheduler._run is None
    assert not any(job.is_running() or job.is_scheduled() for job in scheduler)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_error_where_a_task_is_started_ends_the_run(
    backend: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A run whose tasks could not be started, for lack of memory, once stood still, and no cancellation ended it."""
    owner: Any = trio.Nursery if backend == "trio" else asyncio.BaseEventLoop
    name = "start_soon" if backend == "trio" else "create_task"
    real, count = getattr(owner, name), itertools.count()

    def fail_once(self: Any, function: Any, *arguments: Any, **options: Any) -> Any:
        if next(count) == number:
            if asyncio.iscoroutine(function):
                function.close()
            raise MemoryError
        return real(self, function, *arguments, **options)

    async def main() -> None:
        monkeypatch.setattr(owner, name, fail_once)
        try:
            await scheduler.co_run()
        finally:
            monkeypatch.undo()

    scheduler = Scheduler(*(Job(nap, 0.001) for _ in range(5)))
    # The usual loop of asyncio, which can be patched: that of uvloop is written in C.
    options = (
        {"loop_factory": asyncio.SelectorEventLoop} if backend == "asyncio" else {}
    )
    with pytest.raises(MemoryError):
        anyio.run(main, backend=backend, backend_options=options)
    assert not any(job.is_running() or job.is_scheduled() for job in scheduler)
