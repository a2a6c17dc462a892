"""The plain way, without private parts of trio and anyio: when it is taken, and what is said.

With `TRIOFLOW_PLAIN=1` nearly all tests of the engine run on it.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from textwrap import dedent

import pytest

from trioflow._core import backend
from trioflow._core.backend.isolation._fast_asyncio import FastAsyncio
from trioflow._core.backend.isolation._fast_trio import FastTrio

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
    anyio.CancelScope().__enter__()

async def look():
    return setting.get()

async def stubborn():
    try:
        await anyio.sleep(10)
    except anyio.get_cancelled_exc_class():
        await anyio.sleep(10)  # cancelled again, at once

async def scenario(backend):
    starts.clear()
    parts = [Job(fetch, number) for number in range(5)]
    total = Job(lambda *numbers: fetch(sum(numbers)), *parts)
    sloppy, after = Job(change), Job(look)
    slow, forever = Job(anyio.sleep, 10, timeout=0.01), Job(anyio.sleep, 10, forever=True)
    inner = Scheduler(Job(stubborn), timeout=0.01, label="inner")
    scheduler = Scheduler(parts, total, Sequence(sloppy, after), slow, forever, inner, jobs_window=8)
    fine = await scheduler.co_run()
    return [
        fine, starts, total.result(), sloppy.state.name, after.result(),
        isinstance(slow.raised_exception(), JobTimeout),
        forever.state.name, inner.state.name,
    ]

print(json.dumps([anyio.run(scenario, sys.argv[1], backend=sys.argv[1]) for _ in range(2)]))
"""
RESULT = [True, [0, 1, 2, 3, 4, 10], 10, "FAILED", "untouched", True, "CANCELLED", "FAILED"]

MISSING = {
    "trio": "import trio; del trio._core",
    "asyncio": """
        import types
        from anyio import _backends
        from anyio._backends import _asyncio as inside
        names = {name: value for name, value in vars(inside).items() if name != "TaskState"}
        _backends._asyncio = types.SimpleNamespace(**names)
        """,
}
MISBEHAVING = {
    "trio": """
        import types, trio
        class Status(trio._core._run.CancelStatus):
            parent = property(lambda self: self._parent, lambda self, parent: None)
        trio._core = types.SimpleNamespace(_run=types.SimpleNamespace(CancelStatus=Status))
        """,
    "asyncio": """
        import types
        from anyio import _backends
        from anyio._backends import _asyncio as inside
        class Scope(inside.CancelScope):
            _effectively_cancelled = False
        _backends._asyncio = types.SimpleNamespace(**{**vars(inside), "CancelScope": Scope})
        """,
}
DIFFERENCES = {
    ("missing", "trio"): "module 'trio' has no attribute '_core'",
    ("missing", "asyncio"): "has no attribute 'TaskState'",
    ("misbehaving", "trio"): "a scope that is put between two others has no effect on them",
    ("misbehaving", "asyncio"): "a scope does not see that one around it was cancelled",
}


def run_scenario(name: str, before: str = "", plain: str = "") -> tuple[object, list[str]]:
    """Run the scenario twice in a process of its own; return the results, and what is logged about private parts."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(before) + SCENARIO, name],
        capture_output=True, text=True, check=True, env={**os.environ, "TRIOFLOW_PLAIN": plain},
    )  # fmt: skip
    return json.loads(done.stdout), [line for line in done.stderr.splitlines() if "private parts" in line]


@pytest.mark.parametrize("name", ["trio", "asyncio"])
@pytest.mark.parametrize("what", ["missing", "misbehaving"])
def test_a_part_that_differs_is_reported_once_and_done_without(what: str, name: str) -> None:
    """One line names the library, its version and the difference; the results are the right ones."""
    changed = {"missing": MISSING, "misbehaving": MISBEHAVING}[what]
    results, said = run_scenario(name, changed[name])
    library = {"trio": "trio", "asyncio": "anyio"}[name]
    assert results == [RESULT, RESULT]
    assert len(said) == 1
    assert said[0].startswith(f"private parts of {library} {metadata.version(library)} are not as trioflow expects: ")
    assert DIFFERENCES[what, name] in said[0]
    assert f"it is slower on {name}, but keeps its promises" in said[0]


@pytest.mark.parametrize("name", ["trio", "asyncio"])
@pytest.mark.parametrize("plain", ["", "1"])
def test_the_plain_way_on_request_is_silent(plain: str, name: str) -> None:
    """`TRIOFLOW_PLAIN=1` takes it; the results are the same, and there is nothing to say."""
    look = "import atexit, sys; from trioflow._core import backend as b\n"
    look += f"way = lambda: type(b.by_name({name!r}).isolation).__name__\n"
    look += "atexit.register(lambda: print(way(), 'private parts', file=sys.stderr))"
    results, said = run_scenario(name, look, plain)
    assert results == [RESULT, RESULT]
    taken = "PlainIsolation" if plain else f"Fast{name.capitalize()}"
    assert said == [f"{taken} private parts"]


def private_parts(path: Path) -> set[str]:
    """Return what a module reads that has an underscore before its name, but for attributes of its own objects."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level:
            found |= {part for part in (node.module or "").split(".") if part.startswith("_")} - {"__future__"}
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            found |= {node.attr} if ast.unparse(node.value) != "self" else set()
    return found


def test_only_the_fast_ways_read_private_parts() -> None:
    """The loops and the plain way use public names alone, and each fast way is one file."""
    readers = {path.stem for path in (PACKAGE / "_core" / "backend").rglob("*.py") if private_parts(path)}
    assert readers == {"_fast_trio", "_fast_asyncio"}


@pytest.mark.fast_way
def test_the_fast_way_is_taken_with_the_installed_versions() -> None:
    """The private parts that the engine uses are there, and behave."""
    assert isinstance(backend.by_name("trio").isolation, FastTrio)
    assert isinstance(backend.by_name("asyncio").isolation, FastAsyncio)
