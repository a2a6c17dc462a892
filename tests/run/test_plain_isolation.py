"""The plain isolation, without private parts of trio and anyio: when it is used, and its log lines.

With `TRIOFLOW_PLAIN=1` nearly all tests of the engine run on it.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import weakref
from importlib import metadata
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import trio
from anyio._backends import _asyncio as anyio_asyncio

from trioflow._core import backend
from trioflow._core.backend._shared import PrivateApiMismatch
from trioflow._core.backend.isolation import _fast_asyncio, _fast_trio
from trioflow._core.backend.isolation._fast_asyncio import FastAsyncio
from trioflow._core.backend.isolation._fast_trio import FastTrio

from ..places import PACKAGE
from ..pythons import python

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
    anyio.CancelScope().__enter__()

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
RESULT = [False, [0, 1, 2, 3, 4, 10], 10, "FAILED", "untouched", True, "CANCELLED", "FAILED"]

DIFFERENT = {
    "trio": (
        "import trio; del trio._core",
        "module 'trio' has no attribute '_core'",
    ),
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


def run_scenario(name: str, before: str = "", plain: str = "") -> tuple[object, list[str]]:
    """Run the scenario in its own process, twice on each backend; return results and lines about private attributes."""
    code = dedent(before) + SCENARIO
    if plain:  # which trioflow reads when it is imported
        environment = {**os.environ, "TRIOFLOW_PLAIN": plain}
        done = subprocess.run(
            [sys.executable, "-c", code, *name.split()], capture_output=True, text=True, env=environment
        )
    else:
        again = f"del sys.modules['trioflow._core.backend.isolation._fast_{name}']; backend._plain_backends.clear()"
        done = python("-c", f"import sys\nfrom trioflow._core import backend\n{again}\n{code}", name, text=True)
    return json.loads(done.stdout), [line for line in done.stderr.splitlines() if "private attributes" in line]


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_private_part_that_differs_is_logged_once_and_not_used(name: str) -> None:
    """A private part that differs is logged once, with library and version, and the results are right without it."""
    before, difference = DIFFERENT[name]
    results, said = run_scenario(name, before)
    library = {"trio": "trio", "asyncio": "anyio"}[name]
    assert results == [RESULT, RESULT]
    assert len(said) == 1
    assert said[0].startswith(
        f"private attributes of {library} {metadata.version(library)} are not as trioflow expects: "
    )
    assert difference in said[0]
    assert f"trioflow runs without them: slower on {name}, but correctly" in said[0]


def test_the_log_names_a_class_that_another_library_has_replaced() -> None:
    """If another library has replaced asyncio's class of tasks, as nest_asyncio does, the log blames it, not anyio."""
    results, said = run_scenario("asyncio", "import asyncio; asyncio.Task = asyncio.tasks._PyTask")
    assert results == [RESULT, RESULT]
    assert [line.partition(",")[0] for line in said] == ["asyncio.Task is asyncio.tasks.Task"]
    assert "another library has replaced it" in said[0]


def test_plain_isolation_by_environment_variable_logs_nothing() -> None:
    """`TRIOFLOW_PLAIN=1` selects plain isolation, with the same results and no log line."""
    look = "import atexit, sys; from trioflow._core import backend as b\n"
    look += "ways = lambda: [type(b.get_backend(name).isolation).__name__ for name in sys.argv[1:]]\n"
    look += "atexit.register(lambda: print(*ways(), 'private attributes', file=sys.stderr))"
    results, said = run_scenario("trio asyncio", look, "1")
    assert results == [RESULT] * 4
    assert said == ["PlainIsolation PlainIsolation private attributes"]


def answering(*answers: object) -> Any:
    """Return a method that gives these answers, one after the other."""
    left = iter(answers)

    def answer(*_: object) -> object:
        return next(left)

    return answer


def showing(*answers: object) -> Any:
    """Return a property that shows these values, one after the other, and takes any."""
    left = iter(answers)
    return property(lambda _: next(left), lambda _, value: None)


class Forgetful(dict[object, object]):
    """A dict that forgets its items."""

    def get(self, key: object, default: object = None) -> object:
        return default


def changed(base: Any, **parts: Any) -> Any:
    """Return a subclass with the given parts replaced."""
    return type(base.__name__, (base,), {"__slots__": (), **parts})


Status: Any = _fast_trio.CancelStatus
Scope: Any = anyio_asyncio.CancelScope
PARENT: Any = Status.parent
FIXED = property(PARENT.fget, lambda status, parent: None)
NEVER = property(lambda status: False, lambda status, is_cancelled: None)
PARTS_OF_TRIO: list[tuple[Any, str, Any, str]] = [
    (_fast_trio, "CancelStatus", changed(Status, parent=FIXED), "inserted between two others"),
    (_fast_trio.TrioTaskSnapshot, "is_task_unchanged", answering(False), "does not enter a scope"),
    (_fast_trio.TrioTaskSnapshot, "is_task_unchanged", answering(True, True), "does not know its nurseries"),
    (_fast_trio, "CancelStatus", changed(Status, effectively_cancelled=NEVER), "does not cancel its contents"),
]
PARTS_OF_ANYIO: list[tuple[Any, str, Any, str]] = [
    (_fast_asyncio, "TASK_STATES", Forgetful(), "does not record the scope of a task"),
    (anyio_asyncio.TaskState, "parent_id", showing(1), "does not record the scope of a task"),
    (_fast_asyncio, "STATES_BY_REF", {}, "records the scopes of tasks differently"),
    (_fast_asyncio.WorkerScope, "_shield", showing(*[True] * 9), "a task outside of shields is not cancelled"),
    (anyio_asyncio, "CancelScope", changed(Scope, _shield=showing(*[False] * 9)), "a shield has no effect"),
    (_fast_asyncio.WorkerScope, "cancel_called", False, "ignores its cancellation"),
    (_fast_asyncio.WorkerScope, "_effectively_cancelled", False, "ignores its cancellation"),
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
DIFFERING = [*((_fast_trio, *part) for part in PARTS_OF_TRIO), *((_fast_asyncio, *part) for part in PARTS_OF_ANYIO)]


@pytest.mark.fast_way
@pytest.mark.parametrize(
    ("way", "owner", "name", "other", "said"),
    DIFFERING,
    ids=[f"{part[2]} {number}" for number, part in enumerate(DIFFERING)],
)
def test_each_private_part_that_misbehaves_is_named(
    way: Any, owner: Any, name: str, other: Any, said: str, monkeypatch: pytest.MonkeyPatch
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
def test_a_missing_private_part_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private part that is missing in a new version is named."""
    monkeypatch.delattr(trio.lowlevel.Task, name)
    with pytest.raises(PrivateApiMismatch, match=f"^Task has no {name}$"):
        _fast_trio._check_private_attributes()


def private_parts(path: Path) -> set[str]:
    """Return what a module reads that has an underscore before its name, but for attributes of its own objects."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level:
            found |= {part for part in (node.module or "").split(".") if part.startswith("_")} - {"__future__"}
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            found |= {node.attr} if ast.unparse(node.value) != "self" else set()
    return found


def test_only_fast_isolation_reads_private_parts() -> None:
    """Only fast isolation, one file for each library, reads private parts; the loops and plain isolation do not."""
    readers = {path.stem for path in (PACKAGE / "_core" / "backend").rglob("*.py") if private_parts(path)}
    assert readers == {"_fast_trio", "_fast_asyncio"}


@pytest.mark.fast_way
def test_fast_isolation_is_used_with_the_installed_versions() -> None:
    """The installed trio and anyio have the private parts that the engine uses, so it uses fast isolation."""
    assert isinstance(backend.get_backend("trio").isolation, FastTrio)
    assert isinstance(backend.get_backend("asyncio").isolation, FastAsyncio)
