"""Which backends exist, which of them is running, what a first run imports, and how a backend waits."""

import asyncio
import contextvars
import functools
import importlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow._core import backend
from trioflow._core import backend as _backend
from trioflow._core.backend._fast_asyncio import LoopIterations
from ..bodies import nap
from ..conftest import Virtual


def test_each_backend_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each backend is loaded once, and trio's with anyio's part for trio, so that no job waits for that import."""
    imported: list[str] = []

    def note(name: str, package: str | None = None) -> Any:
        imported.append(name)
        return importlib.import_module(name, package)

    monkeypatch.setattr(backend, "_load", functools.cache(backend._load.__wrapped__))
    monkeypatch.setattr(backend, "import_module", note)
    found = {name: backend.get_backend(name) for name in ("asyncio", "trio")}
    assert all(backend.get_backend(name) is found[name] for name in found)
    libraries = [
        name for name in dict.fromkeys(imported) if not name.startswith("._fast")
    ]
    assert libraries == ["._asyncio", "._trio", "anyio._backends._trio"]


@pytest.mark.parametrize("imported", [False, True])
def test_current_backend_is_asyncio_only_in_a_task_of_asyncio(
    monkeypatch: pytest.MonkeyPatch, imported: bool
) -> None:
    if not imported:
        monkeypatch.delitem(sys.modules, "trio")
    in_callback = asyncio.Event()

    def call_back() -> None:
        with pytest.raises(
            RuntimeError, match="must be awaited in a trio or asyncio task"
        ):
            backend.current_backend()
        in_callback.set()

    async def main() -> str:
        asyncio.get_running_loop().call_soon(call_back)
        await asyncio.wait_for(in_callback.wait(), 1)
        return backend.current_backend().name

    assert asyncio.run(main()) == "asyncio"
    with pytest.raises(RuntimeError, match="must be awaited in a trio or asyncio task"):
        backend.current_backend()


class OwnLoop(asyncio.SelectorEventLoop):
    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]


@pytest.mark.fast_way("asyncio")
@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, OwnLoop])
def test_an_iteration_of_a_loop_in_python_is_known_by_its_frame_at_any_depth(
    loop: type[Any],
) -> None:
    """However many functions are called in between, an iteration is the same object, for which no callback is added."""

    def at_depth(iterations: LoopIterations, depth: int) -> object:
        return at_depth(iterations, depth - 1) if depth else iterations.current()

    async def main() -> list[set[object]]:
        iterations = LoopIterations(
            asyncio.get_running_loop(), contextvars.copy_context()
        )
        found: list[set[object]] = []
        for _ in range(2):
            found.append({at_depth(iterations, depth) for depth in range(1, 9)})
            assert iterations._current is None, "a callback was added"
            await asyncio.sleep(0)
        return found

    with asyncio.Runner(loop_factory=loop) as runner:
        first, second = runner.run(main())
    assert len(first) == len(second) == 1
    assert first != second


# --- imports in the first run, and the error if one fails
BEFORE = """
import json, sys, anyio
from trioflow import Job, Scheduler

before = []

async def look():
    before.append(sorted(sys.modules))
    await anyio.sleep(0)

job = Job(look)
"""


@pytest.mark.parametrize(
    ("backend", "in_a_loop"),
    [("trio", False), pytest.param("asyncio", True, marks=pytest.mark.ci)],
)
def test_the_first_job_waits_for_no_import_of_anyio(
    backend: str, in_a_loop: bool
) -> None:
    """anyio's part for trio was once imported during the first job, which kept the loop still for 14 to 100 ms."""
    run = (
        f"anyio.run(Scheduler(job).co_run, backend={backend!r})"
        if in_a_loop
        else f"Scheduler(job).run(backend={backend!r})"
    )
    end = "print(json.dumps([name for name in set(sys.modules) - set(before[0]) if name.startswith('anyio.')]))"
    code = f"{BEFORE}\n{run}\n{end}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


def test_the_error_names_a_backend_library_that_cannot_be_imported(
    tmp_path: Path,
) -> None:
    """An `attrs.py` beside the program, which hides the library that trio needs, gives an error that explains this."""
    (tmp_path / "attrs.py").write_text("")
    (tmp_path / "program.py").write_text(f"{BEFORE}\nScheduler(job).run()")
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "ImportError: trio cannot be imported, so backend='trio' cannot be used: "
    )
    assert "attrs" in last
    assert last.endswith("; does one of your files shadow a library of the same name?")
    assert "private attributes" not in done.stderr


# --- waits for descriptors, for times, and in spite of cancellations
@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The read end and the write end of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_wait_readable_is_false_after_its_deadline_even_if_data_is_ready(
    backend: str, pipe: tuple[int, int]
) -> None:
    """`wait_readable` is False after its deadline even if data is ready, so that an endless writer can be ended."""
    read_end, write_end = pipe
    os.write(write_end, b"x")

    async def look() -> list[bool]:
        wait, now = _backend.current_backend().wait_readable, anyio.current_time()
        return [
            await wait(read_end),
            await wait(read_end, now + 60),
            await wait(read_end, now),
        ]

    assert anyio.run(look, backend=backend) == [True, True, False]


def test_wait_readable_is_false_at_its_deadline_without_data(virtual: Virtual) -> None:
    ends = socket.socketpair()

    async def look() -> list[Any]:
        wait = _backend.current_backend().wait_readable
        return [
            await wait(ends[0].fileno(), when) or anyio.current_time()
            for when in (2.0, 5.0)
        ]

    with ends[0], ends[1]:
        assert virtual(look) == [2.0, 5.0]


def test_sleep_until_can_be_cancelled_before_its_time(virtual: Virtual) -> None:
    async def sleep() -> list[float]:
        until = _backend.current_backend().sleep_until
        await until(3.0)
        times = [anyio.current_time()]
        await until(1.0)
        with anyio.move_on_after(2):
            await until(99.0)
            times.append(-1)
        return [*times, anyio.current_time()]

    assert virtual(sleep) == [3.0, 5.0]


def test_outlast_finishes_its_wait_in_a_cancelled_scope(virtual: Virtual) -> None:
    async def outlast() -> list[Any]:
        told: list[Any] = []
        with anyio.move_on_after(1):
            told += [
                await _backend.current_backend().outlast(lambda: nap(3, 3)),
                anyio.current_time(),
            ]
            await anyio.sleep(1)
            told.append("not cancelled")
        return [*told, anyio.current_time()]

    assert virtual(outlast) == [3, 3.0, 3.0]


@pytest.mark.parametrize("backend", ["asyncio"], indirect=True)
def test_outlast_begins_its_wait_again_after_a_native_cancellation(
    virtual: Virtual,
) -> None:
    """`outlast` waits again after `Task.cancel()`, which no shield stops, and returns the value of the last wait."""
    begun: list[float] = []

    async def wait(event: asyncio.Event) -> int:
        begun.append(anyio.current_time())
        await event.wait()
        return len(begun)

    async def outlast() -> list[Any]:
        event = asyncio.Event()
        task = asyncio.create_task(
            _backend.current_backend().outlast(lambda: wait(event))
        )
        for _ in range(2):
            await asyncio.sleep(1)
            task.cancel()
        await asyncio.sleep(1)
        event.set()
        return [await task, begun]

    assert virtual(outlast) == [3, [0.0, 1.0, 2.0]]
