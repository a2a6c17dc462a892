"""Direct isolation, without private parts of trio and anyio: when it is used, its log lines, and its limits.

With `TRIOFLOW_ISOLATION=direct` nearly all tests of the engine run on it."""

import ast
import json
import os
import subprocess
import sys
import weakref
from importlib import metadata
from pathlib import Path
from textwrap import dedent
from typing import Any, cast
import anyio
import pytest
import trio
from anyio._backends import _asyncio as anyio_asyncio
from trioflow import Job, JobState, JobTimeout, Scheduler, Sequence
from trioflow._core import backend
from trioflow._core.backend import _fast_asyncio, _fast_trio
from trioflow._core.backend._shared import PrivateApiMismatch
from trioflow.testing import run_virtual
from .. import isolations
from ..bodies import nothing
from ..places import PACKAGE

SCENARIO = """
import contextvars, json, sys
import anyio
from trioflow import Job, JobTimeout, Scheduler, Sequence

setting = contextvars.ContextVar("setting", default="untouched")
starts = []

async def fetch(number):
    starts.append(number)
    await anyio.sleep(0.01)
    return number

async def change():
    setting.set("changed")
    raise ValueError

async def look():
    return setting.get()

async def stubborn():
    try:
        await anyio.sleep(10)
    except anyio.get_cancelled_exc_class():
        await anyio.sleep(0.01)  # on trio cancelled again, at once

async def scenario(backend):
    starts.clear()
    parts = [Job(fetch, number) for number in range(5)]
    total = Job(lambda *numbers: fetch(sum(numbers)), *parts)
    sloppy, after = Job(change), Job(look, run_if="settled")
    slow, forever = Job(anyio.sleep, 10, timeout=0.01), Job(anyio.sleep, 10, forever=True)
    inner = Scheduler(Job(stubborn), timeout=0.01, label="inner")
    scheduler = Scheduler(parts, total, Sequence(sloppy, after), slow, forever, inner, jobs_window=8)
    fine = await scheduler.co_run()
    return [
        fine, starts, total.result(), sloppy.state.name, after.result(),
        isinstance(slow.raised_exception(), JobTimeout),
        forever.state.name, inner.state.name,
    ]

print(json.dumps([anyio.run(scenario, name, backend=name) for name in sys.argv[1:] for _ in range(2)]))
"""
RESULT = [
    False,
    [0, 1, 2, 3, 4, 10],
    10,
    "FAILED",
    "untouched",
    True,
    "CANCELLED",
    "FAILED",
]

DIFFERENT = {
    "trio": ("import trio; del trio._core", "module 'trio' has no attribute '_core'"),
    "asyncio": (
        """
        import types
        from anyio import _backends
        from anyio._backends import _asyncio as inside
        class Scope(inside.CancelScope):
            _effectively_cancelled = False
        _backends._asyncio = types.SimpleNamespace(**{**vars(inside), "CancelScope": Scope})
        """,
        "a scope ignores its cancellation",
    ),
}
"""What is missing, or misbehaves, and what the log says of it."""


def run_scenario(
    name: str, before: str = "", isolation: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the scenario in its own process, twice on each backend; `TRIOFLOW_ISOLATION` is read at the import."""
    environment = {**os.environ, "TRIOFLOW_ISOLATION": isolation}
    return subprocess.run(
        [sys.executable, "-c", dedent(before) + SCENARIO, *name.split()],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip


def said_of_parts(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "private attributes" in line]


@pytest.mark.parametrize(
    "name", ["trio", pytest.param("asyncio", marks=pytest.mark.ci)]
)
def test_a_private_part_that_differs_is_logged_once_and_not_used(name: str) -> None:
    """A private part that differs is logged once, with library and version, and the results are right without it."""
    before, difference = DIFFERENT[name]
    done = run_scenario(name, before)
    library = {"trio": "trio", "asyncio": "anyio"}[name]
    assert json.loads(done.stdout) == [RESULT, RESULT]
    (said,) = said_of_parts(done)
    assert said.startswith(
        f"private attributes of {library} {metadata.version(library)}, which a newer trioflow may"
    )
    assert difference in said
    assert said.endswith(f"; trioflow runs without them, slower on {name}")


@pytest.mark.parametrize(
    "name", [pytest.param("trio", marks=pytest.mark.ci), "asyncio"]
)
def test_nothing_takes_the_place_of_an_isolation_that_was_chosen(name: str) -> None:
    """With `TRIOFLOW_ISOLATION=fast`, as in these tests, a private part that differs is an error, and no log line."""
    before, difference = DIFFERENT[name]
    done = run_scenario(name, before, "fast")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "ImportError: TRIOFLOW_ISOLATION=fast: private attributes of "
    )
    assert difference in done.stderr


def test_the_log_names_a_class_that_another_library_has_replaced() -> None:
    """If another library has replaced asyncio's class of tasks, as nest_asyncio does, the log blames it, not anyio."""
    done = run_scenario(
        "asyncio", "import asyncio; asyncio.Task = asyncio.tasks._PyTask"
    )
    assert json.loads(done.stdout) == [RESULT, RESULT]
    (said,) = [
        line for line in done.stderr.splitlines() if "which has no _must_cancel" in line
    ]
    assert said.startswith("asyncio.Task is asyncio.tasks.Task, ")
    assert "another library has replaced it" in said


@pytest.mark.parametrize("kind", ["direct", pytest.param("fast", marks=pytest.mark.ci)])
def test_an_isolation_by_environment_variable_logs_nothing(kind: str) -> None:
    """`TRIOFLOW_ISOLATION` selects an isolation, with the same results and no log line."""
    look = "import atexit, sys; from trioflow._core import backend as b\n"
    look += "ways = lambda: [type(b.get_backend(name).isolation).__name__ for name in sys.argv[1:]]\n"
    look += "atexit.register(lambda: print(*ways(), 'private attributes', file=sys.stderr))\n"
    done = run_scenario("trio asyncio", look, kind)
    assert json.loads(done.stdout) == [RESULT] * 4
    assert said_of_parts(done) == [
        f"{kind.title()}Trio {kind.title()}Asyncio private attributes"
    ]


@pytest.mark.parametrize("kind", ["0", "1", "plain", "Direct"])
def test_an_isolation_that_does_not_exist_is_refused(kind: str) -> None:
    """Another value of `TRIOFLOW_ISOLATION` is an error that names the choices; a variable like a switch is not on."""
    with pytest.raises(
        ValueError, match=f"^TRIOFLOW_ISOLATION='{kind}': choose one of fast, direct$"
    ):
        backend.choose_isolation(kind)


@pytest.mark.skipif(isolations.ISOLATION == "fast", reason="fast isolation closes it")
@pytest.mark.parametrize("make", [trio.CancelScope, trio.open_nursery])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_what_a_job_leaves_open_ends_its_run_with_the_error_of_trio(
    make: Any, waits: bool, nested: bool
) -> None:
    opened: list[Any] = []

    async def clumsy() -> None:
        opened.append(make())
        if make is trio.CancelScope:
            opened[0].__enter__()
        else:
            await opened[0].__aenter__()
        if waits:
            await trio.sleep(1)

    after = Job(nothing)

    async def scenario() -> None:
        inner = Scheduler(
            Sequence(Job(nothing), Job(clumsy), after),
            Job(trio.sleep, 5),
            label="inner",
        )
        scheduler = (
            Scheduler(inner, Job(trio.sleep, 9), label="outer") if nested else inner
        )
        if nested:
            assert await scheduler.co_run() is False
            raise cast(BaseException, inner.raised_exception())
        await scheduler.co_run()

    with pytest.raises(RuntimeError, match="Cancel scope stack corrupted"):
        run_virtual(scenario, backend="trio")
    assert after.state is JobState.CANCELLED


@pytest.mark.skipif(isolations.ISOLATION == "fast", reason="fast isolation respects it")
def test_a_shield_of_anyio_does_not_stop_a_cancellation_on_asyncio() -> None:
    """With direct isolation, a job on asyncio is cancelled in a shield of anyio, as by any `Task.cancel()`; once."""
    ends: list[float] = []

    async def shielded() -> None:
        try:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)
        finally:
            await anyio.sleep(1)
            ends.append(anyio.current_time())

    job = Job(shielded, timeout=2)
    assert run_virtual(Scheduler(job).co_run, backend="asyncio") is False
    assert isinstance(job.raised_exception(), JobTimeout)
    assert ends == [3]


def answering(*answers: object) -> Any:
    left = iter(answers)

    def answer(*_: object) -> object:
        return next(left)

    return answer


def showing(*answers: object) -> Any:
    left = iter(answers)
    return property(lambda _: next(left), lambda _, value: None)


class Forgetful(dict[object, object]):
    """A dict that forgets its items."""

    def get(self, key: object, default: object = None) -> object:
        return default


def changed(base: Any, **parts: Any) -> Any:
    return type(base.__name__, (base,), {"__slots__": (), **parts})


Status: Any = _fast_trio.CancelStatus
Scope: Any = anyio_asyncio.CancelScope
PARENT: Any = Status.parent
FIXED = property(PARENT.fget, lambda status, parent: None)
NEVER = property(lambda status: False, lambda status, is_cancelled: None)
PARTS_OF_TRIO: list[tuple[Any, str, Any, str]] = [
    (
        _fast_trio,
        "CancelStatus",
        changed(Status, parent=FIXED),
        "inserted between two others",
    ),
    (
        _fast_trio.TrioTaskSnapshot,
        "is_task_unchanged",
        answering(False),
        "does not enter a scope",
    ),
    (
        _fast_trio.TrioTaskSnapshot,
        "is_task_unchanged",
        answering(True, True),
        "does not know its nurseries",
    ),
    (
        _fast_trio,
        "CancelStatus",
        changed(Status, effectively_cancelled=NEVER),
        "does not cancel its contents",
    ),
]
PARTS_OF_ANYIO: list[tuple[Any, str, Any, str]] = [
    (_fast_asyncio, "TASK_STATES", Forgetful(), "does not record the scope of a task"),
    (
        anyio_asyncio.TaskState,
        "parent_id",
        showing(1),
        "does not record the scope of a task",
    ),
    (_fast_asyncio, "STATES_BY_REF", {}, "records the scopes of tasks differently"),
    (
        _fast_asyncio.WorkerScope,
        "_shield",
        showing(*[True] * 9),
        "a task outside of shields is not cancelled",
    ),
    (
        anyio_asyncio,
        "CancelScope",
        changed(Scope, _shield=showing(*[False] * 9)),
        "a shield has no effect",
    ),
    (_fast_asyncio.WorkerScope, "cancel_called", False, "ignores its cancellation"),
    (
        _fast_asyncio.WorkerScope,
        "_effectively_cancelled",
        False,
        "ignores its cancellation",
    ),
    (
        anyio_asyncio,
        "CancelScope",
        changed(Scope, _effectively_cancelled=True),
        "a shield does not hide the cancellation of its parent",
    ),
    (
        anyio_asyncio,
        "CancelScope",
        changed(Scope, _restart_cancellation_in_parent=answering(None)),
        "is not notified when a shield inside it is left",
    ),
]
"""For each part: its owner, its name, its replacement, and the text of the error."""
DIFFERING = [
    *((_fast_trio, *part) for part in PARTS_OF_TRIO),
    *((_fast_asyncio, *part) for part in PARTS_OF_ANYIO),
]


@pytest.mark.fast_way
@pytest.mark.parametrize(
    ("way", "owner", "name", "other", "said"),
    DIFFERING,
    ids=[f"{part[2]} {number}" for number, part in enumerate(DIFFERING)],
)
def test_each_private_part_that_misbehaves_is_named(
    way: Any,
    owner: Any,
    name: str,
    other: Any,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each private part of trio and anyio that the engine uses is checked, and named if it behaves differently."""
    # Other tests must not find what a failed check leaves there.
    states: Any = weakref.WeakKeyDictionary[Any, Any]()
    monkeypatch.setattr(_fast_asyncio, "TASK_STATES", states)
    monkeypatch.setattr(_fast_asyncio, "STATES_BY_REF", states.data)
    way._check_private_attributes()
    monkeypatch.setattr(owner, name, other)
    with pytest.raises(PrivateApiMismatch, match=said):
        way._check_private_attributes()


@pytest.mark.fast_way
@pytest.mark.parametrize("name", ["_child_nurseries", "_schedule_points"])
def test_a_missing_private_part_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(trio.lowlevel.Task, name)
    with pytest.raises(PrivateApiMismatch, match=f"^Task has no {name}$"):
        _fast_trio._check_private_attributes()


def private_parts(path: Path) -> set[str]:
    """Return what a module reads that has an underscore before its name, but for attributes of its own objects."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level:
            found |= {
                part for part in (node.module or "").split(".") if part.startswith("_")
            } - {"__future__"}
        elif (
            isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.endswith("__")
        ):
            found |= {node.attr} if ast.unparse(node.value) != "self" else set()
    return found


def test_only_fast_isolation_reads_private_parts() -> None:
    """Only fast isolation, one file for each library, reads private parts; the loops and direct isolation do not."""
    readers = {
        path.stem
        for path in (PACKAGE / "_core" / "backend").rglob("*.py")
        if private_parts(path)
    }
    assert readers == {"_fast_trio", "_fast_asyncio"}
